"""Drops the rows whose key stands in an earlier row, in three rounds over many nodes, exactly and in bounded memory.

1. `write_first_round`, for each segment: the segment's own repeats go; the other rows' keys are written by partition,
   their output columns beside them.
2. `find_losers`, for each partition: reads its piece of every key file, in the order of the segments, and writes
   which rows have a key that stood before. Where the pieces are more than memory may hold, it goes through them in
   several passes, each over a range of hashes. Equal keys are compared byte for byte; hashes only bring them together.
3. `keep_winners`, for each segment: reads its own slice of every partition's losers and drops those rows.

What is written depends on the data alone, so each step may run twice, also at once, and is done over after a kill.
A full disk is an OSError, as it comes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import struct
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError
from windrow.export.files import write_durably
from windrow.export.kept_rows import write_kept
from windrow.export.key_files import (
    Block,
    Piece,
    damaged,
    find_block,
    first_hash,
    opened,
    read_at,
    read_piece,
    write_keys,
)
from windrow.export.row_keys import encode_keys, find_first_rows, number_bytes

pc: Any = pyarrow.compute

MEMORY_BYTES = 256 << 20
"""What finding a partition's losers may take, besides what the process takes anyway."""
_COPIES = 6
"""Keys stand in memory so often: as read, joined, in pyarrow's table with its slots, and as indices."""

_MARK = b"WRLOSE\x00\x01"
_HEADER = struct.Struct("<8sIIQ")
_PLACE = struct.Struct("<QQ")
_MISSING = (1 << 64) - 1
_ROW_BYTES = 4


@dataclass(frozen=True, slots=True)
class FirstRound:
    """A segment after the first round."""

    key_file: str
    kept_file: str
    rows: int
    """Without the segment's own repeats."""


def write_first_round(
    work: Path, segment: int, keys: Sequence[Any], columns: Sequence[Any], partitions: int, unique: str
) -> FirstRound:
    """Write the keys and the output columns of the segment's rows but for those repeated within it."""
    encoded = encode_keys(keys)
    first = find_first_rows(encoded)
    if first.true_count < len(first):
        encoded = encoded.filter(first)
        columns = [column.filter(first) for column in columns]
    kept_file = write_kept(work, segment, columns, unique)
    return FirstRound(write_keys(work, segment, encoded, partitions, unique), kept_file, len(encoded))


def losers_file_name(partition: int) -> str:
    """Name of the partition's file of losers in the work folder."""
    return f"dedupe-losers-{partition:04d}.bin"


