"""Jobs as users hold them: their status, their outcomes, and what can be done to them."""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from windrow.client.outcomes import OutcomeRun, Unreadable, decode_outcomes, in_item_order
from windrow.client.streams import cut_batches
from windrow.client.watches import is_over
from windrow.common.errors import NotFound, UsageError, WindrowError
from windrow.common.limits import JOB_ITEMS_MAX, RUNS_MAX
from windrow.common.messages import (
    Accepted,
    CancelJob,
    CloseJob,
    Explained,
    ExplainJob,
    FailureInfo,
    FindJob,
    JobInfo,
    Outcomes,
    PauseJob,
    ReadFailures,
    ReadHistory,
    ReadResults,
    RetryJob,
)
from windrow.common.ranges import RangeSet
from windrow.common.values import encode_items
from windrow.common.words import TERMINAL_STATES, JobId, JobState

if TYPE_CHECKING:
    from windrow.client.client import Client

Errors = Literal["raise", "skip", "return"]
"""What results() does about items that failed."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How a job stands; the counts of items add up to `total`."""

    id: str
    name: str
    task: str
    state: str
    """`pending`, `running`, `paused`, `done`, `failed` or `cancelled`."""
    open: bool
    """More items may come; `total` is how many there are so far."""
    total: int
    done: int
    failed: int
    cancelled: int
    running: int
    pending: int
    queue: str
    priority: int
    reason: str
    """Why it was cancelled or stopped, or empty."""
    created_s: float
    """Seconds since 1970."""
    finished_s: float | None
    retried: int
    """Attempts beyond the first so far."""
    stream: bool = False
    """It holds single calls."""
    after: tuple[str, ...] = ()
    """Jobs that must be done before it starts."""

    @property
    def finished(self) -> bool:
        """True where every item has ended."""
        return self.state in TERMINAL_STATES


