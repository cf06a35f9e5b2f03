"""Single calls: puts them into streams, sends these over the link, and resolves futures by the block."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any

from windrow.client.failures import ClientClosed, WindrowWarning, task_failed
from windrow.client.flows import Flow
from windrow.client.futures import Callbacks, Future, resolve_values
from windrow.client.ids import draw_id
from windrow.client.link import Exchange, Link
from windrow.client.outcomes import Unreadable, decode_run
from windrow.client.streams import Phase, Stream
from windrow.client.targets import Named
from windrow.client.watches import Watchlist, is_over
from windrow.common.errors import NotFound, WindrowError
from windrow.common.messages import CancelJob, News, Started, StartJob
from windrow.common.words import JobId, JobState

log = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 64 << 20
"""Encoded calls that wait in the client; beyond it submit() waits until some are durable."""

LOOK_SECONDS = 0.2
"""How often one who waits here looks whether the scheduler answers at all."""


class _Step(Exchange):
    """Tells the scheduler the next message of a stream: as much as has gathered by the time the line is free."""

    def __init__(self, calls: Calls, flow: Flow) -> None:
        self._calls = calls
        self._flow = flow

    def message(self) -> object | None:
        return self._calls.next_message(self._flow)

    def on_answer(self, answer: object) -> None:
        self._calls.on_answer(self._flow, answer)

    def on_error(self, error: WindrowError) -> None:
        self._calls.on_error(self._flow, error)


class _Cancel(Exchange):
    """Asks once to cancel a stream; what comes of it is told by the stream's news."""

    def __init__(self, job: JobId) -> None:
        self._job = job

    def message(self) -> object | None:
        return CancelJob(self._job, "the client was shut down with cancel_futures")

    def on_answer(self, answer: object) -> None:
        pass

    def on_error(self, error: WindrowError) -> None:
        log.warning("stream %s was not cancelled: %s", self._job, error)


class _FlowNews:
    """Wants the outcomes of a stream's calls, for its futures."""

    outcomes = True

    def __init__(self, calls: Calls, flow: Flow) -> None:
        self.job = flow.stream.job
        self.after = -1
        self._calls = calls
        self._flow = flow

    def on_news(self, news: News) -> bool:
        self._calls.on_news(self._flow, news)
        return True

    def on_lost(self, error: WindrowError) -> None:
        self._calls.on_news_lost(self._flow, error)


