"""Work that waits at busy nodes while others idle is asked back and goes to those."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, released_of, values_of
from windrow.common.messages import CancelJob, ChunkReport, DrainNode
from windrow.common.options import Options
from windrow.common.words import JobId, NodeId
from windrow.scheduler.core.commands import Dispatch, TellNode
from windrow.scheduler.core.info import directives
from windrow.scheduler.core.releases import LOOK_INTERVAL_S
from windrow.scheduler.core.state import ItemTime

OTHER = NodeId("node-b")


def busy_and_idle(bench: Bench, *, items: int = 6, item_s: float = 0.05, options: Options = Options()) -> Dispatch:
    """All items are leased by NODE, in one chunk, before OTHER joins."""
    bench.know_item_time(item_s, measured=1)
    bench.join()
    bench.start(JOB, items, options=options)
    orders = bench.place()
    assert [order.node for order in orders] == [NODE] * len(orders)
    assert not bench.job().pending
    bench.lease(*orders)
    bench.join(OTHER)
    bench.drop_rest()
    return orders[-1]


def asked_back(bench: Bench, boot: str = "boot-1") -> tuple[object, ...]:
    return directives(bench.state, NODE, boot).give_up


def test_what_waits_at_a_busy_node_is_asked_back_for_an_idle_one(bench: Bench) -> None:
    order = busy_and_idle(bench)
    bench.tick(0.1)
    assert bench.pick(TellNode) == [TellNode(NODE)]
    bench.drop_rest()
    assert asked_back(bench) == (order.fence,)
    bench.report(released_of(order, (order.start, order.stop)), holds=(order.fence,))
    bench.drop_rest()
    assert asked_back(bench) == ()
    assert OTHER in {again.node for again in bench.place(0.1)}


def test_nothing_is_asked_back_while_there_is_pending_work_to_place(bench: Bench) -> None:
    bench.know_item_time(0.05)
    bench.join()
    bench.join(OTHER)
    bench.start(JOB, 10_000)
    bench.lease(*(order for order in bench.place() if order.node == NODE))
    bench.tick(0.1)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


def test_an_item_that_is_at_work_is_not_asked_back(bench: Bench) -> None:
    busy_and_idle(bench, items=1, item_s=10.0)
    bench.tick(5.0)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


def test_a_node_is_asked_once_and_again_only_after_it_has_answered(bench: Bench) -> None:
    order = busy_and_idle(bench)
    bench.tick(0.1)
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == []
    bench.report(ChunkReport(order.fence, JOB), holds=tuple(bench.job().chunks))
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == [TellNode(NODE)]
    bench.drop_rest()


def test_tiny_rests_are_left_where_they_are_unless_they_stand_still(bench: Bench) -> None:
    busy_and_idle(bench, items=3, item_s=0.0001)
    bench.tick(0.06)
    assert bench.pick(TellNode) == []
    bench.drop_rest()
    for _ in range(6):
        bench.tick(0.06)
        if bench.pick(TellNode) == [TellNode(NODE)]:
            break
        bench.drop_rest()
    else:
        raise AssertionError("a chunk that stands still was never asked back")
    bench.drop_rest()


def test_nothing_is_asked_back_for_a_node_that_does_not_offer_the_task(bench: Bench) -> None:
    bench.know_item_time(0.05, measured=1)
    bench.join()
    bench.start(JOB, 6)
    bench.lease(*bench.place())
    bench.join(OTHER, tasks=("t:another",))
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


def test_what_was_given_back_and_is_reported_all_the_same_is_not_committed(bench: Bench) -> None:
    order = busy_and_idle(bench)
    bench.tick(0.1)
    bench.drop_rest()
    bench.report(released_of(order, (order.start, order.stop)), holds=(order.fence,))
    bench.drop_rest()
    assert bench.report(values_of(order)).dead == (order.fence,)
    bench.drop_rest()
    assert not bench.job().done


THIRD = NodeId("node-c")


def busy_both(bench: Bench, *, idle_slots: int) -> None:
    """NODE has five items that wait, THIRD two; OTHER idles."""
    bench.know_item_time(10.0)
    for node, items in ((THIRD, 3), (NODE, 6)):
        job = JobId(f"job of {node}")
        bench.know_item_time(0.01, measured=1_000)
        bench.join(node)
        bench.start(job, items)
        bench.state.times[TASK] = ItemTime(0.0001, 1_000)
        orders = bench.place()
        assert {order.node for order in orders} == {node}
        bench.report(holds=tuple(order.fence for order in orders), node=node)
        bench.node(node).drained = True
    for node in (THIRD, NODE):
        bench.node(node).drained = False
    bench.know_item_time(10.0)
    bench.join(OTHER, slots=idle_slots)
    bench.drop_rest()


def test_for_one_idle_slot_one_chunk_is_asked_back_from_the_node_with_most_waiting(bench: Bench) -> None:
    busy_both(bench, idle_slots=1)
    for _ in range(3):
        bench.tick(0.1)
        assert bench.pick(TellNode) in ([TellNode(NODE)], [])
        bench.drop_rest()
    assert sum(chunk.wanted_back for chunk in bench.state.chunks.values()) == 1, "asked, and not answered yet"


def test_for_two_idle_slots_two_nodes_are_asked(bench: Bench) -> None:
    busy_both(bench, idle_slots=2)
    bench.tick(0.1)
    assert bench.pick(TellNode) == [TellNode(NODE), TellNode(THIRD)]
    bench.drop_rest()


def test_idle_slots_are_looked_for_now_and_then_and_not_at_each_tick(bench: Bench) -> None:
    busy_and_idle(bench)
    bench.tick(0.4 * LOOK_INTERVAL_S)
    assert bench.pick(TellNode) == []
    bench.tick(0.7 * LOOK_INTERVAL_S)
    assert bench.pick(TellNode) == [TellNode(NODE)]
    bench.drop_rest()


def test_one_item_that_waits_behind_another_is_asked_back(bench: Bench) -> None:
    order = busy_and_idle(bench, items=2, item_s=0.001)
    bench.tick(0.3)
    assert bench.pick(TellNode) == [TellNode(NODE)]
    bench.drop_rest()
    assert asked_back(bench) == (order.fence,)


def test_a_node_whose_slots_share_one_chunk_is_busy(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join(slots=2)
    bench.start(JOB, 6)
    bench.state.times[TASK] = ItemTime(0.001, 1_000)
    bench.lease(bench.place_one())
    bench.tick(1.0)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


def test_what_is_still_on_its_way_is_not_asked_back(bench: Bench) -> None:
    bench.know_item_time(0.05, measured=1)
    bench.join()
    bench.start(JOB, 6)
    bench.place()
    bench.join(OTHER)
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


@pytest.mark.parametrize("change", [CancelJob(JOB), DrainNode(NODE)], ids=["job cancelled", "node draining"])
def test_what_comes_back_of_itself_is_not_asked_for(bench: Bench, change: CancelJob | DrainNode) -> None:
    busy_and_idle(bench)
    bench.ask(change)
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == []
    bench.drop_rest()


def test_one_idle_node_that_offers_the_task_is_enough(bench: Bench) -> None:
    busy_and_idle(bench)
    bench.join(THIRD, tasks=("t:another",))
    bench.drop_rest()
    bench.tick(0.1)
    assert bench.pick(TellNode) == [TellNode(NODE)]
    bench.drop_rest()
