"""Consumes the node queue of RabbitMQ in the daemon's own asyncio loop, and recovers by itself."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pika has no complete types: connections, channels and frames are Any here.

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from windrow.common.amqp import AmqpLink
from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.words import fence_from_text
from windrow.node.deliveries import Delivery, DeliveryTag

log = structlog.get_logger()

RETRY_MIN_S = 0.2
RETRY_MAX_S = 5.0
"""Between two tries to consume: the scheduler declares the queue, and may be a while."""

_GENERATIONS = itertools.count(1)
"""Of channels, of all consumers in this process: a tag of one that was replaced means nothing to the next one."""


class Consumer:
    """Deliveries of one node queue, and their acks; one thread, every call returns at once."""

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_change: Callable[[bool, str], None],
    ) -> None:
        """`prefetch` is a buffer limit, not below FENCES_PER_NODE_MAX. `on_change(consuming, detail)` says why not."""
        self._queue = queue
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._on_change = on_change
        self._link = AmqpLink(url, self, name=f"windrow node, {queue}")
        self._connection: Any = None
        self._channel: Any = None
        self._generation = 0
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told: tuple[bool, str] = (False, "")
        self._refused = 0

    @property
    def consuming(self) -> bool:
        return self._told[0]

    @property
    def refused(self) -> int:
        """Messages rejected since the start: too large, foreign, forged or malformed."""
        return self._refused

    async def start(self) -> None:
        """Begin; returns at once. What comes of it is told by `on_change`."""
        self._link.start()

    async def stop(self) -> None:
        """Close in order; what is not acked goes back to the queue."""
        self._drop_channel()
        await self._link.stop()

    async def rebuild(self, reason: str = "nothing arrived although chunks are placed here") -> None:
        """Tear the connection down and make a new one (the consumption watchdog asks for it); returns at once."""
        self._link.rebuild(reason)

    def ack(self, tag: DeliveryTag) -> None:
        """The fence is leased or dead. Dropped silently when the delivery came on an older channel."""
        if tag.generation == self._generation and self._channel is not None and self._channel.is_open:
            self._channel.basic_ack(tag.number)

    def reject(self, tag: DeliveryTag) -> None:
        """The message is none of ours: the broker drops it, or puts it to the dead letters."""
        self._refused += 1
        if tag.generation == self._generation and self._channel is not None and self._channel.is_open:
            self._channel.basic_reject(tag.number, requeue=False)

    # ── Connection: build everything on each new one ─────────────────────────────────────────────────────────────

    def on_open(self, connection: Any) -> None:
        self._connection = connection
        self._open_channel()

    def on_lost(self, reason: str) -> None:
        self._connection = None
        self._drop_channel()
        log.warning("the broker is out of reach", action="broker_lost", detail=reason)
        self._change(False, reason)

    def on_blocked(self, detail: str) -> None:
        """An alarm stops publishers only."""

    def on_unblocked(self) -> None:
        """See on_blocked."""

    def _drop_channel(self) -> None:
        self._generation = next(_GENERATIONS)
        self._channel = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open_channel(self) -> None:
        self._timer = None
        self._generation = next(_GENERATIONS)
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=partial(self._on_channel_open, self._generation))

    def _on_channel_open(self, generation: int, channel: Any) -> None:
        if generation != self._generation:
            return
        self._channel = channel
        channel.add_on_close_callback(partial(self._on_channel_closed, generation))
        channel.add_on_cancel_callback(partial(self._on_cancelled, generation))
        channel.basic_qos(prefetch_count=self._prefetch, callback=partial(self._on_qos, generation))

    def _on_qos(self, generation: int, _frame: Any) -> None:
        if generation == self._generation:
            self._channel.basic_consume(
                self._queue,
                partial(self._on_message, generation),
                callback=partial(self._on_consuming, generation),
            )

    def _on_consuming(self, generation: int, _frame: Any) -> None:
        if generation == self._generation:
            self._failures = 0
            self._link.steady()
            log.info("consuming", action="consuming", queue=self._queue)
            self._change(True, "")

    def _on_channel_closed(self, generation: int, channel: Any, error: BaseException) -> None:
        """The queue is missing, or the broker is displeased. With the connection gone, the link tells."""
        if generation == self._generation and channel.connection.is_open:
            self._retry(f"cannot consume {self._queue}: {error}")

    def _on_cancelled(self, generation: int, _frame: Any) -> None:
        """The queue was deleted under us."""
        if generation == self._generation:
            channel = self._channel
            self._retry(f"the queue {self._queue} was deleted")
            channel.close()

    def _retry(self, reason: str) -> None:
        self._drop_channel()
        delay_s = min(RETRY_MAX_S, RETRY_MIN_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._open_channel)
        log.warning("not consuming", action="consume_failed", detail=reason)
        self._change(False, reason)

    def _change(self, consuming: bool, detail: str) -> None:
        if self._told != (consuming, detail):
            self._told = (consuming, detail)
            self._on_change(consuming, detail)

    # ── Deliveries ───────────────────────────────────────────────────────────────────────────────────────────────

    def _on_message(self, generation: int, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if generation != self._generation:
            return
        tag = DeliveryTag(generation, int(method.delivery_tag))
        if len(body) > MESSAGE_BYTES_MAX:
            log.warning("a message is too large: refused", action="delivery_refused", bytes=len(body))
            self.reject(tag)
            return
        given: dict[Any, Any] = properties.headers or {}
        headers = {str(name): value for name, value in given.items() if isinstance(value, str)}
        fence = fence_from_text(headers.get("windrow-fence", ""))
        self._on_delivery(Delivery(tag, fence, headers, body, bool(method.redelivered)))
