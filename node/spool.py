"""A bounded spool on disk of outcomes that the scheduler has not acknowledged yet, for the next start of the daemon.

Written to the page cache and never fsynced: it outlives the daemon's process, not the machine. A machine that goes
down loses its leases with it, so its items run again; an fsync for each batch would guard against nothing more.

A segment file is MAGIC, then records of u32 length, u32 CRC-32 and payload; the first record is the name of the boot.
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
        self._segment_bytes = max(1, min(_SEGMENT_BYTES, bytes_max // 8))
        self._broken = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._old = sorted(folder.glob("*.spool"))
        except OSError as error:
            raise ConfigError(f"the spool folder {folder} cannot be used: {error.strerror}") from None
        self._bytes: dict[int, int] = {}
        self._open: dict[int, int] = {}
        """Records not settled, by segment."""
        self._old_bytes = sum(path.stat().st_size for path in self._old)
        self._segment = int(self._old[-1].stem) if self._old and self._old[-1].stem.isdecimal() else 0
        self._fd = -1
        self._head_bytes = 0
        """Of the current segment: what stands before its first record."""

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
            if self._fd < 0 or self._bytes[self._segment] >= self._segment_bytes:
                self._begin_segment()
            self._write(payload)
        except OSError as error:
            if not self._broken:
                log.error(
                    "outcomes cannot be spooled; no new work is started until the scheduler has those in memory",
                    action="spool_failed", folder=str(self._folder), detail=error.strerror,
                )  # fmt: skip
            self._broken = True
            self._bytes.setdefault(self._segment, 0)
        self._open[self._segment] = self._open.get(self._segment, 0) + 1
        return self._segment

    def settle(self, segment: int) -> None:
        """One payload of this segment is acknowledged."""
        self._open[segment] -= 1
        if self._open[segment]:
            return
        del self._open[segment]
        if segment != self._segment or self._broken or not self._empty_segment():
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
        if self._fd < 0:
            return False
        try:
            os.ftruncate(self._fd, self._head_bytes)
        except OSError:
            return False
        self._bytes[self._segment] = self._head_bytes
        return True

    def _drop(self, segment: int) -> None:
        if segment == self._segment:
            self._close_segment()
        del self._bytes[segment]
        with contextlib.suppress(OSError):
            self._path(segment).unlink()

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:010d}.spool"

    def _begin_segment(self) -> None:
        self._close_segment()
        fd = os.open(
            self._path(self._segment + 1), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        self._segment += 1
        self._fd = fd
        self._bytes[self._segment] = 0
        self._write_bytes(MAGIC)
        self._write(self._boot.encode())
        self._head_bytes = self._bytes[self._segment]

    def _write(self, payload: bytes) -> None:
        self._write_bytes(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)

    def _write_bytes(self, data: bytes) -> None:
        """All of it or nothing: after a partial write the next record must not follow half a one."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._bytes[self._segment])
            raise
        self._bytes[self._segment] += written

    def _close_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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


def _read_record(file: BinaryIO) -> bytes | None:
    """The next record's payload; None at the end, or where what follows is none."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, check = _HEAD.unpack(head)
    if length > MESSAGE_BYTES_MAX:
        return None
    payload = file.read(length)
    return payload if len(payload) == length and zlib.crc32(payload) == check else None
