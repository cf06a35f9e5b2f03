"""Segments hold whole rows: whatever the quoting, the line ends and the sizes, they read as the whole does."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sequential_cut import Segment, count_source, cut_segments, line_of_row
from windrow.export.dialect import RFC4180, count_block, find_last_row_end
from windrow.export.splitting import find_row_start


def split(data: bytes, segment_bytes: int, block_bytes: int = 7, start: int = 0) -> list[Segment]:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    starts = count_source(read, start=start, stop=len(data), line=1, block_bytes=block_bytes)
    return cut_segments(read, starts, segment_bytes)


def rows_of(data: bytes) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(data.decode(), newline="")) if row]


fields = st.text(st.sampled_from('ab",\n\r é'), max_size=6)
tables = st.lists(st.lists(fields, min_size=2, max_size=3), max_size=25)


@st.composite
def csv_texts(draw: st.DrawFn) -> bytes:
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator=end, quoting=quoting).writerows(draw(tables))
    text = sink.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix(end)
    if draw(st.booleans()):
        text = end + text.replace(end + "a", end + end + "a")
    return text.encode()


@settings(deadline=None, max_examples=300)
@given(csv_texts(), st.integers(1, 60), st.integers(1, 40))
def test_segments_read_as_the_whole_does(data: bytes, segment_bytes: int, block_bytes: int) -> None:
    segments = split(data, segment_bytes, block_bytes)
    assert [segment.number for segment in segments] == list(range(len(segments)))
    assert [segment.start for segment in segments] == [0] + [segment.stop for segment in segments[:-1]]
    assert segments[-1].stop == len(data)
    pieces = [rows_of(data[segment.start : segment.stop]) for segment in segments]
    assert [row for piece in pieces for row in piece] == rows_of(data)
    # The blocks that were counted leave no trace.
    assert segments == split(data, segment_bytes, 1 << 20)


@settings(deadline=None, max_examples=150)
@given(csv_texts(), st.integers(1, 60))
def test_lines_are_counted_through_quoted_line_ends(data: bytes, segment_bytes: int) -> None:
    # Python's own line counter stumbles over a carriage return that stands alone.
    data = data.replace(b"\r", b"")
    for segment in split(data, segment_bytes):
        assert segment.line == 1 + data.count(b"\n", 0, segment.start)
        piece = data[segment.start : segment.stop]
        reader = csv.reader(io.StringIO(piece.decode(), newline="\n"))
        number, before = 0, 0
        for row in reader:
            if row:
                assert line_of_row(piece, number, segment.line) == segment.line + before
                number += 1
            before = reader.line_num


@settings(deadline=None, max_examples=150)
@given(csv_texts(), st.integers(0, 80))
def test_the_last_row_end_of_a_sample_is_the_last_one_outside_quotes(data: bytes, length: int) -> None:
    sample = data[:length]
    ends = [at + 1 for at in range(len(sample)) if sample[at : at + 1] == b"\n" and sample.count(b'"', 0, at) % 2 == 0]
    assert find_last_row_end(sample, RFC4180) == (ends[-1] if ends else -1)


@pytest.mark.parametrize(
    ("data", "segments"),
    [
        (b"", [(0, 0)]),
        (b"1,2", [(0, 3)]),
        (b"1,2\n", [(0, 4)]),
        (b"1,2\n3,4", [(0, 4), (4, 7)]),
        (b'1,"\n\n\n\n\n\n"\n2,3\n', [(0, 11), (11, 15)]),
        (b"\n\n\n", [(0, 3)]),
    ],
)
def test_small_sources(data: bytes, segments: list[tuple[int, int]]) -> None:
    assert [(segment.start, segment.stop) for segment in split(data, 3)] == segments


def test_a_row_longer_than_a_segment_stays_whole() -> None:
    data = b"a," + b"x" * 100 + b"\nb,y\n"
    assert [(segment.start, segment.stop) for segment in split(data, 10)] == [(0, 103), (103, 107)]


def test_a_target_on_a_row_start_is_that_row() -> None:
    data = b"1,2\n3,4\n5,6\n"
    assert [segment.start for segment in split(data, 4)] == [0, 4, 8]


def test_blocks_may_be_counted_apart() -> None:
    assert count_block(b'a"b\n"', RFC4180)[:3] == (5, 2, 1)


def test_row_starts_beyond_the_end_are_the_end() -> None:
    data = b'1\n"2\n3"'
    starts = count_source(lambda at, length: data[at : at + length], start=0, stop=len(data), line=1, block_bytes=3)
    assert find_row_start(lambda at, length: data[at : at + length], starts, 3) == (7, 3)
    assert find_row_start(lambda at, length: data[at : at + length], starts, -5) == (0, 1)
