"""Turns a column of text into a typed column and says which of its rows do not fit, all of them at once.

Two degrees: a type that the plan has found is *strict* (only what this type would write itself, so `007` is no
number); a type that the user has asked for with --cast is taken at its word (`007`, ` 5 ` and `+5` are numbers).

pyarrow's own conversion is what decides. It stops at the first value that it cannot convert, so what surely cannot be
converted is taken out beforehand by a pattern; only what passes the pattern and still fails is found by halving.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.export.types import NULL_MARKS, TEXT, decimal_digits

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

_FAILURES = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
_NO_TEXT = pa.scalar(None, pa.string())

_ZONED = r":\d{2}(\.\d+)?(Z|z|[+-]\d{2}(:?\d{2})?)$"
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_CLOCK = r"[ T](?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?"
_DAY = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_INT = r"^-?[0-9]+$"
_FLOAT = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:nan(?:\(.*\))?|inf|infinity))$"
_CASTABLE = {
    "int64": _INT,
    "int32": _INT,
    "float64": _FLOAT,
    "float32": _FLOAT,
    "date": f"^{_DAY}$",
    "timestamp": f"^{_DAY}(?:{_CLOCK})?$",
    "timestamptz": f"^{_DAY}{_CLOCK}{_ZONE}$",
}
"""All that pyarrow converts, and as little more as a pattern can; hexadecimal numbers are refused in any case."""
_CASTABLE_INSTANT = f"^{_DAY}(?:{_CLOCK}{_ZONE}?)?$"

_LARGEST = {"int64": ("9223372036854775807", "9223372036854775808"), "int32": ("2147483647", "2147483648")}
"""Of the positive and of the negative numbers, without the sign."""

_ROUNDED_DIGITS = 16
_NOT_STRICTLY_A_NUMBER = r"^[+-]?0[0-9]|^\+|^-?[0-9]{16,}$"
"""Leading zeros and plus signs mean text (codes, telephone numbers); so do whole numbers that a double would round."""


def arrow_type(name: str) -> Any:
    """The Arrow type of a type's name."""
    digits = decimal_digits(name)
    return _ARROW[name] if digits is None else pa.decimal128(*digits)


def clean_text(text: Any, *, trim: bool, empty_null: bool) -> Any:
    """The column without white space at both ends, and null for what is empty, as asked."""
    if trim:
        text = pc.utf8_trim_whitespace(text)
    if empty_null:
        empty = pc.equal(text, "")
        text = pc.if_else(empty, _NO_TEXT, text) if pc.any(empty).as_py() else text
    return text


def cast_text(text: Any, name: str, *, strict: bool) -> tuple[Any, Any]:
    """The column as this type, null where a value is missing or does not fit, and where one does not fit.

    The second is None where all values fit.
    """
    if name == TEXT:
        return text, None
    if not strict:
        text = pc.utf8_trim_whitespace(text)
    try:
        # No null mark can be converted to any type, so that this is the whole work where there are none.
        values, bad = _convert(text, name, strict=strict), None
    except _FAILURES:
        text = _blanked(text)
        values, bad = _convert_what_fits(text, name, strict=strict)
    refused = _refused(text, values, name, strict=strict)
    if refused is not None and pc.any(refused).as_py():
        refused = pc.fill_null(refused, False)
        bad = refused if bad is None else pc.or_(bad, refused)
        values = pc.if_else(refused, pa.scalar(None, values.type), values)
    return values, bad


_DOUBLE_WHOLE = {"float64": 1 << 53, "float32": 1 << 24}
"""Up to here every whole number has its own floating one."""
_WHOLE_RANGE = {"int64": (-(2.0**63), 2.0**63), "int32": (-(2.0**31), 2.0**31)}


