"""Reads JSON Lines into columns, and puts aside the lines that are no JSON object.

pyarrow reads what is as the plan expects it: one object a line, each value of its column's kind. Everything else is
read line by line, where each value becomes text (a number as it is written, an object or array as its JSON text) and is
cast like text of a CSV. Both give the same rows, but for lines that are wrong only in a key that no column wants: NaN,
or arrays nested a thousand deep, are bad rows only where the lines are read one by one.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import json
import json.decoder
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute
import pyarrow.json

from windrow.export.casting import arrow_type
from windrow.export.inference import UNKNOWN, join, narrowest
from windrow.export.rows import BadRow, Rows, TextPlaces, line_places, undecodable
from windrow.export.types import TEXT

pc: Any = pyarrow.compute
arrow_json: Any = pyarrow.json

UTF8 = "utf-8"
_FAST = {"int64", "int32", "float64", "float32", "bool"}
_ROUNDED = 1e15
"""From here on a whole number may have more digits than a double holds."""
_LINES_AT_ONCE = 500
"""Objects of more lines than that fit no cache."""
_SPACE = re.compile(r"[ \t\r\n]*")
_json_decoder: Any = json.decoder
_TIMES = ("date", "timestamp", "timestamptz")


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


class _NoRow(Exception):
    """Why a line is no row."""


def _refuse(name: str) -> NoReturn:
    raise _NoRow(f"it is no JSON: {name} is no value")


_reader = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_refuse)
_teller = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_refuse)
"""Tells numbers from texts, and takes longer."""


def read_jsonl(
    data: bytes, *, wanted: Mapping[int, tuple[str, str]], first_line: int, source: str = "", codec: str = UTF8
) -> Rows:
    """The wanted columns, by index (name, type); a column is of its type already, or text that is yet to be cast."""
    places = line_places(data, first_line, codec)
    columns = _read_at_once(data, wanted, codec)
    if columns is not None:
        count = len(next(iter(columns.values()))) if columns else len(places)
        return Rows(columns, count, [], places, (), source)
    return _read_lines(wanted, places, source, codec)


def _read_at_once(data: bytes, wanted: Mapping[int, tuple[str, str]], codec: str) -> dict[int, Any] | None:
    """None where that does not do."""
    types = {index: kind if kind in _FAST else TEXT for index, (_, kind) in wanted.items()}
    if not wanted or any(kind.startswith("decimal") for _, kind in wanted.values()):
        return None
    try:
        text = data if codec == UTF8 and data.isascii() else data.decode(codec).encode()
    except UnicodeDecodeError:
        return None
    text = text.strip(b" \t\r\n")
    lines = text.count(b"\n") + 1
    # With that, and as many objects as lines, each line is one object.
    if not text.startswith(b"{") or text.count(b"}\n{") + text.count(b"}\r\n{") != lines - 1:
        return None
    schema = pa.schema([(name, arrow_type(types[index])) for index, (name, _) in wanted.items()])
    try:
        table = arrow_json.read_json(
            pa.BufferReader(text),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != lines:
        return None
    columns = {index: _one_chunk(table.column(name)) for index, (name, _) in wanted.items()}
    exact = all(_is_exact(column) for index, column in columns.items() if types[index].startswith("float"))
    return columns if exact else None


def _one_chunk(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_exact(numbers: Any) -> bool:
    # Comparisons with what is no number are false.
    return bool(pc.all(pc.less(pc.abs(numbers), _ROUNDED), min_count=0).as_py())


def _read_lines(wanted: Mapping[int, tuple[str, str]], places: TextPlaces, source: str, codec: str) -> Rows:
    lines: list[str] = []
    objects: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    removed: list[int] = []
    texts: dict[int, list[str | None]] = {index: [] for index in wanted}
    count = 0
    for ordinal in range(len(places)):
        try:
            line, values = _parse_line(places.bytes(ordinal), codec, _reader)
        except _NoRow as error:
            removed.append(ordinal)
            bad.append(BadRow(places.line(ordinal), "", "", str(error), places.text(ordinal)))
            continue
        count += 1
        lines.append(line)
        objects.append(values)
        if len(lines) == _LINES_AT_ONCE:
            _add_texts(texts, wanted, objects, lines)
            lines, objects = [], []
    _add_texts(texts, wanted, objects, lines)
    columns = {index: pa.array(column, pa.string()) for index, column in texts.items()}
    return Rows(columns, count, bad, places, removed, source)


def _add_texts(
    texts: dict[int, list[str | None]],
    wanted: Mapping[int, tuple[str, str]],
    objects: list[dict[str, Any]],
    lines: list[str],
) -> None:
    for index, (name, kind) in wanted.items():
        texts[index] += _column_texts(name, kind, objects, lines)


def _parse_line(data: bytes, codec: str, decoder: json.JSONDecoder) -> tuple[str, dict[str, Any]]:
    try:
        line = data.decode(codec).strip(" \t\r\n")
    except UnicodeDecodeError as error:
        raise _NoRow(undecodable(error)) from None
    try:
        values, end = decoder.raw_decode(line)
    except json.JSONDecodeError as error:
        raise _NoRow(f"it is no JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}") from None
    except RecursionError:
        raise _NoRow("its objects and arrays are nested too deeply") from None
    if not isinstance(values, dict):
        raise _NoRow("it is no JSON object")
    if end != len(line):
        raise _NoRow(f"more than one JSON object stands in it: character {end + 1} is behind the first one")
    if "\\u" in line:
        try:
            json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _NoRow("it has half of a surrogate pair, which is no character") from None
    return line, values


def _column_texts(name: str, kind: str, objects: list[dict[str, Any]], lines: list[str]) -> list[str | None]:
    """A key's values as text."""
    values: list[Any] = [found.get(name) for found in objects]
    kinds = set(map(type, values))
    if bool in kinds:
        values = [("true" if value else "false") if type(value) is bool else value for value in values]
    if dict in kinds or list in kinds:
        nested = (dict, list)
        values = [
            _raw_values(line)[name] if isinstance(value, nested) else value
            for value, line in zip(values, lines, strict=True)
        ]
    if kind.startswith("int") and "-0" in values:
        # A number is judged by its value: -0 is a whole number, and "-0" a text that is none.
        values = [
            "0" if value == "-0" and _raw_values(line)[name] == "-0" else value
            for value, line in zip(values, lines, strict=True)
        ]
    return values


