"""What is said of the state to those who ask."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, Bench, failure_of, released_of, values_of
from windrow.common.messages import CancelJob, Directives, DrainNode, NodeLoad, Refused, Report
from windrow.common.options import Options
from windrow.common.words import JobState, NodeId
from windrow.scheduler.core.info import depths, directives, job_info, node_info


def test_the_counts_of_a_job_add_up(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 20, options=Options(priority=4))
    assert job_info(bench.job()).pending == 20
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


def test_a_node_is_shown_with_what_it_said(bench: Bench) -> None:
    bench.join(slots=3, queues=("b", "a"))
    load = NodeLoad(cpu_percent=50.0)
    bench.ask(Report(NODE, "boot-1", 5, load=load))
    bench.mono += 2
    info = node_info(bench.node(), bench.now)
    assert (info.state, info.slots, info.queues, info.load, info.heard_s_ago) == ("alive", 3, ("a", "b"), load, 2.0)


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


def test_depths_count_items_where_they_are(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 10)
    order = bench.place_one()
    assert depths(bench.state)["default", "placed"] == 10
    bench.lease(order)
    bench.report(released_of(order, (6, 10)), holds=(order.fence,))
    bench.drop_rest()
    assert (depths(bench.state)["default", "leased"], depths(bench.state)["default", "pending"]) == (6, 4)


def test_a_node_is_drained_by_name_id_or_unique_prefix(bench: Bench) -> None:
    bench.join(NodeId("abc1"))
    bench.join(NodeId("abd2"))
    for named in ("name of abc1", "abc1", "abc"):
        assert not isinstance(bench.ask(DrainNode(named)), Refused)
    for named in ("ab", "", "zzz"):
        refused = bench.ask_for(Refused, DrainNode(named))
        assert refused.code == "not_found"
        assert "name of abc1, name of abd2" in refused.message
    bench.drop_rest()
    assert "none has joined" in Bench().ask_for(Refused, DrainNode("x")).message
