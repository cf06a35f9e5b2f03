"""Names, arguments and headers of what the scheduler makes in RabbitMQ; see docs/protocol.md."""

from __future__ import annotations

from dataclasses import dataclass

from windrow.common.limits import PROTOCOL_VERSION
from windrow.common.words import NodeId
from windrow.scheduler.ports import ChunkMessage

DELIVERY_LIMIT = 1_000_000
"""Of quorum queues: never unset (RabbitMQ 4 drops at 20) and never -1 (3.10 drops at the first return)."""


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """What every queue of one cluster is called and declared with."""

    cluster: str
    queue_type: str
    """`classic` or `quorum`."""

    def queue_name(self, node: NodeId) -> str:
        return f"windrow.{self.cluster}.node.{node}"

    def node_of(self, queue_name: str) -> NodeId:
        """Whose node queue this is."""
        return NodeId(queue_name.removeprefix(self.queue_name(NodeId(""))))

    @property
    def dead_queue_name(self) -> str:
        """Where quorum queues put what they give up."""
        return f"windrow.{self.cluster}.dead"

    @property
    def has_dead_letters(self) -> bool:
        return self.queue_type == "quorum"

    def node_queue_arguments(self) -> dict[str, object]:
        if not self.has_dead_letters:
            return {"x-queue-type": self.queue_type}
        return self.dead_queue_arguments() | {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_queue_name,
        }

    def dead_queue_arguments(self) -> dict[str, object]:
        return {"x-queue-type": self.queue_type, "x-delivery-limit": DELIVERY_LIMIT}

    def headers(self, message: ChunkMessage) -> dict[str, str]:
        """What a node must know before it reads the body; job and task are for people who look at the queue."""
        return {
            "windrow-cluster": self.cluster,
            "windrow-node": message.node,
            "windrow-fence": str(message.fence),
            "windrow-job": message.job,
            "windrow-task": message.task,
            "windrow-version": str(PROTOCOL_VERSION),
            "windrow-key-id": str(message.key_id),
            "windrow-signature": message.signature,
        }
