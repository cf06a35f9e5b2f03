"""Which range goes to which node, and how large it is."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, append, failure_of, ranges, values_of
from windrow.common.limits import CHUNK_BYTES_MAX, CHUNK_ITEMS_MAX, FENCES_PER_NODE_MAX
from windrow.common.messages import Accepted, CloseJob, DrainNode, Started, StartJob
from windrow.common.options import OnLost, Options
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId
from windrow.scheduler.core import jobs
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.events import BrokerChanged
from windrow.scheduler.core.losses import FAIL_CHUNK_ITEMS_MAX, restore_losses
from windrow.scheduler.core.planning import GROWTH, chunk_items
from windrow.scheduler.core.records import PutChunk, SetJob
from windrow.scheduler.core.state import CoreSettings, ItemTime, Job, delay

SETTINGS = CoreSettings()
OTHER = JobId("job-b")
THIRD = JobId("job-c")
OTHER_NODE = NodeId("node-b")

# ── Size ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_an_item_never_measured_one_is_placed() -> None:
    assert chunk_items(ItemTime(), 1_000_000, 4, SETTINGS) == 1


@pytest.mark.parametrize(
    ("item_s", "measured", "pending", "slots", "items"),
    [
        (0.001, 10**6, 10**9, 4, 1_000),  # a second of work
        (0.001, 10, 10**9, 4, 10 * GROWTH),  # not more than sixteen times what is known
        (0.001, 10**6, 1_000, 4, 125),  # half an equal share of what is left
        (0.001, 10**6, 50, 4, 10),  # but not less than 10 ms
        (5.0, 10**6, 10**9, 4, 1),  # long items go one by one
        (0.0, 10**9, 10**12, 4, CHUNK_ITEMS_MAX),  # of the shortest as many as a chunk may have
        (0.0, 10**9, 2_000_000, 4, 250_000),  # and nothing takes no time at all
    ],
)
def test_a_chunk_is_sized_by_measured_time_and_by_what_is_left(
    item_s: float, measured: int, pending: int, slots: int, items: int
) -> None:
    assert chunk_items(ItemTime(item_s, measured), pending, slots, SETTINGS) == items
    assert items <= CHUNK_ITEMS_MAX


def test_item_times_follow_a_job_whose_items_grow() -> None:
    time = ItemTime()
    time.observe(10, 1.0)
    assert time.item_s == pytest.approx(0.1)
    for _ in range(20):
        time.observe(10, 5.0)
    assert time.item_s == pytest.approx(0.5, rel=0.01)
    assert time.measured == 210


def test_a_new_job_starts_with_what_is_known_of_its_task(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1000)
    assert [order.stop - order.start for order in bench.place()] == [1, 1]
    bench.start(OTHER, 1000)
    first = bench.state.jobs[JOB].chunks
    order = Dispatch(next(iter(first)), NODE, JOB, 0, 1, (), False)
    bench.finish(order)
    (grown,) = bench.place()[:1] or [None]
    assert grown is None or grown.stop - grown.start > 1


def test_a_chunk_ends_before_its_items_would_be_too_many_bytes(bench: Bench) -> None:
    bench.know_item_time(0.00001)
    bench.join()
    bench.ask_for(Started, StartJob(JOB, TASK))
    count, size = 8, CHUNK_BYTES_MAX // 5
    for number in range(count):
        bench.ask(append(JOB, number, 1, b"x" * size))
    bench.ask(CloseJob(JOB, count))
    bench.drop_rest()
    assert [(order.start, order.stop) for order in bench.place()] == [(0, 4), (4, 8)]


# ── Where ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_placing_is_a_row_then_a_dispatch_under_a_growing_fence(bench: Bench) -> None:
    bench.know_item_time(0.01)
    bench.join()
    bench.start(JOB, 4)
    bench.tick()
    (running,) = bench.pick(SetJob)
    assert running.state is JobState.RUNNING
    one, two, three = Fence(1, 1), Fence(1, 2), Fence(1, 3)
    bench.expect(
        PutChunk(one, 1, 0, 2, NODE),
        Dispatch(one, NODE, JOB, 0, 2, (), False),
        PutChunk(two, 1, 2, 3, NODE),
        Dispatch(two, NODE, JOB, 2, 3, (), False),
        PutChunk(three, 1, 3, 4, NODE),
        Dispatch(three, NODE, JOB, 3, 4, (), False),
    )


@pytest.mark.parametrize(
    ("queues", "tasks"), [(("other",), (TASK,)), (("default",), ()), ((), (TASK,))], ids=["queue", "task", "no queue"]
)
def test_a_node_that_cannot_run_the_job_gets_nothing_of_it(
    bench: Bench, queues: tuple[str, ...], tasks: tuple[str, ...]
) -> None:
    bench.start(JOB, 4)
    bench.join(queues=queues, tasks=tasks)
    assert bench.place() == []
    bench.join(OTHER_NODE)
    assert {order.node for order in bench.place()} == {OTHER_NODE}


def test_nothing_is_placed_while_the_broker_is_away() -> None:
    bench = Bench(broker_up=False)
    bench.join()
    bench.start(JOB, 4)
    assert bench.place() == []
    bench.take(BrokerChanged(True, ""))
    assert len(bench.place()) == 2
    bench.expect_nothing()


def test_a_drained_node_gets_nothing_until_it_is_resumed(bench: Bench) -> None:
    bench.join()
    bench.ask_for(Accepted, DrainNode(NODE))
    bench.drop_rest()
    bench.start(JOB, 4)
    assert bench.place() == []
    bench.ask_for(Accepted, DrainNode(NODE, resume=True))
    assert bench.place()


def test_the_emptiest_node_is_first(bench: Bench) -> None:
    bench.join(slots=1)
    bench.join(OTHER_NODE, slots=4)
    bench.start(JOB, 100)
    placed = [order.node for order in bench.place()]
    assert (placed.count(NODE), placed.count(OTHER_NODE)) == (2, 8)
    assert placed[:5] == [NODE, *[OTHER_NODE] * 4], "by chunks a slot"


def test_an_idle_node_is_told_of_work_before_a_busy_one_gets_more(bench: Bench) -> None:
    bench.know_item_time(2.0)
    bench.join()
    bench.start(JOB, 1)
    bench.place_one()
    bench.join(OTHER_NODE)
    bench.start(OTHER, 1)
    assert bench.place_one().node == OTHER_NODE


# ── Credit ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ahead_of_each_slot_lies_one_chunk(bench: Bench) -> None:
    bench.join(slots=3)
    bench.start(JOB, 100)
    assert len(bench.place()) == 6
    assert bench.place() == []


@pytest.mark.parametrize("slots", [1, 4])
def test_short_work_may_lie_ahead_for_half_a_second_of_each_slot(bench: Bench, slots: int) -> None:
    bench.know_item_time(0.0001)
    bench.join(slots=slots)
    bench.start(JOB, 6_000 * slots)
    placed = bench.place()
    work_s = sum(order.stop - order.start for order in placed) * 0.0001
    assert len(placed) > 2 * slots
    assert work_s == pytest.approx(0.5 * slots, abs=0.05 * slots)


def test_of_short_items_hardly_measured_only_a_chunk_a_slot_lies_ahead(bench: Bench) -> None:
    bench.know_item_time(0.0001, measured=10)
    bench.join(slots=2)
    bench.start(JOB, 10_000_000)
    placed = bench.place()
    assert [order.stop - order.start for order in placed] == [10 * GROWTH] * 4
    bench.finish(placed[0])
    assert [order.stop - order.start for order in bench.place()] == [10 * GROWTH * GROWTH]


def test_nodes_for_which_the_broker_refused_a_chunk_wait_each_for_its_own_time(bench: Bench) -> None:
    bench.join()
    bench.join(OTHER_NODE)
    bench.node().unsent_until = bench.mono + 1.0
    bench.node(OTHER_NODE).unsent_until = bench.mono + 2.0
    bench.start(JOB, 10)
    assert bench.place() == []
    assert {order.node for order in bench.place(after_s=1.0)} == {NODE}
    assert {order.node for order in bench.place(after_s=1.0)} == {OTHER_NODE}
    assert bench.state.plan_at is None


def test_a_finished_chunk_gives_its_credit_back(bench: Bench) -> None:
    bench.join(slots=1)
    bench.start(JOB, 100)
    one, two = bench.place()
    bench.report(holds=(one.fence, two.fence))
    bench.drop_rest()
    bench.know_item_time(0.5)
    bench.finish(one)
    assert len(bench.place()) >= 1
    assert bench.node().work_s >= 0


def test_a_node_of_very_many_slots_has_no_more_fences_than_a_report_may_name(bench: Bench) -> None:
    bench.join(slots=4096)
    bench.start(JOB, 10_000)
    bench.join(OTHER_NODE, slots=1)
    placed = [order.node for order in bench.place()]
    assert (placed.count(NODE), placed.count(OTHER_NODE)) == (FENCES_PER_NODE_MAX, 2)


# ── Order ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_higher_priority_goes_first_whoever_came_first(bench: Bench) -> None:
    bench.start(JOB, 10)
    bench.start(OTHER, 1, options=Options(priority=1))
    bench.join()
    assert [order.job for order in bench.place()] == [OTHER, JOB]


def test_jobs_of_equal_priority_share(bench: Bench) -> None:
    bench.start(JOB, 100)
    bench.start(OTHER, 100)
    bench.join(slots=2)
    assert [order.job for order in bench.place()] == [JOB, OTHER, JOB, OTHER]


def test_a_late_job_catches_up_with_one_that_has_chunks_already(bench: Bench) -> None:
    bench.know_item_time(2.0)
    bench.start(JOB, 100)
    bench.join(slots=2)
    assert len(bench.place()) == 4
    bench.start(OTHER, 100)
    bench.join(OTHER_NODE, slots=2)
    assert [order.job for order in bench.place()] == [OTHER] * 4


def test_a_job_without_a_node_does_not_hold_up_the_others(bench: Bench) -> None:
    bench.start(JOB, 10, options=Options(priority=9, queue="unserved"))
    bench.start(OTHER, 1)
    bench.join()
    assert bench.place_one().job == OTHER


# ── Suspects and the bound on ranges ─────────────────────────────────────────────────────────────────────────────


def test_a_suspect_in_the_middle_runs_alone_and_its_neighbours_without_it(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join(slots=4)
    bench.start(JOB, 9)
    first = bench.place_one()
    bench.report(failure_of(first, 4, FailureKind.CRASH), holds=(first.fence,))
    bench.report()
    bench.drop_rest()
    assert bench.job().suspects == ranges((4, 5))
    placed = [(order.start, order.stop, order.alone) for order in bench.place()]
    assert (4, 5, True) in placed
    assert all(not alone for start, stop, alone in placed if (start, stop) != (4, 5))
    assert all(stop <= 4 or start >= 5 for start, stop, alone in placed if not alone)


BOUNDARIES = 20


@pytest.fixture
def scattered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job beyond the most boundaries, of which fewer are allowed than ever elsewhere."""
    monkeypatch.setattr(jobs, "BOUNDARIES_MAX", BOUNDARIES)
    bench.know_item_time(0.001)
    job = bench.start(JOB, 4 * BOUNDARIES)
    every_other = range(1, BOUNDARIES + 2, 2)
    job.done = RangeSet.from_bounds([bound for item in every_other for bound in (item, item + 1)])
    job.pending.subtract((item, item + 1) for item in every_other)
    bench.join()
    return job


