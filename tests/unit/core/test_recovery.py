"""What a new scheduler makes of the durable facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, append, failure_of, ranges, released_of, values_of
from windrow.common.messages import Accepted, DrainNode, NodeBye, RetryJob, StartJob
from windrow.common.options import Options
from windrow.common.words import FailureKind, JobId, JobState, NodeId
from windrow.scheduler.core.events import Recalled
from windrow.scheduler.core.info import node_info
from windrow.scheduler.core.losses import restore_losses
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.records import PutLosses, ShortenChunk


def test_numbers_that_wait_for_their_time_go_on_waiting_after_a_restart(bench: Bench) -> None:
    """Invariant 9: the due instant of a job of numbers lies in no input row, but in when it was accepted."""
    bench.start(JOB, 4, options=Options(delay_s=60.0))
    bench.mono += 20
    bench.restart()
    assert not bench.job().pending
    bench.mono += 39
    bench.join()
    assert bench.place() == []
    assert len(bench.place(5)) == 2


def test_every_set_is_rebuilt_from_the_durable_facts(bench: Bench) -> None:
    """Invariant 3: the store is the truth."""
    bench.know_item_time(0.0001)
    bench.join(slots=2)
    bench.start(JOB, 40, options=Options(retries=1, backoff_s=50.0))
    first = bench.place_one()
    bench.lease(first)
    bench.report(values_of(first, 0, 5), holds=(first.fence,))
    bench.report(failure_of(first, 5, FailureKind.RESULT), holds=(first.fence,))
    bench.report(failure_of(first, 6), holds=(first.fence,))
    bench.report(failure_of(first, 7, FailureKind.CRASH), holds=(first.fence,))
    bench.report(released_of(first, (30, 40)), holds=(first.fence,))
    bench.drop_rest()
    before = bench.job()
    bench.restart()
    after = bench.job()
    assert after is not before
    for name in ("pending", "done", "quarantined", "cancelled", "attempts", "suspects", "total", "state", "options"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.retried == 0, "as of the last change of the job's row"
    assert [len(items) for items in after.delayed.values()] == [1]
    assert bench.chunk(first).remaining == ranges((8, 30))
    assert bench.chunk(first).state is ChunkState.LEASED
    assert bench.node().state is NodeState.EXPECTED


def test_a_chunk_shortened_twice_covers_after_a_restart_what_it_covered_before(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join(slots=2)
    bench.start(JOB, 20)
    first = bench.place_one()
    bench.report(released_of(first, (15, 20)), holds=(first.fence,))
    bench.report(values_of(first, 0, 3), holds=(first.fence,))
    bench.report(released_of(first, (5, 8)), holds=(first.fence,))
    second = bench.pick(ShortenChunk)[-1]
    bench.drop_rest()
    assert second.bounds == (3, 5, 8, 15)
    bench.restart()
    assert bench.chunk(first).remaining == ranges((3, 5), (8, 15))
    assert bench.job().pending == ranges((5, 8), (15, 20))


def test_losing_every_message_of_the_broker_loses_no_work(bench: Bench) -> None:
    """Invariant 3: the broker is a pipe."""
    bench.know_item_time(0.01)
    bench.join()
    bench.start(JOB, 6)
    for order in bench.place():
        bench.sent(order)
    bench.restart()
    bench.join()
    bench.drop_rest()
    bench.know_item_time(0.01)
    for _ in range(6):
        for order in bench.place():
            bench.finish(order)
    assert bench.job_state() is JobState.DONE


def test_a_chunk_of_an_earlier_reign_is_perhaps_in_the_broker_and_may_still_arrive(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 6)
    order = bench.place_one()
    bench.restart()
    assert bench.chunk(order).state is ChunkState.SENT
    bench.join(holds=(order.fence,))
    assert bench.report(values_of(order), holds=(order.fence,)).dead == ()
    assert bench.job_state() is JobState.DONE
    bench.drop_rest()


def test_a_new_reign_gives_out_fences_above_all_earlier_ones(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 6)
    order = bench.place_one()
    bench.restart()
    bench.join()
    bench.drop_rest()
    bench.know_item_time(0.001)
    assert bench.place_one().fence > order.fence


def test_delays_are_kept_as_instants_of_the_wall_clock(bench: Bench) -> None:
    bench.ask(StartJob(JOB, TASK))
    bench.ask(append(JOB, 0, 2, delay_s=60.0))
    bench.ask(append(JOB, 2, 2, delay_s=5.0))
    bench.ask(append(JOB, 4, 2))
    bench.drop_rest()
    bench.mono += 30
    bench.restart()
    assert bench.job().pending == ranges((2, 6))
    (due,) = bench.job().delayed
    assert bench.mono + 30 <= due <= bench.mono + 38


@pytest.mark.parametrize("days", [3, 0.01])
def test_a_wall_clock_that_was_set_back_makes_no_wait_longer(bench: Bench, days: float) -> None:
    """Of a job of numbers, of appended items, and of a failed attempt."""
    bench.start(JobId("numbers"), 4, options=Options(delay_s=60.0))
    bench.ask(StartJob(JobId("appends"), TASK))
    bench.ask(append(JobId("appends"), 0, 2, delay_s=60.0))
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 3, options=Options(retries=1, backoff_s=60.0))
    order = bench.place_one()
    bench.lease(order)
    bench.report(values_of(order, 1, 3), holds=(order.fence,))
    bench.report(failure_of(order, 0))
    bench.drop_rest()
    bench.wall_offset_s -= days * 86_400
    for _ in range(2):
        bench.mono += 1
        bench.restart()
        for job in ("numbers", "appends", JOB):
            ((due, _),) = bench.job(JobId(job)).delayed.items()
            assert 40 <= due - bench.mono <= 60 * (1 + 2 / 16), job


def test_a_wall_clock_that_was_set_forward_ends_waits_early_and_harms_nothing(bench: Bench) -> None:
    """It cannot be told from the time in which no scheduler ran."""
    bench.start(JOB, 4, options=Options(delay_s=60.0))
    bench.wall_offset_s += 3 * 86_400
    bench.restart()
    assert bench.job().pending == ranges((0, 4))


def test_a_drained_node_stays_drained(bench: Bench) -> None:
    bench.join()
    bench.ask(DrainNode(NODE))
    bench.drop_rest()
    bench.restart()
    assert bench.join().drained
    bench.start(JOB, 3)
    assert bench.place() == []


def test_a_node_that_left_is_not_waited_for(bench: Bench) -> None:
    bench.join()
    bench.ask(NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    bench.restart()
    assert bench.node().state is NodeState.GONE
    bench.tick(100)
    bench.expect_nothing()


def test_what_failed_for_good_under_a_live_chunk_does_not_return_to_it(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join(slots=2)
    bench.start(JOB, 10)
    first = bench.place_one()
    bench.report(failure_of(first, 5), holds=(first.fence,))
    bench.drop_rest()
    bench.restart()
    assert bench.chunk(first).remaining == ranges((0, 5), (6, 10))
    assert bench.job().quarantined == ranges((5, 6))


def test_of_items_that_have_their_outcome_no_attempts_are_known_after_a_restart(bench: Bench) -> None:
    """So one that failed for good has all of its attempts again when it is retried by hand."""
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 3, options=Options(retries=1, backoff_s=0.0))
    first = bench.place_one()
    bench.lease(first)
    bench.report(*(failure_of(first, item) for item in range(3)), holds=(first.fence,))
    second = bench.place_one(0.1)
    assert second.attempts == ((0, 3, 1),)
    bench.report(values_of(second, 0, 1), failure_of(second, 1), holds=(second.fence,))
    bench.drop_rest()
    bench.restart()
    assert bench.job().attempts == {1: ranges((2, 3))}
    bench.join(holds=(second.fence,))
    bench.ask_for(Accepted, RetryJob(JOB))
    bench.drop_rest()
    again = bench.place_one(0.1)
    assert (again.start, again.stop, again.attempts) == (1, 2, ())


def test_items_wait_to_the_end_of_their_time_over_a_restart_just_before_it(bench: Bench) -> None:
    bench.start(JOB, 4, options=Options(delay_s=60.0))
    bench.mono += 59.5
    bench.restart()
    assert not bench.job().pending


def test_items_that_came_with_a_wait_of_their_own_wait_no_longer_after_a_restart(bench: Bench) -> None:
    """The delay of the job's options is for those that came without."""
    bench.ask(StartJob(JOB, TASK, options=Options(delay_s=60.0)))
    bench.ask(append(JOB, 0, 2, delay_s=5.0))
    bench.ask(append(JOB, 2, 2))
    bench.drop_rest()
    bench.mono += 10
    bench.restart()
    assert bench.job().pending == ranges((0, 2))


