"""Every message of the control channel and the chunk message, as frozen dataclasses; data only, changed by adding.

Each peer has two REQ sockets. `report` (nodes) or `request` (clients) is answered at once, after the commit it caused;
`poll` is answered when there is something to say. All messages may be sent again: they are idempotent by content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from windrow.common.codec import Between, Longest, MessageSet
from windrow.common.limits import JOB_ITEMS_MAX, NAME_CHARS_MAX, RESULT_BYTES_MAX, RUNS_MAX, TEXT_CHARS_MAX
from windrow.common.options import Options
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Range

Name = Annotated[str, Longest(NAME_CHARS_MAX)]
Text = Annotated[str, Longest(4 * TEXT_CHARS_MAX)]
Index = Annotated[int, Between(0, JOB_ITEMS_MAX)]
Count = Annotated[int, Between(0, JOB_ITEMS_MAX)]
Seconds = Annotated[float, Between(0, 1e10)]
Ranges = Annotated[tuple[Range, ...], Longest(RUNS_MAX)]
Fences = Annotated[tuple[Fence, ...], Longest(RUNS_MAX)]

# ── Answers that both sides may get ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was changed; `code` names the error class (common/errors.py), `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is durable; `note` is for people (a warning, or empty)."""

    epoch: int
    note: str = ""


# ── Node → scheduler ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task that a node offers."""

    name: Name
    version: Name = ""
    """Distribution version or file hash; nodes of one cluster should agree."""
    options: Options = Options()
    """As given to the decorator."""


@dataclass(frozen=True, slots=True)
class SourceError:
    """A --tasks source that failed to import; the node serves the rest."""

    source: Name
    error: Text


@dataclass(frozen=True, slots=True)
class NodeHello:
    """A node joins, joins again, or offers other tasks. The old boot's fences that `holds` does not name are freed."""

    node: NodeId
    boot: Name
    """Random for each start of the daemon."""
    name: Name
    host: Name
    pid: int
    slots: Annotated[int, Between(1, 4096)]
    queues: Annotated[tuple[Name, ...], Longest(256)]
    labels: dict[str, str] = field(default_factory=dict[str, str])
    tasks: Annotated[tuple[TaskInfo, ...], Longest(10_000)] = ()
    errors: Annotated[tuple[SourceError, ...], Longest(256)] = ()
    holds: Fences = ()
    version: Name = ""
    seq: Count = 0
    """From the same count as Report.seq: a copy that comes late says nothing about what the node holds now. 0: not
    counted, always taken."""


@dataclass(frozen=True, slots=True)
class NodeWelcome:
    """The answer to a hello."""

    epoch: int
    cluster: str
    heartbeat_s: float
    """Report at least this often."""
    lease_s: float
    """After so long without a report the node's fences are given to others."""
    dispatch: str
    """`amqp` or `local`."""
    queue: str
    """The node queue to consume from (amqp)."""
    key: bytes
    """Key of the chunk messages' signatures; see docs/protocol.md."""
    key_id: int
    drained: bool = False


