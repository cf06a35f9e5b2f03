"""Tells whether what stands at the destination is what these parts make, when nothing else is left to go by.

That is so when a merge that had come to its end is run again. The sums of the parts are compared; of the part that a
limit has cut, only that it is no longer than it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from windrow.common.errors import ExportError
from windrow.export.cutting import find_cut
from windrow.export.destination import dest_path
from windrow.export.encode import encode_head, parquet_groups
from windrow.export.files import hash_file
from windrow.export.locations import is_url
from windrow.export.manifest import find_manifest
from windrow.export.model import Part, Plan
from windrow.export.objects import find_size
from windrow.export.parts import file_ending, file_names
from windrow.export.storage import open_source


def published_name(plan: Plan, part: Part, name: str) -> str:
    """Of a part's file in a folder: partitions have folders of their own."""
    folder = ""
    if plan.dest.partition is not None:
        folder = name.rpartition("/")[0].rpartition("/")[2] + "/"
        if folder == "/":
            raise ExportError(f"{name} lies in no partition's folder: start the export again")
    return f"{folder}part-{part.segment:06d}{file_ending(plan.write_form)}"


def is_published(plan: Plan, parts: Sequence[Part]) -> bool:
    """Whether the destination is what the parts, the last one of which may have to be cut, make."""
    cut = find_cut(plan, parts)
    is_cut = cut is not None and bool(parts) and cut.rows < parts[-1].rows
    whole, last = (parts[:-1], parts[-1]) if is_cut else (parts, None)
    if is_url(plan.dest.path):
        return _is_uploaded(plan, whole, last, cut.rows if cut is not None else 0)
    path = dest_path(plan.dest)
    try:
        if plan.dest.folder:
            return path.is_dir() and _is_folder_of(plan, path, whole, last)
        if not path.is_file():
            return False
        if plan.write_form.kind == "parquet":
            return _are_groups_of(parquet_groups(str(path)), whole, cut.rows if cut is not None and last else 0)
        with open(path, "rb") as file:
            return _is_text_of(plan, file, path.stat().st_size, whole, last)
    except (OSError, ValueError, ExportError):
        return False


def _is_uploaded(plan: Plan, whole: Sequence[Part], last: Part | None, rows: int) -> bool:
    size = None if plan.dest.folder else find_size(plan.dest.path)
    if plan.dest.folder:
        wanted = {
            published_name(plan, part, name): digest
            for part in whole
            for name, digest in zip(part.files, part.sha256, strict=True)
        }
        cut = {published_name(plan, last, name) for name in last.files} if last else set[str]()
        found = {one["name"]: one["sha256"] for one in (find_manifest(plan) or {}).get("files", [])}
        empty = {} if wanted or cut else {name: found[name] for name in found}
        return bool(found) and {name: found[name] for name in found if name not in cut} == (wanted or empty)
    if size is None:
        return False
    with open_source(plan.dest.path) as file:
        if plan.write_form.kind == "parquet":
            try:
                return _are_groups_of(parquet_groups(file), whole, rows if last else 0)
            except (ValueError, ExportError):
                return False
        return _is_text_of(plan, file, size, whole, last)


def _are_groups_of(groups: Sequence[int], whole: Sequence[Part], rows: int) -> bool:
    wanted = [count for count in (*(part.rows for part in whole), rows) if count]
    return _sums(groups) >= _sums(wanted) and sum(groups) == sum(wanted)


def _sums(counts: Sequence[int]) -> set[int]:
    """Where parts end; a part may have several row groups."""
    ends: set[int] = set()
    end = 0
    for count in counts:
        end += count
        ends.add(end)
    return ends


def _is_text_of(plan: Plan, file: BinaryIO, size: int, whole: Sequence[Part], last: Part | None) -> bool:
    names, _ = file_names(plan)
    head = encode_head(plan.write_form, names)
    least = len(head) + sum(part.bytes for part in whole)
    if not least <= size <= least + (last.bytes if last else 0):
        return False
    if file.read(len(head)) != head:
        return False
    return all(_hash(file, part.bytes) == digest for part in whole for digest in part.sha256)


def _hash(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    for data in _pieces(file, size):
        digest.update(data)
    return digest.hexdigest()


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size and (data := file.read(min(size, 1 << 20))):
        size -= len(data)
        yield data


def _is_folder_of(plan: Plan, path: Path, whole: Sequence[Part], last: Part | None) -> bool:
    wanted = {
        published_name(plan, part, name): digest
        for part in whole
        for name, digest in zip(part.files, part.sha256, strict=True)
    }
    cut = {published_name(plan, last, name) for name in last.files} if last else set[str]()
    found = {os.path.relpath(os.path.join(folder, name), path) for folder, _, names in os.walk(path) for name in names}
    if not wanted and not cut:
        return plan.dest.partition is not None or found == {f"part-000000{file_ending(plan.write_form)}"}
    return (
        found - cut == set(wanted)
        and (found & cut != set()) == (last is not None)
        and all(hash_file(path / name)[1] == digest for name, digest in wanted.items())
    )
