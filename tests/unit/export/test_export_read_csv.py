"""CSV rows are read as they stand, and those that cannot be read are put aside with line and reason."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from windrow.export.model import Form
from windrow.export.read_csv import read_csv
from windrow.export.rows import TEXT_CHARACTERS_MAX, Rows

CSV = Form("csv")


def read(data: bytes, width: int = 2, form: Form = CSV, line: int = 1, codec: str = "utf-8") -> Rows:
    return read_csv(data, form, width=width, wanted={at: at for at in range(width)}, first_line=line, codec=codec)


def values(rows: Rows) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.columns.values()), strict=True))


def bad(rows: Rows) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows.bad]


def test_an_empty_field_is_null_and_an_empty_quoted_field_is_empty_text() -> None:
    rows = read(b'a,\n"",b\n,""\n')
    assert values(rows) == [("a", None), ("", "b"), (None, "")]


def test_values_stay_as_they_stand() -> None:
    rows = read(b"007,1.10\n1e5, x \nNA,null\n")
    assert values(rows) == [("007", "1.10"), ("1e5", " x "), ("NA", "null")]


def test_a_column_that_the_file_does_not_have_is_null_in_every_row() -> None:
    rows = read_csv(b"1,2\n3,4\n", CSV, width=2, wanted={0: 1, 5: None, 7: 0}, first_line=1)
    assert {index: column.to_pylist() for index, column in rows.columns.items()} == {
        0: ["2", "4"], 5: [None, None], 7: ["1", "3"],
    }  # fmt: skip


def test_rows_are_counted_where_no_column_is_wanted() -> None:
    rows = read_csv(b"1,2\n3,4\n", CSV, width=2, wanted={0: None}, first_line=1)
    assert (rows.count, rows.columns[0].to_pylist()) == (2, [None, None])


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n"])
def test_no_rows_are_no_rows(data: bytes) -> None:
    rows = read(data)
    assert (rows.count, rows.bad, [len(column) for column in rows.columns.values()]) == (0, [], [0, 0])


def test_one_row_without_a_line_end_is_read() -> None:
    assert values(read(b"a,b")) == [("a", "b")]


def test_two_thousand_columns_are_read() -> None:
    row = ",".join(str(number) for number in range(2000)).encode()
    rows = read(row + b"\n" + row[:-5] + b"\n" + row, width=2000)
    assert rows.count == 2
    assert rows.columns[1999].to_pylist() == ["1999", "1999"]
    assert bad(rows) == [(2, "it has 1999 fields, the header has 2000")]


def test_rows_of_another_width_go_aside_and_the_rows_behind_keep_their_lines() -> None:
    rows = read(b'1,2\n\n3\n4,5\n"6\n7",8,9\n10,11\n\n\n12\n13,14', line=100)
    assert values(rows) == [("1", "2"), ("4", "5"), ("10", "11"), ("13", "14")]
    assert [rows.line(row) for row in range(rows.count)] == [100, 103, 106, 110]
    assert [rows.text(row) for row in range(rows.count)] == ["1,2", "4,5", "10,11", "13,14"]
    assert [(row.line, row.reason, row.text) for row in rows.bad] == [
        (102, "it has 1 field, the header has 2", "3"),
        (104, "it has 3 fields, the header has 2", '"6\n7",8,9'),
        (109, "it has 1 field, the header has 2", "12"),
    ]


def test_bytes_that_are_no_characters_make_a_bad_row_and_spoil_no_other() -> None:
    rows = read("1,ü\n2,".encode() + b"\xff\n3\n4,\xc3\n" + "5,ß\n6".encode())
    assert values(rows) == [("1", "ü"), ("5", "ß")]
    assert [rows.line(row) for row in range(rows.count)] == [1, 5]
    assert bad(rows) == [
        (2, "its byte 3 (0xff) belongs to no character of utf-8"),
        (3, "it has 1 field, the header has 2"),
        (4, "its byte 3 (0xc3) belongs to no character of utf-8"),
        (6, "it has 1 field, the header has 2"),
    ]
    assert rows.bad[0].text == "2,\\xff"


@pytest.mark.parametrize(
    ("codec", "word"),
    [
        ("latin-1", "naïve"),
        ("cp1252", "€5"),
        ("gb18030", "中文字符"),
        ("cp950", "繁體"),
        ("cp932", "日本語"),
        ("utf-8", "ü"),
    ],
)
def test_text_of_each_encoding_is_decoded(codec: str, word: str) -> None:
    rows = read(f'"{word}\n{word}",{word}\nx\n1,{word}'.encode(codec), codec=codec)
    assert values(rows) == [(f"{word}\n{word}", word), ("1", word)]
    assert bad(rows) == [(3, "it has 1 field, the header has 2")]
    assert rows.line(1) == 4


def test_a_wrong_byte_of_another_encoding_is_a_bad_row() -> None:
    rows = read("1,中\n2,".encode("gb18030") + b"\xff\n" + "3,文".encode("gb18030"), codec="gb18030")
    assert values(rows) == [("1", "中"), ("3", "文")]
    assert bad(rows) == [(2, "its byte 3 (0xff) belongs to no character of gb18030")]


def test_a_quote_that_is_never_closed_spoils_its_row_alone() -> None:
    rows = read(b'1,2\n3,"4\n5,6\n')
    assert values(rows) == [("1", "2")]
    assert bad(rows) == [(2, 'the quote " of its last field is never closed')]


def test_a_quote_inside_a_field_is_an_ordinary_character() -> None:
    assert values(read(b'5" wide,b\n"a"x"y",c\n')) == [('5" wide', "b"), ('ax"y"', "c")]


def test_without_quotes_every_newline_ends_a_row() -> None:
    rows = read(b'"a,b"\n"x\n,y\n', form=Form("csv", quote=""))
    assert values(rows) == [('"a', 'b"'), (None, "y")]
    assert bad(rows) == [(2, "it has 1 field, the header has 2")]


def test_an_escape_takes_the_meaning_from_what_follows() -> None:
    form = Form("csv", delimiter=";", escape="\\")
    rows = read(b'a\\;b;c\\\nd\ne\\"f;"g\\"h"\nx\n"i\\\n";\\\\\n', form=form)
    assert values(rows) == [("a;b", "c\nd"), ('e"f', 'g"h'), ("i\n", "\\")]
    assert bad(rows) == [(4, "it has 1 field, the header has 2")]
    assert [rows.line(row) for row in range(rows.count)] == [1, 3, 5]


def test_an_escaped_row_end_needs_no_quotes() -> None:
    rows = read(b"a,b\\\nc\nd\ne,f\n", form=Form("csv", quote="", escape="\\"))
    assert values(rows) == [("a", "b\nc"), ("e", "f")]
    assert bad(rows) == [(3, "it has 1 field, the header has 2")]


def test_a_byte_order_mark_inside_the_source_is_a_character() -> None:
    assert values(read("\ufeffa,b\n".encode())) == [("\ufeffa", "b")]


def test_the_text_of_a_bad_row_is_cut() -> None:
    assert len(read(b"x" * 30_000).bad[0].text) == TEXT_CHARACTERS_MAX


def test_many_bad_rows_take_no_quadratic_time() -> None:
    rows = read(b"x\n1,2\n\xff,3\n" * 60_000)
    assert rows.count == 60_000
    assert len(rows.bad) == 120_000
    assert rows.bad[-1].line == 180_000
    assert rows.line(59_999) == 179_999


FIELD = st.one_of(
    st.text(alphabet='ab",;\\ \n\rü"', max_size=6).map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.text(alphabet="ab;\\ üé\"'", max_size=5).filter(lambda text: not text.startswith('"')),
)
ROW = st.one_of(
    st.lists(FIELD, min_size=1, max_size=4).map(",".join).map(str.encode),
    st.sampled_from([b"", b"\xff,1", b'"\xff\n",2', b"1,\xc3", b"\xef\xbb\xbf,2"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ROW, st.sampled_from([b"\n", b"\r\n"])), max_size=12), st.integers(1, 5))
@example([(b"a,b", b"\n"), (b'"\xff\n",2', b"\n"), (b"1", b"\n"), (b"3,4", b"\r\n")], 1)
def test_lines_and_texts_are_those_that_a_reader_one_row_after_the_other_sees(
    parts: list[tuple[bytes, bytes]], first_line: int
) -> None:
    data = b"".join(row + end for row, end in parts)
    wanted: list[tuple[int, bytes]] = []
    line = first_line
    for row, end in parts:
        if row:
            wanted.append((line, row))
        line += (row + end).count(b"\n")
    rows = read(data, line=first_line)
    seen = sorted([(rows.line(row), rows.text(row), True) for row in range(rows.count)] + [
        (row.line, row.text, False) for row in rows.bad
    ])  # fmt: skip
    assert [(line, text) for line, text, _ in seen] == [
        (line, row.decode("utf-8", "backslashreplace")) for line, row in wanted
    ]
    good: list[tuple[str, ...]] = []
    for _, row in wanted:
        try:
            fields = next(csv.reader(io.StringIO(row.decode(), newline="")))
        except UnicodeDecodeError:
            continue
        if len(fields) == 2:
            good.append(tuple(fields))
    assert [tuple(value or "" for value in row) for row in values(rows)] == good
