"""The laws of motion: one literal transition table for each machine; a pair that is missing is a bug and raises.

Rules of this file: every state has a row, terminal states an empty one; nothing else in the core assigns a state.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from windrow.common.errors import InvariantBroken
from windrow.common.words import JobState


class JobTrigger(StrEnum):
    """What moves a job."""

    PLACE = "place"
    """A chunk of it was placed."""
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    STOP = "stop"
    """More items have failed than `max_failures` allows."""
    SUCCEED = "succeed"
    """Every item has a value."""
    FAIL = "fail"
    """Every item is terminal, some are quarantined."""
    RESOLVE = "resolve"
    """The last live fence of a cancelled or stopped job is gone."""
    RETRY = "retry"


class ChunkState(StrEnum):
    """Where a fence stands."""

    PLACED = "placed"
    """Committed; perhaps on its way."""
    SENT = "sent"
    """The broker has taken responsibility for the message."""
    LEASED = "leased"
    """The node has it."""
    CLOSED = "closed"
    """Dead: its range is accounted for elsewhere."""


class ChunkTrigger(StrEnum):
    """What moves a fence."""

    SEND = "send"
    LEASE = "lease"
    CLOSE = "close"


class NodeState(StrEnum):
    """Where a node stands."""

    EXPECTED = "expected"
    """It held chunks under an earlier epoch and has not said hello to this one yet."""
    ALIVE = "alive"
    LOST = "lost"
    """It missed its heartbeats; what it held was given to others."""
    GONE = "gone"
    """It said goodbye."""


class NodeTrigger(StrEnum):
    """What moves a node."""

    HELLO = "hello"
    BYE = "bye"
    LOSE = "lose"


JOB_TRANSITIONS: Final[dict[JobState, dict[JobTrigger, JobState]]] = {
    JobState.PENDING: {
        JobTrigger.PLACE: JobState.RUNNING,
        JobTrigger.PAUSE: JobState.PAUSED,
        JobTrigger.CANCEL: JobState.CANCELLING,
        JobTrigger.STOP: JobState.STOPPING,
        JobTrigger.SUCCEED: JobState.DONE,
        JobTrigger.FAIL: JobState.FAILED,
    },
    JobState.RUNNING: {
        JobTrigger.PLACE: JobState.RUNNING,
        JobTrigger.PAUSE: JobState.PAUSED,
        JobTrigger.CANCEL: JobState.CANCELLING,
        JobTrigger.STOP: JobState.STOPPING,
        JobTrigger.SUCCEED: JobState.DONE,
        JobTrigger.FAIL: JobState.FAILED,
    },
    JobState.PAUSED: {
        JobTrigger.RESUME: JobState.PENDING,
        JobTrigger.CANCEL: JobState.CANCELLING,
        JobTrigger.STOP: JobState.STOPPING,
        # What was running when the job was paused may have been the last of it.
        JobTrigger.SUCCEED: JobState.DONE,
        JobTrigger.FAIL: JobState.FAILED,
    },
    JobState.CANCELLING: {JobTrigger.RESOLVE: JobState.CANCELLED},
    JobState.STOPPING: {JobTrigger.RESOLVE: JobState.FAILED, JobTrigger.CANCEL: JobState.CANCELLING},
    JobState.DONE: {},
    JobState.FAILED: {JobTrigger.RETRY: JobState.PENDING},
    JobState.CANCELLED: {},
}

CHUNK_TRANSITIONS: Final[dict[ChunkState, dict[ChunkTrigger, ChunkState]]] = {
    ChunkState.PLACED: {
        ChunkTrigger.SEND: ChunkState.SENT,
        ChunkTrigger.LEASE: ChunkState.LEASED,
        ChunkTrigger.CLOSE: ChunkState.CLOSED,
    },
    ChunkState.SENT: {
        ChunkTrigger.LEASE: ChunkState.LEASED,
        ChunkTrigger.CLOSE: ChunkState.CLOSED,
    },
    ChunkState.LEASED: {
        # The node may report before the broker's confirm has come in.
        ChunkTrigger.SEND: ChunkState.LEASED,
        ChunkTrigger.CLOSE: ChunkState.CLOSED,
    },
    ChunkState.CLOSED: {},
}

NODE_TRANSITIONS: Final[dict[NodeState, dict[NodeTrigger, NodeState]]] = {
    NodeState.EXPECTED: {
        NodeTrigger.HELLO: NodeState.ALIVE,
        NodeTrigger.BYE: NodeState.GONE,
        NodeTrigger.LOSE: NodeState.LOST,
    },
    NodeState.ALIVE: {
        NodeTrigger.HELLO: NodeState.ALIVE,
        NodeTrigger.BYE: NodeState.GONE,
        NodeTrigger.LOSE: NodeState.LOST,
    },
    NodeState.LOST: {NodeTrigger.HELLO: NodeState.ALIVE, NodeTrigger.BYE: NodeState.GONE},
    NodeState.GONE: {NodeTrigger.HELLO: NodeState.ALIVE, NodeTrigger.BYE: NodeState.GONE},
}


def next_job_state(state: JobState, trigger: JobTrigger) -> JobState:
    """Where a job goes; InvariantBroken where the table has no such pair."""
    try:
        return JOB_TRANSITIONS[state][trigger]
    except KeyError:
        raise InvariantBroken(f"a job that is {state} cannot {trigger}") from None


def next_chunk_state(state: ChunkState, trigger: ChunkTrigger) -> ChunkState:
    """Where a fence goes; InvariantBroken where the table has no such pair."""
    try:
        return CHUNK_TRANSITIONS[state][trigger]
    except KeyError:
        raise InvariantBroken(f"a chunk that is {state} cannot {trigger}") from None


def next_node_state(state: NodeState, trigger: NodeTrigger) -> NodeState:
    """Where a node goes; InvariantBroken where the table has no such pair."""
    try:
        return NODE_TRANSITIONS[state][trigger]
    except KeyError:
        raise InvariantBroken(f"a node that is {state} cannot {trigger}") from None
