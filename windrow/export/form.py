"""Checks the form of a destination, and finds the rows that it cannot hold before any of them is written."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError
from windrow.export.model import Form

pc: Any = pyarrow.compute

ZSTD_LEVEL = 3
TEXT_CODECS = ("", "gzip", "zstd")
PARQUET_CODECS = ("", "snappy", "zstd", "gzip", "none")

_ASCII = "".join(map(chr, range(128)))
_MARKED = {
    "utf-16": ("utf-16-le", b"\xff\xfe"),
    "utf-32": ("utf-32-le", b"\xff\xfe\0\0"),
    "utf-8-sig": ("utf-8", b"\xef\xbb\xbf"),
}
"""Encodings that begin a file with a byte order mark: how everything behind it is written, and the mark."""
_STATEFUL = ("iso2022", "iso-2022", "hz", "utf-7")
"""What a byte means depends on what came before: such files cannot be joined as bytes."""


@dataclass(frozen=True, slots=True)
class Unwritable:
    """A row that the destination cannot hold."""

    row: int
    column: int
    """Among the columns given."""
    value: str
    reason: str


def check_write_form(form: Form) -> None:
    """ExportError for a form that nothing can be written in."""
    if form.kind not in ("csv", "jsonl", "parquet"):
        raise ExportError(f"no format {form.kind!r}: there are csv, jsonl and parquet")
    known = PARQUET_CODECS if form.kind == "parquet" else TEXT_CODECS
    if form.compression not in known:
        raise ExportError(f"no compression {form.compression!r} for {form.kind}: there are {', '.join(known[1:])}")
    if form.kind == "parquet":
        return
    codec = codec_of(form)
    if form.kind != "csv":
        return
    if not form.delimiter:
        raise ExportError("a CSV file needs a delimiter")
    marks = [one for one in (form.delimiter, form.quote, form.escape) if one]
    for mark in marks:
        try:
            mark.encode(codec)
        except UnicodeEncodeError:
            raise ExportError(f"the character {mark!r} is not in {form.encoding}: give another one") from None
        if len(mark) != 1 or mark.isalnum() or mark in "\r\n\0":
            raise ExportError(f"{mark!r} as delimiter, quote or escape: one character, no letter, digit or line end")
    if len(set(marks)) < len(marks):
        raise ExportError("delimiter, quote and escape of a CSV file must be different characters")


def check_names(form: Form, names: Sequence[str]) -> None:
    """ExportError for a column name that the destination cannot hold."""
    bad = (
        find_unwritable(form, [pa.array(["x", name], pa.string()) for name in names]) if form.kind != "parquet" else []
    )
    if bad:
        raise ExportError(f"the column name {bad[0].value!r} cannot be written: {bad[0].reason}; or rename it")


def codec_of(form: Form) -> str:
    """The Python codec for everything behind the byte order mark; ExportError where there is none."""
    name = _python_name(form.encoding)
    codec = _MARKED[name][0] if name in _MARKED else name
    try:
        usable = not codec.startswith(_STATEFUL) and _ASCII.encode(codec).decode(codec) == _ASCII
    except (UnicodeError, LookupError, TypeError):
        usable = False
    if not usable:
        raise ExportError(f"{form.encoding} is no encoding to write: utf-8, utf-16, latin-1, gb18030 and others are")
    return codec


def mark_of(form: Form) -> bytes:
    """The byte order mark; empty for most encodings."""
    return _MARKED.get(_python_name(form.encoding), ("", b""))[1]


def _python_name(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise ExportError(f"no encoding {encoding!r}: utf-8, utf-16, latin-1, gb18030 and others are there") from None


def find_unwritable(form: Form, columns: Sequence[Any]) -> list[Unwritable]:
    """Rows with a value that the destination cannot hold, each once, in their order; they are bad rows.

    That is a character that the encoding does not have and, in CSV without quotes, what only quotes could hold.
    """
    found: dict[int, Unwritable] = {}
    for at, column in enumerate(columns):
        if form.kind == "parquet":
            break
        for row, value, reason in _unwritable(form, column, alone=len(columns) == 1):
            found.setdefault(row, Unwritable(row, at, value, reason))
    return [found[row] for row in sorted(found)]


def without_rows(columns: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    """The columns without these rows."""
    if not rows:
        return list(columns)
    wanted = pc.invert(pc.is_in(pa.array(range(len(columns[0])), pa.int64()), value_set=pa.array(rows, pa.int64())))
    return [column.filter(wanted) for column in columns]


def _unwritable(form: Form, column: Any, *, alone: bool) -> Iterator[tuple[int, str, str]]:
    if form.kind == "csv" and not form.quote:
        yield from _unquotable(form, column, alone=alone)
    codec = codec_of(form)
    if codec.startswith("utf-") or not pa.types.is_string(column.type):
        return
    rows = pc.indices_nonzero(pc.fill_null(pc.invert(pc.string_is_ascii(column)), False))
    values = column.take(rows).to_pylist()
    if _find_missing("".join(values), codec) is None:
        return
    for row, value in zip(rows.to_pylist(), values, strict=True):
        character = _find_missing(value, codec)
        if character is not None:
            yield row, value, f"{form.encoding} has no character {character!r}: write it as utf-8"


def _unquotable(form: Form, column: Any, *, alone: bool) -> Iterator[tuple[int, str, str]]:
    if alone:
        for row in pc.indices_nonzero(pc.fill_null(pc.equal(pc.cast(column, pa.string()), ""), True)).to_pylist():
            yield row, "", "an empty line would be no row: write with quotes"
    if not form.escape:
        marks = f"[\\x{{{ord(form.delimiter):x}}}\\r\\n]"
        text = pc.cast(column, pa.string())
        rows = pc.indices_nonzero(pc.fill_null(pc.match_substring_regex(text, pattern=marks), False))
        for row, value in zip(rows.to_pylist(), text.take(rows).to_pylist(), strict=True):
            yield row, value, "a delimiter or line end in a value needs quotes: write with quotes, or with an escape"


def _find_missing(text: str, codec: str) -> str | None:
    """The first character that the encoding does not have."""
    try:
        text.encode(codec)
    except UnicodeEncodeError as error:
        return text[error.start]
    return None
