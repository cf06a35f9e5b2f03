"""The vocabulary of design section 1 as types: ids, ranges, fences, job states."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, NewType

JobId = NewType("JobId", str)
"""Random, 16 characters of Crockford's base32; any unique prefix finds the job."""

NodeId = NewType("NodeId", str)
"""Random, lives in the node's state folder."""

COMMAND_TASK = "windrow.run:command"
"""The task of `windrow run`, which only nodes with --allow-commands offer."""


class Range(NamedTuple):
    """A half-open interval [start, stop) of item indexes of one job."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class Fence(NamedTuple):
    """The number of one hand-out of a range; only ever growing, never used twice."""

    epoch: int
    counter: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.counter}"


def fence_from_text(text: str) -> Fence | None:
    """The fence that `str()` wrote, or None where the text is none."""
    epoch, _, counter = text.partition(".")
    plain = epoch.isascii() and counter.isascii() and epoch.isdigit() and counter.isdigit() and len(text) <= 40
    return Fence(int(epoch), int(counter)) if plain else None


class Now(NamedTuple):
    """One instant on both clocks, in seconds: monotonic for deadlines, wall for what people set and see."""

    mono: float
    wall: float


class JobState(StrEnum):
    """Where a job stands; `cancelling` and `stopping` are shown as `running` until every live fence is resolved."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    STOPPING = "stopping"
    """Like cancelling, because of `max_failures`: it ends as failed."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATES = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class FailureKind(StrEnum):
    """Why one attempt at an item failed."""

    ERROR = "error"
    """The task raised."""
    CRASH = "crash"
    """The worker process died while it executed the item."""
    RESULT = "result"
    """The value cannot be sent: too large, or not made of msgpack data."""
    ITEM = "item"
    """The item's arguments cannot be read by this worker."""
    TIMEOUT = "timeout"
    """The item ran longer than its limit: its worker was killed, or it was stopped by SoftTimeout."""
    LOST = "lost"
    """Its node was lost while it may have been running, and the task says on_lost="fail"."""
    UNFIT = "unfit"
    """The task has said that this node cannot do it (NodeUnfit), and no other node is left."""
    NODE = "node"
    """Three nodes were lost while they had this item, and nothing else, of its job."""
