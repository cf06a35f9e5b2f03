"""Turns frozen dataclasses into msgpack and back, refusing whatever does not fit their annotations.

A message is [version, name, {field: value}]. Fields travel by name: unknown ones are ignored and missing ones take
their default, so that messages grow by adding. Known types: None, bool, int, float, str, bytes, `X | None`,
tuple[X, ...], dict[str, X], NamedTuples (as arrays), StrEnums, dataclasses, and Annotated[X, Between(…) | Longest(…)].
"""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# The one file where untyped data is met; what leaves it is typed.

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgpack

from windrow.common.errors import MalformedMessage, ProtocolMismatch
from windrow.common.limits import MESSAGE_BYTES_MAX, PROTOCOL_VERSION

M = TypeVar("M")
_packb: Any = msgpack.packb
_SHOWN_CHARS_MAX = 64
"""Of what strangers wrote, in a message of ours."""
_Check = Callable[[Any], Any]
"""The value as its annotation says, or _Misfit."""


class _Misfit(Exception):
    """A value that does not fit. Where it stood is put together on the way out, so that what fits pays nothing."""

    def __init__(self, what: str) -> None:
        self.path = ""
        self.what = what


@dataclass(frozen=True, slots=True)
class Between:
    """Lowest and highest value of a number, both allowed."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Longest:
    """Most characters, bytes or entries."""

    length: int


class MessageSet(Generic[M]):
    """The messages that one direction of one channel may carry."""

    def __init__(self, *kinds: type[M]) -> None:
        self._kinds: dict[str, type[M]] = {kind.__name__: kind for kind in kinds}

    def encode(self, message: M) -> bytes:
        """The message as bytes; MalformedMessage where a field cannot travel, or it is beyond MESSAGE_BYTES_MAX."""
        name = type(message).__name__
        if name not in self._kinds:
            raise TypeError(f"{name} does not belong to this direction")
        try:
            packed: bytes = _packb([PROTOCOL_VERSION, name, _BRIEF.plain(message)])
        except (TypeError, ValueError, OverflowError) as error:
            # Fields may hold what a user gave: a name with half a character in it, a number of 100 bits.
            raise MalformedMessage(f"{name} cannot be sent: {error}") from None
        if len(packed) > MESSAGE_BYTES_MAX:
            raise MalformedMessage(f"{name} has {len(packed)} bytes; at most {MESSAGE_BYTES_MAX} travel in one message")
        return packed

    def decode(self, data: bytes) -> M:
        """The message in `data`; ProtocolMismatch for another version, MalformedMessage for whatever is off."""
        if len(data) > MESSAGE_BYTES_MAX:
            raise MalformedMessage(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX} are read")
        try:
            parts = msgpack.unpackb(data, use_list=False, strict_map_key=True)
        except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
            raise MalformedMessage(f"not msgpack: {str(error) or type(error).__name__}") from None
        if not isinstance(parts, tuple) or len(parts) != 3 or type(parts[0]) is not int:
            raise MalformedMessage("a message is [version, name, fields]")
        version, name, fields = parts
        if version != PROTOCOL_VERSION:
            raise ProtocolMismatch(f"the other side speaks protocol version {version}, this one {PROTOCOL_VERSION}")
        kind = self._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise MalformedMessage(f"no message named {str(name)[:_SHOWN_CHARS_MAX]!r} travels in this direction")
        return _checked(_check_for(kind), fields, kind)


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_Maker = Callable[[Any], Any]


class _Table:
    """How a value of each type is made plain, found out once."""

    def __init__(self, *, brief: bool) -> None:
        """`brief`: without the fields that have their default, which are then neither sent nor checked."""
        self._brief = brief
        self._makers: dict[type, _Maker] = {}

    def plain(self, value: Any) -> Any:
        """The value as msgpack and JSON can carry it."""
        kind = type(value)
        if kind in _SCALARS:
            return value
        maker = self._makers.get(kind)
        if maker is None:
            maker = self._makers[kind] = self._make_maker(kind)
        return maker(value)

    def _make_maker(self, kind: type) -> _Maker:
        inner = self.plain
        if dataclasses.is_dataclass(kind):
            if self._brief:
                defaults = [(field.name, field.default) for field in dataclasses.fields(kind)]
                # By identity: enough for (), "", None, False and small numbers, and what it misses is sent, as right.
                return lambda value: {
                    name: inner(given) for name, default in defaults if (given := getattr(value, name)) is not default
                }
            names = [field.name for field in dataclasses.fields(kind)]
            return lambda value: {name: inner(getattr(value, name)) for name in names}
        if kind is tuple:
            # Most tuples hold scalars and pass as they are; the first entry decides for all (tuple[X, ...]).
            return lambda value: value if not value or type(value[0]) in _SCALARS else [inner(entry) for entry in value]
        if issubclass(kind, tuple):
            return lambda value: tuple([inner(entry) for entry in value])
        if kind is dict:
            return lambda value: {key: inner(entry) for key, entry in value.items()}
        if issubclass(kind, str):
            # StrEnums, and what users call text: the characters, whatever `str(value)` would say.
            return str.__str__
        raise TypeError(f"{kind.__name__} is not message data")


_WHOLE, _BRIEF = _Table(brief=False), _Table(brief=True)


def to_plain(value: object) -> Any:
    """A dataclass as msgpack and JSON can carry it: dicts, lists, numbers, strings, bytes."""
    return _WHOLE.plain(value)


def decoder_for(kind: type[M]) -> Callable[[Any], M]:
    """A function that builds `kind` from plain data (as to_plain gives it) or raises MalformedMessage."""
    check = _check_for(kind)
    return lambda data: _checked(check, data, kind)


def _checked(check: _Check, data: Any, kind: type[M]) -> M:
    try:
        made: M = check(data)
    except _Misfit as misfit:
        raise MalformedMessage(f"{kind.__name__}{misfit.path}: {misfit.what}") from None
    return made


def _make_check(kind: Any) -> _Check:
    if hasattr(kind, "__supertype__"):
        return _check_for(kind.__supertype__)
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _annotated(*typing.get_args(kind))
    if origin in (types.UnionType, typing.Union):
        return _union(typing.get_args(kind))
    if origin is tuple:
        return _entries(typing.get_args(kind)[0])
    if origin is dict:
        return _table(typing.get_args(kind)[1])
    if kind in (bool, int, str, bytes):
        return _exactly(kind)
    if kind is float:
        return _float
    if isinstance(kind, type):
        if issubclass(kind, StrEnum):
            return _enum(kind)
        if dataclasses.is_dataclass(kind):
            return _dataclass(kind)
        if hasattr(kind, "_fields"):
            return _named_tuple(kind)
    raise TypeError(f"the codec does not know {kind!r}")


_check_for: Callable[[Any], _Check] = functools.cache(_make_check)


def _wrong(expected: str, value: object) -> _Misfit:
    return _Misfit(f"expected {expected}, got {type(value).__name__}")


def _exactly(kind: type) -> _Check:
    name = kind.__name__

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise _wrong(name, value)
        return value

    return check


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _Misfit("a number too large for a float") from None
    raise _wrong("float", value)


def _enum(kind: type[StrEnum]) -> _Check:
    def check(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise _Misfit(f"{str(value)[:_SHOWN_CHARS_MAX]!r} is none of {', '.join(kind)}") from None

    return check


def _annotated(kind: Any, *rules: Between | Longest) -> _Check:
    check = _check_for(kind)
    for rule in rules:
        check = _between(check, rule.low, rule.high) if isinstance(rule, Between) else _longest(check, rule.length)
    return check


def _between(inner: _Check, low: float, high: float) -> _Check:
    def check(value: Any) -> Any:
        got = inner(value)
        if got is not None and not low <= got <= high:
            raise _Misfit(f"{got} is not between {low:g} and {high:g}")
        return got

    return check


def _longest(inner: _Check, length: int) -> _Check:
    def check(value: Any) -> Any:
        got = inner(value)
        if got is not None and len(got) > length:
            raise _Misfit(f"{len(got)} long; at most {length}")
        return got

    return check


def _union(kinds: tuple[Any, ...]) -> _Check:
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) != 1:
        raise TypeError("the codec knows X | None and no other union")
    inner = _check_for(others[0])

    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def _entries(kind: Any) -> _Check:
    inner = _check_for(kind)

    def check(value: Any) -> Any:
        if type(value) is not tuple and type(value) is not list:
            raise _wrong("array", value)
        return tuple([inner(entry) for entry in value])

    return check


def _table(kind: Any) -> _Check:
    inner = _check_for(kind)

    def check(value: Any) -> Any:
        if type(value) is not dict or not all(type(key) is str for key in value):
            raise _wrong("map with string keys", value)
        found: dict[str, Any] = {}
        for key, entry in value.items():
            try:
                found[key] = inner(entry)
            except _Misfit as misfit:
                misfit.path = f".{key[:_SHOWN_CHARS_MAX]}{misfit.path}"
                raise
        return found

    return check


def _named_tuple(kind: Any) -> _Check:
    hints = typing.get_type_hints(kind, include_extras=True)
    inner = [_check_for(hints[name]) for name in kind._fields]

    def check(value: Any) -> Any:
        if not isinstance(value, (tuple, list)) or len(value) != len(inner):
            raise _wrong(f"array of {len(inner)}", value)
        return kind(*(one(entry) for one, entry in zip(inner, value, strict=True)))

    return check


def _dataclass(kind: Any) -> _Check:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    inner = {field.name: _check_for(hints[field.name]) for field in fields}
    required = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise _wrong("map", value)
        found: dict[str, Any] = {}
        for name, entry in value.items():
            one = inner.get(name)
            if one is not None:
                try:
                    found[name] = one(entry)
                except _Misfit as misfit:
                    misfit.path = f".{name}{misfit.path}"
                    raise
        if not required <= found.keys():
            raise _Misfit(f"{', '.join(sorted(required - found.keys()))} missing")
        return kind(**found)

    return check
