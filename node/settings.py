"""What a node daemon is started with, decided and validated before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """See the flags of `windrow node`."""

    url: str
    """Of the scheduler's control socket, e.g. tcp://127.0.0.1:7600."""
    state_dir: Path
    """Identity, lock and spool; one for each node."""
    slots: int
    name: str
    amqp_url: str = ""
    """Only used where the scheduler says that chunks come by RabbitMQ."""
    tasks: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    allow_commands: bool = False
    """Whether jobs of shell commands may run here."""
    queues: tuple[str, ...] = ("default",)
    labels: dict[str, str] = field(default_factory=dict[str, str])
    grace_s: float = 30.0
    """After SIGTERM: time for current items to finish."""
    spool_bytes_max: int = 256 << 20
    feed_s: float = 0.1
    """How much measured work a worker is given at a time."""
    cancel_grace_s: float = 5.0
    """How long an item that is cancelled may go on before its worker is killed."""
    worker_memory_bytes_max: int = 0
    """A worker that has more is killed; 0: no limit."""
    recycle_items: int = 0
    """A worker that has executed so many items is replaced after its feed; 0: never."""
    recycle_bytes: int = 0
    """A worker that keeps so much memory between feeds is replaced; 0: never."""
