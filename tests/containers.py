"""Runs the integration tests on RabbitMQ in containers, version by version: `python -m tests.containers --help`."""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time

from tests.broker import IMAGE_VARIABLE
from tests.container_engine import Engine, NoEngine, make_image, running_engine
from tests.rabbit_tree import ROOT, SUITES

FOLDERS = ("tests/integration", "tests/contract")
OF_A_BROKER = re.compile(r"\b(amqp_url|own_broker|make_broker|broker)\b")
ASK_VERSION = "from tests.broker import make_broker as m; b = m(own=True); print(b.ctl('version').strip()); b.close()"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.containers", description=__doc__)
    parser.add_argument("--versions", default=",".join(SUITES), help=f"with commas between them ({','.join(SUITES)})")
    parser.add_argument("pytest", nargs="*", help="what pytest is given instead of all; put -- before it")
    given = parser.parse_args()
    # Its end must reach the engine, too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit("ended by SIGTERM"))
    versions = given.versions.split(",")
    if unknown := set(versions) - set(SUITES):
        parser.error(f"no such version: {', '.join(unknown)}; there are {', '.join(SUITES)}")
    try:
        with running_engine() as engine:
            failed = [version for version in versions if not _passes(engine, version, given.pytest or find_suite())]
    except NoEngine as error:
        print(f"test-containers: {error}", file=sys.stderr)
        return 2
    print(f"failed: {', '.join(failed)}" if failed else f"passed on RabbitMQ {' and '.join(versions)}", flush=True)
    return 1 if failed else 0


def find_suite() -> list[str]:
    """What can tell one RabbitMQ from another: every integration and contract test that uses one."""
    modules = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("test_*.py"))]
    return [str(path.relative_to(ROOT)) for path in modules if OF_A_BROKER.search(path.read_text())] + [
        "-k",
        "not local",
    ]


def _passes(engine: Engine, version: str, asked: list[str]) -> bool:
    image = make_image(engine, version)
    environment = {**engine.environment, IMAGE_VARIABLE: image}
    python = [*engine.before, sys.executable]
    told = subprocess.run([*python, "-c", ASK_VERSION], env=environment, capture_output=True, text=True, check=False)
    found = told.stdout.strip()
    if told.returncode or not found.startswith(f"{version}."):
        print(f"no RabbitMQ {version} comes from {image}: {found or told.stderr[-2000:]}", file=sys.stderr, flush=True)
        return False
    print(f"RabbitMQ {found} in containers of {image}{', engine of our own' if engine.own else ''}", flush=True)
    began = time.monotonic()
    done = subprocess.run([*python, "-m", "pytest", "-q", *asked], env=environment, check=False)
    print(f"RabbitMQ {found}: {'passed' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
