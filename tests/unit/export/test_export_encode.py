"""Rows as the destination has them, against other programs that read them."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import decimal
import gzip
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export import encode
from windrow.export.cutting import row_end
from windrow.export.encode import encode_head, encode_rows
from windrow.export.form import check_names, check_write_form, find_unwritable, without_rows
from windrow.export.model import Form

NASTY = [
    "a",
    "",
    None,
    'q"q',
    "a,b",
    "a\nb",
    "a\r\nb",
    "é",
    "𝄞",
    "\\",
    'x\\"y',
    " s ",
    "\x00\x01\x1f\x7f",
    "\u2028",
    "'",
]
TEXTS = st.lists(
    st.tuples(*[st.none() | st.text(st.sampled_from('a",;\\\n\r é\t\x00\x1f漢'), max_size=6)] * 2),
    min_size=1,
    max_size=9,
)


def text_of(form: Form, names: Sequence[str], columns: Sequence[Any]) -> bytes:
    kinds = ["string"] * len(names)
    return encode_head(form, names) + b"".join(encode_rows(form, names, kinds, columns))


def columns_of(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [pa.array(values, pa.string()) for values in zip(*rows, strict=True)]


@settings(max_examples=200)
@given(TEXTS, st.sampled_from([",", ";", "\t", "é"]))
def test_csv_is_what_pythons_reader_reads(rows: list[tuple[str | None, str | None]], delimiter: str) -> None:
    data = text_of(Form("csv", delimiter=delimiter), ["x", "y"], columns_of(rows)).decode()
    read = list(csv.reader(io.StringIO(data, newline=""), delimiter=delimiter, strict=True))
    assert read == [["x", "y"], *[[value or "" for value in row] for row in rows]]


@settings(max_examples=200)
@given(TEXTS)
def test_csv_with_an_escape_character_is_what_pythons_reader_reads(rows: list[tuple[str | None, str | None]]) -> None:
    data = text_of(Form("csv", escape="\\"), ["x", "y"], columns_of(rows)).decode()
    read = list(csv.reader(io.StringIO(data, newline=""), escapechar="\\", doublequote=False, strict=True))
    assert read == [["x", "y"], *[[value or "" for value in row] for row in rows]]


@settings(max_examples=200)
@given(TEXTS)
def test_csv_without_quotes_but_with_an_escape_is_what_pythons_reader_reads(rows: list[tuple[Any, Any]]) -> None:
    data = text_of(Form("csv", quote="", escape="\\"), ["x", "y"], columns_of(rows)).decode()
    reader = csv.reader(io.StringIO(data, newline=""), quoting=csv.QUOTE_NONE, escapechar="\\", strict=True)
    assert list(reader) == [["x", "y"], *[[value or "" for value in row] for row in rows]]


def test_null_and_the_empty_text_differ_in_csv() -> None:
    data = text_of(Form("csv"), ["x", "y"], columns_of([(None, ""), ("", None)]))
    assert data == b'x,y\n,""\n"",\n'
    assert text_of(Form("csv"), ["x"], columns_of([(None,), ("",), ("a",)])) == b'x\n""\n""\na\n'


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), st.text(max_size=2)), min_size=1)
)
def test_json_lines_are_what_pythons_reader_reads(rows: list[tuple[str | None, str]]) -> None:
    data = text_of(Form("jsonl"), ['a "key"\n', "é"], columns_of(rows)).decode()
    read = [list(json.loads(line).items()) for line in data.split("\n")[:-1]]
    assert read == [[('a "key"\n', row[0]), ("é", row[1])] for row in rows]


def test_every_control_character_is_escaped_and_nothing_else() -> None:
    text = "".join(map(chr, range(0x80))) + "é漢𝄞"
    (line,) = encode_rows(Form("jsonl"), ["x"], ["string"], [pa.array([text])])
    assert json.loads(line)["x"] == text
    assert min(line.rstrip(b"\n")) >= 0x20
    assert "é漢𝄞".encode() in line
    assert b"\x7f" in line


def typed_columns() -> list[Any]:
    zone = datetime.UTC
    return [
        pa.array([1, None, -(2**63), 2**63 - 1]),
        pa.array([0.1, math.nan, math.inf, 1e300]),
        pa.array([True, False, None, True]),
        pa.array([datetime.date(2024, 2, 29), None, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
        pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3), None, datetime.datetime(1969, 1, 1, 0, 0, 0, 5), None],
                 pa.timestamp("us")),
        pa.array([datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=zone), None, None, None], pa.timestamp("us", "UTC")),
        pa.array([decimal.Decimal("0.0000001"), decimal.Decimal("-12.5"), None, decimal.Decimal(0)],
                 pa.decimal128(20, 7)),
    ]  # fmt: skip


TYPED = ["int64", "float64", "bool", "date", "timestamp", "timestamptz", "decimal(20,7)"]


def test_types_in_json_lines() -> None:
    data = b"".join(encode_rows(Form("jsonl"), TYPED, TYPED, typed_columns())).decode().splitlines()
    assert data[0] == (
        '{"int64":1,"float64":0.1,"bool":true,"date":"2024-02-29","timestamp":"2024-02-29T01:02:03",'
        '"timestamptz":"2024-02-29T01:02:03Z","decimal(20,7)":0.0000001}'
    )
    second, third, fourth = (json.loads(line) for line in data[1:])
    assert list(second.values()) == [None, None, False, None, None, None, -12.5]
    assert (third["int64"], third["float64"], third["timestamp"]) == (-(2**63), None, "1969-01-01T00:00:00.000005")
    assert (fourth["int64"], fourth["float64"], fourth["date"]) == (2**63 - 1, 1e300, "9999-12-31")


def test_types_in_csv_are_quoted_only_where_the_delimiter_is_in_them() -> None:
    data = b"".join(encode_rows(Form("csv"), TYPED, TYPED, typed_columns())).decode().splitlines()
    assert data[0] == "1,0.1,true,2024-02-29,2024-02-29 01:02:03,2024-02-29 01:02:03Z,0.0000001"
    assert data[1] == ",nan,false,,,,-12.5000000"
    data = b"".join(encode_rows(Form("csv", delimiter="-"), TYPED, TYPED, typed_columns())).decode().splitlines()
    assert data[0].startswith('1-0.1-true-"2024-02-29"-"2024-02-29 01:02:03"-')


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_bytes_do_not_depend_on_how_many_rows_are_encoded_at_a_time(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = columns_of([(one, two) for one in NASTY for two in NASTY])
    whole = text_of(Form(kind), ["x", "y"], columns)
    monkeypatch.setattr(encode, "BLOCK_BYTES", 100)
    assert text_of(Form(kind), ["x", "y"], columns) == whole
    # A slice of a longer column is as good as a column.
    assert text_of(Form(kind), ["x", "y"], [pa.concat_arrays([one, one]).slice(len(one)) for one in columns]) == whole


def test_wide_rows_are_encoded_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BLOCK_BYTES", 100_000)
    columns = [pa.array([1] * 50)] * 200
    names = [f"a_rather_long_name_of_a_column_{at}" for at in range(200)]
    blocks = list(encode_rows(Form("jsonl"), names, ["int64"] * 200, columns))
    assert len(blocks) > 3
    assert max(map(len, blocks)) < 2 * encode.BLOCK_BYTES


@pytest.mark.parametrize(
    "encoding", ["gbk", "gb18030", "big5", "shift_jis", "latin-1", "utf-16", "utf-8-sig", "utf-16-be"]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_encodings(kind: str, encoding: str) -> None:
    value = "naïve" if encoding == "latin-1" else "漢字, x"
    form = Form(kind, encoding=encoding)
    columns = columns_of([(value, "a"), ('"', None)])
    expected = text_of(Form(kind), ["x", "y"], columns).decode()
    head, first, second = (
        encode_head(form, ["x", "y"]),
        *(b"".join(encode_rows(form, ["x", "y"], [], [one.slice(at, 1) for one in columns])) for at in (0, 1)),
    )
    assert (head + first + second).decode(encoding) == expected


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_compressed_parts_joined_as_bytes_are_the_whole(kind: str, compression: str) -> None:
    form = Form(kind, compression=compression)
    columns = columns_of([(one, two) for one in NASTY for two in NASTY])
    pieces = [encode_head(form, ["x", "y"])]
    pieces += [
        text_of(dataclasses.replace(form, header=False), ["x", "y"], [one.slice(at, 50) for one in columns])
        for at in range(0, 250, 50)
    ]
    joined = b"".join(pieces)
    expected = text_of(Form(kind), ["x", "y"], columns)
    with pa.CompressedInputStream(pa.BufferReader(joined), compression) as stream:
        assert stream.read() == expected
    if compression == "gzip":
        assert gzip.decompress(joined) == expected
        # No flags (so no name), no time.
        assert joined[3:8] == bytes(5)


def test_a_segment_of_no_rows_is_no_bytes() -> None:
    nothing = [pa.array([], pa.string())]
    for compression in ("", "gzip", "zstd"):
        assert b"".join(encode_rows(Form("csv", compression=compression), ["x"], ["string"], nothing)) == b""
    assert encode_head(Form("jsonl", compression="gzip"), ["x"]) == b""
    assert encode_head(Form("csv", header=False), ["x"]) == b""
    assert encode_head(Form("parquet"), ["x"]) == b""


def test_characters_that_the_encoding_does_not_have_are_found() -> None:
    column = pa.array(["a", None, "é", "漢", "ok", "漢é"], pa.string())
    found = find_unwritable(Form("csv", encoding="latin-1"), [pa.array([1] * 6), column])
    assert [(one.row, one.column, one.value) for one in found] == [(3, 1, "漢"), (5, 1, "漢é")]
    assert "latin-1 has no character '漢'" in found[0].reason
    assert find_unwritable(Form("jsonl"), [column]) == []
    assert find_unwritable(Form("parquet", encoding="latin-1"), [column]) == []
    assert find_unwritable(Form("csv", encoding="gb18030"), [column]) == []
    kept = without_rows([column], [one.row for one in found])
    assert kept[0].to_pylist() == ["a", None, "é", "ok"]


def test_what_only_quotes_could_hold_is_found() -> None:
    columns = columns_of([("a", "b"), ("a,b", "c"), ("a", "b\nc"), (None, ""), ("a\rb", "x")])
    assert [one.row for one in find_unwritable(Form("csv", quote=""), columns)] == [1, 2, 4]
    assert find_unwritable(Form("csv", quote="", escape="\\"), columns) == []
    assert find_unwritable(Form("csv"), columns) == []
    alone = find_unwritable(Form("csv", quote=""), [pa.array(["a", None, ""])])
    assert [one.row for one in alone] == [1, 2]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Form("xml"), "no format 'xml'"),
        (Form("csv", compression="snappy"), "no compression 'snappy' for csv"),
        (Form("parquet", compression="lz0"), "no compression"),
        (Form("csv", encoding="klingon"), "no encoding 'klingon'"),
        (Form("csv", encoding="iso2022_jp"), "no encoding to write"),
        (Form("csv", encoding="utf-7"), "no encoding to write"),
        (Form("csv", encoding="base64"), "no encoding to write"),
        (Form("csv", delimiter="§", encoding="ascii"), "'§' is not in ascii"),
        (Form("csv", delimiter="ab"), "one character"),
        (Form("csv", delimiter='"'), "different characters"),
        (Form("csv", delimiter=""), "needs a delimiter"),
    ],
)
def test_forms_that_cannot_be_written_are_refused(form: Form, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_write_form(form)


def test_a_name_that_the_encoding_does_not_have_is_refused() -> None:
    check_names(Form("csv", encoding="latin-1"), ["é"])
    for kind in ("csv", "jsonl"):
        with pytest.raises(ExportError, match="'漢' cannot be written"):
            check_names(Form(kind, encoding="latin-1"), ["a", "漢"])


@settings(max_examples=200)
@given(
    TEXTS, st.sampled_from([Form("csv"), Form("csv", escape="\\"), Form("csv", quote="", escape="\\"), Form("jsonl")])
)
def test_row_ends_are_found(rows: list[tuple[str | None, str | None]], form: Form) -> None:
    columns = columns_of(rows)
    whole = text_of(form, ["x", "y"], columns)[len(encode_head(form, ["x", "y"])) :].decode()
    for count in range(1, len(rows) + 1):
        first = b"".join(encode_rows(form, ["x", "y"], [], [one.slice(0, count) for one in columns])).decode()
        assert whole[: row_end(form, whole, count)] == first
    with pytest.raises(ExportError, match=f"has {len(rows)} rows"):
        row_end(form, whole, len(rows) + 1)


def test_a_segment_of_very_many_rows_gets_several_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "GROUP_ROWS_MAX", 10)
    (data,) = encode_rows(Form("parquet"), ["x"], ["int64"], [pa.array(range(25))])
    table = encode.parquet.ParquetFile(io.BytesIO(data))
    assert [table.metadata.row_group(at).num_rows for at in range(table.num_row_groups)] == [10, 10, 5]
    assert table.metadata.row_group(0).column(0).has_offset_index
    assert pc.sum(table.read()["x"]).as_py() == 300
