"""Turns the key columns of rows into one binary key a row, and keys into stable hashes; vectorised, pure.

Two rows have the same key exactly if they are equal in every column: nulls are equal to each other and to nothing
else, 0.0 equals -0.0, and NaN equals NaN. A key is the columns' cells one after the other, each but the last with its
length before it. A cell is the value's bytes, little end first, or UTF-8; null is no byte where all values have the
same width, and the one byte 0xff, which UTF-8 never has, where they are text.

Keys and hashes depend on the values alone: not on the machine, the version of Python or pyarrow, nor on which rows
stand beside them.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute

from windrow.common.errors import ExportError

pc: Any = pyarrow.compute

_NULL_TEXT = b"\xff"
_NAN = struct.unpack("<d", bytes.fromhex("000000000000f87f"))[0]

_WORDS_MAX = 32
"""Longer keys are hashed one by one: a turn for each word would take ever longer for ever fewer rows."""
_FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def encode_keys(columns: Sequence[Any]) -> Any:
    """One binary key a row, without nulls; ExportError for a type whose values cannot be compared."""
    try:
        cells = [_cells(column) for column in columns]
        if len(cells) == 1:
            return cells[0]
        pieces: list[Any] = []
        for cell in cells[:-1]:
            pieces += [_lengths(cell), cell]
        return pc.binary_join_element_wise(*pieces, cells[-1], b"")
    except (pa.ArrowCapacityError, pa.ArrowInvalid) as error:
        # An array of binary values holds 2 GiB.
        raise ExportError(
            f"--dedupe-by: the key columns of a segment cannot be put together ({error}): name fewer or shorter columns"
        ) from None


def find_first_rows(keys: Any) -> Any:
    """For each key true where it stands for the first time, false where it came before."""
    encoded = keys.dictionary_encode()
    if not len(keys):
        return pa.array([], pa.bool_())
    # Codes are given in the order of first appearance, so a key is new where the highest code so far grows.
    highest = pc.cumulative_max(encoded.indices)
    first = pa.concat_arrays([pa.array([True]), pc.not_equal(highest.slice(1), highest.slice(0, len(keys) - 1))])
    if first.true_count != len(encoded.dictionary):
        raise AssertionError("pyarrow's dictionary is not in the order of first appearance")
    return first


def hash_keys(keys: Any) -> tuple[Any, Any]:
    """(hashes, rows): a 64 bit hash for each key, in no order, and the number of the key's row."""
    count = len(keys)
    offsets, data = key_buffers(keys)
    starts = offsets.slice(0, count)
    lengths = pc.cast(pc.subtract(offsets.slice(1), starts), pa.uint64())
    words = pc.shift_right(pc.add(lengths, _u64(7)), _u64(3))
    many = pc.greater(words, _u64(_WORDS_MAX))
    # A word is read across the border of two, the last one perhaps beyond the end.
    whole = len(data) // 8 + 2
    source = pa.Array.from_buffers(pa.uint64(), whole, [None, pa.py_buffer(bytes(data).ljust(whole * 8, b"\0"))])
    hashes: list[Any] = [pa.array([], pa.uint64())]
    rows: list[Any] = [pa.array([], pa.uint64())]
    for number in sorted(pc.unique(pc.filter(words, pc.invert(many))).to_pylist()):
        mask = pc.equal(words, _u64(number))
        rows.append(pc.indices_nonzero(mask))
        hashes.append(_hash_words(source, pc.filter(starts, mask), pc.filter(lengths, mask), number))
    if many.true_count:
        rows.append(pc.indices_nonzero(many))
        hashes.append(_hash_long(data, pc.filter(starts, many), pc.filter(lengths, many)))
    return pa.concat_arrays(hashes), pa.concat_arrays(rows)


def key_buffers(keys: Any) -> tuple[Any, memoryview]:
    """The keys' offsets (one more than there are keys), and the bytes into which they point."""
    _, places, data = keys.buffers()
    if places is None or not len(keys):
        return pa.array([0], pa.int32()), memoryview(b"")
    offsets = pa.Array.from_buffers(pa.int32(), len(keys) + 1, [None, places], offset=keys.offset)
    return offsets, memoryview(data if data is not None else b"")


