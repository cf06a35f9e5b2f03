"""A bounded spool on disk of outcomes that the scheduler has not acknowledged yet, for the next start of the daemon.

Written to the page cache and never fsynced: it outlives the daemon's process, not the machine. A machine that goes
down loses its leases with it, so its items run again; an fsync for each batch would guard against nothing more.

A segment file is MAGIC, then records of u32 length, u32 check and payload; the first record is the name of the boot.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import structlog

from windrow.common.errors import ConfigError
from windrow.common.limits import MESSAGE_BYTES_MAX

log = structlog.get_logger()

MAGIC = b"WINDROW spool 0\n"
_HEAD = struct.Struct("<II")
_SEGMENT_BYTES = 16 << 20
_SEGMENTS_MIN = 8
"""So many at least make up a full spool: what is settled goes a segment at a time."""
_NO_CHECK = 0xFFFF_FFFF


class Spooled(NamedTuple):
    """One record of an older boot."""

    boot: str
    payload: bytes


class Spool:
    """Segments of this boot are appended to, and emptied when all in them is settled; older boots are read first."""

    def __init__(self, folder: Path, boot: str, bytes_max: int) -> None:
        self._folder = folder
        self._boot = boot
        self._bytes_max = bytes_max
        self._segment_bytes = min(_SEGMENT_BYTES, bytes_max // _SEGMENTS_MIN)
        self._broken = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._old = sorted(folder.glob("*.spool"))
            self._old_bytes = sum(path.stat().st_size for path in self._old)
            taken = [path.stem for path in (*self._old, *folder.glob("*.refused"))]
        except OSError as error:
            raise ConfigError(f"the spool folder {folder} cannot be used: {error.strerror}") from None
        self._bytes: dict[int, int] = {}
        self._open: dict[int, int] = {}
        """Records not settled, by segment."""
        self._segment = max((int(stem) for stem in taken if stem.isdecimal()), default=0)
        self._fd: int | None = None
        """Of the current segment; None: the next record begins another."""

    @property
    def size_bytes(self) -> int:
        """On disk now, without the head of a file that waits for the next record."""
        return self._old_bytes + sum(self._bytes[segment] for segment in self._open)

    @property
    def full(self) -> bool:
        """True: start no more work. What is under way is still taken, so nothing is ever dropped."""
        return self._broken or self.size_bytes >= self._bytes_max

    def read_old(self) -> Iterator[Spooled]:
        """The records of older boots in order; a damaged tail is cut off."""
        for path in self._old:
            yield from _read_segment(path)

    def forget_old(self) -> None:
        """The scheduler has everything of the older boots."""
        self._remove_old(lambda path: path.unlink())

    def set_old_aside(self) -> None:
        """The scheduler refused what older boots left: keep it for people to look at, out of the way."""
        self._remove_old(lambda path: path.rename(path.with_suffix(".refused")))

    def append(self, payload: bytes) -> int:
        """Keep the payload; the number is for `settle`. A disk that fails stops new work, not this daemon."""
        try:
            if self._fd is None or self._bytes[self._segment] >= self._segment_bytes:
                self._begin_segment()
            self._write(_record(payload))
        except OSError as error:
            if not self._broken:
                log.error(
                    "outcomes cannot be spooled; no new work is started until the scheduler has those in memory",
                    action="spool_failed", folder=str(self._folder), detail=error.strerror,
                )  # fmt: skip
            self._broken = True
            # Half a record may stand at its end, or it may have no head: what comes next must not follow that.
            self._close_segment()
        self._open[self._segment] = self._open.get(self._segment, 0) + 1
        return self._segment

    def settle(self, segment: int) -> None:
        """One payload of this segment is acknowledged."""
        self._open[segment] -= 1
        if self._open[segment]:
            return
        del self._open[segment]
        if segment != self._segment or not self._empty_segment():
            self._drop(segment)
        if not self._open:
            self._broken = False

    def close(self) -> None:
        """What is not settled stays for the next start."""
        self._close_segment()
        if self._segment in self._bytes and self._segment not in self._open:
            self._drop(self._segment)

    def _empty_segment(self) -> bool:
        """Back to its head: a file made and removed for each report costs more than all else here. False: it failed."""
        if self._fd is None:
            return False
        head = self._head()
        try:
            os.ftruncate(self._fd, len(head))
        except OSError:
            self._close_segment()
            return False
        self._bytes[self._segment] = len(head)
        return True

    def _drop(self, segment: int) -> None:
        del self._bytes[segment]
        with contextlib.suppress(OSError):
            self._path(segment).unlink()

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:010d}.spool"

    def _begin_segment(self) -> None:
        self._close_segment()
        self._segment += 1
        self._bytes[self._segment] = 0
        path = self._path(self._segment)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._write(self._head())

    def _head(self) -> bytes:
        """What stands in each segment before its first record."""
        return MAGIC + _record(self._boot.encode())

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]
        self._bytes[self._segment] += len(data)

    def _close_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _remove_old(self, remove: Callable[[Path], object]) -> None:
        for path in self._old:
            with contextlib.suppress(OSError):
                remove(path)
        self._old = []
        self._old_bytes = 0


def _read_segment(path: Path) -> Iterator[Spooled]:
    try:
        with path.open("r+b") as file:
            boot = b""
            end = 0
            if file.read(len(MAGIC)) == MAGIC:
                end = file.tell()
                while (payload := _read_record(file)) is not None:
                    end = file.tell()
                    if boot:
                        yield Spooled(boot.decode(errors="replace"), payload)
                    else:
                        boot = payload
            if end < os.fstat(file.fileno()).st_size:
                log.warning(
                    "the spool has a damaged end, as after a crash; it is cut off",
                    action="spool_cut", file=str(path), kept_bytes=end,
                )  # fmt: skip
                file.truncate(end)
    except OSError as error:
        log.error("a spool file cannot be read", action="spool_failed", file=str(path), detail=error.strerror)


def _record(payload: bytes) -> bytes:
    return _HEAD.pack(len(payload), _check(payload)) + payload


def _check(payload: bytes) -> int:
    """CRC-32, and never 0: where a machine lost its power zeros may stand in place of records, and are none."""
    return zlib.crc32(payload) or _NO_CHECK


def _read_record(file: BinaryIO) -> bytes | None:
    """The next record's payload; None at the end, or where what follows is none."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, check = _HEAD.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        return None
    payload = file.read(length)
    return payload if _check(payload) == check else None
