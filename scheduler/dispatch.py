"""Hands chunks to nodes through RabbitMQ: one durable queue for each node, confirmed and mandatory publishing."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pika has no complete types: connections, channels and frames are Any here.

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pika.exceptions
import structlog
from pika.spec import Basic, BasicProperties

from windrow.common.amqp import AmqpLink
from windrow.common.errors import ConfigError
from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.words import Fence, NodeId, fence_from_text
from windrow.scheduler.core.events import BrokerChanged, QueueSeen, Sent, Unsent
from windrow.scheduler.node_queues import QueuePlan
from windrow.scheduler.ports import ChunkMessage, DispatchEvent
from windrow.scheduler.telling import Telling
from windrow.scheduler.unconfirmed import Unconfirmed

log = structlog.get_logger()

STOP_TIMEOUT_S = 1.0
PRECONDITION_FAILED = 406
_NOBODY = NodeId("")


@dataclass(slots=True)
class _NodeQueue:
    """One node queue as this connection knows it."""

    opened: bool = False
    """False: only looked at or emptied; forgotten with the connection."""
    declared: bool = False
    emptying: bool = False
    """To be emptied before anything more is published to it."""
    looking: bool = False
    waiting: list[ChunkMessage] = field(default_factory=list[ChunkMessage])
    """Chunks that may only be published once the queue is declared, or emptied of what came before."""

    @property
    def takes(self) -> bool:
        return self.declared and not self.emptying


@dataclass(frozen=True, slots=True)
class _Step:
    """One synchronous request of the topology channel; they go out one by one, so a refusal is always the first's."""

    kind: Literal["declare", "empty", "renew", "delete", "dead", "ready"]
    """`renew`: delete what is declared anew by the next step."""
    node: NodeId = _NOBODY


