"""One run of the benchmark: how large, with which servers; and the turns of a row, interleaved."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.model import Contender, Figures, Measured, Missing, Results, Row, round3
from benchmarks.processes import output_of
from benchmarks.services import Services
from tests.cluster import ROOT

TURNS, TURNS_QUICK = 5, 3
TRIES = 2
"""A contender that fails in one turn is tried once more; failing again takes it out of the row."""
PROGRAM_S = 900.0

N = TypeVar("N", int, float)


@dataclass(slots=True)
class Run:
    """What every row is told."""

    services: Services
    quick: bool
    turns: int
    loops: int = 0
    """Of `spin` in a millisecond; one figure for the whole run, so that all do the same."""

    def size(self, full: N, quick: N) -> N:
        return quick if self.quick else full

    def python(self, arguments: list[str]) -> str:
        """A program of this checkout, in a process of its own."""
        env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
        return output_of([sys.executable, *arguments], cwd=self.services.folder, timeout_s=PROGRAM_S, env=env)

    def measure(self, row: Row) -> Results:
        """All contenders in turn, then all again: what the machine does meanwhile falls on each alike."""
        print(f"\n{row.name}: {row.title}", flush=True)
        results = {each.name: Measured(each.name, each.settings) for each in row.contenders}
        turns = min(self.turns, row.turns or self.turns)
        for number in range(1, turns + 1):
            for contender in row.contenders:
                measured = results[contender.name]
                if not measured.missing and number <= (contender.turns or turns):
                    self._take_turn(contender, number, measured)
        return results

    def _take_turn(self, contender: Contender, number: int, measured: Measured) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                figures = contender.run(number)
            except Missing as why:
                measured.missing = f"not to be had here: {why}"
                break
            except Exception as error:  # one contender that fails is told in the table, and costs no other its figures
                lines = str(error).strip().splitlines() or [type(error).__name__]
                print(f"  {number}  {contender.name}: failed: {error!r}", flush=True)
                if attempt == TRIES:
                    measured.turns.clear()
                    measured.missing = f"failed {TRIES} times in a turn: {lines[-1][:200]}"
            else:
                measured.turns.append(figures)
                print(f"  {number}  {contender.name}: {say(figures)}", flush=True)
                return
        print(f"  {number}  {contender.name}: {measured.missing}", flush=True)


def say(figures: Figures) -> str:
    return ", ".join(f"{name} {round3(value)}" for name, value in figures.items())
