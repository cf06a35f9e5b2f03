"""Checks that a destination may be written, and keeps a folder that is being replaced safe."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from windrow.common.errors import ExportError, NotSeenHere
from windrow.export.files import sync_folder
from windrow.export.locations import is_url
from windrow.export.model import Destination
from windrow.export.patterns import PART_NAME, matches
from windrow.export.url_destination import check_url_destination


def dest_path(dest: Destination) -> Path:
    """The destination's path without a slash at its end."""
    return Path(dest.path.rstrip("/") or "/")


def check_destination(dest: Destination, sources: Iterable[str], patterns: Iterable[str] = ()) -> None:
    """ExportError where the destination cannot be written or must not be.

    `sources` are the places of all source files, `patterns` what was asked for (`data/*.csv`).
    """
    if is_url(dest.path):
        check_url_destination(dest, sources, patterns)
        return
    path = dest_path(dest)
    recover_folder(path)
    _check_apart(dest, path, sources, patterns)
    if not path.parent.is_dir():
        raise NotSeenHere(f"the folder {path.parent} does not exist: make it first, for every node to see")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise NotSeenHere(f"the folder {path.parent} cannot be written to: check its permissions")
    if path.is_dir() and not dest.folder:
        raise ExportError(f"{path} is a folder: end it in a slash to write into a folder, or name a file in it")
    if os.path.lexists(path):
        if not dest.force:
            raise ExportError(f"{path} exists: give another destination, or --force to replace it")
        if dest.folder:
            check_replaceable(path)


def check_replaceable(path: Path) -> None:
    """ExportError where the folder has anything in it that no export has written."""
    if path.is_symlink() or not path.is_dir():
        raise ExportError(f"{path} is no folder, and is not replaced by one: remove it, or give another destination")
    for folder, folders, files in os.walk(path):
        foreign = [one for one in files if not PART_NAME.fullmatch(one)] + [
            one for one in folders if folder != str(path) or "=" not in one or os.path.islink(os.path.join(folder, one))
        ]
        if foreign:
            raise ExportError(
                f"{os.path.join(folder, min(foreign))} is nothing that an export has written, and --force would remove "
                f"it with {path}: move it away, or give another destination"
            )


def aside_path(path: Path) -> Path:
    """Where a folder lies while another takes its place."""
    return path.parent / f".{path.name}.windrow-old"


def recover_folder(path: Path) -> None:
    """After a crash between putting the old folder aside and the new one in its place: the old one comes back.

    Where the new one is in its place the old one goes.
    """
    aside = aside_path(path)
    if not os.path.lexists(aside):
        return
    if os.path.lexists(path):
        remove_tree(aside)
    else:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            os.rename(aside, path)
        sync_folder(path.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder; what another run removes at the same time is fine."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


def _check_apart(dest: Destination, path: Path, sources: Iterable[str], patterns: Iterable[str]) -> None:
    inside = os.path.realpath(path) + "/"
    known = _find_identity(path)
    for source in sources:
        if is_url(source):
            continue
        if os.path.realpath(source) == os.path.realpath(path) or (known and _find_identity(Path(source)) == known):
            raise ExportError(f"source and destination are the same file, {source}: write to another one")
        if dest.folder and os.path.realpath(source).startswith(inside):
            raise ExportError(f"the source {source} is in the destination {path}: write to another folder")
    for pattern in patterns:
        here = os.path.join(os.path.realpath(path.parent), path.name)
        if not is_url(pattern) and matches(os.path.abspath(pattern), os.path.abspath(path), here):
            raise ExportError(f"the destination {path} is one of the sources that {pattern} names: write elsewhere")


def _find_identity(path: Path) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return (about.st_dev, about.st_ino) if stat.S_ISREG(about.st_mode) else None
