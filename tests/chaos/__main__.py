"""Runs chaos from the command line: `python -m tests.chaos --help`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import EVERYWHERE, WITH_A_BROKER
from tests.chaos.run import Asked, run_chaos, show

SEEDS = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of faults (10)")
    parser.add_argument("--dispatch", choices=("amqp", "local"), default="amqp", help="a RabbitMQ of its own, or none")
    parser.add_argument("--brokers", type=int, default=1, help="a cluster of so many, with quorum queues (1: classic)")
    parser.add_argument("--rabbitmq", default="", help="its version, out of a Debian tree; without: this machine's")
    parser.add_argument("--seed", type=int, help="draws the faults; without it another one each time")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--slots", type=int, default=2, help="of each node")
    parser.add_argument("--kinds", default="", help="only these kinds of faults, with commas between them")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--folder", type=Path, help="keep everything here; without it only what has failed is kept")
    given = parser.parse_args()
    kinds = tuple(kind.strip() for kind in given.kinds.split(",") if kind.strip())
    if unknown := set(kinds) - {*EVERYWHERE, *(WITH_A_BROKER if given.dispatch == "amqp" else ())}:
        parser.error(f"no such faults: {', '.join(unknown)}; there are {', '.join((*EVERYWHERE, *WITH_A_BROKER))}")
    if given.folder is not None and given.folder.exists():
        parser.error(f"{given.folder} is there already: name a new folder")
    seed = random.randrange(SEEDS) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="windrow-chaos-"))
    asked = Asked(
        seed, given.minutes * 60, given.dispatch, folder.absolute(), given.nodes, given.slots,
        brokers=given.brokers, rabbitmq=given.rabbitmq, kinds=kinds,
    )  # fmt: skip
    found = run_chaos(asked, lambda text: print(text, flush=True))
    print(show(found), flush=True)
    if given.json is not None:
        given.json.write_text(found.as_json())
    if not found.findings and given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())