@dataclass(frozen=True, slots=True)
class ValueRun:
    """Values of the items [start, stop), in a block of stop - start entries."""

    start: Index
    stop: Index
    block: bytes


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """One attempt at one item that failed."""

    item: Index
    kind: FailureKind
    type: Name
    """Name of the exception class with its module, or `WorkerCrashed`."""
    message: Text = ""
    traceback: Text = ""
    alone: bool = False
    """The item was the only one that its worker had been given."""
    bases: Annotated[tuple[Name, ...], Longest(64)] = ()
    """Names of the exception's base classes, for retry_on and never_retry_on."""
    after_s: Annotated[float | None, Between(0, 366 * 86400.0)] = None
    """The task raised Retry(after=…): when to try again."""
    log: Text = ""
    """Last lines that the worker wrote before it died."""
    memory_bytes_peak: Count = 0
    """Of the worker that died; 0: not known."""


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """What has come of one fence since the last answered report."""

    fence: Fence
    job: JobId
    values: Annotated[tuple[ValueRun, ...], Longest(RUNS_MAX)] = ()
    failures: Annotated[tuple[ItemFailure, ...], Longest(RUNS_MAX)] = ()
    released: Ranges = ()
    """Given back, not executed; after a crash also the innocent ones that were in the same worker."""
    busy_s: Seconds = 0.0
    """Time the values and failures took in the workers, imports not counted."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """One worker process."""

    pid: int
    state: Name
    """`starting`, `idle`, `busy` or `stopping`."""
    task: Name = ""
    memory_bytes: Count = 0


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """Load of the node's machine and slots."""

    cpu_percent: float = 0.0
    """Of all cores together, 0 to 100."""
    cores: int = 1
    memory_used_bytes: Count = 0
    memory_total_bytes: Count = 0
    load_1: float = 0.0
    load_5: float = 0.0
    load_15: float = 0.0
    slots: Annotated[tuple[SlotState, ...], Longest(4096)] = ()
    spool_bytes: Count = 0
    deliveries_refused: Count = 0
    """Foreign, forged or malformed messages met in the node queue since the start."""
    workers_lost: Count = 0
    """Worker processes that died without being asked to, since the start."""


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes, leases and load; at least once every heartbeat."""

    node: NodeId
    boot: Name
    seq: Count
    """Grows with each new report of this boot; a resent one keeps its number."""
    holds: Fences = ()
    """Every fence that the node has and has not had answered as done: desired state, not a change."""
    chunks: Annotated[tuple[ChunkReport, ...], Longest(RUNS_MAX)] = ()
    load: NodeLoad | None = None
    leaving: bool = False
    """The node is being stopped: place nothing more here."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Everything in the report is durable. Fences it named are leased to the node, but for the dead ones."""

    epoch: int
    dead: Fences = ()
    """Of `holds` and `chunks`: commit nothing more; drop what has not started, stop what has."""
    rejoin: bool = False
    """The scheduler does not know this boot: say hello again (outcomes in the report were taken all the same)."""


@dataclass(frozen=True, slots=True)
class NodeBye:
    """The node leaves; what it still holds goes back at once."""

    node: NodeId
    boot: Name


@dataclass(frozen=True, slots=True)
class NodePoll:
    """Parked until there are directives, chunks (`local:`), or PARKED_SECONDS_MAX have passed."""

    node: NodeId
    boot: Name
    holds: Fences = ()
    """As in Report; chunks among them are not sent again."""
    draining: bool = False
    """What the node has reached, so that a directive is repeated only until then."""


@dataclass(frozen=True, slots=True)
class Directives:
    """Desired state, repeated until it is reported as reached."""

    epoch: int
    drain: bool = False
    """True: finish current items, give back the rest, take nothing. False: work."""
    give_up: Fences = ()
    """Give back what has not started of these fences, also of those that have not arrived yet."""
    dead: Fences = ()
    """As in Reported."""
    chunks: tuple[bytes, ...] = ()
    """Encoded chunk messages (`local:` only)."""
    placed: Count = 0
    """How many chunks are placed at this node and not yet held; for the consumption watchdog."""
    rejoin: bool = False


# ── Client → scheduler ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class NumberItems:
    """Items that are the numbers of a Python range: they travel as three numbers."""

    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class StartJob:
    """Open a job under an id that the client has drawn; the same message again finds the job there."""

    job: JobId
    task: Name
    name: Name = ""
    options: Options = Options()
    """Task and call options as the client knows them; what nodes say of the task is laid under them."""
    stream: bool = False
    """Single calls go here: not listed as a job of its own, results kept for the calls' futures."""
    key: Name | None = None
    numbers: NumberItems | None = None
    """Given: the job is complete with these. Not given: items come by Append, the end by CloseJob."""
    after: Annotated[tuple[JobId, ...], Longest(256)] = ()
    """Nothing is placed before all of these are done; if one fails or is cancelled, so is this job."""


