"""Sets of indexes behave as sets of integers do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, Range, fence_from_text

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 40))
CHANGES = st.lists(st.tuples(st.booleans(), SPANS), max_size=20)


def build(changes: list[tuple[bool, tuple[int, int]]]) -> tuple[RangeSet, set[int]]:
    """The same changes to a range set and to a plain set."""
    made, plain = RangeSet(), set[int]()
    for adding, (start, stop) in changes:
        if adding:
            made.add(start, stop)
            plain |= set(range(start, stop))
        else:
            made.remove(start, stop)
            plain -= set(range(start, stop))
    return made, plain


def indexes(parts: list[Range] | RangeSet) -> set[int]:
    return {index for part in parts for index in range(*part)}


@settings(max_examples=300, deadline=None)
@given(CHANGES, SPANS)
def test_every_question_is_answered_as_by_a_set(
    changes: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]
) -> None:
    made, plain = build(changes)
    asked = set(range(*span))
    assert indexes(made) == plain
    assert (len(made), bool(made)) == (len(plain), bool(plain))
    assert all((index in made) == (index in plain) for index in range(-1, 42))
    assert indexes(made.intersection(*span)) == plain & asked
    assert made.covers(*span) == (asked <= plain)


@settings(max_examples=200, deadline=None)
@given(CHANGES)
def test_boundaries_grow_strictly_and_say_it_all(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    made, plain = build(changes)
    bounds = made.bounds
    assert len(bounds) % 2 == 0 == made.boundary_count - len(bounds)
    assert all(a < b for a, b in itertools.pairwise(bounds))
    assert RangeSet.from_bounds(bounds) == made
    assert len(RangeSet.from_bounds(bounds)) == len(plain)
    assert RangeSet(made) == made == made.copy()


def test_neighbours_become_one_range() -> None:
    made = RangeSet([(0, 5), (10, 15)])
    made.add(5, 10)
    assert list(made) == [(0, 15)]
    assert made.first == made.last == Range(0, 15)
    assert repr(RangeSet([(0, 2), (4, 5)])) == "{0:2, 4:5}"


def test_a_hole_makes_two() -> None:
    made = RangeSet([(0, 10)])
    made.remove(4, 6)
    assert (made.first, made.last, len(made)) == (Range(0, 4), Range(6, 10), 8)


def test_empty_and_backward_ranges_change_nothing() -> None:
    made = RangeSet([(0, 10)])
    for start, stop in ((5, 5), (7, 3)):
        made.add(start, stop)
        made.remove(start, stop)
        assert made.intersection(start, stop) == []
        assert made.covers(start, stop)
    assert list(made) == [(0, 10)]


@pytest.mark.parametrize("bounds", [[1], [2, 1], [1, 1], [0, 2, 2, 3]])
def test_boundaries_that_do_not_grow_are_refused(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="strictly growing"):
        RangeSet.from_bounds(bounds)


def test_a_copy_is_a_set_of_its_own() -> None:
    made = RangeSet([(0, 3)])
    copy = made.copy()
    copy.add(5, 6)
    copy.subtract([(0, 1)])
    assert list(made) == [(0, 3)]
    made.clear()
    assert (len(made), len(copy)) == (0, 3)


def test_a_range_set_is_no_key() -> None:
    with pytest.raises(TypeError):
        hash(RangeSet())
    assert RangeSet() != ()


def test_a_fence_is_written_and_read() -> None:
    assert str(Fence(3, 14)) == "3.14"
    assert fence_from_text("3.14") == Fence(3, 14)
    assert Fence(1, 99) < Fence(2, 1)


@pytest.mark.parametrize("text", ["", "3", "3.", ".4", "-1.4", "a.b", "1.2.3", "\u0661.2", "1." + "9" * 60])
def test_what_is_no_fence_is_none(text: str) -> None:
    assert fence_from_text(text) is None
