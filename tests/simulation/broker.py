"""A broker of the world: a queue for each node, confirms, redelivery; it may die, with or without its messages."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import Process
from windrow.common.words import Fence, NodeId
from windrow.node.deliveries import Delivery, DeliveryTag
from windrow.scheduler.core.events import BrokerChanged, QueueSeen, Sent, Unsent
from windrow.scheduler.node_queues import QueuePlan
from windrow.scheduler.ports import ChunkMessage, DispatchEvent
from windrow.scheduler.telling import Telling

if TYPE_CHECKING:
    from tests.simulation.world import World

CLUSTER = "sim"
PLAN = QueuePlan(CLUSTER, "classic")


@dataclass(frozen=True, slots=True)
class Message:
    """A chunk message in a queue."""

    fence: Fence
    headers: dict[str, str]
    body: bytes
    redelivered: bool = False


class Broker:
    """Queues by name; at most one consumer each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dice = random.Random(f"{world.scenario.seed} broker")
        self.up = True
        self.queues: dict[str, deque[Message]] = {}
        self.consumers: dict[str, SimConsumer] = {}
        self.publishers: list[SimDispatch] = []

    def crash(self, *, wiped: bool) -> None:
        if not self.up:
            return
        self.up = False
        for consumer in list(self.consumers.values()):
            consumer.disconnect()
        if wiped:
            self.queues.clear()
        for publisher in self.publishers:
            publisher.process.call_soon(publisher.on_lost)

    def restart(self) -> None:
        self.up = True
        for publisher in self.publishers:
            publisher.process.call_soon(publisher.on_back)

    def purge(self, who: int) -> None:
        if self.queues:
            self.queues[sorted(self.queues)[who % len(self.queues)]].clear()

    def put(self, queue: str, message: Message) -> None:
        self.queues.setdefault(queue, deque()).append(message)
        self.deliver(queue)

    def put_back(self, queue: str, messages: list[Message]) -> None:
        """What a lost consumer had not acknowledged."""
        back = [replace(message, redelivered=True) for message in messages]
        self.queues.setdefault(queue, deque()).extendleft(reversed(back))
        self.deliver(queue)

    def deliver(self, queue: str) -> None:
        consumer = self.consumers.get(queue)
        waiting = self.queues.get(queue)
        while self.up and consumer is not None and waiting:
            consumer.push(waiting.popleft())


class SimConsumer:
    """Stands for the node's AMQP consumer: an ack of an older connection is dropped, never sent."""

    def __init__(
        self, url: str, queue: str, *, prefetch: int, on_delivery: Callable[[Delivery], None],
        on_change: Callable[..., None],
    ) -> None:  # fmt: skip
        self.process: Any = asyncio.get_running_loop()
        self.host = self.process.host
        self.broker: Broker = self.host.world.broker
        self.queue = queue
        self.refused = 0
        self._on_delivery = on_delivery
        self._generation = 0
        self._number = 0
        self._unacked: dict[int, Message] = {}
        self._stopped = False
        self.rebuilds = 0

    async def start(self) -> None:
        self._connect()

    async def stop(self) -> None:
        self._stopped = True
        self.disconnect()

    async def rebuild(self) -> None:
        self.rebuilds += 1
        self.disconnect()

    def _connect(self) -> None:
        if self._stopped or not self.process.alive:
            return
        reachable = self.broker.up and not self.host.cut_from_broker
        if reachable and self.broker.consumers.get(self.queue) is None:
            self._generation += 1
            self.broker.consumers[self.queue] = self
            self.broker.deliver(self.queue)
        elif self.broker.consumers.get(self.queue) is not self:
            self.process.call_later(0.5, self._connect)

    def disconnect(self) -> None:
        """The connection is gone, for whatever reason."""
        if self.broker.consumers.get(self.queue) is not self:
            return
        del self.broker.consumers[self.queue]
        self._generation += 1
        unacked, self._unacked = self._unacked, {}
        self.process.call_later(0.5, self._connect)
        # The broker notices a while later.
        late_s = self.broker.dice.uniform(0.0, 1.0)
        self.host.world.outside.call_later(late_s, self.broker.put_back, self.queue, list(unacked.values()))

    def push(self, message: Message) -> None:
        self._number += 1
        self._unacked[self._number] = message
        tag = DeliveryTag(self._generation, self._number)
        delivery = Delivery(tag, message.fence, message.headers, message.body, message.redelivered)
        self.process.call_later(self.broker.dice.uniform(0.0001, 0.01), self._hand_over, self._generation, delivery)

    def _hand_over(self, generation: int, delivery: Delivery) -> None:
        if generation == self._generation:
            self._on_delivery(delivery)

    def ack(self, tag: DeliveryTag) -> None:
        if tag.generation == self._generation:
            self._unacked.pop(tag.number, None)

    def reject(self, tag: DeliveryTag) -> None:
        self.refused += 1
        self.ack(tag)


