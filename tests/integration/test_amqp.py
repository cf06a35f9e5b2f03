"""Chunks over a real RabbitMQ that dies, is wiped, falls silent, raises alarms or lies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from tests.broker import Broker, free_port
from tests.chunks import JOB, KEY_ID, SECRET, TASK, make_chunk, make_message, sign
from tests.dispatching import AmqpReceiver, Bench, amqp_bench, delete_queues
from tests.proxy import Proxy, open_proxy
from tests.waiting import until
from windrow.common.errors import ConfigError, ProtocolError
from windrow.common.keys import node_key
from windrow.common.messages import CHUNKS
from windrow.common.words import Fence, NodeId
from windrow.node.deliveries import check_delivery
from windrow.scheduler.core.events import BrokerChanged, Unsent
from windrow.scheduler.dispatch import AmqpDispatch
from windrow.scheduler.ports import ChunkMessage

pytestmark = pytest.mark.integration

NODE = NodeId("n1")


def play(scene: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 90.0))


def amqp_receiver(bench: Bench) -> AmqpReceiver:
    receiver = bench.receiver(NODE)
    assert isinstance(receiver, AmqpReceiver)
    return receiver


def settle_all(receiver: AmqpReceiver) -> set[Fence]:
    """Acks everything that has arrived; which fences have."""
    for delivery in receiver.deliveries:
        receiver.consumer.ack(delivery.tag)
    arrived = {delivery.fence for delivery in receiver.deliveries if delivery.fence is not None}
    receiver.deliveries.clear()
    return arrived


def through(url: str, proxy: Proxy) -> str:
    return url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")


def broker_port(url: str) -> int:
    return urlsplit(url).port or 5672


def down_details(bench: Bench) -> list[str]:
    return [event.detail for event in bench.events if isinstance(event, BrokerChanged) and not event.up]


async def sent_at_least(bench: Bench, count: int) -> None:
    await until(lambda: len(bench.sent()) >= count, 20.0, f"{count} chunks to be sent")


class Sender:
    """Sends chunk after chunk, each anew under another fence when it is told as unsent, as the core does."""

    def __init__(self, bench: Bench, total: int) -> None:
        self._bench = bench
        self._todo = total
        self._counter = 0
        self.dispatched: list[Fence] = []

    @property
    def done(self) -> bool:
        return len(self._bench.sent()) >= self._todo

    async def run(self) -> None:
        while not self.done:
            ended = len(self._bench.ended())
            missing = self._todo - len(self._bench.sent()) - (len(self.dispatched) - ended)
            if self._bench.up:
                for _ in range(min(missing, 20)):
                    self._counter += 1
                    self.dispatched.append(Fence(1, self._counter))
                    self._bench.dispatch.dispatch(make_message(self._bench.cluster, NODE, self._counter))
            await asyncio.sleep(0.005)


async def all_arrive(bench: Bench, receiver: AmqpReceiver, sender: Sender, arrived: set[Fence]) -> None:
    def so_far() -> bool:
        arrived.update(settle_all(receiver))
        return set(bench.sent()) <= arrived

    await until(so_far, 30.0, "every chunk that was told as sent")
    assert sorted(bench.ended()) == sorted(sender.dispatched), "each dispatch ends exactly once"
    assert arrived <= set(sender.dispatched)


def test_a_killed_broker_loses_nothing_that_was_told_as_sent(own_broker: Broker) -> None:
    async def scene() -> None:
        async with amqp_bench(own_broker.url) as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            sender = Sender(bench, 4_000)
            sending = asyncio.create_task(sender.run())
            arrived: set[Fence] = set()
            await until(lambda: len(bench.sent()) > 1_000, 20.0, "the first thousand")
            own_broker.kill()
            await until(lambda: not bench.up, 5.0, "the loss to be told")
            await until(lambda: not receiver.consumer.consuming, 5.0, "the loss to be told on the node")
            arrived.update(settle_all(receiver))
            await asyncio.to_thread(own_broker.start)
            await asyncio.wait_for(sending, 60.0)
            await all_arrive(bench, receiver, sender, arrived)
            address = f"127.0.0.1:{broker_port(own_broker.url)}"
            assert all(address in detail and "guest" not in detail for detail in down_details(bench))

    play(scene())


def test_a_wiped_broker_is_a_non_event(own_broker: Broker) -> None:
    async def scene() -> None:
        async with amqp_bench(own_broker.url, queue_type="quorum") as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: receiver.got, 10.0, "the first chunk")
            await asyncio.to_thread(own_broker.wipe)
            await until(lambda: bench.up and receiver.consumer.consuming, 30.0, "both sides to be back")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: len(receiver.got) == 2, 10.0, "a chunk after the wipe")
            bench.dispatch.watch_queues([NODE])
            await until(lambda: bench.ready(NODE), 5.0, "a look at the new queue")

    play(scene())


def test_an_alarm_pauses_publishing_and_its_end_resumes_it(own_broker: Broker) -> None:
    async def scene() -> None:
        async with amqp_bench(own_broker.url, confirm_timeout_s=1.0) as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: not bench.up, 10.0, "the alarm to be told")
            assert "alarm" in down_details(bench)[-1]
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: len(bench.unsent()) == 2, 5.0, "both chunks to be unsent")
            assert not bench.up, "a blocked connection is kept, so no reconnect hides the alarm"
            await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "absolute", "512MB")
            await until(lambda: bench.up, 10.0, "the end of the alarm")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 3))
            await until(lambda: bench.sent() == [Fence(1, 3)], 10.0, "a chunk after the alarm")
            await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 4))
            await until(lambda: not bench.up, 10.0, "the second alarm to be told")
            began = time.monotonic()
            await bench.dispatch.stop()
            assert time.monotonic() - began < 4.0, "a blocked broker must not hang the stop"
            assert sorted(fence.counter for fence in bench.ended()) == [1, 2, 3, 4]

    play(scene())


def test_cut_connections_lose_and_double_no_end(amqp_url: str) -> None:
    async def scene() -> None:
        async with (
            open_proxy(broker_port(amqp_url)) as near,
            open_proxy(broker_port(amqp_url)) as far,
            amqp_bench(through(amqp_url, near)) as bench,
        ):
            bench.url = through(amqp_url, far)
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            sender = Sender(bench, 2_000)
            sending = asyncio.create_task(sender.run())
            arrived: set[Fence] = set()
            for share in range(1, 6):
                await sent_at_least(bench, share * 300)
                near.cut()
                far.cut()
                arrived.update(settle_all(receiver))
            await asyncio.wait_for(sending, 60.0)
            await all_arrive(bench, receiver, sender, arrived)
            assert down_details(bench)
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())


def test_a_broker_that_is_lost_or_silent_is_left_for_the_next_address(amqp_url: str) -> None:
    async def scene() -> None:
        port = broker_port(amqp_url)
        async with open_proxy(port) as first, open_proxy(port) as second:
            urls = ",".join((through(amqp_url, first), through(amqp_url, second)))
            async with amqp_bench(urls, confirm_timeout_s=0.5) as bench:
                bench.dispatch.open_node(NODE)
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
                await sent_at_least(bench, 1)
                first.hold()
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
                await until(lambda: len(bench.unsent()) == 1, 5.0, "the silent broker to be given up")
                await until(lambda: bench.up, 5.0, "the next one to be used")
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, 3))
                await sent_at_least(bench, 2)
                first.release()
                second.cut()
                await until(lambda: len(down_details(bench)) >= 2 and bench.up, 5.0, "the first one to be used again")
                bench.dispatch.dispatch(make_message(bench.cluster, NODE, 4))
                await sent_at_least(bench, 3)

    play(scene())


def test_a_silent_broker_is_given_up_after_the_confirm_timeout(amqp_url: str) -> None:
    async def scene() -> None:
        async with (
            open_proxy(broker_port(amqp_url)) as proxy,
            amqp_bench(through(amqp_url, proxy), confirm_timeout_s=0.5) as bench,
        ):
            bench.dispatch.open_node(NODE)
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: bench.sent(), 5.0, "a chunk while all is well")
            proxy.hold()
            began = time.monotonic()
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: bench.unsent() == [Fence(1, 2)], 3.0, "the chunk to be unsent")
            assert time.monotonic() - began >= 0.5
            await until(lambda: not bench.up, 1.0, "the connection to be given up")
            assert "did not confirm" in down_details(bench)[-1]
            proxy.release()
            await until(lambda: bench.up, 10.0, "a new connection")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 3))
            await until(lambda: len(bench.sent()) == 2, 5.0, "a chunk on the new connection")
            assert sorted(fence.counter for fence in bench.ended()) == [1, 2, 3], "a late confirm is not told"
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())


def test_a_deleted_queue_is_declared_again_and_the_node_comes_back(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url) as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            await until(lambda: receiver.consumer.consuming, 10.0, "the node to consume")
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))
            await until(lambda: not receiver.consumer.consuming, 5.0, "the node to notice")
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: bench.ended(), 5.0, "the end of the dispatch")
            assert bench.unsent() == [Fence(1, 1)]
            assert bench.sent() == []
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
            await until(lambda: receiver.got, 10.0, "a chunk in the new queue")
            assert bench.sent() == [Fence(1, 2)]
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))
            bench.dispatch.watch_queues([NODE])
            await until(lambda: bench.ready(NODE) == [0], 5.0, "a look that makes the queue anew")
            await until(lambda: receiver.consumer.consuming, 10.0, "the node to come back")
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())


def test_a_node_that_comes_before_its_queue_waits_for_it(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url) as bench:
            receiver = amqp_receiver(bench)
            await receiver.start()
            await until(lambda: receiver.changes, 5.0, "the node to find no queue")
            assert receiver.changes[0][0] is False
            assert bench.dispatch.queue_name(NODE) in receiver.changes[0][1]
            bench.dispatch.open_node(NODE)
            await until(lambda: receiver.consumer.consuming, 10.0, "the node to consume")
            assert receiver.changes[-1] == (True, "")
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())


def test_an_ack_never_crosses_a_reconnect(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url) as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: receiver.deliveries, 10.0, "the chunk")
            await receiver.consumer.rebuild()
            await until(lambda: len(receiver.deliveries) == 2, 10.0, "the chunk once more")
            old, new = receiver.deliveries
            assert old.tag.number == new.tag.number, "so an ack that crossed would hit the new delivery"
            assert new.redelivered
            receiver.consumer.ack(old.tag)
            await receiver.stop()
            bench.dispatch.watch_queues([NODE])
            await until(lambda: bench.ready(NODE), 5.0, "a look at the queue")
            assert bench.ready(NODE) == [1]
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())


def test_a_queue_of_another_type_is_made_anew(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url, queue_type="quorum") as before:
            before.dispatch.open_node(NODE)
            before.dispatch.watch_queues([NODE])
            await until(lambda: before.ready(NODE), 10.0, "the quorum queue")
            events = Bench(AmqpDispatch(amqp_url, cluster=before.cluster), before.cluster, amqp_url)
            await events.dispatch.start(events.events.append)
            events.dispatch.open_node(NODE)
            await until(lambda: events.up, 10.0, "the scheduler with classic queues")
            events.dispatch.dispatch(make_message(before.cluster, NODE, 1))
            await until(lambda: events.ended(), 5.0, "the end of the dispatch")
            assert events.sent() == [Fence(1, 1)]
            await events.close()
            delete_queues(amqp_url, before.dispatch.queue_name(NODE), f"windrow.{before.cluster}.dead")

    play(scene())


def test_foreign_and_forged_messages_are_refused_and_counted(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url, queue_type="quorum") as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            good = make_message(bench.cluster, NODE, 1)
            chunk = make_chunk(bench.cluster, NODE, 2)
            bad: list[ChunkMessage] = [
                replace(sign(replace(chunk, cluster="elsewhere")), node=NODE),
                replace(sign(replace(chunk, fence=Fence(1, 3), node=NodeId("n2"))), node=NODE),
                sign(replace(chunk, fence=Fence(1, 4)), secret=b"of somebody else"),
                replace(sign(replace(chunk, fence=Fence(1, 5))), key_id=9),
                replace(sign(replace(chunk, fence=Fence(1, 6))), body=b"\xc1"),
                replace(sign(replace(chunk, fence=Fence(1, 8))), fence=Fence(1, 7)),
            ]
            for message in (*bad, good):
                bench.dispatch.dispatch(message)
            await until(lambda: len(receiver.deliveries) == 7, 10.0, "all messages")
            keys = {KEY_ID: node_key(SECRET, NODE)}
            taken: list[Fence] = []
            for delivery in receiver.deliveries:
                try:
                    chunk = check_delivery(delivery, cluster=bench.cluster, node=NODE, keys=keys)
                except ProtocolError:
                    receiver.consumer.reject(delivery.tag)
                else:
                    taken.append(chunk.fence)
                    receiver.consumer.ack(delivery.tag)
            assert taken == [good.fence]
            assert receiver.consumer.refused == 6
            await until(lambda: len(bench.unsent()) == 6, 10.0, "the dead letters")
            assert {event.reason for event in bench.events if isinstance(event, Unsent)} == {"dead-lettered"}
            assert sorted(bench.unsent()) == sorted(message.fence for message in bad)
            assert receiver.consumer.consuming
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE), f"windrow.{bench.cluster}.dead")

    play(scene())


def test_an_unreachable_broker_is_told_once_with_its_address_and_no_password() -> None:
    async def scene() -> None:
        port = free_port()
        async with amqp_bench(f"amqp://user:hidden@127.0.0.1:{port}/%2F", wait_up=False) as bench:
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
            await until(lambda: bench.unsent() and down_details(bench), 5.0, "the failure to be told")
            assert f"127.0.0.1:{port}" in down_details(bench)[0]
            assert "refused" in down_details(bench)[0]
            assert "hidden" not in repr(bench.events)
            receiver = AmqpReceiver(f"amqp://user:hidden@127.0.0.1:{port}/%2F", "windrow.none")
            await receiver.start()
            await until(lambda: receiver.changes, 5.0, "the failure to be told on the node")
            await receiver.stop()
            assert f"127.0.0.1:{port}" in receiver.changes[0][1]
            assert "hidden" not in repr(receiver.changes)

    play(scene())


def test_a_refused_login_says_so(amqp_url: str) -> None:
    async def scene() -> None:
        url = f"amqp://nobody:hidden@127.0.0.1:{broker_port(amqp_url)}/%2F"
        async with amqp_bench(url, wait_up=False) as bench:
            await until(lambda: down_details(bench), 10.0, "the refusal to be told")
            assert "refused the login" in down_details(bench)[0]
            assert "hidden" not in repr(bench.events)

    play(scene())


@pytest.mark.parametrize("url", ["", "localhost:5672", "http://h/", "amqp://u:hidden@h:port/"])
def test_a_url_that_cannot_be_read_is_one_clear_line(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        AmqpDispatch(url, cluster="c")
    assert "hidden" not in refused.value.message
    assert "\n" not in refused.value.message


def test_messages_carry_amqp_properties_and_signed_headers(amqp_url: str) -> None:
    async def scene() -> None:
        async with amqp_bench(amqp_url) as bench:
            bench.dispatch.open_node(NODE)
            receiver = amqp_receiver(bench)
            await receiver.start()
            message = make_message(bench.cluster, NODE, 5)
            bench.dispatch.dispatch(message)
            await until(lambda: receiver.deliveries, 10.0, "the chunk")
            delivery = receiver.deliveries[0]
            assert delivery.fence == Fence(1, 5)
            assert delivery.headers == {
                "windrow-cluster": bench.cluster,
                "windrow-node": NODE,
                "windrow-fence": "1.5",
                "windrow-job": JOB,
                "windrow-task": TASK,
                "windrow-version": "0",
                "windrow-key-id": "1",
                "windrow-signature": message.signature,
            }
            keys = {KEY_ID: node_key(SECRET, NODE)}
            chunk = check_delivery(delivery, cluster=bench.cluster, node=NODE, keys=keys)
            assert chunk == CHUNKS.decode(message.body)
            delete_queues(amqp_url, bench.dispatch.queue_name(NODE))

    play(scene())
