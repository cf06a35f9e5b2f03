"""What the tasks from `plan` to `decide` do: from what was asked to the plan and the items of the converting stage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from windrow.common.codec import to_plain
from windrow.common.errors import ExportError, NotSeenHere, UsageError
from windrow.common.words import TERMINAL_STATES
from windrow.export.cutting import is_behind_cut, is_cut
from windrow.export.inference import decided, join_all, join_named, states_of
from windrow.export.loading import read_segment, row_group_segments, states_of_keys
from windrow.export.looking import dialect_of, is_prepared
from windrow.export.model import Plan, Segment
from windrow.export.planning import finish_plan, make_draft, settle_draft, take_over, without_secrets
from windrow.export.ports import ClientPort
from windrow.export.prepare import prepare
from windrow.export.sampling import cut_samples, text_samples
from windrow.export.segmenting import (
    TextCutter,
    block_counts,
    count_range,
    prepared_segment,
    prepared_segments,
    reader_of,
    scan_ranges,
    segments_between,
    text_source,
)
from windrow.export.spec import check_spec, spec_from_dict
from windrow.export.stages import append, complete, fill, find_job, stage_id
from windrow.export.work import (
    Begun,
    Draft,
    Found,
    begin_work,
    find_begun,
    find_plan,
    find_segments,
    get_draft,
    read_token,
    segment_from,
    segment_item,
    segment_items,
    write_plan,
    write_segments,
    write_token,
)

PLAN_BYTES_MAX = 256 << 10


def plan_export(client: ClientPort, item: dict[str, Any], work: Path, unique: str) -> dict[str, object]:
    """The plan task."""
    export = str(item["export"])
    draft, notes = make_draft(check_spec(spec_from_dict(item["spec"])))

    def is_running(other: str) -> bool:
        info = find_job(client, other)
        return info is not None and info.state not in TERMINAL_STATES

    notes += take_over(draft, work, export, is_running)
    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise NotSeenHere(f"the folder {work.parent} cannot be written to: {error.strerror}") from None
    settle_draft(work, draft, unique)
    token = write_token(work, unique)
    if draft.streamed and find_plan(work) is None:
        write_plan(work, draft.plan, unique)
    is_planned = find_plan(work) is not None and find_segments(work) is not None
    resumed = len(list(work.glob("part-*.json")))
    begun = begin_work(work, Begun(export, is_planned, resumed, notes), unique)
    fill(client, export, "scan", [] if begun.planned else list(_scan_items(draft, work, export, token)))
    return {
        "work": str(work),
        "notes": list(begun.notes),
        "source_bytes": sum(source.bytes for source in draft.plan.sources),
        "sources": len(draft.plan.sources),
        "resumed": begun.resumed,
    }


def _scan_items(draft: Draft, work: Path, export: str, token: str) -> Iterator[dict[str, object]]:
    form = draft.plan.read_form
    if form.kind == "parquet":
        return
    for number, (source, head) in enumerate(zip(draft.plan.sources, draft.heads, strict=True)):
        common: dict[str, object] = {"work": str(work), "export": export, "token": token, "source": number}
        if is_prepared(source, form):
            yield common
        else:
            for start, stop in scan_ranges(head.start, source.bytes):
                yield {**common, "start": start, "stop": stop}


def scan_item(client: ClientPort, item: dict[str, Any], work: Path, unique: str) -> dict[str, object]:
    """The scan task: the counts of a range, or a prepared file."""
    draft = get_draft(work)
    number = int(item["source"])
    source = draft.plan.sources[number]
    if "start" in item:
        counts = count_range(reader_of(source), item["start"], item["stop"], dialect_of(draft.plan.read_form))
        return {"source": number, "start": item["start"], "stop": item["stop"], "counts": counts}
    total = 0
    for piece in prepare(text_source(draft, source), work, unique):
        if not draft.streamed:
            continue
        segment = prepared_segment(draft, number, total, piece)
        if segment is not None:
            if is_behind_cut(work, total):
                break
            job = stage_id(str(item["export"]), "convert")
            with _unless_cut(work):
                append(client, job, [segment_item(work, str(item["export"]), str(item["token"]), segment)], total)
            total += 1
    return {"source": number}


@contextlib.contextmanager
def _unless_cut(work: Path) -> Generator[None, None, None]:
    """Let a job take no more items, where that is because a limit is reached."""
    try:
        yield
    except UsageError:
        if not is_cut(work):
            raise


def cut_segments(client: ClientPort, item: dict[str, Any], work: Path, unique: str) -> dict[str, object]:
    """The cut task."""
    export, draft = str(item["export"]), get_draft(work)
    found = find_segments(work)
    if found is None:
        found = _find_all(client, export, draft, work)
        if not found.segments and not draft.plan.columns:
            found = Found((), (*found.notes, "the source is empty: there are neither columns nor rows"))
        write_segments(work, found, unique)
    items = segment_items(work, export, read_token(work), found.segments)
    if draft.streamed:
        complete(client, export, "convert", items)
    begun = find_begun(work)
    looks = _looks_at_all(draft) and not (begun and begun.planned)
    fill(client, export, "infer", items if looks else ())
    return {"segments": len(found.segments), "notes": list(found.notes)}


def _looks_at_all(draft: Draft) -> bool:
    """Whether every segment is asked for its types, or every line of JSON for its keys."""
    if draft.plan.read_form.kind == "jsonl":
        return True
    return draft.spec.infer == "full" and bool(draft.guessed)


def _find_all(client: ClientPort, export: str, draft: Draft, work: Path) -> Found:
    form = draft.plan.read_form
    segments: list[Segment] = []
    notes: list[str] = []
    if form.kind == "parquet":
        for number, source in enumerate(draft.plan.sources):
            segments += row_group_segments(source, number, len(segments), draft.plan.segment_bytes)
        return Found(tuple(segments))
    cutters: list[TextCutter] = []
    counted: dict[int, list[dict[str, Any]]] = {}
    for result in client.job(stage_id(export, "scan")).results():
        counted.setdefault(int(result["source"]), []).append(result)
    for number, source in enumerate(draft.plan.sources):
        if is_prepared(source, form):
            more, note = prepared_segments(draft, number, work, len(segments))
        else:
            ranges = sorted(counted.get(number, ()), key=lambda one: int(one["start"]))
            counts = (
                count
                for one in ranges
                for count in block_counts(one["counts"], one["start"], one["stop"], dialect_of(form))
            )
            cutter = TextCutter(draft, number, counts)
            more = segments_between(cutter.cuts(), number, len(segments), paired=cutter.is_paired)
            note = cutter.note
            cutters.append(cutter)
        segments += more
        notes += [note] if note else []
    is_sampled = draft.guessed and len(cutters) == len(draft.plan.sources) and not _looks_at_all(draft)
    return Found(tuple(segments), tuple(notes), cut_samples(cutters) if is_sampled else ())


def infer_segment(item: dict[str, Any], work: Path) -> dict[str, object]:
    """The infer task."""
    draft, segment = get_draft(work), segment_from(item["segment"])
    if draft.plan.read_form.kind == "jsonl":
        return {"keys": states_of_keys(draft.plan, segment, work)}
    rows = read_segment(draft.plan, segment, work)
    return {"states": states_of(rows, draft.plan.steps, draft.guessed)}


def decide_types(client: ClientPort, item: dict[str, Any], work: Path, unique: str) -> dict[str, object]:
    """The decide task."""
    export, draft = str(item["export"]), get_draft(work)
    found = find_segments(work)
    if found is None:
        raise ExportError(f"{work} has no list of segments: start the export again")
    plan = find_plan(work)
    if plan is None:
        plan = _decided(client, export, draft, found, work)
        write_plan(work, plan, unique)
    token = read_token(work)
    items = segment_items(work, export, token, found.segments)
    if not draft.streamed:
        with _unless_cut(work):
            fill(client, export, "convert", items)
    dedupes = plan.steps.dedupe and found.segments
    common = {"work": str(work), "export": export, "token": token, "segments": len(found.segments)}
    partitions = [{**common, "partition": at} for at in range(draft.partitions)]
    for stage, filling in (("dedupe", partitions), ("finish", items)):
        with _unless_cut(work):
            fill(client, export, stage, filling if dedupes else ())
    plain = to_plain(without_secrets(plan))
    return {
        "segments": len(found.segments),
        "columns": plan.names,
        "types": plan.types,
        "partitions": len(partitions),
        # For a merge that runs again when the folder has gone. A result must not be larger than that.
        "plan": plain if len(json.dumps(plain)) < PLAN_BYTES_MAX else None,
    }


def _decided(client: ClientPort, export: str, draft: Draft, found: Found, work: Path) -> Plan:
    """The plan with the types that samples, or all segments, have told."""
    reports = _reports(client, export, draft, found, work)
    if draft.plan.read_form.kind != "jsonl":
        states = join_all(report["states"] for report in reports) if draft.guessed else []
        return finish_plan(draft, draft.plan.columns, dict(zip(draft.guessed, map(decided, states), strict=False)))
    keys = join_named(report["keys"] for report in reports)
    names = list(keys)
    types = {} if draft.spec.infer == "none" else {at: decided(keys.get(name, "")) for at, name in enumerate(names)}
    return finish_plan(draft, names, types)


def _reports(client: ClientPort, export: str, draft: Draft, found: Found, work: Path) -> Iterator[dict[str, Any]]:
    if _looks_at_all(draft):
        yield from client.job(stage_id(export, "infer")).results()
    elif draft.guessed:
        for segment, data in text_samples(draft.plan, found, work):
            rows = read_segment(draft.plan, segment, work, data)
            yield {"states": states_of(rows, draft.plan.steps, draft.guessed)}
