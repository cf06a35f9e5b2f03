"""Converts one segment into a part file: read, cast, where, select; the same segment always gives the same bytes."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute

from windrow.common.codec import decoder_for
from windrow.common.errors import ExportError
from windrow.export.cleaning import BadValue, to_type
from windrow.export.condition import keep_rows
from windrow.export.files import write_durably
from windrow.export.plan import Part, Plan, ReadColumn, read_plan
from windrow.export.reading import Rows, read_rows
from windrow.export.writing import csv_rows, parquet_part, parquet_schema

pc: Any = pyarrow.compute


@dataclass(frozen=True, slots=True)
class SegmentItem:
    """The item of one segment, as plan.segment_item makes it."""

    work: str
    segment: int
    start: int
    stop: int
    line: int


_decode_item: Callable[[object], SegmentItem] = decoder_for(SegmentItem)


def convert_segment(data: object, unique: str) -> Part:
    """Write the segment's part file. `unique` keeps two conversions of one segment from meeting in one file."""
    item = _decode_item(data)
    work = Path(item.work)
    plan = read_plan(work)
    rows = _read(plan, item)
    typed = _typed(plan, rows)
    columns = [
        typed[column.index] if _is_typed(plan, column.index) else rows.columns[column.index] for column in plan.output
    ]
    kept = rows.count
    if plan.where:
        names = {column.index: column.name for column in plan.read}
        seen = {names[index]: typed.get(index, rows.columns[index]) for index in plan.where_columns}
        try:
            mask = pc.fill_null(keep_rows(plan.where, seen, rows.count), False)
        except ExportError as error:
            last = rows.line(rows.count - 1)
            raise ExportError(f"{error.message} (in lines {item.line} to {last} of {Path(plan.source).name})") from None
        columns = [column.filter(mask) for column in columns]
        kept = int(mask.true_count)
    name = f"part-{item.segment:06d}-{unique}.{plan.format}"
    size, sha256 = write_durably(work / name, _encoded(plan, columns), unique)
    return Part(item.segment, name, rows.count, kept, size, sha256)


def _is_typed(plan: Plan, index: int) -> bool:
    # In a CSV a column that only the condition types is written as it was read.
    return plan.format != "csv" or any(column.index == index and column.cast for column in plan.read)


def _read(plan: Plan, item: SegmentItem) -> Rows:
    source = Path(plan.source)
    try:
        with open(source, "rb") as file:
            about = os.fstat(file.fileno())
            if (about.st_size, about.st_mtime_ns) != (plan.source_bytes, plan.source_mtime_ns):
                raise ExportError(f"{source} changed while it was exported: start the export again")
            file.seek(item.start)
            data = file.read(item.stop - item.start)
    except FileNotFoundError:
        raise ExportError(f"no source {source}: it has gone, or this node does not see it under this path") from None
    except PermissionError:
        raise ExportError(f"the source {source} cannot be read: check its permissions") from None
    return read_rows(
        data,
        width=plan.width,
        wanted=[column.index for column in plan.read],
        delimiter=plan.delimiter,
        first_line=item.line,
        source=source.name,
    )


def _typed(plan: Plan, rows: Rows) -> dict[int, Any]:
    """The columns by index; typed ones converted. ExportError for the first row with a value that does not fit."""
    found: dict[int, Any] = dict(rows.columns)
    bad: list[tuple[int, ReadColumn, str]] = []
    for column in plan.typed:
        try:
            found[column.index] = to_type(rows.columns[column.index], column.type, strict=not column.cast)
        except BadValue as error:
            bad.append((error.row, column, error.value))
    if bad:
        row, column, value = min(bad, key=lambda one: one[0])
        place = f"line {rows.line(row)} of {Path(plan.source).name}: column {column.name!r} has {_shown(value)}"
        found_so = "as asked with --cast" if column.cast else "as the other values looked"
        raise ExportError(
            f"{place}, which is no {column.type} ({found_so}); keep it as text with --cast {column.name}:string"
        )
    return found


def _shown(value: str, most: int = 60) -> str:
    return repr(value if len(value) <= most else value[:most] + "…")


def _encoded(plan: Plan, columns: list[Any]) -> Iterable[bytes]:
    if plan.format == "csv":
        return csv_rows(columns)
    return [parquet_part(parquet_schema(plan.names, plan.types), columns)]