def find_losers(
    work: Path, partition: int, key_files: Sequence[str], unique: str, memory_bytes: int = MEMORY_BYTES
) -> str:
    """Write which rows have a key that an earlier row has; returns the file's name, which is the same each time.

    `key_files` are those of all segments, in any order.
    """
    blocks = sorted((find_block(work / name, partition) for name in set(key_files)), key=lambda block: block.segment)
    partitions = _get_partitions(blocks, work)
    batch_bytes = max(1, memory_bytes // _COPIES)
    passes = max(1, -(-sum(block.bytes for block in blocks) // batch_bytes))
    low, high = first_hash(partition, partitions), first_hash(partition + 1, partitions)
    name = losers_file_name(partition)
    # A file without a name, so that nothing is left of it after a kill.
    with tempfile.TemporaryFile(dir=work) as found:
        counts: list[array[int]] = []
        for number in range(passes):
            start, stop = (low + (high - low) * at // passes for at in (number, number + 1))
            losers = _PassLosers(found, batch_bytes)
            for block in blocks:
                losers.add(read_piece(block, start, stop))
            counts.append(losers.finish())
        found.flush()
        write_durably(work / name, _losers_bytes(partition, partitions, blocks, counts, found, work), unique)
    return name


def keep_winners(work: Path, segment: int, losers_files: Sequence[str], columns: Sequence[Any]) -> list[Any]:
    """The segment's columns without its losers; `losers_files` are those of all partitions, in any order."""
    found: list[bytes] = []
    seen: set[int] = set()
    partitions = 0
    for name in sorted(set(losers_files)):
        partition, partitions, rows = _read_losers(work / name, segment)
        seen.add(partition)
        found.append(rows)
    if not partitions or len(seen) != partitions or max(seen) >= partitions:
        raise ExportError(f"{len(seen)} files of losers in {work} instead of {partitions}: start the export anew")
    data = b"".join(found)
    if not data:
        return list(columns)
    losers = pa.Array.from_buffers(pa.uint32(), len(data) // _ROW_BYTES, [None, pa.py_buffer(data)])
    count = len(columns[0])
    if pc.max(losers).as_py() >= count:
        raise ExportError(f"losers of segment {segment} in {work} are of other rows: start the export anew")
    rows = pc.cast(pc.indices_nonzero(pa.repeat(True, count)), pa.uint32())
    winners = pc.invert(pc.is_in(rows, value_set=losers))
    return [column.filter(winners) for column in columns]


def _get_partitions(blocks: Sequence[Block], work: Path) -> int:
    """The number that all key files agree on."""
    numbers = {block.partitions for block in blocks}
    if len(numbers) != 1 or [block.segment for block in blocks] != list(range(len(blocks))):
        raise ExportError(f"the key files in {work} are not of one export: remove the work folder and start anew")
    return numbers.pop()


@dataclass(slots=True)
class _PassLosers:
    """Finds the losers of one pass, piece by piece in the order of segments, and appends them to a file."""

    file: Any
    batch_bytes: int
    _counts: array[int] = field(default_factory=lambda: array("I"))
    _pieces: list[Piece] = field(default_factory=list[Piece])
    _bytes: int = 0
    _known: Any = field(default_factory=lambda: pa.array([], pa.large_binary()))
    """The different keys of earlier batches. There are some only where a few keys have most of the rows: elsewhere a
    pass is a batch."""

    def add(self, piece: Piece) -> None:
        size = len(piece.data) + len(piece.ends) + len(piece.rows)
        if self._bytes and self._bytes + size > self.batch_bytes:
            self._flush()
        self._pieces.append(piece)
        self._bytes += size

    def finish(self) -> array[int]:
        """How many losers each piece had."""
        self._flush()
        return self._counts

    def _flush(self) -> None:
        pieces, self._pieces, self._bytes = self._pieces, [], 0
        keys, rows = _joined(pieces)
        if len(self._known):
            keys = pa.concat_arrays([self._known, keys])
        first = find_first_rows(keys)
        repeated = pc.invert(first.slice(len(self._known)))
        self._known = keys.filter(first)
        losers = rows.filter(repeated)
        self.file.write(number_bytes(losers))
        until = [0, *accumulate(piece.count for piece in pieces)]
        sums = pc.cumulative_sum(pc.cast(repeated, pa.uint32()))
        # A running sum of the marks, looked at where pieces end, counts the losers of each without a look at rows.
        counted = number_bytes(sums).cast("I")
        totals = [counted[stop - 1] if stop else 0 for stop in until]
        self._counts.extend(stop - start for start, stop in pairwise(totals))


def _joined(pieces: Sequence[Piece]) -> tuple[Any, Any]:
    """All keys and all rows of the pieces."""
    rows = b"".join(piece.rows for piece in pieces)
    count = len(rows) // _ROW_BYTES
    # Ends begin with another number in each piece; lengths do not.
    starts, stops = (
        pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(b"".join(cut))])
        for cut in ([piece.ends[:-_ROW_BYTES] for piece in pieces], [piece.ends[_ROW_BYTES:] for piece in pieces])
    )
    lengths = pc.subtract(pc.cast(stops, pa.int64()), pc.cast(starts, pa.int64()))
    if count and pc.min(lengths).as_py() < 0:
        # Nothing else would keep a key from reaching into other memory.
        raise ExportError("a key file of the work folder is damaged: remove the work folder and start anew")
    ends = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    data = pa.py_buffer(b"".join(piece.data for piece in pieces))
    keys = pa.Array.from_buffers(pa.large_binary(), count, [None, ends.buffers()[1], data])
    return keys, pa.Array.from_buffers(pa.uint32(), count, [None, pa.py_buffer(rows)])


def _losers_bytes(
    partition: int, partitions: int, blocks: Sequence[Block], counts: Sequence[array[int]], found: Any, work: Path
) -> Iterator[bytes]:
    """A header (mark, partition, partitions, segments), where each segment's rows begin and end, and the rows (u32).

    In `found` they stand by pass and then by segment, `counts` says how many of each.
    """
    segments = blocks[-1].segment + 1
    position = _HEADER.size + _PLACE.size * segments
    places = [(_MISSING, _MISSING)] * segments
    for at, block in enumerate(blocks):
        start, position = position, position + _ROW_BYTES * sum(count[at] for count in counts)
        places[block.segment] = (start, position)
    yield _HEADER.pack(_MARK, partition, partitions, segments)
    yield b"".join(_PLACE.pack(*place) for place in places)
    cursors = [0, *accumulate(_ROW_BYTES * sum(count) for count in counts)]
    for at in range(len(blocks)):
        for number, count in enumerate(counts):
            if size := count[at] * _ROW_BYTES:
                yield read_at(found.fileno(), size, cursors[number], work)
                cursors[number] += size


def _read_losers(path: Path, segment: int) -> tuple[int, int, bytes]:
    """(partition, partitions, rows of the segment)."""
    with opened(path) as handle:
        mark, partition, partitions, segments = _HEADER.unpack(read_at(handle, _HEADER.size, 0, path))
        start = stop = _MISSING
        if mark == _MARK and segment < segments:
            place = _HEADER.size + _PLACE.size * segment
            start, stop = _PLACE.unpack(read_at(handle, _PLACE.size, place, path))
        if start == _MISSING:
            raise ExportError(f"{path} does not know segment {segment}: remove the work folder and start anew")
        if partition >= partitions or stop < start or (stop - start) % _ROW_BYTES:
            raise damaged(path)
        return partition, partitions, read_at(handle, stop - start, start, path)
