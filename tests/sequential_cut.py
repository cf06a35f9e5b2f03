"""Cuts text into segments one block after the other: what cutting it in many places at once is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from windrow.export.dialect import NEWLINE, RFC4180, BlockCount, Dialect, count_block, find_row_end
from windrow.export.splitting import BLOCK_BYTES, BlockStart, Read, RowStart, add_up, find_row_start


@dataclass(frozen=True, slots=True)
class Segment:
    """Whole rows at the bytes [start, stop); `line` is the number of the first one's line."""

    number: int
    start: int
    stop: int
    line: int


def count_source(
    read: Read, *, start: int, stop: int, line: int, block_bytes: int = BLOCK_BYTES, dialect: Dialect = RFC4180
) -> list[BlockStart]:
    """Count [start, stop) in order."""

    def counts() -> Iterator[BlockCount]:
        for offset in range(start, stop, block_bytes):
            yield count_block(read(offset, min(block_bytes, stop - offset)), dialect)

    return add_up(counts(), start=start, line=line)


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
        end = find_row_end(data, at, dialect)
        stop = len(data) if end < 0 else end
        if data[at:stop].strip(b"\r\n"):
            if row == 0:
                return line
            row -= 1
        line += data.count(NEWLINE, at, stop)
        at = stop
    return line
