"""A cluster of one process for the export's tasks: jobs in a dict, everything that travels through the real codecs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from windrow.common.blocks import block_entries, pack_block
from windrow.common.current import CurrentItem, serve_current
from windrow.common.errors import NodeUnfit, NotFound, UsageError, WindrowError
from windrow.common.messages import (
    Accepted,
    Append,
    Appended,
    CancelJob,
    CloseJob,
    FailureInfo,
    FindJob,
    JobInfo,
    Outcomes,
    ReadResults,
    Started,
    StartJob,
    ValueRun,
)
from windrow.common.tasks import registered_tasks
from windrow.common.values import decode_items, decode_value, encode_value
from windrow.common.words import FailureKind, JobId, JobState
from windrow.export import run as export_run
from windrow.export import tasks as export_tasks

ENDED = ("done", "failed", "cancelled")


@dataclass
class FakeJob:
    cluster: Cluster
    id: str
    task: str
    after: tuple[str, ...]
    open: bool = True
    state: str = "pending"
    reason: str = ""
    items: list[bytes] = field(default_factory=list)
    values: dict[int, bytes] = field(default_factory=dict)
    failed: dict[int, FailureInfo] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)
    """What nodes have said that cannot do it."""
    later: set[int] = field(default_factory=set)
    """Items with a delay; here they never come due, tests run them."""

    @property
    def total(self) -> int:
        return len(self.items)

    def status(self) -> JobInfo:
        ended = self.state in ("done", "failed", "cancelled")
        rest = len(self.items) - len(self.values) - len(self.failed)
        cancelled = self.state == "cancelled"
        return JobInfo(
            id=JobId(self.id), name="", task=self.task, state=JobState(self.state), open=self.open,
            total=len(self.items), done=len(self.values), failed=len(self.failed), cancelled=rest if cancelled else 0,
            running=0, pending=0 if cancelled else rest, reason=self.reason, created_s=100.0,
            finished_s=103.5 if ended else None,
        )  # fmt: skip

    def wait(self, timeout: float | None = None) -> JobInfo:
        self.cluster.run(timeout is not None)
        status = self.status()
        if status.finished_s is None:
            raise TimeoutError
        return status

    def results(self) -> Iterator[Any]:
        for index in range(len(self.items)):
            yield decode_value(self.values[index])

    def failures(self) -> Iterator[FailureInfo]:
        yield from (self.failed[index] for index in sorted(self.failed))

    def cancel(self, reason: str = "") -> None:
        assert self.state not in ("done", "failed", "cancelled"), f"{self.task} is {self.state} already"
        self.state, self.reason, self.open = "cancelled", reason, False


@dataclass
class Cluster:
    """Runs jobs when somebody waits for one."""

    seed: int = 0
    nodes: int = 1
    """So many may say that they cannot do a job before it fails."""
    steps: int | None = None
    """Items to run in one wait with a time-out; None for all."""
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    before: Callable[[str, int], None] = lambda task, index: None
    """Called before each item."""

    def job(self, job_id: str, /) -> FakeJob:
        return self.jobs[job_id]

    def ask(self, message: object, answer_type: type[Any], /) -> Any:
        match message:
            case StartJob():
                assert message.task in registered_tasks()
                assert message.name
                if message.job not in self.jobs:
                    assert all(known in self.jobs for known in message.after), "comes after a job that there is not"
                    self.jobs[message.job] = FakeJob(self, message.job, message.task, message.after)
                return Started(1, message.job, existing=False, total=0)
            case Append():
                return self._append(self.jobs[message.job], message)
            case CloseJob():
                job = self.jobs[message.job]
                if job.total != message.total:
                    raise UsageError(f"{job.task} has {job.total} items, not {message.total}")
                job.open = False
                return Accepted(1)
            case CancelJob():
                if self.jobs[message.job].state not in ENDED:
                    self.jobs[message.job].cancel(message.reason)
                return Accepted(1)
            case FindJob():
                if message.job not in self.jobs:
                    raise NotFound(f"there is no job {message.job}")
                return self.jobs[message.job].status()
            case ReadResults():
                return self._page(self.jobs[message.job], message.start)
            case _:
                raise AssertionError(message)

    def _append(self, job: FakeJob, asked: Append) -> Appended:
        entries = list(block_entries(asked.block))
        if asked.first + asked.count <= job.total:
            if job.items[asked.first : asked.first + asked.count] != entries:
                raise UsageError(f"other items of {job.task}")
        elif asked.first != job.total or not job.open:
            raise UsageError(f"{job.task} is closed, or the items have a gap")
        else:
            job.items += entries
            if asked.delay_s:
                job.later.update(range(asked.first, asked.first + asked.count))
        return Appended(1, job.total)

    def _page(self, job: FakeJob, start: int) -> Outcomes:
        # Two at a time, so that reading takes more than one page.
        stop = start
        while stop < start + 2 and stop in job.values:
            stop += 1
        entries = [job.values[index] for index in range(start, stop)]
        runs = (ValueRun(start, stop, pack_block(entries)),) if entries else ()
        return Outcomes(epoch=1, job=job.status(), values=runs, failures=(), next=stop)

    def run(self, bounded: bool = False) -> None:
        left = self.steps if bounded else None
        moved = True
        while moved and (left is None or left > 0):
            moved = False
            for job in list(self.jobs.values()):
                before = (job.state, len(job.values), len(job.failed), len(job.unfit))
                left = self._run_job(job, left)
                moved = moved or (job.state, len(job.values), len(job.failed), len(job.unfit)) != before
            moved = moved or self._come_due()

    def _come_due(self) -> bool:
        """Let delayed items run where nothing else can and another job waits for theirs."""
        awaited = {known for job in self.jobs.values() if job.state not in ENDED for known in job.after}
        due = [job for job in self.jobs.values() if job.later and job.state not in ENDED and job.id in awaited]
        for job in due:
            job.later.clear()
        return bool(due)

    def _run_job(self, job: FakeJob, left: int | None) -> int | None:
        before = [self.jobs[known].state for known in job.after]
        if job.state in ENDED:
            return left
        if any(state in ("failed", "cancelled") for state in before):
            job.cancel(f"{job.after} a job before it failed")
            return left
        if any(state != "done" for state in before):
            return left
        rest = [
            index for index in range(len(job.items)) if index not in job.values.keys() | job.failed.keys() | job.later
        ]
        random.Random(self.seed).shuffle(rest)
        for index in rest:
            if job.state in ENDED:
                return left
            if left is not None:
                if not left:
                    return left
                left -= 1
            job.state = "running"
            self.before(job.task, index)
            if job.state in ENDED:
                return left
            self.run_item(job, index)
            if job.failed:
                # Its jobs have max_failures=0.
                job.state, job.open = "failed", False
                return left
        if not job.open and job.state not in ENDED and len(job.values) == len(job.items):
            job.state = "done"
        return left

    def run_item(self, job: FakeJob, index: int) -> None:
        """One attempt, as a worker makes it; its outcome replaces the one there is."""
        (args,) = list(decode_items(job.items[index]))
        at = CurrentItem(job.id, index, 1, None, lambda: False)
        serve_current(lambda: at)
        try:
            job.values[index] = encode_value(registered_tasks()[job.task](*args))
        except WindrowError as error:
            if isinstance(error, NodeUnfit):
                job.unfit.append(error.message)
                if len(job.unfit) < self.nodes:
                    return
            kind = type(error)
            job.failed[index] = FailureInfo(
                item=index, kind=FailureKind.ERROR, type=f"{kind.__module__}.{kind.__qualname__}",
                message=str(error), traceback="", node="n", attempts=1,
            )  # fmt: skip
        finally:
            serve_current(lambda: None)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(export_tasks, "open_client", lambda: contextlib.nullcontext(made))
    # No power is cut here, and a disk would take most of the time.
    monkeypatch.setattr("os.fsync", lambda _: None)
    return made


@pytest.fixture
def export(cluster: Cluster, tmp_path: Path) -> Callable[..., Path]:
    """Export bytes with these options to tmp_path/dest and give the path of the file."""

    def go(data: bytes, dest: str = "out.csv", **options: Any) -> Path:
        source = tmp_path / "in.csv"
        if not source.exists() or source.read_bytes() != data:
            source.write_bytes(data)
        summary = export_run.export(cluster, source, tmp_path / dest, **options).wait()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "parts were left"
        return Path(summary.path)

    return go
