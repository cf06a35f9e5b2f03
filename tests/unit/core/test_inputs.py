"""Where a job's items lie, without their bytes."""

from __future__ import annotations

from windrow.scheduler.core.inputs import InputBlock, InputIndex


def make_index(*blocks: tuple[int, int]) -> InputIndex:
    """Blocks of (items, bytes), one behind the other."""
    index, base = InputIndex(), 0
    for count, size in blocks:
        index.add(InputBlock(base, count, size, b"d%d" % base))
        base += count
    return index


def bases(blocks: list[InputBlock]) -> list[int]:
    return [block.base for block in blocks]


def test_a_block_is_found_by_its_first_item_only() -> None:
    index = make_index((10, 1), (5, 1))
    found = index.find(10)
    assert found is not None
    assert found.count == 5
    assert index.find(5) is None
    assert index.find(15) is None
    assert make_index().find(0) is None


def test_the_blocks_that_a_range_touches() -> None:
    index = make_index((10, 1), (10, 1), (10, 1))
    assert bases(index.covering(0, 10)) == [0]
    assert bases(index.covering(9, 11)) == [0, 10]
    assert bases(index.covering(10, 20)) == [10]
    assert bases(index.covering(15, 30)) == [10, 20]
    assert make_index().covering(0, 5) == []


def test_a_chunk_stops_before_the_block_that_would_make_it_too_large() -> None:
    index = make_index((10, 60), (10, 30), (10, 30))
    assert index.clip(0, 30, 100) == 20
    assert index.clip(0, 15, 100) == 15
    assert index.clip(0, 30, 90) == 20, "exactly as many bytes as there may be"
    assert index.clip(0, 30, 89) == 10
    assert index.clip(5, 30, 120) == 30


def test_a_chunk_has_at_least_one_block_however_large() -> None:
    index = make_index((10, 500), (10, 500))
    assert index.clip(0, 20, 100) == 10
    assert index.clip(3, 20, 100) == 10
    assert index.clip(12, 20, 100) == 20


def test_numbers_have_no_blocks_and_are_not_clipped() -> None:
    assert make_index().clip(7, 1_000, 1) == 1_000


def test_blocks_below_an_index_are_forgotten_only_when_there_are_very_many() -> None:
    few = make_index(*[(1, 1)] * 4096)
    few.forget_below(4000)
    assert len(few) == 4096
    many = make_index(*[(1, 1)] * 5000)
    many.forget_below(1000)
    assert many.find(999) is None
    assert many.find(1000) is not None
    many = make_index(*[(1, 1)] * 5000)
    many.forget_below(5000)
    assert len(many) == 2048, "the last ones stay: a resend may name them"


def test_what_lies_at_the_index_itself_is_not_forgotten() -> None:
    index = make_index(*[(10, 1)] * 5000)
    index.forget_below(105)
    assert index.find(90) is None
    assert index.find(100) is not None


def test_below_what_is_remembered_nothing_is_forgotten() -> None:
    index = make_index(*[(10, 1)] * 5000)
    index.forget_below(15)
    assert len(index) == 4999
    for below in (0, 5, 15):
        index.forget_below(below)
        assert len(index) == 4999
