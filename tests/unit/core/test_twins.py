"""A straggler of a task that allows it gets a twin on an idle node; the first outcome counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core_bench import JOB, NODE, Bench, failure_of, ranges, released_of, values_of
from windrow.common.messages import Accepted, CancelJob, ChunkReport, ItemFailure, PauseJob
from windrow.common.options import Options
from windrow.common.words import FailureKind, Fence, JobState, NodeId
from windrow.scheduler.core.commands import Dispatch, TellNode
from windrow.scheduler.core.events import BrokerChanged
from windrow.scheduler.core.info import depths, job_info
from windrow.scheduler.core.losses import restore_losses
from windrow.scheduler.core.records import DropChunk, PutAttempt, PutChunk, PutFailure, PutLosses

OTHER = NodeId("node-b")
IDEMPOTENT = Options(idempotent=True, retries=1)


def straggler(bench: Bench, options: Options = IDEMPOTENT) -> Dispatch:
    """One item, leased and at work at NODE, while OTHER idles."""
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=options)
    order = bench.place_one()
    bench.lease(order)
    bench.join(OTHER)
    bench.drop_rest()
    return order


def twins(bench: Bench) -> tuple[Dispatch, Dispatch]:
    order = straggler(bench)
    for _ in range(5):
        bench.report(holds=(order.fence,))
        bench.report(node=OTHER)
        placed = bench.place(0.4)
        if placed:
            break
    (twin,) = placed
    assert (twin.node, twin.start, twin.stop) == (OTHER, order.start, order.stop)
    bench.report(node=OTHER, holds=(twin.fence,))
    bench.drop_rest()
    return order, twin


def test_an_item_that_takes_its_time_gets_a_twin_and_is_counted_once(bench: Bench) -> None:
    twins(bench)
    info = job_info(bench.job())
    assert (info.running, info.pending) == (1, 0)
    assert depths(bench.state)["default", "leased"] == 1


@pytest.mark.parametrize(
    "options", [Options(), Options(idempotent=True, on_lost="fail")], ids=["not idempotent", "on_lost"]
)
def test_no_twin_is_placed_where_the_task_does_not_allow_it(bench: Bench, options: Options) -> None:
    order = straggler(bench, options)
    for _ in range(10):
        bench.report(holds=(order.fence,))
        bench.report(node=OTHER)
        assert bench.place(0.4) == []


def test_no_twin_is_placed_before_its_time(bench: Bench) -> None:
    straggler(bench)
    assert bench.place(0.9) == []


def test_an_item_of_which_no_time_is_known_gets_a_twin_after_a_second(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1, options=IDEMPOTENT)
    order = bench.place_one()
    bench.join(OTHER)
    wait_for_twins(bench, order, seconds=1)
    assert bench.pick(Dispatch) == []
    bench.tick(0.1)
    assert [twin.node for twin in bench.pick(Dispatch)] == [OTHER]
    bench.drop_rest()


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_outcome_counts_and_ends_both_fences(bench: Bench, first: int) -> None:
    pair = twins(bench)
    quick, slow = pair[first], pair[1 - first]
    bench.report(values_of(quick), node=quick.node, holds=(quick.fence,))
    assert {drop.fence for drop in bench.pick(DropChunk)} == {quick.fence, slow.fence}
    bench.drop_rest()
    assert bench.job_state() is JobState.DONE
    assert bench.report(values_of(slow), node=slow.node, holds=(slow.fence,)).dead == (slow.fence,)
    bench.drop_rest()


@pytest.mark.parametrize("first", [0, 1])
def test_a_twin_that_fails_uses_no_attempt_and_leaves_the_item_to_the_other(bench: Bench, first: int) -> None:
    pair = twins(bench)
    failed, other = pair[first], pair[1 - first]
    said = bench.report(failure_of(failed, failed.start), node=failed.node, holds=(failed.fence,))
    assert said.dead == (), "it has ended by this very report"
    assert [(history.attempt, history.final) for history in bench.pick(PutFailure)] == [(1, False)]
    assert bench.pick(PutAttempt) == []
    bench.drop_rest()
    assert not bench.job().pending
    assert list(bench.job().chunks) == [other.fence]
    bench.report(failure_of(other, other.start), node=other.node, holds=(other.fence,))
    assert [attempt.attempts for attempt in bench.pick(PutAttempt)] == [1]
    bench.drop_rest()


def test_a_twin_that_says_old_failures_again_writes_the_history_of_its_own_item_alone(bench: Bench) -> None:
    _, twin = twins(bench)
    said = failure_of(twin, twin.start)
    again = ItemFailure(twin.start + 7, FailureKind.ERROR, "E", "of an item that is done")
    bench.report(replace(said, failures=(*said.failures, again)), node=OTHER, holds=(twin.fence,))
    assert [history.item for history in bench.pick(PutFailure)] == [twin.start]
    bench.drop_rest()


@pytest.mark.parametrize("trouble", ["the broker is down", "the broker has just refused a chunk for the node"])
def test_no_twin_is_placed_where_it_could_not_be_sent(bench: Bench, trouble: str) -> None:
    straggler(bench)
    if trouble == "the broker is down":
        bench.take(BrokerChanged(False, "gone"))
    else:
        bench.node(OTHER).unsent_until = bench.mono + 10.0
    bench.drop_rest()
    assert bench.place(1.2) == []


def test_an_item_whose_twin_failed_gets_no_other_one_under_that_fence(bench: Bench) -> None:
    order, twin = twins(bench)
    bench.report(failure_of(twin, twin.start), node=OTHER, holds=(twin.fence,))
    bench.drop_rest()
    for _ in range(10):
        bench.report(holds=(order.fence,))
        bench.report(node=OTHER)
        assert bench.place(0.4) == []


@pytest.mark.parametrize("how", ["lost", "released", "dropped"])
def test_a_twin_that_is_gone_leaves_the_item_to_the_other(bench: Bench, how: str) -> None:
    order, twin = twins(bench)
    if how == "lost":
        bench.join(OTHER, boot="boot-2")
        assert bench.pick(PutLosses) == [], "nothing is known against an item that goes on elsewhere"
    elif how == "released":
        bench.report(released_of(twin, (twin.start, twin.stop)), node=OTHER, holds=(twin.fence,))
    else:
        bench.report(node=OTHER)
    bench.drop_rest()
    assert list(bench.job().chunks) == [order.fence]
    assert not bench.job().pending
    bench.finish(order)
    assert bench.job_state() is JobState.DONE


def test_a_cancelled_job_ends_only_when_both_twins_are_through(bench: Bench) -> None:
    order, twin = twins(bench)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    bench.report(values_of(twin), node=OTHER, holds=(twin.fence,))
    bench.drop_rest()
    assert bench.job().winding_down
    bench.report(values_of(order), holds=(order.fence,))
    bench.drop_rest()
    assert bench.job_state() is JobState.CANCELLED


def test_twins_are_twins_again_after_a_restart_of_the_scheduler(bench: Bench) -> None:
    order, twin = twins(bench)
    bench.restart()
    bench.join(NODE, holds=(order.fence,), boot="boot-1")
    bench.join(OTHER, holds=(twin.fence,), boot="boot-1")
    bench.drop_rest()
    assert bench.chunk(order).twin == twin.fence
    bench.report(values_of(twin), node=OTHER, holds=(twin.fence,))
    bench.drop_rest()
    assert bench.job_state() is JobState.DONE


# ── Which items get one, and where ───────────────────────────────────────────────────────────────────────────────


def wait_for_twins(bench: Bench, *orders: Dispatch, idle: tuple[NodeId, ...] = (OTHER,), seconds: int = 4) -> None:
    """The nodes are heard of for so long, and hold these; what comes of it waits in `out`."""
    for _ in range(2 * seconds):
        for node in dict.fromkeys([*(order.node for order in orders), *idle]):
            bench.report(holds=tuple(order.fence for order in orders if order.node == node), node=node)
        bench.tick(0.5)


def test_a_twin_is_committed_under_the_next_fence_before_it_is_sent(bench: Bench) -> None:
    order = straggler(bench)
    fence = Fence(order.fence.epoch, order.fence.counter + 1)
    wait_for_twins(bench, order, seconds=1)
    bench.drop_rest()
    bench.tick(0.5)
    bench.expect(PutChunk(fence, 1, 0, 1, OTHER), Dispatch(fence, OTHER, JOB, 0, 1, (), alone=False))
    twin = bench.state.chunks[fence]
    assert (twin.start, twin.stop) == (0, 1)


def test_a_twin_knows_of_the_attempts_of_its_item(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=Options(idempotent=True, retries=2, backoff_s=0.0))
    bench.report(failure_of(bench.place_one(), 0))
    order = bench.place_one(0.1)
    bench.lease(order)
    bench.join(OTHER)
    wait_for_twins(bench, order)
    assert bench.pick_one(Dispatch).attempts == ((0, 1, 1),)
    bench.drop_rest()


def test_no_twin_goes_to_the_node_that_is_at_the_item_already(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join(slots=2)
    bench.start(JOB, 1, options=IDEMPOTENT)
    order = bench.place_one()
    wait_for_twins(bench, order, idle=())
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


def test_no_twin_goes_to_a_node_that_does_not_offer_the_task(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=IDEMPOTENT)
    order = bench.place_one()
    bench.join(OTHER, tasks=("t:something_else",))
    wait_for_twins(bench, order)
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


def test_an_idle_node_gets_one_twin_at_one_look(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join(slots=2)
    bench.start(JOB, 2, options=IDEMPOTENT)
    orders = bench.place()
    assert [(order.start, order.stop) for order in orders] == [(0, 1), (1, 2)]
    bench.lease(*orders)
    bench.join(OTHER, slots=2)
    bench.drop_rest()
    looks: list[int] = []
    for _ in range(8):
        bench.report(holds=tuple(order.fence for order in orders))
        bench.report(node=OTHER)
        bench.tick(0.4)
        looks.append(len(bench.pick(Dispatch)))
        bench.drop_rest()
    assert (max(looks), sum(looks)) == (1, 2)


def test_no_twin_is_placed_while_items_of_the_job_wait_for_a_place(bench: Bench) -> None:
    """Of those that have cost two nodes each node watches one at a time: the last one waits while a slot idles."""
    bench.know_item_time(1.0)
    bench.join()
    job = bench.start(JOB, 4, options=IDEMPOTENT)
    restore_losses(job, 1, 4, 2)
    plain, watched = bench.place()
    bench.lease(plain, watched)
    bench.join(OTHER, slots=2)
    other = bench.place_one(0.1)
    assert (plain.start, other.node, len(job.pending)) == (0, OTHER, 1)
    wait_for_twins(bench, plain, watched, other)
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


def test_a_chunk_that_has_not_arrived_gets_no_twin_however_long_it_is_on_its_way(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=IDEMPOTENT)
    bench.sent(bench.place_one())
    bench.join(OTHER)
    wait_for_twins(bench, idle=(NODE, OTHER))
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


def test_a_chunk_with_more_than_one_item_left_gets_no_twin(bench: Bench) -> None:
    order = chunk_of_three(bench)
    bench.join(OTHER, slots=2)
    wait_for_twins(bench, order)
    assert bench.chunk(order).wanted_back, "what has not started there is asked for instead"
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


@pytest.mark.parametrize("known", ["its worker crashed", "its node was lost"])
def test_an_item_that_may_have_killed_something_is_not_tried_on_two_nodes_at_once(bench: Bench, known: str) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=IDEMPOTENT)
    first = bench.place_one()
    bench.lease(first)
    if known == "its worker crashed":
        bench.report(failure_of(first, 0, FailureKind.CRASH))
    else:
        bench.join(boot="boot-2")
        bench.join()
    again = bench.place_one(0.1)
    assert (again.alone, again.lease_first) == (known == "its worker crashed", known == "its node was lost")
    bench.lease(again)
    bench.join(OTHER)
    wait_for_twins(bench, again)
    assert bench.pick(Dispatch) == []
    bench.drop_rest()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_paused_job_gets_no_twin_until_it_is_resumed(bench: Bench, resumed: bool) -> None:
    order = straggler(bench)
    bench.ask_for(Accepted, PauseJob(JOB))
    if resumed:
        bench.ask_for(Accepted, PauseJob(JOB, resume=True))
    wait_for_twins(bench, order)
    assert len(bench.pick(Dispatch)) == (1 if resumed else 0)
    bench.drop_rest()


# ── What the two say ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_other_node_is_told_at_once_that_it_can_stop(bench: Bench) -> None:
    order, twin = twins(bench)
    bench.report(values_of(twin), node=OTHER, holds=(twin.fence,))
    assert bench.pick(TellNode) == [TellNode(order.node)]
    bench.drop_rest()


def chunk_of_three(bench: Bench) -> Dispatch:
    """All that is left of a job, leased at NODE."""
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 6, options=IDEMPOTENT)
    order, *rest = bench.place()
    while rest:
        bench.report(*map(values_of, rest), holds=(order.fence,))
        bench.drop_rest()
        rest = bench.place(0.1)
    assert bench.chunk(order).remaining == ranges((0, 3))
    return order


def twins_over_the_middle(bench: Bench) -> tuple[Dispatch, Dispatch]:
    """Of a chunk of three items the second one is left, and has a twin."""
    order = chunk_of_three(bench)
    bench.report(values_of(order, 0, 1), values_of(order, 2, 3), holds=(order.fence,))
    bench.join(OTHER)
    wait_for_twins(bench, order)
    twin = bench.pick_one(Dispatch)
    assert (twin.start, twin.stop) == (1, 2)
    bench.drop_rest()
    return order, twin


@pytest.mark.parametrize("again", ["value before", "value behind", "released before", "released behind", "nothing"])
def test_what_a_node_says_again_of_other_items_ends_no_twin(bench: Bench, again: str) -> None:
    order, twin = twins_over_the_middle(bench)
    said = {
        "value before": values_of(order, 0, 1),
        "value behind": values_of(order, 2, 3),
        "released before": released_of(order, (0, 1)),
        "released behind": released_of(order, (2, 3)),
        "nothing": ChunkReport(order.fence, JOB),
    }
    bench.report(said[again], holds=(order.fence,))
    assert list(bench.job().chunks) == [order.fence, twin.fence]
    bench.expect_nothing()


@pytest.mark.parametrize("part", [(0, 1), (2, 3)])
def test_a_failure_beside_values_that_are_said_again_leaves_the_item_to_the_twin(
    bench: Bench, part: tuple[int, int]
) -> None:
    order, twin = twins_over_the_middle(bench)
    said = replace(values_of(order, *part), failures=failure_of(order, 1).failures)
    bench.report(said, holds=(order.fence,))
    assert bench.pick(PutAttempt) == []
    assert list(bench.job().chunks) == [twin.fence]
    bench.drop_rest()
