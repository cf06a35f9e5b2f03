"""Each check of the invariants finds the fault that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.core_bench import JOB, NODE, TASK, WALL_S, Bench, failure_of, ranges, values_of
from windrow.common.errors import InvariantBroken
from windrow.common.messages import CancelJob
from windrow.common.options import Options
from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, JobId, JobState, NodeId
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.state import Chunk, Job, Node, State, add_chunk
from windrow.scheduler.core.twins import join_twins

OTHER = NodeId("node-b")
FREE = JobId("free")
"""Nothing of it is placed."""
WAITING = JobId("waiting")
"""It waits for FREE."""


def make_state() -> State:
    """One job with a live chunk, one with none for want of nodes, and one that waits for it."""
    bench = Bench()
    bench.know_item_time(0.01)
    bench.join()
    bench.start(JOB, 10)
    assert bench.place()
    bench.start(FREE, 10, options=Options(queue="elsewhere"))
    bench.start(WAITING, 4, after=(FREE,), options=Options(queue="elsewhere"))
    return bench.state


def chunk_of(state: State) -> Chunk:
    return next(iter(state.chunks.values()))


def free(state: State) -> Job:
    return state.jobs[FREE]


def node(state: State) -> Node:
    return state.nodes[NODE]


def lose_an_index(state: State) -> None:
    free(state).pending.remove(3, 4)


def double_an_index(state: State) -> None:
    free(state).done.add(3, 4)


def put_an_index_beyond_the_total(state: State) -> None:
    free(state).pending.add(10, 11)


def list_a_dead_fence(state: State) -> None:
    chunk = chunk_of(state)
    node(state).chunks[Fence(1, 999)] = chunk


def have_fences_at_a_lost_node(state: State) -> None:
    node(state).state = NodeState.LOST


def list_an_unknown_job_as_ready(state: State) -> None:
    state.ready[JobId("nowhere")] = None


def list_a_job_as_ready_that_waits(state: State) -> None:
    state.ready[WAITING] = None


def lose_a_ready_job(state: State) -> None:
    del state.ready[FREE]


def forget_the_number(state: State) -> None:
    del state.job_by_no[free(state).no]


def end_early(state: State) -> None:
    free(state).state = JobState.DONE
    state.ready.pop(FREE)


def end_with_delayed_items(state: State) -> None:
    job = free(state)
    job.delayed[200.0], job.pending, job.state = job.pending, RangeSet(), JobState.DONE
    state.ready.pop(FREE)


def end_with_a_live_chunk(state: State) -> None:
    job = state.jobs[JOB]
    job.done, job.pending, job.state = job.pending, RangeSet(), JobState.DONE
    state.ready.pop(JOB, None)


def end_while_open(state: State) -> None:
    job = free(state)
    job.done, job.pending, job.open, job.state = job.pending, RangeSet(), True, JobState.DONE
    state.ready.pop(FREE)


def end_without_values(state: State) -> None:
    job = free(state)
    job.cancelled, job.pending, job.open, job.state = job.pending, RangeSet(), False, JobState.DONE
    state.ready.pop(FREE)
    state.leaving_jobs.append(FREE)


def end_for_ever(state: State) -> None:
    job = free(state)
    job.done, job.pending, job.state = job.pending, RangeSet(), JobState.DONE
    state.ready.pop(FREE)


def fail_without_failures(state: State) -> None:
    job = free(state)
    job.done, job.pending, job.state = job.pending, RangeSet(), JobState.FAILED
    state.ready.pop(FREE)
    state.leaving_jobs.append(FREE)


def never_end(state: State) -> None:
    job = free(state)
    job.done, job.pending = job.pending, RangeSet()
    state.ready.pop(FREE)


def keep_pending_while_cancelling(state: State) -> None:
    free(state).state = JobState.CANCELLING
    state.ready.pop(FREE)


def keep_delayed_items_while_stopping(state: State) -> None:
    job = free(state)
    job.delayed[200.0], job.pending, job.state = job.pending, RangeSet(), JobState.STOPPING
    state.ready.pop(FREE)


def cancel_items_of_a_running_job(state: State) -> None:
    job = free(state)
    job.pending.remove(0, 1)
    job.cancelled.add(0, 1)


def keep_an_empty_set_of_attempts(state: State) -> None:
    free(state).attempts[2] = RangeSet()


def count_attempts_from_nought(state: State) -> None:
    free(state).attempts[0] = ranges((0, 1))


def lose_a_chunk_from_the_whole(state: State) -> None:
    chunk = chunk_of(state)
    node(state).chunks.clear()
    del state.chunks[chunk.fence]


def wait_for_what_has_ended(state: State) -> None:
    state.jobs[WAITING].waits_for.add(JobId("gone"))


def wait_for_a_job_that_is_about_to_leave(state: State) -> None:
    job = free(state)
    job.done, job.pending, job.state = job.pending, RangeSet(), JobState.DONE
    state.ready.pop(FREE)
    state.leaving_jobs.append(FREE)


def forget_that_anybody_waits(state: State) -> None:
    del state.dependents[FREE]


def forget_a_dependent(state: State) -> None:
    state.dependents[FREE].clear()


def keep_a_closed_chunk(state: State) -> None:
    chunk_of(state).state = ChunkState.CLOSED


def keep_an_empty_chunk(state: State) -> None:
    chunk = chunk_of(state)
    job = state.jobs[JOB]
    job.done.update(chunk.remaining)
    chunk.remaining.clear()


def refence(state: State, fence: Fence) -> None:
    chunk = chunk_of(state)
    old = chunk.fence
    chunk.fence = fence
    for where in (state.chunks, state.jobs[JOB].chunks, node(state).chunks):
        where[fence] = where.pop(old)


def use_a_fence_of_a_later_epoch(state: State) -> None:
    refence(state, Fence(2, 1))


def use_a_fence_never_given_out(state: State) -> None:
    refence(state, Fence(1, 99))


def outgrow_a_chunk(state: State) -> None:
    chunk = chunk_of(state)
    chunk.stop -= 1


def hide_a_chunk_from_its_job(state: State) -> None:
    chunk = chunk_of(state)
    job = state.jobs[JOB]
    job.pending.update(chunk.remaining)
    del job.chunks[chunk.fence]
    state.ready[JOB] = None


def hide_a_chunk_from_its_node(state: State) -> None:
    del node(state).chunks[chunk_of(state).fence]


def twins_of(state: State) -> tuple[Chunk, Chunk]:
    """In place of the first job's chunks, of which nothing is left: an item of it that two nodes are at."""
    job, one = state.jobs[JOB], chunk_of(state)
    for chunk in list(job.chunks.values())[1:]:
        job.pending.update(chunk.remaining)
        for where in (state.chunks, job.chunks, node(state).chunks):
            del where[chunk.fence]
    for part in RangeSet([(one.start + 1, one.stop)]):
        job.pending.update([part])
        one.remaining.subtract([part])
    state.ready[JOB] = None
    state.nodes[OTHER] = Node(OTHER, "other", "", NodeState.ALIVE, 100.0, WALL_S + 100.0)
    state.counter += 1
    two = replace(one, fence=Fence(1, state.counter), node=OTHER)
    join_twins(one, two)
    add_chunk(state, job, two)
    check_invariants(state)
    return one, two


