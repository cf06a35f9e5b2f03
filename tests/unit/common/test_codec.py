"""Messages are read strictly by type and leniently by field, so that they grow by adding."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Annotated, Literal, NamedTuple, NewType

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.codec import Between, Longest, MessageSet, decoder_for, to_plain
from windrow.common.errors import MalformedMessage, ProtocolMismatch, WindrowError
from windrow.common.limits import MESSAGE_BYTES_MAX, PROTOCOL_VERSION

Id = NewType("Id", str)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Shade(str, Enum):  # noqa: UP042  As users write them.
    """`str(Shade.DARK)` is "Shade.DARK"."""

    DARK = "dark"


class Pair(NamedTuple):
    left: int
    right: Annotated[int, Between(0, 9)]


@dataclass(frozen=True, slots=True)
class Inner:
    number: int


@dataclass(frozen=True, slots=True)
class Message:
    id: Id
    level: Annotated[int, Between(0, 10)] = 0
    ratio: float = 0.0
    text: Annotated[str, Longest(5)] = ""
    raw: bytes = b""
    flag: bool = False
    maybe: Annotated[int | None, Between(1, 2)] = None
    pairs: Annotated[tuple[Pair, ...], Longest(2)] = ()
    inner: tuple[Inner, ...] = ()
    table: dict[str, int] | None = None
    colour: Colour = Colour.RED
    note: Annotated[str | None, Longest(5)] = None


@dataclass(frozen=True, slots=True)
class Stranger:
    number: int = 0


SET = MessageSet[Message](Message)
FULL = Message(
    Id("a"), 10, 0.5, "five5", b"\0\xff", True, 2, (Pair(1, 2), Pair(3, 4)), (Inner(1),), {"k": 1}, Colour.BLUE
)  # fmt: skip


def wire(fields: object, *, version: object = PROTOCOL_VERSION, name: object = "Message") -> bytes:
    return bytes(msgpack.packb([version, name, fields]) or b"")


@pytest.mark.parametrize("message", [FULL, Message(Id(""))])
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert SET.decode(SET.encode(message)) == message


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    assert SET.decode(wire({"id": "a", "new": [1, 2]})) == Message(Id("a"))


def test_a_whole_number_may_stand_for_a_float_and_nothing_else_for_anything() -> None:
    assert SET.decode(wire({"id": "a", "ratio": 1})).ratio == 1.0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "Message: id missing"),
        ({"id": 1}, "Message.id: expected str, got int"),
        ({"id": b"a"}, "Message.id: expected str, got bytes"),
        ({"id": None}, "Message.id: expected str, got NoneType"),
        ({"id": "a", "level": True}, "Message.level: expected int, got bool"),
        ({"id": "a", "level": 1.0}, "Message.level: expected int, got float"),
        ({"id": "a", "level": 11}, "Message.level: 11 is not between 0 and 10"),
        ({"id": "a", "level": -1}, "Message.level: -1 is not between"),
        ({"id": "a", "ratio": "x"}, "Message.ratio: expected float, got str"),
        ({"id": "a", "ratio": False}, "Message.ratio: expected float, got bool"),
        ({"id": "a", "text": "sixsix"}, "Message.text: 6 long; at most 5"),
        ({"id": "a", "raw": "text"}, "Message.raw: expected bytes, got str"),
        ({"id": "a", "flag": 1}, "Message.flag: expected bool, got int"),
        ({"id": "a", "note": "sixsix"}, "Message.note: 6 long; at most 5"),
        ({"id": "a", "note": 1}, "Message.note: expected str, got int"),
        ({"id": "a", "maybe": 3}, "Message.maybe: 3 is not between 1 and 2"),
        ({"id": "a", "pairs": [[1, 2, 3]]}, "Message.pairs: expected array of 2"),
        ({"id": "a", "pairs": [[1, "2"]]}, "Message.pairs: expected int, got str"),
        ({"id": "a", "pairs": [[1, 2]] * 3}, "Message.pairs: 3 long; at most 2"),
        ({"id": "a", "pairs": [[1, 10]]}, "Message.pairs: 10 is not between 0 and 9"),
        ({"id": "a", "pairs": [5]}, "Message.pairs: expected array of 2, got int"),
        ({"id": "a", "pairs": ["ab"]}, "Message.pairs: expected array of 2, got str"),
        ({"id": "a", "pairs": {}}, "Message.pairs: expected array, got dict"),
        ({"id": "a", "inner": [{"number": "x"}]}, "Message.inner.number: expected int"),
        ({"id": "a", "inner": [[1]]}, "Message.inner: expected map"),
        ({"id": "a", "table": {b"k": 1}}, "Message.table: expected map with string keys"),
        ({"id": "a", "table": {"k": 1, b"k": 2}}, "Message.table: expected map with string keys"),
        ({"id": "a", "table": ["k"]}, "Message.table: expected map with string keys, got tuple"),
        ({"id": "a", "table": {"k": "1"}}, "Message.table.k: expected int"),
        ({"id": "a", "colour": "green"}, "Message.colour: 'green' is none of red, blue"),
        ({"id": "a", "colour": [1]}, "Message.colour: '(1,)' is none of"),
        ([], "Message: expected map"),
    ],
)
def test_what_does_not_fit_is_malformed_and_named(fields: object, named: str) -> None:
    with pytest.raises(MalformedMessage) as error:
        SET.decode(wire(fields))
    assert named in str(error.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_no_odd_number_is_between(number: float) -> None:
    @dataclass(frozen=True, slots=True)
    class Bounded:
        seconds: Annotated[float, Between(0, 10)]

    with pytest.raises(MalformedMessage, match="is not between 0 and 10"):
        decoder_for(Bounded)({"seconds": number})
    assert decoder_for(Bounded)({"seconds": 10}).seconds == 10.0


def test_a_field_whose_default_is_made_anew_may_be_missing_and_one_without_may_not() -> None:
    @dataclass(frozen=True, slots=True)
    class Labelled:
        name: str
        labels: dict[str, str] = field(default_factory=dict[str, str])

    assert decoder_for(Labelled)({"name": "a"}) == Labelled("a", {})
    with pytest.raises(MalformedMessage, match=r"^Labelled: name missing$"):
        decoder_for(Labelled)({"labels": {}})


@pytest.mark.parametrize(("level", "maybe"), [(0, 1), (10, 2)])
def test_both_ends_of_what_a_number_may_be_are_allowed(level: int, maybe: int) -> None:
    message = SET.decode(wire({"id": "a", "level": level, "maybe": maybe}))
    assert (message.level, message.maybe) == (level, maybe)


def test_a_number_that_no_float_holds_is_malformed() -> None:
    """JSON has them, in a damaged file."""
    with pytest.raises(MalformedMessage, match=r"^Message\.ratio: a number too large"):
        decoder_for(Message)({"id": "a", "ratio": 10**400})


@pytest.mark.parametrize("version", [PROTOCOL_VERSION + 1, -1])
def test_another_version_is_a_mismatch_that_names_both(version: int) -> None:
    with pytest.raises(ProtocolMismatch, match=f"version {version}, this one {PROTOCOL_VERSION}"):
        SET.decode(wire({"id": "a"}, version=version))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        wire({"id": "a"})[:-1],
        wire({"id": "a"}) + b"x",
        bytes(msgpack.packb({}) or b""),
        bytes(msgpack.packb([PROTOCOL_VERSION, "Message"]) or b""),
        bytes(msgpack.packb([True, "Message", {}]) or b""),
        bytes(msgpack.packb(["0", "Message", {}]) or b""),
        wire({}, name="Stranger"),
        wire({}, name=["Message"]),
        wire({}, name={"Message": 1}),
        wire({"id": "a", 1: 2}),
        wire({}, name=None),
        b"\x91" * 5_000 + b"\x90",
        b"\xdd\xff\xff\xff\xff",
        bytes(msgpack.packb([PROTOCOL_VERSION, "Message", {1: 2}]) or b""),
    ],
)
def test_whatever_else_comes_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        SET.decode(data)


@pytest.mark.parametrize(("data", "why"), [(b"", "not msgpack: .*incomplete"), (b"\xc1", "not msgpack: FormatError")])
def test_what_is_no_msgpack_says_why(data: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        SET.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        wire({}, name="x" * 10_000),
        wire({"id": "a", "colour": "x" * 10_000}),
        wire({"id": "a", "table": {"x" * 10_000: "y" * 10_000}}),
    ],
)
def test_of_a_long_text_of_strangers_an_error_shows_the_beginning(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="xxxxxxxxxx") as error:
        SET.decode(data)
    assert len(str(error.value)) < 200


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_another_error_than_ours(data: bytes) -> None:
    prefix = bytes(msgpack.packb("Message") or b"")
    for candidate in (data, b"\x93\x00" + prefix + data):
        try:
            SET.decode(candidate)
        except WindrowError:
            continue


def test_a_message_of_just_the_limit_travels_and_one_byte_more_does_not() -> None:
    head = len(SET.encode(Message(Id("a"), raw=bytes(70_000)))) - 70_000
    message = Message(Id("a"), raw=bytes(MESSAGE_BYTES_MAX - head))
    assert SET.decode(SET.encode(message)) == message
    with pytest.raises(MalformedMessage, match="at most"):
        SET.encode(Message(Id("a"), raw=message.raw + b"x"))


def test_a_message_beyond_the_limit_is_neither_written_nor_read() -> None:
    with pytest.raises(MalformedMessage, match="at most"):
        SET.encode(Message(Id("a"), raw=bytes(MESSAGE_BYTES_MAX)))
    with pytest.raises(MalformedMessage, match="at most"):
        SET.decode(bytes(MESSAGE_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("text", "name\udcff", "surrogates not allowed"),
        ("level", 1 << 70, "out of range"),
        ("inner", {1}, "set is not"),
    ],
)
def test_a_field_that_cannot_travel_is_named_malformed_where_it_is_sent(field: str, value: object, why: str) -> None:
    """An I/O thread sends what users gave it, and must not end over it."""
    with pytest.raises(MalformedMessage, match=f"^Message cannot be sent: .*{why}"):
        SET.encode(Message(Id("a"), **{field: value}))  # type: ignore[arg-type]


def test_text_of_a_kind_of_its_own_travels_as_its_characters() -> None:
    assert SET.decode(SET.encode(Message(Id(Shade.DARK), colour=Colour.BLUE))) == Message(
        Id("dark"), colour=Colour.BLUE
    )
    assert type(to_plain(Message(Id(Shade.DARK)))["id"]) is str


def test_a_stranger_is_not_sent() -> None:
    with pytest.raises(TypeError, match="Stranger does not belong to this direction"):
        SET.encode(Stranger())  # type: ignore[arg-type]


def test_plain_data_is_what_json_can_carry_and_is_read_back() -> None:
    plain = to_plain(FULL)
    assert plain["pairs"] == [(1, 2), (3, 4)]
    assert (plain["colour"], plain["inner"], plain["table"]) == ("blue", [{"number": 1}], {"k": 1})
    assert decoder_for(Message)(plain) == FULL
    with pytest.raises(TypeError, match="object is not message data"):
        to_plain(object())


def test_a_type_that_the_codec_does_not_know_is_a_bug_found_at_once() -> None:
    for kind in (complex, int | str, int | str | None, Literal["a"], list[int], tuple, dict):
        with pytest.raises(TypeError, match="the codec"):
            decoder_for(kind)  # type: ignore[arg-type]


def test_a_field_that_has_its_default_is_not_sent() -> None:
    assert msgpack.unpackb(SET.encode(Message(Id("a"), level=0, text="", pairs=(), colour=Colour.RED)))[2] == {
        "id": "a"
    }
    assert SET.decode(SET.encode(Message(Id("a"), level=3))) == Message(Id("a"), level=3)


def test_plain_data_has_every_field_whatever_its_value() -> None:
    bare = Message(Id("a"))
    assert to_plain(bare).keys() == to_plain(FULL).keys()
    assert decoder_for(Message)(to_plain(bare)) == bare
