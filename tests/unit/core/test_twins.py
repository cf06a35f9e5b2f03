"""A straggler of a task that allows it gets a twin on an idle node; the first outcome counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core_bench import JOB, NODE, Bench, failure_of, released_of, values_of
from windrow.common.messages import CancelJob, ItemFailure
from windrow.common.options import Options
from windrow.common.words import FailureKind, JobState, NodeId
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.events import BrokerChanged
from windrow.scheduler.core.info import depths, job_info
from windrow.scheduler.core.records import DropChunk, PutAttempt, PutFailure, PutLosses

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
