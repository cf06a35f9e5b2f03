"""Finds where rows of a text file start, by the parity of the quotes before each place; pure.

Quotes are counted block by block (`dialect.count_block`), which any number of tasks may do apart; the running sums then
tell each block how it begins, and finding a row's start looks only at the one block that its target lies in. What a
quote and a row end are is said by the dialect; RFC 4180 where none is given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import NamedTuple

from windrow.export.dialect import NEWLINE, RFC4180, BlockCount, Dialect, State, find_row_end, next_state, state_after

BLOCK_BYTES = 1 << 20
"""Bytes counted at a time."""

Read = Callable[[int, int], bytes]
"""(offset, length) -> the bytes there; fewer only at the end of the source."""


class BlockStart(NamedTuple):
    """How a block begins."""

    offset: int
    inside: bool
    """The block's first byte lies inside quotes."""
    line: int
    """Number of the line that its first byte lies in, from 1 on."""
    escaped: bool = False
    """The block's first byte lies behind an escape."""

    @property
    def state(self) -> State:
        """What the bytes before the block leave open."""
        return State(self.inside, self.escaped)


class RowStart(NamedTuple):
    """The first byte of a row, or the end of the source."""

    offset: int
    line: int


def add_up(counts: Iterable[BlockCount], *, start: int, line: int) -> list[BlockStart]:
    """How each block begins, and last how the end of the source stands; data begin at `start`, in line `line`."""
    starts = [BlockStart(start, False, line)]
    for count in counts:
        last = starts[-1]
        state = next_state(last.state, count)
        starts.append(BlockStart(last.offset + count.length, state.inside, last.line + count.newlines, state.escaped))
    return starts


def find_row_start(read: Read, starts: list[BlockStart], target: int, dialect: Dialect = RFC4180) -> RowStart:
    """The first row start at or after byte `target`; the end of the source where there is none."""
    first, end = starts[0], starts[-1]
    if target <= first.offset:
        return RowStart(first.offset, first.line)
    at = bisect_right(starts, target - 1, key=lambda block: block.offset) - 1
    # The byte before the target is looked at too: the target may itself be a row start.
    skip = target - 1 - starts[at].offset
    while at < len(starts) - 1:
        offset, line, state = starts[at].offset, starts[at].line, starts[at].state
        data = read(offset, starts[at + 1].offset - offset)
        if skip:
            state = state_after(data[:skip], state, dialect)
        cut = find_row_end(data, skip, dialect, state)
        if cut >= 0:
            return RowStart(offset + cut, line + data.count(NEWLINE, 0, cut))
        at, skip = at + 1, 0
    return RowStart(end.offset, end.line)