def name_a_dead_twin(state: State) -> None:
    twins_of(state)[0].twin = Fence(1, 99)


def disown_a_twin(state: State) -> None:
    twins_of(state)[0].twin = None


def part_the_remains_of_twins(state: State) -> None:
    _, two = twins_of(state)
    two.remaining = two.remaining.copy()


def bring_twins_to_one_node(state: State) -> None:
    _, two = twins_of(state)
    two.node = NODE
    node(state).chunks[two.fence] = state.nodes[OTHER].chunks.pop(two.fence)


def give_a_twin_to_another_job(state: State) -> None:
    _, two = twins_of(state)
    two.job = FREE
    free(state).chunks[two.fence] = state.jobs[JOB].chunks.pop(two.fence)


def let_twins_have_two_items(state: State) -> None:
    one, _ = twins_of(state)
    one.remaining.add(one.start + 1, one.start + 2)
    state.jobs[JOB].pending.remove(one.start + 1, one.start + 2)


BREACHES: list[tuple[Callable[[State], None], str]] = [
    (lose_an_index, "job free: the sets cover {0:3, 4:10}, not {0:10}"),
    (double_an_index, "job free: 1 indexes are in two places"),
    (put_an_index_beyond_the_total, "job free: the sets cover {0:11}, not {0:10}"),
    (list_a_dead_fence, "lists fence 1.999, which is not live"),
    (have_fences_at_a_lost_node, "is lost and has live fences"),
    (list_an_unknown_job_as_ready, "job nowhere is listed as ready and unknown"),
    (list_a_job_as_ready_that_waits, "job waiting: ready is out of step"),
    (lose_a_ready_job, "job free: ready is out of step"),
    (forget_the_number, "job free is not found by its number"),
    (end_early, "job free is done and not at its end"),
    (end_with_delayed_items, "job free is done and not at its end"),
    (end_with_a_live_chunk, "job job-a is done and not at its end"),
    (end_while_open, "job free is done and not at its end"),
    (end_without_values, "job free is done and lacks values"),
    (end_for_ever, "job free is done and would never leave the core"),
    (fail_without_failures, "job free failed without a failed item"),
    (never_end, "job free is pending and nothing would ever end it"),
    (keep_pending_while_cancelling, "job free winds down and has something left to place"),
    (keep_delayed_items_while_stopping, "job free winds down and has something left to place"),
    (cancel_items_of_a_running_job, "job free is pending and has cancelled items"),
    (keep_an_empty_set_of_attempts, "job free: an empty set of attempts"),
    (count_attempts_from_nought, "job free: an empty set of attempts"),
    (lose_a_chunk_from_the_whole, "job job-a lists fence 1.1, which is not live"),
    (wait_for_what_has_ended, "job waiting waits for gone, which has ended"),
    (wait_for_a_job_that_is_about_to_leave, "job waiting waits for free, which has ended"),
    (forget_that_anybody_waits, "job waiting would not be told of free's end"),
    (forget_a_dependent, "job waiting would not be told of free's end"),
    (keep_a_closed_chunk, "fence 1.1 is closed and listed"),
    (keep_an_empty_chunk, "fence 1.1 has nothing left and is live"),
    (use_a_fence_of_a_later_epoch, "fence 2.1 is of a later epoch than 1"),
    (use_a_fence_never_given_out, "fence 1.99 was never given out"),
    (outgrow_a_chunk, "fence 1.1 has outgrown itself"),
    (hide_a_chunk_from_its_job, "fence 1.1 is unknown to its job"),
    (hide_a_chunk_from_its_node, "fence 1.1 is unknown to its node"),
    (name_a_dead_twin, "fence 1.1 has a twin 1.99 that is not live"),
    (disown_a_twin, "is not the twin of its twin 1.1"),
    (part_the_remains_of_twins, "are twins and differ"),
    (bring_twins_to_one_node, "are twins at one node or of two jobs"),
    (give_a_twin_to_another_job, "are twins at one node or of two jobs"),
    (let_twins_have_two_items, "fence 1.1 has a twin and more than one item"),
]


