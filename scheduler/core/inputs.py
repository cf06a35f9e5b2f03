"""Where a job's items lie: base, count, size and digest of each input block, never the bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

_ENTRIES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class InputBlock:
    """One input block without its bytes."""

    base: int
    count: int
    block_bytes: int
    digest: bytes


class InputIndex:
    """The input blocks of one job in order; a job of numbers has none."""

    __slots__ = ("_bases", "_blocks")

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._blocks: list[InputBlock] = []

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: InputBlock) -> None:
        self._bases.append(block.base)
        self._blocks.append(block)

    def find(self, first: int) -> InputBlock | None:
        """The block that begins at `first`."""
        at = bisect_right(self._bases, first) - 1
        return self._blocks[at] if at >= 0 and self._bases[at] == first else None

    def covering(self, start: int, stop: int) -> list[InputBlock]:
        """The blocks that [start, stop) touches, as far as they are remembered."""
        at = max(0, bisect_right(self._bases, start) - 1)
        end = bisect_left(self._bases, stop)
        return self._blocks[at:end]

    def clip(self, start: int, stop: int, bytes_max: int) -> int:
        """The largest stop for which the blocks that [start, stop) touches stay within `bytes_max`; at least one block.

        Whole blocks are counted although a chunk may take a slice, so that nothing is known, or kept, per item.
        """
        at = bisect_right(self._bases, start) - 1
        if at < 0:
            return stop
        total = 0
        while at < len(self._blocks) and self._bases[at] < stop:
            total += self._blocks[at].block_bytes
            if total > bytes_max and self._bases[at] > start:
                return self._bases[at]
            at += 1
        return stop

    def forget_below(self, index: int) -> None:
        """Drop blocks that end at or below `index`, now and then, never the last ones: a resend may still name them."""
        if len(self._blocks) <= _ENTRIES_KEPT:
            return
        gone = max(0, min(bisect_right(self._bases, index) - 1, len(self._blocks) - _ENTRIES_KEPT // 2))
        del self._bases[:gone], self._blocks[:gone]
