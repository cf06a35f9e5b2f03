"""Rows as the readers give them: columns, the rows that cannot be read, and where in the source each row stands.

A row of text begins where pyarrow's reader sees one begin: lines that are empty are no rows, a quote opens only where
a field begins, and `\\r`, `\\n` and `\\r\\n` end rows. Lines are counted by `\\n`, inside quotes and out.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute

from windrow.export.model import Form

pc: Any = pyarrow.compute
arrow_types: Any = pa.types

TEXT_CHARACTERS_MAX = 10_000
"""Of a bad row's text."""
NEWLINE = b"\n"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that does not go into the output, and why."""

    line: int
    """Of the source (text), or the number of the row (Parquet), from 1 on."""
    column: str
    """Empty: the whole row."""
    value: str
    reason: str
    text: str
    """The row as it stands in the source, cut."""


class RowPlaces(Protocol):
    """Where rows stand in the source; rows are counted from 0 on, those that cannot be read included."""

    def line(self, ordinal: int) -> int:
        """The line in which the row begins."""
        ...

    def text(self, ordinal: int) -> str:
        """The row as it stands in the source, cut."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns by their index in the source, all of one length; each one contiguous array."""

    columns: dict[int, Any]
    count: int
    bad: list[BadRow]
    """In source order."""
    places: RowPlaces
    removed: Sequence[int] = ()
    """Ordinals of the bad rows, ascending: they are not in the columns."""
    source: str = ""
    """The file's name, for messages."""

    def ordinal(self, row: int) -> int:
        """The number of this row (both from 0 on) when the bad ones are counted too."""
        # removed[at] - at rows stand before the removed row number `at`.
        removed = self.removed
        return row + bisect_left(range(len(removed)), row + 1, key=lambda at: removed[at] - at)

    def line(self, row: int) -> int:
        """The line of the source in which this row (from 0 on) begins."""
        return self.places.line(self.ordinal(row))

    def text(self, row: int) -> str:
        """This row as it stands in the source, cut."""
        return self.places.text(self.ordinal(row))


class TextPlaces:
    """Rows of text, found when first asked for: that takes longer than reading them."""

    def __init__(
        self, data: bytes, pattern: re.Pattern[bytes], first_line: int, codec: str, *, blank_rows: bool = True
    ) -> None:
        self._data = data
        self._blank_rows = blank_rows
        self._pattern = pattern
        self._first_line = first_line
        self._codec = codec
        self._starts = array("q")
        self._stops = array("q")
        self._lines = array("q")
        self._closed = True
        self._found = False

    def line(self, ordinal: int) -> int:
        """The line in which the row begins."""
        self._find()
        return self._lines[ordinal]

    def text(self, ordinal: int) -> str:
        """The row as it stands in the source; bytes that are no characters are shown as `\\xff`."""
        data = self.bytes(ordinal)[: 4 * TEXT_CHARACTERS_MAX + 4]
        return data.decode(self._codec, "backslashreplace")[:TEXT_CHARACTERS_MAX]

    def bytes(self, ordinal: int) -> bytes:
        """The row's bytes without its line end."""
        self._find()
        data = self._data[self._starts[ordinal] : self._stops[ordinal]]
        return data if self._blank_rows else data.rstrip(b"\r")

    def __len__(self) -> int:
        self._find()
        return len(self._starts)

    @property
    def closed(self) -> bool:
        """The last row's last quote is closed."""
        self._find()
        return self._closed

    def _find(self) -> None:
        if self._found:
            return
        self._found = True
        data, before, line = self._data, 0, self._first_line
        last = None
        for last in self._pattern.finditer(data):
            start, stop = last.span()
            if not self._blank_rows and not data[start:stop].strip():
                continue
            line += data.count(NEWLINE, before, start)
            before = start
            self._starts.append(start)
            self._stops.append(stop)
            self._lines.append(line)
        self._closed = last is None or last.lastindex is None


