"""Says when a disk is full before and after it happens, as an error that is tried again."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Generator
from pathlib import Path

from windrow.common.errors import ExportError, Retry

RETRY_AFTER_S = 60.0
"""Somebody must make room first."""
SPARE_BYTES = 64 << 20
"""What is left to others."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Retry where the folder's disk has no room for so much; ExportError where there is no folder."""
    try:
        free = shutil.disk_usage(folder).free
    except FileNotFoundError:
        raise folder_gone(folder) from None
    if free < needed_bytes + SPARE_BYTES:
        raise Retry(
            f"the disk of {folder} has {shown_bytes(free)} free, the export needs about {shown_bytes(needed_bytes)} "
            f"and leaves {shown_bytes(SPARE_BYTES)} free: make room, or give a destination on another disk",
            after=RETRY_AFTER_S,
        )


def folder_gone(folder: Path) -> ExportError:
    """The work folder is no longer there."""
    return ExportError(f"the folder {folder} has gone: the export was cancelled, or ended without this task")


@contextlib.contextmanager
def full_disk_is_retried(folder: Path) -> Generator[None, None, None]:
    """Retry in place of the operating system's error where the disk or the quota is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        what = "the quota" if error.errno == errno.EDQUOT else "the disk"
        raise Retry(
            f"{what} of {folder} is full: make room, or give a destination on another disk", after=RETRY_AFTER_S
        ) from None


def shown_bytes(count: int) -> str:
    """A size for people."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
