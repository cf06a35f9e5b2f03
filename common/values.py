"""Encodes what users pass and return: msgpack's own types, and a few of Python's as extensions; never code.

An item is an array of positional arguments, or a map {"args": array, "kwargs": map}. A value is any one object.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from typing import Any, final

import msgpack

from windrow.common.errors import ItemRefused, MalformedMessage
from windrow.common.limits import ITEM_BYTES_MAX, VALUE_NESTING_MAX


@final
@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of one call; made by `windrow.call(*args, **kwargs)`."""

    args: tuple[object, ...]
    kwargs: dict[str, object]


def call(*args: object, **kwargs: object) -> Call:
    """An item with positional and keyword arguments."""
    return Call(args, kwargs)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """An extension whose bytes stand for themselves."""

    kind: type
    to_bytes: Callable[[Any], bytes]
    from_bytes: Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Nest:
    """An extension whose bytes are an array, packed as values are, so that there may be others inside."""

    kind: type
    to_list: Callable[[Any], list[Any]]
    from_list: Callable[[list[Any]], Any]


# By code. Codes are part of the protocol: add, never change.
_EXTENSIONS: dict[int, _Leaf | _Nest] = {
    1: _Nest(tuple, list, tuple),
    2: _Nest(set, list, set),
    3: _Nest(frozenset, list, frozenset),
    4: _Leaf(
        datetime.datetime, lambda v: v.isoformat().encode(), lambda b: datetime.datetime.fromisoformat(b.decode())
    ),
    5: _Leaf(datetime.date, lambda v: v.isoformat().encode(), lambda b: datetime.date.fromisoformat(b.decode())),
    6: _Leaf(datetime.time, lambda v: v.isoformat().encode(), lambda b: datetime.time.fromisoformat(b.decode())),
    7: _Nest(datetime.timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda v: datetime.timedelta(*v)),
    8: _Leaf(Decimal, lambda v: str(v).encode(), lambda b: Decimal(b.decode())),
    9: _Leaf(uuid.UUID, lambda v: v.bytes, lambda b: uuid.UUID(bytes=b)),
    10: _Leaf(int, lambda v: str(v).encode(), lambda b: int(b)),
    11: _Nest(complex, lambda v: [v.real, v.imag], lambda v: complex(*v)),
    # Not by its text: Fraction("1e999999999") would be computed.
    12: _Leaf(Fraction, lambda v: str(v).encode(), lambda b: Fraction(*map(int, b.split(b"/")))),
    13: _Nest(range, lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
}
_packb: Any = msgpack.packb
_CODE_OF = {known.kind: code for code, known in _EXTENSIONS.items()}


def _pack(value: object, depth: int = 0) -> bytes:
    packed: bytes = _packb(value, default=_EXTENDERS[depth], strict_types=True)
    return packed


def _extend(value: Any, depth: int) -> Any:
    code = _CODE_OF.get(type(value))
    if code is None:
        plain = _plain_base(value)
        if plain is None:
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not message data")
        # msgpack asks `default` once for each object, so a named tuple must become an extension here and now.
        return _extend(plain, depth) if type(plain) is tuple else plain
    known = _EXTENSIONS[code]
    if isinstance(known, _Leaf):
        return msgpack.ExtType(code, known.to_bytes(value))
    _check_depth(depth)
    return msgpack.ExtType(code, _pack(known.to_list(value), depth + 1))


def _check_depth(depth: int) -> None:
    # Each level takes tens of kilobytes of the C stack, whose end is the end of the process.
    if depth == VALUE_NESTING_MAX:
        raise ValueError(f"more than {VALUE_NESTING_MAX} tuples, sets or the like inside one another")


def _plain_base(value: Any) -> Any:
    """Subclasses of plain types travel as the plain type (enums of str and int, named tuples, ordered dicts, paths)."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)  # `str(value)` of an enum with text values is the name of its member.
    kinds: tuple[Any, ...] = (int, float, dict, list, tuple, bytes, bytearray)
    return next((kind(value) for kind in kinds if isinstance(value, kind)), None)


def _unextend(code: int, data: bytes, depth: int) -> Any:
    known = _EXTENSIONS.get(code)
    if known is None:
        return msgpack.ExtType(code, data)
    if isinstance(known, _Leaf):
        return known.from_bytes(data)
    _check_depth(depth)
    inner = _unpack(data, depth + 1)
    if type(inner) is not list:
        # A range of a billion billion would be as good a source as a list, and never end.
        raise ValueError(f"extension {code} holds no array")
    return known.from_list(inner)


def _unpack(data: bytes, depth: int = 0) -> Any:
    return msgpack.unpackb(data, strict_map_key=False, ext_hook=_UNEXTENDERS[depth])


_EXTENDERS = [partial(_extend, depth=depth) for depth in range(VALUE_NESTING_MAX + 1)]
_UNEXTENDERS = [partial(_unextend, depth=depth) for depth in range(VALUE_NESTING_MAX + 1)]
"""By how many extensions there are around."""


def encode_value(value: object) -> bytes:
    """A result as bytes; TypeError, ValueError or OverflowError where it is not message data."""
    return _pack(value)


def value_encoder() -> Callable[[object], bytes]:
    """As encode_value, ten times as fast on small values because it keeps its buffer; for one thread only."""
    packer: Any = msgpack.Packer(default=_EXTENDERS[0], strict_types=True)
    pack: Callable[[object], bytes] = packer.pack
    return pack


def decode_value(data: bytes) -> Any:
    """A result; MalformedMessage where the bytes are none."""
    try:
        return _unpack(data)
    except (ValueError, TypeError, msgpack.UnpackException, ArithmeticError, RecursionError) as error:
        raise MalformedMessage(f"a value cannot be read: {error}") from None


def encode_item(item: object) -> bytes:
    """An item as bytes: a tuple is positional arguments, a Call both kinds, anything else the single argument.

    ItemRefused names what cannot travel, or the limit and the way out.
    """
    try:
        packed = _pack(_arguments(item))
    except _NOT_DATA as error:
        raise _unsendable(error) from None
    if len(packed) > ITEM_BYTES_MAX:
        raise _too_large(packed)
    return packed


def encode_items(items: Iterable[object]) -> Iterator[bytes]:
    """As encode_item for each, five times as fast on small ones: one buffer, and no call for an item but msgpack's."""
    pack = value_encoder()
    for item in items:
        try:
            packed = pack([item] if type(item) not in _SEVERAL else _arguments(item))
        except _NOT_DATA as error:
            raise _unsendable(error) from None
        if len(packed) > ITEM_BYTES_MAX:
            raise _too_large(packed)
        yield packed


_SEVERAL = frozenset({tuple, Call})
_NOT_DATA = (TypeError, ValueError, OverflowError, RecursionError)


def _arguments(item: object) -> object:
    if type(item) is tuple:
        return list(item)
    if type(item) is Call:
        return {"args": list(item.args), "kwargs": item.kwargs} if item.kwargs else list(item.args)
    return [item]


def _unsendable(error: Exception) -> ItemRefused:
    return ItemRefused(f"the item cannot be sent: {error}; send numbers, text, bytes, lists, dicts, dates")


def _too_large(packed: bytes) -> ItemRefused:
    return ItemRefused(
        f"the item has {len(packed)} bytes, the limit is {ITEM_BYTES_MAX} (item_bytes_max): "
        "put the data into a file or object store and send its path"
    )


def decode_items(payload: bytes | memoryview) -> Iterator[Any]:
    """Items one after the other: each a list (positional) or a dict with `args` and `kwargs`."""
    unpacker: Any = msgpack.Unpacker(max_buffer_size=len(payload), strict_map_key=False, ext_hook=_UNEXTENDERS[0])
    unpacker.feed(payload)
    items: Iterator[Any] = iter(unpacker)
    return items