def _raw_values(line: str) -> dict[str, str]:
    """The source text of each value of an object that is known to be one."""
    found: dict[str, str] = {}
    at = _skip(line, 1)
    while line[at] != "}":
        name, at = _json_decoder.scanstring(line, at + 1)
        start = _skip(line, _skip(line, at) + 1)
        _, stop = _reader.raw_decode(line, start)
        found[name] = line[start:stop]
        at = _skip(line, stop)
        if line[at] == ",":
            at = _skip(line, at + 1)
    return found


def _skip(line: str, at: int) -> int:
    found = _SPACE.match(line, at)
    return found.end() if found else at


def jsonl_states(data: bytes, *, codec: str = UTF8) -> dict[str, str]:
    """The state of each key's values (inference.py), in order of first appearance; lines that are no row aside.

    A number is int64 or float64; a text is a date or time where it looks like one, and text else, for JSON has no dates
    but has numbers. An object or array is text.
    """
    numbers: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    states: dict[str, str] = {}
    for values in _objects(data, codec):
        for name, value in values.items():
            state = states.setdefault(name, UNKNOWN)
            if value is None or state == TEXT:
                continue
            if type(value) is _Number:
                numbers.setdefault(name, []).append("0" if value == "-0" else str(value))
            elif type(value) is str:
                texts.setdefault(name, []).append(value)
            else:
                states[name] = join(state, "bool" if isinstance(value, bool) else TEXT)
    for name, found in numbers.items():
        states[name] = join(states[name], narrowest(pa.array(found, pa.string())))
    for name, found in texts.items():
        state = narrowest(pa.array(found, pa.string()))
        kept = "|".join(part for part in state.split("|") if part in _TIMES)
        states[name] = join(states[name], UNKNOWN if state == UNKNOWN else kept or TEXT)
    return states


def _objects(data: bytes, codec: str) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        if line.strip():
            try:
                yield _parse_line(line, codec, _teller)[1]
            except _NoRow:
                continue
