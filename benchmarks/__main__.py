"""`make bench`: measures the rows asked for, prints the table, and writes it with its JSON to benchmarks/results/."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from types import FrameType

from benchmarks import machine, table
from benchmarks.environments import HERE
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
    ended = 0
    try:
        with services() as running:
            run = Run(running, asked.quick, turns)
            for name in names:
                row = ROWS[name](run)
                finished.append((row, run.measure(row)))
    except KeyboardInterrupt:
        print("\nstopped; the table holds the rows that were finished", file=sys.stderr)
        ended = 130
    text = table.markdown(finished, facts, date, quick=asked.quick, turns=turns)
    print(f"\n{text}", flush=True)
    if not asked.no_write and not ended:
        data = table.as_json(finished, facts, date, quick=asked.quick, turns=turns)
        for path in table.write(HERE / "results", date, text, data):
            print(path.relative_to(HERE.parent))
    return ended


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