def number_bytes(numbers: Any) -> memoryview:
    """The bytes of an array of numbers."""
    width = numbers.type.bit_width // 8
    data = numbers.buffers()[1]
    if data is None:
        return memoryview(b"")
    return memoryview(data).cast("B")[numbers.offset * width : (numbers.offset + len(numbers)) * width]


def _cells(column: Any) -> Any:
    """The values' bytes, without nulls."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        cells = pc.cast(pc.cast(column, pa.string()), pa.binary())
        return pc.fill_null(cells, _NULL_TEXT) if cells.null_count else cells
    if pa.types.is_boolean(kind):
        column = pc.cast(column, pa.uint8())
    elif pa.types.is_float32(kind) or pa.types.is_float64(kind):
        # Adding zero makes 0.0 of -0.0 and changes nothing else; there are many NaNs.
        column = pc.if_else(pc.is_nan(column), pa.scalar(_NAN, kind), pc.add(column, pa.scalar(0.0, kind)))
    elif not (pa.types.is_integer(kind) or pa.types.is_temporal(kind) or pa.types.is_decimal(kind)):
        raise ExportError(f"--dedupe-by: values of type {kind} cannot be compared: name a column of another type")
    cells = _number_cells(column)
    return pc.if_else(column.is_valid(), cells, pa.scalar(b"", pa.binary())) if column.null_count else cells


def _number_cells(numbers: Any) -> Any:
    """The numbers' bytes as they stand, what stands for null too."""
    # Not by a cast from a view: pyarrow 16 dies of that where the array is a slice.
    width, count = numbers.type.bit_width // 8, len(numbers)
    stops = pc.cumulative_sum_checked(pa.repeat(pa.scalar(width, pa.int32()), count))
    ends = pa.concat_arrays([pa.array([0], pa.int32()), stops])
    return pa.Array.from_buffers(pa.binary(), count, [None, ends.buffers()[1], pa.py_buffer(number_bytes(numbers))])


def _lengths(cells: Any) -> Any:
    return _number_cells(pc.binary_length(cells))


def _hash_words(source: Any, starts: Any, lengths: Any, words: int) -> Any:
    """Hashes of the keys that begin at these bytes of `source`, all of so many words, the last one perhaps in part."""
    hashes = _mix(lengths, 0)
    places = pc.cast(pc.shift_right(starts, pa.scalar(3, starts.type)), pa.int64())
    shifts = pc.cast(pc.shift_left(pc.bit_wise_and(starts, pa.scalar(7, starts.type)), 3), pa.uint64())
    rest = pc.subtract(_u64(63), shifts)
    upper = source.take(places) if words else None
    for number in range(words):
        lower, upper = upper, source.take(pc.add(places, number + 1))
        # In two steps, because a shift by all 64 bits is none.
        word = pc.bit_wise_or(pc.shift_right(lower, shifts), pc.shift_left(pc.shift_left(upper, _u64(1)), rest))
        if number == words - 1:
            # What lies behind the key's end is another key's.
            unused = pc.subtract(_u64(8 * words), lengths)
            word = pc.shift_left(word, pc.shift_left(unused, _u64(3)))
        hashes = _mix(pc.bit_wise_xor(hashes, word), 0)
    return _mix(_mix(hashes, 1), 2)


def _mix(values: Any, which: int) -> Any:
    product = pc.multiply(values, _u64(_FACTORS[which]))
    return pc.bit_wise_xor(product, pc.shift_right(product, _u64(32)))


def _hash_long(data: memoryview, starts: Any, lengths: Any) -> Any:
    digests = [
        blake2b(data[start : start + length], digest_size=8).digest()
        for start, length in zip(starts.to_pylist(), lengths.to_pylist(), strict=True)
    ]
    return pa.Array.from_buffers(pa.uint64(), len(digests), [None, pa.py_buffer(b"".join(digests))])


def _u64(value: int) -> Any:
    return pa.scalar(value, pa.uint64())
