"""Lets an export appear at a URL; running it again, at any point, changes nothing.

One object: parts are joined in the work folder, side file and manifest go first, then the one upload, which is there
when it is completed and not before. A folder: its objects are noted in the work folder before the first one is sent,
and the manifest comes last, so that where it is, everything is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.disk import full_disk_is_retried
from windrow.export.files import COPY_BYTES, hash_file
from windrow.export.joining import Progress, join_whole
from windrow.export.manifest import find_manifest, manifest_bytes, manifest_path, publish_manifest
from windrow.export.model import Part, Plan
from windrow.export.objects import ObjectExists, find_size, list_folder, remove_objects
from windrow.export.published import is_published
from windrow.export.staging import cut_last, find_gone, stage_folder, staged_files, staged_path
from windrow.export.storage import open_source
from windrow.export.totals import check_errors, publish_side_file
from windrow.export.uploads import (
    abort_noted,
    find_done,
    find_names,
    note_done,
    note_names,
    upload_file,
)
from windrow.export.url_destination import check_folder_free, exists

AT_ONCE = 4
"""Objects of a folder that are sent at the same time; each takes some blocks of memory."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is there."""

    bytes: int
    files: int
    sha256: str
    """Of the one object, where a manifest was asked for."""


def publish_to_url(work: Path, plan: Plan, parts: list[Part], unique: str, progress: Progress | None) -> Uploaded:
    """Publish the parts, which are all that are needed, or find that it has been done already."""
    abort_noted(work)
    gone = find_gone(work, plan, parts)
    if gone is not None:
        if not is_published(plan, parts):
            raise ExportError(f"{gone} has gone before it was uploaded: start the export again")
        return _found(plan)
    check_errors(work, plan, parts, unique, all_there=True)
    cut = cut_last(work, plan, parts, unique)
    if plan.dest.folder:
        return _publish_folder(work, plan, cut, unique)
    return _publish_file(work, plan, cut, unique, progress)


def _publish_file(work: Path, plan: Plan, parts: list[Part], unique: str, progress: Progress | None) -> Uploaded:
    whole = join_whole(work, plan, parts, progress)
    size = whole.stat().st_size
    made = Uploaded(size, 1, hash_file(whole)[1] if plan.dest.manifest else "")
    if not plan.dest.force and find_size(plan.dest.path) is not None:
        # An earlier run may have been killed when all was done but the clearing up.
        if not _is_same(whole, plan.dest.path):
            raise exists(plan.dest)
        return made
    name = plan.dest.path.rpartition("/")[2]
    manifest = manifest_bytes(plan, parts, [(name, size, made.sha256)]) if plan.dest.manifest else None
    publish_side_file(work, plan, parts, unique)
    publish_manifest(work, plan, manifest, unique)
    try:
        upload_file(work, whole, plan.dest.path, exclusive=not plan.dest.force)
    except ObjectExists:
        # It has appeared meanwhile: by another run of this task, or by somebody else.
        if not _is_same(whole, plan.dest.path):
            raise exists(plan.dest) from None
    return made


def _publish_folder(work: Path, plan: Plan, parts: list[Part], unique: str) -> Uploaded:
    with full_disk_is_retried(work):
        stage_folder(work, plan, parts, unique)
    files = staged_files(work, plan, parts)
    names = {name for name, _, _ in files}
    # Each time: what has come meanwhile is not ours to remove.
    check_folder_free(plan.dest)
    if find_names(work) is None:
        # Without its manifest the folder is not whole, and so it stays until the new one is there.
        remove_objects([manifest_path(plan)] if find_size(manifest_path(plan)) is not None else ())
        note_names(work, names, unique)
    there, done = list_folder(plan.dest.path), find_done(work)
    left = [name for name, size, _ in files if name not in done or there.get(name) != size]
    staged = staged_path(work, plan)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for _ in pool.map(partial(_upload_part, work, staged, plan.dest.path), left):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    remove_objects(f"{plan.dest.path}/{name}" for name in sorted(there.keys() - names))
    publish_side_file(work, plan, parts, unique)
    publish_manifest(work, plan, manifest_bytes(plan, parts, files), unique)
    return Uploaded(sum(size for _, size, _ in files), len(files), "")


def _upload_part(work: Path, staged: Path, dest: str, name: str) -> None:
    upload_file(work, staged / name, f"{dest}/{name}", exclusive=False)
    note_done(work, name)


def _is_same(path: Path, url: str) -> bool:
    """Whether the object has the bytes of this file."""
    if find_size(url) != path.stat().st_size:
        return False
    digest = hashlib.sha256()
    with open_source(url) as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
    return digest.hexdigest() == hash_file(path)[1]


def _found(plan: Plan) -> Uploaded:
    """Of what an earlier run has published, long ago."""
    if not plan.dest.folder and not plan.dest.manifest:
        return Uploaded(find_size(plan.dest.path) or 0, 1, "")
    files: Sequence[dict[str, object]] = (find_manifest(plan) or {}).get("files", [])
    sha256 = str(files[0]["sha256"]) if files and not plan.dest.folder else ""
    return Uploaded(sum(int(str(one["bytes"])) for one in files), len(files), sha256)
