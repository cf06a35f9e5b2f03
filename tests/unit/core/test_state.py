"""The few ways in which parts of the state move, and what is asked of them."""

from __future__ import annotations

import random

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, values_of
from windrow.common.messages import CancelJob, DrainNode, NumberItems, StartJob
from windrow.common.options import Options
from windrow.common.words import JobId
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.state import DUE_STALE_MAX, due_at


@pytest.mark.parametrize(
    ("now", "delay_s", "due"),
    [
        (100.0, 1.0, 101.0),
        (100.1, 1.0, 101.25),
        (100.0, 4.0, 104.0),
        (100.0, 8.0, 108.0),
        (100.1, 8.0, 108.5),
        (100.0, 60.0, 161.25),
        (100.0, 1600.0, 1700.0),
        (100.1, 1600.0, 1800.0),
    ],
)
def test_a_delayed_item_is_due_at_the_next_quarter_second_or_sixteenth_of_its_delay(
    now: float, delay_s: float, due: float
) -> None:
    """So neighbours share a bucket, and nobody waits much longer than was asked."""
    assert due_at(now, delay_s) == pytest.approx(due)


def test_a_node_that_is_drained_takes_nothing_now(bench: Bench) -> None:
    bench.join()
    assert bench.node().takes_now(bench.mono)
    bench.ask(DrainNode(NODE))
    assert not bench.node().takes_now(bench.mono)
    bench.drop_rest()


def test_a_node_without_chunks_has_no_work_ahead_however_fractions_add_up(bench: Bench) -> None:
    bench.join(slots=2)
    orders: list[Dispatch] = []
    for number, item_s in enumerate((0.1, 0.2, 0.3)):
        bench.know_item_time(item_s)
        bench.start(JobId(f"job-{number}"), 1)
        orders += bench.place()
    assert bench.node().work_s == pytest.approx(0.6)
    for order in orders:
        bench.report(values_of(order))
    assert bench.node().work_s == 0.0
    bench.drop_rest()


def test_what_was_cancelled_long_before_its_time_is_not_kept_until_then(bench: Bench) -> None:
    dice = random.Random(3)
    delays_s = [60.0 * number for number in range(1, 41)]
    for number, delay_s in enumerate(dice.sample(delays_s, 40)):
        bench.start(JobId(f"job-{number}"), 1, options=Options(delay_s=delay_s))
        for other in range(100):
            job = JobId(f"gone-{number}-{other}")
            bench.ask(StartJob(job, TASK, numbers=NumberItems(0, 1), options=Options(delay_s=dice.uniform(50.0, 1e6))))
            bench.ask(CancelJob(job))
            bench.tick()
            bench.out.clear()
            assert len(bench.state.due) <= DUE_STALE_MAX + 40
            assert bench.state.due_stale == len(bench.state.due) - number - 1
    # What is left comes due in its time all the same.
    began = bench.mono
    for count, delay_s in enumerate(delays_s, 1):
        bench.mono = began + delay_s * (1 + 1 / 16)
        bench.tick()
        assert sum(len(job.pending) for job in bench.state.jobs.values()) >= count


def test_buckets_that_come_due_do_not_count_as_gone(bench: Bench) -> None:
    bench.join()
    for number in range(3):
        bench.start(JobId(f"job-{number}"), 1, options=Options(delay_s=1.0 + number))
        if number == 1:
            bench.ask(CancelJob(JobId("job-1")))
    assert bench.state.due_stale == 1
    bench.mono += 5.0
    bench.tick()
    assert (bench.state.due, bench.state.due_stale) == ([], 0)
    bench.out.clear()


def test_a_chunk_that_ends_makes_room_for_the_next_one(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join()
    bench.start(JOB, 10)
    first, second = bench.place()
    bench.lease(first, second)
    for _ in range(3):
        assert bench.place(0.1) == []
    bench.report(values_of(first), holds=(first.fence, second.fence))
    bench.drop_rest()
    assert len(bench.place(0.1)) == 1
