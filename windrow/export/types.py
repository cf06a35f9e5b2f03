"""The names of column types, as users write them and as the plan keeps them; pure."""

from __future__ import annotations

import re

from windrow.common.errors import ExportError

TEXT = "string"
TYPE_NAMES = ("string", "int64", "int32", "float64", "float32", "bool", "date", "timestamp", "timestamptz")
DECIMAL_DIGITS_MAX = 38

INFERRED = ("bool", "int64", "float64", "date", "timestamp", "timestamptz")
"""What a column may be found to be, tried in this order; a column that fits none is text.

A type comes before those that hold all its values (int64 before float64, date before timestamp), so the first one that
fits every sample is the join of the samples' own types: null < int64 < float64 < string, null < date < timestamp <
string, null < bool < string.
"""

NULL_MARKS = ("", "NA", "N/A", "NULL", "null")
"""What means "no value" in a column of numbers, dates or truth values; in a text column only the empty field does."""

_OTHER_NAMES = {
    "text": "string", "str": "string", "varchar": "string", "int": "int64", "integer": "int64", "bigint": "int64",
    "float": "float64", "double": "float64", "boolean": "bool", "datetime": "timestamp", "date32": "date",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:decimal|decimal128|numeric)\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


def parse_type(text: str) -> str:
    """The type's name as the plan keeps it; ExportError names the known ones."""
    name = text.strip().lower()
    name = _OTHER_NAMES.get(name, name)
    if name in TYPE_NAMES:
        return name
    found = _DECIMAL.fullmatch(name)
    if found is None:
        raise ExportError(f"no type {text.strip()!r}: there are {', '.join(TYPE_NAMES)} and decimal(P,S)")
    precision, scale = int(found[1]), int(found[2] or 0)
    if not 1 <= precision <= DECIMAL_DIGITS_MAX or scale > precision:
        raise ExportError(
            f"{text.strip()}: decimal(P,S) has 1 to {DECIMAL_DIGITS_MAX} digits P and S of them behind the point"
        )
    return f"decimal({precision},{scale})"


def decimal_digits(name: str) -> tuple[int, int] | None:
    """(precision, scale) of a decimal type; None for the others."""
    found = _DECIMAL.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))
