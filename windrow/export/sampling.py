"""Picks the places that types are decided from: whole rows, spread over all segments of the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from windrow.export.dialect import NEWLINE, count_block, find_last_row_end
from windrow.export.loading import load_text
from windrow.export.looking import dialect_of
from windrow.export.model import Plan, Segment
from windrow.export.segmenting import TextCutter
from windrow.export.splitting import BLOCK_BYTES, Read, add_up, find_row_start
from windrow.export.work import Found

SAMPLES = 64
"""Places of the source; one of SAMPLES * SAMPLE_BYTES or less is read whole."""
SAMPLE_BYTES = 64 << 10


def cut_samples(cutters: Sequence[TextCutter]) -> tuple[Segment, ...]:
    """Where the samples of sources begin that were just cut, and about where they end.

    None where they are looked for in the segments: of sources that are read whole, and of one that had to be scanned.
    """
    sizes = [cutter.starts[-1].offset - cutter.starts[0].offset for cutter in cutters]
    last = sum(sizes) - SAMPLE_BYTES
    if last < (SAMPLES - 1) * SAMPLE_BYTES or any(cutter.note for cutter in cutters):
        return ()
    found: list[Segment] = []
    source, before = 0, 0
    for number in range(SAMPLES):
        place = number * last // (SAMPLES - 1)
        while place >= before + sizes[source]:
            source, before = source + 1, before + sizes[source]
        cutter = cutters[source]
        first, end = cutter.starts[0].offset, cutter.starts[-1].offset
        offset = place - before
        if last > 2 * SAMPLES * BLOCK_BYTES and number < SAMPLES - 1:
            # At the beginning of a block a short read tells where its first row begins.
            offset -= offset % BLOCK_BYTES
        start = cutter.row_start(first + offset)
        if start.offset < end and (not found or (found[-1].source, found[-1].start) < (cutter.source, start.offset)):
            stop = min(start.offset + SAMPLE_BYTES, end)
            found.append(Segment(len(found), cutter.source, start.offset, stop, start.line, paired=cutter.is_paired))
    return tuple(found)


def text_samples(plan: Plan, found: Found, work: Path) -> Iterator[tuple[Segment, bytes]]:
    """Whole rows of about SAMPLES places, or all rows of a small source; those of one file together, in its order.

    Together, since types are found by column: many small columns take far longer than a few large ones.
    """
    samples = _cut_out(plan, found, work) if found.samples else _in_segments(plan, found.segments, work)
    for _, pieces in groupby(samples, key=lambda one: (one[0].source, bool(one[0].prepared))):
        group = list(pieces)
        yield group[0][0], b"".join(_whole_lines(data for _, data in group))


def _whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        if not piece.endswith(NEWLINE):
            yield NEWLINE


def _cut_out(plan: Plan, found: Found, work: Path) -> Iterator[tuple[Segment, bytes]]:
    ends = {segment.source: segment.stop for segment in found.segments}
    for sample in found.samples:
        yield from _trimmed(plan, sample, load_text(plan, sample, work), is_end=sample.stop == ends[sample.source])


def _in_segments(plan: Plan, segments: Sequence[Segment], work: Path) -> Iterator[tuple[Segment, bytes]]:
    total = sum(segment.stop - segment.start for segment in segments)
    if total <= SAMPLES * SAMPLE_BYTES:
        for segment in segments:
            yield segment, load_text(plan, segment, work)
    elif len(segments) >= SAMPLES:
        for at in range(SAMPLES):
            segment = segments[at * (len(segments) - 1) // (SAMPLES - 1)]
            yield from _sample(plan, segment, 0, segment.line, work)
    else:
        for segment in segments:
            yield from _within(plan, segment, -(-SAMPLES // len(segments)), work)


def _within(plan: Plan, segment: Segment, places: int, work: Path) -> Iterator[tuple[Segment, bytes]]:
    """Places spread over one segment, the last one at its end."""
    data = load_text(plan, segment, work)
    dialect = dialect_of(plan.read_form)
    read: Read = lambda offset, length: data[offset : offset + length]  # noqa: E731  # it is nothing else
    counts = (count_block(data[at : at + BLOCK_BYTES], dialect) for at in range(0, len(data), BLOCK_BYTES))
    starts = add_up(counts, start=0, line=segment.line)
    last = max(0, len(data) - SAMPLE_BYTES)
    seen = -1
    for number in range(places):
        place = find_row_start(read, starts, round(number * last / max(1, places - 1)), dialect)
        if place.offset > seen:
            seen = place.offset
            yield from _cut(plan, segment, place.offset, place.line, data[place.offset : place.offset + SAMPLE_BYTES])


def _sample(plan: Plan, segment: Segment, offset: int, line: int, work: Path) -> Iterator[tuple[Segment, bytes]]:
    start = segment.start + offset
    short = replace(segment, start=start, stop=min(segment.stop, start + SAMPLE_BYTES))
    yield from _cut(plan, segment, offset, line, load_text(plan, short, work))


def _cut(plan: Plan, segment: Segment, offset: int, line: int, data: bytes) -> Iterator[tuple[Segment, bytes]]:
    start = segment.start + offset
    sample = replace(segment, start=start, stop=start + len(data), line=line)
    return _trimmed(plan, sample, data, is_end=sample.stop == segment.stop)


def _trimmed(plan: Plan, sample: Segment, data: bytes, *, is_end: bool) -> Iterator[tuple[Segment, bytes]]:
    """The whole rows of the data, which begin with a row; nothing where there is none."""
    if not is_end:
        # A row longer than a sample is left out: it gives no type away that others would not.
        data = data[: max(find_last_row_end(data, dialect_of(plan.read_form)), 0)]
    if data:
        yield replace(sample, stop=sample.start + len(data)), data
