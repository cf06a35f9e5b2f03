"""JSON Lines are read exactly, by pyarrow or line by line, and lines that are no object are put aside."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.export import read_jsonl as module
from windrow.export.casting import cast_text
from windrow.export.inference import join_named
from windrow.export.read_jsonl import jsonl_states, read_jsonl
from windrow.export.rows import Rows


def read(data: bytes, *, line: int = 1, codec: str = "utf-8", **types: str) -> Rows:
    wanted = {at: (name, kind) for at, (name, kind) in enumerate(types.items())}
    return read_jsonl(data, wanted=wanted, first_line=line, codec=codec)


def column(rows: Rows, at: int = 0) -> list[Any]:
    return rows.columns[at].to_pylist()


def bad(rows: Rows) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows.bad]


def test_columns_of_their_kind_are_typed_at_once() -> None:
    rows = read(b'{"n":1,"x":2.5,"t":"a","y":true}\n{"t":"","n":null}\n', n="int64", x="float64", t="string", y="bool")
    assert [rows.columns[at].type for at in range(4)] == [pa.int64(), pa.float64(), pa.string(), pa.bool_()]
    assert [column(rows, at) for at in range(4)] == [[1, None], [2.5, None], ["a", ""], [True, None]]
    assert rows.line(1) == 2


def test_a_key_that_no_line_has_is_null() -> None:
    rows = read(b'{"a":1}\n{"b":2}\n', a="int64", z="string")
    assert (column(rows), column(rows, 1)) == ([1, None], [None, None])


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (b'{"b": [1.10, "x"]}', "string", '{"b": [1.10, "x"]}'),
        (b"[ 1,2 ]", "string", "[ 1,2 ]"),
        (b"1.10", "string", "1.10"),
        (b"1E5", "string", "1E5"),
        (b"12345678901234567890", "string", "12345678901234567890"),
        (b"true", "string", "true"),
        (b'"5"', "int64", "5"),
        (b"2.0", "int64", "2.0"),
        (b"12345678901234567", "float64", "12345678901234567"),
        (b"1.10", "decimal(9,2)", "1.10"),
    ],
)
def test_a_value_of_another_kind_is_its_json_text(value: bytes, kind: str, text: str) -> None:
    rows = read(b'{"k": "\\"}" , "a":' + value + b' ,"z":[]}', a=kind)
    assert column(rows) == [text]
    assert rows.bad == []


def test_minus_nought_is_a_whole_number_and_its_text_is_none() -> None:
    assert column(read(b'{"a":-0}\n{"a":"-0"}\n{"a":[]}', a="int64")) == ["0", "-0", "[]"]
    assert column(read(b'{"a":-0}\n{"a":"x"}', a="string")) == ["-0", "x"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]", "it is no JSON object"),
        (b"5", "it is no JSON object"),
        (b'{"a":1', "it is no JSON: Expecting ',' delimiter at character 7"),
        (b'{"a":1} {"a":2}', "more than one JSON object stands in it: character 8 is behind the first one"),
        (b'{"a":NaN}', "it is no JSON: NaN is no value"),
        (b'{"a":01}', "it is no JSON: Expecting ',' delimiter at character 7"),
        (b'{"a":"\xff"}', "its byte 7 (0xff) belongs to no character of utf-8"),
        (b'{"a":"\\ud800"}', "it has half of a surrogate pair, which is no character"),
        (b'{"a":"x\ty"}', "it is no JSON: Invalid control character at character 8"),
        (b'{"a":' + b"[" * 100_000, "its objects and arrays are nested too deeply"),
    ],
)
def test_a_line_that_is_no_object_spoils_no_other(line: bytes, reason: str) -> None:
    rows = read(b'\n{"a":1}\n  \r\n' + line + b'\r\n{"a":3}', a="int64")
    assert rows.columns[0].cast("int64").to_pylist() == [1, 3]
    assert [rows.line(row) for row in range(2)] == [2, 5]
    assert bad(rows) == [(4, reason)]


def test_objects_over_several_lines_are_bad_rows_however_many_stand_in_the_next() -> None:
    rows = read(b'{"a":\n1}\n{"a":2}{"a":3}\n', a="int64")
    assert rows.count == 0
    assert [row.line for row in rows.bad] == [1, 2, 3]


def test_of_a_key_that_stands_twice_the_last_value_counts() -> None:
    assert column(read(b'{"a":1,"a":{"b":2}}', a="string")) == ['{"b":2}']


def test_other_encodings_are_decoded() -> None:
    assert column(read('{"a":"中文"}'.encode("gb18030"), codec="gb18030", a="string")) == ["中文"]
    rows = read('{"a":"é"}\n{"a":7}'.encode("latin-1"), codec="latin-1", a="string")
    assert column(rows) == ["é", "7"]


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_no_lines_are_no_rows(data: bytes) -> None:
    rows = read(data, a="int64")
    assert (rows.count, rows.bad, column(rows)) == (0, [], [])


def test_two_thousand_keys_are_read() -> None:
    keys = {f"k{number}": number for number in range(2000)}
    rows = read(json.dumps(keys).encode(), **dict.fromkeys(keys, "int64"))
    assert [column(rows, at) for at in range(2000)] == [[number] for number in range(2000)]


def test_a_number_is_judged_by_its_value_and_a_text_by_its_looks() -> None:
    data = b"\n".join([
        b'{"n":1,"f":1,"t":"5","d":"2024-01-01","o":{},"b":true,"m":1,"big":12345678901234567890,"z":-0,"e":null}',
        b'{"n":-2,"f":2.50,"t":"x","d":"2024-01-02 10:00","b":false,"m":"x","e":null,"new":"", "i":12345678901234567}',
    ])  # fmt: skip
    assert jsonl_states(data) == {
        "n": "int64|float64", "f": "float64", "t": "string", "d": "timestamp", "o": "string", "b": "bool",
        "m": "string", "big": "string", "z": "int64|float64", "e": "", "new": "", "i": "int64",
    }  # fmt: skip


def test_lines_that_are_no_rows_give_no_types_away() -> None:
    assert jsonl_states(b'{"a":1}\n[2]\n{"a":"x"\n') == {"a": "int64|float64"}


VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4),
    st.sampled_from(["5", "-0", "2024-01-01", "", "NA", "true", "1.50"]),
    st.lists(st.integers(0, 3), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(0, 2), max_size=2),
)  # fmt: skip
KINDS = ("int64", "int32", "float64", "float32", "bool", "string", "date")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.one_of(
        st.lists(VALUE, max_size=6), st.lists(st.floats(width=32, allow_nan=False), max_size=6),
        st.lists(st.floats(), max_size=6), st.lists(st.integers(-3, 3), max_size=6), st.lists(st.text(), max_size=4),
    ),
    st.booleans(),
)  # fmt: skip
def test_both_ways_of_reading_give_the_same_values(kind: str, values: list[Any], ascii_only: bool) -> None:
    lines = [json.dumps({"a": value}, ensure_ascii=ascii_only) for value in values]
    data = "\n".join(lines).encode("utf-8", "replace")
    at_once = read(data, a=kind)
    places = module.line_places(data, 1, "utf-8")
    by_line = module._read_lines({0: ("a", kind)}, places, "", "utf-8")

    def typed(rows: Rows) -> tuple[list[Any], list[bool]]:
        values, bad = rows.columns[0], None
        if pa.types.is_string(values.type):
            values, bad = cast_text(values, kind, strict=True)
        shown = [repr(value) for value in values.to_pylist()]
        return shown, bad.fill_null(False).to_pylist() if bad is not None else [False] * len(values)

    assert typed(at_once) == typed(by_line)
    assert at_once.bad == by_line.bad


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.dictionaries(st.sampled_from("abc"), VALUE, max_size=3), max_size=4), max_size=4))
def test_the_types_of_all_pieces_together_are_those_of_the_whole(pieces: list[list[dict[str, Any]]]) -> None:
    encoded = ["\n".join(json.dumps(row) for row in piece).encode() for piece in pieces]
    whole = jsonl_states(b"\n".join(encoded))
    joined = join_named(jsonl_states(piece) for piece in encoded)
    assert joined == whole
    assert list(joined) == list(whole)


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUE, min_size=1, max_size=6))
def test_every_value_fits_the_type_that_was_found_for_all(values: list[Any]) -> None:
    data = "\n".join(json.dumps({"a": value}) for value in values).encode()
    kind = jsonl_states(data)["a"].split("|")[0] or "string"
    rows = read(data, a=kind)
    found = rows.columns[0]
    assert not pa.types.is_string(found.type) or cast_text(found, kind, strict=True)[1] is None


def test_many_lines_of_other_kinds_keep_their_order_and_their_lines() -> None:
    lines = [b"[]" if number % 7 == 0 else b'{"a":"%d"}' % number for number in range(2_000)]
    rows = read(b"\n".join(lines), a="int64")
    assert column(rows) == [str(number) for number in range(2_000) if number % 7]
    assert [row.line for row in rows.bad] == list(range(1, 2_001, 7))
    assert rows.line(rows.count - 1) == 2_000
