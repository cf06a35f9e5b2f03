"""What the core wants done: records to be committed first, then effects, in the order given."""

from __future__ import annotations

from dataclasses import dataclass

from windrow.common.messages import Accepted, Appended, NodeWelcome, Refused, Reported, Started
from windrow.common.words import Fence, JobId, NodeId
from windrow.scheduler.core.records import Record

ChangeAnswer = Accepted | Appended | NodeWelcome | Refused | Reported | Started


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the peer that asked, once everything so far is durable."""

    ask: int
    message: ChangeAnswer


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand a chunk to a node: the rim adds the items."""

    fence: Fence
    node: NodeId
    job: JobId
    start: int
    stop: int
    attempts: tuple[tuple[int, int, int], ...]
    alone: bool
    lease_first: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """The fence is leased or dead: nothing of it need be sent (again)."""

    fence: Fence
    node: NodeId


@dataclass(frozen=True, slots=True)
class OpenNode:
    """Make the way to this node ready (declare its queue)."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class CloseNode:
    """There is no way to this node any more (delete its queue): it is forgotten."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class EmptyNode:
    """Drop what is on the way to this node: all of it is dead."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class TellNode:
    """There are new directives for this node."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is terminal and leaves the core."""

    job: JobId


PlainEffect = Answer | Settle | OpenNode | CloseNode | EmptyNode | TellNode | JobEnded
"""Done as they stand; a chunk is made into a message first."""
Effect = Dispatch | PlainEffect
Command = Record | Effect
