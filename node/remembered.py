"""Remembers fences that are done with, in little room; pure."""

from __future__ import annotations

from windrow.common.words import Fence

PAGE_BITS = 8
"""A page is 2 ** PAGE_BITS counters of one epoch, a bit for each."""
COUNTER_BITS = 64
"""A fence's numbers are unsigned 64-bit ones on the wire."""


class RememberedFences:
    """At least the last `fences_min` fences that were added, and fewer than twice as many.

    Counters grow, so those of one node lie close together and a page holds many: among a handful of nodes all of it
    takes some tens of kilobytes. Kept one by one, each fence takes some 300 bytes. Among hundreds of nodes a page holds
    a fence or two, and this takes about as much.
    """

    def __init__(self, fences_min: int) -> None:
        self._fences_min = fences_min
        self._young: dict[int, int] = {}
        """Bits by page."""
        self._young_count = 0
        self._old: dict[int, int] = {}
        """The generation before, whole: to forget fence by fence would take their order, and so their room."""

    def __contains__(self, fence: Fence) -> bool:
        page, bit = _place(fence)
        return bool((self._young.get(page, 0) | self._old.get(page, 0)) & bit)

    def add(self, fence: Fence) -> None:
        """Remember it; once the young ones are enough the old ones are forgotten."""
        page, bit = _place(fence)
        bits = self._young.get(page, 0)
        if bits & bit:
            return
        self._young[page] = bits | bit
        self._young_count += 1
        if self._young_count == self._fences_min:
            self._old, self._young = self._young, {}
            self._young_count = 0


def _place(fence: Fence) -> tuple[int, int]:
    """The number of the fence's page, and its bit there."""
    number = fence.epoch << COUNTER_BITS | fence.counter
    return number >> PAGE_BITS, 1 << (number & (1 << PAGE_BITS) - 1)
