"""Fresh items reach a chunk message without a read of the store."""

from __future__ import annotations

from windrow.common.blocks import block_entries, pack_block
from windrow.scheduler.core.inputs import InputBlock
from windrow.scheduler.core.records import PutInput
from windrow.scheduler.input_cache import ENTRY_BYTES, InputCache


def put(cache: InputCache, base: int, *entries: bytes, no: int = 1) -> InputBlock:
    block = pack_block(entries)
    cache.put(PutInput(no, base, len(entries), block, b"", None))
    return InputBlock(base, len(entries), len(block), b"")


def test_slices_tile_what_was_asked_for() -> None:
    cache = InputCache()
    blocks = [put(cache, 0, b"a", b"b", b"c"), put(cache, 3, b"d", b"e")]
    found = cache.find(1, blocks, 1, 4)
    assert found is not None
    assert [(each.start, each.stop, list(block_entries(each.block))) for each in found] == [
        (1, 3, [b"b", b"c"]),
        (3, 4, [b"d"]),
    ]


def test_another_job_s_block_is_not_found() -> None:
    cache = InputCache()
    block = put(cache, 0, b"a")
    assert cache.find(2, [block], 0, 1) is None


def test_what_does_not_cover_the_range_is_not_given() -> None:
    cache = InputCache()
    block = put(cache, 5, b"a", b"b")
    assert cache.find(1, [block], 4, 6) is None
    assert cache.find(1, [block], 5, 8) is None
    assert cache.find(1, [], 0, 1) is None
    assert cache.find(1, [block], 5, 7) is not None


def test_the_oldest_are_dropped_when_the_bytes_are_used_up() -> None:
    size = len(pack_block([b"x" * 100])) + ENTRY_BYTES
    cache = InputCache(bytes_max=3 * size)
    blocks = [put(cache, base, b"x" * 100) for base in range(4)]
    assert cache.find(1, [blocks[0]], 0, 1) is None
    assert all(cache.find(1, [block], block.base, block.base + 1) for block in blocks[1:])


def test_a_block_put_twice_counts_once() -> None:
    size = len(pack_block([b"x" * 100])) + ENTRY_BYTES
    cache = InputCache(bytes_max=2 * size)
    other = put(cache, 1, b"x" * 100)
    for _ in range(9):
        block = put(cache, 0, b"x" * 100)
    assert cache.find(1, [block], 0, 1) is not None
    assert cache.find(1, [other], 1, 2) is not None


def test_a_block_is_let_go_when_its_end_was_sent() -> None:
    cache = InputCache()
    block = put(cache, 0, b"a", b"b", b"c")
    assert cache.find(1, [block], 0, 2) is not None
    assert cache.find(1, [block], 2, 3) is not None
    assert cache.find(1, [block], 0, 1) is None


def test_many_small_blocks_take_no_more_than_a_few_large_ones() -> None:
    cache = InputCache(bytes_max=100 * ENTRY_BYTES)
    blocks = [put(cache, base, b"") for base in range(1000)]
    kept = [block for block in blocks if cache.find(1, [block], block.base, block.base + 1)]
    assert 50 <= len(kept) <= 100


def test_a_block_larger_than_the_cache_is_not_kept() -> None:
    cache = InputCache(bytes_max=10)
    block = put(cache, 0, b"x" * 100)
    assert cache.find(1, [block], 0, 1) is None