@dataclass(frozen=True, slots=True)
class Started:
    """The job is durable."""

    epoch: int
    job: JobId
    """Another id than asked for where a job with this key existed."""
    existing: bool
    total: Count
    note: str = ""


@dataclass(frozen=True, slots=True)
class Append:
    """Items [first, first + count). first = total appends; wholly below it is taken as already there if equal."""

    job: JobId
    first: Index
    count: Annotated[int, Between(1, JOB_ITEMS_MAX)]
    block: bytes
    delay_s: Annotated[float, Between(0, 366 * 86400.0)] = 0.0


@dataclass(frozen=True, slots=True)
class Appended:
    """The items are durable; the job has `total` now."""

    epoch: int
    total: Count


@dataclass(frozen=True, slots=True)
class CloseJob:
    """The job has `total` items and gets no more."""

    job: JobId
    total: Count


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as users see it; the counts add up to `total`."""

    id: JobId
    name: str
    task: str
    state: JobState
    open: bool
    total: Count
    done: Count
    failed: Count
    cancelled: Count
    running: Count
    pending: Count
    queue: str = "default"
    priority: int = 0
    stream: bool = False
    reason: str = ""
    created_s: float = 0.0
    finished_s: float | None = None
    retried: Count = 0
    """Attempts beyond the first so far."""
    after: tuple[JobId, ...] = ()
    generation: int = 0


@dataclass(frozen=True, slots=True)
class FindJob:
    """A job by id, by unique prefix, or `last`."""

    job: Name


@dataclass(frozen=True, slots=True)
class ListJobs:
    """Jobs, newest first, one page."""

    limit: Annotated[int, Between(1, 1000)] = 100
    before: Name = ""
    """The last id of the page before."""
    streams: bool = False
    state: Name = ""


@dataclass(frozen=True, slots=True)
class Jobs:
    """One page of jobs."""

    epoch: int
    jobs: tuple[JobInfo, ...]


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """A quarantined item, or one attempt of its history."""

    item: Index
    kind: FailureKind
    type: str
    message: str
    traceback: str
    node: str
    attempts: Count
    failed_s: float = 0.0
    log: str = ""
    """Last lines that the worker wrote before it died."""
    memory_bytes_peak: Count = 0


@dataclass(frozen=True, slots=True)
class ReadResults:
    """Committed outcomes in item order, from `start` up to the first index that has none."""

    job: JobId
    start: Index = 0
    limit: Annotated[int, Between(1, JOB_ITEMS_MAX)] = JOB_ITEMS_MAX
    """How many items are of interest; the answer may hold more."""


@dataclass(frozen=True, slots=True)
class ReadFailures:
    """Quarantined items in item order, one page."""

    job: JobId
    start: Index = 0
    limit: Annotated[int, Between(1, 1000)] = 200


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Runs and failures together tile what they cover; `next` is where to go on reading."""

    epoch: int
    job: JobInfo
    values: tuple[ValueRun, ...]
    failures: tuple[FailureInfo, ...]
    next: Index
    sequence: int = -1
    """Sequence of the job's last committed outcome: with it as Watch.after one is told of later ones only."""


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Cancel what is not finished."""

    job: JobId
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class PauseJob:
    """Place nothing more of a job, and take back what has not started; `resume` undoes it."""

    job: JobId
    resume: bool = False


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """Why a job, or one item of it, is not done."""

    job: JobId
    item: Annotated[int | None, Between(0, JOB_ITEMS_MAX)] = None


@dataclass(frozen=True, slots=True)
class Explained:
    """The reasons, the weightiest first, a line each; `left_s`: an estimate of the time left, None where unknown."""

    epoch: int
    job: JobInfo
    reasons: tuple[str, ...]
    left_s: float | None


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """The attempts at one item that failed: the first few and the last few."""

    job: JobId
    item: Index


@dataclass(frozen=True, slots=True)
class RetryJob:
    """Put quarantined items back (all, or the named ranges): a new generation."""

    job: JobId
    items: Ranges = ()


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as users see it; it stays listed after it has gone."""

    id: NodeId
    name: str
    host: str
    state: str
    """`alive`, `draining`, `lost` or `gone`."""
    slots: int
    queues: tuple[str, ...]
    labels: dict[str, str]
    tasks: tuple[TaskInfo, ...]
    errors: tuple[SourceError, ...]
    chunks: int
    """Live fences."""
    load: NodeLoad | None
    heard_s_ago: float
    version: str = ""


