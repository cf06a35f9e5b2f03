"""Sets of item indexes as sorted boundaries: [s0, e0, s1, e1, …], disjoint, never touching, never empty."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from windrow.common.words import Range


class RangeSet:
    """A mutable set of indexes; each change costs a binary search and one splice, whatever the ranges' lengths."""

    __slots__ = ("_bounds", "_count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._bounds: list[int] = []
        self._count = 0
        for start, stop in ranges:
            self.add(start, stop)

    @classmethod
    def from_bounds(cls, bounds: Iterable[int]) -> RangeSet:
        """The set whose boundaries these are; ValueError unless they are an even number of strictly growing ones."""
        made = cls()
        made._bounds = list(bounds)
        if len(made._bounds) % 2 or any(a >= b for a, b in zip(made._bounds, made._bounds[1:], strict=False)):
            raise ValueError("boundaries must be strictly growing and even in number")
        made._count = sum(made._bounds[1::2]) - sum(made._bounds[::2])
        return made

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __contains__(self, index: int) -> bool:
        return bisect_right(self._bounds, index) % 2 == 1

    def __iter__(self) -> Iterator[Range]:
        """The ranges in order. (Not the indexes: a loop over indexes would be a fault.)"""
        bounds = self._bounds
        for at in range(0, len(bounds), 2):
            yield Range(bounds[at], bounds[at + 1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._bounds == other._bounds

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{r.start}:{r.stop}" for r in self) + "}"

    @property
    def bounds(self) -> tuple[int, ...]:
        return tuple(self._bounds)

    @property
    def boundary_count(self) -> int:
        return len(self._bounds)

    @property
    def first(self) -> Range:
        """The lowest range; the set must not be empty."""
        return Range(self._bounds[0], self._bounds[1])

    @property
    def last(self) -> Range:
        """The highest range; the set must not be empty."""
        return Range(self._bounds[-2], self._bounds[-1])

    def copy(self) -> RangeSet:
        made = RangeSet()
        made._bounds = self._bounds.copy()
        made._count = self._count
        return made

    def clear(self) -> None:
        self._bounds.clear()
        self._count = 0

    def add(self, start: int, stop: int) -> None:
        """Put [start, stop) in; what is in already stays in."""
        if start >= stop:
            return
        bounds = self._bounds
        lo = bisect_left(bounds, start)
        hi = bisect_right(bounds, stop)
        # An odd position lies inside (or at the end of) a range: that range's own boundary stays as the edge.
        new = ([] if lo % 2 else [start]) + ([] if hi % 2 else [stop])
        self._splice(lo, hi, new, start, stop, adding=True)

    def remove(self, start: int, stop: int) -> None:
        """Take [start, stop) out; what is not in stays out."""
        if start >= stop:
            return
        bounds = self._bounds
        lo = bisect_left(bounds, start)
        hi = bisect_right(bounds, stop)
        new = ([start] if lo % 2 else []) + ([stop] if hi % 2 else [])
        self._splice(lo, hi, new, start, stop, adding=False)

    def _splice(self, lo: int, hi: int, new: list[int], start: int, stop: int, *, adding: bool) -> None:
        inside = self._covered(lo, hi, start, stop)
        self._bounds[lo:hi] = new
        self._count += (stop - start - inside) if adding else -inside

    def _covered(self, lo: int, hi: int, start: int, stop: int) -> int:
        cut = self._bounds[lo:hi]
        if lo % 2:
            cut.insert(0, start)
        if hi % 2:
            cut.append(stop)
        return sum(cut[1::2]) - sum(cut[::2])

    def intersection(self, start: int, stop: int) -> list[Range]:
        """The parts of [start, stop) that are in, in order."""
        if start >= stop:
            return []
        bounds = self._bounds
        lo = bisect_right(bounds, start)
        hi = bisect_left(bounds, stop)
        cut = bounds[lo:hi]
        if lo % 2:
            cut.insert(0, start)
        if hi % 2:
            cut.append(stop)
        return [Range(cut[at], cut[at + 1]) for at in range(0, len(cut), 2)]

    def covers(self, start: int, stop: int) -> bool:
        """True where every index of [start, stop) is in."""
        return start >= stop or self.intersection(start, stop) == [(start, stop)]

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        for start, stop in ranges:
            self.add(start, stop)

    def subtract(self, ranges: Iterable[tuple[int, int]]) -> None:
        for start, stop in ranges:
            self.remove(start, stop)
