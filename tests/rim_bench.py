"""Stand-ins for the scheduler's rim: a store that can fail, a way of dispatch and a socket that note what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from tests.simulation.model_store import ModelStore
from windrow.common.blocks import slice_block
from windrow.common.errors import EpochLost, StoreError
from windrow.common.messages import ANSWERS, FailureInfo, InputSlice, JobInfo, ValueRun
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Now
from windrow.scheduler.control import Peer, Request
from windrow.scheduler.core.records import EndedJob, PutFailure, PutValues, Record, Snapshot, StoredJob
from windrow.scheduler.ports import ChunkMessage, DispatchEvent, Page

Noted = tuple[object, ...]


class RimStore:
    """The model store with the reads of the port, and errors on demand. What happens is noted in `story`."""

    def __init__(self, story: list[Noted]) -> None:
        self.model = ModelStore()
        self.model.begin_epoch()
        self.story = story
        self.fail_commit: StoreError | None = None
        self.fail_load: StoreError | None = None
        self.fail_reads: StoreError | None = None
        self.trouble = ""
        self.news: dict[int, list[PutValues | PutFailure]] = {}

    def load(self) -> Snapshot:
        if self.fail_load is not None:
            raise self.fail_load
        return self.model.load()

    def commit(self, records: Sequence[Record]) -> None:
        if self.fail_commit is not None:
            raise self.fail_commit
        self.model.commit(records)
        for record in records:
            if isinstance(record, PutValues) or (isinstance(record, PutFailure) and record.final):
                self.news.setdefault(record.no, []).append(record)
        self.story.append(("commit", *(type(record).__name__ for record in records)))

    def _read(self) -> None:
        if self.fail_reads is not None:
            raise self.fail_reads

    def find_job(self, job: JobId) -> StoredJob | None:
        self._read()
        return self.model.find_job(job)

    def find_job_by_key(self, key: str) -> JobId | None:
        self._read()
        return next((job.put.id for job in self.model.jobs.values() if job.put.key == key), None)

    def find_ended(self, before: Mapping[JobState, float], limit: int) -> tuple[EndedJob, ...]:
        self._read()
        return self.model.find_ended(before, limit)

    def has_leftovers(self) -> bool:
        self._read()
        return self.model.has_leftovers()

    def find_job_ids(self, prefix: str, limit: int) -> list[JobId]:
        self._read()
        return sorted(job.put.id for job in self.model.jobs.values() if job.put.id.startswith(prefix))[:limit]

    def find_info(self, job: JobId) -> JobInfo | None:
        self._read()
        for each in self.model.jobs.values():
            put, last = each.put, each.last
            if put.id == job:
                counts = (last.done, last.failed, last.cancelled, 0, 0)
                return JobInfo(put.id, put.name, put.task, last.state, last.open, last.total, *counts)
        return None

    def list_jobs(self, *, limit: int, before: str, streams: bool, state: str) -> list[JobInfo]:
        self._read()
        ids = [each.put.id for each in reversed(list(self.model.jobs.values()))]
        return [info for info in map(self.find_info, ids[:limit]) if info is not None]

    def read_inputs(self, job: JobId, start: int, stop: int) -> tuple[InputSlice, ...]:
        self._read()
        (found,) = [each for each in self.model.jobs.values() if each.put.id == job]
        slices: list[InputSlice] = []
        for put in found.inputs:
            low, high = max(start, put.base), min(stop, put.base + put.count)
            if low < high:
                slices.append(InputSlice(low, high, slice_block(put.block, low - put.base, high - put.base)))
        return tuple(slices)

    def read_results(self, job: JobId, start: int, stop: int, bytes_max: int) -> Page:
        page = self.read_news(job, -1, 1 << 60)
        runs = sorted((run for run in page.values if start <= run.start < stop), key=lambda run: run.start)
        failures = tuple(failure for failure in page.failures if start <= failure.item < stop)
        return Page(tuple(runs), failures, max((run.stop for run in runs), default=start), False)

    def read_failures(self, job: JobId, start: int, limit: int) -> Page:
        page = self.read_news(job, -1, 1 << 60)
        return Page((), page.failures[:limit], 0, len(page.failures) > limit)

    def read_news(self, job: JobId, after: int, bytes_max: int) -> Page:
        """Sequence = place in the list of commits; always one entry, then up to so many bytes."""
        self._read()
        (no,) = [each.put.no for each in self.model.jobs.values() if each.put.id == job]
        values: list[ValueRun] = []
        failures: list[FailureInfo] = []
        at = after
        for record in self.news.get(no, [])[after + 1 :]:
            if isinstance(record, PutValues):
                if (values or failures) and bytes_max < len(record.block):
                    return Page(tuple(values), tuple(failures), at, True)
                bytes_max -= len(record.block)
                for part in record.slices:
                    cut = slice_block(record.block, part.start - record.base, part.stop - record.base)
                    values.append(ValueRun(part.start, part.stop, cut))
            else:
                failures.append(FailureInfo(record.item, FailureKind(record.kind), record.type, "", "", "", 1))
            at += 1
        return Page(tuple(values), tuple(failures), at, False)

    def last_sequence(self, job: JobId) -> int:
        self._read()
        (no,) = [each.put.no for each in self.model.jobs.values() if each.put.id == job]
        return len(self.news.get(no, [])) - 1

    def check_reign(self) -> None:
        """Nobody else is there, unless commits say so."""
        if isinstance(self.fail_commit, EpochLost):
            raise self.fail_commit

    def check(self) -> str:
        return self.trouble

    def checkpoint(self) -> None:
        pass

    def close(self) -> None:
        pass


class RimDispatch:
    """Notes what it is asked to do; tells nothing of its own accord."""

    kind: str = "local"

    def __init__(self, story: list[Noted]) -> None:
        self.story = story
        self.messages: list[ChunkMessage] = []
        self.flushed_after = 0
        """How many messages had been dispatched when it was flushed."""
        self.on_event: Callable[[DispatchEvent], None] = lambda event: None
        self.offers: dict[NodeId, dict[Fence, bytes]] = {}

    async def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        self.on_event = on_event

    async def stop(self) -> None:
        self.story.append(("stop",))

    def dispatch(self, message: ChunkMessage) -> None:
        self.messages.append(message)
        self.story.append(("dispatch", message.fence))

    def flush(self) -> None:
        self.flushed_after = len(self.messages)

    def open_node(self, node: NodeId) -> None:
        self.story.append(("open", node))

    def empty_node(self, node: NodeId) -> None:
        self.story.append(("empty", node))

    def settle(self, fence: Fence, node: NodeId) -> None:
        self.story.append(("settle", fence))

    def settle_others(self, live: Collection[Fence]) -> None:
        self.story.append(("settle others", tuple(sorted(live))))

    def offered(self, node: NodeId, holds: frozenset[Fence]) -> list[bytes]:
        return [body for fence, body in self.offers.get(node, {}).items() if fence not in holds]

    def watch_queues(self, nodes: Sequence[NodeId]) -> None:
        self.story.append(("watch", *nodes))

    def queue_name(self, node: NodeId) -> str:
        return f"queue of {node}"


class RimControl:
    """A socket of lists: what waits in `inbox`, what was said to whom in `said`; every answer passes the codec."""

    def __init__(self, story: list[Noted]) -> None:
        self.story = story
        self.inbox: list[Request] = []
        self.said: list[tuple[str, object]] = []
        self.received = 0
        self.refused = 0
        self.closed = False

    def start(self, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        self.on_ready = on_ready

    def receive(self) -> list[Request]:
        found, self.inbox = self.inbox, []
        return found

    def look_again(self) -> None:
        pass

    def put(self, name: str, message: object) -> None:
        self.inbox.append(Request(peer(name), message))

    def answer(self, to: Peer, message: object) -> None:
        name = to.frames[0].decode()
        self.said.append((name, ANSWERS.decode(ANSWERS.encode(message))))
        self.story.append(("answer", name, type(message).__name__))

    def take_said(self, name: str) -> list[object]:
        found = [message for who, message in self.said if who == name]
        self.said = [each for each in self.said if each[0] != name]
        return found

    def close(self) -> None:
        self.closed = True


class HandClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.mono = 1000.0
        self.wall_jump_s = 0.0

    def __call__(self) -> Now:
        return Now(self.mono, 1_700_000_000.0 + self.mono + self.wall_jump_s)


def peer(name: str) -> Peer:
    return Peer((name.encode(), b"id", b""))
