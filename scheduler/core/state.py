"""What the scheduler knows: jobs with their sets, live chunks, nodes; and the few ways in which their parts move.

Every index of a job is in exactly one place: pending, delayed, the remains of one live chunk, done, quarantined or
cancelled. The helpers here keep both sides of each such pair in step; handlers use nothing else to move an index.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from windrow.common.messages import NodeLoad, NumberItems, SourceError, TaskInfo
from windrow.common.options import JobOptions
from windrow.common.ranges import RangeSet
from windrow.common.words import TERMINAL_STATES, Fence, JobId, JobState, NodeId
from windrow.scheduler.core.commands import Command, Settle
from windrow.scheduler.core.inputs import InputIndex
from windrow.scheduler.core.machines import (
    ChunkState,
    ChunkTrigger,
    JobTrigger,
    NodeState,
    next_chunk_state,
    next_job_state,
)
from windrow.scheduler.core.records import DropChunk, SetJob
from windrow.scheduler.core.tally import Tally


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Numbers that the core decides by."""

    dispatch: str = "local"
    heartbeat_s: float = 1.0
    lease_s: float = 6.0
    chunk_target_s: float = 1.0
    """Work in one chunk, once an item's time is known."""
    chunk_floor_s: float = 0.010
    """Tapering goes no lower: below it the cost of a chunk would show."""
    ahead_s: float = 0.5
    """Work a node is given ahead of each slot, where that is more than one chunk."""
    lost_after_s: float = 3.0
    """A sent chunk that is in no queue and at no node for so long is lost."""
    results_kept_s: float | None = None
    """Jobs that were done or cancelled are kept for so long after their end; None: for ever."""
    failures_kept_s: float | None = None
    """The same of jobs that failed."""
    nodes_kept_s: float | None = None
    """A node that was lost or has left is forgotten so long after it was heard last; None: never."""


ITEM_TIME_WINDOW_S = 1.0
DUE_STALE_MAX = 1_000
"""Buckets that are gone and still in the heap, where those that are there are not more."""


@dataclass(slots=True)
class ItemTime:
    """How long an item takes, as measured."""

    item_s: float = 0.0
    measured: int = 0
    """Items measured so far; 0: nothing is known."""

    window_busy_s: float = 0.0
    window_items: float = 0.0
    """Both over the last ITEM_TIME_WINDOW_S of work, what is older fading out."""

    def observe(self, items: int, busy_s: float) -> None:
        # Faded by work done and not by report: a flood of items that fail at once must not outweigh long ones.
        keep = math.exp(-busy_s / ITEM_TIME_WINDOW_S)
        self.window_busy_s = self.window_busy_s * keep + busy_s
        self.window_items = self.window_items * keep + items
        self.item_s = self.window_busy_s / self.window_items
        self.measured += items


@dataclass(slots=True)
class Job:
    """One job; its sets tile [0, total)."""

    no: int
    id: JobId
    task: str
    name: str
    options: JobOptions
    stream: bool
    key: str | None
    after: tuple[JobId, ...]
    numbers: NumberItems | None
    total: int
    open: bool
    state: JobState
    created_wall: float
    appended_at: float
    """When items came last (monotonic), in this reign."""
    generation: int = 0
    reason: str = ""
    retried: int = 0
    finished_wall: float | None = None
    pending: RangeSet = field(default_factory=RangeSet)
    delayed: dict[float, RangeSet] = field(default_factory=dict[float, RangeSet])
    """Due (monotonic seconds) → indexes."""
    done: RangeSet = field(default_factory=RangeSet)
    quarantined: RangeSet = field(default_factory=RangeSet)
    cancelled: RangeSet = field(default_factory=RangeSet)
    attempts: dict[int, RangeSet] = field(default_factory=dict[int, RangeSet])
    """Attempts used (from 1) → indexes that are not terminal."""
    suspects: RangeSet = field(default_factory=RangeSet)
    """Were executing when their worker crashed: run alone."""
    chunks: dict[Fence, Chunk] = field(default_factory=dict[Fence, "Chunk"])
    inputs: InputIndex = field(default_factory=InputIndex)
    waits_for: set[JobId] = field(default_factory=set[JobId])
    time: ItemTime = field(default_factory=ItemTime)
    losses: dict[int, RangeSet] = field(default_factory=dict[int, RangeSet])
    """Nodes lost while they had them (from 1) → indexes that are not terminal."""
    unfit: dict[NodeId, str] = field(default_factory=dict[NodeId, str])
    """Nodes that are left out, and why: the task has said so there."""

    @property
    def winding_down(self) -> bool:
        """Nothing is placed or committed any more; live fences are awaited."""
        return self.state in (JobState.CANCELLING, JobState.STOPPING)

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def placeable(self) -> bool:
        return bool(self.pending) and not self.waits_for and self.state in (JobState.PENDING, JobState.RUNNING)

    @property
    def boundary_count(self) -> int:
        sets = (self.pending, self.done, self.quarantined, self.cancelled, self.suspects)
        return sum(each.boundary_count for each in (*sets, *self.attempts.values(), *self.losses.values()))

    def attempts_of(self, item: int) -> int:
        return next((number for number, items in self.attempts.items() if item in items), 0)

    def losses_of(self, item: int) -> int:
        return next((number for number, items in self.losses.items() if item in items), 0)

    def forget_attempts(self, start: int, stop: int) -> None:
        """The indexes have another number of attempts from now on, or are terminal; suspicion is history."""
        _remove_everywhere(self.attempts, start, stop)
        if self.suspects:
            self.suspects.remove(start, stop)

    def forget_losses(self, start: int, stop: int) -> None:
        """The indexes are terminal."""
        _remove_everywhere(self.losses, start, stop)


