"""What reaches the core: requests of peers, and news from the rim. Each is one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from windrow.common.messages import (
    Append,
    CancelJob,
    CloseJob,
    DrainNode,
    NodeBye,
    NodeHello,
    PauseJob,
    Report,
    RetryJob,
    StartJob,
)
from windrow.common.words import Fence, JobId, JobState, NodeId
from windrow.scheduler.core.records import EndedJob, StoredJob

Change = NodeHello | Report | NodeBye | StartJob | Append | CloseJob | CancelJob | PauseJob | RetryJob | DrainNode


@dataclass(frozen=True, slots=True)
class Asked:
    """A peer asks for a change; `ask` is the rim's token for the answer."""

    ask: int
    change: Change


@dataclass(frozen=True, slots=True)
class Recalled:
    """A job that had left the core is needed again (a retry, a key, a late append)."""

    job: StoredJob


@dataclass(frozen=True, slots=True)
class DependencyKnown:
    """How a job stands that another one waits for and that is not in the core; None: there is no such job."""

    job: JobId
    state: JobState | None


@dataclass(frozen=True, slots=True)
class EndedSeen:
    """The store was looked through for jobs that ended long ago; `leftovers`: removed ones have left rows there."""

    jobs: tuple[EndedJob, ...]
    leftovers: bool
    steady: bool
    """The wall clock can be believed; else nothing is removed by what it says."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The broker has taken responsibility for the chunk message."""

    fence: Fence


@dataclass(frozen=True, slots=True)
class Unsent:
    """The chunk message was returned, refused or not confirmed in time; the node may have got it all the same."""

    fence: Fence
    reason: str


@dataclass(frozen=True, slots=True)
class BrokerChanged:
    """Whether chunk messages can be published now, and if not why."""

    up: bool
    detail: str


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A node queue was looked at: so many messages are ready in it (unacknowledged ones do not count)."""

    node: NodeId
    ready: int


@dataclass(frozen=True, slots=True)
class ClockGap:
    """The scheduler did not read its sockets for so long; no deadline runs on through that."""

    gap_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: expire leases, release due items, plan."""


Event = Asked | Recalled | DependencyKnown | EndedSeen | Sent | Unsent | BrokerChanged | QueueSeen | ClockGap | Tick
