"""Reads and writes Thrift's compact protocol without a schema, so that fields that we do not know stay as they are.

Parquet keeps its footer and its page indexes in this form: <https://parquet.apache.org/docs/file-format/metadata/>.
What was read and is written again has the same bytes, as long as it was encoded in the shortest way, as all known
writers do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias, cast

from windrow.common.errors import ExportError

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
"""The kinds of values. A field's truth is its kind; in lists and maps a truth value is a byte, kept as a number."""

DEPTH_MAX = 64
"""Structs and lists inside each other, before data count as damaged."""

_INTEGERS = (I16, I32, I64)


@dataclass(frozen=True, slots=True)
class Items:
    """A list or a set."""

    kind: int
    values: list[Value]


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map."""

    key_kind: int
    value_kind: int
    pairs: list[tuple[Value, Value]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value that has been encoded before."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct: kind and value of each field by its number, in the order in which they stand."""

    fields: dict[int, tuple[int, Value]]

    def find_int(self, number: int) -> int | None:
        """A whole number; None where the field is not set."""
        value = self._find(number, _INTEGERS)
        return None if value is None else cast(int, value)

    def get_int(self, number: int) -> int:
        return cast(int, self._get(number, _INTEGERS))

    def get_struct(self, number: int) -> Struct:
        return cast(Struct, self._get(number, (STRUCT,)))

    def get_structs(self, number: int) -> list[Struct]:
        """The elements of a list of structs."""
        items = cast(Items, self._get(number, (LIST,)))
        if items.kind != STRUCT and items.values:
            raise ExportError(f"field {number} is no list of structs")
        return cast(list[Struct], items.values)

    def set_int(self, number: int, value: int) -> None:
        """Give a field that is there another number."""
        self.fields[number] = (self.fields[number][0], value)

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            self.fields.pop(number, None)

    def _find(self, number: int, kinds: tuple[int, ...]) -> Value | None:
        if number not in self.fields:
            return None
        kind, value = self.fields[number]
        if kind not in kinds:
            raise ExportError(f"field {number} has the wrong type")
        return value

    def _get(self, number: int, kinds: tuple[int, ...]) -> Value:
        value = self._find(number, kinds)
        if value is None:
            raise ExportError(f"field {number} is missing")
        return value


Value: TypeAlias = int | float | bytes | Items | Pairs | Encoded | Struct


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────


def decode(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """The struct that begins at `at`, and where it ends. ExportError for anything that is none."""
    try:
        return _read_struct(data, at, DEPTH_MAX)
    except IndexError:
        raise ExportError("its metadata end too early") from None


def _read_struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    _check_depth(depth)
    fields: dict[int, tuple[int, Value]] = {}
    number = 0
    while head := data[at]:
        at += 1
        kind = head & 0x0F
        if head >> 4:
            number += head >> 4
        else:
            number, at = _read_int(data, at)
        if number in fields or not -0x8000 <= number < 0x8000:
            raise ExportError(f"its metadata have field {number} twice, or out of range")
        if kind <= FALSE:
            if not kind:
                raise ExportError("its metadata have a field without a type")
            fields[number] = (kind, kind == TRUE)
        else:
            value, at = _read_value(data, at, kind, depth)
            fields[number] = (kind, value)
    return Struct(fields), at + 1


def _read_value(data: bytes, at: int, kind: int, depth: int) -> tuple[Value, int]:
    if I16 <= kind <= I64:
        return _read_int(data, at)
    if kind == BINARY:
        size, at = _read_varint(data, at)
        return _read_bytes(data, at, size)
    if kind == STRUCT:
        return _read_struct(data, at, depth - 1)
    if kind in (LIST, SET):
        return _read_items(data, at, depth - 1)
    if TRUE <= kind <= BYTE:
        return data[at], at + 1
    if kind == DOUBLE:
        raw, at = _read_bytes(data, at, 8)
        number: float = struct.unpack("<d", raw)[0]
        return number, at
    if kind == MAP:
        return _read_pairs(data, at, depth - 1)
    if kind == UUID:
        return _read_bytes(data, at, 16)
    raise ExportError(f"its metadata have the unknown type {kind}")


def _read_items(data: bytes, at: int, depth: int) -> tuple[Items, int]:
    _check_depth(depth)
    size, kind = data[at] >> 4, data[at] & 0x0F
    at += 1
    if size == 15:
        size, at = _read_varint(data, at)
    # A wild size ends with the data, for no element has less than a byte.
    values: list[Value] = []
    for _ in range(size):
        value, at = _read_value(data, at, kind, depth)
        values.append(value)
    return Items(kind, values), at


def _read_pairs(data: bytes, at: int, depth: int) -> tuple[Pairs, int]:
    _check_depth(depth)
    size, at = _read_varint(data, at)
    if not size:
        return Pairs(0, 0, []), at
    key_kind, value_kind = data[at] >> 4, data[at] & 0x0F
    at += 1
    pairs: list[tuple[Value, Value]] = []
    for _ in range(size):
        key, at = _read_value(data, at, key_kind, depth)
        value, at = _read_value(data, at, value_kind, depth)
        pairs.append((key, value))
    return Pairs(key_kind, value_kind, pairs), at


def _check_depth(depth: int) -> None:
    if not depth:
        raise ExportError("its metadata are nested too deeply")


def _read_bytes(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise IndexError
    return bytes(data[at : at + size]), at + size


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    raw, at = _read_varint(data, at)
    return (raw >> 1) ^ -(raw & 1), at


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    if (byte := data[at]) < 0x80:
        # Most are so small.
        return byte, at + 1
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            break
    if byte >= 0x80 or value >> 64:
        raise ExportError("its metadata have a number of more than 64 bits")
    return value, at


# ── Writing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def encode(value: Struct) -> bytes:
    """The struct's bytes."""
    out = bytearray()
    _write_struct(out, value)
    return bytes(out)


def encode_field(value: Struct, number: int) -> bytes:
    """A struct of this field alone; nothing where it is not set."""
    return encode(Struct({number: value.fields[number]})) if number in value.fields else b""


def _write_struct(out: bytearray, value: Struct) -> None:
    last = 0
    for number, (kind, content) in value.fields.items():
        step = number - last
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _write_int(out, number)
        last = number
        if kind > FALSE:
            _write_value(out, kind, content)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Value) -> None:
    if isinstance(value, int):
        # Most are, and asking for each kind in turn takes longest for the last one.
        if kind <= BYTE:
            out.append(value)
        else:
            _write_int(out, value)
        return
    match value:
        case Struct():
            _write_struct(out, value)
        case Encoded():
            out += value.data
        case bytes():
            if kind == BINARY:
                _write_varint(out, len(value))
            out += value
        case Items():
            size = len(value.values)
            out.append(min(size, 15) << 4 | value.kind)
            if size >= 15:
                _write_varint(out, size)
            for item in value.values:
                _write_value(out, value.kind, item)
        case Pairs():
            _write_varint(out, len(value.pairs))
            if value.pairs:
                out.append(value.key_kind << 4 | value.value_kind)
            for key, content in value.pairs:
                _write_value(out, value.key_kind, key)
                _write_value(out, value.value_kind, content)
        case float():
            out += struct.pack("<d", value)


def _write_int(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else ~(value << 1))


def _write_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
