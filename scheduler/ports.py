"""The ports of the scheduler's rim: what `service` asks of a store and of a way of dispatch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from windrow.common.messages import FailureInfo, InputSlice, JobInfo, ValueRun
from windrow.common.words import Fence, JobId, JobState, NodeId
from windrow.scheduler.core.events import BrokerChanged, QueueSeen, Sent, Unsent
from windrow.scheduler.core.records import EndedJob, Record, Snapshot, StoredJob


@dataclass(frozen=True, slots=True)
class Page:
    """Outcomes as read; `next` says where to go on, `more` whether there was more than fitted."""

    values: tuple[ValueRun, ...]
    failures: tuple[FailureInfo, ...]
    next: int
    more: bool


class Store(Protocol):
    """The durable truth. All calls block; one thread uses it. Errors are StoreErrors."""

    def load(self) -> Snapshot:
        """Everything that is not terminal, read in one transaction."""
        ...

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, durable on return. StoreFailed: nothing was written. EpochLost: another one reigns."""
        ...

    def check_reign(self) -> None:
        """EpochLost where another scheduler has taken the store over: one that writes nothing would never notice."""
        ...

    def find_job(self, job: JobId) -> StoredJob | None:
        """The job with all that its sets are rebuilt from, terminal or not."""
        ...

    def find_job_by_key(self, key: str) -> JobId | None: ...

    def find_job_ids(self, prefix: str, limit: int) -> list[JobId]:
        """Ids that begin with `prefix`, streams too; `last` is handled by the caller with list_jobs."""
        ...

    def find_ended(self, before: Mapping[JobState, float], limit: int) -> tuple[EndedJob, ...]:
        """Jobs that ended in one of these states before its instant (wall): those that ended first, `limit` of each."""
        ...

    def has_leftovers(self) -> bool:
        """Whether removed jobs have left rows that are to be deleted."""
        ...

    def find_info(self, job: JobId) -> JobInfo | None:
        """The job as users see it; for a job that is not terminal its counts may be behind the core's."""
        ...

    def list_jobs(self, *, limit: int, before: str, streams: bool, state: str) -> list[JobInfo]:
        """Newest first; `before`: id of the last job of the page before, or empty; `state` filters unless empty."""
        ...

    def read_inputs(self, job: JobId, start: int, stop: int) -> tuple[InputSlice, ...]:
        """Slices that tile [start, stop) exactly; StoreDamaged where they do not."""
        ...

    def read_results(self, job: JobId, start: int, stop: int, bytes_max: int) -> Page:
        """Outcomes of [start, stop) in item order up to the first gap or the limit; `next`: first index not covered."""
        ...

    def read_news(self, job: JobId, after: int, bytes_max: int) -> Page:
        """Outcomes committed after sequence `after`, in order of commit; `next` is the sequence of the last one."""
        ...

    def last_sequence(self, job: JobId) -> int:
        """Sequence of the job's newest outcome; -1 where there is none."""
        ...

    def read_failures(self, job: JobId, start: int, limit: int) -> Page:
        """Quarantined items from `start` on, in item order."""
        ...

    def read_history(self, job: JobId, item: int) -> Page:
        """Failed attempts at one item, the first few and the last few, in order."""
        ...

    def check(self) -> str:
        """Empty when the store is well, else what is the matter, for doctor and /readyz."""
        ...

    def close(self) -> None:
        """Give the store up; the next scheduler may take it."""
        ...


DispatchEvent = Sent | Unsent | BrokerChanged | QueueSeen


@dataclass(frozen=True, slots=True)
class ChunkMessage:
    """An encoded Chunk on its way to a node, with what its AMQP headers say."""

    fence: Fence
    node: NodeId
    job: JobId
    task: str
    body: bytes
    signature: str
    key_id: int


class Dispatch(Protocol):
    """One way of handing chunks to nodes. Calls never block; what comes of them is told through `on_event`."""

    kind: str
    """`amqp` or `local`, as NodeWelcome says."""

    async def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        """Begin; returns at once. An unreachable broker is a BrokerChanged event and tried again with back-off."""
        ...

    async def stop(self) -> None:
        """Close in order; messages not confirmed by then are told as Unsent."""
        ...

    def dispatch(self, message: ChunkMessage) -> None:
        """Send the chunk. Exactly one Sent or Unsent follows."""
        ...

    def flush(self) -> None:
        """No more chunks come for now: those of this turn need not wait for others."""
        ...

    def open_node(self, node: NodeId) -> None:
        """Declare the node queue; again after each reconnect."""
        ...

    def close_node(self, node: NodeId) -> None:
        """Delete the node queue with all that is in it; a later open_node declares it again."""
        ...

    def empty_node(self, node: NodeId) -> None:
        """Drop everything that is on the way to the node."""
        ...

    def settle(self, fence: Fence, node: NodeId) -> None:
        """The fence is leased or dead: `local:` need not offer it any more."""
        ...

    def settle_others(self, live: Collection[Fence]) -> None:
        """The state was loaded anew: whatever is not among these is leased or dead."""
        ...

    def offered(self, node: NodeId, holds: frozenset[Fence]) -> list[bytes]:
        """Encoded chunks for the answer of the node's poll (`local:`), but for those it holds; `amqp:` has none."""
        ...

    def watch_queues(self, nodes: Sequence[NodeId]) -> None:
        """Look at these node queues; a QueueSeen follows for each that could be looked at."""
        ...

    def queue_name(self, node: NodeId) -> str:
        """Where the node consumes from; empty on `local:`."""
        ...