@pytest.mark.parametrize(("breach", "named"), BREACHES, ids=[breach.__name__ for breach, _ in BREACHES])
def test_a_breach_is_found_and_named(breach: Callable[[State], None], named: str) -> None:
    state = make_state()
    check_invariants(state)
    breach(state)
    with pytest.raises(InvariantBroken) as error:
        check_invariants(state)
    assert named in str(error.value)


def test_a_state_with_every_kind_of_thing_in_it_is_whole() -> None:
    state = make_state()
    assert (len(state.jobs), TASK in node(state).tasks, NodeId("node-a") in state.nodes) == (3, True, True)
    free(state).attempts[1] = ranges((0, 1))
    check_invariants(state)


def test_whatever_a_job_may_live_for_is_enough() -> None:
    bench = Bench()
    bench.start(JobId("pending"), 1)
    bench.start(JobId("delayed"), 1, options=Options(delay_s=10.0))
    bench.start(JobId("open"), 1, by_append=True).open = True
    bench.job(JobId("open")).pending.clear()
    bench.job(JobId("open")).total = 0
    del bench.state.ready[JobId("open")]
    bench.start(JobId("waiting"), 0, after=(JobId("pending"),))
    bench.know_item_time(0.001)
    bench.join()
    (placed, *_) = bench.place()
    assert not bench.job(placed.job).pending
    check_invariants(bench.state)


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "cancelling", "stopping"])
def test_jobs_that_end_are_whole_until_they_leave(end: str) -> None:
    bench = Bench()
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(max_failures=0 if end == "stopping" else None))
    order = bench.place_one()
    bench.lease(order)
    if end.startswith("cancel"):
        bench.ask(CancelJob(JOB))
    elif end == "done":
        bench.report(values_of(order), holds=(order.fence,))
    else:
        bench.report(failure_of(order, 0), values_of(order, 1, 4 if end == "failed" else 2), holds=(order.fence,))
    if end == "cancelled":
        bench.report()
    assert bench.job().state == end
    check_invariants(bench.state)


def test_a_lost_node_that_has_nothing_is_whole() -> None:
    bench = Bench()
    bench.join()
    bench.tick(60.0)
    assert bench.node().state is NodeState.LOST
    check_invariants(bench.state)


def test_chunks_of_an_earlier_reign_are_whole_at_a_node_that_is_expected() -> None:
    bench = Bench()
    bench.join()
    bench.start(JOB, 1)
    (order,) = bench.place()
    bench.restart()
    bench.state.counter = 0
    assert (bench.chunk(order).fence, bench.node().state) == (Fence(1, 1), NodeState.EXPECTED)
    check_invariants(bench.state)
