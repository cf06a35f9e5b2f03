"""Checks that a destination at a URL may be written: its place, what is there already, and the sources' places."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.locations import is_url, shown
from windrow.export.model import Destination
from windrow.export.objects import check_scheme, check_writable, find_size, list_folder, place_of
from windrow.export.patterns import is_part_name, matches
from windrow.export.uploads import find_names
from windrow.export.work import find_work_folders


def check_url_destination(dest: Destination, sources: Iterable[str], patterns: Iterable[str] = ()) -> None:
    """ExportError where the destination cannot be written or must not be, or the work folder is not there."""
    check_scheme(dest.path)
    _check_work_dir(Path(dest.work_dir))
    place = place_of(dest.path)
    if "/" not in place[1].strip("/"):
        raise ExportError(f"{shown(dest.path)} is a whole bucket: name an object or a folder in it")
    _check_apart(dest, place, sources, patterns)
    if dest.folder:
        check_folder_free(dest)
        check_writable(f"{dest.path}/part-000000")
    else:
        check_file_free(dest)
        check_writable(dest.path)


def check_file_free(dest: Destination) -> None:
    """ExportError where there is an object that may not be replaced."""
    if not dest.force and find_size(dest.path) is not None:
        raise exists(dest)


def check_folder_free(dest: Destination) -> None:
    """ExportError where there are objects that may not be replaced; what an export has begun is its own."""
    names = set(list_folder(dest.path))
    for _, folder in find_work_folders(dest.path, dest.work_dir):
        names -= find_names(folder) or set()
    if names and not dest.force:
        raise exists(dest)
    foreign = [name for name in names if not is_part_name(name)]
    if foreign:
        raise ExportError(
            f"{shown(dest.path)}/{min(foreign)} is nothing that an export has written, and --force would remove it "
            "with the rest: move it away, or give another destination"
        )


def exists(dest: Destination) -> ExportError:
    """There is something that may not be replaced."""
    slash = "/" if dest.folder else ""
    return ExportError(f"{shown(dest.path)}{slash} exists: give another destination, or --force to replace it")


def _check_work_dir(folder: Path) -> None:
    if not folder.is_dir():
        raise ExportError(f"the folder {folder} (--work-dir) does not exist: make it first, and let every node see it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(f"the folder {folder} (--work-dir) cannot be written to: check its permissions")


def _check_apart(dest: Destination, place: tuple[str, str], sources: Iterable[str], patterns: Iterable[str]) -> None:
    for source in sources:
        if not is_url(source) or "::" in source:
            continue
        kind, path = place_of(source)
        if kind != place[0]:
            continue
        if path == place[1]:
            raise ExportError(f"source and destination are the same object, {shown(source)}: write to another one")
        if dest.folder and path.startswith(place[1] + "/"):
            raise ExportError(f"the source {shown(source)} is in the destination {shown(dest.path)}: write elsewhere")
    for pattern in patterns:
        if is_url(pattern) and "::" not in pattern:
            kind, path = place_of(pattern)
            if kind == place[0] and matches(path, place[1]):
                raise ExportError(
                    f"the destination {shown(dest.path)} is one of the sources that {shown(pattern)} names: "
                    "write elsewhere"
                )
