"""The future of one call: a concurrent.futures.Future with the call's id, made cheaply and resolved by the batch."""

from __future__ import annotations

import concurrent.futures
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from windrow.common.words import JobId

T = TypeVar("T")
log = logging.getLogger(__name__)

_birth = threading.Lock()
"""Held while a future gets its condition, and while futures that have none change their state."""


class Callbacks:
    """Runs done-callbacks on a thread of their own when they fall due on the I/O thread, which they must not hold up.

    A callback may ask the scheduler for something; on the I/O thread it would wait for itself.
    """

    def __init__(self) -> None:
        self.io_thread: int | None = None
        """Ident of the thread on which no callback may run."""
        self._due: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def set_io_thread(self, ident: int) -> None:
        """From now on no callback runs on this thread."""
        self.io_thread = ident

    def run(self, function: Callable[[Any], object], future: Future[Any]) -> None:
        """Call `function(future)`: here, or on the callbacks' thread."""
        if threading.get_ident() != self.io_thread:
            function(future)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="windrow-callbacks", daemon=True)
            self._thread.start()
        self._due.put(lambda: function(future))

    def stop(self, timeout_s: float) -> None:
        """Let what is due run, then end the thread."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._due.put(None)
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while (due := self._due.get()) is not None:
            try:
                due()
            except Exception:
                log.exception("a done-callback of a future raised")


class Future(concurrent.futures.Future[T]):
    """The outcome of one call, to come. `result()` raises TaskFailed where the call failed."""

    # The stock constructor makes a condition and two lists for each future, most of which nobody ever waits on by
    # itself; that is most of what a future costs. Here they are made on first use (__getattr__).
    def __init__(self, job: JobId, index: int, callbacks: Callbacks) -> None:
        self._job = job
        self._index = index
        self._callbacks = callbacks
        self._state = "PENDING"
        self._result = None
        self._exception = None

    @property
    def id(self) -> str:
        """JOB/INDEX: `client.future(id)` finds the call from any process. Empty for a call that could not be sent."""
        return f"{self._job}/{self._index}" if self._job else ""

    def cancel(self) -> bool:
        """True where the call is cancelled already, else False: a call that was submitted cannot be taken back.

        `shutdown(cancel_futures=True)` and `job.cancel()` cancel what has not started.
        """
        return self.cancelled()

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Have `fn(future)` called when the call is done, on a thread of the client; at once where it is done."""
        callbacks = self._callbacks
        super().add_done_callback(lambda done: callbacks.run(fn, self))

    def set_cancelled(self) -> None:
        """The scheduler has cancelled the call."""
        if super().cancel():
            self.set_running_or_notify_cancel()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in ("_condition", "_waiters", "_done_callbacks"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            with _birth:
                if "_condition" not in self.__dict__:
                    self._waiters = []
                    self._done_callbacks = []
                    self._condition = threading.Condition()
            return self.__dict__[name]


def resolve_values(pairs: Iterable[tuple[Future[Any], object]]) -> None:
    """Give each future its value. Those that nobody has looked at take no lock of their own."""
    watched: list[tuple[Future[Any], object]] = []
    with _birth:
        for future, value in pairs:
            if "_condition" in future.__dict__:
                watched.append((future, value))
            else:
                future._result = value  # pyright: ignore[reportPrivateUsage]
                future._state = "FINISHED"  # pyright: ignore[reportPrivateUsage]
    for future, value in watched:
        future.set_result(value)


def failed_future(error: Exception, callbacks: Callbacks) -> Future[Any]:
    """The future of a call that could not even be sent."""
    future: Future[Any] = Future(JobId(""), 0, callbacks)
    future.set_exception(error)
    return future