def _remove_everywhere(numbered: dict[int, RangeSet], start: int, stop: int) -> None:
    for number in list(numbered):
        numbered[number].remove(start, stop)
        if not numbered[number]:
            del numbered[number]


@dataclass(slots=True)
class Chunk:
    """One live fence."""

    fence: Fence
    job: JobId
    node: NodeId
    start: int
    stop: int
    remaining: RangeSet
    """What is neither reported nor given back."""
    state: ChunkState
    placed_at: float
    """Monotonic; for the reconciler, and for the chunk's duration."""
    work_s: float
    """Estimated, for the node's credit."""
    losses: int = 0
    """Of its range, when it was placed."""
    wanted_back: bool = False
    """The node is asked to give back what has not started."""
    twin: Fence | None = None
    """The other live fence over the same single item; both share one `remaining`."""
    had_twin: bool = False
    """A fence gets one twin in its life: two that fail by turns would hand the item to and fro for ever."""

    @property
    def counts(self) -> bool:
        """False for the younger of two twins: an item is counted once."""
        return self.twin is None or self.fence < self.twin


@dataclass(slots=True)
class Node:
    """One node."""

    id: NodeId
    name: str
    host: str
    state: NodeState
    heard_at: float
    """Monotonic."""
    seen_wall: float
    """The same (wall), to the hour, as the store has it too."""
    boot: str = ""
    slots: int = 0
    queues: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict[str, str])
    tasks: dict[str, TaskInfo] = field(default_factory=dict[str, TaskInfo])
    errors: tuple[SourceError, ...] = ()
    version: str = ""
    drained: bool = False
    """Asked for by an administrator; durable."""
    leaving: bool = False
    """The node's own word."""
    seq: int = -1
    """Of the last hello or report that counted."""
    former_boots: dict[str, int] = field(default_factory=dict[str, int])
    """The last few that were succeeded by others, with the last seq of each."""
    holds: frozenset[Fence] = frozenset()
    chunks: dict[Fence, Chunk] = field(default_factory=dict[Fence, Chunk])
    work_s: float = 0.0
    load: NodeLoad | None = None
    unsent_until: float = 0.0
    """The broker has just refused a chunk for this node: nothing is placed there before (monotonic)."""
    queue_empty_since: float | None = None
    """Since when every look at the node queue found it empty (monotonic)."""
    queue_empty_at: float = 0.0
    """The last of these looks."""

    @property
    def placeable(self) -> bool:
        return self.state is NodeState.ALIVE and not self.drained and not self.leaving

    def takes_now(self, mono: float) -> bool:
        """Placeable, and not in the pause after a chunk that the broker refused."""
        return self.placeable and self.unsent_until <= mono


@dataclass(slots=True)
class State:
    """Everything the core knows."""

    settings: CoreSettings
    epoch: int
    cluster: str
    secret: bytes
    last_job_no: int
    counter: int = 0
    jobs: dict[JobId, Job] = field(default_factory=dict[JobId, Job])
    job_by_no: dict[int, JobId] = field(default_factory=dict[int, JobId])
    keys: dict[str, JobId] = field(default_factory=dict[str, JobId])
    chunks: dict[Fence, Chunk] = field(default_factory=dict[Fence, Chunk])
    nodes: dict[NodeId, Node] = field(default_factory=dict[NodeId, Node])
    times: dict[str, ItemTime] = field(default_factory=dict[str, ItemTime])
    """Task → how long its items take in any job; a first guess for new jobs."""
    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    ready: dict[JobId, None] = field(default_factory=dict[JobId, None])
    """Jobs that have something to place, in order of becoming so."""
    due: list[tuple[float, JobId]] = field(default_factory=list[tuple[float, JobId]])
    """Heap of the delayed buckets; some have gone since (`due_stale`)."""
    due_stale: int = 0
    dependents: dict[JobId, list[JobId]] = field(default_factory=dict[JobId, list[JobId]])
    ends_known: dict[JobId, JobState | None] = field(default_factory=dict[JobId, JobState | None])
    """How jobs outside the core ended, as the rim looked up for the next StartJob."""
    leaving_jobs: list[JobId] = field(default_factory=list[JobId])
    """Terminal jobs that leave the core at the next tick."""
    broker_up: bool = False
    broker_detail: str = "not connected yet"
    plan_wanted: bool = False
    plan_at: float | None = None
    """When a node may be given chunks again (monotonic)."""
    expiry_at: float = 0.0
    """When leases are looked at next (monotonic)."""
    releases_at: float = 0.0
    """When idle slots are looked at next (monotonic)."""

    def tally(self, task: str) -> Tally:
        found = self.tallies.get(task)
        if found is None:
            found = self.tallies[task] = Tally()
        return found


