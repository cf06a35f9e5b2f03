"""`make bench`: measures the rows asked for, prints the table, and writes it with its JSON to benchmarks/results/."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from pathlib import Path
from types import FrameType

from benchmarks import machine, table
from benchmarks.environments import CACHE, HERE, ROOT, environment
from benchmarks.model import Missing
from benchmarks.processes import output_of
from benchmarks.rows import ROWS
from benchmarks.run import TURNS, TURNS_QUICK, Run
from benchmarks.services import services


def main() -> int:
    """Exit code 0 where all was measured, whether bars are met or not; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rows", default="", help=f"names with commas between them: {', '.join(ROWS)}; empty: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and three turns")
    parser.add_argument("--turns", type=int, default=0, help="how often each contender is measured")
    parser.add_argument("--date", default="", help="the date of the run, e.g. 2026-11-21; else today's")
    parser.add_argument("--no-write", action="store_true", help="only print")
    asked = parser.parse_args()
    names = [name for name in asked.rows.replace(",", " ").split() if name] or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    date = asked.date or datetime.datetime.now(datetime.UTC).date().isoformat()
    turns = asked.turns or (TURNS_QUICK if asked.quick else TURNS)
    signal.signal(signal.SIGTERM, _stop)
    finished: table.Finished = []
    facts = machine.facts()
    paths: list[Path] = []
    ended = 0
    try:
        with services() as running:
            run = Run(running, asked.quick, turns)
            for name in names:
                row = ROWS[name](run)
                finished.append((row, run.measure(row)))
                if not asked.no_write:
                    # After each row: a run takes an hour, and what is finished outlives whatever ends it.
                    paths = table.write(HERE / "results", date, finished, facts, quick=asked.quick, turns=turns)
    except KeyboardInterrupt:
        print("\nstopped; the table holds the rows that were finished", file=sys.stderr)
        ended = 130
    print(f"\n{table.markdown(finished, facts, date, quick=asked.quick, turns=turns)}", flush=True)
    for path in paths:
        print(path.relative_to(ROOT))
    if paths and not ended:
        draw(paths[1], CACHE / "plots" if asked.quick else ROOT / "docs" / "pictures")
    return ended


def draw(data: Path, folder: Path) -> None:
    """The plots of the rows that have one; those of docs/performance.md only from a full run."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        command = [str(environment("plots") / "python"), str(HERE / "plots.py"), str(data), str(folder)]
        print(output_of(command, cwd=HERE, timeout_s=120.0), end="")
    except (Missing, RuntimeError) as error:
        print(f"no plots: {error}", file=sys.stderr)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
