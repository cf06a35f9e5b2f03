"""What time does: leases end, delayed items come due, sent chunks turn out lost."""

from __future__ import annotations

import pytest

from tests import core_bench
from tests.core_bench import JOB, NODE, Bench, failure_of, ranges, values_of
from windrow.common.messages import Accepted, CancelJob, RetryJob
from windrow.common.options import Options
from windrow.common.words import JobId, JobState, NodeId
from windrow.scheduler.core.commands import Dispatch, EmptyNode, Settle
from windrow.scheduler.core.events import ClockGap, QueueSeen, Unsent
from windrow.scheduler.core.leases import nodes_to_look_at
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.records import DropChunk, PutLosses, PutNode

# ── The reconciler ───────────────────────────────────────────────────────────────────────────────────────────────


def sent_chunk(bench: Bench) -> Dispatch:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4)
    order = bench.place_one()
    bench.sent(order)
    return order


def look(bench: Bench, after_s: float, ready: int = 0) -> None:
    """The node goes on beating, and its queue is looked at."""
    bench.mono += after_s
    bench.report()
    bench.take(QueueSeen(NODE, ready))
    bench.tick()


def test_a_sent_chunk_is_lost_when_two_looks_three_seconds_apart_find_an_empty_queue(bench: Bench) -> None:
    order = sent_chunk(bench)
    look(bench, 1.1)
    look(bench, 1.5)
    bench.expect_nothing()
    look(bench, 1.6)
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    assert bench.pick(Settle) == [Settle(order.fence, NODE)]
    again = bench.pick_one(Dispatch)
    assert (again.start, again.stop) == (order.start, order.stop)
    assert again.fence > order.fence
    bench.drop_rest()


def test_one_look_is_not_enough_however_long_ago(bench: Bench) -> None:
    """Unacknowledged messages of a dying connection are invisible for a while."""
    sent_chunk(bench)
    look(bench, 1.1)
    for _ in range(5):
        bench.report()
        bench.tick(1.0)
    bench.expect_nothing()


def test_a_message_that_is_ready_begins_the_waiting_anew(bench: Bench) -> None:
    sent_chunk(bench)
    look(bench, 1.1)
    look(bench, 1.5, ready=1)
    look(bench, 1.5)
    look(bench, 1.5)
    bench.expect_nothing()


def test_a_chunk_lost_long_after_the_queue_was_first_seen_empty_is_found_too(bench: Bench) -> None:
    first = sent_chunk(bench)
    for _ in range(4):
        look(bench, 1.5)
    second = bench.pick_one(Dispatch)
    bench.drop_rest()
    assert second.fence > first.fence
    bench.sent(second)
    for _ in range(4):
        look(bench, 1.5)
    assert bench.pick(DropChunk) == [DropChunk(second.fence)]
    bench.drop_rest()


def test_only_nodes_with_overdue_chunks_are_looked_at(bench: Bench) -> None:
    order = sent_chunk(bench)
    assert nodes_to_look_at(bench.state, bench.now) == []
    bench.mono += 1.1
    assert nodes_to_look_at(bench.state, bench.now) == [NODE]
    bench.lease(order)
    assert nodes_to_look_at(bench.state, bench.now) == []


# ── Leases and the clock ─────────────────────────────────────────────────────────────────────────────────────────


def leased_chunk(bench: Bench) -> Dispatch:
    order = sent_chunk(bench)
    bench.lease(order)
    return order


def test_a_lease_ends_by_missed_heartbeats(bench: Bench) -> None:
    order = leased_chunk(bench)
    bench.tick(bench.settings.lease_s)
    bench.expect_nothing()
    bench.tick(0.3)
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    assert not bench.pick_one(PutNode).gone
    bench.expect(PutLosses(1, 0, 4, 1), Settle(order.fence, NODE), EmptyNode(NODE))
    assert bench.node().state is NodeState.LOST
    assert bench.job().pending == ranges((0, 4))


def test_a_lease_lives_as_long_as_its_node_beats(bench: Bench) -> None:
    order = leased_chunk(bench)
    for _ in range(1_000):
        bench.mono += 5
        bench.report(holds=(order.fence,))
        bench.tick()
    assert len(bench.pick(PutNode)) == 1, "once an hour the store is told that it was heard"
    bench.expect_nothing()


def test_no_lease_runs_on_while_the_scheduler_does_not_listen(bench: Bench) -> None:
    leased_chunk(bench)
    bench.mono += 60
    bench.take(ClockGap(60.0))
    bench.tick()
    bench.expect_nothing()
    bench.tick(bench.settings.lease_s + 0.3)
    assert bench.pick(DropChunk)
    bench.drop_rest()


def test_a_gap_does_not_stand_for_two_looks(bench: Bench) -> None:
    sent_chunk(bench)
    look(bench, 1.1)
    bench.mono += 60
    bench.take(ClockGap(60.0))
    bench.report()
    look(bench, 0.1)
    bench.expect_nothing()


def test_a_lost_node_that_comes_back_is_told_what_is_dead(bench: Bench) -> None:
    order = leased_chunk(bench)
    bench.tick(bench.settings.lease_s + 0.3)
    bench.drop_rest()
    assert bench.report(holds=(order.fence,)).rejoin
    bench.join(holds=(order.fence,))
    assert bench.report(holds=(order.fence,)).dead == (order.fence,)
    assert bench.node().state is NodeState.ALIVE
    bench.expect_nothing()


def test_a_restarted_scheduler_gives_every_lease_a_fresh_period(bench: Bench) -> None:
    order = leased_chunk(bench)
    bench.mono += 1000
    bench.restart()
    bench.tick(bench.settings.lease_s - 0.1)
    bench.expect_nothing()
    bench.tick(0.4)
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    bench.drop_rest()


