"""A virtual clock, and processes on it: event loops that can be frozen, thawed and killed at any moment.

Daemons of the project run here as they are, on asyncio, with all their waiting. Nothing happens beside the clock's
queue, so the same dice give the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

STEPS_MAX = 150_000
"""Far more than a run takes that comes to its end."""
LOOK_STEPS = 16


class Finding(BaseException):
    """What the simulation was looking for. No Exception, so that no daemon takes it for trouble of its own."""


class Entry:
    """Something to be called at an instant."""

    __slots__ = ("args", "callback", "cancelled_", "context", "process", "when_s")

    def __init__(self, process: Process, when_s: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.process = process
        self.when_s = when_s
        self.callback = callback
        self.args = args
        self.context: contextvars.Context | None = None
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.when_s


class Clock:
    """Virtual seconds and what is due at them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.finding: Finding | None = None
        self.over = False
        self.steps = 0
        self.processes: list[Process] = []
        self._queue: list[tuple[float, int, Entry]] = []
        self._count = 0

    def push(self, entry: Entry) -> None:
        self._count += 1
        heapq.heappush(self._queue, (max(entry.when_s, self.now), self._count, entry))

    def find(self, what: str) -> Finding:
        """Note the first thing that is wrong; the run ends with it."""
        self.finding = self.finding or Finding(what)
        return self.finding

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Until that is so: True; or until time or steps are used up, or nothing is left to happen: False."""
        while self._queue and self.steps < STEPS_MAX:
            if self.steps % LOOK_STEPS == 0 and until():
                return True
            when, _, entry = heapq.heappop(self._queue)
            process = entry.process
            if entry.cancelled_ or not process.alive:
                continue
            if when > limit_s:
                return False
            self.now = when
            if process.frozen:
                process.backlog.append(entry)
                continue
            self.steps += 1
            process.step(entry)
            if self.finding is not None:
                raise self.finding
        return until()

    def close(self) -> None:
        """End what still waits, so that no generator is closed by the garbage collector in another run."""
        self.over = True
        self._queue.clear()
        for process in self.processes:
            process.alive = False
            process.end_tasks()


class Process(asyncio.AbstractEventLoop):
    """One process of the world: an event loop on the clock."""

    def __init__(self, clock: Clock, name: str, host: Any = None) -> None:
        self.clock = clock
        self.name = name
        self.host = host
        self.alive = True
        self.frozen = False
        self.frozen_s = 0.0
        """In all, up to the last thaw."""
        self.backlog: list[Entry] = []
        self._frozen_at = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        clock.processes.append(self)

    # ── What becomes of it ───────────────────────────────────────────────────────────────────────────────────────

    def kill(self) -> None:
        self.alive = False
        self.backlog.clear()

    def freeze(self) -> None:
        if not self.frozen:
            self.frozen, self._frozen_at = True, self.clock.now

    def thaw(self) -> None:
        if self.frozen:
            self.frozen = False
            self.frozen_s += self.clock.now - self._frozen_at
            backlog, self.backlog = self.backlog, []
            for entry in backlog:
                self.clock.push(entry)

    @property
    def frozen_in_all_s(self) -> float:
        return self.frozen_s + (self.clock.now - self._frozen_at if self.frozen else 0.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """As if the code inside ran in this process."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(before)

    def step(self, entry: Entry) -> None:
        asyncio._set_running_loop(self)
        try:
            if entry.context is not None:
                entry.context.run(entry.callback, *entry.args)
            else:
                entry.callback(*entry.args)
        except Finding as finding:
            self.clock.finding = self.clock.finding or finding
        except Exception as error:
            self.clock.finding = self.clock.finding or _bug(self.name, error)
        finally:
            asyncio._set_running_loop(None)

    def end_tasks(self) -> None:
        """Close the coroutines by hand: some of them wait on while they are closed."""
        self.alive = False
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with self.running():
                    _close(task.get_coro())
        self._tasks.clear()

    # ── What asyncio asks of a loop ──────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        return self.clock.now

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        entry = Entry(self, when, callback, args)
        entry.context = context
        if self.alive:
            self.clock.push(entry)
        return entry

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Any:
        return self.call_at(self.clock.now + delay, callback, *args, context=context)

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> Any:
        return self.call_at(self.clock.now, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None) -> Any:
        task = asyncio.Task(coro, loop=self, name=name)
        self._tasks.append(task)
        if len(self._tasks) > 64:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        future.set_result(func(*args))
        return future

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Signals are sent by calling the daemon's own method."""

    def set_exception_handler(self, handler: Any) -> None:
        """A bug in a daemon is a finding, whatever the daemon would do about it."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Finding):
            self.clock.finding = self.clock.finding or error
        elif isinstance(error, Exception) and not self.clock.over and "never retrieved" not in context["message"]:
            self.clock.finding = self.clock.finding or _bug(self.name, error)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


def _bug(name: str, error: Exception) -> Finding:
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    finding = Finding(f"{name} met a bug: {error!r} at {where.filename.rpartition('/')[2]}:{where.lineno}")
    finding.__cause__ = error
    return finding


def _close(coroutine: Any) -> None:
    for _ in range(20):
        try:
            coroutine.close()
        except BaseException:
            continue
        return
