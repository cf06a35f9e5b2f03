"""Picks the places that types are decided from: whole rows, spread over all segments of the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from windrow.export.dialect import count_block, find_last_row_end
from windrow.export.loading import load_text
from windrow.export.looking import dialect_of
from windrow.export.model import Plan, Segment
from windrow.export.splitting import BLOCK_BYTES, Read, add_up, find_row_start

SAMPLES = 64
"""Places of the source; one of SAMPLES * SAMPLE_BYTES or less is read whole."""
SAMPLE_BYTES = 64 << 10


def text_samples(plan: Plan, segments: Sequence[Segment], work: Path) -> Iterator[tuple[Segment, bytes]]:
    """Whole rows of about SAMPLES places, each as a segment of its own, or all rows of a small source."""
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
    """The whole rows of the data, which begin with a row."""
    start = segment.start + offset
    if start + len(data) < segment.stop:
        # A row longer than a sample is left out: it gives no type away that others would not.
        data = data[: max(find_last_row_end(data, dialect_of(plan.read_form)), 0)]
    if data:
        yield replace(segment, start=start, stop=start + len(data), line=line), data
