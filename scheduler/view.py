"""What the scheduler shows of itself at one moment, as values: the metrics and pages are made from these alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from windrow.common.messages import NodeInfo
from windrow.scheduler.core.tally import CHUNK_SECONDS_BOUNDS, Tally

DEPTH_STATES: Final = ("pending", "delayed", "placed", "leased")
"""Where an item that is not finished can be."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many observations fell into each bucket (not cumulative); the last count is of those above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Depth:
    """Items of one queue in one of DEPTH_STATES."""

    queue: str
    state: str
    items: int


@dataclass(frozen=True, slots=True)
class TaskTally:
    """What became of one task's items and chunks since this scheduler started."""

    task: str
    items_done: int
    items_failed: int
    items_retried: int
    chunks_done: int
    chunks_lost: int
    busy_s: float
    chunk_s: Histogram
    """From placing a chunk to its end."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Everything shown, taken at one moment of the scheduler's loop; safe to hand to another thread."""

    epoch: int
    cluster: str
    version: str
    uptime_s: float
    dispatch: str
    """`amqp` or `local`."""
    broker_up: bool
    """On `local:` always true."""
    broker_detail: str
    store_ok: bool
    store_detail: str
    jobs: dict[str, int]
    """Jobs that are not finished, by state."""
    depth: tuple[Depth, ...]
    tasks: tuple[TaskTally, ...]
    """In the order in which the tasks were first met, so that each keeps its label."""
    nodes: tuple[NodeInfo, ...]
    commits: int
    commit_s_sum: float
    commit_failures: int
    records: int
    messages: int
    messages_refused: int
    turns: int
    turn_s_sum: float
    store_bytes: int


def view_tally(task: str, tally: Tally) -> TaskTally:
    """The core's running counts of one task, as they are now."""
    return TaskTally(
        task=task,
        items_done=tally.items_done,
        items_failed=tally.items_failed,
        items_retried=tally.items_retried,
        chunks_done=tally.chunks_done,
        chunks_lost=tally.chunks_lost,
        busy_s=tally.busy_s,
        chunk_s=Histogram(CHUNK_SECONDS_BOUNDS, tuple(tally.buckets), tally.chunk_s_sum),
    )


def add_tallies(task: str, one: TaskTally, other: TaskTally) -> TaskTally:
    """The counts of two tasks under one name."""
    counts = tuple(a + b for a, b in zip(one.chunk_s.counts, other.chunk_s.counts, strict=True))
    return TaskTally(
        task=task,
        items_done=one.items_done + other.items_done,
        items_failed=one.items_failed + other.items_failed,
        items_retried=one.items_retried + other.items_retried,
        chunks_done=one.chunks_done + other.chunks_done,
        chunks_lost=one.chunks_lost + other.chunks_lost,
        busy_s=one.busy_s + other.busy_s,
        chunk_s=Histogram(one.chunk_s.bounds, counts, one.chunk_s.sum + other.chunk_s.sum),
    )