def csv_places(data: bytes, form: Form, first_line: int, codec: str = "utf-8") -> TextPlaces:
    """Where the rows of CSV stand."""
    quote = form.quote if form.quote.encode() in data else ""
    escape = form.escape if form.escape.encode() in data else ""
    return TextPlaces(data, _csv_row(form.delimiter, quote, escape), first_line, codec)


@lru_cache
def _csv_row(delimiter: str, quote: str, escape: str) -> re.Pattern[bytes]:
    """One row without its line end; a group matches where its last quote is never closed."""
    comma, mark, hide = (re.escape(text.encode()) for text in (delimiter, quote, escape))
    # Possessive throughout, so that no byte is looked at twice.
    escaped = rb"|" + hide + rb"(?s:.)?" if hide else b""
    if not mark:
        # Without quotes a delimiter ends nothing that matters here.
        return re.compile(rb"(?:[^\r\n" + hide + rb"]++" + escaped + rb")++")
    plain = rb"(?:[^\r\n" + comma + hide + rb"]++" + escaped + rb")*+"
    quoted = mark + rb"(?:[^" + mark + hide + rb"]++|" + mark + mark + escaped + rb")*+(?:" + mark + rb"|(\Z))"
    field = rb"(?:" + quoted + rb")?+" + plain
    return re.compile(rb"(?=[^\r\n])" + field + rb"(?:" + comma + field + rb")*+")


_LINE = re.compile(rb"[^\n]++")


def line_places(data: bytes, first_line: int, codec: str = "utf-8") -> TextPlaces:
    """Where the rows of JSON Lines stand: every line that is more than white space is one."""
    return TextPlaces(data, _LINE, first_line, codec, blank_rows=False)


@dataclass(frozen=True, slots=True)
class CountedPlaces:
    """Rows that have numbers and no lines."""

    first: int
    names: Sequence[str]
    columns: Sequence[Any]

    def line(self, ordinal: int) -> int:
        """The row's number in its file."""
        return self.first + ordinal

    def text(self, ordinal: int) -> str:
        """The row's columns that were read, as JSON."""
        shown = {name: plain_value(column, ordinal) for name, column in zip(self.names, self.columns, strict=True)}
        return json.dumps(shown, ensure_ascii=False)[:TEXT_CHARACTERS_MAX]


def plain_value(column: Any, row: int) -> str | int | float | None:
    """A value of a column as JSON has it; times and decimals as text."""
    kind = column.type
    one = column.slice(row, 1)
    if arrow_types.is_dictionary(kind) or one.null_count:
        return None if one.null_count else plain_value(one.dictionary_decode(), 0)
    zone = ""
    if arrow_types.is_timestamp(kind) and kind.tz is not None:
        # The same instant as UTC has it; Arrow shows odd ones rightly only where there is no zone.
        one, zone = pc.cast(pc.cast(one, pa.int64()), pa.timestamp(kind.unit)), "Z"
    if arrow_types.is_temporal(kind) or arrow_types.is_decimal(kind):
        # Python's own times know neither nanoseconds nor all the years that Arrow knows.
        return str(pc.cast(one, pa.string())[0].as_py()) + zone
    value: Any = one[0].as_py()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


_KEPT_NUMBERS = 1 << 20


def row_numbers(count: int) -> Any:
    """0, 1, 2 … as an int64 column, without a number in Python for each row."""
    return (_first_numbers() if count <= _KEPT_NUMBERS else _numbers(count)).slice(0, count)


@lru_cache
def _first_numbers() -> Any:
    """Enough for most segments, each of which wants them."""
    return _numbers(_KEPT_NUMBERS)


def _numbers(count: int) -> Any:
    return pc.subtract(pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count)), 1)


def undecodable(error: UnicodeDecodeError) -> str:
    """Why a row that is one piece of bytes cannot be read."""
    return f"its byte {error.start + 1} ({error.object[error.start]:#04x}) belongs to no character of {error.encoding}"


def shown_value(value: str, most: int = 60) -> str:
    """A value for a message."""
    return repr(value if len(value) <= most else value[:most] + "…")
