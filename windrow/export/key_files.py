"""Writes the keys of a segment's rows as one file laid out by partition, and reads a partition's piece of it.

A key's partition is the upper part of its hash, and a file's keys stand in the order of their hashes; so a piece is
one run of bytes, and so is any narrower range of hashes within it. Only that run is read.

The file, in little-endian numbers: a header (mark, partitions, segment, rows), where each block begins (byte, row; one
pair more than there are partitions), and the blocks: hashes (u64), ends of keys (i32, one more than keys), rows (u32),
and the keys' bytes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from bisect import bisect_left
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError
from windrow.export.files import write_durably
from windrow.export.row_keys import hash_keys, key_buffers, number_bytes

pc: Any = pyarrow.compute

PARTITION_BYTES = 256 << 20
PARTITIONS_MAX = 4096
HASHES = 1 << 64
"""One more than the highest hash."""

_MARK = b"WRKEYS\x00\x01"
_HEADER = struct.Struct("<8sIIQ")
_PLACE = struct.Struct("<QQ")
_HASH_BYTES, _END_BYTES, _ROW_BYTES = 8, 4, 4
_READ_BYTES = 256 << 10
"""Reading so much costs no more than looking for a part of it."""


def partitions_for(source_bytes: int) -> int:
    """How many partitions the keys of a source of this size have: one for each 256 MiB."""
    return max(1, min(PARTITIONS_MAX, -(-source_bytes // PARTITION_BYTES)))


def key_file_name(segment: int) -> str:
    """Name of the segment's key file in the work folder."""
    return f"dedupe-keys-{segment:08d}.bin"


