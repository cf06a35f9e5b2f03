"""Row ends are found by the dialect's marks alone, wherever the bytes are cut."""

from __future__ import annotations

import csv
import io
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.sequential_cut import count_source, cut_segments, line_of_row
from windrow.common.errors import ExportError
from windrow.export.dialect import (
    LINES,
    RFC4180,
    Dialect,
    State,
    count_block,
    find_last_row_end,
    find_row_end,
    hide_escapes,
    next_state,
    scan_row_ends,
)

DIALECTS = [
    RFC4180,
    LINES,
    Dialect(",", '"', "\\"),
    Dialect("|", None, "\\"),
    Dialect(";", "'", "^"),
    Dialect("\t", "]", "-"),
]
any_dialect = st.sampled_from(DIALECTS)
noise = st.binary(max_size=60) | st.lists(
    st.sampled_from([b'"', b"'", b"]", b"\\", b"\\\\", b"^", b"-", b"\n", b"\r\n", b",", b"a", b"\xc3\xa9"]),
    max_size=40,
).map(b"".join)


def walk(data: bytes, dialect: Dialect, state: State) -> list[State]:
    """The state before each byte and behind the last, byte by byte."""
    states = [state]
    for byte in data:
        inside, escaped = states[-1]
        one = bytes([byte])
        if escaped:
            states.append(State(inside, False))
        elif one == dialect.escape_byte:
            states.append(State(inside, True))
        else:
            states.append(State(inside ^ (one == dialect.quote_byte), False))
    return states


def ends(data: bytes, dialect: Dialect, state: State = State()) -> list[int]:  # noqa: B008
    states = walk(data, dialect, state)
    return [at + 1 for at, byte in enumerate(data) if byte == 10 and states[at] == (False, False)]


@settings(deadline=None, max_examples=500)
@given(noise, any_dialect, st.booleans(), st.booleans(), st.integers(0, 60))
@example(b"\\\\\\", DIALECTS[2], False, True, 0)
@example(b"", DIALECTS[2], True, True, 0)
@example(b'\\"', DIALECTS[2], False, True, 0)
def test_counts_and_row_ends_are_those_of_a_walk_byte_by_byte(
    data: bytes, dialect: Dialect, inside: bool, escaped: bool, at: int
) -> None:
    state = State(inside and dialect.quote is not None, escaped and dialect.escape is not None)
    count = count_block(data, dialect)
    assert (count.length, count.newlines) == (len(data), data.count(b"\n"))
    states = walk(data, dialect, state)
    assert next_state(state, count) == states[-1]
    at = min(at, len(data))
    right = ends(data, dialect, state)
    assert find_row_end(data, at, dialect, states[at]) == min((end for end in right if end > at), default=-1)
    assert find_last_row_end(data, dialect, state) == max(right, default=-1)
    assert len(hide_escapes(data, dialect, escaped=state.escaped)) == len(data)


@settings(deadline=None, max_examples=200)
@given(noise, any_dialect, st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_blocks_counted_apart_add_up_wherever_they_are_cut(data: bytes, dialect: Dialect, sizes: list[int]) -> None:
    cuts = [0, *(cut for cut in accumulate(sizes) if cut < len(data)), len(data)]
    counts = [count_block(data[a:b], dialect) for a, b in pairwise(cuts)]
    state = State()
    for cut, count in zip(cuts[1:], counts, strict=True):
        state = next_state(state, count)
        assert state == walk(data[:cut], dialect, State())[-1]


fields = st.text(st.sampled_from("ab,\"'\\|\n\r é"), max_size=6)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(fields, min_size=2, max_size=2), max_size=15), st.integers(1, 50), st.integers(1, 30))
def test_rows_with_escapes_survive_any_cut(rows: list[list[str]], segment_bytes: int, block_bytes: int) -> None:
    dialect = Dialect(",", '"', "\\")
    escaped = [[field.replace("\\", "\\\\").replace('"', '\\"') for field in row] for row in rows]
    lines = ['"{}",{}\n'.format(one, other.replace("\n", "\\\n").replace(",", "\\,")) for one, other in escaped]
    data = "".join(lines).encode()

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    starts = count_source(read, start=0, stop=len(data), line=1, block_bytes=block_bytes, dialect=dialect)
    segments = cut_segments(read, starts, segment_bytes, dialect)
    borders = {0, *accumulate(len(line.encode()) for line in lines)}
    assert segments[0].start == 0
    assert segments[-1].stop == len(data)
    for segment in segments:
        assert {segment.start, segment.stop} <= borders
        assert segment.line == 1 + data.count(b"\n", 0, segment.start)
    if len(rows) > 1:
        assert line_of_row(data, 1, 1, dialect) == 1 + lines[0].count("\n")


def test_without_quotes_every_newline_ends_a_row() -> None:
    assert find_row_end(b'a"b\nc', 0, LINES) == 4
    assert find_last_row_end(b'"a\nb"\n"', LINES) == 6
    assert count_block(b'""\n', LINES)[:3] == (3, 0, 1)


def test_a_quote_in_the_midst_of_a_field_misleads_the_parity_but_not_the_scan() -> None:
    data = b'pipe 5" wide,1\n"a\nb",2\nc"",3\n'
    assert find_row_end(data, 0, RFC4180) != 15
    assert list(scan_row_ends([data], RFC4180)) == [15, 23, 29]


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from('a,"\n é'), max_size=60), st.integers(1, 12))
def test_the_scan_sees_the_rows_that_a_csv_reader_sees(text: str, size: int) -> None:
    data = text.encode()
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(scan_row_ends(blocks, RFC4180))
    assert not data or found[-1] == len(data)
    rows = [data[a:b].decode() for a, b in zip([0, *found], found, strict=False)]
    whole = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    assert [row for part in rows for row in csv.reader(io.StringIO(part, newline="")) if row] == whole
    assert len([row for row in rows if row.strip("\n")]) == len(whole)


def test_the_scan_knows_escapes_and_files_without_quotes() -> None:
    assert list(scan_row_ends([b"a\\", b"\nb,c\n", b"d"], Dialect("|", None, "\\"))) == [7, 8]
    assert list(scan_row_ends([b'"a\\"\nb",c\n"d'], Dialect(",", '"', "\\"))) == [10, 12]
    assert list(scan_row_ends([b'"a\nb"\n'], LINES)) == [3, 6]


@pytest.mark.parametrize(
    ("delimiter", "quote", "escape", "message"),
    [
        (",,", '"', None, "the delimiter ',,' must be one ASCII character"),
        (",", "\n", None, "the quote '\\n' must be one ASCII character, and no line end"),
        ("§", '"', None, "the delimiter '§' must be one ASCII character"),
        (",", ",", None, "must be three different characters, not delimiter ',', quote ','"),
        ("none", '"', None, "the delimiter 'none' must be"),
    ],
)
def test_marks_that_cannot_be_told_apart_are_refused(
    delimiter: str, quote: str, escape: str | None, message: str
) -> None:
    with pytest.raises(ExportError) as refused:
        Dialect(delimiter, quote, escape)
    assert message in str(refused.value)