def status_from(info: JobInfo) -> JobStatus:
    """The status that users see."""
    ending = info.state in (JobState.CANCELLING, JobState.STOPPING)
    state = JobState.RUNNING if ending else info.state
    return JobStatus(
        id=info.id, name=info.name, task=info.task, state=state.value, open=info.open, total=info.total,
        done=info.done, failed=info.failed, cancelled=info.cancelled, running=info.running, pending=info.pending,
        queue=info.queue, priority=info.priority, reason=info.reason, created_s=info.created_s,
        finished_s=info.finished_s, retried=info.retried, stream=info.stream, after=info.after,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job, or one item of it, is not done."""

    reasons: tuple[str, ...]
    """The weightiest first, a line each."""
    left_s: float | None
    """An estimate of the seconds until it is done; None where nobody can say."""
    status: JobStatus
    """How the job stood then."""


class Job:
    """A job, wherever it was started. Holding one costs nothing: every method asks the scheduler."""

    def __init__(self, client: Client, job: str) -> None:
        self._client = client
        self._id = JobId(job)

    @property
    def id(self) -> str:
        return self._id

    def __repr__(self) -> str:
        return f"<job {self._id}>"

    def status(self) -> JobStatus:
        """How the job stands now."""
        return status_from(self._client.ask(FindJob(self._id), JobInfo))

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job has ended, through restarts of the scheduler; TimeoutError after `timeout` seconds."""
        give_up_at = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = None if timeout is None else max(0.0, give_up_at - time.monotonic())
            news = self._client.next_news(self._id, outcomes=False, timeout=left)
            if news is None:
                raise TimeoutError(f"job {self._id} had not ended after {timeout:g} s; it goes on")
            if news.state in TERMINAL_STATES:
                status = status_from(self._client.ask(FindJob(self._id), JobInfo, timeout=math.inf))
                if status.finished:
                    return status

    def results(self, errors: Errors = "raise") -> Iterator[Any]:
        """The values in item order, as they come; waits for those that are not there yet.

        What happens at a failed item: "raise" raises its TaskFailed, "skip" leaves it out, "return" gives the
        TaskFailed in its place. Items that were cancelled count as failed with concurrent.futures.CancelledError.
        """
        if errors not in ("raise", "skip", "return"):
            raise UsageError(f'errors={errors!r}: must be "raise", "skip" or "return"')
        return _settle(self._in_order(), errors)

    def as_completed(self) -> Iterator[tuple[int, Any]]:
        """(index, outcome) as they are committed, to the end of the job; a failure as its TaskFailed.

        Cancelled items have no outcome and do not come.
        """
        after = -1
        while True:
            news = self._client.get_news(self._id, after)
            for run in map(decode_outcomes, news.values):
                if run.all_values:
                    yield from enumerate(run.outcomes, run.start)
                else:
                    for index, value in enumerate(run.outcomes, run.start):
                        yield index, value.error if isinstance(value, Unreadable) else value
            for failed in in_item_order((), news.failures, 0, self._id):
                yield from enumerate(failed.outcomes, failed.start)
            after = news.next
            if is_over(news):
                return

    def failures(self) -> Iterator[FailureInfo]:
        """The items that failed for good, by index, without waiting."""
        return self._failures(0)

    def history(self, item: int) -> list[FailureInfo]:
        """The attempts at one item that failed, oldest first; of many the first few and the last few."""
        if not 0 <= item < JOB_ITEMS_MAX:
            raise UsageError(f"items are numbered from 0: there is no item {item}")
        return list(self._client.ask(ReadHistory(self._id, item), Outcomes).failures)

    def retry_failed(self, items: Iterable[int] | None = None, *, error_type: str = "") -> int:
        """Put failed items back with fresh attempts: all, those named, those of one error type; how many those were.

        `error_type` is the name of an exception class, with or without its module.
        """
        if items is None and not error_type:
            count = self.status().failed
            if count:
                self._client.ask(RetryJob(self._id), Accepted)
            return count
        named = RangeSet([(0, JOB_ITEMS_MAX)] if items is None else ())
        for item in items or ():
            named.add(item, item + 1)
        failed = RangeSet()
        if named:
            for failure in self._failures(named.first.start):
                if failure.item >= named.last.stop:
                    break
                if named.covers(failure.item, failure.item + 1) and is_of_type(failure, error_type):
                    failed.add(failure.item, failure.item + 1)
        runs = list(failed)
        for at in range(0, len(runs), RUNS_MAX):
            self._client.ask(RetryJob(self._id, tuple(runs[at : at + RUNS_MAX])), Accepted)
        return len(failed)

    def cancel(self, reason: str = "") -> None:
        """Cancel what has not ended; items that run are stopped. wait() tells when that is done."""
        self._client.ask(CancelJob(self._id, reason), Accepted)

    def pause(self) -> None:
        """Start nothing more of it until resume(); items that run are finished."""
        self._client.ask(PauseJob(self._id), Accepted)

    def resume(self) -> None:
        """Go on with a paused job."""
        self._client.ask(PauseJob(self._id, resume=True), Accepted)

    def explain(self, item: int | None = None) -> Explanation:
        """Why the job, or one item of it, is not done, and how long that may last."""
        if item is not None and not 0 <= item < JOB_ITEMS_MAX:
            raise UsageError(f"items are numbered from 0: there is no item {item}")
        told = self._client.ask(ExplainJob(self._id, item), Explained)
        return Explanation(told.reasons, told.left_s, status_from(told.job))

    def _failures(self, start: int) -> Iterator[FailureInfo]:
        at = start
        while True:
            page = self._client.ask(ReadFailures(self._id, at), Outcomes)
            yield from page.failures
            if not page.failures:
                return
            at = max(page.next, page.failures[-1].item + 1)

    def _in_order(self) -> Iterator[OutcomeRun]:
        """Outcomes in item order, run by run: values, TaskFailed, Unreadable, CancelledError.

        Pages are read up to the first index that has no outcome. There the job is watched from the sequence that the
        page names, so that this sleeps until something more is committed; the news itself is only the wake-up call:
        out of order and without bound, it cannot be kept until its turn comes.
        """
        at, after, timeout = 0, -1, None
        while True:
            page = self._client.ask(ReadResults(self._id, at), Outcomes, timeout=timeout)
            timeout = math.inf
            yield from in_item_order(page.values, page.failures, at, self._id)
            if page.next > at:
                at = page.next
                continue
            if at >= page.job.total and (page.job.state in TERMINAL_STATES or not page.job.open):
                return
            if page.job.state in TERMINAL_STATES and (page.job.cancelled or page.job.state is JobState.CANCELLED):
                # Cancelled, or stopped by max_failures.
                yield from self._in_order_with_gaps(at, page.job)
                return
            if page.job.state in TERMINAL_STATES:
                raise NotFound(f"the outcomes of job {self._id} from item {at} on are not kept any more")
            after = self._client.get_news(self._id, max(after, page.sequence)).next

    def _in_order_with_gaps(self, start: int, info: JobInfo) -> Iterator[OutcomeRun]:
        """As _in_order, of a cancelled job from `start` on: finds out first which items have an outcome at all."""
        there, after = RangeSet(), -1
        while True:
            news = self._client.get_news(self._id, after)
            there.update((run.start, run.stop) for run in news.values)
            there.update((failure.item, failure.item + 1) for failure in news.failures)
            after = news.next
            if is_over(news):
                break
        at = start
        while at < info.total:
            if not there.covers(at, at + 1):
                why = concurrent.futures.CancelledError(f"item {at} of job {self._id} was cancelled: {info.reason}")
                yield OutcomeRun(at, [why])
                at += 1
                continue
            page = self._client.ask(ReadResults(self._id, at), Outcomes, timeout=math.inf)
            yield from in_item_order(page.values, page.failures, at, self._id)
            at = max(page.next, at + 1)


def is_of_type(failure: FailureInfo, name: str) -> bool:
    """Whether its error is of the class `name`, which may stand without its module; empty: of any."""
    found = failure.type.removeprefix("builtins.")
    return not name or found == name.removeprefix("builtins.") or ("." not in name and found.rpartition(".")[2] == name)


def _settle(runs: Iterator[OutcomeRun], errors: Errors) -> Iterator[Any]:
    for run in runs:
        if run.all_values:
            yield from run.outcomes
            continue
        for outcome in run.outcomes:
            error = outcome.error if isinstance(outcome, Unreadable) else outcome
            if not isinstance(error, WindrowError | concurrent.futures.CancelledError):
                yield outcome
            elif errors == "raise":
                raise error
            elif errors == "return":
                yield error


class OpenJob:
    """A job that grows. Items are durable when append() returns; nothing is closed unless close() is called."""

    def __init__(self, client: Client, job: str, total: int) -> None:
        self._client = client
        self._id = JobId(job)
        self._total = total
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        return self._id

    @property
    def total(self) -> int:
        """How many items it has."""
        return self._total

    @property
    def job(self) -> Job:
        """The job, to look at while it is open."""
        return Job(self._client, self._id)

    def __repr__(self) -> str:
        return f"<open job {self._id} of {self._total} items>"

    def append(self, items: Iterable[object]) -> int:
        """Add items; returns when they are durable, with the number of items of the job."""
        check_items(items)
        with self._lock:
            batches = cut_batches(encode_items(items))
            for total in self._client.append_batches(self._id, self._total, batches):
                self._total = total
            return self._total

    def close(self) -> Job:
        """No more items come; the job can end."""
        with self._lock:
            self._client.ask(CloseJob(self._id, self._total), Accepted)
        return self.job


def check_items(items: object) -> None:
    """UsageError for what can be iterated over but is surely not meant as a sequence of items."""
    if isinstance(items, str | bytes | bytearray):
        raise UsageError("items is a single text: give a list of items, e.g. [text]")
    if not isinstance(items, Iterable):
        raise UsageError(f"items is a {type(items).__name__}: give a list, a generator or a range")
    if isinstance(items, range) and len(items) > JOB_ITEMS_MAX:
        raise UsageError(f"a job has {JOB_ITEMS_MAX} items at most")
