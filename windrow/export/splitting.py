"""Cuts CSV bytes into segments at row ends, by the parity of the quotes before each place (RFC 4180); pure.

A quote inside a quoted field is doubled, so a byte lies inside quotes exactly where an odd number of quotes stands
before it. Quotes are counted block by block, which any number of tasks may do apart; the running sums then tell each
block how it begins, and a split looks only at the one block that its target lies in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from windrow.common.errors import ExportError

BLOCK_BYTES = 1 << 20
"""Bytes counted at a time."""

QUOTE = b'"'
NEWLINE = b"\n"

Read = Callable[[int, int], bytes]
"""(offset, length) -> the bytes there; fewer only at the end of the source."""


class BlockCount(NamedTuple):
    """What one block adds to the sums."""

    length: int
    quotes: int
    newlines: int


class BlockStart(NamedTuple):
    """How a block begins."""

    offset: int
    inside: bool
    """The block's first byte lies inside quotes."""
    line: int
    """Number of the line that its first byte lies in, from 1 on."""


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


def count_block(data: bytes) -> BlockCount:
    """Count one block; blocks may be counted in any order, anywhere."""
    return BlockCount(len(data), data.count(QUOTE), data.count(NEWLINE))


def add_up(counts: Iterable[BlockCount], *, start: int, line: int) -> list[BlockStart]:
    """How each block begins, and last how the end of the source stands; data begin at `start`, in line `line`."""
    starts = [BlockStart(start, False, line)]
    for count in counts:
        last = starts[-1]
        starts.append(
            BlockStart(last.offset + count.length, last.inside ^ bool(count.quotes % 2), last.line + count.newlines)
        )
    return starts


def count_source(read: Read, *, start: int, stop: int, line: int, block_bytes: int = BLOCK_BYTES) -> list[BlockStart]:
    """Count [start, stop) in order; ExportError where the quotes do not pair."""

    def counts() -> Iterator[BlockCount]:
        for offset in range(start, stop, block_bytes):
            yield count_block(read(offset, min(block_bytes, stop - offset)))

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


def find_row_start(read: Read, starts: list[BlockStart], target: int) -> RowStart:
    """The first row start at or after byte `target`; the end of the source where there is none."""
    first, end = starts[0], starts[-1]
    if target <= first.offset:
        return RowStart(first.offset, first.line)
    at = bisect_right(starts, target - 1, key=lambda block: block.offset) - 1
    # The byte before the target is looked at too: the target may itself be a row start.
    inside, line, skip = starts[at].inside, starts[at].line, target - 1 - starts[at].offset
    while at < len(starts) - 1:
        offset = starts[at].offset
        data = read(offset, starts[at + 1].offset - offset)
        if skip:
            before = count_block(data[:skip])
            inside, line = inside ^ bool(before.quotes % 2), line + before.newlines
        cut = find_row_end(data, skip, inside=inside)
        if cut >= 0:
            return RowStart(offset + cut, line + data.count(NEWLINE, skip, cut))
        at, skip = at + 1, 0
        inside, line = starts[at].inside, starts[at].line
    return RowStart(end.offset, end.line)


def find_row_end(data: bytes, at: int, *, inside: bool) -> int:
    """Just behind the first newline outside quotes at or after `at`; -1 where there is none."""
    while True:
        if inside:
            quote = data.find(QUOTE, at)
            if quote < 0:
                return -1
            at, inside = quote + 1, False
        newline = data.find(NEWLINE, at)
        if newline < 0:
            return -1
        quotes = data.count(QUOTE, at, newline)
        if quotes % 2 == 0:
            return newline + 1
        at, inside = newline + 1, True


def find_last_row_end(data: bytes) -> int:
    """Just behind the last newline outside quotes of data that begin outside; -1 where there is none."""
    quotes = data.count(QUOTE)
    stop = len(data)
    while (newline := data.rfind(NEWLINE, 0, stop)) >= 0:
        quotes -= data.count(QUOTE, newline, stop)
        if quotes % 2 == 0:
            return newline + 1
        stop = newline
    return -1


def cut_segments(read: Read, starts: list[BlockStart], segment_bytes: int) -> list[Segment]:
    """Segments of about `segment_bytes` that tile the source, fixed by its bytes and that number alone; at least one.

    A row longer than that makes its segment longer.
    """
    first, end = starts[0], starts[-1]
    cuts = [RowStart(first.offset, first.line)]
    for target in range(first.offset + segment_bytes, end.offset, segment_bytes):
        if target > cuts[-1].offset:
            cut = find_row_start(read, starts, target)
            if cuts[-1].offset < cut.offset < end.offset:
                cuts.append(cut)
    stops = [cut.offset for cut in cuts[1:]] + [end.offset]
    return [
        Segment(number, cut.offset, stop, cut.line) for number, (cut, stop) in enumerate(zip(cuts, stops, strict=True))
    ]


def line_of_row(data: bytes, row: int, first_line: int) -> int:
    """The line in which row number `row` (from 0 on, empty lines not counted) of the data begins."""
    at, line = 0, first_line
    while at < len(data):
        end = find_row_end(data, at, inside=False)
        stop = len(data) if end < 0 else end
        if data[at:stop].strip(b"\r\n"):
            if row == 0:
                return line
            row -= 1
        line += data.count(NEWLINE, at, stop)
        at = stop
    return line
