"""The way of dispatch that needs no server: chunks wait here until the answer of their node's poll takes them along."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.messages import CHUNKS
from windrow.common.words import Fence, NodeId
from windrow.scheduler.core.events import BrokerChanged, QueueSeen, Sent, Unsent
from windrow.scheduler.ports import ChunkMessage, DispatchEvent
from windrow.scheduler.telling import Telling

OFFER_BYTES_MAX = MESSAGE_BYTES_MAX // 2
"""Chunks in one answer; the rest of it must fit beside them."""


@dataclass(slots=True)
class _Waiting:
    """One chunk in an outbox."""

    body: bytes
    offered: bool = False
    """It has left in an answer, and may have come."""
    leased_first: bool = False


class LocalDispatch:
    """An outbox for each node, in memory: the store is the truth, and what is lost with it is placed again."""

    kind: str = "local"

    def __init__(self) -> None:
        self._outboxes: dict[NodeId, dict[Fence, _Waiting]] = {}
        self._telling = Telling()

    async def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        self._telling.start(on_event)
        self._telling.tell(BrokerChanged(True, ""))

    async def stop(self) -> None:
        self._telling.flush()

    def dispatch(self, message: ChunkMessage) -> None:
        if len(message.body) > OFFER_BYTES_MAX:
            reason = f"the chunk message has {len(message.body)} bytes; at most {OFFER_BYTES_MAX} travel"
            self._telling.tell(Unsent(message.fence, reason))
            return
        self._outboxes.setdefault(message.node, {})[message.fence] = _Waiting(message.body)
        self._telling.tell(Sent(message.fence))

    def flush(self) -> None:
        """The node's poll is answered in this turn anyway."""

    def open_node(self, node: NodeId) -> None:
        self._outboxes.setdefault(node, {})

    def close_node(self, node: NodeId) -> None:
        self._outboxes.pop(node, None)

    def empty_node(self, node: NodeId) -> None:
        self._outboxes.get(node, {}).clear()

    def settle(self, fence: Fence, node: NodeId) -> None:
        self._outboxes.get(node, {}).pop(fence, None)

    def settle_others(self, live: Collection[Fence]) -> None:
        for node, outbox in self._outboxes.items():
            for fence in [fence for fence in outbox if fence not in live]:
                self.settle(fence, node)

    def offered(self, node: NodeId, holds: frozenset[Fence]) -> list[bytes]:
        """In the order of dispatch, but for what the node holds; the rest of a long outbox comes with a later poll.

        What is offered again may have started, and have taken the node with it: it is leased before it starts, as
        RabbitMQ's redelivered messages are, or nobody would ever be blamed for it.
        """
        bodies: list[bytes] = []
        room = OFFER_BYTES_MAX
        for fence, waiting in self._outboxes.get(node, {}).items():
            if fence in holds:
                continue
            if len(waiting.body) > room:
                break
            room -= len(waiting.body)
            if waiting.offered and not waiting.leased_first:
                waiting.body, waiting.leased_first = _leased_first(waiting.body), True
            waiting.offered = True
            bodies.append(waiting.body)
        return bodies

    def watch_queues(self, nodes: Sequence[NodeId]) -> None:
        for node in nodes:
            self._telling.tell(QueueSeen(node, len(self._outboxes.get(node, {}))))

    def queue_name(self, node: NodeId) -> str:
        return ""


def _leased_first(body: bytes) -> bytes:
    return CHUNKS.encode(dataclasses.replace(CHUNKS.decode(body), lease_first=True))