class SimDispatch:
    """The port of dispatch on the broker: each chunk is told as Sent or as Unsent, once."""

    kind = "amqp"

    def __init__(self, broker: Broker, process: Process) -> None:
        self.broker = broker
        self.process = process
        self._telling = Telling()
        self._unconfirmed: dict[Fence, None] = {}

    async def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        self._telling.start(on_event)
        self.broker.publishers.append(self)
        self._telling.tell(BrokerChanged(self.broker.up, "" if self.broker.up else "down"))

    async def stop(self) -> None:
        self._telling.flush()

    def on_lost(self) -> None:
        self._telling.tell(BrokerChanged(False, "down"))
        for fence in list(self._unconfirmed):
            self._done(Unsent(fence, "the broker is gone"))

    def on_back(self) -> None:
        self._telling.tell(BrokerChanged(self.broker.up, ""))

    def dispatch(self, message: ChunkMessage) -> None:
        world, dice = self.broker.world, self.broker.dice
        self._unconfirmed[message.fence] = None
        refused = world.faulty and dice.random() < world.scenario.refuse
        arrives = not refused or dice.random() < 0.5
        queue = PLAN.queue_name(message.node)
        sent = Message(message.fence, PLAN.headers(message), message.body)
        if self.broker.up and arrives:
            world.outside.call_later(dice.uniform(0.0001, 0.005), self._arrive, queue, sent)
        told = Sent(message.fence) if not refused else Unsent(message.fence, "not confirmed in time")
        if self.broker.up:
            self.process.call_later(0.01 if not refused else dice.uniform(0.01, 1.0), self._done, told)
        else:
            self._done(Unsent(message.fence, "the broker is down"))

    def _arrive(self, queue: str, message: Message) -> None:
        if self.broker.up:
            self.broker.put(queue, message)

    def _done(self, event: Sent | Unsent) -> None:
        if event.fence in self._unconfirmed:
            del self._unconfirmed[event.fence]
            self._telling.tell(event)

    def open_node(self, node: NodeId) -> None:
        """Queues are there when they are needed."""

    def empty_node(self, node: NodeId) -> None:
        if self.broker.up:
            self.broker.queues.pop(PLAN.queue_name(node), None)

    def close_node(self, node: NodeId) -> None:
        self.empty_node(node)

    def settle(self, fence: Fence, node: NodeId) -> None:
        """The broker keeps the message until the node acks it."""

    def settle_others(self, live: Collection[Fence]) -> None:
        """As above."""

    def offered(self, node: NodeId, holds: frozenset[Fence]) -> list[bytes]:
        return []

    def flush(self) -> None:
        """Every message is on its way already."""

    def watch_queues(self, nodes: Sequence[NodeId]) -> None:
        for node in nodes:
            if self.broker.up:
                ready = len(self.broker.queues.get(PLAN.queue_name(node), ()))
                self.process.call_later(0.002, self._telling.tell, QueueSeen(node, ready))

    def queue_name(self, node: NodeId) -> str:
        return PLAN.queue_name(node)
