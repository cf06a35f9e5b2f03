"""Encodes what users pass and return: msgpack's own types, and a few of Python's as extensions; never code.

An item is an array of positional arguments, or a map {"args": array, "kwargs": map}. A value is any one object.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import datetime
import functools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import msgpack

from windrow.common.errors import ItemRefused, MalformedMessage
from windrow.common.limits import ITEM_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments of one call; made by `windrow.call(*args, **kwargs)`."""

    args: tuple[object, ...]
    kwargs: dict[str, object]


def call(*args: object, **kwargs: object) -> Call:
    """An item with positional and keyword arguments."""
    return Call(args, kwargs)


def _pack(value: object) -> bytes:
    packed = msgpack.packb(value, default=_extend, strict_types=True)
    return bytes(packed or b"")


# Code → (type, to bytes, from bytes). Codes are part of the protocol: add, never change.
_EXTENSIONS: dict[int, tuple[type, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    1: (tuple, lambda v: _pack(list(v)), lambda b: tuple(_unpack(b))),
    2: (set, lambda v: _pack(list(v)), lambda b: set(_unpack(b))),
    3: (frozenset, lambda v: _pack(list(v)), lambda b: frozenset(_unpack(b))),
    4: (datetime.datetime, lambda v: v.isoformat().encode(), lambda b: datetime.datetime.fromisoformat(b.decode())),
    5: (datetime.date, lambda v: v.isoformat().encode(), lambda b: datetime.date.fromisoformat(b.decode())),
    6: (datetime.time, lambda v: v.isoformat().encode(), lambda b: datetime.time.fromisoformat(b.decode())),
    7: (
        datetime.timedelta,
        lambda v: _pack([v.days, v.seconds, v.microseconds]),
        lambda b: datetime.timedelta(*_unpack(b)),
    ),
    8: (Decimal, lambda v: str(v).encode(), lambda b: Decimal(b.decode())),
    9: (uuid.UUID, lambda v: v.bytes, lambda b: uuid.UUID(bytes=b)),
    10: (int, lambda v: str(v).encode(), lambda b: int(b)),
    11: (complex, lambda v: _pack([v.real, v.imag]), lambda b: complex(*_unpack(b))),
    12: (Fraction, lambda v: str(v).encode(), lambda b: Fraction(b.decode())),
    13: (range, lambda v: _pack([v.start, v.stop, v.step]), lambda b: range(*_unpack(b))),
}
_CODE_OF = {kind: code for code, (kind, _, _) in _EXTENSIONS.items()}


def _extend(value: Any) -> Any:
    code = _CODE_OF.get(type(value))
    if code is None:
        plain = _plain_base(value)
        if plain is None:
            raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not message data")
        # msgpack asks `default` once for each object, so a named tuple must become an extension here and now.
        return msgpack.ExtType(1, _EXTENSIONS[1][1](plain)) if type(plain) is tuple else plain
    return msgpack.ExtType(code, _EXTENSIONS[code][1](value))


def _plain_base(value: Any) -> Any:
    """Subclasses of plain types travel as the plain type (enums of str and int, named tuples, ordered dicts, paths)."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    kinds: tuple[Any, ...] = (str, int, float, dict, list, tuple, bytes)
    return next((kind(value) for kind in kinds if isinstance(value, kind)), None)


def _unextend(code: int, data: bytes) -> Any:
    known = _EXTENSIONS.get(code)
    return msgpack.ExtType(code, data) if known is None else known[2](data)


_UNPACK_OPTIONS: dict[str, Any] = {"strict_map_key": False, "ext_hook": _unextend}


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, **_UNPACK_OPTIONS)


def encode_value(value: object) -> bytes:
    """A result as bytes; TypeError, ValueError or OverflowError where it is not message data."""
    return _pack(value)


def value_encoder() -> Callable[[object], bytes]:
    """As encode_value, ten times as fast on small values because it keeps its buffer; for one thread only."""
    packer: Any = msgpack.Packer(default=_extend, strict_types=True)
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
    return _encode_item(item, _pack)


def item_encoder() -> Callable[[object], bytes]:
    """As encode_item, twice as fast on small items because it keeps its buffer; for one thread only."""
    return functools.partial(_encode_item, pack=value_encoder())


def _encode_item(item: object, pack: Callable[[object], bytes]) -> bytes:
    plain: object
    if type(item) is tuple:
        plain = list(item)
    elif isinstance(item, Call):
        plain = {"args": list(item.args), "kwargs": item.kwargs} if item.kwargs else list(item.args)
    else:
        plain = [item]
    try:
        packed = pack(plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ItemRefused(f"the item cannot be sent: {error}; send numbers, text, bytes, lists, dicts, dates") from None
    if len(packed) > ITEM_BYTES_MAX:
        raise ItemRefused(
            f"the item has {len(packed)} bytes, the limit is {ITEM_BYTES_MAX} (item_bytes_max): "
            "put the data into a file or object store and send its path"
        )
    return packed


def decode_items(payload: bytes | memoryview) -> Iterator[Any]:
    """Items one after the other: each a list (positional) or a dict with `args` and `kwargs`."""
    unpacker: Any = msgpack.Unpacker(max_buffer_size=len(payload) or 1, **_UNPACK_OPTIONS)
    unpacker.feed(payload)
    items: Iterator[Any] = iter(unpacker)
    return items
