"""Turns columns of text into typed columns, exactly or not at all, and finds the type that fits a sample.

Two degrees: a type that the plan has found is *strict* (only what this type would write itself, so `007` is no
number); a type that the user has asked for with --cast is taken at its word (`007`, ` 5 ` and `+5` are numbers).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.export.types import INFERRED, NULL_MARKS, TEXT, decimal_digits

pc: Any = pyarrow.compute

_ARROW: dict[str, Any] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
_TRUE_ASKED = ("true", "t", "yes", "y", "on", "1")
_FALSE_ASKED = ("false", "f", "no", "n", "off", "0")
_ZONE = r":\d{2}(\.\d+)?(Z|z|[+-]\d{2}(:?\d{2})?)$"
_NOT_STRICTLY_A_NUMBER = r"^[+-]?0[0-9]|^\+|^-?[0-9]{16,}$"
"""Leading zeros and plus signs mean text (codes, telephone numbers); so do whole numbers that a double would round."""


class BadValue(Exception):
    """The value in this row (from 0 on) does not fit; it never leaves the export."""

    def __init__(self, row: int, value: str) -> None:
        super().__init__(f"row {row}: {value!r}")
        self.row = row
        self.value = value


def arrow_type(name: str) -> Any:
    """The Arrow type of a type's name."""
    digits = decimal_digits(name)
    return _ARROW[name] if digits is None else pa.decimal128(*digits)


def to_type(text: Any, name: str, *, strict: bool) -> Any:
    """The column as this type, nulls where there is no value; BadValue for the first row that does not fit."""
    if name == TEXT:
        return text
    trimmed = text if strict else pc.utf8_trim_whitespace(text)
    trimmed = _blanked(trimmed)
    try:
        values = _convert(trimmed, name, strict=strict)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        bad = _first_unconvertible(trimmed, name, strict=strict)
        if bad:
            # An earlier row may be convertible and still not fit.
            to_type(text.slice(0, bad), name, strict=strict)
        raise BadValue(bad, text[bad].as_py()) from None
    row = _first_true(_refused(trimmed, values, name, strict=strict))
    if row is not None:
        raise BadValue(row, text[row].as_py())
    return values


def find_type(samples: list[Any]) -> str:
    """The narrowest type that every value of the samples fits strictly; text where there are no values to go by."""
    text = pa.chunked_array(samples, pa.string()).combine_chunks()
    if _blanked(text).null_count == len(text):
        return TEXT
    for name in INFERRED:
        try:
            to_type(text, name, strict=True)
        except BadValue:
            continue
        return name
    return TEXT


def to_text(values: Any) -> Any:
    """A typed column as CSV shows it."""
    if pa.types.is_string(values.type):
        return values
    text = pc.cast(values, pa.string())
    if pa.types.is_timestamp(values.type):
        text = pc.replace_substring_regex(text, pattern=r"\.000000(Z?)$", replacement=r"\1")
    return text


def _blanked(text: Any) -> Any:
    blank = pc.is_in(text, value_set=pa.array(NULL_MARKS, pa.string()))
    return pc.if_else(blank, pa.scalar(None, pa.string()), text) if pc.any(blank).as_py() else text


def _convert(text: Any, name: str, *, strict: bool) -> Any:
    if name == "bool":
        return _to_bool(text, strict=strict)
    if strict:
        return pc.cast(text, arrow_type(name))
    if name in ("timestamp", "timestamptz"):
        return _to_instant(text, name)
    if name.startswith(("int", "float")):
        text = pc.replace_substring_regex(text, pattern=r"^\+([0-9.])", replacement=r"\1")
    return pc.cast(text, arrow_type(name))


def _to_bool(text: Any, *, strict: bool) -> Any:
    shown = text if strict else pc.utf8_lower(text)
    true = pc.is_in(shown, value_set=pa.array(_TRUE if strict else _TRUE_ASKED))
    false = pc.is_in(shown, value_set=pa.array(_FALSE if strict else _FALSE_ASKED))
    if not pc.all(pc.or_(pc.or_(true, false), pc.is_null(text)), min_count=0).as_py():
        raise pa.ArrowInvalid("not a truth value")
    return pc.if_else(pc.is_null(text), pa.scalar(None, pa.bool_()), true)


def _to_instant(text: Any, name: str) -> Any:
    """Values with a zone become UTC, values without one are taken as they stand: of both types, whichever is asked."""
    zoned = pc.fill_null(pc.match_substring_regex(text, pattern=_ZONE), False)
    nothing = pa.scalar(None, pa.string())
    with_zone = pc.cast(pc.if_else(zoned, text, nothing), _ARROW["timestamptz"])
    without = pc.cast(pc.if_else(zoned, nothing, text), _ARROW["timestamp"])
    wanted = _ARROW[name]
    # Both are microseconds since 1970, so that reading one as the other changes no number.
    return pc.coalesce(pc.cast(pc.cast(without, pa.int64()), wanted), pc.cast(pc.cast(with_zone, pa.int64()), wanted))


def _refused(text: Any, values: Any, name: str, *, strict: bool) -> Any:
    """Where pyarrow took more than the type means; None for nowhere."""
    if name.startswith("int"):
        if strict:
            return pc.not_equal(pc.cast(values, pa.string()), text)
        return pc.match_substring_regex(text, pattern=r"^[+-]?0[xX]")
    if name.startswith("float"):
        infinite = pc.invert(pc.is_finite(values))
        if strict:
            return pc.or_(infinite, pc.match_substring_regex(text, pattern=_NOT_STRICTLY_A_NUMBER))
        # 1e999 is no infinity, but a number that does not fit.
        return pc.and_(infinite, pc.match_substring_regex(text, pattern=r"[0-9]"))
    return None


def _first_true(mask: Any) -> int | None:
    if mask is None:
        return None
    row = int(pc.index(pc.fill_null(mask, False), True).as_py())
    return None if row < 0 else row


def _first_unconvertible(text: Any, name: str, *, strict: bool) -> int:
    """By halving: the first row with which the conversion fails."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _convert(text.slice(low, middle - low), name, strict=strict)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low
