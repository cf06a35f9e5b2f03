"""Counts for the metrics, by task."""

from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise

import pytest

from tests.core_bench import JOB, TASK, Bench, failure_of, values_of
from windrow.common.options import Options
from windrow.common.words import JobId
from windrow.scheduler.core.tally import CHUNK_SECONDS_BOUNDS, Tally


def test_at_first_everything_is_zero() -> None:
    counts, buckets = astuple(Tally())[:-1], Tally().buckets
    assert set(counts) == {0}
    assert buckets == [0] * (len(CHUNK_SECONDS_BOUNDS) + 1)


def test_the_bounds_are_half_a_decade_apart_from_a_millisecond_to_five_minutes() -> None:
    assert (CHUNK_SECONDS_BOUNDS[0], CHUNK_SECONDS_BOUNDS[-1]) == (0.001, 300.0)
    for below, above in pairwise(CHUNK_SECONDS_BOUNDS):
        assert 2.99 < above / below < 3.34


def test_a_chunk_that_takes_exactly_a_bound_is_counted_below_it() -> None:
    for at, bound in enumerate(CHUNK_SECONDS_BOUNDS):
        tally = Tally()
        for seconds in (bound, bound * 1.01):
            tally.observe_chunk(seconds)
        assert {place: count for place, count in enumerate(tally.buckets) if count} == {at: 1, at + 1: 1}
        assert (tally.chunks_done, tally.chunk_s_sum) == (2, pytest.approx(2.01 * bound))


def test_what_becomes_of_items_and_chunks_is_counted_for_their_task_alone(bench: Bench) -> None:
    """Three items of four end with a value, one of them at its second attempt, and one fails."""
    other = "t:other"
    bench.know_item_time(0.0001)
    bench.know_item_time(0.0001, task=other)
    bench.join(tasks=(TASK, other))
    bench.start(JOB, 4, options=Options(retries=1, backoff_s=0.0))
    first = bench.place_one()
    bench.report(values_of(first, 0, 2), failure_of(first, 2), failure_of(first, 3), holds=(first.fence,))
    again = bench.place_one(2.0)
    bench.mono += 0.5
    bench.report(values_of(again, 2, 3), failure_of(again, 3), holds=(again.fence,))
    bench.start(JobId("job-b"), 1, task=other)
    lost = bench.place_one(0.1)
    bench.lease(lost)
    bench.join(boot="boot-2", tasks=(TASK, other))
    bench.drop_rest()
    tally = bench.state.tallies[TASK]
    assert (tally.items_done, tally.items_failed, tally.items_retried) == (3, 1, 2)
    assert (tally.chunks_done, tally.chunks_lost) == (2, 0)
    assert (tally.busy_s, tally.chunk_s_sum) == (pytest.approx(0.002), pytest.approx(0.5))
    assert bench.state.tallies[other] == Tally(chunks_lost=1)