def test_waits_that_an_older_windrow_wrote_go_by_the_wall_clock_alone(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    bench.ask(StartJob(JOB, TASK, options=Options(retries=1, backoff_s=60.0)))
    bench.ask(append(JOB, 0, 2))
    bench.ask(append(JOB, 2, 2, delay_s=60.0))
    order = bench.place_one()
    bench.report(values_of(order, 1, 2), failure_of(order, 0), holds=(order.fence,))
    bench.drop_rest()
    stored = bench.store.jobs[1]
    stored.inputs = [replace(each, wait_s=None) for each in stored.inputs]
    stored.attempts = {item: replace(each, wait_s=None) for item, each in stored.attempts.items()}
    bench.mono += 30
    bench.restart()
    assert not bench.job().pending
    bench.mono += 40
    bench.restart()
    assert bench.job().pending == ranges((0, 1), (2, 4))


def test_chunks_of_an_earlier_reign_keep_no_new_ones_from_their_node(bench: Bench) -> None:
    """How long they take is not known any more, and a node that waits for them to end might idle."""
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 40)
    early = [order.fence for order in bench.place()]
    assert len(early) == 2
    bench.restart()
    bench.join(holds=tuple(early))
    bench.know_item_time(0.1)
    bench.drop_rest()
    assert bench.place()


