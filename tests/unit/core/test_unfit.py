"""Nodes on which the task cannot be done are left out of its job, at nobody's cost."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, append, failure_of, tombstone, values_of
from windrow.common.messages import (
    Accepted,
    CancelJob,
    ChunkReport,
    ItemFailure,
    NodeBye,
    PauseJob,
    RetryJob,
    StartJob,
)
from windrow.common.options import Options
from windrow.common.words import FailureKind, JobState, NodeId
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.explain import explain_job
from windrow.scheduler.core.info import directives
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.records import PutFailure, ShortenChunk

OTHER = NodeId("node-b")
WHY = "/data is not mounted here"


def unfit(bench: Bench, order: Dispatch, item: int, *, boot: str = "boot-1", why: str = WHY) -> None:
    failure = ItemFailure(item, FailureKind.UNFIT, "windrow.NodeUnfit", why)
    bench.report(ChunkReport(order.fence, order.job, failures=(failure,)), node=order.node, boot=boot)


def started(bench: Bench, *, items: int = 4, retries: int = 0, nodes: tuple[NodeId, ...] = (NODE, OTHER)) -> None:
    bench.know_item_time(10.0)
    for node in nodes:
        bench.join(node)
    bench.start(JOB, items, options=Options(retries=retries, backoff_s=0.0))


def test_the_item_goes_to_another_node_and_uses_no_attempt(bench: Bench) -> None:
    started(bench, items=1)
    order = bench.place_one()
    unfit(bench, order, 0)
    (history,) = bench.pick(PutFailure)
    assert (history.kind, history.final, history.message) == (FailureKind.UNFIT, False, WHY)
    bench.drop_rest()
    again = bench.place_one(0.1)
    assert {order.node, again.node} == {NODE, OTHER}
    assert again.attempts == ()
    bench.finish(again, node=again.node)
    assert bench.job_state() is JobState.DONE


def test_nothing_more_of_the_job_is_placed_there_and_what_is_there_is_given_back(bench: Bench) -> None:
    started(bench, items=40)
    orders = bench.place()
    here = [order for order in orders if order.node == NODE]
    assert len(here) > 1
    unfit(bench, here[0], here[0].start)
    bench.drop_rest()
    assert set(directives(bench.state, NODE, "boot-1").give_up) >= {order.fence for order in here[1:]}
    for order in here[1:]:
        bench.report(tombstone(order.fence))
        bench.drop_rest()
    for _ in range(5):
        assert all(order.node == OTHER for order in bench.place(0.1))


def test_other_jobs_of_the_task_still_go_there(bench: Bench) -> None:
    started(bench, items=1, nodes=(NODE, OTHER))
    unfit(bench, bench.place_one(), 0)
    bench.drop_rest()
    left_out = next(iter(bench.job().unfit))
    bench.start(other := type(JOB)("job-b"), 40)
    assert left_out in {order.node for order in bench.place(0.1) if order.job == other}


def test_with_no_node_left_the_job_fails_and_says_why(bench: Bench) -> None:
    started(bench, items=100, nodes=(NODE,))
    order = bench.place()[0]
    unfit(bench, order, order.start)
    bench.drop_rest()
    assert bench.job().winding_down
    assert WHY in bench.job().reason
    assert len(bench.job().quarantined) == 1
    for fence in list(bench.job().chunks):
        bench.report(tombstone(fence))
        bench.drop_rest()
    assert bench.job_state() is JobState.FAILED


def test_what_different_nodes_lack_is_all_told(bench: Bench) -> None:
    started(bench, items=1)
    unfit(bench, bench.place_one(), 0)
    bench.drop_rest()
    unfit(bench, bench.place_one(0.1), 0, why="/more is not mounted here" + "." * 20_000)
    final = bench.pick(PutFailure)[-1]
    assert final.final
    assert final.message.startswith(f"{WHY}; /more is not mounted here")
    assert len(final.message) < 1100
    bench.drop_rest()
    assert bench.job_state() is JobState.FAILED


def test_a_retry_tries_every_node_again(bench: Bench) -> None:
    started(bench, items=1, nodes=(NODE,))
    unfit(bench, bench.place_one(), 0)
    bench.drop_rest()
    assert bench.job_state() is JobState.FAILED
    bench.ask_for(Accepted, RetryJob(JOB))
    bench.drop_rest()
    bench.finish(bench.place_one(0.1))
    assert bench.job_state() is JobState.DONE


def test_a_node_that_was_started_anew_is_tried_again(bench: Bench) -> None:
    started(bench, items=100)
    order = next(order for order in bench.place() if order.node == NODE)
    unfit(bench, order, order.start)
    bench.drop_rest()
    assert list(bench.job().unfit) == [NODE]
    bench.join(NODE, boot="boot-2")
    bench.drop_rest()
    assert not bench.job().unfit


def test_explain_names_the_nodes_that_are_left_out(bench: Bench) -> None:
    started(bench, items=100)
    order = next(order for order in bench.place() if order.node == NODE)
    unfit(bench, order, order.start)
    bench.drop_rest()
    reasons, _ = explain_job(bench.state, bench.job(), bench.now)
    assert any(f"name of {NODE} is left out" in reason and WHY in reason for reason in reasons)


def test_explain_of_a_job_names_the_nodes_that_are_left_out_of_those_that_it_waits_for(bench: Bench) -> None:
    started(bench, items=1)
    middle, last = type(JOB)("job-m"), type(JOB)("job-z")
    bench.start(middle, 1, after=(JOB,))
    bench.start(last, 1, after=(middle,))
    unfit(bench, bench.place_one(), 0)
    bench.drop_rest()
    reasons, _ = explain_job(bench.state, bench.state.jobs[last], bench.now)
    assert reasons[0] == f"it waits for job {middle} to be done"
    assert any("is left out" in reason and WHY in reason for reason in reasons[1:])


def test_a_running_job_is_explained_with_the_nodes_that_are_left_out(bench: Bench) -> None:
    started(bench, items=1)
    unfit(bench, bench.place_one(), 0)
    bench.drop_rest()
    bench.place_one(0.1)
    assert not bench.job().pending
    reasons, _ = explain_job(bench.state, bench.job(), bench.now)
    assert any("is left out" in reason and WHY in reason for reason in reasons)


def test_ordinary_failures_in_the_same_report_are_taken_as_ever(bench: Bench) -> None:
    bench.know_item_time(0.01)
    bench.join(slots=1)
    bench.start(JOB, 10, options=Options(retries=1))
    order = bench.place()[0]
    assert order.stop - order.start >= 2
    said = (
        ItemFailure(order.start, FailureKind.UNFIT, "windrow.NodeUnfit", WHY),
        ItemFailure(order.start + 1, FailureKind.ERROR, "E"),
    )
    bench.report(ChunkReport(order.fence, JOB, failures=said))
    bench.drop_rest()
    assert bench.job().winding_down


def test_the_item_has_left_its_chunk_durably_and_a_restart_does_not_give_it_back(bench: Bench) -> None:
    bench.know_item_time(0.01)
    bench.join()
    bench.join(OTHER)
    bench.start(JOB, 40)
    order = next(order for order in bench.place() if order.stop - order.start > 2)
    bench.report(holds=(order.fence,), node=order.node)
    failure = ItemFailure(order.start, FailureKind.UNFIT, "windrow.NodeUnfit", WHY)
    said = ChunkReport(order.fence, JOB, failures=(failure,))
    bench.report(said, node=order.node, holds=(order.fence,))
    bench.drop_rest()
    bench.restart()
    assert bench.chunk(order).remaining.first.start == order.start + 1


def test_a_call_of_a_stream_fails_for_its_caller_and_leaves_no_node_out(bench: Bench) -> None:
    """A stream has the calls of many: what one of them cannot do there another one can."""
    bench.know_item_time(10.0)
    bench.join()
    bench.join(OTHER)
    bench.ask(StartJob(JOB, TASK, stream=True))
    bench.ask(append(JOB, 0, 1))
    bench.drop_rest()
    unfit(bench, bench.place_one(), 0)
    assert bench.pick_one(PutFailure).final
    assert bench.job().unfit == {}
    bench.drop_rest()


def test_a_job_whose_other_nodes_have_left_waits_for_them_to_come_back(bench: Bench) -> None:
    started(bench, items=4)
    here = [order for order in bench.place() if order.node == NODE]
    unfit(bench, here[0], here[0].start)
    bench.ask(NodeBye(OTHER, "boot-1"))
    bench.drop_rest()
    bench.report(values_of(here[1]))
    bench.drop_rest()
    assert not bench.job().winding_down


def test_the_same_daemon_saying_hello_again_is_left_out_as_before(bench: Bench) -> None:
    started(bench, items=100)
    order = next(order for order in bench.place() if order.node == NODE)
    unfit(bench, order, order.start)
    bench.join(NODE)
    bench.drop_rest()
    assert list(bench.job().unfit) == [NODE]


def test_nodes_that_have_left_are_none_that_could_do_it(bench: Bench) -> None:
    started(bench, items=1)
    order = bench.place_one()
    other = OTHER if order.node == NODE else NODE
    bench.ask(NodeBye(other, "boot-1"))
    bench.drop_rest()
    unfit(bench, order, 0)
    bench.drop_rest()
    assert bench.job_state() is JobState.FAILED


def test_after_a_restart_nodes_that_are_still_expected_may_be_able_to_do_it(bench: Bench) -> None:
    """Nodes report before they say hello: the first one to speak is not the last one that is left."""
    started(bench, items=1)
    order = bench.place_one()
    bench.lease(order, node=order.node)
    bench.restart()
    unfit(bench, order, 0)
    bench.drop_rest()
    assert bench.job().state is JobState.RUNNING
    other = OTHER if order.node == NODE else NODE
    bench.join(other)
    bench.drop_rest()
    bench.finish(bench.place_one(0.1), node=other)
    assert bench.job_state() is JobState.DONE


def expecting(bench: Bench, items: int) -> Dispatch:
    """After a restart NODE alone has come back, and was left out; the other chunk that it has of the job."""
    bench.know_item_time(10.0)
    bench.join()
    bench.join(OTHER)
    bench.restart()
    bench.know_item_time(10.0)
    bench.join()
    bench.start(JOB, items)
    first, other = bench.place()
    failure = ItemFailure(first.start, FailureKind.UNFIT, "windrow.NodeUnfit", WHY)
    bench.report(ChunkReport(first.fence, JOB, failures=(failure,)), holds=(first.fence, other.fence))
    bench.drop_rest()
    assert (bench.node(OTHER).state, bench.job().winding_down) == (NodeState.EXPECTED, False)
    return other


@pytest.mark.parametrize("paused", [False, True])
def test_a_job_that_counts_on_a_node_that_is_expected_fails_when_that_has_not_come(bench: Bench, paused: bool) -> None:
    other = expecting(bench, 4)
    if paused:
        bench.ask_for(Accepted, PauseJob(JOB))
    bench.mono += bench.settings.lease_s - 0.5
    bench.report(holds=(other.fence,))
    bench.tick()
    assert not bench.job().winding_down
    bench.tick(1.0)
    assert (bench.job().state, WHY in bench.job().reason) == (JobState.STOPPING, True)
    bench.drop_rest()


@pytest.mark.parametrize("how", ["is being cancelled", "has ended in this very turn"])
def test_a_job_that_goes_on_no_longer_is_not_stopped_for_a_node_that_has_not_come(bench: Bench, how: str) -> None:
    other = expecting(bench, 2)
    bench.mono += bench.settings.lease_s - 0.5
    bench.report(holds=(other.fence,))
    bench.mono += 1.0
    bench.ask_for(Accepted, CancelJob(JOB))
    if how == "has ended in this very turn":
        bench.report(values_of(other))
    bench.tick()
    assert bench.job_state() is (JobState.CANCELLING if how == "is being cancelled" else JobState.CANCELLED)
    bench.drop_rest()


def test_after_a_restart_the_only_node_that_is_expected_has_said_that_it_cannot(bench: Bench) -> None:
    started(bench, items=1, nodes=(NODE,))
    order = bench.place_one()
    bench.lease(order)
    bench.restart()
    unfit(bench, order, 0)
    bench.drop_rest()
    assert bench.job_state() is JobState.FAILED


@pytest.mark.parametrize("nodes", [(NODE,), (NODE, OTHER)], ids=["for good", "not for good"])
def test_its_history_is_numbered_behind_the_attempts_before(bench: Bench, nodes: tuple[NodeId, ...]) -> None:
    started(bench, items=1, retries=1, nodes=nodes)
    first = bench.place_one()
    bench.report(failure_of(first, 0), node=first.node)
    bench.drop_rest()
    again = bench.place_one(0.1)
    assert again.attempts == ((0, 1, 1),)
    unfit(bench, again, 0)
    (history,) = bench.pick(PutFailure)
    assert (history.attempt, history.final) == (2, nodes == (NODE,))
    bench.drop_rest()


def test_an_item_that_failed_for_want_of_a_node_has_its_outcome_and_its_chunk_is_not_written_anew(
    bench: Bench,
) -> None:
    bench.know_item_time(0.01)
    bench.join()
    bench.start(JOB, 10)
    order = bench.place()[0]
    assert order.stop - order.start > 1
    bench.drop_rest()
    unfit(bench, order, order.start)
    assert bench.pick(ShortenChunk) == []
    assert bench.pick_one(PutFailure).final
    bench.drop_rest()


def test_a_stream_is_not_stopped_where_its_only_node_has_come_back_without_the_task(bench: Bench) -> None:
    """What it says of a call that it ran before is the outcome of that call and of no other one."""
    bench.join()
    bench.ask(StartJob(JOB, TASK, stream=True))
    bench.ask(append(JOB, 0, 1))
    bench.drop_rest()
    order = bench.place_one()
    bench.lease(order)
    bench.join(tasks=("t:something_else",), holds=(order.fence,))
    unfit(bench, order, 0)
    assert bench.pick_one(PutFailure).final
    assert bench.job().state is JobState.RUNNING
    bench.drop_rest()
