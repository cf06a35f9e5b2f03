"""What a scheduler daemon is started with, decided and validated before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """See the flags of `windrow scheduler`."""

    state_dir: Path
    bind: str = "127.0.0.1"
    port: int = 7600
    """0: any free port; the service says which."""
    http_port: int | None = 7680
    """None: no HTTP. 0: any free port."""
    amqp_url: str = ""
    """Empty: `local:`."""
    store_url: str = ""
    """Empty: SQLite in the state folder."""
    queue_type: str = "classic"
    """Of node queues: `classic` or `quorum`."""
    heartbeat_s: float = 1.0
    lease_s: float = 6.0
    confirm_timeout_s: float = 5.0
    """A published chunk that is not confirmed by then goes back to pending."""
    results_kept_days: float | None = 7.0
    """How long a job that was done or cancelled is kept; None: for ever."""
    failures_kept_days: float | None = 30.0
    """The same of a job that failed."""
    nodes_kept_days: float | None = 7.0
    """A node that was lost or has left is forgotten so long after it was heard last; None: never."""
