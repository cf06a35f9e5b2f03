"""Arguments and results travel as data, and come out as what they were."""

from __future__ import annotations

import datetime
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ItemRefused, MalformedMessage
from windrow.common.limits import ITEM_BYTES_MAX, VALUE_NESTING_MAX
from windrow.common.values import (
    call,
    decode_items,
    decode_value,
    encode_item,
    encode_items,
    encode_value,
    value_encoder,
)

Point = namedtuple("Point", "x y")


class Level(IntEnum):
    HIGH = 3


class Colour(StrEnum):
    RED = "red"


class Shade(str, Enum):  # noqa: UP042  As users write them.
    """`str(Shade.DARK)` is "Shade.DARK"."""

    DARK = "dark"


class Title(str):
    def __str__(self) -> str:
        return "a title"


class Buffer(bytearray):
    pass


class Plain(Enum):
    A = 1


UTC = datetime.UTC
EXACT: list[object] = [
    None, True, 0, -1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**300, 0.5,
    float("inf"), "", "ä\0", b"\0\xff",
    [], [1, [2]], {}, {"a": 1}, {1: 2}, (), (1, (2, [3])), {"k": (1,)}, {1, 2}, frozenset({1}), {(1, 2): "tuple key"},
    datetime.datetime(2026, 11, 21, 9, 0, 0, 123456), datetime.datetime(2026, 1, 1, tzinfo=UTC),
    datetime.date(2026, 1, 1),
    datetime.time(1, 2, 3), datetime.timedelta(days=-1, seconds=5, microseconds=7), Decimal("1.10"), Decimal("-0.00"),
    uuid.UUID(int=5), complex(1, -2), Fraction(1, 3), range(1, 10, 2),
]  # fmt: skip


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_a_value_comes_out_as_what_it_was(value: object) -> None:
    for data in (encode_value(value), value_encoder()(value)):
        got = decode_value(data)
        assert got == value
        assert type(got) is type(value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        ([Point(1, (2,))], [(1, (2,))]),
        (OrderedDict(a=1), {"a": 1}),
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        (Shade.DARK, "dark"),
        ({Shade.DARK: (Shade.DARK,)}, {"dark": ("dark",)}),
        (Title("abc"), "abc"),
        (PurePosixPath("a/b"), "a/b"),
        (bytearray(b"x"), b"x"),
        (Buffer(b"x"), b"x"),
        pytest.param(memoryview(b"x"), b"x", id="memoryview"),
    ],
    ids=repr,
)
def test_relatives_of_plain_types_travel_as_the_plain_type(value: object, plain: object) -> None:
    got = decode_value(encode_value(value))
    assert got == plain
    assert type(got) is type(plain)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_any_plain_value_comes_out_equal(value: object) -> None:
    assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize(
    "value", [object(), Plain.A, lambda: 1, {1: object()}, [iter([])]], ids=lambda v: type(v).__name__
)
def test_what_is_not_data_is_refused(value: object) -> None:
    """Invariant 7: no code in messages."""
    with pytest.raises(TypeError):
        encode_value(value)
    with pytest.raises(ItemRefused, match="cannot be sent"):
        encode_item(value)


def test_what_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ItemRefused):
        encode_item(endless)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        encode_value([1])[:-1],
        encode_value(1) + b"x",
        b"\xc7\x01\x09x",
        b"\xc7\x01\x0cx",
        b"\xc7\x01\x04x",
    ],
)
def test_bytes_that_are_no_value_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_value(data)


def nested(depth: int) -> tuple[object, ...]:
    value: tuple[object, ...] = ()
    for _ in range(depth - 1):
        value = (value,)
    return value


def nested_bytes(depth: int) -> bytes:
    """As encode_value would make it if it had no limit."""
    data = b"\x90"
    for at in range(depth):
        data = b"\xc9" + len(data).to_bytes(4, "big") + b"\x01" + data
        data = data if at == depth - 1 else b"\x91" + data
    return data


