"""Lets an export appear at its destination whole or not at all; running it again, at any point, changes nothing.

Order: join the parts, note in a receipt which file or folder is to appear (its inode), publish side file and manifest,
then the destination, then remove the parts, then the receipt. So where the destination is, everything is; who finds a
receipt compares inodes; who finds no parts any more compares the destination with their sums.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from windrow.common.errors import ExportError, NotSeenHere
from windrow.export.cutting import find_cut
from windrow.export.destination import (
    aside_path,
    check_destination,
    check_replaceable,
    dest_path,
    recover_folder,
    remove_tree,
)
from windrow.export.disk import full_disk_is_retried
from windrow.export.files import hash_file, new_file, publish, sync_folder
from windrow.export.form import check_names, check_write_form
from windrow.export.joining import Progress, join_whole
from windrow.export.locations import is_url, shown
from windrow.export.manifest import check_manifest_path, manifest_bytes, publish_manifest
from windrow.export.model import Part, Plan
from windrow.export.parts import check_partitions, partition_column
from windrow.export.published import is_published
from windrow.export.records import RecordKind
from windrow.export.staging import cut_last, find_gone, stage_folder, staged_files, staged_path
from windrow.export.totals import (
    check_errors,
    check_side_path,
    count_published,
    needed_parts,
    publish_side_file,
    side_path,
)
from windrow.export.url_publish import Uploaded, publish_to_url

RECEIPT_FILE = "published.json"
ATTEMPTS = 5
"""How often to look again when another run of the same task has been faster."""


@dataclass(frozen=True, slots=True)
class Published:
    """The export as it was published."""

    path: str
    rows: int
    rows_in: int
    bytes: int
    files: int
    bad_rows: int
    side_file: str
    """Where the bad rows are; empty where there are none."""
    sha256: str
    """Of the file, where a manifest was asked for."""
    segments: int
    """That were needed."""


@dataclass(frozen=True, slots=True)
class _Receipt:
    inode: int
    bytes: int
    files: int
    sha256: str


class _Again(Exception):
    """Another run has been faster: look again."""


_RECEIPT = RecordKind(_Receipt)


def check_target(plan: Plan, patterns: Sequence[str] = ()) -> None:
    """ExportError where the export could not be written as planned; `patterns` are the sources as asked for."""
    check_write_form(plan.write_form)
    partition_column(plan)
    check_names(plan.write_form, plan.names)
    check_destination(plan.dest, [source.url for source in plan.sources], patterns)
    check_side_path(plan)
    check_manifest_path(plan)


def publish_export(
    work: Path, plan: Plan, parts: Sequence[Part], segments: int, unique: str, progress: Progress | None = None
) -> Published:
    """Publish the parts, or find that it has been done already.

    `parts` are those of all segments, in order; behind the cut of a limit they may be skipped or missing.
    """
    needed = _check_complete(plan, parts, segments)
    bad: int | None = None
    with contextlib.suppress(FileNotFoundError):
        # Where the folder has gone an earlier run has published the side file.
        needed = list(needed_parts(work, plan, needed))
        bad = sum(part.bad_rows for part in needed)
    if is_url(plan.dest.path):
        uploaded = publish_to_url(work, plan, needed, unique, progress)
        remove_tree(work)
        return _published(plan, parts[: len(needed)], uploaded, bad)
    for attempt in range(ATTEMPTS):
        try:
            receipt = _publish(work, plan, needed, f"{unique}-{attempt}", progress)
            break
        except (_Again, FileNotFoundError, FileExistsError):
            # What it was about to touch has been moved by another run, which will be seen in the next round.
            if attempt == ATTEMPTS - 1:
                raise ExportError(f"{work} changes while its parts are joined: start the export again") from None
    else:
        raise AssertionError("unreachable")
    _clear(work, plan)
    return _published(plan, parts[: len(needed)], receipt, bad)


def _published(plan: Plan, parts: Sequence[Part], receipt: _Receipt | Uploaded, bad: int | None) -> Published:
    if bad is None:
        bad = count_published(plan)
    cut = find_cut(plan, parts)
    return Published(
        path=shown(plan.dest.path),
        rows=sum(part.rows for part in parts) if cut is None else (plan.steps.limit or 0),
        rows_in=sum(part.rows_in for part in parts),
        bytes=receipt.bytes,
        files=receipt.files,
        bad_rows=bad,
        side_file=shown(side_path(plan)) if bad else "",
        sha256=receipt.sha256,
        segments=len(parts),
    )


def _check_complete(plan: Plan, parts: Sequence[Part], segments: int) -> list[Part]:
    """The parts that are needed."""
    cut = find_cut(plan, parts)
    needed = list(parts if cut is None else parts[: cut.parts])
    complete = len(needed) == segments or cut is not None
    if not complete or [part.segment for part in needed] != list(range(len(needed))):
        raise ExportError(f"{len(parts)} of {segments} segments have parts, or not in order: start the export again")
    skipped = next((part.segment for part in needed if part.skipped), None)
    if skipped is not None:
        raise ExportError(f"segment {skipped} was skipped but is needed: start the export again")
    return needed


def _publish(work: Path, plan: Plan, parts: list[Part], unique: str, progress: Progress | None) -> _Receipt:
    dest = dest_path(plan.dest)
    receipt = _RECEIPT.find(work / RECEIPT_FILE)
    if receipt is None:
        gone = find_gone(work, plan, parts)
        if gone is not None:
            if plan.dest.folder:
                recover_folder(dest)
            if not is_published(plan, parts):
                # Without the whole folder this may be a node that never saw it.
                kind = NotSeenHere if gone == work else ExportError
                raise kind(f"{gone} has gone before it was joined: start the export again")
            return _receipt_of(plan, dest)
        _check_free(plan, dest)
        check_errors(work, plan, parts, unique, all_there=True)
        receipt = _prepare(work, plan, parts, unique, progress)
    staged = staged_path(work, plan)
    if _inode(staged) != receipt.inode:
        if plan.dest.folder:
            recover_folder(dest)
        if _inode(dest) == receipt.inode:
            return receipt
        # It was published, and somebody has taken it away since.
        (work / RECEIPT_FILE).unlink(missing_ok=True)
        raise _Again
    if _inode(dest) != receipt.inode:
        _check_free(plan, dest)
        _publish_beside(work, plan, parts, receipt, unique)
        try:
            _let_appear(plan, staged, dest, receipt)
        except FileExistsError:
            if _inode(dest) != receipt.inode:
                raise _taken(dest) from None
    return receipt


def _prepare(work: Path, plan: Plan, parts: list[Part], unique: str, progress: Progress | None) -> _Receipt:
    """Make what is to appear, and note it; the first run to note it decides."""
    cut = cut_last(work, plan, parts, unique)
    check_partitions(plan, cut)
    if plan.dest.folder:
        with full_disk_is_retried(work):
            staged = stage_folder(work, plan, cut, unique)
        files = staged_files(work, plan, cut)
        made = _Receipt(_inode(staged) or 0, sum(size for _, size, _ in files), len(files), "")
    else:
        staged = join_whole(work, plan, cut, progress)
        sha256 = hash_file(staged)[1] if plan.dest.manifest else ""
        about = staged.stat()
        made = _Receipt(about.st_ino, about.st_size, 1, sha256)
    with full_disk_is_retried(work):
        _write_first(work / RECEIPT_FILE, _RECEIPT.encode(made), unique)
    return made


def _publish_beside(work: Path, plan: Plan, parts: list[Part], receipt: _Receipt, unique: str) -> None:
    with full_disk_is_retried(work):
        publish_side_file(work, plan, parts, unique)
        manifest = None
        if plan.dest.manifest:
            cut = cut_last(work, plan, parts, unique)
            files = (
                staged_files(work, plan, cut)
                if plan.dest.folder
                else [(dest_path(plan.dest).name, receipt.bytes, receipt.sha256)]
            )
            manifest = manifest_bytes(plan, cut, files)
        publish_manifest(work, plan, manifest, unique)


def _let_appear(plan: Plan, staged: Path, dest: Path, receipt: _Receipt) -> None:
    if not plan.dest.folder:
        if dest.is_dir():
            raise _taken(dest)
        publish(staged, dest, force=plan.dest.force)
        return
    aside = aside_path(dest)
    if os.path.lexists(dest):
        check_replaceable(dest)
        if os.path.lexists(aside):
            remove_tree(aside)
        os.rename(dest, aside)
    try:
        os.rename(staged, dest)
    except OSError as error:
        # Another run has been faster, or a folder has appeared here this moment.
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
            raise _Again from None
        raise
    sync_folder(dest.parent)
    if _inode(dest) == receipt.inode and os.path.lexists(aside):
        remove_tree(aside)


def _check_free(plan: Plan, dest: Path) -> None:
    if os.path.lexists(dest) and not plan.dest.force:
        raise _taken(dest)


def _taken(dest: Path) -> ExportError:
    return ExportError(f"{dest} has appeared meanwhile: give another destination, or --force to replace it")


def _write_first(path: Path, data: bytes, unique: str) -> None:
    """Write the file unless there is one; _Again then."""
    passing = path.with_name(f"{path.name}.{unique}.tmp")
    with new_file(passing) as file:
        file.write(data)
    try:
        publish(passing, path, force=False)
    except FileExistsError:
        passing.unlink(missing_ok=True)
        raise _Again from None


def _inode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return None


def _receipt_of(plan: Plan, dest: Path) -> _Receipt:
    """Of what an earlier run has published, long ago."""
    sizes = list(_sizes(dest)) if dest.is_dir() else [dest.stat().st_size]
    sha256 = hash_file(dest)[1] if plan.dest.manifest and not plan.dest.folder else ""
    return _Receipt(os.lstat(dest).st_ino, sum(sizes), len(sizes), sha256)


def _sizes(folder: Path) -> Iterator[int]:
    for here, _, names in os.walk(folder):
        for name in names:
            yield os.stat(os.path.join(here, name)).st_size


def _clear(work: Path, plan: Plan) -> None:
    """Remove the work folder, the receipt after everything that it speaks for, and what was put aside."""
    if plan.dest.folder:
        recover_folder(dest_path(plan.dest))
    try:
        entries = list(os.scandir(work))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(Path(entry.path))
        elif entry.name != RECEIPT_FILE:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
    remove_tree(work)
