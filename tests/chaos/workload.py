"""Several clients that start jobs and calls again and again, and follow what comes of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.chaos import tasks
from tests.chaos.counting import CallEnd, JobEnd
from tests.chaos.works import WORKS, Work
from windrow import Client, Future, Job, JobStatus, SchedulerUnreachable, StoreFailed

T = TypeVar("T")
CANCEL_AFTER_S = 1.5
CALL_EVERY_S = 0.1
AGAIN_S = 0.2


@dataclass(slots=True)
class Followed:
    """A job of the workload, and what came of it while the faults went on."""

    work: Work
    job_id: str
    seen: Counter[int] = field(default_factory=Counter[int])


class Workload:
    """A thread for each kind of work, and one for single calls; they share the clients in turn.

    `on_end` is given each job that has ended, in the thread of its work, and takes note of it instead of `followed`.
    """

    def __init__(
        self,
        urls: list[str],
        key: str,
        *,
        works: Sequence[Work] = WORKS,
        on_end: Callable[[Client, Followed], None] | None = None,
    ) -> None:
        self.followed: list[Followed] = []
        self._on_end = on_end
        self.failed: list[str] = []
        self._clients = [Client(url) for url in urls]
        self._key = key
        self._over = threading.Event()
        self._calls: list[tuple[int, Future[int]]] = []
        self._threads: list[threading.Thread] = []
        for number, work in enumerate(works):
            client = self._clients[number % len(urls)]
            self._threads.append(
                threading.Thread(target=self._repeat, args=(work, client), name=work.name, daemon=True)
            )
        if on_end is None:
            self._threads.append(
                threading.Thread(target=self._call, args=(self._clients[-1],), name="calls", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Work, client: Client) -> None:
        try:
            number = 0
            while not self._over.is_set():
                self._follow(work, client, self._start(work, client, f"{self._key}-{work.name}-{number}"))
                number += 1
        except Exception as error:
            self.failed.append(f"{work.name}: {type(error).__name__}: {error}")

    def _start(self, work: Work, client: Client, key: str) -> Job:
        """With a key: a start that was cut off goes on where it was."""
        return insist(lambda: client.start(work.task, work.items(), name=work.name, key=key))

    def _follow(self, work: Work, client: Client, job: Job) -> None:
        followed = Followed(work, job.id)
        if self._on_end is None:
            self.followed.append(followed)
        if work.cancelled:
            cancel = threading.Timer(CANCEL_AFTER_S, self._cancel, args=(job,))
            cancel.daemon = True
            cancel.start()
        for index, _ in job.as_completed():
            followed.seen[index] += 1
        if self._on_end is not None:
            self._on_end(client, followed)

    def _cancel(self, job: Job) -> None:
        try:
            insist(lambda: job.cancel("chaos"))
        except Exception as error:
            self.failed.append(f"cancel of {job.id}: {type(error).__name__}: {error}")

    def _call(self, client: Client) -> None:
        try:
            number = 0
            while not self._over.wait(CALL_EVERY_S):
                self._calls.append((number, client.submit(tasks.add, number, number + 1)))
                number += 1
        except Exception as error:
            self.failed.append(f"calls: {type(error).__name__}: {error}")

    def finish(self, end_at: float) -> list[str]:
        """Start nothing more, and wait for the end of all; what had not ended when the time was over."""
        self._over.set()
        for thread in self._threads:
            thread.join(max(0.0, end_at - time.monotonic()))
        late = [f"{thread.name} has not ended" for thread in self._threads if thread.is_alive()]
        futures = [future for _, future in self._calls]
        left = list(wait(futures, timeout=max(0.0, end_at - time.monotonic())).not_done)
        if left:
            late.append(f"{len(left)} of {len(futures)} calls have not ended, one of them {left[0]}")
        return late

    def calls(self) -> list[CallEnd]:
        """What came of single calls, all of which have ended."""
        return [CallEnd(future.id, number, _outcome(future)) for number, future in self._calls]

    def close(self) -> None:
        for client in self._clients:
            client.shutdown(wait=False)


def _outcome(future: Future[int]) -> Any:
    error = future.exception(timeout=0)
    return future.result(timeout=0) if error is None else error


def insist(what: Callable[[], T]) -> T:
    """Ask until there is an answer: nobody was reached, or nothing was written."""
    while True:
        try:
            return what()
        except (SchedulerUnreachable, StoreFailed):
            time.sleep(AGAIN_S)


def read_ends(client: Client, followed: list[Followed]) -> list[JobEnd]:
    """All jobs as any client can read them when all is over."""
    return [read_end(client, each) for each in followed]


def read_end(client: Client, followed: Followed) -> JobEnd:
    """A job that has ended."""
    job = client.job(followed.job_id)
    status: JobStatus = job.status()
    return JobEnd(followed.work.name, status, list(job.results(errors="return")), followed.seen)