class AmqpDispatch:
    """The `Dispatch` port over RabbitMQ. One thread, the daemon's own loop; every call returns at once."""

    kind: str = "amqp"

    def __init__(
        self,
        url: str,
        *,
        cluster: str,
        queue_type: str = "classic",
        confirm_timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if queue_type not in ("classic", "quorum"):
            raise ConfigError(f"queue type {queue_type!r}: write classic or quorum")
        self._plan = QueuePlan(cluster, queue_type)
        self._confirm_timeout_s = confirm_timeout_s
        self._clock = clock
        self._link = AmqpLink(url, self, name=f"windrow scheduler of {cluster}")
        self._telling = Telling()
        self._told: BrokerChanged | None = None
        self._nodes: dict[NodeId, _NodeQueue] = {}
        self._unconfirmed = Unconfirmed()
        self._timer: asyncio.TimerHandle | None = None
        self._down = f"RabbitMQ at {self._link.address}: not connected yet"
        """Why nothing can be published now; empty while it can."""
        self._connection: Any = None
        self._publishing: Any = None
        self._topology: Any = None
        self._steps: deque[_Step] = deque()
        self._step: _Step | None = None

    # ── The port ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        self._telling.start(on_event)
        self._link.start()

    async def stop(self) -> None:
        deadline = time.monotonic() + min(STOP_TIMEOUT_S, self._confirm_timeout_s)
        while self._unconfirmed and not self._down and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        self._down = "the scheduler stops"
        self._give_up_all(self._down)
        self._disarm()
        await self._link.stop()
        self._telling.flush()

    def dispatch(self, message: ChunkMessage) -> None:
        if self._down:
            self._telling.tell(Unsent(message.fence, self._down))
            return
        if len(message.body) > MESSAGE_BYTES_MAX:
            reason = f"the chunk message has {len(message.body)} bytes; at most {MESSAGE_BYTES_MAX} travel"
            self._telling.tell(Unsent(message.fence, reason))
            return
        self._unconfirmed.accept(message.fence, self._clock() + self._confirm_timeout_s)
        self._arm()
        queue = self._nodes.get(message.node)
        if queue is None or queue.takes:
            self._publish(message)
        else:
            queue.waiting.append(message)

    def flush(self) -> None:
        if self._connection is not None:
            self._connection.send_now()

    def open_node(self, node: NodeId) -> None:
        queue = self._nodes.setdefault(node, _NodeQueue())
        queue.opened = True
        if not queue.declared:
            self._add_steps(_Step("declare", node))

    def close_node(self, node: NodeId) -> None:
        queue = self._nodes.pop(node, _NodeQueue())
        for message in queue.waiting:
            self._unsent(message.fence, "its node is forgotten")
        self._add_steps(_Step("delete", node))

    def empty_node(self, node: NodeId) -> None:
        queue = self._nodes.setdefault(node, _NodeQueue())
        for message in queue.waiting:
            self._unsent(message.fence, "the node queue was emptied before the chunk was published")
        queue.waiting.clear()
        queue.emptying = True
        self._add_steps(_Step("declare", node), _Step("empty", node))

    def settle(self, fence: Fence, node: NodeId) -> None:
        """The broker keeps the message until the node acks it: nothing to do."""

    def settle_others(self, live: Collection[Fence]) -> None:
        """As above: what is dead is acked by its node when the scheduler says so."""

    def offered(self, node: NodeId, holds: frozenset[Fence]) -> list[bytes]:
        return []

    def watch_queues(self, nodes: Sequence[NodeId]) -> None:
        """A declare of what is there already says how much is ready in it, and makes anew what has gone."""
        if self._down:
            return
        for node in nodes:
            queue = self._nodes.setdefault(node, _NodeQueue())
            if not queue.looking:
                queue.looking = True
                self._add_steps(_Step("declare", node))

    def queue_name(self, node: NodeId) -> str:
        return self._plan.queue_name(node)

    # ── Connection ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_open(self, connection: Any) -> None:
        """Build everything, in this order: publishing, topology, every open node's queue."""
        self._connection = connection
        connection.channel(on_open_callback=self._on_publishing_open)

    def on_lost(self, reason: str) -> None:
        log.warning("the broker is out of reach", action="broker_lost", detail=reason)
        self._connection = self._publishing = self._topology = self._step = None
        self._steps.clear()
        self._change(reason)
        self._give_up_all(reason)
        self._nodes = {
            node: _NodeQueue(opened=queue.opened, emptying=queue.emptying)
            for node, queue in self._nodes.items()
            if queue.opened or queue.emptying
        }

    def on_blocked(self, detail: str) -> None:
        log.warning("the broker takes no messages", action="broker_blocked", detail=detail)
        self._change(f"RabbitMQ at {self._link.address} takes no messages (memory or disk alarm): {detail}")

    def on_unblocked(self) -> None:
        log.info("the broker takes messages again", action="broker_unblocked")
        self._change("")

    def _change(self, down: str) -> None:
        self._down = down
        changed = BrokerChanged(not down, down)
        if changed != self._told:
            self._told = changed
            self._telling.tell(changed)

    def _on_publishing_open(self, channel: Any) -> None:
        if channel.connection is not self._connection:
            return
        self._publishing = channel
        channel.add_on_close_callback(self._on_publishing_closed)
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(partial(self._on_confirmed, channel), callback=self._on_confirms_on)

    def _on_confirms_on(self, _frame: Any) -> None:
        if self._plan.has_dead_letters:
            self._steps.append(_Step("dead"))
        for node, queue in self._nodes.items():
            self._steps.append(_Step("declare", node))
            if queue.emptying:
                self._steps.append(_Step("empty", node))
        self._steps.append(_Step("ready"))
        self._open_topology()

    def _on_publishing_closed(self, channel: Any, error: BaseException) -> None:
        # With the connection gone, the link tells why; here the broker closed the channel alone.
        if channel is self._publishing and channel.connection.is_open:
            self._link.rebuild(f"RabbitMQ at {self._link.address} closed the publishing channel: {error}")

    # ── Topology: one request at a time ──────────────────────────────────────────────────────────────────────────

    def _open_topology(self) -> None:
        self._topology = None
        self._connection.channel(on_open_callback=self._on_topology_open)

    def _on_topology_open(self, channel: Any) -> None:
        if channel.connection is self._connection:
            self._topology = channel
            channel.add_on_close_callback(self._on_topology_closed)
            self._next_step()

    def _add_steps(self, *steps: _Step) -> None:
        if self._connection is None or self._publishing is None:
            return  # everything is declared as soon as there is a connection
        self._steps.extend(steps)
        self._next_step()

    def _next_step(self) -> None:
        while self._steps and self._step is None and self._topology is not None:
            step = self._step = self._steps.popleft()
            done = partial(self._on_step_done, self._topology, step)
            name = self.queue_name(step.node)
            if step.kind == "declare":
                arguments = self._plan.node_queue_arguments()
                self._topology.queue_declare(name, durable=True, arguments=arguments, callback=done)
            elif step.kind == "empty":
                self._topology.queue_purge(name, callback=done)
            elif step.kind in ("renew", "delete"):
                self._topology.queue_delete(name, callback=done)
            elif step.kind == "dead":
                name, arguments = self._plan.dead_queue_name, self._plan.dead_queue_arguments()
                self._topology.queue_declare(name, durable=True, arguments=arguments, callback=done)
            else:
                self._step = None
                self._on_ready()

    def _on_step_done(self, channel: Any, step: _Step, frame: Any) -> None:
        if channel is not self._topology or step is not self._step:
            return
        self._step = None
        if step.kind == "dead":
            self._connection.channel(on_open_callback=self._on_dead_open)
        queue = self._nodes.get(step.node)
        if queue is not None:
            if step.kind == "declare":
                queue.declared = True
                if queue.looking:
                    queue.looking = False
                    self._telling.tell(QueueSeen(step.node, int(frame.method.message_count)))
            elif step.kind == "empty":
                queue.emptying = False
            self._publish_waiting(queue)
        self._next_step()

    def _on_topology_closed(self, channel: Any, error: BaseException) -> None:
        """The broker refuses the step that is under way by closing the channel; the others go on, on a new one."""
        if channel is not self._topology or not channel.connection.is_open:
            return
        step, self._step = self._step, None
        code = getattr(error, "reply_code", 0)
        if step is not None and step.kind == "declare" and code == PRECONDITION_FAILED:
            log.warning("a node queue has other arguments: made anew", action="queue_renewed", detail=str(error))
            self._steps.extendleft((step, _Step("renew", step.node)))
        elif step is not None:
            self._step_failed(step, error)
        self._open_topology()

    def _step_failed(self, step: _Step, error: BaseException) -> None:
        log.warning("the broker refused a request", action="topology_refused", step=step.kind, detail=str(error))
        if step.kind == "renew" and self._steps:
            self._steps.popleft()  # the declare that was to follow: it would be refused again, for ever
        queue = self._nodes.get(step.node)
        if queue is None:
            return
        if step.kind == "empty":
            queue.emptying = False
        queue.declared = queue.looking = False
        for message in queue.waiting:
            self._unsent(message.fence, f"the node queue cannot be declared: {error}")
        queue.waiting.clear()

    def _on_ready(self) -> None:
        log.info("the broker is ready", action="broker_ready", address=self._link.address)
        self._link.steady()
        self._change("")

    # ── Publishing ───────────────────────────────────────────────────────────────────────────────────────────────

    def _publish_waiting(self, queue: _NodeQueue) -> None:
        if queue.takes and queue.waiting:
            waiting, queue.waiting = queue.waiting, []
            for message in waiting:
                if message.fence in self._unconfirmed:
                    self._publish(message)

    def _publish(self, message: ChunkMessage) -> None:
        try:
            self._publishing.basic_publish(
                "", self.queue_name(message.node), message.body, self._properties(message), mandatory=True
            )
        except pika.exceptions.AMQPError as error:
            self._unsent(message.fence, f"not published: {error}")
            return
        self._unconfirmed.published(message.fence)

    def _properties(self, message: ChunkMessage) -> Any:
        return BasicProperties(
            content_type="application/msgpack",
            delivery_mode=2,
            message_id=str(message.fence),
            type="windrow.chunk",
            timestamp=int(time.time()),
            headers=self._plan.headers(message),
        )

    def _on_confirmed(self, channel: Any, frame: Any) -> None:
        if channel is not self._publishing:
            return
        method = frame.method
        refused = isinstance(method, Basic.Nack)
        for fence in self._unconfirmed.confirmed(method.delivery_tag, multiple=method.multiple):
            self._telling.tell(Unsent(fence, "the broker refused the message") if refused else Sent(fence))

    def _on_returned(self, channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """No queue took the message: its ack, which follows, means nothing. Declare the queue again for the next."""
        if channel is not self._publishing:
            return
        fence = fence_from_text(properties.message_id or "")
        if fence is not None:
            self._unsent(fence, f"returned by the broker: {method.reply_text} ({method.routing_key})")
        node = self._plan.node_of(method.routing_key)
        queue = self._nodes.get(node)
        if queue is not None and queue.declared:
            queue.declared = False
            self._add_steps(_Step("declare", node))

    def _unsent(self, fence: Fence, reason: str) -> None:
        if self._unconfirmed.drop(fence):
            self._telling.tell(Unsent(fence, reason))

    def _give_up_all(self, reason: str) -> None:
        for queue in self._nodes.values():
            queue.waiting.clear()
        for fence in self._unconfirmed.clear():
            self._telling.tell(Unsent(fence, reason))

    def _arm(self) -> None:
        first_s = self._unconfirmed.first_deadline_s
        if self._timer is None and first_s is not None:
            delay_s = max(0.0, first_s - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_deadline)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        self._timer = None
        expired = self._unconfirmed.expired(self._clock())
        reason = f"RabbitMQ at {self._link.address} did not confirm within {self._confirm_timeout_s:g} s"
        for fence in expired:
            self._telling.tell(Unsent(fence, reason))
        # A blocked broker does not confirm either, but tells us on this connection when it takes messages again.
        if expired and not self._down:
            self._link.rebuild(reason)
        self._arm()

    # ── Dead letters (quorum) ────────────────────────────────────────────────────────────────────────────────────

    def _on_dead_open(self, channel: Any) -> None:
        if channel.connection is self._connection:
            channel.add_on_cancel_callback(self._on_dead_cancelled)
            channel.basic_consume(self._plan.dead_queue_name, self._on_dead_letter)

    def _on_dead_cancelled(self, _frame: Any) -> None:
        self._add_steps(_Step("dead"))

    def _on_dead_letter(self, channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        if channel.connection is not self._connection:
            return
        channel.basic_ack(method.delivery_tag)
        fence = fence_from_text(properties.message_id or "")
        if fence is not None:
            self._telling.tell(Unsent(fence, "dead-lettered"))