def test_a_chunk_at_a_node_of_which_the_store_has_lost_the_row_is_waited_for_and_given_to_another(
    bench: Bench,
) -> None:
    bench.join()
    bench.start(JOB, 1)
    order = bench.place_one()
    bench.lease(order)
    del bench.store.nodes[NODE]
    bench.restart()
    assert (bench.node().state, bench.chunk(order).node) == (NodeState.EXPECTED, NODE)
    other = NodeId("node-b")
    bench.join(other)
    bench.drop_rest()
    assert bench.place(bench.settings.lease_s - 1.0) == []
    bench.report(node=other)
    assert bench.place_one(1.1).node == other


def test_a_job_that_is_at_work_is_not_replaced_by_what_the_store_says_of_it(bench: Bench) -> None:
    """Two ask for it in one turn: the second one finds what the first has made of it."""
    bench.join()
    bench.start(JOB, 1)
    bench.report(failure_of(bench.place_one(), 0))
    bench.tick()
    assert JOB not in bench.state.jobs
    stored = bench.store.find_job(JOB)
    assert stored is not None
    bench.ask_for(Accepted, RetryJob(JOB))
    bench.drop_rest()
    job = bench.job()
    bench.take(Recalled(stored))
    assert bench.job() is job
    assert job.pending == ranges((0, 1))


def test_a_node_that_has_a_range_under_watch_gets_no_second_one_after_a_restart(bench: Bench) -> None:
    """So that a loss is blamed on the right one of the two, whoever was the scheduler when the first was placed."""
    bench.know_item_time(1.0)
    bench.join(slots=2)
    job = bench.start(JOB, 2)
    bench.store.commit([PutLosses(job.no, 0, 2, 2)])
    restore_losses(job, 0, 2, 2)
    watched = bench.place_one()
    bench.lease(watched)
    bench.restart()
    bench.join(slots=2, holds=(watched.fence,))
    bench.know_item_time(1.0)
    bench.drop_rest()
    assert bench.place() == []
    bench.report(values_of(watched), holds=(watched.fence,))
    bench.drop_rest()
    assert bench.place_one(0.1).start == 1


def test_a_node_that_is_expected_has_no_slots_until_it_says_how_many(bench: Bench) -> None:
    bench.join(slots=3)
    bench.restart()
    assert (node_info(bench.node(), bench.now).slots, bench.node().placeable) == (0, False)
    bench.join(slots=3)
    assert node_info(bench.node(), bench.now).slots == 3