def cast_number(values: Any, name: str) -> tuple[Any, Any] | None:
    """As cast_text, for numbers that become numbers with no text between; None for all other pairs of types.

    A number that the type cannot hold exactly does not fit.
    """
    kind, wanted = values.type, arrow_type(name) if name in _ARROW else None
    if pa.types.is_integer(kind) and name in _DOUBLE_WHOLE:
        largest = _DOUBLE_WHOLE[name]
        bad = pc.or_(pc.greater(values, largest), pc.less(values, -largest))
    elif pa.types.is_floating(kind) and name in _WHOLE_RANGE:
        low, high = _WHOLE_RANGE[name]
        whole = pc.and_(
            pc.equal(values, pc.floor(values)), pc.and_(pc.greater_equal(values, low), pc.less(values, high))
        )
        bad = pc.invert(whole)
    elif (str(kind), name) in (("int32", "int64"), ("float", "float64")):
        return pc.cast(values, wanted), None
    else:
        return None
    bad = pc.and_(pc.is_valid(values), pc.fill_null(bad, False))
    if not pc.any(bad).as_py():
        return pc.cast(values, wanted), None
    return pc.cast(pc.if_else(bad, pa.scalar(None, kind), values), wanted), bad


def fits(text: Any, name: str) -> bool:
    """Whether each value of the column strictly fits the type, those that mean "no value" aside."""
    try:
        try:
            values = _convert(text, name, strict=True)
        except _FAILURES:
            text = _blanked(text)
            values = _convert(text, name, strict=True)
    except _FAILURES:
        return False
    refused = _refused(text, values, name, strict=True)
    return refused is None or not pc.any(refused).as_py()


@lru_cache
def _marks() -> Any:
    return pa.array([*NULL_MARKS, None], pa.string())


def _blanked(text: Any) -> Any:
    blank = pc.is_in(text, value_set=_marks())
    return pc.if_else(blank, _NO_TEXT, text) if pc.any(blank).as_py() else text


def _convert(text: Any, name: str, *, strict: bool) -> Any:
    if name == "bool":
        values, bad = _to_bool(text, strict=strict)
        if bad is not None:
            raise pa.ArrowInvalid("not a truth value")
        return values
    if strict:
        return pc.cast(text, arrow_type(name))
    if name in ("timestamp", "timestamptz"):
        return _to_instant(text, name)
    return pc.cast(_without_plus(text, name), arrow_type(name))


def _without_plus(text: Any, name: str) -> Any:
    signed = name.startswith(("int", "float")) and pc.any(pc.starts_with(text, pattern="+")).as_py()
    return pc.replace_substring_regex(text, pattern=r"^\+([0-9.])", replacement=r"\1") if signed else text


def _convert_what_fits(text: Any, name: str, *, strict: bool) -> tuple[Any, Any]:
    """Nulls where a value cannot be converted, and the mask of these."""
    if name == "bool":
        return _to_bool(text, strict=strict)
    wanted = text if strict else _without_plus(text, name)
    passing = _castable(wanted, name, strict=strict)
    wanted = pc.if_else(passing, wanted, _NO_TEXT)
    pieces: list[Any] = []
    _convert_by_halves(wanted, name, strict, pieces)
    values = pa.concat_arrays(pieces)
    bad = pc.and_(pc.is_valid(text), pc.is_null(values))
    return values, bad if pc.any(bad).as_py() else None


def _castable(text: Any, name: str, *, strict: bool) -> Any:
    """Where a conversion may succeed; surely not where this is false."""
    digits = decimal_digits(name)
    if digits is not None:
        whole, behind = digits[0] - digits[1], digits[1]
        # What has an exponent is left to pyarrow.
        pattern = rf"^[+-]?0*[0-9]{{0,{whole}}}(?:\.[0-9]{{0,{behind}}}0*)?$|[eE]"
        return pc.match_substring_regex(text, pattern=pattern)
    if name.startswith("timestamp") and not strict:
        return pc.match_substring_regex(text, pattern=_CASTABLE_INSTANT)
    passing = pc.match_substring_regex(text, pattern=_CASTABLE[name])
    if name in _LARGEST:
        positive, negative = _LARGEST[name]
        shown = pc.utf8_ltrim(pc.utf8_ltrim(text, characters="-"), characters="0")
        largest = pc.if_else(pc.starts_with(text, pattern="-"), negative, positive)
        length = pc.binary_length(shown)
        small = pc.or_(
            pc.less(length, len(positive)), pc.and_(pc.equal(length, len(positive)), pc.less_equal(shown, largest))
        )
        return pc.and_(passing, small)
    return passing


def _convert_by_halves(text: Any, name: str, strict: bool, pieces: list[Any]) -> None:
    try:
        pieces.append(_convert(text, name, strict=strict))
    except _FAILURES:
        if len(text) == 1:
            pieces.append(pa.nulls(1, arrow_type(name)))
            return
        middle = len(text) // 2
        _convert_by_halves(text.slice(0, middle), name, strict, pieces)
        _convert_by_halves(text.slice(middle), name, strict, pieces)