def test_beyond_the_most_boundaries_retries_go_first(bench: Bench, scattered: Job) -> None:
    """Invariant 6."""
    last = scattered.total - 1
    scattered.attempts[1] = ranges((last, last + 1))
    assert bench.place()[0].start == last


def test_beyond_the_most_boundaries_fresh_items_go_where_no_retry_is_pending(bench: Bench, scattered: Job) -> None:
    """A retry that runs, or waits for its time, must not hold up the rest."""
    last = scattered.total - 1
    scattered.attempts[1] = ranges((last, last + 1))
    scattered.pending.remove(last, last + 1)
    delay(bench.state, scattered, last, last + 1, bench.mono + 60.0)
    assert bench.place()[0].start == 0


def test_two_suspects_in_one_range_are_both_kept_apart(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join(slots=8)
    job = bench.start(JOB, 9)
    bench.know_item_time(0.001)
    job.suspects = ranges((3, 4), (6, 7))
    placed = [(order.start, order.stop, order.alone) for order in bench.place()]
    assert {part for part in placed if part[2]} == {(3, 4, True), (6, 7, True)}
    assert all(stop <= 3 or 4 <= start < stop <= 6 or start >= 7 for start, stop, alone in placed if not alone)


def test_a_range_that_has_cost_nodes_goes_without_the_one_behind_it(bench: Bench) -> None:
    bench.know_item_time(0.001)
    job = bench.start(JOB, 9)
    restore_losses(job, 0, 2, 1)
    bench.join()
    first = bench.place()[0]
    assert (first.start, first.stop) == (0, 2)


def test_of_items_that_may_not_run_twice_few_go_out_at_a_time(bench: Bench) -> None:
    """They fail together where their node is lost."""
    bench.know_item_time(0.000_01)
    bench.join()
    bench.start(JOB, 1_000_000, options=Options(on_lost=OnLost.FAIL))
    assert {order.stop - order.start for order in bench.place()} == {FAIL_CHUNK_ITEMS_MAX}


def test_a_range_under_watch_goes_to_the_emptiest_node_that_watches_none(bench: Bench) -> None:
    bench.know_item_time(2.0)
    bench.join(slots=4)
    bench.start(OTHER, 3)
    assert len(bench.place()) == 3
    bench.join(OTHER_NODE, slots=4)
    bench.start(JOB, 1)
    restore_losses(bench.job(), 0, 1, 2)
    assert bench.place_one().node == OTHER_NODE


def test_work_that_is_done_is_not_counted_against_a_node(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 100)
    placed = bench.place()
    assert bench.node().work_s == pytest.approx(sum(order.stop - order.start for order in placed) * 0.1)
    bench.report(values_of(placed[0]), holds=tuple(order.fence for order in placed))
    bench.drop_rest()
    assert bench.node().work_s == pytest.approx(sum(order.stop - order.start for order in placed[1:]) * 0.1)


def test_a_flood_of_quick_failures_does_not_pass_for_quick_items() -> None:
    time = ItemTime()
    time.observe(100, 1.0)
    for _ in range(50):
        time.observe(1, 0.00001)
    assert 0.005 < time.item_s < 0.011


def test_items_that_become_longer_are_noticed_after_a_few_of_them() -> None:
    time = ItemTime()
    time.observe(100_000, 1.0)
    for _ in range(6):
        time.observe(1, 2.0)
    assert time.item_s > 1.0


def test_a_node_with_a_range_under_watch_gets_other_ranges_all_the_same(bench: Bench) -> None:
    bench.join(slots=4)
    bench.start(JOB, 1)
    bench.start(OTHER, 3)
    restore_losses(bench.job(), 0, 1, 2)
    placed = bench.place()
    assert {order.job for order in placed} == {JOB, OTHER}
    bench.start(THIRD, 2)
    assert {order.job for order in bench.place()} == {THIRD}
