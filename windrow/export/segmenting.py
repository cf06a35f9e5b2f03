"""Cuts text sources into segments from the counts of their blocks, and looks whether the cuts can be right.

Where the quotes of a file do not pair, or a row behind a cut has another width than the header, the file's rows are
found by one sequential scan, in which a quote opens only where a field begins. Which file that was is said in a note.
"""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.counting import count_byte
from windrow.export.cutting import is_cut
from windrow.export.dialect import NEWLINE, BlockCount, Dialect, State, count_block, find_row_end, scan_row_ends
from windrow.export.looking import dialect_of, name_of
from windrow.export.model import Segment, Source
from windrow.export.prepare import PreparedSegment, TextSource, find_prepared
from windrow.export.splitting import BLOCK_BYTES, Read, RowStart, add_up, find_row_start
from windrow.export.storage import Fingerprint, SourceFile, read_range
from windrow.export.work import Draft

SCAN_BYTES = 64 * BLOCK_BYTES
"""What one task counts."""
LOOK_BYTES = 64 << 10
"""Read behind a cut, to find the row's end and its width."""

_Packed = list[int]


def text_source(draft: Draft, source: Source) -> TextSource:
    """The source as it is prepared."""
    file = SourceFile(source.url, source.bytes, source.version, source.sequential)
    return TextSource(
        file,
        Fingerprint(source.url, source.bytes, source.version, source.fingerprint),
        draft.plan.read_form.encoding,
        dialect_of(draft.plan.read_form),
        draft.plan.segment_bytes,
        source.compression or "none",
        source.member,
    )


def reader_of(source: Source) -> Read:
    """Reads at any offset of a source that is not compressed."""
    return lambda offset, length: read_range(source.url, offset, min(offset + length, source.bytes))


def scan_ranges(start: int, stop: int, step: int = SCAN_BYTES) -> list[tuple[int, int]]:
    """The ranges of a text that are counted by one task each."""
    return [(at, min(at + step, stop)) for at in range(start, stop, step)]


def count_range(read: Read, start: int, stop: int, dialect: Dialect, block_bytes: int = BLOCK_BYTES) -> list[int]:
    """The counts of the blocks of [start, stop), flat: quotes and newlines, and with an escape three numbers more."""
    packed: _Packed = []
    for offset in range(start, stop, block_bytes):
        wanted = min(block_bytes, stop - offset)
        data = read(offset, wanted)
        if len(data) < wanted:
            raise ExportError(
                f"the source ends at byte {offset + len(data)}, {stop} were there: it shrank while it was read"
            )
        count = count_block(data, dialect, count_byte)
        packed += [count.quotes, count.newlines]
        if dialect.escape:
            packed += [count.ends_escaped, count.quotes_if_escaped, count.ends_escaped_if_escaped]
    return packed


def block_counts(
    packed: Sequence[int], start: int, stop: int, dialect: Dialect, block_bytes: int = BLOCK_BYTES
) -> Iterator[BlockCount]:
    """The counts that count_range has packed."""
    width = 5 if dialect.escape else 2
    for number, offset in enumerate(range(start, stop, block_bytes)):
        one = packed[number * width : (number + 1) * width]
        length = min(block_bytes, stop - offset)
        if dialect.escape:
            yield BlockCount(length, one[0], one[1], bool(one[2]), one[3], bool(one[4]))
        else:
            yield BlockCount(length, one[0], one[1], quotes_if_escaped=one[0])


