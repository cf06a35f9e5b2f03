"""A cluster of one process for the export's tasks: jobs in a dict, everything that travels through the real codecs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from windrow.common.blocks import pack_block
from windrow.common.errors import UsageError, WindrowError
from windrow.common.messages import FailureInfo, JobInfo, Outcomes, ReadResults, ValueRun
from windrow.common.tasks import registered_tasks
from windrow.common.values import decode_items, decode_value, encode_item, encode_value
from windrow.common.words import FailureKind, JobId, JobState
from windrow.export import run as export_run
from windrow.export import tasks as export_tasks


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

    @property
    def total(self) -> int:
        return len(self.items)

    def append(self, items: Iterable[Any]) -> int:
        assert self.open, "an append to a closed job"
        self.items.extend(encode_item(item) for item in items)
        return len(self.items)

    def close(self) -> FakeJob:
        self.open = False
        return self

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
    steps: int | None = None
    """Items to run in one wait with a time-out; None for all."""
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    before: Callable[[str, int], None] = lambda task, index: None
    """Called before each item."""

    def open(self, task: str, /, *, name: str = "", after: tuple[str, ...] = ()) -> FakeJob:
        assert task in registered_tasks()
        assert all(known in self.jobs for known in after), "comes after a job that there is not"
        assert name
        job = FakeJob(self, f"job{len(self.jobs):013d}", task, tuple(after))
        self.jobs[job.id] = job
        return job

    def open_existing(self, job_id: str, /) -> FakeJob:
        if not self.jobs[job_id].open:
            raise UsageError(f"job {job_id} is closed")
        return self.jobs[job_id]

    def start(self, task: str, items: Iterable[Any], /, *, name: str = "", after: tuple[str, ...] = ()) -> FakeJob:
        job = self.open(task, name=name, after=after)
        job.append(items)
        return job.close()

    def job(self, job_id: str, /) -> FakeJob:
        return self.jobs[job_id]

    def ask(self, message: object, answer_type: type[Any], /) -> Any:
        assert isinstance(message, ReadResults)
        assert answer_type is Outcomes
        job = self.jobs[message.job]
        # Two at a time, so that reading takes more than one page.
        stop = message.start
        while stop < message.start + 2 and stop in job.values:
            stop += 1
        entries = [job.values[index] for index in range(message.start, stop)]
        runs = (ValueRun(message.start, stop, pack_block(entries)),) if entries else ()
        return Outcomes(epoch=1, job=job.status(), values=runs, failures=(), next=stop)

    def run(self, bounded: bool = False) -> None:
        left = self.steps if bounded else None
        for job in list(self.jobs.values()):
            left = self._run_job(job, left)

    def _run_job(self, job: FakeJob, left: int | None) -> int | None:
        before = [self.jobs[known].state for known in job.after]
        if job.state in ("done", "failed", "cancelled"):
            return left
        if any(state in ("failed", "cancelled") for state in before):
            job.cancel("a job before it failed")
            return left
        if any(state != "done" for state in before) or (job.open and not job.items):
            return left
        job.state = "running"
        rest = [index for index in range(len(job.items)) if index not in job.values and index not in job.failed]
        random.Random(self.seed).shuffle(rest)
        for index in rest:
            if left is not None:
                if not left:
                    return left
                left -= 1
            self.before(job.task, index)
            self.run_item(job, index)
        if not job.open:
            job.state = "failed" if job.failed else "done"
        return left

    def run_item(self, job: FakeJob, index: int) -> None:
        """One attempt, as a worker makes it; its outcome replaces the one there is."""
        (args,) = list(decode_items(job.items[index]))
        try:
            job.values[index] = encode_value(registered_tasks()[job.task](*args))
        except WindrowError as error:
            kind = type(error)
            job.failed[index] = FailureInfo(
                item=index, kind=FailureKind.ERROR, type=f"{kind.__module__}.{kind.__qualname__}",
                message=str(error), traceback="", node="n", attempts=1,
            )  # fmt: skip


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(export_tasks, "open_client", lambda: contextlib.nullcontext(made))
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
