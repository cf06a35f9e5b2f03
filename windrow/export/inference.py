"""Finds the narrowest type of a column's values, and the type of a whole from the types of its pieces.

A piece of a column is told by a *state*: the names of all types that each of its values strictly fits, narrowest first
and with `|` between them (`int64|float64`, `date|timestamp`, `bool`). The state of the whole is what the states of all
pieces have in common, so neither the order of the pieces nor how they were grouped matters. Its first name is the
type: null < int64 < float64 < string, null < date < timestamp < string, null < bool < string. A state keeps all names
because not every int64 is a float64: one with more than 15 digits would be rounded.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError
from windrow.export.casting import clean_text, fits
from windrow.export.model import Steps
from windrow.export.rows import Rows
from windrow.export.types import INFERRED, TEXT, decimal_digits

pc: Any = pyarrow.compute

UNKNOWN = ""
"""The state of a column without values."""

_FIRST_VALUES = 64
_WIDER = {"int32": "int64", "float32": "float64", "date": "timestamp"}


def narrowest(text: Any) -> str:
    """The state of a column of text."""
    text = pc.cast(text, pa.string())
    # Most columns are text, and their first values say so.
    names: Sequence[str] = INFERRED
    for piece in (text.slice(0, _FIRST_VALUES), text):
        names = [name for name in names if fits(piece, name)]
        if not names:
            return TEXT
    # No value is both a number and a date: what fits all has no values.
    return UNKNOWN if len(names) == len(INFERRED) else "|".join(names)


def join(one: str, other: str) -> str:
    """The state of two pieces together; it does not matter which is which."""
    if UNKNOWN in (one, other):
        return one or other
    names = set(other.split("|"))
    return "|".join(name for name in one.split("|") if name in names) or TEXT


def decided(state: str) -> str:
    """The type of a column in this state; text where no value has told one."""
    return state.split("|")[0] or TEXT


def states_of(rows: Rows, steps: Steps, columns: Sequence[int]) -> list[str]:
    """The states of these columns in these rows, as they stand when they are cast: what a segment reports."""
    return [
        narrowest(clean_text(rows.columns[index], trim=steps.trim, empty_null=steps.empty_null)) for index in columns
    ]


def join_all(reports: Iterable[Sequence[str]]) -> list[str]:
    """The states of the whole's columns from those of its pieces, which report the same columns."""
    joined: list[str] = []
    for report in reports:
        joined = [join(one, other) for one, other in zip(joined, report, strict=True)] if joined else list(report)
    return joined


def join_named(reports: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The same where each piece has columns of its own: by name, in order of first appearance."""
    joined: dict[str, str] = {}
    for report in reports:
        for name, state in report.items():
            joined[name] = join(joined.get(name, UNKNOWN), state)
    return joined


def union_columns(
    files: Iterable[tuple[str, Sequence[tuple[str, str]]]], *, casts: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """(name, state) of the columns of all files, by name, in order of first appearance.

    A file is its name and its (column, state or type)s. ExportError where two files have different kinds of values in
    a column; those with a cast may have any.
    """
    asked = set(casts)
    union: dict[tuple[str, int], str] = {}
    first_of: dict[tuple[str, int], str] = {}
    header: list[str] | None = None
    alike = True
    for file, columns in files:
        names = [name for name, _ in columns]
        header = names if header is None else header
        alike = alike and names == header
        seen: Counter[str] = Counter()
        for name, state in columns:
            # A name may stand twice in headers that are all the same.
            key = (name, seen[name])
            seen[name] += 1
            before = union.setdefault(key, UNKNOWN)
            joined = TEXT if name in asked else _joined_types(before, state)
            if joined is None:
                raise ExportError(
                    f"column {name!r} is {decided(before)} in {first_of[key]} and {decided(state)} in {file}: "
                    f"--cast {name}:string takes both as text"
                )
            union[key] = joined
            if key not in first_of and (state != UNKNOWN or name in asked):
                first_of[key] = file
        twice = next((name for name, at in union if at), None)
        if twice is not None and not alike:
            raise ExportError(
                f"column {twice!r} stands twice in a header, and the columns of {file} are not those of the first "
                "file: columns of several files are found by name, so rename one"
            )
    return [(name, state) for (name, _), state in union.items()]


def _joined_types(one: str, other: str) -> str | None:
    """What holds the values of both; None where only text would."""
    if one == other or UNKNOWN in (one, other):
        return one or other
    if TEXT in (one, other):
        return None
    digits = [decimal_digits(state) for state in (one, other)]
    if digits[0] and digits[1]:
        scale = max(digits[0][1], digits[1][1])
        whole = max(digits[0][0] - digits[0][1], digits[1][0] - digits[1][1])
        return f"decimal({whole + scale},{scale})" if whole + scale <= 38 else None
    states = [{*state.split("|"), _WIDER.get(state, "")} - {""} for state in (one, other)]
    found = [name for name in (*_WIDER, *INFERRED) if name in states[0] & states[1]]
    if not found and states[0] | states[1] <= {"int32", "int64", "float32", "float64"}:
        # Of a Parquet file's whole numbers those that a double would round become bad rows.
        return "float64"
    return "|".join(dict.fromkeys(found)) or None