def test_items_of_one_bucket_come_due_together_and_those_of_a_later_one_do_not(bench: Bench) -> None:
    bench.start(JOB, 3, options=Options(delay_s=1.0))
    bench.start(JobId("job-b"), 3, options=Options(delay_s=2.0))
    bench.tick(1.3)
    assert (len(bench.job().pending), len(bench.job(JobId("job-b")).pending)) == (3, 0)
    bench.tick(1.0)
    assert len(bench.job(JobId("job-b")).pending) == 3


def test_a_chunk_placed_while_the_queue_was_being_watched_is_not_lost_with_the_older_ones(bench: Bench) -> None:
    bench.know_item_time(2.0)
    bench.join()
    bench.start(JOB, 1)
    older = bench.place_one()
    bench.sent(older)
    look(bench, 1.1)
    bench.start(JobId("job-b"), 1)
    newer = bench.place_one(1.0)
    bench.sent(newer)
    look(bench, 2.5)
    assert bench.pick(DropChunk) == [DropChunk(older.fence)]
    assert newer.fence in bench.state.chunks
    bench.drop_rest()


# ── The wall clock ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_wall_clock_that_jumps_ends_no_lease_loses_no_chunk_and_starts_nothing_early_or_late(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    held = leased_chunk(bench)
    bench.start(JobId("job-b"), 3, options=Options(delay_s=10.0))
    sent = len(bench.state.chunks)
    monkeypatch.setattr(core_bench, "WALL_S", core_bench.WALL_S + jump_s)
    for _ in range(3):
        bench.mono += 2.0
        bench.report(holds=(held.fence,))
        bench.tick()
    bench.expect_nothing()
    assert (len(bench.state.chunks), bench.node().state) == (sent, NodeState.ALIVE)
    assert len(bench.job(JobId("job-b")).pending) == 0
    bench.mono += 4.5
    bench.report(holds=(held.fence,))
    bench.tick()
    assert len(bench.pick(Dispatch)) > 0 or len(bench.job(JobId("job-b")).pending) == 3
    # It jumps once more while nothing is heard: the lease ends in its time, neither at once nor never.
    monkeypatch.setattr(core_bench, "WALL_S", core_bench.WALL_S + jump_s)
    bench.tick(1.0)
    assert bench.node().state is NodeState.ALIVE
    bench.tick(bench.settings.lease_s)
    assert bench.node().state is NodeState.LOST
    bench.drop_rest()


# ── Who is not concerned ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_that_was_lost_before_a_gap_is_found_as_soon_after_it_as_without(bench: Bench) -> None:
    order = sent_chunk(bench)
    look(bench, 1.1)
    bench.mono += 60
    bench.take(ClockGap(60.0))
    look(bench, 1.6)
    bench.expect_nothing()
    look(bench, 1.6)
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    bench.drop_rest()


def test_what_a_node_has_leased_is_not_missed_in_its_queue(bench: Bench) -> None:
    order = leased_chunk(bench)
    for _ in range(4):
        bench.mono += 1.5
        bench.report(holds=(order.fence,))
        bench.take(QueueSeen(NODE, 0))
        bench.tick()
    bench.expect_nothing()


def test_before_a_node_has_said_hello_to_this_scheduler_an_empty_queue_says_nothing(bench: Bench) -> None:
    sent_chunk(bench)
    bench.restart()
    for _ in range(3):
        bench.tick(1.8)
        assert nodes_to_look_at(bench.state, bench.now) == []
        bench.take(QueueSeen(NODE, 0))
    bench.tick(0.3)
    bench.expect_nothing()


def test_a_node_that_has_one_overdue_chunk_among_others_is_looked_at(bench: Bench) -> None:
    bench.know_item_time(10.0)
    bench.join()
    bench.start(JOB, 2)
    held, overdue = bench.place()
    bench.sent(overdue)
    bench.lease(held)
    bench.mono += 1.1
    assert nodes_to_look_at(bench.state, bench.now) == [NODE]


def test_a_look_at_the_queue_of_a_node_that_nobody_knows_changes_nothing(bench: Bench) -> None:
    bench.take(QueueSeen(NodeId("stranger"), 0))
    bench.tick(1.0)
    bench.expect_nothing()


@pytest.mark.parametrize("how", ["refused", "lost in the pipe"])
def test_a_cancelled_job_ends_when_its_last_chunk_turns_out_not_to_have_arrived(bench: Bench, how: str) -> None:
    order = sent_chunk(bench)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    if how == "refused":
        bench.take(Unsent(order.fence, "returned"))
    else:
        for _ in range(4):
            look(bench, 1.5)
    bench.drop_rest()
    assert bench.job_state() is JobState.CANCELLED


def test_a_job_that_was_recalled_retried_and_cancelled_in_one_turn_leaves_the_core_once(bench: Bench) -> None:
    order = sent_chunk(bench)
    bench.report(failure_of(order, 0), values_of(order, 1, 4), holds=(order.fence,))
    bench.tick()
    assert bench.state.jobs == {}
    bench.ask_for(Accepted, RetryJob(JOB))
    bench.ask_for(Accepted, CancelJob(JOB))
    bench.tick()
    assert bench.state.jobs == {}
    bench.drop_rest()


def test_what_was_delayed_of_a_job_that_is_gone_comes_due_for_nobody(bench: Bench) -> None:
    bench.start(JOB, 3, options=Options(delay_s=1.0))
    bench.ask(CancelJob(JOB))
    bench.tick()
    assert bench.state.jobs == {}
    bench.drop_rest()
    bench.tick(2.0)
    bench.expect_nothing()
