"""A block: an immutable run of encoded items or values that can be sliced without being decoded.

Bytes: count (u32), count + 1 offsets (u32), then the encoded entries one after the other; all little-endian. Entry i
lies at [offset[i] - offset[0], offset[i + 1] - offset[0]) of the entries, so a slice keeps the offsets of its origin.
"""

from __future__ import annotations

import functools
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate

from windrow.common.errors import MalformedMessage

_U32 = struct.Struct("<I")
_SWAP = sys.byteorder == "big"
_LANES_MAX = 1 << 14
"""Offsets in one number: what hostile bytes can make it take is bounded, too."""


def pack_block(entries: Sequence[bytes]) -> bytes:
    """The block of these encoded entries; at least one."""
    offsets = array("I", accumulate(map(len, entries), initial=0))
    if _SWAP:
        offsets.byteswap()
    return b"".join((_U32.pack(len(entries)), offsets.tobytes(), *entries))


def block_count(block: bytes) -> int:
    """How many entries the block holds; MalformedMessage where it is too short to say."""
    if len(block) < 4:
        raise MalformedMessage(f"a block of {len(block)} bytes does not say how many entries it holds")
    return int(_U32.unpack_from(block)[0])


def check_block(block: bytes, count: int) -> None:
    """Raise MalformedMessage unless the block, and so each slice of it, holds `count` entries in exactly its bytes.

    At least one. In what strangers send, this is what a scheduler relies on that slices without looking again.
    """
    if count < 1 or len(block) < 4 + 4 * (count + 1) or block_count(block) != count:
        raise MalformedMessage(f"a block of {len(block)} bytes does not hold {count} entries")
    head = 4 + 4 * (count + 1)
    told = _U32.unpack_from(block, head - 4)[0] - _U32.unpack_from(block, 4)[0]
    if told != len(block) - head:
        raise MalformedMessage(f"a block says that its entries take {told} bytes; it has {len(block) - head}")
    if not _is_ascending(block[4:head], count):
        raise MalformedMessage(f"a block of {count} entries says that one ends before it begins")


def _is_ascending(offsets: bytes, count: int) -> bool:
    """Whether of `count` + 1 offsets none is below the one before it: thousands are compared at once, as one number.

    Each is a lane of 32 bits, the highest of them 0, for no block is so large. A lane with that bit set keeps it when
    a lane that is not larger is taken from it, and borrows from no other. This takes 5 ns for an entry where a
    scheduler can spare none: to sort them takes five times as much, to compare neighbours fifteen times.
    """
    for at in range(0, count, _LANES_MAX):
        lanes = int.from_bytes(offsets[4 * at : 4 * (at + _LANES_MAX + 1)], "little")
        below = (1 << 32 * min(_LANES_MAX, count - at)) - 1
        marks = _marks() & below
        before, after = lanes & below, lanes >> 32
        if (before | after) & marks or ((after | marks) - before) & marks != marks:
            return False
    return True


@functools.cache
def _marks() -> int:
    """The highest bit of each lane."""
    return int.from_bytes(b"\0\0\0\x80" * _LANES_MAX, "little")


def _offsets(block: bytes, count: int) -> array[int]:
    offsets = array("I", block[4 : 4 + 4 * (count + 1)])
    if _SWAP:
        offsets.byteswap()
    return offsets


def slice_block(block: bytes, start: int, stop: int) -> bytes:
    """Entries [start, stop) as a block of its own: two copies of bytes, whatever the number of entries."""
    count = block_count(block)
    if not 0 <= start < stop <= count:
        raise ValueError(f"slice {start}:{stop} of a block of {count}")
    if start == 0 and stop == count:
        return block
    head = 4 + 4 * (count + 1)
    origin = _U32.unpack_from(block, 4)[0]
    low = _U32.unpack_from(block, 4 + 4 * start)[0] - origin
    high = _U32.unpack_from(block, 4 + 4 * stop)[0] - origin
    return b"".join((_U32.pack(stop - start), block[4 + 4 * start : 8 + 4 * stop], block[head + low : head + high]))


def block_entries(block: bytes) -> Iterator[bytes]:
    """The encoded entries in order (for readers at the edges; never in the scheduler)."""
    count = block_count(block)
    check_block(block, count)
    offsets = _offsets(block, count)
    base = 4 + 4 * (count + 1) - offsets[0]
    for at in range(count):
        yield block[base + offsets[at] : base + offsets[at + 1]]


def block_payload(block: bytes) -> memoryview:
    """All encoded entries as one run of bytes, for a streaming decoder."""
    return memoryview(block)[4 + 4 * (block_count(block) + 1) :]
