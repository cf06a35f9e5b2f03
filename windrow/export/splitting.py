"""Cuts the bytes of a text file into segments at row ends, by the parity of the quotes before each place; pure.

Quotes are counted block by block, which any number of tasks may do apart; the running sums then tell each block how it
begins, and a split looks only at the one block that its target lies in. What a quote and a row end are is said by the
dialect; RFC 4180 where none is given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from windrow.common.errors import ExportError
from windrow.export import dialect as dialects
from windrow.export.dialect import NEWLINE as NEWLINE
from windrow.export.dialect import RFC4180, BlockCount, Dialect, State, next_state, state_after

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


@dataclass(frozen=True, slots=True)
class Segment:
    """Whole rows at the bytes [start, stop); `line` is the number of the first one's line."""

    number: int
    start: int
    stop: int
    line: int


def count_block(data: bytes, dialect: Dialect = RFC4180) -> BlockCount:
    """Count one block; blocks may be counted in any order, anywhere."""
    return dialects.count_block(data, dialect)


def add_up(counts: Iterable[BlockCount], *, start: int, line: int) -> list[BlockStart]:
    """How each block begins, and last how the end of the source stands; data begin at `start`, in line `line`."""
    starts = [BlockStart(start, False, line)]
    for count in counts:
        last = starts[-1]
        state = next_state(last.state, count)
        starts.append(BlockStart(last.offset + count.length, state.inside, last.line + count.newlines, state.escaped))
    return starts


def count_source(
    read: Read, *, start: int, stop: int, line: int, block_bytes: int = BLOCK_BYTES, dialect: Dialect = RFC4180
) -> list[BlockStart]:
    """Count [start, stop) in order; ExportError where the quotes do not pair."""

    def counts() -> Iterator[BlockCount]:
        for offset in range(start, stop, block_bytes):
            yield count_block(read(offset, min(block_bytes, stop - offset)), dialect)

    starts = add_up(counts(), start=start, line=line)
    if starts[-1].offset != stop:
        raise ExportError(
            f"the source ends at byte {starts[-1].offset}, {stop} were there: it shrank while it was read"
        )
    if starts[-1].inside:
        raise ExportError(
            "the source has an odd number of quotes, so that a quoted field is never closed: "
            'mend it (a quote inside a field is written "" and the field is put in quotes)'
        )
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
        cut = dialects.find_row_end(data, skip, dialect, state)
        if cut >= 0:
            return RowStart(offset + cut, line + data.count(NEWLINE, 0, cut))
        at, skip = at + 1, 0
    return RowStart(end.offset, end.line)


def find_row_end(data: bytes, at: int, *, inside: bool, dialect: Dialect = RFC4180) -> int:
    """Just behind the first newline that ends a row, at or after `at`; -1 where there is none."""
    return dialects.find_row_end(data, at, dialect, State(inside))


def find_last_row_end(data: bytes, dialect: Dialect = RFC4180) -> int:
    """Just behind the last newline that ends a row, of data that begin outside quotes; -1 where there is none."""
    return dialects.find_last_row_end(data, dialect)


def cut_segments(read: Read, starts: list[BlockStart], segment_bytes: int, dialect: Dialect = RFC4180) -> list[Segment]:
    """Segments of about `segment_bytes` that tile the source, fixed by its bytes and that number alone; at least one.

    A row longer than that makes its segment longer.
    """
    first, end = starts[0], starts[-1]
    cuts = [RowStart(first.offset, first.line)]
    for target in range(first.offset + segment_bytes, end.offset, segment_bytes):
        if target > cuts[-1].offset:
            cut = find_row_start(read, starts, target, dialect)
            if cuts[-1].offset < cut.offset < end.offset:
                cuts.append(cut)
    stops = [cut.offset for cut in cuts[1:]] + [end.offset]
    return [
        Segment(number, cut.offset, stop, cut.line) for number, (cut, stop) in enumerate(zip(cuts, stops, strict=True))
    ]


def line_of_row(data: bytes, row: int, first_line: int, dialect: Dialect = RFC4180) -> int:
    """The line in which row number `row` (from 0 on, empty lines not counted) of the data begins."""
    at, line = 0, first_line
    while at < len(data):
        end = find_row_end(data, at, inside=False, dialect=dialect)
        stop = len(data) if end < 0 else end
        if data[at:stop].strip(b"\r\n"):
            if row == 0:
                return line
            row -= 1
        line += data.count(NEWLINE, at, stop)
        at = stop
    return line
