"""Both ways of dispatch with a node-like receiver each, behind one face, so that one suite can test both."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator
from typing import Protocol

import pika

from tests.waiting import until
from windrow.common.limits import FENCES_PER_NODE_MAX
from windrow.common.messages import CHUNKS
from windrow.common.words import Fence, NodeId
from windrow.node.consumer import Consumer
from windrow.node.deliveries import Delivery
from windrow.scheduler.core.events import BrokerChanged, QueueSeen, Sent, Unsent
from windrow.scheduler.dispatch import AmqpDispatch
from windrow.scheduler.local import LocalDispatch
from windrow.scheduler.ports import Dispatch, DispatchEvent


class Receiver(Protocol):
    """What a node does with its chunks."""

    got: list[bytes]
    """Bodies in the order of arrival, repeated ones too."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """As a crash: nothing that is not settled is lost."""
        ...

    def settle(self, fence: Fence) -> None:
        """The fence is leased: it need not come again."""
        ...


class AmqpReceiver:
    """A consumer of the node queue."""

    def __init__(self, url: str, queue: str) -> None:
        self.got: list[bytes] = []
        self.deliveries: list[Delivery] = []
        self.changes: list[tuple[bool, str]] = []
        self.consumer = Consumer(
            url,
            queue,
            prefetch=2 * FENCES_PER_NODE_MAX,
            on_delivery=self._on_delivery,
            on_change=lambda consuming, detail: self.changes.append((consuming, detail)),
        )

    def _on_delivery(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.got.append(delivery.body)

    async def start(self) -> None:
        await self.consumer.start()

    async def stop(self) -> None:
        await self.consumer.stop()

    def settle(self, fence: Fence) -> None:
        for delivery in self.deliveries:
            if delivery.fence == fence:
                self.consumer.ack(delivery.tag)


class LocalReceiver:
    """Polls as a node does: it names what it holds, and gets the rest."""

    def __init__(self, dispatch: LocalDispatch, node: NodeId) -> None:
        self.got: list[bytes] = []
        self._dispatch = dispatch
        self._node = node
        self._holds: set[Fence] = set()
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._holds.clear()
        self._polling = asyncio.create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            for body in self._dispatch.offered(self._node, frozenset(self._holds)):
                self.got.append(body)
                self._holds.add(CHUNKS.decode(body).fence)
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling
            self._polling = None

    def settle(self, fence: Fence) -> None:
        self._dispatch.settle(fence, self._node)
        self._holds.discard(fence)


class Bench:
    """A started way of dispatch, what it has told, and receivers for its nodes."""

    def __init__(self, dispatch: Dispatch, cluster: str, url: str) -> None:
        self.dispatch = dispatch
        self.cluster = cluster
        self.url = url
        self.events: list[DispatchEvent] = []
        self._receivers: list[Receiver] = []

    @property
    def up(self) -> bool:
        changes = [event for event in self.events if isinstance(event, BrokerChanged)]
        return bool(changes) and changes[-1].up

    def sent(self) -> list[Fence]:
        return [event.fence for event in self.events if isinstance(event, Sent)]

    def unsent(self) -> list[Fence]:
        return [event.fence for event in self.events if isinstance(event, Unsent)]

    def ended(self) -> list[Fence]:
        """Every fence that was told as sent or unsent, as often as it was told."""
        return self.sent() + self.unsent()

    def ready(self, node: NodeId) -> list[int]:
        return [event.ready for event in self.events if isinstance(event, QueueSeen) and event.node == node]

    def receiver(self, node: NodeId) -> Receiver:
        """Not started yet; stopped with the bench."""
        made: Receiver
        if isinstance(self.dispatch, LocalDispatch):
            made = LocalReceiver(self.dispatch, node)
        else:
            made = AmqpReceiver(self.url, self.dispatch.queue_name(node))
        self._receivers.append(made)
        return made

    async def close(self) -> None:
        for receiver in self._receivers:
            await receiver.stop()
        await self.dispatch.stop()


@contextlib.asynccontextmanager
async def local_bench() -> AsyncGenerator[Bench]:
    bench = Bench(LocalDispatch(), "c" + secrets.token_hex(4), "")
    await bench.dispatch.start(bench.events.append)
    try:
        await until(lambda: bench.up, 1.0, "the way of dispatch to be up")
        yield bench
    finally:
        await bench.close()


@contextlib.asynccontextmanager
async def amqp_bench(
    url: str, *, queue_type: str = "classic", confirm_timeout_s: float = 5.0, wait_up: bool = True
) -> AsyncGenerator[Bench]:
    cluster = "c" + secrets.token_hex(4)
    dispatch = AmqpDispatch(url, cluster=cluster, queue_type=queue_type, confirm_timeout_s=confirm_timeout_s)
    bench = Bench(dispatch, cluster, url)
    await dispatch.start(bench.events.append)
    try:
        if wait_up:
            await until(lambda: bench.up, 10.0, "RabbitMQ to be up")
        yield bench
    finally:
        await bench.close()


def delete_queues(url: str, *names: str) -> None:
    """From outside, as an administrator would."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    for name in names:
        connection.channel().queue_delete(name)
    connection.close()
