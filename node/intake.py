"""Takes chunks from the node queue into the workbench, acknowledges them, and notices when nothing comes any more."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from windrow.common.errors import BrokerUnreachable, MalformedMessage
from windrow.common.limits import FENCES_PER_NODE_MAX
from windrow.common.messages import Chunk, NodeWelcome
from windrow.common.words import NodeId
from windrow.node.chunks import Taken
from windrow.node.ports import CheckDelivery, Consumer, Delivery, OpenConsumer, check_delivery, open_consumer

log = structlog.get_logger()

STALLED_S = 10.0
"""Chunks placed here, slots free, and nothing arrives for so long: the connection is built anew."""
REBUILDS_MAX = 3

Take = Callable[[Chunk, object, bool], Taken]
"""Chunk, delivery tag, whether it is leased before it starts."""


class Intake:
    """One consumer for as long as the scheduler says that chunks come by RabbitMQ."""

    def __init__(
        self,
        url: str,
        node: NodeId,
        take: Take,
        opener: OpenConsumer = open_consumer,
        check: CheckDelivery = check_delivery,
    ) -> None:
        self._refused_before = 0
        """By consumers that were replaced."""
        self._url = url
        self._node = node
        self._take = take
        self._opener = opener
        self._check = check
        self._consumer: Consumer | None = None
        self._cluster: str
        self._queue: str
        self._keys: dict[int, bytes] = {}
        self._heard: float
        self._rebuilds: int

    @property
    def refused(self) -> int:
        """Messages of the node queue that were refused since the start of the daemon."""
        return self._refused_before + (self._consumer.refused if self._consumer is not None else 0)

    async def follow(self, welcome: NodeWelcome) -> None:
        """Consume as the scheduler says; the key before the present one stays valid. BrokerUnreachable: no URL."""
        self._cluster = welcome.cluster
        self._keep_key(welcome.key_id, welcome.key)
        if welcome.dispatch != "amqp":
            await self.stop()
            return
        if self._consumer is not None and self._queue == welcome.queue:
            return
        await self.stop()
        if not self._url:
            raise BrokerUnreachable(
                "the scheduler sends chunks by RabbitMQ, and this node was given no address of one: "
                "use --amqp or WINDROW_AMQP_URL"
            )
        self._queue = welcome.queue
        self._heard = time.monotonic()
        self._rebuilds = 0
        self._consumer = self._opener(self._url, welcome.queue, FENCES_PER_NODE_MAX, self._on_delivery, self._on_change)
        await self._consumer.start()

    def _keep_key(self, key_id: int, key: bytes) -> None:
        """As the present one, and none but the one before it."""
        # A scheduler gives the same one again at each hello: that is no change of keys.
        before = [known for known in self._keys if known != key_id][-1:]
        self._keys = {known: self._keys[known] for known in before} | {key_id: key}

    def ack(self, tags: list[object]) -> None:
        """The leases of these deliveries are durable."""
        if self._consumer is not None:
            for tag in tags:
                self._consumer.ack(tag)

    async def watch(self, placed: int, *, free: bool) -> bool:
        """Chunks are said to be placed here: build the connection anew if none arrives. False: that did not help."""
        if self._consumer is None:
            return True
        now = time.monotonic()
        if not placed or not free:
            self._heard = now
            return True
        if now - self._heard < STALLED_S:
            return True
        if self._rebuilds >= REBUILDS_MAX:
            log.error("chunks are placed here and none arrives; leaving", action="consumption_dead", placed=placed)
            return False
        self._rebuilds += 1
        self._heard = now
        log.warning(
            "chunks are placed here and none arrives; the broker connection is built anew",
            action="consumption_stalled", placed=placed, rebuilds=self._rebuilds,
        )  # fmt: skip
        await self._consumer.rebuild()
        return True

    async def stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._refused_before += consumer.refused
            await consumer.stop()

    def _on_change(self, consuming: bool, detail: str) -> None:
        if consuming:
            log.info("chunks come from the node queue", action="broker_reached")
        else:
            log.warning("no chunks come: the broker is out of reach", action="broker_lost", detail=detail)

    def _on_delivery(self, delivery: Delivery) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        self._heard = time.monotonic()
        self._rebuilds = 0
        try:
            chunk = self._check(delivery, self._cluster, self._node, self._keys)
        except MalformedMessage as error:
            log.error("a message in the node queue is refused", action="delivery_refused", detail=str(error))
            consumer.reject(delivery.tag)
            return
        taken = self._take(chunk, delivery.tag, delivery.redelivered)
        if taken in (Taken.OVER, Taken.LEASED):
            consumer.ack(delivery.tag)