class Calls:
    """All single calls of one client. Public methods are thread-safe; those named on_* run on the I/O thread."""

    def __init__(self, link: Link, watchlist: Watchlist, callbacks: Callbacks, timeout_s: float) -> None:
        self._link = link
        self._watchlist = watchlist
        self._callbacks = callbacks
        self._timeout_s = timeout_s
        self._changed = threading.Condition(threading.Lock())
        self._flows: dict[tuple[Named, bool], Flow] = {}
        self._retired: list[Flow] = []
        """Refused and full ones, until their futures have all been told and they are closed."""
        self._filled: list[Flow] = []
        """Full ones that the link is not asked to close yet."""
        self._unsent_bytes = 0
        self._closed = False
        self._refused: WindrowError | None = None
        self._notes: set[str] = set()

    # ── Called from any thread ───────────────────────────────────────────────────────────────────────────────────

    def submit(self, named: Named, entry: bytes) -> Future[Any]:
        """Put one call into its stream."""
        with self._changed:
            flow = self._flow_with_room(named, True)
            index = self._add(flow, entry)
            future: Future[Any] = Future(flow.stream.job, index, self._callbacks)
            flow.futures[index] = future
            idle, flow.asking = not flow.asking, True
        if idle:
            self._link.post(_Step(self, flow))
        if self._filled:
            self._close_filled()
        return future

    def enqueue(self, named: Named, entry: bytes) -> str:
        """Put one call into its stream and wait until it is durable; its id."""
        with self._changed:
            flow = self._flow_with_room(named, False)
            index = self._add(flow, entry)
            idle, flow.asking = not flow.asking, True
        if idle:
            self._link.post(_Step(self, flow))
        if self._filled:
            self._close_filled()
        call_id = f"{flow.stream.job}/{index}"
        with self._changed:
            self._changed.wait_for(lambda: flow.stream.durable > index or flow.error is not None, self._timeout_s)
            if flow.stream.durable > index:
                return call_id
            if flow.error is not None:
                raise flow.error
        error = self._link.no_answer()
        raise type(error)(
            f"{error}. The call may still be accepted later: client.future({call_id!r}) will find it then"
        )

    def flush(self, timeout: float | None) -> None:
        """Wait until what was submitted so far is durable; raise what was refused since the last flush.

        Waits through any silence of the scheduler, but not while it says itself that it can accept nothing: that is
        raised when the time is over (without a `timeout` the client's own). What was submitted is tried further on.
        """
        end_at = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            marks = [(flow, flow.stream.total) for flow in self._all()]

            def settled() -> bool:
                return all(flow.error is not None or flow.stream.durable >= total for flow, total in marks)

            while not settled():
                now = time.monotonic()
                refusal = self._link.refusal()
                late = self._link.silent_for(now) > self._timeout_s if end_at is None else now >= end_at
                if late and (end_at is not None or refusal is not None):
                    left = sum(total - flow.stream.durable for flow, total in marks if flow.error is None)
                    if refusal is not None:
                        raise type(refusal)(f"{refusal}. {left} calls are not durable yet and are tried further on")
                    raise TimeoutError(f"{left} calls were not durable after {timeout:g} s")
                self._changed.wait(LOOK_SECONDS if end_at is None else min(LOOK_SECONDS, end_at - now))
            error, self._refused = self._refused, None
        if error is not None:
            raise error

    def find_future(self, job: JobId, index: int) -> Future[Any] | None:
        """The future of a call of this client that has no outcome yet."""
        with self._changed:
            for flow in self._all():
                if flow.stream.job == job:
                    return flow.futures.get(index)
        return None

    def refuse_more(self) -> bool:
        """Take no more calls; False where that was so already."""
        with self._changed:
            first, self._closed = not self._closed, True
            self._changed.notify_all()
        return first

    def cancel_all(self) -> None:
        """Have the scheduler cancel whatever has futures here and has not ended."""
        with self._changed:
            jobs = [flow.stream.job for flow in self._all() if flow.futures]
        for job in jobs:
            self._link.post(_Cancel(job))

    def finish(self, closing_s: float) -> None:
        """Wait for all futures, and for all calls to be durable; then close the streams, for `closing_s` at most."""
        with self._changed:
            self._changed.wait_for(lambda: all(_is_finished(flow) for flow in self._all()))
            flows = [flow for flow in self._all() if flow.error is None]
            for flow in flows:
                flow.stream.close()
        for flow in flows:
            self._poke(flow)
        with self._changed:
            self._changed.wait_for(lambda: all(_is_closed(flow) for flow in flows), closing_s)

    def _flow_with_room(self, named: Named, watched: bool) -> Flow:
        if self._closed:
            raise ClientClosed("the client was closed and takes no more calls: make a new one")
        if self._unsent_bytes >= UNSENT_BYTES_MAX:
            self._wait_for_room()
        flow = self._flows.get((named, watched))
        if flow is not None and flow.full and flow.error is None:
            self._close_full(flow)
            flow = None
        if flow is None or flow.error is not None:
            flow = self._flows[(named, watched)] = self._new_flow(named, watched)
        return flow

    def _close_full(self, flow: Flow) -> None:
        flow.stream.close()
        self._retired = [other for other in [*self._retired, flow] if not other.over]
        self._filled.append(flow)

    def _close_filled(self) -> None:
        with self._changed:
            filled, self._filled = self._filled, []
        for flow in filled:
            self._poke(flow)

    def _wait_for_room(self) -> None:
        while self._unsent_bytes >= UNSENT_BYTES_MAX:
            self._changed.wait(LOOK_SECONDS)
            if self._closed:
                raise ClientClosed("the client was closed and takes no more calls: make a new one")
            if self._link.silent_for(time.monotonic()) > self._timeout_s:
                error = self._link.no_answer()
                raise type(error)(f"{error}. {self._unsent_bytes >> 20} MiB of calls wait to be sent already")

    def _new_flow(self, named: Named, watched: bool) -> Flow:
        options = named.options()
        delay_s = options.delay_s or 0.0
        if options.delay_s is not None:
            # Each append says it: the delay runs from a call's own acceptance. 0: nothing is laid under.
            options = dataclasses.replace(options, delay_s=0.0)
        start = StartJob(draw_id(), named.task, options=options, stream=True)
        return Flow(Stream(start, delay_s=delay_s), watched=watched)

    def _add(self, flow: Flow, entry: bytes) -> int:
        self._unsent_bytes += len(entry)
        return flow.stream.add(entry)

    def _all(self) -> list[Flow]:
        return [*self._flows.values(), *self._retired]

    def _poke(self, flow: Flow) -> None:
        with self._changed:
            idle, flow.asking = not flow.asking, True
        if idle:
            self._link.post(_Step(self, flow))

    # ── The I/O thread ───────────────────────────────────────────────────────────────────────────────────────────

    def next_message(self, flow: Flow) -> object | None:
        with self._changed:
            message = flow.stream.next_message()
            if message is None:
                flow.asking = False
                self._changed.notify_all()
            return message

    def on_answer(self, flow: Flow, answer: object) -> None:
        with self._changed:
            before = flow.stream.unsent_bytes
            flow.stream.on_answer(answer)
            self._unsent_bytes += flow.stream.unsent_bytes - before
            self._changed.notify_all()
        if isinstance(answer, Started):
            if answer.note and answer.note not in self._notes:
                self._notes.add(answer.note)
                _warn(answer.note)
            if flow.watched:
                self._watchlist.add(_FlowNews(self, flow))
                self._link.watch()
        self._link.post(_Step(self, flow))

    def on_error(self, flow: Flow, error: WindrowError) -> None:
        with self._changed:
            closing = flow.stream.durable == flow.stream.total and flow.stream.phase is Phase.OPEN
            self._unsent_bytes -= flow.stream.unsent_bytes
            refused = flow.stream.on_refused()
            lost = [flow.futures.pop(index) for index in range(*refused) if index in flow.futures]
            flow.error = error
            flow.asking = False
            if not closing:
                self._refused = self._refused or error
            self._retire(flow)
        self._fail(lost, error)

    def on_news(self, flow: Flow, news: News) -> None:
        for run in news.values:
            values = decode_run(run)
            with self._changed:
                pop = flow.futures.pop
                futures = [pop(index, None) for index in range(run.start, run.stop)]
            _resolve(futures, values)
        for failure in news.failures:
            with self._changed:
                future = flow.futures.pop(failure.item, None)
            if future is not None:
                future.set_exception(task_failed(failure, flow.stream.job))
        if is_over(news):
            self._on_over(flow, news)
        with self._changed:
            self._changed.notify_all()

    def on_news_lost(self, flow: Flow, error: WindrowError) -> None:
        with self._changed:
            lost = list(flow.futures.values())
            flow.futures.clear()
            flow.error = error
            self._retire(flow)
        self._fail(lost, error)

    def _on_over(self, flow: Flow, news: News) -> None:
        """The stream has ended; calls that have no outcome by now get none."""
        with self._changed:
            left = list(flow.futures.values())
            flow.futures.clear()
            if flow.error is None and flow.stream.phase is not Phase.CLOSED:
                flow.error = NotFound(f"stream {flow.stream.job} has ended: {news.reason or news.state.value}")
                self._retire(flow)
        if news.state is JobState.CANCELLED:
            for future in left:
                future.set_cancelled()
        else:
            self._fail(left, NotFound(f"stream {flow.stream.job} has ended without an outcome for this call"))

    def _retire(self, flow: Flow) -> None:
        """Calls to come get a new stream; this one is kept only while something of it is awaited."""
        for key, other in list(self._flows.items()):
            if other is flow:
                del self._flows[key]
        retired = dict.fromkeys([*self._retired, flow])
        self._retired = [other for other in retired if not other.over]

    def _fail(self, futures: Iterable[Future[Any]], error: WindrowError) -> None:
        for future in futures:
            future.set_exception(error)
        with self._changed:
            self._changed.notify_all()


def _is_finished(flow: Flow) -> bool:
    return not flow.futures and (flow.error is not None or flow.stream.durable == flow.stream.total)


def _is_closed(flow: Flow) -> bool:
    return flow.error is not None or flow.stream.phase is Phase.CLOSED or flow.stream.total == 0


def _resolve(futures: list[Future[Any] | None], values: list[Any]) -> None:
    pairs: list[tuple[Future[Any], object]] = []
    for future, value in zip(futures, values, strict=True):
        if future is None:
            continue
        if isinstance(value, Unreadable):
            future.set_exception(value.error)
        else:
            pairs.append((future, value))
    resolve_values(pairs)


def _warn(note: str) -> None:
    try:
        warnings.warn(note, WindrowWarning, stacklevel=2)
    except WindrowWarning:
        # Warnings were made errors, but this thread has no caller to raise in.
        log.warning("%s", note)