def first_hash(partition: int, partitions: int) -> int:
    """The lowest hash of the partition; that of the one behind the last is HASHES."""
    return -(-partition * HASHES // partitions)


def write_keys(work: Path, segment: int, keys: Any, partitions: int, unique: str) -> str:
    """Write the keys of rows 0, 1, … of the segment; returns the file's name, which is the same each time."""
    name = key_file_name(segment)
    write_durably(work / name, _file_bytes(segment, keys, partitions), unique)
    return name


def _file_bytes(segment: int, keys: Any, partitions: int) -> Iterator[bytes]:
    count = len(keys)
    hashes, rows = hash_keys(keys)
    order = pc.array_sort_indices(hashes)
    rows = rows.take(order)
    ends, data = key_buffers(keys.take(rows))
    sorted_hashes, sorted_rows = number_bytes(hashes.take(order)), number_bytes(pc.cast(rows, pa.uint32()))
    places = number_bytes(ends)
    searched, counted = sorted_hashes.cast("Q"), places.cast("i")

    bounds = [bisect_left(searched, first_hash(at, partitions)) for at in range(1, partitions)]
    bounds = [0, *bounds, count]
    position = _HEADER.size + _PLACE.size * (partitions + 1)
    directory: list[bytes] = [_HEADER.pack(_MARK, partitions, segment, count), _PLACE.pack(position, 0)]
    for start, stop in itertools.pairwise(bounds):
        position += _block_bytes(stop - start) + counted[stop] - counted[start]
        directory.append(_PLACE.pack(position, stop))
    yield b"".join(directory)
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            yield b"".join(
                (
                    sorted_hashes[start * _HASH_BYTES : stop * _HASH_BYTES],
                    places[start * _END_BYTES : (stop + 1) * _END_BYTES],
                    sorted_rows[start * _ROW_BYTES : stop * _ROW_BYTES],
                    data[counted[start] : counted[stop]],
                )
            )


def _block_bytes(rows: int) -> int:
    """Bytes of a block besides the keys' own."""
    return rows and rows * (_HASH_BYTES + _ROW_BYTES) + (rows + 1) * _END_BYTES


@dataclass(frozen=True, slots=True)
class Block:
    """Where a segment's keys of one partition are."""

    path: Path
    segment: int
    partitions: int
    position: int
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Keys of one segment as they were read: `ends` has one more than there are rows, and may begin with any number."""

    rows: bytes
    ends: bytes
    data: bytes

    @property
    def count(self) -> int:
        return len(self.rows) // _ROW_BYTES


def find_block(path: Path, partition: int) -> Block:
    """Where the file has the partition; ExportError where it is no whole key file."""
    with opened(path) as handle:
        mark, partitions, segment, _ = _HEADER.unpack(read_at(handle, _HEADER.size, 0, path))
        if mark != _MARK or partition >= partitions:
            raise ExportError(f"{path} is no key file of partition {partition}: remove the work folder and start anew")
        where = _HEADER.size + _PLACE.size * partition
        first = read_at(handle, 2 * _PLACE.size, where, path)
        (position, start), (end, stop) = _PLACE.iter_unpack(first)
        block = Block(path, segment, partitions, position, end - position, stop - start)
        if end > os.fstat(handle).st_size:
            raise _cut_short(path)
        if block.rows < 0 or block.bytes < _block_bytes(block.rows):
            raise damaged(path)
        return block


def read_piece(block: Block, start: int, stop: int) -> Piece:
    """The block's keys with hashes in [start, stop)."""
    if not block.rows:
        return Piece(b"", b"", b"")
    with opened(block.path) as handle:
        reader = _BlockReader(handle, block)
        low, high = bisect_left(reader, start), bisect_left(reader, stop)
        if low >= high:
            return Piece(b"", b"", b"")
        ends_at = block.rows * _HASH_BYTES
        rows_at = ends_at + (block.rows + 1) * _END_BYTES
        data_at = rows_at + block.rows * _ROW_BYTES
        ends = reader.read((high - low + 1) * _END_BYTES, ends_at + low * _END_BYTES)
        rows = reader.read((high - low) * _ROW_BYTES, rows_at + low * _ROW_BYTES)
        base = int.from_bytes(reader.read(_END_BYTES, ends_at), "little")
        places = memoryview(ends).cast("i")
        first, last = places[0] - base, places[-1] - base
        if not 0 <= first <= last <= block.bytes - data_at:
            raise damaged(block.path)
        return Piece(rows, ends, reader.read(last - first, data_at + first))


class _BlockReader:
    """A block's bytes, a small block read at once; as a sequence, its hashes, of which bisecting looks at few."""

    def __init__(self, handle: int, block: Block) -> None:
        self._handle = handle
        self._block = block
        self._all: bytes | None = None
        if block.bytes <= _READ_BYTES:
            self._all = read_at(handle, block.bytes, block.position, block.path)

    def read(self, size: int, at: int) -> bytes:
        if self._all is not None:
            return self._all[at : at + size]
        return read_at(self._handle, size, self._block.position + at, self._block.path)

    def __len__(self) -> int:
        return self._block.rows

    def __getitem__(self, at: int) -> int:
        return int.from_bytes(self.read(_HASH_BYTES, at * _HASH_BYTES), "little")


def damaged(path: Path) -> ExportError:
    """The file is not as it was written."""
    return ExportError(f"{path} is damaged: remove the work folder and start anew")


def _cut_short(path: Path) -> ExportError:
    return ExportError(f"{path} is cut short: remove the work folder and start anew")


@contextlib.contextmanager
def opened(path: Path) -> Generator[int, None, None]:
    """A handle to read from."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def read_at(handle: int, size: int, position: int, path: Path) -> bytes:
    """So many bytes from there on; ExportError where the file ends before."""
    if not 0 <= position <= position + size <= os.fstat(handle).st_size:
        raise _cut_short(path)
    data = os.pread(handle, size, position)
    while len(data) < size:
        # A signal, or a read of more than 2 GiB, gives less than was asked for.
        more = os.pread(handle, size - len(data), position + len(data))
        if not more:
            raise _cut_short(path)
        data += more
    return data
