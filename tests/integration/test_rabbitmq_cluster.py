"""Chunks over a cluster of three RabbitMQ with quorum queues, of which the one in use is killed."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest

from tests.broker import BrokerCluster, NoBroker, make_broker_cluster
from tests.chunks import make_message
from tests.dispatching import AmqpReceiver, amqp_bench
from tests.waiting import until
from windrow.common.words import Fence, NodeId
from windrow.scheduler.core.events import BrokerChanged

pytestmark = pytest.mark.faults

HOWTO = Path(__file__).parents[2] / "docs/how-to/rabbitmq-cluster.md"
NODE = NodeId("n1")
CHUNKS = 50
BACK_S_MAX = 20.0


@pytest.fixture
def three() -> Iterator[BrokerCluster]:
    try:
        made = make_broker_cluster()
    except NoBroker as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield made
    finally:
        made.close()


def play(scene: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 120.0))


def test_what_was_confirmed_outlives_the_broker_that_took_it_and_both_ends_go_on_with_the_next(
    three: BrokerCluster,
) -> None:
    async def scene() -> None:
        async with amqp_bench(three.url, queue_type="quorum") as bench:
            bench.dispatch.open_node(NODE)
            receiver = bench.receiver(NODE)
            assert isinstance(receiver, AmqpReceiver)
            await receiver.start()
            await until(lambda: receiver.consumer.consuming, 20.0, "the node to consume")
            await receiver.consumer.stop()
            for counter in range(CHUNKS):
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
            await until(lambda: len(bench.sent()) == CHUNKS, 20.0, "all chunks to be confirmed")

            await asyncio.to_thread(three.members[0].kill)
            await until(lambda: not bench.up, BACK_S_MAX, "the loss to be told")
            await until(lambda: bench.up, BACK_S_MAX, "the scheduler to be at another broker")
            await receiver.start()  # its first address is the dead one, too
            await until(lambda: len(set(receiver.got)) == CHUNKS, BACK_S_MAX, "what was confirmed to arrive")

            for counter in range(CHUNKS, 2 * CHUNKS):
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
            await until(lambda: len(set(receiver.got)) == 2 * CHUNKS, BACK_S_MAX, "chunks by the two that are left")
            assert bench.unsent() == []

    play(scene())


def test_a_cluster_without_a_majority_sends_nothing_and_goes_on_when_it_has_one_again(three: BrokerCluster) -> None:
    async def scene() -> None:
        async with amqp_bench(three.url, queue_type="quorum", confirm_timeout_s=1.0) as bench:
            bench.dispatch.open_node(NODE)
            receiver = bench.receiver(NODE)
            await receiver.start()
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: len(receiver.got) == 1, 20.0, "a chunk to arrive")

            for member in three.members[1:]:  # not the one in use: the connection stays
                await asyncio.to_thread(member.kill)
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: len(bench.unsent()) == 1, BACK_S_MAX, "a chunk to be told as unsent")

            for member in three.members[1:]:
                await asyncio.to_thread(member.start)
            counter = 2

            def arrives() -> bool:
                nonlocal counter
                if bench.up and len(bench.ended()) == counter:
                    counter += 1
                    bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
                return len(bench.sent()) > 1

            await until(arrives, 60.0, "a chunk to be confirmed again", poll_s=0.1)

    play(scene())


def test_accounts_with_the_documented_rights_get_along(three: BrokerCluster) -> None:
    """Those of docs/how-to/rabbitmq-cluster.md."""
    ctl = three.members[0].ctl
    for name, rights in re.findall(r"set_permissions (\w+) (.+)", HOWTO.read_text()):
        ctl("add_user", name, "secret")
        ctl("set_permissions", name, *shlex.split(rights))
    as_scheduler, as_node = (
        three.url.replace("guest:guest", f"{name}:secret") for name in ("windrow_scheduler", "windrow_node")
    )

    async def scene() -> None:
        async with amqp_bench(as_scheduler, queue_type="quorum") as bench:
            bench.url = as_node
            bench.dispatch.open_node(NODE)
            receiver = bench.receiver(NODE)
            assert isinstance(receiver, AmqpReceiver)
            await receiver.start()
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: receiver.got, 20.0, "a chunk")
            receiver.settle(Fence(1, 1))
            bench.dispatch.empty_node(NODE)
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: len(receiver.got) == 2, 20.0, "a chunk after the queue was emptied")
            receiver.consumer.reject(receiver.deliveries[-1].tag)
            await until(lambda: bench.unsent() == [Fence(1, 2)], 20.0, "the dead letter to come back")
            assert not [event for event in bench.events if isinstance(event, BrokerChanged) and not event.up]

    play(scene())
