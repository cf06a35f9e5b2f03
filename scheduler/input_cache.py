"""Keeps the input blocks that came last, so that fresh items reach a chunk message without a read of the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from windrow.common.blocks import slice_block
from windrow.common.messages import InputSlice
from windrow.scheduler.core.inputs import InputBlock
from windrow.scheduler.core.records import PutInput

ENTRY_BYTES = 400
"""What a block takes beside its bytes: single calls make very small ones."""


class InputCache:
    """Least recently put out first, bounded in bytes.

    A block is let go once its end was sent, too: items are sent in order, and those that are sent again are few.
    """

    def __init__(self, bytes_max: int = 64 << 20) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def put(self, record: PutInput) -> None:
        key = (record.no, record.base)
        self._drop(key)
        self._bytes += len(record.block) + ENTRY_BYTES
        self._blocks[key] = record.block
        while self._bytes > self._bytes_max and self._blocks:
            self._drop(next(iter(self._blocks)))

    def find(self, no: int, blocks: Sequence[InputBlock], start: int, stop: int) -> tuple[InputSlice, ...] | None:
        """Slices of these blocks that tile [start, stop); None where one of them is not here."""
        if not blocks or blocks[0].base > start or blocks[-1].base + blocks[-1].count < stop:
            return None
        slices: list[InputSlice] = []
        for each in blocks:
            block = self._blocks.get((no, each.base))
            if block is None:
                return None
            low, high = max(start, each.base), min(stop, each.base + each.count)
            slices.append(InputSlice(low, high, slice_block(block, low - each.base, high - each.base)))
        for each in blocks:
            if each.base + each.count <= stop:
                self._drop((no, each.base))
        return tuple(slices)

    def _drop(self, key: tuple[int, int]) -> None:
        dropped = self._blocks.pop(key, None)
        if dropped is not None:
            self._bytes -= len(dropped) + ENTRY_BYTES
