"""Thrift's compact protocol: what was read is written again with the same bytes, and what is none is refused."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export import thrift
from windrow.export.thrift import Encoded, Items, Pairs, Struct, decode, encode

INTEGERS = {thrift.I16: 16, thrift.I32: 32, thrift.I64: 64}


def values(kind: int, depth: int) -> st.SearchStrategy[Any]:
    if kind in INTEGERS:
        bits = INTEGERS[kind] - 1
        return st.integers(-(2**bits), 2**bits - 1)
    if kind in (thrift.LIST, thrift.SET):
        return kinds(depth - 1).flatmap(lambda of: st.lists(values(of, depth - 1), max_size=18).map(list_of(of)))
    if kind == thrift.MAP:
        return st.tuples(kinds(depth - 1), kinds(depth - 1)).flatmap(
            lambda of: st.lists(st.tuples(values(of[0], depth - 1), values(of[1], depth - 1)), max_size=5).map(
                lambda pairs: Pairs(*of, pairs) if pairs else Pairs(0, 0, [])
            )
        )
    return {
        thrift.TRUE: st.sampled_from([1, 2]),
        thrift.FALSE: st.sampled_from([1, 2]),
        thrift.BYTE: st.integers(0, 255),
        thrift.DOUBLE: st.floats(),
        thrift.BINARY: st.binary(max_size=200),
        thrift.UUID: st.binary(min_size=16, max_size=16),
        thrift.STRUCT: structs(depth - 1) if depth else st.just(Struct({})),
    }[kind]


def list_of(kind: int) -> Any:
    return lambda values: Items(kind, values)


def kinds(depth: int) -> st.SearchStrategy[int]:
    nested = (thrift.LIST, thrift.SET, thrift.MAP, thrift.STRUCT)
    return st.sampled_from([kind for kind in range(1, 14) if depth > 0 or kind not in nested])


def structs(depth: int) -> st.SearchStrategy[Struct]:
    field = kinds(depth).flatmap(lambda kind: st.tuples(st.just(kind), values(kind, depth)))
    truth = st.booleans().map(lambda true: (thrift.TRUE if true else thrift.FALSE, true))
    number = st.one_of(st.integers(1, 40), st.integers(-0x8000, 0x7FFF))
    plain = field.filter(lambda field: field[0] > thrift.FALSE)
    return st.dictionaries(number, st.one_of(truth, plain), max_size=6).map(Struct)


@settings(max_examples=200, deadline=None)
@given(structs(2), st.binary(max_size=5), st.binary(max_size=5))
def test_every_kind_of_value_comes_back(value: Struct, before: bytes, after: bytes) -> None:
    data = encode(value)
    back, end = decode(before + data + after, len(before))
    assert end == len(before) + len(data)
    assert encode(back) == data
    # Not a number is not equal to itself.
    assert back == value or "nan" in repr(value)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_struct_or_are_refused(data: bytes) -> None:
    try:
        value, end = decode(data)
    except ExportError:
        return
    assert end <= len(data)
    assert decode(encode(value))[0] == value or "nan" in repr(value)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        # As the specification has them: zigzag, short and long field headers, truth in the header, sizes over 14.
        ("15 01 00", Struct({1: (thrift.I32, -1)})),
        ("16 ff ff ff ff ff ff ff ff ff 01 00", Struct({1: (thrift.I64, -(2**63))})),
        ("05 d0 0f 02 00", Struct({1000: (thrift.I32, 1)})),
        ("f4 02 11 00", Struct({15: (thrift.I16, 1), 16: (thrift.TRUE, True)})),
        ("12 00", Struct({1: (thrift.FALSE, False)})),
        ("18 02 61 62 00", Struct({1: (thrift.BINARY, b"ab")})),
        ("19 25 02 04 00", Struct({1: (thrift.LIST, Items(thrift.I32, [1, 2]))})),
        ("19 f3 0f" + " 07" * 15 + " 00", Struct({1: (thrift.LIST, Items(thrift.BYTE, [7] * 15))})),
        ("1b 01 85 01 78 02 00", Struct({1: (thrift.MAP, Pairs(thrift.BINARY, thrift.I32, [(b"x", 1)]))})),
        ("1b 00 00", Struct({1: (thrift.MAP, Pairs(0, 0, []))})),
        ("17 00 00 00 00 00 00 f0 3f 00", Struct({1: (thrift.DOUBLE, 1.0)})),
    ],
)
def test_known_encodings(data: str, value: Struct) -> None:
    raw = bytes.fromhex(data)
    assert decode(raw) == (value, len(raw))
    assert encode(value) == raw


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "end too early"),
        (b"\x15", "end too early"),
        (b"\x15\x02", "end too early"),
        (b"\x18\x05abc\x00", "end too early"),
        (b"\x17\x00\x00", "end too early"),
        (b"\x19\xf5\xff\xff\xff\xff\x0f\x00", "end too early"),
        (b"\x1b\xff\xff\xff\xff\x0f\x55\x00", "end too early"),
        (b"\x16" + b"\xff" * 9 + b"\x02\x00", "more than 64 bits"),
        (b"\x16" + b"\x80" * 100_000, "more than 64 bits"),
        (b"\x1c" * 10_000, "nested too deeply"),
        (b"\x19" * 10_000, "nested too deeply"),
        (b"\x1b" + b"\x01\x3b\x00" * 10_000, "nested too deeply"),
        (b"\x15\x02\x05\x02\x02\x00", "field 1 twice"),
        (b"\x05\xff\xff\x7f\x02\x00", "out of range"),
        (b"\x1e\x00", "unknown type 14"),
        (b"\x19\x10\x00\x00", "unknown type 0"),
        (b"\x10\x00", "without a type"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        decode(data)


def test_fields_are_asked_for_by_number_and_type() -> None:
    inner = Struct({1: (thrift.I64, 5)})
    value = Struct({1: (thrift.STRUCT, inner), 2: (thrift.LIST, Items(thrift.STRUCT, [inner])), 3: (thrift.I16, 7)})
    assert (value.get_struct(1), value.get_structs(2), value.get_int(3), value.find_int(4)) == (inner, [inner], 7, None)
    value.set_int(3, 9)
    value.drop(1, 17)
    assert decode(encode(value))[0].fields == {2: (thrift.LIST, Items(thrift.STRUCT, [inner])), 3: (thrift.I16, 9)}
    for ask in (lambda: value.get_int(1), lambda: value.get_int(2), lambda: value.get_structs(3)):
        with pytest.raises(ExportError, match=r"field \d (is missing|has the wrong type)"):
            ask()
    with pytest.raises(ExportError, match="field 1 is no list of structs"):
        Struct({1: (thrift.LIST, Items(thrift.I32, [1]))}).get_structs(1)


def test_what_was_encoded_before_goes_in_as_it_is() -> None:
    inner = Struct({1: (thrift.DOUBLE, math.pi)})
    plain = Struct({4: (thrift.LIST, Items(thrift.STRUCT, [inner, inner]))})
    assert encode(Struct({4: (thrift.LIST, Items(thrift.STRUCT, [Encoded(encode(inner))] * 2))})) == encode(plain)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"n": st.none() | st.integers(-(2**63), 2**63 - 1), "s": st.text(max_size=5), "d": st.floats(),
             "l": st.lists(st.none() | st.booleans(), max_size=3), "b": st.none() | st.binary(max_size=40)}
        ),
        max_size=20,
    ),
    st.booleans(),
    st.sampled_from(["none", "snappy", "zstd"]),
)  # fmt: skip
def test_footers_of_pyarrow_keep_their_bytes(rows: list[dict[str, Any]], index: bool, compression: str) -> None:
    schema = pa.schema(
        [("n", pa.int64()), ("s", pa.string()), ("d", pa.float64()), ("l", pa.list_(pa.bool_())), ("b", pa.binary())]
    )
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema), sink,
        row_group_size=7, write_page_index=index, compression=compression, sorting_columns=[pq.SortingColumn(0)],
    )  # fmt: skip
    data = sink.getvalue()
    footer = data[-8 - struct.unpack("<I", data[-8:-4])[0] : -8]
    value, end = decode(footer)
    assert end == len(footer)
    assert encode(value) == footer
