"""Takes the rows of a segment through the steps of an export: clean, cast, where, drop nulls, keys, select and rename.

A limit, and which of equal keys stays, needs the other segments too and is left to later jobs.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError
from windrow.export.casting import arrow_type, cast_number, cast_text, clean_text, to_text
from windrow.export.condition import keep_rows
from windrow.export.model import Plan, ReadColumn
from windrow.export.rows import BadRow, Rows, row_numbers
from windrow.export.types import TEXT

pc: Any = pyarrow.compute


@dataclass(frozen=True, slots=True)
class Converted:
    """The rows of a segment that survive all steps but the limit and the removal of duplicates."""

    columns: list[Any]
    """In output order, of the output's types."""
    rows_in: int
    """All rows of the segment, the bad ones included."""
    keys: list[Any]
    """The columns by which duplicates are found, in the plan's order; none where none are asked for."""
    order: Any
    """Ascending int64: the number of each row among the segment's rows, the bad ones included."""
    bad: list[BadRow]
    """In source order."""
    bad_ordinals: Sequence[int] = ()
    """The number of each bad row among the segment's rows, ascending."""
    partition: Any = None
    """The column by which rows go into folders, as text."""

    @property
    def rows(self) -> int:
        """How many survive."""
        return len(self.order)


def convert_rows(plan: Plan, rows: Rows) -> Converted:
    """All steps on one segment's rows. ExportError where the condition cannot be computed."""
    steps = plan.steps
    source = {column.index: _cleaned(plan, column, rows.columns[column.index]) for column in plan.read}
    typed, misfits = _cast(plan, source)
    kept = _Kept(plan, source, typed, _order(rows))
    bad, ordinals = rows.bad, rows.removed
    if misfits:
        good, more = _bad_rows(rows, misfits)
        kept.keep(good)
        bad = _merged(bad, more)
        ordinals = sorted([*ordinals, *map(rows.ordinal, pc.indices_nonzero(pc.invert(good)).to_pylist())])
    if steps.where:
        kept.keep(_meets(plan, kept, rows))
    if steps.drop_null:
        kept.keep(reduce(pc.and_, [pc.is_valid(kept.value(index)) for index in steps.drop_null]))
    partition = plan.dest.partition
    return Converted(
        columns=[kept.output(column.index, column.type) for column in plan.output],
        rows_in=rows.count + len(rows.bad),
        keys=[kept.value(index) for index in steps.dedupe],
        order=kept.order,
        bad=bad,
        bad_ordinals=ordinals,
        partition=None if partition is None else to_text(kept.value(partition)),
    )


def _cleaned(plan: Plan, column: ReadColumn, values: Any) -> Any:
    if _is_text(values):
        return clean_text(values, trim=plan.steps.trim, empty_null=plan.steps.empty_null)
    return to_text(values) if column.type == TEXT else values


def _is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type))


@dataclass(frozen=True, slots=True)
class _Misfits:
    """Where a column's values do not fit."""

    column: ReadColumn
    mask: Any
    shown: Any
    """The column as it was read."""


def _cast(plan: Plan, source: dict[int, Any]) -> tuple[dict[int, Any], list[_Misfits]]:
    """The typed columns by index, and what does not fit."""
    typed: dict[int, Any] = {}
    misfits: list[_Misfits] = []
    for column in plan.typed:
        values = source[column.index]
        wanted = arrow_type(column.type)
        if values.type == wanted:
            typed[column.index] = values
            continue
        strict = _is_text(values) and not column.cast
        typed[column.index], mask = cast_number(values, column.type) or cast_text(
            to_text(values), column.type, strict=strict
        )
        if mask is not None:
            misfits.append(_Misfits(column, mask, to_text(values)))
    return typed, misfits


def _order(rows: Rows) -> Any:
    if not rows.removed:
        return row_numbers(rows.count)
    removed = pa.array(rows.removed, pa.int64())
    every = row_numbers(rows.count + len(removed))
    return every.filter(pc.invert(pc.is_in(every, value_set=removed)))


class _Kept:
    """The rows that are left; columns are cut down once, when they are next looked at."""

    def __init__(self, plan: Plan, source: dict[int, Any], typed: dict[int, Any], order: Any) -> None:
        self._source = source
        self._typed = typed
        self.order = order
        # In CSV to CSV a type that nobody asked for serves the condition alone; what is seen of it is its text.
        found = plan.read_form.kind == "csv" and plan.write_form.kind == "csv"
        self._as_read = {column.index for column in plan.typed if found and not column.cast}
        self._cut: dict[tuple[bool, int], Any] = {}
        self._mask: Any = None

    def keep(self, mask: Any) -> None:
        """Only rows where the mask, over those that are left, is true."""
        mask = pc.fill_null(mask, False)
        if pc.all(mask, min_count=0).as_py():
            return
        if self._mask is None:
            self._mask = mask
        else:
            # Over all rows again: true where those that were left are kept.
            self._mask = pc.replace_with_mask(self._mask, self._mask, mask)
        self._cut.clear()
        self.order = self.order.filter(mask)

    def typed(self, index: int) -> Any:
        """The column as the condition sees it."""
        return self._left(index in self._typed, index)

    def value(self, index: int) -> Any:
        """The column as it goes on."""
        return self._left(index in self._typed and index not in self._as_read, index)

    def output(self, index: int, kind: str) -> Any:
        """The column as it goes out."""
        values = self.value(index)
        return to_text(values) if kind == TEXT else values

    def _left(self, typed: bool, index: int) -> Any:
        column = (self._typed if typed else self._source)[index]
        if self._mask is None:
            return column
        if (typed, index) not in self._cut:
            self._cut[typed, index] = column.filter(self._mask)
        return self._cut[typed, index]


def _bad_rows(rows: Rows, misfits: list[_Misfits]) -> tuple[Any, list[BadRow]]:
    """Which rows are good, and of each other one the first value that does not fit."""
    bad = reduce(pc.or_, [misfit.mask for misfit in misfits])
    first: dict[int, _Misfits] = {}
    for misfit in misfits:
        for row in pc.indices_nonzero(misfit.mask).to_pylist():
            first.setdefault(row, misfit)
    return pc.invert(bad), [_bad_row(rows, row, first[row]) for row in sorted(first)]


def _bad_row(rows: Rows, row: int, misfit: _Misfits) -> BadRow:
    column, value, line = misfit.column, str(misfit.shown[row].as_py()), rows.line(row)
    asked = "as asked with --cast" if column.cast else "as the other values looked"
    way_out = f"keep it as text with --cast {column.name}:string"
    if not column.cast:
        way_out += ", or let --infer full look at all values first"
    reason = f"it is no {column.type} ({asked}); {way_out}"
    return BadRow(line, column.name, value, reason, rows.text(row))


def _merged(one: list[BadRow], other: list[BadRow]) -> list[BadRow]:
    return sorted([*one, *other], key=lambda row: row.line) if one and other else [*one, *other]


def _meets(plan: Plan, kept: _Kept, rows: Rows) -> Any:
    names = {column.index: column.name for column in plan.read}
    seen = {names[index]: kept.typed(index) for index in plan.steps.where_columns}
    try:
        return keep_rows(plan.steps.where, seen, len(kept.order))
    except ExportError as error:
        if not rows.count:
            raise
        of = f" of {rows.source}" if rows.source else ""
        place = f"in lines {rows.line(0)} to {rows.line(rows.count - 1)}{of}"
        raise ExportError(f"{error.message} ({place})") from None
