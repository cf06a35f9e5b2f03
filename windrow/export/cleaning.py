"""Turns whole columns of text into typed columns or names the first value that does not fit; shows types as text.

What fits is said by casting.py, which does the same for all rows at once; this is the way of the export of one file.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.export.casting import arrow_type, cast_text
from windrow.export.inference import decided, join, narrowest

__all__ = ["BadValue", "arrow_type", "find_type", "to_text", "to_type"]

pc: Any = pyarrow.compute


class BadValue(Exception):
    """The value in this row (from 0 on) does not fit; it never leaves the export."""

    def __init__(self, row: int, value: str) -> None:
        super().__init__(f"row {row}: {value!r}")
        self.row = row
        self.value = value


def to_type(text: Any, name: str, *, strict: bool) -> Any:
    """The column as this type, nulls where there is no value; BadValue for the first row that does not fit."""
    values, bad = cast_text(text, name, strict=strict)
    if bad is None:
        return values
    row = int(pc.index(bad, True).as_py())
    raise BadValue(row, text[row].as_py())


def find_type(samples: list[Any]) -> str:
    """The narrowest type that every value of the samples fits strictly; text where there are no values to go by."""
    state = ""
    for sample in samples:
        state = join(state, narrowest(sample))
    return decided(state)


def to_text(values: Any) -> Any:
    """A typed column as CSV shows it."""
    if pa.types.is_string(values.type):
        return values
    text = pc.cast(values, pa.string())
    if pa.types.is_timestamp(values.type):
        text = pc.replace_substring_regex(text, pattern=r"\.000000(Z?)$", replacement=r"\1")
    return text
