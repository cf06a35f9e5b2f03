"""Runs a soak from the command line: `python -m tests.soak --help`."""

from __future__ import annotations

import argparse
import datetime
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from benchmarks.environments import Missing, environment
from benchmarks.processes import output_of
from tests.soak.run import Asked, run_soak, show

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of load and restarts (60)")
    parser.add_argument("--output", type=Path, default=ROOT / ".soak", help="folder for figures and plot (.soak)")
    given = parser.parse_args()
    if given.minutes < 4:
        parser.error("nothing can be judged in less than four minutes: two are warm-up")
    folder = Path(tempfile.mkdtemp(prefix="windrow-soak-"))
    asked = Asked(given.minutes * 60, folder / "run")
    signal.signal(signal.SIGTERM, _stop)
    print(f"soak: {given.minutes:g} minutes, folder {folder}", flush=True)
    found = run_soak(asked, lambda text: print(text, flush=True))
    print(show(found), flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M%S")
    data = given.output / f"soak-{stamp}.json"
    data.write_text(found.as_json())
    print(data)
    draw(data, given.output / f"soak-{stamp}.png")
    if found.well:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if found.well else 1


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def draw(data: Path, picture: Path) -> None:
    """In the environment of the benchmark's plots, which has matplotlib."""
    try:
        command = [str(environment("plots") / "python"), str(Path(__file__).with_name("plots.py"))]
        print(output_of([*command, str(data), str(picture)], cwd=ROOT, timeout_s=120.0), end="")
    except (Missing, RuntimeError) as error:
        print(f"no plot: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
