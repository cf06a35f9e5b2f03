"""Writes files so that they are there whole or not at all, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

COPY_BYTES = 1 << 20


class Written:
    """A file being written, with its size and SHA-256 so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def new_file(path: Path) -> Generator[BinaryIO, None, None]:
    """A new file, on the disk when the block is left; gone again if the block fails."""
    with open(path, "xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def write_whole(path: Path, data: bytes, unique: str) -> None:
    """Write the file under a passing name and rename it, without waiting for the disk.

    After a power cut it may be gone, or hold anything: only for what its reader checks and can do without.
    """
    passing = path.with_name(f"{path.name}.{unique}.tmp")
    passing.write_bytes(data)
    os.replace(passing, path)


def write_durably(path: Path, chunks: Iterable[bytes], unique: str) -> tuple[int, str]:
    """Write the file under a passing name and rename it; returns size and SHA-256."""
    passing = path.with_name(f"{path.name}.{unique}.tmp")
    with new_file(passing) as file:
        written = Written(file)
        for chunk in chunks:
            written.write(chunk)
    os.replace(passing, path)
    sync_folder(path.parent)
    return written.size, written.sha256


def publish(passing: Path, dest: Path, *, force: bool) -> None:
    """Let `passing` appear as `dest`; FileExistsError where there is one and `force` is not given."""
    if force:
        os.replace(passing, dest)
    else:
        # Renaming would overwrite what another process has put there since we looked; linking refuses.
        try:
            os.link(passing, dest)
        except FileExistsError:
            raise
        except OSError:
            # Some network and FAT file systems know no links: look, then rename.
            if os.path.lexists(dest):
                raise FileExistsError(dest) from None
            os.replace(passing, dest)
        else:
            os.unlink(passing)
    sync_folder(dest.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's names on the disk: a rename is lost in a power cut without it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_between(file: BinaryIO, start: int, stop: int) -> bytes:
    """The bytes [start, stop); fewer only where the file ends before."""
    file.seek(start)
    return file.read(stop - start)


def hash_file(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def find_size(path: Path) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def remove_folder(folder: Path) -> None:
    """Remove a work folder with all that is in it; what is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)
