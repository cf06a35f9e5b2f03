"""A store in memory that takes the core's records literally and refuses any that would break the tiling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from windrow.common.blocks import check_block, slice_block
from windrow.common.messages import FailureInfo, InputSlice, JobInfo, ValueRun
from windrow.common.ranges import RangeSet
from windrow.common.words import TERMINAL_STATES, FailureKind, Fence, JobId, JobState, NodeId
from windrow.scheduler.core.records import (
    DropAttempts,
    DropChunk,
    DropNode,
    EndedJob,
    LeaseChunk,
    PutAttempt,
    PutChunk,
    PutFailure,
    PutInput,
    PutJob,
    PutLosses,
    PutNode,
    PutValues,
    Record,
    RemoveJob,
    ReopenItems,
    SetJob,
    ShortenChunk,
    Snapshot,
    StoredAttempt,
    StoredChunk,
    StoredInput,
    StoredJob,
    StoredLosses,
    StoredNode,
    SweepRemoved,
)
from windrow.scheduler.ports import Page


class ModelJob:
    """What the store knows of one job."""

    def __init__(self, put: PutJob) -> None:
        self.put = put
        self.last = SetJob(put.no, put.state, put.total, put.open, 0, "", 0, 0, 0, 0, None)
        self.inputs: list[PutInput] = []
        self.values = RangeSet()
        self.failed = RangeSet()
        self.attempts: dict[int, StoredAttempt] = {}
        self.losses: list[StoredLosses] = []
        self.kinds: dict[int, FailureKind] = {}
        self.news: list[ValueRun | FailureInfo | None] = []
        """Outcomes in order of commit; None: put back by a retry."""
        self.ends: list[int] = []
        """The generations that have ended."""

    @property
    def terminal(self) -> bool:
        return self.last.state in TERMINAL_STATES

    @property
    def shown(self) -> JobState:
        """As users see it."""
        return JobState.RUNNING if self.last.state in (JobState.CANCELLING, JobState.STOPPING) else self.last.state

    def stored(self) -> StoredJob:
        put, last = self.put, self.last
        return StoredJob(
            no=put.no,
            id=put.id,
            task=put.task,
            name=put.name,
            options=put.options,
            stream=put.stream,
            key=put.key,
            after=put.after,
            numbers=put.numbers,
            total=last.total,
            open=last.open,
            state=last.state,
            generation=last.generation,
            reason=last.reason,
            retried=last.retried,
            created_wall=put.created_wall,
            finished_wall=last.finished_wall,
            done=self.values.bounds,
            quarantined=self.failed.bounds,
            inputs=tuple(
                StoredInput(i.base, i.count, len(i.block), i.digest, i.due_wall, i.wait_s) for i in self.inputs
            ),
            attempts=tuple(self.attempts.values()),
            losses=tuple(self.losses),
        )


class ModelStore:
    """The durable facts, kept as values."""

    def __init__(self) -> None:
        self.epoch = 0
        self.jobs: dict[int, ModelJob] = {}
        self.chunks: dict[Fence, StoredChunk] = {}
        self.nodes: dict[NodeId, StoredNode] = {}
        self.commits = 0
        self.removed: list[ModelJob] = []
        """What the store no longer has, for those who judge it."""
        self.leftovers: set[int] = set()

    def begin_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    def find_job(self, job: JobId) -> StoredJob | None:
        return next((each.stored() for each in self.jobs.values() if each.put.id == job), None)

    def load(self) -> Snapshot:
        return Snapshot(
            epoch=self.epoch,
            cluster="sim",
            secret=b"s" * 32,
            last_job_no=max(self.jobs, default=0),
            jobs=tuple(job.stored() for job in self.jobs.values() if not job.terminal),
            chunks=tuple(self.chunks.values()),
            nodes=tuple(self.nodes.values()),
        )

    def commit(self, records: Sequence[Record]) -> None:
        self.commits += 1
        for record in records:
            self._apply(record)

    def _apply(self, record: Record) -> None:  # noqa: C901  (one arm a record type)
        match record:
            case PutJob():
                assert record.no not in self.jobs
                self.jobs[record.no] = ModelJob(record)
            case SetJob():
                self.jobs[record.no].last = record
                if self.jobs[record.no].terminal:
                    self._check_end(self.jobs[record.no])
            case PutInput():
                job = self.jobs[record.no]
                assert record.base == sum(each.count for each in job.inputs), "inputs must follow one another"
                check_block(record.block, record.count)
                job.inputs.append(record)
            case PutChunk():
                assert record.fence not in self.chunks
                live = [c for c in self.chunks.values() if c.no == record.no]
                job = self.jobs[record.no]
                twins = 0
                for chunk in live:
                    rest = RangeSet.from_bounds(chunk.bounds)
                    rest.subtract(job.values)
                    rest.subtract(job.failed)
                    if rest.intersection(record.start, record.stop):
                        twins += 1
                        assert job.put.options.idempotent, "two live fences over one index"
                        assert len(rest) == record.stop - record.start == 1, "twins over more than one index"
                        assert chunk.node != record.node, "twins at one node"
                assert twins <= 1, "more than two fences over one index"
                self.chunks[record.fence] = StoredChunk(
                    record.fence, record.no, (record.start, record.stop), record.node, False
                )
            case LeaseChunk():
                self.chunks[record.fence] = dataclasses.replace(self.chunks[record.fence], leased=True)
            case ShortenChunk():
                self.chunks[record.fence] = dataclasses.replace(self.chunks[record.fence], bounds=record.bounds)
            case DropChunk():
                del self.chunks[record.fence]
            case PutValues():
                self._put_values(self.jobs[record.no], record)
            case PutFailure():
                if record.final:
                    job = self.jobs[record.no]
                    assert record.item not in job.values, "an outcome came twice"
                    assert record.item not in job.failed, "an outcome came twice"
                    job.failed.add(record.item, record.item + 1)
                    job.kinds[record.item] = record.kind
                    told = (record.kind, record.type, record.message, record.traceback, record.node, record.attempt)
                    job.news.append(FailureInfo(record.item, *told))
            case PutAttempt():
                self.jobs[record.no].attempts[record.item] = StoredAttempt(
                    record.item, record.attempts, record.due_wall, record.suspect, record.wait_s
                )
            case PutLosses():
                self.jobs[record.no].losses.append(StoredLosses(record.start, record.stop, record.losses))
            case ReopenItems():
                job = self.jobs[record.no]
                for part in record.ranges:
                    assert job.failed.covers(*part)
                    job.failed.remove(*part)
                    for at, told in enumerate(job.news):
                        if isinstance(told, FailureInfo) and part.start <= told.item < part.stop:
                            job.news[at] = None
                    for item in range(*part):
                        job.attempts.pop(item, None)
            case DropAttempts():
                self.jobs[record.no].attempts.clear()
                self.jobs[record.no].losses.clear()
            case RemoveJob():
                job = self.jobs.pop(record.no)
                assert job.terminal, "a job that lives was removed"
                awaited = any(job.put.id in each.put.after for each in self.jobs.values() if not each.terminal)
                assert not awaited, "a job was removed that a live one comes after"
                assert not any(chunk.no == record.no for chunk in self.chunks.values()), "a removed job has live fences"
                self.removed.append(job)
                assert record.no < max(self.jobs, default=0), "numbers of jobs would come again"
                self.leftovers.add(record.no)
            case SweepRemoved():
                # Of how many rows a job has been made the model knows nothing: one job a time.
                self.leftovers.discard(min(self.leftovers, default=0))
            case DropNode(id_):
                self.nodes.pop(id_, None)
            case PutNode():
                self.nodes[record.id] = StoredNode(
                    record.id, record.name, record.host, record.drained, record.gone, record.seen_wall
                )

    def _put_values(self, job: ModelJob, record: PutValues) -> None:
        check_block(record.block, record.count)
        assert record.slices
        for part in record.slices:
            assert record.base <= part.start < part.stop <= record.base + record.count
            assert not job.values.intersection(*part), "an outcome came twice"
            assert not job.failed.intersection(*part), "an outcome came twice"
            job.values.add(*part)
            block = slice_block(record.block, part.start - record.base, part.stop - record.base)
            job.news.append(ValueRun(part.start, part.stop, block))

    def _check_end(self, job: ModelJob) -> None:
        last = job.last
        assert last.generation not in job.ends, "a job ended twice in one generation"
        job.ends.append(last.generation)
        assert (last.done, last.failed) == (len(job.values), len(job.failed))
        assert last.done + last.failed + last.cancelled == last.total, "an item is missing at the end"
        assert not any(chunk.no == job.put.no for chunk in self.chunks.values()), "a live fence outlives its job"

    # ── What the rim reads ───────────────────────────────────────────────────────────────────────────────────────

    def find_job_by_key(self, key: str) -> JobId | None:
        return next((each.put.id for each in self.jobs.values() if each.put.key == key), None)

    def find_ended(self, before: Mapping[JobState, float], limit: int) -> tuple[EndedJob, ...]:
        found: list[EndedJob] = []
        for state, wall in before.items():
            ended = [
                EndedJob(each.put.no, each.put.id, state, each.last.finished_wall)
                for each in self.jobs.values()
                if each.last.state is state and each.last.finished_wall is not None and each.last.finished_wall < wall
            ]
            found += sorted(ended, key=lambda one: one.finished_wall)[:limit]
        return tuple(found)

    def has_leftovers(self) -> bool:
        return bool(self.leftovers)

    def find_info(self, job: JobId) -> JobInfo | None:
        found = next((each for each in self.jobs.values() if each.put.id == job), None)
        if found is None:
            return None
        put, last = found.put, found.last
        counts = (last.total, len(found.values), len(found.failed), last.cancelled, 0, 0)
        return JobInfo(put.id, put.name, put.task, found.shown, last.open, *counts, reason=last.reason)

    def read_inputs(self, job: JobId, start: int, stop: int) -> tuple[InputSlice, ...]:
        found = next(each for each in self.jobs.values() if each.put.id == job)
        parts: list[InputSlice] = []
        for put in found.inputs:
            low, high = max(start, put.base), min(stop, put.base + put.count)
            if low < high:
                parts.append(InputSlice(low, high, slice_block(put.block, low - put.base, high - put.base)))
        return tuple(parts)

    def read_news(self, job: JobId, after: int, bytes_max: int) -> Page:
        """One outcome, or one run of them, to a sequence number."""
        found = next(each for each in self.jobs.values() if each.put.id == job)
        told = found.news[after + 1 :]
        values = tuple(each for each in told if isinstance(each, ValueRun))
        failures = tuple(each for each in told if isinstance(each, FailureInfo))
        return Page(values, failures, len(found.news) - 1, more=False)
