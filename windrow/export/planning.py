"""Plans an export: checks what was asked against sources and destination, and takes up what an earlier one left."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import starmap
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.casting import arrow_type
from windrow.export.choosing import choose
from windrow.export.condition import check_condition
from windrow.export.destination import check_destination
from windrow.export.files import remove_folder
from windrow.export.form import check_names, check_write_form
from windrow.export.inference import UNKNOWN, decided, union_columns
from windrow.export.key_files import partitions_for
from windrow.export.loading import columns_of
from windrow.export.locations import shown
from windrow.export.looking import Found, is_prepared, look_at, name_of
from windrow.export.model import Destination, Form, Plan, Source, Steps
from windrow.export.parts import partition_column
from windrow.export.publish import check_target
from windrow.export.read_parquet import check_columns
from windrow.export.spec import ExportSpec, canonical_spec
from windrow.export.texts import parse_casts, parse_errors
from windrow.export.uploads import clear_begun
from windrow.export.work import (
    Draft,
    KnownType,
    find_difference,
    find_draft,
    find_plan,
    find_work_folders,
    write_draft,
    write_draft_anew,
    write_plan,
)


def windrow_version() -> str:
    """The version of Windrow, which another output may come from."""
    try:
        return version("windrow-engine")
    except PackageNotFoundError:
        return "unknown"


def make_draft(spec: ExportSpec) -> tuple[Draft, tuple[str, ...]]:
    """The plan as far as it goes without the rows, and notes for the user; the same sources give the same one."""
    found = look_at(spec)
    names, known = _columns(found, spec)
    plan = _plan(spec, found.sources, found.form, names, known, {})
    if names:
        check_target(plan, [spec.source])
    else:
        check_destination(plan.dest, [source.url for source in found.sources], [spec.source])
    guessed: tuple[int, ...] = ()
    if found.form.kind != "jsonl":
        guessed = choose(names, spec).guessed(spec, known)
    streamed = (
        found.form.kind == "csv"
        and len(found.sources) == 1
        and is_prepared(found.sources[0], found.form)
        and not guessed
        and bool(names)
    )
    if streamed:
        check_types(plan)
    size = sum(source.bytes for source in found.sources)
    partitions = partitions_for(size) if spec.dedupe_by else 0
    return Draft(
        plan, spec, found.heads, guessed, tuple(starmap(KnownType, known.items())), partitions, streamed
    ), found.notes


def finish_plan(draft: Draft, names: Sequence[str], types: Mapping[int, str]) -> Plan:
    """The plan with the types that were found."""
    plan = _plan(
        draft.spec,
        draft.plan.sources,
        draft.plan.read_form,
        tuple(names),
        {column.index: column.type for column in draft.known},
        types,
    )
    check_types(plan)
    partition_column(plan)
    check_names(plan.write_form, plan.names)
    return plan


def check_types(plan: Plan) -> None:
    """ExportError where the condition does not go with the types of its columns."""
    if plan.steps.where:
        typed = {column.index: column for column in plan.read}
        check_condition(
            plan.steps.where,
            {typed[index].name: arrow_type(typed[index].type) for index in plan.steps.where_columns},
        )


def _columns(found: Found, spec: ExportSpec) -> tuple[tuple[str, ...], dict[int, str]]:
    """Names of all columns of all files, and the types that the source itself gives; nothing yet for JSON Lines."""
    if found.form.kind == "jsonl":
        return (), {}
    casts = {cast.column for cast in parse_casts(spec.cast)}
    if found.form.kind == "parquet":
        files = [(name_of(source), columns_of(source)) for source in found.sources]
        union = union_columns(
            [(name, [(one.name, one.type) for one in columns]) for name, columns in files], casts=casts
        )
        names = tuple(name for name, _ in union)
        wanted = {names[index] for index in choose(names, spec).read}
        for name, columns in files:
            check_columns(columns, wanted, name)
        return names, {at: decided(state) for at, (_, state) in enumerate(union)}
    heads = [
        (name_of(source), [(name, UNKNOWN) for name in source.columns]) for source in found.sources if source.columns
    ]
    if len(heads) == 1:
        # One file may have a header that names a column twice.
        return tuple(name for name, _ in heads[0][1]), {}
    return tuple(name for name, _ in union_columns(heads, casts=casts)), {}


def _plan(
    spec: ExportSpec,
    sources: tuple[Source, ...],
    form: Form,
    names: tuple[str, ...],
    known: Mapping[int, str],
    types: Mapping[int, str],
) -> Plan:
    # The columns of JSON Lines are not known before its rows were looked at.
    choice = choose(names, spec) if names or form.kind != "jsonl" else None
    all_types = {**known, **types}
    steps = Steps(limit=spec.limit)
    if choice is not None:
        steps = Steps(
            trim=spec.trim,
            empty_null=spec.empty_null,
            where=spec.where,
            where_columns=choice.where,
            drop_null=choice.drop_null,
            dedupe=choice.dedupe,
            limit=spec.limit,
        )
    write_form = _write_form(spec)
    return Plan(
        windrow=windrow_version(),
        sources=sources,
        read_form=form,
        columns=names,
        read=choice.read_columns(all_types) if choice else (),
        output=choice.output_columns(spec, all_types, known) if choice else (),
        steps=steps,
        write_form=write_form,
        dest=Destination(
            path=spec.dest.rstrip("/"),
            folder=spec.dest.endswith("/"),
            partition=choice.partition if choice else None,
            partitions_max=spec.max_partitions,
            force=spec.force,
            manifest=spec.manifest,
            work_dir=spec.work_dir,
        ),
        errors=parse_errors(spec.max_errors),
        segment_bytes=spec.segment_bytes,
        spec=canonical_spec(spec),
    )


def _write_form(spec: ExportSpec) -> Form:
    compression = spec.compression if spec.format == "parquet" else spec.compression.replace("none", "")
    form = Form(spec.format, spec.to_encoding or "utf-8", spec.to_delimiter or ",", compression=compression)
    check_write_form(form)
    return form


def take_over(draft: Draft, work: Path, export: str, is_running: Callable[[str], bool]) -> tuple[str, ...]:
    """Make the folder `work` what an earlier export to the same destination has left, if that fits; notes about it.

    ExportError where another export to it still runs.
    """
    notes: list[str] = []
    dest = shown(draft.spec.dest)
    for other, folder in find_work_folders(draft.spec.dest, draft.spec.work_dir):
        if other == export:
            continue
        if is_running(other):
            raise ExportError(
                f"export {other} to {dest} still runs: wait for it (windrow wait {other}) or cancel it first"
            )
        before = find_draft(folder)
        difference = "it did not come so far" if before is None else find_difference(before, draft)
        if difference is None and not work.exists():
            try:
                os.rename(folder, work)
            except FileNotFoundError:
                raise ExportError(f"another export to {dest} has begun this moment: wait for it") from None
            parts = len(list(work.glob("part-*.json")))
            notes.append(f"going on with export {other}: {parts} finished parts are taken up")
        else:
            if before is not None:
                notes.append(f"starting afresh, export {other} left parts that do not fit: {difference}")
            clear_begun(folder, draft.plan.dest.path if draft.plan.dest.folder else None)
            remove_folder(folder)
    return tuple(notes)


def settle_draft(work: Path, draft: Draft, unique: str) -> None:
    """Put the draft into the work folder; where one was taken over, with the options that change no part."""
    found = find_draft(work)
    if found is not None and found != draft and find_difference(found, draft) is None:
        write_draft_anew(work, draft, unique)
        earlier = find_plan(work)
        if earlier is not None:
            write_plan(work, same_but_options(earlier, draft), unique)
    else:
        write_draft(work, draft, unique)


def without_secrets(plan: Plan) -> Plan:
    """The plan as it may be shown: a result of a job is."""
    sources = tuple(dataclasses.replace(source, url=shown(source.url)) for source in plan.sources)
    dest = dataclasses.replace(plan.dest, path=shown(plan.dest.path))
    return dataclasses.replace(plan, sources=sources, dest=dest, spec="")


def same_but_options(plan: Plan, draft: Draft) -> Plan:
    """The plan of an earlier export, with the options of this one that change no part."""
    return dataclasses.replace(plan, dest=draft.plan.dest, errors=draft.plan.errors, spec=draft.plan.spec)
