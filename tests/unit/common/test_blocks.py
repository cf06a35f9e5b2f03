"""Blocks are sliced without being decoded, and slices are blocks again."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.blocks import block_count, block_entries, block_payload, check_block, pack_block, slice_block
from windrow.common.errors import MalformedMessage

ENTRIES = st.lists(st.binary(max_size=12), min_size=1, max_size=20)


@settings(deadline=None)
@given(ENTRIES, st.data())
def test_a_slice_of_a_slice_holds_the_entries_of_that_place(entries: list[bytes], data: st.DataObject) -> None:
    block, rest = pack_block(entries), entries
    for _ in range(3):
        start = data.draw(st.integers(0, len(rest) - 1))
        stop = data.draw(st.integers(start + 1, len(rest)))
        block, rest = slice_block(block, start, stop), rest[start:stop]
        check_block(block, len(rest))
        assert list(block_entries(block)) == rest
        assert block_count(block) == len(rest)
        assert bytes(block_payload(block)) == b"".join(rest)


def test_the_whole_is_not_copied() -> None:
    block = pack_block([b"a", b"bc"])
    assert slice_block(block, 0, 2) is block


def test_the_layout_is_as_documented() -> None:
    assert pack_block([b"ab", b"c"]) == struct.pack("<4I", 2, 0, 2, 3) + b"abc"


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 0), (1, 1), (2, 1), (0, 3)])
def test_a_slice_outside_the_block_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="of a block of 2"):
        slice_block(pack_block([b"a", b"b"]), start, stop)


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (b"", 1),
        (b"\0\0\0", 1),
        (pack_block([b"a"]), 2),
        (pack_block([b"a", b"b"]), 1),
        (struct.pack("<3I", 5, 0, 1) + b"a", 1),
        (struct.pack("<3I", 3, 0, 0) + b"ab", 3),
        (struct.pack("<2I", 0, 0), 0),
        (pack_block([b"a"]) + b"x", 1),
        (pack_block([b"a"])[:-1], 1),
        (struct.pack("<3I", 1, 5, 3), 1),
        (struct.pack("<I", 2**32 - 1), 2**32 - 1),
    ],
)
def test_a_block_that_does_not_hold_what_it_claims_is_malformed(block: bytes, count: int) -> None:
    with pytest.raises(MalformedMessage):
        check_block(block, count)


@pytest.mark.parametrize("offsets", [(0, 3, 2, 4), (0, 900, 2, 4), (5, 4, 7, 9), (0, 1, 5, 4)])
def test_a_block_whose_slices_would_hold_something_else_is_malformed(offsets: tuple[int, ...]) -> None:
    """The ends are right, and a scheduler slices without looking at what lies between."""
    with pytest.raises(MalformedMessage, match="ends before it begins"):
        check_block(struct.pack("<5I", 3, *offsets) + b"abcd", 3)


def test_a_block_that_was_cut_off_says_how_much_is_missing_also_where_it_is_a_slice() -> None:
    part = slice_block(pack_block([b"ab", b"cde", b"f"]), 1, 3)
    for read in (lambda block: check_block(block, 2), lambda block: list(block_entries(block))):
        with pytest.raises(MalformedMessage, match=r"its entries take 4 bytes; it has 1$"):
            read(part[:-3])


def test_the_first_four_bytes_say_how_many_entries_there_are() -> None:
    assert block_count(struct.pack("<I", 7)) == 7


@pytest.mark.parametrize("block", [b"", b"\0\0\0"])
def test_a_block_too_short_to_be_counted_is_malformed(block: bytes) -> None:
    for read in (block_count, lambda block: list(block_entries(block))):
        with pytest.raises(MalformedMessage):
            read(block)


def test_offsets_are_right_where_each_is_at_least_the_one_before_it() -> None:
    dice = random.Random(7)
    told: set[bool] = set()
    for _ in range(5_000):
        between = [
            dice.choice((0, 1, 2, 3, 4, 5, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)) for _ in range(dice.randint(1, 6))
        ]
        if dice.random() < 0.5:
            between = sorted(min(each, 4) for each in between)
        offsets = [0, *between, 4]
        right = offsets == sorted(offsets)
        block = struct.pack(f"<I{len(offsets)}I", len(offsets) - 1, *offsets) + b"abcd"
        assert is_taken(block, len(offsets) - 1) is right, offsets
        told.add(right)
    assert told == {True, False}


def is_taken(block: bytes, count: int) -> bool:
    try:
        check_block(block, count)
    except MalformedMessage:
        return False
    return True


@pytest.mark.parametrize("at", [1, 9_999, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 39_999, 40_000])
@pytest.mark.parametrize("wrong", [-1, 1 << 31])
def test_one_wrong_offset_of_tens_of_thousands_is_found(at: int, wrong: int) -> None:
    offsets = list(range(100, 40_102))
    block = struct.pack(f"<I{len(offsets)}I", len(offsets) - 1, *offsets) + bytes(40_001)
    check_block(block, 40_001)
    offsets[at] = offsets[at - 1] - 1 if wrong < 0 else wrong
    with pytest.raises(MalformedMessage, match="ends before it begins"):
        check_block(struct.pack(f"<I{len(offsets)}I", len(offsets) - 1, *offsets) + bytes(40_001), 40_001)


def test_a_slice_of_a_large_block_keeps_the_offsets_of_its_origin_and_is_taken() -> None:
    block = pack_block([b"x" * 1_000] * 40_000)
    part = slice_block(block, 30_000, 39_999)
    check_block(part, 9_999)
    assert list(block_entries(part))[-1] == b"x" * 1_000
