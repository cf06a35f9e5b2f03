"""Keeps a segment's converted columns in the work folder until a later round knows which rows stay."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from windrow.common.errors import ExportError
from windrow.export.files import write_durably

ipc: Any = pyarrow.ipc

_WRITE_BYTES = 1 << 20
_MARK = b"WRKEPT\x00\x01"
_HEAD = struct.Struct("<8sQ")
"""Mark and CRC-32; 16 bytes, so that Arrow finds its buffers where it wants them."""


def kept_file_name(segment: int) -> str:
    """Name of the file in the work folder."""
    return f"dedupe-kept-{segment:08d}.arrow"


def write_kept(work: Path, segment: int, columns: Sequence[Any], unique: str) -> str:
    """Write the columns, all of one length; returns the file's name, which is the same each time."""
    name = kept_file_name(segment)
    batch = pa.record_batch(list(columns), names=[f"c{at}" for at in range(len(columns))])
    sink = pa.BufferOutputStream()
    # One thread, because the slot is one. lz4 takes half the time of zstd; its files are half as large again.
    options = ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    data = memoryview(sink.getvalue())
    head = _HEAD.pack(_MARK, zlib.crc32(data))
    write_durably(work / name, chain([head], _chunks(data)), unique)
    return name


def read_kept(work: Path, segment: int) -> list[Any]:
    """The columns as they were written; ExportError where the file is damaged."""
    path = work / kept_file_name(segment)
    whole = memoryview(path.read_bytes())
    head, data = whole[: _HEAD.size], whole[_HEAD.size :]
    # Arrow believes what it reads: lengths of strings, say, which may lead anywhere in memory.
    if len(head) < _HEAD.size or _HEAD.unpack(head) != (_MARK, zlib.crc32(data)):
        raise ExportError(f"{path} is damaged: remove the work folder and start anew")
    with ipc.open_file(pa.py_buffer(data), options=ipc.IpcReadOptions(use_threads=False)) as reader:
        return list(reader.get_batch(0).columns)


def _chunks(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), _WRITE_BYTES):
        yield bytes(data[start : start + _WRITE_BYTES])
