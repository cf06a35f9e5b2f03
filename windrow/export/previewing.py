"""Says what an export would be: schema, segments, five converted rows and an estimate; nothing is written.

Only the beginning of the first source is read. Where that is the whole source its types are those of the export; else
they are a guess, which is said.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windrow.common.codec import decoder_for, to_plain
from windrow.common.texts import counted
from windrow.export.compression import ZIP
from windrow.export.converting import convert
from windrow.export.dialect import find_last_row_end
from windrow.export.disk import shown_bytes
from windrow.export.encode import encode_rows, shown
from windrow.export.encoding import codec_of, find_bom
from windrow.export.estimating import needed_bytes
from windrow.export.inference import decided, states_of
from windrow.export.loading import row_group_segments
from windrow.export.looking import dialect_of, is_prepared, name_of, plain_head
from windrow.export.model import Plan, Segment, Source
from windrow.export.parts import file_names, partition_column
from windrow.export.planning import finish_plan, make_draft
from windrow.export.read_jsonl import jsonl_states
from windrow.export.sampling import SAMPLE_BYTES, SAMPLES
from windrow.export.segment_rows import read_segment
from windrow.export.spec import ExportSpec
from windrow.export.storage import open_source
from windrow.export.work import Draft

ROWS = 5
LOOK_BYTES = SAMPLES * SAMPLE_BYTES
"""As much as types are decided from: so a source of one small file has the types that the export will give it."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What an export would be."""

    about: str
    """Source and destination in a line."""
    schema: tuple[tuple[str, str], ...]
    """(name, type) of the output's columns."""
    rows: tuple[tuple[str, ...], ...]
    """The first rows as they would be written."""
    segments: int
    rows_estimate: int
    bytes_estimate: int
    slot_seconds: float
    """Of one slot like the one that has tried it."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As plain data."""
        plain: dict[str, object] = to_plain(self)
        return plain


_decode: Callable[[object], Preview] = decoder_for(Preview)


def preview_from(data: object) -> Preview:
    """A preview from a task's result."""
    return _decode(data)


def make_preview(spec: ExportSpec) -> Preview:
    """Look at the sources and convert the beginning of the first one."""
    draft, notes = make_draft(spec)
    segment, data, total, segments, whole = _beginning(draft)
    plan = _finished(draft, segment, data)
    began = time.perf_counter()
    converted = convert(plan, segment, Path(), data)
    names, types = file_names(plan)
    left_out = partition_column(plan)
    columns = [column for at, column in enumerate(converted.columns) if at != left_out]
    written = sum(len(piece) for piece in encode_rows(plan.write_form, names, types, columns)) if columns else 0
    seconds = time.perf_counter() - began
    share = total / max(1, len(data) if data is not None else total // max(1, segments))
    if not whole:
        notes += _guess(draft, len(data or b""))
    if converted.bad:
        bad = converted.bad[0]
        rows = counted(len(converted.bad), "bad row", "bad rows")
        notes = (*notes, f"{rows} among the first ones, e.g. line {bad.line}: {bad.reason}")
    return Preview(
        about=_about(plan, total),
        schema=tuple(zip(plan.names, plan.types, strict=True)),
        rows=_shown(converted.columns),
        segments=segments,
        rows_estimate=min(round(converted.rows * share), plan.steps.limit if plan.steps.limit is not None else 1 << 62),
        bytes_estimate=round(written * share),
        slot_seconds=seconds * share,
        notes=notes,
    )


def _guess(draft: Draft, seen_bytes: int) -> tuple[str, ...]:
    """What must be known of types that were found from the first rows alone."""
    is_json = draft.plan.read_form.kind == "jsonl"
    if not draft.guessed and not is_json:
        return ()
    looks = "all values" if is_json or draft.spec.infer == "full" else f"{SAMPLES} places spread over the whole source"
    what = "columns and types" if is_json else "types"
    seen = f"the first {shown_bytes(seen_bytes)} of {name_of(draft.plan.sources[0])}"
    return (f"{what} are a guess from {seen}; the export looks at {looks}",)


def _beginning(draft: Draft) -> tuple[Segment, bytes | None, int, int, bool]:
    """The first rows as a segment, their bytes, the bytes of all sources, how many segments they make, and whether
    the first rows are all."""
    plan, source = draft.plan, draft.plan.sources[0]
    if plan.read_form.kind == "parquet":
        groups: list[Segment] = []
        for number, one in enumerate(plan.sources):
            groups += row_group_segments(one, number, len(groups), plan.segment_bytes)
        total = sum(one.bytes for one in plan.sources)
        return (groups[0] if groups else Segment(0, 0, 0, 0)), None, total, len(groups), len(groups) <= 1
    total = sum(_plain_bytes(one) for one in plan.sources)
    head = plain_head(source, LOOK_BYTES)
    is_end = len(head) < LOOK_BYTES
    prepared = is_prepared(source, plan.read_form)
    if prepared:
        bom = find_bom(head, name_of(source))
        head = head[bom.bom_bytes if bom else 0 :].decode(codec_of(plan.read_form.encoding), "ignore").encode()
    start = draft.heads[0].start
    data = head[start:]
    if not is_end:
        data = data[: max(0, find_last_row_end(data, dialect_of(plan.read_form)))]
    segment = Segment(0, 0, start, start + len(data), draft.heads[0].line, "prepared" if prepared else "")
    return segment, data, total, max(1, -(-total // plan.segment_bytes)), is_end and len(plan.sources) == 1


def _plain_bytes(source: Source) -> int:
    if not source.compression:
        return source.bytes
    with open_source(source.url, sequential=source.sequential) as raw:
        member = source.member if source.compression == ZIP else ""
        name, packed = name_of(source), source.compression
        return needed_bytes(
            raw, name, source.bytes, compression=packed, member=member, sequential=source.sequential
        ).bytes


def _finished(draft: Draft, segment: Segment, data: bytes | None) -> Plan:
    if draft.plan.read_form.kind == "jsonl":
        keys = jsonl_states(data or b"")
        types = {} if draft.spec.infer == "none" else {at: decided(state) for at, state in enumerate(keys.values())}
        return finish_plan(draft, list(keys), types)
    if not draft.guessed or data is None:
        return finish_plan(draft, draft.plan.columns, {})
    states = states_of(read_segment(draft.plan, segment, data), draft.plan.steps, draft.guessed)
    return finish_plan(draft, draft.plan.columns, dict(zip(draft.guessed, map(decided, states), strict=True)))


def _shown(columns: list[Any]) -> tuple[tuple[str, ...], ...]:
    first = [shown(column.slice(0, ROWS)).to_pylist() for column in columns]
    return tuple(tuple("" if value is None else str(value) for value in row) for row in zip(*first, strict=True))


def _about(plan: Plan, total: int) -> str:
    count = len(plan.sources)
    form = plan.read_form
    text = "" if form.kind == "parquet" else f", {form.encoding}"
    marks = f", delimiter {form.delimiter!r}" if form.kind == "csv" else ""
    files = name_of(plan.sources[0]) if count == 1 else f"{count} files"
    compression = plan.write_form.compression
    packed = f", {compression}" if compression and compression != "none" else ""
    return (
        f"{files}: {form.kind}{text}{marks}, about {total:,} bytes → {plan.dest.path}: {plan.write_form.kind}{packed}"
    )
