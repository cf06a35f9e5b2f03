"""What the converting stages do with one segment: read, convert, write its part; with keys, in two rounds."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.export.cutting import is_behind_cut
from windrow.export.dedupe import find_losers, keep_winners, losers_file_name, write_first_round
from windrow.export.form import find_unwritable, without_rows
from windrow.export.kept_rows import kept_file_name, read_kept
from windrow.export.key_files import key_file_name
from windrow.export.loading import read_segment
from windrow.export.model import Part, Plan, Segment
from windrow.export.parts import (
    find_part,
    part_key,
    skipped_part,
    write_part,
    write_part_places,
    write_side_part,
)
from windrow.export.records import RecordKind
from windrow.export.rows import BadRow, Rows
from windrow.export.steps import Converted, convert_rows
from windrow.export.work import PLAN_FILE, find_draft, get_plan, segment_from

pc: Any = pyarrow.compute


@dataclass(frozen=True, slots=True)
class _First:
    """The receipt of a segment's first round."""

    key: str
    part: Part


@dataclass(frozen=True, slots=True)
class _Finished:
    """A segment's rows after the second round."""

    columns: list[Any]
    order: Any
    rows_in: int = 0
    bad: tuple[BadRow, ...] = ()
    bad_ordinals: tuple[int, ...] = ()


_FIRST = RecordKind(_First)


def convert_segment(work: Path, item: dict[str, Any], unique: str) -> Part:
    """Write the segment's part, or find what an earlier run has written; where rows have keys, the first round."""
    plan, segment = plan_of(work), segment_from(item["segment"])
    if plan.steps.dedupe:
        return _first_round(work, plan, segment, unique)
    if is_behind_cut(work, segment.number):
        return skipped_part(segment.number)
    found = find_part(work, plan, segment)
    return found if found is not None else write_part(work, plan, segment, convert(plan, segment, work), unique)


def dedupe_partition(work: Path, item: dict[str, Any], unique: str) -> dict[str, object]:
    """Write which rows have a key of this partition that an earlier row has."""
    segments = int(item["segments"])
    partition = int(item["partition"])
    if not (work / losers_file_name(partition)).exists():
        find_losers(work, partition, [key_file_name(number) for number in range(segments)], unique)
    return {"partition": partition}


def finish_segment(work: Path, item: dict[str, Any], unique: str) -> Part:
    """Write the segment's part without the rows that earlier segments have."""
    plan, segment = plan_of(work), segment_from(item["segment"])
    if is_behind_cut(work, segment.number):
        return skipped_part(segment.number)
    found = find_part(work, plan, segment)
    if found is not None:
        return found
    draft = find_draft(work)
    losers = [losers_file_name(number) for number in range(draft.partitions if draft else 0)]
    first = _find_first(work, plan, segment)
    *columns, order = keep_winners(work, segment.number, losers, read_kept(work, segment.number))
    return write_part(work, plan, segment, _Finished(columns, order), unique, earlier=first)


def convert(plan: Plan, segment: Segment, work: Path, data: bytes | None = None) -> Converted:
    """The segment's rows after all steps; those that the destination cannot hold are bad rows too."""
    rows = read_segment(plan, segment, work, data)
    return _writable(plan, rows, convert_rows(plan, rows))


def plan_of(work: Path) -> Plan:
    """The plan, read once by each worker process."""
    try:
        about = (work / PLAN_FILE).stat()
    except OSError:
        return get_plan(work)
    return _cached_plan(work, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=4)
def _cached_plan(work: Path, _written: int, _inode: int) -> Plan:
    return get_plan(work)


def _writable(plan: Plan, rows: Rows, converted: Converted) -> Converted:
    wrong = find_unwritable(plan.write_form, converted.columns)
    if not wrong:
        return converted
    numbers = [one.row for one in wrong]
    bad = [
        BadRow(
            rows.places.line(ordinal), plan.output[one.column].name, one.value, one.reason, rows.places.text(ordinal)
        )
        for one, ordinal in zip(wrong, converted.order.take(pa.array(numbers)).to_pylist(), strict=True)
    ]
    partition = converted.partition
    return dataclasses.replace(
        converted,
        columns=without_rows(converted.columns, numbers),
        keys=without_rows(converted.keys, numbers) if converted.keys else [],
        order=without_rows([converted.order], numbers)[0],
        bad=sorted([*converted.bad, *bad], key=lambda row: row.line),
        bad_ordinals=sorted([*converted.bad_ordinals, *converted.order.take(pa.array(numbers)).to_pylist()]),
        partition=None if partition is None else without_rows([partition], numbers)[0],
    )


def _first_round(work: Path, plan: Plan, segment: Segment, unique: str) -> Part:
    """Keys and columns in files of their own; the part has no file yet."""
    found = _find_first(work, plan, segment)
    if found is not None:
        return found
    converted = convert(plan, segment, work)
    draft = find_draft(work)
    partitions = draft.partitions if draft else 1
    # Their numbers come along as one more column.
    columns = [*converted.columns, converted.order]
    kept = write_first_round(work, segment.number, converted.keys, columns, partitions, unique)
    bad_file = write_side_part(work, plan, segment, converted.bad, unique)
    places = write_part_places(work, plan, segment, converted.bad_ordinals, converted.order, f"first-{unique}")
    part = Part(segment.number, (), converted.rows_in, kept.rows, len(converted.bad), 0, (), bad_file, places)
    _FIRST.write(work / _first_name(segment), _First(part_key(plan, segment), part), unique)
    return part


def _find_first(work: Path, plan: Plan, segment: Segment) -> Part | None:
    first = _FIRST.find(work / _first_name(segment))
    if first is None or first.key != part_key(plan, segment) or not first.part.is_sound:
        return None
    files = [key_file_name(segment.number), kept_file_name(segment.number)]
    files += [name for name in (first.part.bad_file, first.part.places) if name]
    return first.part if all((work / name).exists() for name in files) else None


def _first_name(segment: Segment) -> str:
    return f"first-{segment.number:06d}.json"