Out = list[Command]


def job_record(job: Job) -> SetJob:
    """The changing part of a job, to be committed."""
    return SetJob(
        no=job.no,
        state=job.state,
        total=job.total,
        open=job.open,
        generation=job.generation,
        reason=job.reason,
        done=len(job.done),
        failed=len(job.quarantined),
        cancelled=len(job.cancelled),
        retried=job.retried,
        finished_wall=job.finished_wall,
    )


def move_job(job: Job, trigger: JobTrigger) -> None:
    job.state = next_job_state(job.state, trigger)


def note_ready(state: State, job: Job) -> None:
    """Keep `ready` in step with the job, and ask for a plan where there is something to place."""
    if job.placeable:
        state.ready[job.id] = None
        state.plan_wanted = True
    else:
        state.ready.pop(job.id, None)


def return_to_pending(state: State, job: Job, ranges: Iterable[tuple[int, int]]) -> None:
    """Ranges that left a fence without an outcome; of a job that winds down they are cancelled."""
    if job.winding_down:
        job.cancelled.update(ranges)
    else:
        job.pending.update(ranges)
        note_ready(state, job)


DELAY_QUANTUM_S = 0.25


def due_at(now_mono: float, delay_s: float) -> float:
    """When a delayed item is due: rounded up to max(250 ms, delay / 16), so that neighbours share a bucket."""
    quantum = max(DELAY_QUANTUM_S, delay_s / 16)
    return math.ceil((now_mono + delay_s) / quantum) * quantum


def delay(state: State, job: Job, start: int, stop: int, due: float) -> None:
    bucket = job.delayed.get(due)
    if bucket is None:
        bucket = job.delayed[due] = RangeSet()
        heapq.heappush(state.due, (due, job.id))
    bucket.add(start, stop)


def forget_delayed(state: State, job: Job) -> None:
    """Nothing of the job is delayed any more; its items are elsewhere already."""
    state.due_stale += len(job.delayed)
    job.delayed.clear()
    if state.due_stale > max(DUE_STALE_MAX, len(state.due) // 2):
        # Else what was cancelled a month ahead would be kept for a month.
        state.due = [(due, id_) for due, id_ in state.due if id_ in state.jobs and due in state.jobs[id_].delayed]
        heapq.heapify(state.due)
        state.due_stale = 0


def add_chunk(state: State, job: Job, chunk: Chunk) -> None:
    state.chunks[chunk.fence] = chunk
    job.chunks[chunk.fence] = chunk
    node = state.nodes[chunk.node]
    node.chunks[chunk.fence] = chunk
    node.work_s += chunk.work_s


def close_chunk(state: State, chunk: Chunk, out: Out) -> None:
    """The fence is dead; its remains must have been moved elsewhere before."""
    chunk.state = next_chunk_state(chunk.state, ChunkTrigger.CLOSE)
    del state.chunks[chunk.fence]
    job = state.jobs[chunk.job]
    del job.chunks[chunk.fence]
    node = state.nodes[chunk.node]
    del node.chunks[chunk.fence]
    node.work_s = max(0.0, node.work_s - chunk.work_s) if node.chunks else 0.0
    state.plan_wanted = bool(state.ready)
    out.append(DropChunk(chunk.fence))
    out.append(Settle(chunk.fence, chunk.node))


def give_back_chunk(state: State, chunk: Chunk, out: Out) -> None:
    """The node does not have the chunk (any more): what remains goes back, under no one's blame."""
    job = state.jobs[chunk.job]
    state.tally(job.task).chunks_lost += 1
    if chunk.twin is not None:
        state.chunks[chunk.twin].twin = None  # Which goes on, and has the item to itself.
    else:
        return_to_pending(state, job, chunk.remaining)
    close_chunk(state, chunk, out)
