"""A scheduler in memory, on a thread of the test: it takes every client message and runs the items itself."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from windrow.common.blocks import block_entries, pack_block
from windrow.common.limits import PARKED_SECONDS_MAX
from windrow.common.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    Append,
    Appended,
    CancelJob,
    ClientPoll,
    CloseJob,
    DrainNode,
    Explained,
    ExplainJob,
    FailureInfo,
    FindJob,
    Health,
    HealthInfo,
    JobInfo,
    Jobs,
    ListJobs,
    ListNodes,
    News,
    NodeInfo,
    Nodes,
    Outcomes,
    PauseJob,
    Polled,
    ReadFailures,
    ReadHistory,
    ReadResults,
    Refused,
    RetryJob,
    Started,
    StartJob,
    ValueRun,
    Watch,
)
from windrow.common.values import decode_items, encode_value
from windrow.common.words import TERMINAL_STATES, FailureKind, JobId, JobState, NodeId

PAGE = 700
"""Outcomes in a page, few enough that tests turn pages."""
STEP = 100
"""Items that run between two looks at the sockets."""

Outcome = bytes | FailureInfo
OfJob = (
    Append | CloseJob | CancelJob | PauseJob | RetryJob | FindJob | ExplainJob | ReadResults | ReadFailures
    | ReadHistory
)  # fmt: skip
Drop = Callable[[str, object], bool]


@dataclass
class FakeJob:
    """All that is known of one job."""

    start: StartJob
    no: int
    items: list[Any] = field(default_factory=list[Any])
    appends: dict[int, tuple[int, bytes]] = field(default_factory=dict[int, tuple[int, bytes]])
    open: bool = True
    pending: list[int] = field(default_factory=list[int])
    outcomes: dict[int, Outcome] = field(default_factory=dict[int, Outcome])
    log: list[int] = field(default_factory=list[int])
    history: list[FailureInfo] = field(default_factory=list[FailureInfo])
    cancelled: bool = False
    paused: bool = False
    reason: str = ""

    @property
    def state(self) -> JobState:
        if self.cancelled:
            return JobState.CANCELLED
        if self.paused:
            return JobState.PAUSED
        if self.open or len(self.outcomes) < len(self.items):
            return JobState.RUNNING
        failed = any(isinstance(outcome, FailureInfo) for outcome in self.outcomes.values())
        return JobState.FAILED if failed else JobState.DONE

    def info(self) -> JobInfo:
        failed = sum(isinstance(outcome, FailureInfo) for outcome in self.outcomes.values())
        done = len(self.outcomes) - failed
        left = len(self.items) - len(self.outcomes)
        return JobInfo(
            id=self.start.job, name=self.start.name, task=self.start.task, state=self.state, open=self.open,
            total=len(self.items), done=done, failed=failed, cancelled=left if self.cancelled else 0, running=0,
            pending=0 if self.cancelled else left, stream=self.start.stream, reason=self.reason,
            after=self.start.after,
        )  # fmt: skip


class FakeScheduler:
    """Answers until stop(); `restart` comes back on the same port with the next epoch and everything it knew."""

    def __init__(self, functions: dict[str, Callable[..., object]]) -> None:
        self.functions = functions
        self.jobs: dict[JobId, FakeJob] = {}
        self.epoch = 1
        self.drop: Drop = lambda way, message: False
        self.refuse: Callable[[object], Refused | None] = lambda message: None
        self.note = ""
        self.sequences = True
        """Outcomes name the sequence they were read at."""
        self.working = threading.Event()
        self.working.set()
        self.budget: int | None = None
        """How many more items may run; none: all."""
        self.seen: list[object] = []
        self.executed: list[tuple[JobId, int]] = []
        self.faults: list[BaseException] = []
        self._parked: dict[str, tuple[list[bytes], ClientPoll, float]] = {}
        self._port = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def start(self) -> None:
        bound = threading.Event()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, args=(bound,), name="fake-scheduler")
        self._thread.start()
        assert bound.wait(10)

    def stop(self) -> None:
        assert self._thread is not None
        self._stopping.set()
        self._thread.join(10)
        self._parked.clear()
        assert not self.faults, self.faults

    def restart(self) -> None:
        self.stop()
        self.epoch += 1
        self.start()

    def _run(self, bound: threading.Event) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        try:
            if self._port:
                router.bind(self.url)
            else:
                self._port = router.bind_to_random_port("tcp://127.0.0.1")
            bound.set()
            while not self._stopping.is_set():
                self._step(router)
        except BaseException as error:
            self.faults.append(error)
            raise
        finally:
            router.close(0)
            context.term()

    def _step(self, router: zmq.Socket[bytes]) -> None:
        busy = self.working.is_set() and any(job.pending for job in self.jobs.values())
        router.poll(0 if busy else 5)
        with contextlib.suppress(zmq.Again):
            while True:
                *envelope, payload = router.recv_multipart(zmq.NOBLOCK)
                self._take(router, envelope, payload)
        if self.working.is_set():
            for job in list(self.jobs.values()):
                self._work(job)
        self._answer_polls(router)

    def _take(self, router: zmq.Socket[bytes], envelope: list[bytes], payload: bytes) -> None:
        message = REQUESTS.decode(payload)
        if self.drop("request", message):
            return
        self.seen.append(message)
        if isinstance(message, ClientPoll):
            self._parked[message.client] = (envelope, message, time.monotonic() + PARKED_SECONDS_MAX)
            return
        answer = self.refuse(message) or self._answer(message)
        if not self.drop("answer", answer):
            router.send_multipart([*envelope, ANSWERS.encode(answer)])

    def _answer_polls(self, router: zmq.Socket[bytes]) -> None:
        for client, (envelope, poll, late_at) in list(self._parked.items()):
            unknown = tuple(watch.job for watch in poll.watches if watch.job not in self.jobs)
            found = (self._news(self.jobs[watch.job], watch) for watch in poll.watches if watch.job in self.jobs)
            news = tuple(one for one in found if one is not None)
            if news or unknown or time.monotonic() > late_at:
                del self._parked[client]
                answer = Polled(self.epoch, news, unknown)
                if not self.drop("answer", answer):
                    router.send_multipart([*envelope, ANSWERS.encode(answer)])

    def _news(self, job: FakeJob, watch: Watch) -> News | None:
        over = job.state in TERMINAL_STATES
        if not watch.outcomes:
            return News(job.start.job, -1, job.state, reason=job.reason) if over else None
        indexes = job.log[watch.after + 1 :][:PAGE]
        if not indexes and not over:
            return None
        following = watch.after + len(indexes)
        more = following + 1 < len(job.log)
        values, failures = _outcomes(job, indexes)
        return News(job.start.job, following, job.state, values, failures, more, job.reason)

    def _work(self, job: FakeJob) -> None:
        """Run some items, the last first, so that order of commit is not item order."""
        if job.paused:
            return
        count = min(STEP, len(job.pending), STEP if self.budget is None else self.budget)
        if self.budget is not None:
            self.budget -= count
        chunk, job.pending = job.pending[len(job.pending) - count :], job.pending[: len(job.pending) - count]
        if job.start.options.delay_s:
            raise AssertionError("a stream's delay travels in its appends")
        for index in chunk:
            self.executed.append((job.start.job, index))
            job.outcomes[index] = outcome = self._execute(job.start.task, job.items[index], index)
            if isinstance(outcome, FailureInfo):
                job.history.append(outcome)
            job.log.append(index)

    def _execute(self, task: str, item: Any, index: int) -> Outcome:
        plain: Any = item if hasattr(item, "keys") else {"args": item, "kwargs": {}}
        try:
            return encode_value(self.functions[task](*plain["args"], **plain["kwargs"]))
        except Exception as error:
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            return FailureInfo(index, FailureKind.ERROR, kind, str(error), "Traceback: …", "fake", 1)

    def _answer(self, message: object) -> object:
        if isinstance(message, StartJob):
            return self._start_job(message)
        if isinstance(message, ListNodes):
            node = NodeInfo(NodeId("n1"), "fake", "here", "alive", 2, ("default",), {}, (), (), 0, None, 0.1)
            return Nodes(self.epoch, (node,))
        if isinstance(message, DrainNode):
            return Accepted(self.epoch)
        if isinstance(message, Health):
            return HealthInfo(self.epoch, "c", "0", "local", "ok", "", "ok", "", 1.0, len(self.jobs), 0, 0)
        if isinstance(message, ListJobs):
            jobs = [job.info() for job in sorted(self.jobs.values(), key=lambda job: -job.no)]
            jobs = [job for job in jobs if message.streams or not job.stream]
            ids = [job.id for job in jobs]
            return Jobs(
                self.epoch,
                tuple(jobs[ids.index(JobId(message.before)) + 1 if message.before else 0 :][: message.limit]),
            )
        assert isinstance(message, OfJob)
        found = [job for name, job in self.jobs.items() if name.startswith(message.job)]
        if len(found) != 1:
            return Refused("not_found", f"there is no job {message.job}")
        return self._answer_of(found[0], message)

    def _answer_of(self, job: FakeJob, message: OfJob) -> object:
        if isinstance(message, Append):
            return self._append(job, message)
        if isinstance(message, FindJob):
            return job.info()
        if isinstance(message, ReadResults):
            return self._read(job, message.start, min(message.limit, PAGE))
        if isinstance(message, ReadFailures):
            failed = sorted(i for i, one in job.outcomes.items() if isinstance(one, FailureInfo) and i >= message.start)
            _, failures = _outcomes(job, failed[: message.limit])
            return Outcomes(self.epoch, job.info(), (), failures, failures[-1].item + 1 if failures else message.start)
        if isinstance(message, ReadHistory):
            found = tuple(one for one in job.history if one.item == message.item)
            return Outcomes(self.epoch, job.info(), (), found, message.item + 1)
        if isinstance(message, ExplainJob):
            about = "the job" if message.item is None else f"item {message.item}"
            return Explained(self.epoch, job.info(), (f"{about} waits for the test",), 2.5)
        if isinstance(message, PauseJob):
            job.paused = not message.resume
        elif isinstance(message, CloseJob):
            if message.total != len(job.items):
                return Refused("key_conflict", f"the job has {len(job.items)} items, not {message.total}")
            job.open = False
        elif isinstance(message, CancelJob):
            job.cancelled, job.open, job.reason = job.state not in TERMINAL_STATES, False, message.reason
            job.pending = []
        else:
            again = [i for i, one in job.outcomes.items() if isinstance(one, FailureInfo)]
            if message.items:
                again = [i for i in again if any(r.start <= i < r.stop for r in message.items)]
            for index in again:
                del job.outcomes[index]
                job.log.remove(index)
            job.pending += again
        return Accepted(self.epoch)

    def _start_job(self, message: StartJob) -> object:
        if message.task not in self.functions:
            return Refused("unknown_task", f"no node offers {message.task}")
        for job in self.jobs.values():
            if job.start.job == message.job or (message.key is not None and job.start.key == message.key):
                if job.start.numbers != message.numbers:
                    return Refused("key_conflict", f"key {message.key} has other content")
                return Started(self.epoch, job.start.job, True, len(job.items))
        made = self.jobs[message.job] = FakeJob(message, len(self.jobs))
        if message.numbers is not None:
            numbers = range(message.numbers.start, message.numbers.stop, message.numbers.step)
            made.items = [[number] for number in numbers]
            made.pending = list(range(len(made.items)))
            made.open = False
        return Started(self.epoch, message.job, False, len(made.items), self.note)

    def _append(self, job: FakeJob, message: Append) -> object:
        digest = hashlib.sha256(message.block).digest()
        if message.first + message.count <= len(job.items):
            if job.appends.get(message.first) != (message.count, digest):
                return Refused("key_conflict", f"items {message.first} and on are there with other content")
            return Appended(self.epoch, len(job.items))
        if message.first != len(job.items) or not job.open:
            return Refused("usage", f"the job takes item {len(job.items)} next" if job.open else "the job is closed")
        job.appends[message.first] = (message.count, digest)
        job.items.extend(item for entry in block_entries(message.block) for item in decode_items(entry))
        job.pending.extend(range(message.first, len(job.items)))
        return Appended(self.epoch, len(job.items))

    def _read(self, job: FakeJob, start: int, limit: int) -> Outcomes:
        stop = start
        while stop in job.outcomes and stop - start < limit:
            stop += 1
        values, failures = _outcomes(job, list(range(start, stop)))
        sequence = len(job.log) - 1 if self.sequences else -1
        return Outcomes(self.epoch, job.info(), values, failures, stop, sequence)


def _outcomes(job: FakeJob, indexes: list[int]) -> tuple[tuple[ValueRun, ...], tuple[FailureInfo, ...]]:
    """Runs of neighbours as blocks, failures by themselves."""
    runs: list[tuple[int, list[bytes]]] = []
    failures: list[FailureInfo] = []
    for index in indexes:
        outcome = job.outcomes[index]
        if isinstance(outcome, FailureInfo):
            failures.append(outcome)
        elif runs and runs[-1][0] + len(runs[-1][1]) == index:
            runs[-1][1].append(outcome)
        else:
            runs.append((index, [outcome]))
    made = tuple(ValueRun(start, start + len(entries), pack_block(entries)) for start, entries in runs)
    return made, tuple(failures)
