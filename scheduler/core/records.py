"""The durable facts: what the core asks the store to write, and what the store gives back at the start.

Records are applied in the order given, all of a batch in one transaction. Everything else (pending, live, delayed …) is
rebuilt from these.
"""

from __future__ import annotations

from dataclasses import dataclass

from windrow.common.messages import NumberItems
from windrow.common.options import JobOptions
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Range

# ── What the core asks to be written ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PutJob:
    """A new job. `no` is its number in this store: 1, 2, 3 …; `id` is what the world calls it."""

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


@dataclass(frozen=True, slots=True)
class SetJob:
    """The changing part of a job, whole. Counts are exact when the job is terminal, else as of this change."""

    no: int
    state: JobState
    total: int
    open: bool
    generation: int
    reason: str
    done: int
    failed: int
    cancelled: int
    retried: int
    finished_wall: float | None


@dataclass(frozen=True, slots=True)
class PutInput:
    """Items [base, base + count) of a job. `due_wall`: not to be started earlier."""

    no: int
    base: int
    count: int
    block: bytes
    digest: bytes
    due_wall: float | None
    wait_s: float | None = None
    """How long it was until then when this was written: no restart makes it longer, whatever the wall clock says."""


@dataclass(frozen=True, slots=True)
class PutChunk:
    """A range handed out under a new fence: placed, not yet leased."""

    fence: Fence
    no: int
    start: int
    stop: int
    node: NodeId


@dataclass(frozen=True, slots=True)
class LeaseChunk:
    """The node has the chunk."""

    fence: Fence


@dataclass(frozen=True, slots=True)
class ShortenChunk:
    """Ranges were taken out of a live fence without an outcome; `bounds` is what it still covers (RangeSet.bounds)."""

    fence: Fence
    bounds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DropChunk:
    """The fence is dead."""

    fence: Fence


@dataclass(frozen=True, slots=True)
class PutValues:
    """A block of values for [base, base + count), of which only `slices` count (never empty, disjoint, in order)."""

    no: int
    base: int
    count: int
    block: bytes
    slices: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class PutFailure:
    """One failed attempt at an item. `final`: the item is quarantined, and this is its outcome."""

    no: int
    item: int
    attempt: int
    """1 for the first."""
    kind: FailureKind
    type: str
    message: str
    traceback: str
    node: str
    """The node's name."""
    failed_wall: float
    final: bool
    log: str
    memory_bytes_peak: int


@dataclass(frozen=True, slots=True)
class PutAttempt:
    """How many attempts an item has used, and when it may run again; replaces what was there for the item."""

    no: int
    item: int
    attempts: int
    due_wall: float
    suspect: bool
    """It was executing when a worker crashed: run it alone."""
    wait_s: float | None = None
    """See PutInput."""


@dataclass(frozen=True, slots=True)
class PutLosses:
    """So many nodes were lost while they had [start, stop); replaces nothing, the highest number of an item counts."""

    no: int
    start: int
    stop: int
    losses: int


@dataclass(frozen=True, slots=True)
class ReopenItems:
    """Quarantined items go back to pending: outcomes, attempts and losses are dropped, failures kept as history."""

    no: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class DropAttempts:
    """The job is terminal: its attempts and losses are of no further use."""

    no: int


@dataclass(frozen=True, slots=True)
class RemoveJob:
    """An ended job is found by nobody any more. Its outcomes, items and failures go by SweepRemoved, bit by bit."""

    no: int
    id: JobId


@dataclass(frozen=True, slots=True)
class SweepRemoved:
    """Delete so many rows at most of what removed jobs have left."""

    rows_max: int


@dataclass(frozen=True, slots=True)
class PutNode:
    """A node, known from now on; replaces what was there for the id."""

    id: NodeId
    name: str
    host: str
    drained: bool
    gone: bool
    seen_wall: float


@dataclass(frozen=True, slots=True)
class DropNode:
    """The node is not known any more."""

    id: NodeId


Record = (
    PutJob
    | SetJob
    | PutInput
    | PutChunk
    | LeaseChunk
    | ShortenChunk
    | DropChunk
    | PutValues
    | PutFailure
    | PutAttempt
    | PutLosses
    | ReopenItems
    | DropAttempts
    | RemoveJob
    | SweepRemoved
    | PutNode
    | DropNode
)

# ── What the store gives back ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StoredInput:
    """One input block without its bytes."""

    base: int
    count: int
    block_bytes: int
    digest: bytes
    due_wall: float | None
    wait_s: float | None = None
    """None where an older Windrow wrote it, too."""


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """See PutAttempt."""

    item: int
    attempts: int
    due_wall: float
    suspect: bool
    wait_s: float | None = None
    """None where an older Windrow wrote it."""


@dataclass(frozen=True, slots=True)
class StoredLosses:
    """See PutLosses."""

    start: int
    stop: int
    losses: int


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job with all that its sets are rebuilt from."""

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
    generation: int
    reason: str
    retried: int
    created_wall: float
    finished_wall: float | None
    done: tuple[int, ...]
    """Boundaries of the items that have a value."""
    quarantined: tuple[int, ...]
    """Boundaries of the items whose outcome is a failure."""
    inputs: tuple[StoredInput, ...]
    attempts: tuple[StoredAttempt, ...]
    losses: tuple[StoredLosses, ...] = ()


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A terminal job, as far as it matters to whether it is still kept."""

    no: int
    id: JobId
    state: JobState
    finished_wall: float


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A live fence. `bounds` still holds what has an outcome; the core takes that away."""

    fence: Fence
    no: int
    bounds: tuple[int, ...]
    node: NodeId
    leased: bool


@dataclass(frozen=True, slots=True)
class StoredNode:
    """See PutNode."""

    id: NodeId
    name: str
    host: str
    drained: bool
    gone: bool
    seen_wall: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the core needs to go on: jobs that are not terminal, live chunks, known nodes."""

    epoch: int
    cluster: str
    secret: bytes
    last_job_no: int
    jobs: tuple[StoredJob, ...]
    chunks: tuple[StoredChunk, ...]
    nodes: tuple[StoredNode, ...]