def _to_bool(text: Any, *, strict: bool) -> tuple[Any, Any]:
    shown = text if strict else pc.utf8_lower(text)
    true = pc.is_in(shown, value_set=pa.array(_TRUE if strict else _TRUE_ASKED))
    false = pc.is_in(shown, value_set=pa.array(_FALSE if strict else _FALSE_ASKED))
    known = pc.or_(true, false)
    values = pc.if_else(known, true, pa.scalar(None, pa.bool_()))
    bad = pc.and_(pc.is_valid(text), pc.invert(known))
    return values, bad if pc.any(bad).as_py() else None


def _to_instant(text: Any, name: str) -> Any:
    """Values with a zone become UTC, values without one are taken as they stand: of both types, whichever is asked."""
    zoned = pc.fill_null(pc.match_substring_regex(text, pattern=_ZONED), False)
    with_zone = pc.cast(pc.if_else(zoned, text, _NO_TEXT), _ARROW["timestamptz"])
    without = pc.cast(pc.if_else(zoned, _NO_TEXT, text), _ARROW["timestamp"])
    wanted = _ARROW[name]
    # Both are microseconds since 1970, so that reading one as the other changes no number.
    return pc.coalesce(pc.cast(pc.cast(without, pa.int64()), wanted), pc.cast(pc.cast(with_zone, pa.int64()), wanted))


def _refused(text: Any, values: Any, name: str, *, strict: bool) -> Any:
    """Where pyarrow took more than the type means; None for nowhere."""
    if name.startswith("int"):
        if not strict:
            return pc.match_substring_regex(text, pattern=r"^[+-]?0[xX]")
        # Of what pyarrow takes, only a needless zero (or 0x) differs from what the number would be written as.
        zero = pc.and_(pc.starts_with(text, pattern="0"), pc.greater(pc.binary_length(text), 1))
        return pc.or_(zero, pc.starts_with(text, pattern="-0")) if _has_byte(text, b"-") else zero
    if name.startswith("float"):
        infinite = pc.invert(pc.is_finite(values))
        if strict:
            return pc.or_(infinite, _not_strictly_numbers(text)) if _may_be_no_number(text) else infinite
        # 1e999 is no infinity, but a number that does not fit.
        return pc.and_(infinite, pc.match_substring_regex(text, pattern=r"[0-9]"))
    return None


def _not_strictly_numbers(text: Any) -> Any:
    return pc.match_substring_regex(text, pattern=_NOT_STRICTLY_A_NUMBER)


def _may_be_no_number(text: Any) -> bool:
    """A quick look, which spares the pattern in most columns."""
    if (pc.max(pc.binary_length(text)).as_py() or 0) >= _ROUNDED_DIGITS:
        return True
    if _has_byte(text, b"+") and pc.any(pc.starts_with(text, pattern="+")).as_py():
        return True
    return _has_needless_zeros(text, "0") or (_has_byte(text, b"-") and _has_needless_zeros(text, "-0"))


def _has_needless_zeros(text: Any, zero: str) -> bool:
    """Or what looks like it: the most that begins so is 0.5 or 0."""
    begins = pc.starts_with(text, pattern=zero).true_count
    plain = pc.starts_with(text, pattern=zero + ".").true_count if begins else 0
    return bool(begins > plain and begins > plain + pc.equal(text, zero).true_count)


def _has_byte(text: Any, byte: bytes) -> bool:
    """Whether this ASCII character is anywhere in the column: ten times as fast as asking each value."""
    _, offsets, data = text.buffers()
    if not len(text) or data is None:
        return False
    places = memoryview(offsets).cast("i")
    start, stop = places[text.offset], places[text.offset + len(text)]
    return byte in data.slice(start, stop - start).to_pybytes()


def to_text(values: Any) -> Any:
    """A typed column as CSV shows it."""
    if pa.types.is_string(values.type):
        return values
    text = pc.cast(values, pa.string())
    if pa.types.is_timestamp(values.type):
        text = pc.replace_substring_regex(text, pattern=r"\.000000(Z?)$", replacement=r"\1")
    return text