def test_tuples_lie_in_one_another_as_deep_as_the_limit_and_no_deeper() -> None:
    assert decode_value(encode_value(nested(VALUE_NESTING_MAX))) == nested(VALUE_NESTING_MAX)
    assert decode_value(nested_bytes(VALUE_NESTING_MAX)) == nested(VALUE_NESTING_MAX)
    assert list(decode_items(value_encoder()([nested(VALUE_NESTING_MAX)]))) == [[nested(VALUE_NESTING_MAX)]]
    with pytest.raises(ItemRefused, match="more than 64 tuples"):
        encode_item([nested(VALUE_NESTING_MAX + 1)])
    for depth in (VALUE_NESTING_MAX + 1, 200, 5_000):
        with pytest.raises(MalformedMessage, match="more than 64 tuples"):
            decode_value(nested_bytes(depth))


def test_an_extension_of_a_code_that_nobody_knows_yet_is_handed_on_as_it_came() -> None:
    data = b"\xc7\x03\x63abc"
    assert decode_value(data) == msgpack.ExtType(0x63, b"abc")
    assert encode_value(decode_value(data)) == data


@pytest.mark.parametrize("outer", [1, 2, 3, 7, 11, 13])
def test_a_range_without_end_does_not_stand_for_an_array(outer: int) -> None:
    data = encode_value(range(1 << 60))
    with pytest.raises(MalformedMessage, match="holds no array"):
        decode_value(b"\xc7" + bytes([len(data), outer]) + data)


@pytest.mark.parametrize("text", [b"1e99999999", b"1.5", b"1/2/3", b"1/0", b"", b"/"])
def test_a_fraction_is_two_whole_numbers(text: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_value(b"\xc7" + bytes([len(text), 12]) + text)


def test_an_item_is_arguments() -> None:
    assert list(decode_items(encode_item((1, 2)))) == [[1, 2]]
    assert list(decode_items(encode_item([1, 2]))) == [[[1, 2]]], "a list is the single argument"
    assert list(decode_items(encode_item(None))) == [[None]]
    assert list(decode_items(encode_item(()))) == [[]]
    assert list(decode_items(encode_item(call(1, k=2)))) == [{"args": [1], "kwargs": {"k": 2}}]
    assert list(decode_items(encode_item(call(1)))) == [[1]]
    assert list(decode_items(encode_item({"args": 1}))) == [[{"args": 1}]]


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_an_argument_comes_out_as_what_it_was(value: object) -> None:
    ((got,),) = decode_items(encode_item((value,)))
    assert got == value
    assert type(got) is type(value)


def test_items_follow_one_another() -> None:
    payload = b"".join(encode_item(number) for number in range(100))
    assert list(decode_items(memoryview(payload))) == [[number] for number in range(100)]
    assert list(decode_items(b"")) == []


def test_an_item_beyond_the_limit_is_refused_with_the_way_out() -> None:
    head = len(encode_item(b"x" * 70_000)) - 70_000
    largest = b"x" * (ITEM_BYTES_MAX - head)
    assert len(encode_item(largest)) == len(next(encode_items([largest]))) == ITEM_BYTES_MAX
    for encode in (encode_item, lambda item: next(encode_items([item]))):
        with pytest.raises(ItemRefused, match="send its path"):
            encode(largest + b"x")


def test_items_encoded_in_a_row_have_the_same_bytes_as_each_by_itself() -> None:
    items = (*EXACT, (1, 2), call(1, b=2), call(3), Point(1, 2))
    assert list(encode_items(items)) == [encode_item(item) for item in items]


@pytest.mark.parametrize("refused", [object(), (1, object()), b"x" * (ITEM_BYTES_MAX + 1)])
def test_an_item_that_cannot_travel_is_refused_in_a_row_as_it_is_by_itself(refused: object) -> None:
    encoded = encode_items([1, refused, 2])
    assert next(encoded) == encode_item(1)
    with pytest.raises(ItemRefused) as in_a_row:
        next(encoded)
    with pytest.raises(ItemRefused) as alone:
        encode_item(refused)
    assert str(in_a_row.value) == str(alone.value)
