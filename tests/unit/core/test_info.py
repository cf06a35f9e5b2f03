"""What is said of the state to those who ask."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, Bench, failure_of, released_of, values_of
from windrow.common.messages import Accepted, CancelJob, Directives, DrainNode, NodeBye, NodeLoad, Refused, Report
from windrow.common.options import Options
from windrow.common.words import JobId, JobState, NodeId
from windrow.scheduler.core.events import ClockGap
from windrow.scheduler.core.info import depths, directives, job_info, node_info

OTHER = NodeId("node-b")


def test_the_counts_of_a_job_add_up(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 20, options=Options(priority=4))
    info = job_info(bench.job())
    assert (info.state, info.pending) == (JobState.PENDING, 20)
    order = bench.place_one()
    assert (job_info(bench.job()).pending, job_info(bench.job()).running) == (20, 0), "placed is not running"
    bench.lease(order)
    bench.report(values_of(order, 0, 5), failure_of(order, 7), released_of(order, (15, 20)), holds=(order.fence,))
    bench.drop_rest()
    info = job_info(bench.job())
    assert (info.done, info.failed, info.cancelled, info.running, info.pending) == (5, 1, 0, 9, 5)
    assert info.done + info.failed + info.cancelled + info.running + info.pending == info.total == 20
    assert (info.state, info.priority, info.queue) == (JobState.RUNNING, 4, "default")


def test_a_cancelling_job_is_shown_as_running(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4)
    bench.lease(bench.place_one())
    bench.ask(CancelJob(JOB, "why not"))
    bench.drop_rest()
    info = job_info(bench.job())
    assert (info.state, info.reason, info.running) == (JobState.RUNNING, "why not", 4)


def test_items_of_a_cancelled_job_are_not_pending(bench: Bench) -> None:
    bench.start(JOB, 4)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    info = job_info(bench.job())
    assert (info.state, info.cancelled, info.pending) == (JobState.CANCELLED, 4, 0)


def test_a_node_is_shown_with_what_it_said(bench: Bench) -> None:
    bench.join(slots=3, queues=("b", "a"))
    load = NodeLoad(cpu_percent=50.0)
    bench.ask(Report(NODE, "boot-1", 5, load=load))
    bench.mono += 2
    info = node_info(bench.node(), bench.now)
    assert (info.state, info.slots, info.queues, info.load, info.heard_s_ago) == ("alive", 3, ("a", "b"), load, 2.0)


def test_a_node_is_not_shown_as_heard_in_the_future_when_a_gap_was_taken_out_of_its_lease(bench: Bench) -> None:
    bench.join()
    bench.take(ClockGap(5.0))
    assert node_info(bench.node(), bench.now).heard_s_ago == 0.0


def test_a_drained_node_that_is_lost_is_shown_as_lost(bench: Bench) -> None:
    bench.join()
    bench.ask(DrainNode(NODE))
    bench.tick(60.0)
    bench.drop_rest()
    assert node_info(bench.node(), bench.now).state == "lost"


@pytest.mark.parametrize("how", ["drained", "leaving"])
def test_a_node_that_takes_nothing_more_is_draining(bench: Bench, how: str) -> None:
    bench.join()
    if how == "drained":
        bench.ask(DrainNode(NODE))
    else:
        bench.report(leaving=True)
    bench.drop_rest()
    assert node_info(bench.node(), bench.now).state == "draining"


def test_directives_say_what_a_node_should_reach(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join()
    bench.start(JOB, 4)
    leased, placed = bench.place()
    bench.lease(leased)
    assert directives(bench.state, NODE, "boot-1") == Directives(1, placed=1)
    bench.ask(DrainNode(NODE))
    assert directives(bench.state, NODE, "boot-1") == Directives(1, drain=True, give_up=(placed.fence,), placed=1)
    bench.ask(DrainNode(NODE, resume=True))
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    said = directives(bench.state, NODE, "boot-1")
    assert said == Directives(1, give_up=(placed.fence,), dead=(leased.fence,), placed=1)


@pytest.mark.parametrize(("node", "boot"), [(NODE, "boot-0"), (NodeId("stranger"), "boot-1")])
def test_a_stranger_is_told_to_join(bench: Bench, node: NodeId, boot: str) -> None:
    bench.join()
    assert directives(bench.state, node, boot) == Directives(1, rejoin=True)


def test_a_node_that_was_given_up_is_told_to_join(bench: Bench) -> None:
    bench.join()
    bench.tick(60.0)
    bench.drop_rest()
    assert directives(bench.state, NODE, "boot-1") == Directives(1, rejoin=True)


def test_depths_count_items_where_they_are(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 10)
    order = bench.place_one()
    assert depths(bench.state)["default", "placed"] == 10
    bench.lease(order)
    bench.report(released_of(order, (6, 10)), holds=(order.fence,))
    bench.drop_rest()
    bench.start(JobId("later"), 3, options=Options(queue="other", delay_s=10.0))
    found = depths(bench.state)
    assert (found["default", "leased"], found["default", "placed"], found["default", "pending"]) == (6, 0, 4)
    assert (found["other", "delayed"], found["other", "pending"], found["default", "delayed"]) == (3, 0, 0)


def test_a_node_is_drained_by_name_id_or_unique_prefix(bench: Bench) -> None:
    bench.join(NodeId("abc1"))
    bench.join(NodeId("abd2"))
    for named in ("name of abc1", "abc1", "abc"):
        assert bench.ask_for(Accepted, DrainNode(named)).note == "node name of abc1 takes nothing more"
        assert bench.ask_for(Accepted, DrainNode(named, resume=True)).note == "node name of abc1 works again"
    for named, what in (
        ("ab", "2 nodes are called 'ab': name one of them by its id: abc1, abd2"),
        ("", "no node is called ''; nodes: name of abc1, name of abd2"),
        ("zzz", "no node is called 'zzz'; nodes: name of abc1, name of abd2"),
    ):
        refused = bench.ask_for(Refused, DrainNode(named))
        assert (refused.code, refused.message) == ("not_found", what)
    bench.drop_rest()
    assert "none has joined" in Bench().ask_for(Refused, DrainNode("x")).message


def test_a_node_whose_id_begins_that_of_another_is_drained_by_it(bench: Bench) -> None:
    short, long = NodeId("abc"), NodeId("abcd")
    bench.join(short)
    bench.join(long)
    bench.ask_for(Accepted, DrainNode("abc"))
    bench.drop_rest()
    assert (bench.node(short).drained, bench.node(long).drained) == (True, False)


@pytest.mark.parametrize("former", ["lost", "gone"])
def test_a_node_that_came_back_under_another_id_is_drained_by_its_name(bench: Bench, former: str) -> None:
    """Its disk was lost, say; what was known of it before stays known."""
    old, new = NodeId("old"), NodeId("new")
    bench.join(old)
    bench.ask(NodeBye(old, "boot-1")) if former == "gone" else bench.tick(60.0)
    bench.drop_rest()
    bench.join(new)
    bench.node(old).name = bench.node(new).name = "alpha"
    assert node_info(bench.node(old), bench.now).state == former
    assert bench.ask_for(Accepted, DrainNode("alpha")).note == "node alpha takes nothing more"
    bench.drop_rest()
    assert (bench.node(old).drained, bench.node(new).drained) == (False, True)


def test_a_node_that_is_away_can_be_drained_for_when_it_comes_back(bench: Bench) -> None:
    bench.join()
    bench.tick(60.0)
    bench.ask_for(Accepted, DrainNode("name of node-a"))
    bench.drop_rest()
    assert bench.join(boot="boot-2").drained


def test_of_two_live_nodes_of_one_name_neither_is_drained_by_it(bench: Bench) -> None:
    for node in (OTHER, NODE):
        bench.join(node)
        bench.node(node).name = "alpha"
    refused = bench.ask_for(Refused, DrainNode("alpha"))
    assert refused.message == "2 nodes are called 'alpha': name one of them by its id: node-a, node-b"


def test_the_only_node_has_to_be_named_too(bench: Bench) -> None:
    bench.join()
    assert bench.ask_for(Refused, DrainNode("")).message.startswith("no node is called ''")
