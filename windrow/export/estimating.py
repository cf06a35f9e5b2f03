"""Says how many plain bytes a compressed source has, before it is decompressed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from windrow.common.errors import ExportError
from windrow.export.compression import GZIP, PLAIN, PLAIN_BYTES, ZIP, ZSTD, find_members, open_plain

SAMPLE_COMPRESSED_BYTES = 4 << 20
SAMPLE_PLAIN_BYTES = 32 << 20
SAMPLE_PLAIN_BYTES_MAX = 512 << 20
"""However little of the file it took."""
ESTIMATE_SLACK = 1.15
"""What an estimate is raised by: rather too much than a full disk."""


@dataclass(frozen=True, slots=True)
class Need:
    """How many plain bytes will come."""

    bytes: int
    exact: bool


def needed_bytes(
    raw: BinaryIO, name: str, size: int, *, compression: str, member: str = "", sequential: bool = False
) -> Need:
    """How many plain bytes the file of `size` bytes has; `raw` is read here and there, and not closed.

    Where it is `sequential` only its beginning is read, and only once.

    What the file says of itself is believed where a sample agrees: gzip knows its last member's length only, and that
    modulo 4 GiB; zstd that of its first frame.
    """
    if compression == PLAIN:
        return Need(size, True)
    if compression == ZIP:
        return Need(_member_bytes(raw, name, member), True)
    if not sequential:
        raw.seek(0)
    stream = open_plain(raw, name, compression=compression, closes=False)
    plain = 0
    while True:
        taken = stream.compressed_bytes
        data = stream.read(PLAIN_BYTES)
        if not data:
            return Need(plain, True)
        enough = taken >= SAMPLE_COMPRESSED_BYTES or plain >= SAMPLE_PLAIN_BYTES
        # When more is taken, all that was taken before has come out, and only then do the two belong together.
        if plain and enough and (stream.compressed_bytes > taken or plain >= SAMPLE_PLAIN_BYTES_MAX):
            break
        plain += len(data)
    estimate = plain / taken * size
    if sequential:
        return Need(int(estimate * ESTIMATE_SLACK), False)
    said = _gzip_length(raw, size, estimate) if compression == GZIP else _zstd_length(raw)
    if compression in (GZIP, ZSTD) and said is not None and estimate / 1.5 <= said <= estimate * 1.5:
        return Need(said, False)
    return Need(int(estimate * ESTIMATE_SLACK), False)


def _member_bytes(raw: BinaryIO, name: str, member: str) -> int:
    members = find_members(raw, name)
    found = [one.bytes for one in members if one.name == member or not member]
    if len(found) != 1:
        raise ExportError(f"the archive {name} has {len(members)} files, and {len(found)} called {member!r}")
    return found[0]


def _gzip_length(raw: BinaryIO, size: int, estimate: float) -> int | None:
    raw.seek(size - 4)
    trailer = raw.read(4)
    if len(trailer) < 4:
        return None
    length = int(struct.unpack("<I", trailer)[0])
    return length + (max(0, round((estimate - length) / 2**32)) << 32)


def _zstd_length(raw: BinaryIO) -> int | None:
    """The content's length in the first frame's header, where it stands there (RFC 8878, 3.1.1.1)."""
    raw.seek(0)
    head = raw.read(18)
    if len(head) < 18 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = head[4]
    single, flag = bool(descriptor & 0x20), descriptor >> 6
    length = 1 << flag if flag or single else 0
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(head[at : at + length], "little") + (256 if length == 2 else 0)
