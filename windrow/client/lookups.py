"""Futures of calls that somebody else submitted, or this client long ago: reads the outcome, or waits for it."""

from __future__ import annotations

import threading
from typing import Any

from windrow.client.failures import ClientClosed, task_failed
from windrow.client.futures import Callbacks, Future
from windrow.client.link import Exchange, Link
from windrow.client.outcomes import Unreadable, decode_run
from windrow.client.watches import Watchlist, is_over
from windrow.common.errors import NotFound, ProtocolError, WindrowError
from windrow.common.messages import FailureInfo, News, Outcomes, ReadResults, ValueRun
from windrow.common.words import TERMINAL_STATES, JobId, JobState


class _Read(Exchange):
    """Reads the outcome of one call."""

    def __init__(self, lookups: Lookups, job: JobId, index: int) -> None:
        self._lookups = lookups
        self._job = job
        self._index = index

    def message(self) -> object | None:
        return ReadResults(self._job, self._index, limit=1)

    def on_answer(self, answer: object) -> None:
        if not isinstance(answer, Outcomes):
            raise ProtocolError(f"the scheduler answered ReadResults with {type(answer).__name__}")
        self._lookups.on_read(self._job, self._index, answer)

    def on_error(self, error: WindrowError) -> None:
        self._lookups.on_lost(self._job, error, self._index)


class _CallNews:
    """Wants the outcomes of calls that had none when they were read."""

    outcomes = True

    def __init__(self, lookups: Lookups, job: JobId, after: int) -> None:
        self.job = job
        self.after = after
        self.indexes: set[int] = set()
        self._lookups = lookups

    def on_news(self, news: News) -> bool:
        return self._lookups.on_news(self, news)

    def on_lost(self, error: WindrowError) -> None:
        for index in self.indexes:
            self._lookups.on_lost(self.job, error, index)


class Lookups:
    """All such futures of one client; on_* run on the I/O thread."""

    def __init__(self, link: Link, watchlist: Watchlist, callbacks: Callbacks) -> None:
        self._link = link
        self._watchlist = watchlist
        self._callbacks = callbacks
        self._lock = threading.Lock()
        self._futures: dict[tuple[JobId, int], Future[Any]] = {}
        self._news: dict[JobId, _CallNews] = {}

    def future(self, job: JobId, index: int) -> Future[Any]:
        """The future of call JOB/INDEX; the same one for all who wait for it."""
        with self._lock:
            known = self._futures.get((job, index))
            if known is not None:
                return known
            made: Future[Any] = Future(job, index, self._callbacks)
            self._futures[(job, index)] = made
        self._link.post(_Read(self, job, index))
        return made

    def close(self) -> None:
        """Whoever waits here is told that nothing will come."""
        with self._lock:
            left = list(self._futures.values())
            self._futures.clear()
        for future in left:
            future.set_exception(ClientClosed("the client was closed before the call had an outcome"))

    def on_read(self, job: JobId, index: int, page: Outcomes) -> None:
        if self._take(job, {index}, page.values, page.failures):
            return
        if index >= page.job.total:
            self.on_lost(
                job, NotFound(f"there is no call {job}/{index}: the stream has {page.job.total} so far"), index
            )
        elif page.job.state in TERMINAL_STATES:
            self._on_over(job, index, page.job.state)
        else:
            self._wait(job, index, page.sequence)

    def on_news(self, interest: _CallNews, news: News) -> bool:
        interest.indexes -= self._take(interest.job, interest.indexes, news.values, news.failures)
        if is_over(news):
            for index in interest.indexes:
                self._on_over(interest.job, index, news.state)
            interest.indexes = set()
        if not interest.indexes:
            self._news.pop(interest.job, None)
        return bool(interest.indexes)

    def on_lost(self, job: JobId, error: WindrowError, index: int) -> None:
        future = self._pop(job, index)
        if future is not None:
            future.set_exception(error)

    def _wait(self, job: JobId, index: int, sequence: int) -> None:
        interest = self._news.get(job)
        if interest is None:
            interest = self._news[job] = _CallNews(self, job, sequence)
            self._watchlist.add(interest)
        # This call's outcome comes after `sequence`; what the others have seen before comes again and is no matter.
        interest.after = min(interest.after, sequence)
        interest.indexes.add(index)
        self._link.watch()

    def _take(
        self, job: JobId, wanted: set[int], values: tuple[ValueRun, ...], failures: tuple[FailureInfo, ...]
    ) -> set[int]:
        """Resolve what is wanted and there; which ones that were."""
        taken: set[int] = set()
        for run in values:
            found = [index for index in wanted if run.start <= index < run.stop]
            decoded = decode_run(run) if found else []
            for index in found:
                self._resolve(job, index, decoded[index - run.start])
            taken.update(found)
        for failure in failures:
            if failure.item in wanted:
                self.on_lost(job, task_failed(failure, job), failure.item)
                taken.add(failure.item)
        return taken

    def _resolve(self, job: JobId, index: int, value: object) -> None:
        future = self._pop(job, index)
        if future is None:
            return
        if isinstance(value, Unreadable):
            future.set_exception(value.error)
        else:
            future.set_result(value)

    def _on_over(self, job: JobId, index: int, state: JobState) -> None:
        future = self._pop(job, index)
        if future is None:
            return
        if state is JobState.CANCELLED:
            future.set_cancelled()
        else:
            future.set_exception(NotFound(f"the outcome of call {job}/{index} is not kept any more"))

    def _pop(self, job: JobId, index: int) -> Future[Any] | None:
        with self._lock:
            return self._futures.pop((job, index), None)