class TextCutter:
    """Cuts one source that is scanned as it is."""

    def __init__(self, draft: Draft, number: int, counts: Iterable[BlockCount], read: Read | None = None) -> None:
        source, head = draft.plan.sources[number], draft.heads[number]
        self.source = number
        self._source = source
        self._read = read or reader_of(source)
        self._form = draft.plan.read_form
        self._dialect = dialect_of(self._form)
        self._width = len(source.columns)
        self._segment_bytes = draft.plan.segment_bytes
        self.starts = add_up(counts, start=head.start, line=head.line)
        self.note = ""

    @property
    def is_paired(self) -> bool:
        """Whether the cuts were found by the parity of the quotes."""
        return not self.note and not self._dialect.escape

    def cuts(self) -> list[RowStart]:
        """The beginning of each segment and the end of the last one."""
        first, end = self.starts[0], self.starts[-1]
        if first.offset >= end.offset:
            return []
        cuts = self._by_parity()
        if cuts is None:
            self.note = _scanned(self._source)
            cuts = list(self._by_scan())
        return [*cuts, RowStart(end.offset, end.line)]

    def _by_parity(self) -> list[RowStart] | None:
        """None where that cannot be right."""
        first, end = self.starts[0], self.starts[-1]
        if end.inside:
            return None
        cuts = [RowStart(first.offset, first.line)]
        for target in range(first.offset + self._segment_bytes, end.offset, self._segment_bytes):
            if target <= cuts[-1].offset:
                continue
            cut = self.row_start(target)
            if cuts[-1].offset < cut.offset < end.offset:
                if not self._fits(cut.offset):
                    return None
                cuts.append(cut)
        return cuts

    def row_start(self, target: int) -> RowStart:
        """The first row start at or after the target, with one short read where it can be."""
        at = bisect_right(self.starts, target, key=lambda block: block.offset) - 1
        block = self.starts[at]
        if block.offset == target and not self._dialect.escape:
            data = self._read(target - 1, LOOK_BYTES)
            if not block.inside and data.startswith(NEWLINE):
                return RowStart(target, block.line)
            end = find_row_end(data, 1, self._dialect, State(block.inside))
            if end >= 0:
                return RowStart(target - 1 + end, block.line + data.count(NEWLINE, 1, end))
        return find_row_start(self._read, self.starts, target, self._dialect)

    def _fits(self, offset: int) -> bool:
        """Whether the row there has as many fields as the header; True where that cannot be told."""
        if self._form.kind != "csv" or not self._dialect.quote:
            return True
        return row_fits(self._read(offset, LOOK_BYTES), self._dialect, self._width)

    def _by_scan(self) -> Iterator[RowStart]:
        first, end = self.starts[0], self.starts[-1]
        yield RowStart(first.offset, first.line)
        blocks = (
            self._read(at, min(BLOCK_BYTES, end.offset - at)) for at in range(first.offset, end.offset, BLOCK_BYTES)
        )
        target = first.offset + self._segment_bytes
        for row_end in scan_row_ends(blocks, self._dialect):
            offset = first.offset + row_end
            if target <= offset < end.offset:
                yield RowStart(offset, self._line_at(offset))
                target += ((offset - target) // self._segment_bytes + 1) * self._segment_bytes

    def _line_at(self, offset: int) -> int:
        block = self.starts[bisect_right(self.starts, offset, key=lambda one: one.offset) - 1]
        return block.line + self._read(block.offset, offset - block.offset).count(NEWLINE)


def row_fits(data: bytes, dialect: Dialect, width: int) -> bool:
    """Whether the first row of the data has `width` fields; True where it is empty or does not end there."""
    end = find_row_end(data, 0, dialect)
    row = data[:end].rstrip(b"\r\n")
    if end < 0 or not row:
        return True
    try:
        fields = next(
            csv.reader(
                # Every mark is ASCII, and no other byte of such an encoding can be one.
                io.StringIO(row.decode("latin-1"), newline=""),
                delimiter=dialect.delimiter,
                quotechar=dialect.quote,
                quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
                escapechar=dialect.escape,
            )
        )
    except (csv.Error, StopIteration):
        return True
    return len(fields) == width


def segments_between(cuts: Sequence[RowStart], source: int, first: int, *, paired: bool = False) -> list[Segment]:
    """The segments of one source, numbered from `first` on."""
    return [
        Segment(first + at, source, start.offset, stop.offset, start.line, paired=paired)
        for at, (start, stop) in enumerate(pairwise(cuts))
    ]


def prepared_segment(draft: Draft, source: int, number: int, piece: PreparedSegment) -> Segment | None:
    """A prepared file as a segment; None where no row is in it."""
    head = draft.heads[source]
    # The first file begins with the header.
    start, line = (head.start, head.line) if piece.number == 0 else (0, piece.line)
    return Segment(number, source, start, piece.bytes, line, piece.file) if start < piece.bytes else None


def prepared_segments(draft: Draft, source: int, work: Path, first: int) -> tuple[list[Segment], str]:
    """The segments of a prepared source, and a note where its rows had to be found otherwise."""
    pieces = find_prepared(text_source(draft, draft.plan.sources[source]), work)
    if not (pieces and pieces[-1].last) and not is_cut(work):
        raise ExportError(f"{name_of(draft.plan.sources[source])} was not prepared whole: start the export again")
    note = ""
    if any(piece.inside for piece in pieces):
        note = _scanned(draft.plan.sources[source])
    made = (prepared_segment(draft, source, 0, piece) for piece in pieces)
    found = [one for one in made if one is not None]
    return [
        Segment(first + at, source, one.start, one.stop, one.line, one.prepared) for at, one in enumerate(found)
    ], note


def _scanned(source: Source) -> str:
    return (
        f"{name_of(source)}: its quotes do not pair as RFC 4180 has them, so its rows were found by one sequential scan"
    )