@dataclass(frozen=True, slots=True)
class ListNodes:
    """Every node known."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Every node known."""

    epoch: int
    nodes: tuple[NodeInfo, ...]


@dataclass(frozen=True, slots=True)
class DrainNode:
    """Let a node finish its current items and give back the rest; `resume` undoes it."""

    node: Name
    """Name, id or unique prefix of the id."""
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """Ask how the scheduler is."""


@dataclass(frozen=True, slots=True)
class HealthInfo:
    """How the scheduler is; `broker` and `store` are ok, bad or unknown, with what is the matter."""

    epoch: int
    cluster: str
    version: str
    dispatch: str
    broker: str
    broker_detail: str
    store: str
    store_detail: str
    uptime_s: float
    jobs: int
    """Jobs that are not finished."""
    chunks: int
    messages_refused: int


@dataclass(frozen=True, slots=True)
class Watch:
    """One job to be told about."""

    job: JobId
    after: int = -1
    """Sequence of the last outcome seen; -1 for none. Only with `outcomes`."""
    outcomes: bool = True
    """False: tell only when the job has ended."""


@dataclass(frozen=True, slots=True)
class ClientPoll:
    """Parked until one of the watched jobs has news. A newer poll of the same client replaces an older one."""

    client: Name
    watches: Annotated[tuple[Watch, ...], Longest(RUNS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What is new in one job, in order of commit."""

    job: JobId
    next: int
    """To be sent as `after` in the next poll."""
    state: JobState
    values: tuple[ValueRun, ...] = ()
    failures: tuple[FailureInfo, ...] = ()
    more: bool = False
    """There is more to read at once; `state` may be terminal already."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Polled:
    """The answer to a client's poll; empty when nothing has happened."""

    epoch: int
    news: tuple[News, ...] = ()
    unknown: tuple[JobId, ...] = ()
    """Watched jobs that do not exist (any more)."""


# ── Chunk message: scheduler → node, by RabbitMQ or inside Directives ────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class InputSlice:
    """Items [start, stop), in a block of stop - start entries."""

    start: Index
    stop: Index
    block: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range handed to one node under a fence, with its items."""

    cluster: str
    node: NodeId
    fence: Fence
    job: JobId
    task: Name
    start: Index
    stop: Index
    numbers: NumberItems | None = None
    """Item i is numbers.start + i * numbers.step; else `inputs` tile [start, stop)."""
    inputs: tuple[InputSlice, ...] = ()
    attempts: tuple[tuple[int, ...], ...] = ()
    """[start, stop, attempts so far] where items have failed before; elsewhere none."""
    alone: bool = False
    """One suspect item: run it in a fresh worker with nothing else."""
    lease_first: bool = False
    """Start nothing of it before a report that holds the fence was answered."""
    timeout_s: float | None = None
    """Per item: kill the worker that runs longer."""
    soft_timeout_s: float | None = None
    """Per item: raise SoftTimeout inside the task."""
    result_bytes_max: int = RESULT_BYTES_MAX


REQUESTS = MessageSet[object](
    NodeHello, Report, NodeBye, NodePoll,
    StartJob, Append, CloseJob, FindJob, ListJobs, ReadResults, ReadFailures, CancelJob, RetryJob,
    PauseJob, ExplainJob, ReadHistory, ListNodes, DrainNode, Health, ClientPoll,
)  # fmt: skip
ANSWERS = MessageSet[object](
    Refused, Accepted, NodeWelcome, Reported, Directives,
    Started, Appended, JobInfo, Jobs, Outcomes, Nodes, HealthInfo, Polled, Explained,
)  # fmt: skip
CHUNKS = MessageSet[Chunk](Chunk)
