"""What the daemon asks of the AMQP consumer (node/consumer.py), which it meets only where chunks come that way."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from windrow.common.messages import Chunk
from windrow.common.words import NodeId


class Delivery(Protocol):
    """One message of the node queue."""

    @property
    def tag(self) -> object: ...

    @property
    def redelivered(self) -> bool: ...


class Consumer(Protocol):
    """Consumes the node queue; connects again by itself. A tag of an older connection is dropped, never sent."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def rebuild(self) -> None: ...

    def ack(self, tag: Any) -> None: ...

    def reject(self, tag: Any) -> None: ...

    @property
    def refused(self) -> int:
        """Messages rejected since its start, those that it has not handed on too."""
        ...


OpenConsumer = Callable[[str, str, int, Callable[[Delivery], None], Callable[..., None]], Consumer]
"""URL, queue, prefetch, on_delivery, on_change."""
CheckDelivery = Callable[[Delivery, str, NodeId, Mapping[int, bytes]], Chunk]
"""Delivery, cluster, node, keys by id; MalformedMessage for what is not for this node, or does not add up."""


def open_consumer(
    url: str, queue: str, prefetch: int, on_delivery: Callable[[Delivery], None], on_change: Callable[..., None]
) -> Consumer:
    """The AMQP consumer; imported late, so that a node on `local:` needs no pika."""
    consumer: Any = importlib.import_module("windrow.node.consumer")
    made: Consumer = consumer.Consumer(url, queue, prefetch=prefetch, on_delivery=on_delivery, on_change=on_change)
    return made


def check_delivery(delivery: Delivery, cluster: str, node: NodeId, keys: Mapping[int, bytes]) -> Chunk:
    """The chunk in a delivery; MalformedMessage for what is not signed for this node, or does not add up."""
    deliveries: Any = importlib.import_module("windrow.node.deliveries")
    chunk: Chunk = deliveries.check_delivery(delivery, cluster=cluster, node=node, keys=keys)
    return chunk
