"""Judges whether the figures of a soak stay flat: the second half against the first, by a robust slope."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MB = 1 << 20
LIFE_WARM_UP_S = 80.0
"""What a process does first in its life (imports, caches, pools) is no leak."""
SPAN_S_MIN = 40.0
"""Of a shorter piece no slope is taken."""
PAIRS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Point:
    """One figure at one time."""

    at_s: float
    value: float
    life: str = ""
    """Of the process it is of; a process that was started again is in another life, and begins anew."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that must stay flat, and what is still called flat."""

    name: str
    unit: str
    step: float
    """So much may it have grown at the end of what is judged: noise is no leak."""
    step_share: float = 0.0
    """And so much of itself."""
    per_min: float = 0.0
    """Slower growth is not told from noise, however long the run."""
    by_life: bool = False
    """Judged in each life of its process by itself; else over the whole run, restarts and all."""
    falls: bool = False
    """It gets worse by becoming less."""
    scale: float = 1.0
    """What it is divided by where it is shown and bounded."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one figure fared."""

    figure: str
    unit: str
    points: int
    first: float
    """Median of the first half of what was judged."""
    second: float
    slope_per_min: float
    """For the worse where it is above 0."""
    allowed_per_min: float
    judged: bool = True
    """False: there was too little of it."""

    @property
    def flat(self) -> bool:
        return self.judged and self.slope_per_min <= self.allowed_per_min


def judge(figure: Figure, points: Sequence[Point], warm_up_s: float) -> Verdict:
    """Points of the warm-up do not count, nor do those at the beginning of a life where lives are judged."""
    settled = [point for point in points if point.at_s >= warm_up_s]
    pieces = _lives(points, warm_up_s) if figure.by_life else [settled]
    pieces = [piece for piece in pieces if len(piece) >= 4 and _span_s(piece) >= SPAN_S_MIN]
    if not pieces:
        return Verdict(figure.name, figure.unit, len(settled), 0.0, 0.0, 0.0, 0.0, judged=False)
    firsts, seconds = zip(*(_halves(piece) for piece in pieces), strict=True)
    first = _median(point.value for half in firsts for point in half) / figure.scale
    second = _median(point.value for half in seconds for point in half) / figure.scale
    slope = robust_slope(pieces) * 60.0 / figure.scale
    span_min = max(map(_span_s, pieces)) / 60.0
    allowed = max(figure.per_min, (figure.step + figure.step_share * abs(first)) / span_min)
    worse = -slope if figure.falls else slope
    return Verdict(figure.name, figure.unit, sum(map(len, pieces)), first, second, worse, allowed)


def robust_slope(pieces: Iterable[Sequence[Point]]) -> float:
    """Units a second: the median over all pairs of a point of a piece's first half and one of its second (after Theil).

    A few points that are far off do not move it, and pieces are never compared with one another.
    """
    slopes: list[float] = []
    for piece in pieces:
        early, late = _halves(piece)
        stride = max(1, len(early) * len(late) // PAIRS_MAX)
        pairs = [(a, b) for a in early for b in late][::stride]
        slopes += [(b.value - a.value) / (b.at_s - a.at_s) for a, b in pairs if b.at_s > a.at_s]
    return statistics.median(slopes) if slopes else 0.0


def _lives(points: Iterable[Point], warm_up_s: float) -> list[list[Point]]:
    found: dict[str, list[Point]] = {}
    born_s: dict[str, float] = {}
    for point in points:
        born_s.setdefault(point.life, point.at_s)
        if point.at_s >= max(warm_up_s, born_s[point.life] + LIFE_WARM_UP_S):
            found.setdefault(point.life, []).append(point)
    return list(found.values())


def _halves(piece: Sequence[Point]) -> tuple[Sequence[Point], Sequence[Point]]:
    middle = len(piece) // 2
    return piece[:middle], piece[middle:]


def _span_s(piece: Sequence[Point]) -> float:
    return piece[-1].at_s - piece[0].at_s


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def windows(times: Sequence[tuple[float, float]], window_s: float, share: float) -> list[Point]:
    """Of (at_s, seconds): a point for each window with what this share of them stays below, at the window's middle."""
    found: dict[int, list[float]] = {}
    for at_s, seconds in times:
        found.setdefault(int(at_s // window_s), []).append(seconds)
    return [
        Point((number + 0.5) * window_s, sorted(values)[min(len(values) - 1, int(len(values) * share))])
        for number, values in sorted(found.items())
    ]


def rates(counts: Sequence[tuple[float, float]], window_s: float, end_s: float) -> list[Point]:
    """Of (at_s, how many): a point for each whole window with how many a second."""
    sums = [0.0] * int(end_s // window_s)
    for at_s, count in counts:
        if at_s < len(sums) * window_s:
            sums[int(at_s // window_s)] += count
    return [Point((number + 0.5) * window_s, total / window_s) for number, total in enumerate(sums)]


def undisturbed(
    times: Iterable[tuple[float, float]], faults: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Those of (at_s, seconds) that no restart (began_s, ended_s) lies over."""
    return [
        (at_s, seconds)
        for at_s, seconds in times
        if not any(at_s < ended_s and began_s < at_s + seconds for began_s, ended_s in faults)
    ]


def table(verdicts: Sequence[Verdict]) -> str:
    """A line for each figure."""
    head = (
        f"{'figure':34} {'unit':7} {'first half':>11} {'second half':>11} {'a minute':>10} {'allowed':>9}  flat\n"
        + "-" * 95
    )
    lines = [head]
    for each in verdicts:
        if not each.judged:
            lines.append(f"{each.figure:34} {each.unit:7} {'too short to judge':>54}  NO")
            continue
        lines.append(
            f"{each.figure:34} {each.unit:7} {each.first:11.2f} {each.second:11.2f} {each.slope_per_min:+10.3f}"
            f" {each.allowed_per_min:9.3f}  {'yes' if each.flat else 'NO'}"
        )
    return "\n".join(lines)


def judge_all(
    figures: Mapping[str, Sequence[Figure]], series: Mapping[str, Sequence[Point]], warm_up_s: float
) -> list[Verdict]:
    """A verdict for each figure of each series that there is."""
    return [judge(figure, points, warm_up_s) for name, points in series.items() for figure in figures.get(name, ())]
