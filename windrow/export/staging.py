"""Makes what is to appear at the destination: cuts the last part, and links the parts' files under plain names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.cutting import cut_part, find_cut
from windrow.export.disk import full_disk_is_retried
from windrow.export.encode import empty_columns
from windrow.export.files import hash_file, sync_folder
from windrow.export.joining import whole_path
from windrow.export.model import Part, Plan
from windrow.export.parts import encode_file, file_ending, file_names, write_new
from windrow.export.published import published_name


def staged_path(work: Path, plan: Plan) -> Path:
    """What is renamed to the destination: a file or a folder in the work folder."""
    whole = whole_path(work, plan)
    return whole.with_suffix(".d") if plan.dest.folder else whole


def stage_folder(work: Path, plan: Plan, parts: Sequence[Part], unique: str) -> Path:
    """Make the folder, or complete what another run has begun."""
    staged = staged_path(work, plan)
    staged.mkdir(exist_ok=True)
    folders = {staged}
    for part in parts:
        size = 0
        for name in part.files:
            target = staged / published_name(plan, part, name)
            if target.parent not in folders:
                target.parent.mkdir(exist_ok=True)
                folders.add(target.parent)
            _place(work / name, target)
            size += target.stat().st_size
        if size != part.bytes:
            raise ExportError(
                f"the part of segment {part.segment} in {work} has {size} bytes, {part.bytes} were written: "
                "start the export again"
            )
    if plan.dest.partition is None and not any(part.files for part in parts):
        # Whoever reads the folder finds the columns, though there are no rows.
        _, types = file_names(plan)
        passing = work / f"empty-{unique}.tmp"
        write_new(passing, encode_file(plan, empty_columns(types)))
        os.replace(passing, staged / f"part-000000{file_ending(plan.write_form)}")
    for folder in sorted(folders):
        sync_folder(folder)
    return staged


def cut_last(work: Path, plan: Plan, parts: list[Part], unique: str) -> list[Part]:
    """The parts, the last one without the rows behind a limit."""
    cut = find_cut(plan, parts)
    if cut is None or not parts:
        return parts
    with full_disk_is_retried(work):
        return [*parts[:-1], cut_part(work, plan, parts[-1], cut.rows, unique)]


def find_gone(work: Path, plan: Plan, parts: Sequence[Part]) -> Path | None:
    """A file that is needed and not there: an earlier run of this task has come to removing them."""
    if not work.is_dir():
        return work
    staged = staged_path(work, plan)
    for part in parts:
        for name in part.files:
            # Where there are no links it may have been moved.
            moved = plan.dest.folder and (staged / published_name(plan, part, name)).exists()
            if not moved and not (work / name).exists():
                return work / name
        for name in filter(None, (part.bad_file, part.places)):
            if not (work / name).exists():
                return work / name
    return None


def staged_files(work: Path, plan: Plan, parts: Sequence[Part]) -> list[tuple[str, int, str]]:
    """Names, sizes and SHA-256 of the folder's files."""
    staged = staged_path(work, plan)
    files = [
        (published_name(plan, part, name), (staged / published_name(plan, part, name)).stat().st_size, digest)
        for part in parts
        for name, digest in zip(part.files, part.sha256, strict=True)
    ]
    if not files and plan.dest.partition is None:
        name = f"part-000000{file_ending(plan.write_form)}"
        files = [(name, *hash_file(staged / name))]
    return files


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except FileNotFoundError:
        if not target.exists():
            raise
    except OSError:
        # No links on this file system; then the part moves, and a later run finds it there.
        if not target.exists():
            os.rename(source, target)
