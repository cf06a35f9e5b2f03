"""A node's memory of the fences that are done with."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from windrow.common.words import Fence
from windrow.node.remembered import RememberedFences


@pytest.mark.parametrize("stride", [1, 2, 3, 255, 256, 1000])
def test_the_last_fences_are_remembered_and_old_ones_forgotten(stride: int) -> None:
    known = RememberedFences(100)
    fences = [Fence(1, 7 + stride * number) for number in range(1000)]
    for count, fence in enumerate(fences, 1):
        assert fence not in known
        known.add(fence)
        assert all(each in known for each in fences[max(0, count - 100) : count])
        assert sum(each in known for each in fences) < 200


def test_no_other_fence_is_taken_for_one_that_was_added() -> None:
    known = RememberedFences(64)
    known.add(Fence(2, 5))
    others = [Fence(epoch, counter) for epoch in (1, 2, 3) for counter in range(600) if (epoch, counter) != (2, 5)]
    others += [Fence(0, 5 + (2 << 32)), Fence(2, 5 + (1 << 63)), Fence(2, (1 << 64) - 1), Fence(5, 2)]
    assert not [fence for fence in others if fence in known]


def test_a_fence_added_again_does_not_push_others_out() -> None:
    known = RememberedFences(10)
    known.add(Fence(1, 1))
    for _ in range(100):
        known.add(Fence(1, 2))
    assert Fence(1, 1) in known


def test_fences_in_any_order_are_remembered_as_long() -> None:
    dice = random.Random(5)
    fences = [Fence(dice.randint(1, 3), counter) for counter in dice.sample(range(1 << 40), 2000)]
    known = RememberedFences(300)
    for count, fence in enumerate(fences, 1):
        known.add(fence)
        assert all(each in known for each in fences[max(0, count - 300) : count])


def test_every_second_fence_of_a_hundred_thousand_takes_little_room() -> None:
    tracemalloc.start()
    try:
        known = RememberedFences(8_192)
        for number in range(50_000):
            known.add(Fence(1, 2 * number))
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 64 << 10
