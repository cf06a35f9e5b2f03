"""Work that waits at busy nodes while others idle is asked back and goes to those."""

from __future__ import annotations

from tests.core_bench import JOB, NODE, Bench, released_of, values_of
from windrow.common.messages import ChunkReport
from windrow.common.options import Options
from windrow.common.words import NodeId
from windrow.scheduler.core.commands import Dispatch, TellNode
from windrow.scheduler.core.info import directives

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
