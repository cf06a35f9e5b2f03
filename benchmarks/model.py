"""What a row of the benchmark is: contenders measured in turn, and bars that their figures are held against."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

Figures = dict[str, float]
"""What one turn of one contender measured: name with unit → value."""


class Missing(Exception):
    """A contender that cannot be measured here; the text says why, and stands in the table."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of doing what the row is about."""

    name: str
    settings: str
    run: Callable[[int], Figures]
    """One turn, by its number; starts all it needs and ends it again. Raises Missing."""
    turns: int | None = None
    """Where fewer than the others will do, which the settings then say."""


@dataclass(slots=True)
class Measured:
    """One contender with the figures of all its turns."""

    name: str
    settings: str
    turns: list[Figures] = field(default_factory=list[Figures])
    missing: str = ""

    def values(self, figure: str) -> list[float]:
        return [turn[figure] for turn in self.turns if figure in turn]

    def median(self, figure: str) -> float:
        return statistics.median(self.values(figure))


Results = dict[str, Measured]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar, judged."""

    bar: str
    measured: str
    met: bool | None
    """None: it could not be judged."""


@dataclass(frozen=True, slots=True)
class Bar:
    """`figure` of `of`, or its ratio to that of `to`, is at least or at most `limit`."""

    of: str
    figure: str
    limit: float
    at_least: bool
    unit: str = ""
    to: str = ""
    inverse: bool = False
    """The ratio says how many times faster, and the figure is a time."""

    @property
    def text(self) -> str:
        bound = "at least" if self.at_least else "at most"
        if self.inverse:
            return f"{bound} {self.limit:g} times as fast as {self.to}"
        limit = f"{self.limit:,.10g}"
        return f"{self.figure} {bound} {limit}× {self.to}" if self.to else f"{self.figure} {bound} {limit} {self.unit}"

    def judge(self, results: Results) -> Verdict:
        for name in filter(None, (self.of, self.to)):
            measured = results.get(name)
            if measured is None or not measured.values(self.figure):
                why = measured.missing if measured is not None else "not measured"
                return Verdict(self.text, f"{name}: {why or 'no figure'}", None)
        value = ratio(results, self.of, self.to, self.figure, self.inverse) if self.to else self._own(results)
        met = value >= self.limit if self.at_least else value <= self.limit
        return Verdict(self.text, f"{round3(value)}{'×' if self.to else ' ' + self.unit}", met)

    def _own(self, results: Results) -> float:
        return results[self.of].median(self.figure)


def ratio(results: Results, of: str, to: str, figure: str, inverse: bool = False) -> float:
    """The median of the ratios turn by turn, since neighbouring turns saw the same machine."""
    pairs = zip(results[of].values(figure), results[to].values(figure), strict=False)
    found = statistics.median(mine / theirs for mine, theirs in pairs)
    return 1 / found if inverse else found


def round3(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    name: str
    title: str
    figure: str
    """The figure that the table compares."""
    less_is_better: bool
    contenders: tuple[Contender, ...]
    bars: tuple[Bar, ...] = ()
    note: str = ""
    turns: int | None = None
    """How often each contender is measured, where that is not the run's own number."""
