"""The load of a soak: jobs of every kind, single calls alone and in bursts, and exports; each outcome is checked."""

from __future__ import annotations

import csv
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos import counting
from tests.chaos.workload import Followed, Workload, insist, read_end
from tests.soak import tasks
from tests.soak.works import BY_NAME, FAILING, WORKS
from windrow import Client

PAUSE_S = 4.0
"""Between two jobs of a kind: with more than the machine can do nothing could be said of latency."""
CALL_EVERY_S = 0.05
BURST_EVERY_S = 2.0
BURST_CALLS = 100
EXPORT_EVERY_S = 10.0
EXPORT_ROWS = 5_000
LOSSES = 1_000
"""Nodes are restarted all the time: an item that was at three of them when they were lost may be given up."""


class Load:
    """At work from its beginning until `finish`; `wrong` is what was not as it must be."""

    def __init__(self, url: str, folder: Path, key: str, began_at: float) -> None:
        self.wrong: list[str] = []
        self.ended: list[tuple[float, float]] = []
        """(at_s, items that had ended)."""
        self.calls: list[tuple[float, float]] = []
        """(at_s, seconds) of single calls, one at a time."""
        self.exports = 0
        self.jobs = 0
        self._folder = folder
        self._began_at = began_at
        self._over = threading.Event()
        self._client = Client(url)
        self._jobs = Workload([url, url], key, works=WORKS, on_end=self._on_end)
        self._threads = [
            threading.Thread(target=self._guard, args=(each,), name=f"soak {each.__name__}", daemon=True)
            for each in (self._call, self._burst, self._export)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, end_at: float) -> list[str]:
        """Start nothing more, and wait for the end of all; what has not ended in time."""
        self._over.set()
        late = self._jobs.finish(end_at)
        for thread in self._threads:
            thread.join(max(0.0, end_at - time.monotonic()))
        late += [f"{thread.name} has not ended" for thread in self._threads if thread.is_alive()]
        self.wrong += self._jobs.failed
        return late

    def close(self) -> None:
        self._over.set()
        self._jobs.close()
        self._client.shutdown(wait=False)

    def _now_s(self) -> float:
        return time.monotonic() - self._began_at

    def _guard(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self.wrong.append(f"{threading.current_thread().name}: {type(error).__name__}: {error}")

    def _on_end(self, client: Client, followed: Followed) -> None:
        """Read and checked at once: ended jobs are kept for a moment only."""
        if followed.work.name == FAILING:
            job = client.job(followed.job_id)
            insist(job.retry_failed)
            insist(job.wait)
        end = insist(lambda: read_end(client, followed))
        self.wrong += counting.find_faults_of(end, None, losses=LOSSES, works=BY_NAME)
        self.ended.append((self._now_s(), len(end.outcomes)))
        self.jobs += 1
        self._over.wait(PAUSE_S)

    def _call(self) -> None:
        number = 0
        while not self._over.wait(CALL_EVERY_S):
            began_s = self._now_s()
            value = self._client.submit(tasks.double.options(priority=9), number).result()
            self.calls.append((began_s, self._now_s() - began_s))
            self._check("call", [(2 * number, value)])
            number += 1

    def _burst(self) -> None:
        """Futures, and calls that are only found again by their ids."""
        number = 0
        while not self._over.wait(BURST_EVERY_S):
            numbers = range(number, number + BURST_CALLS)
            futures = [self._client.submit(tasks.double.options(priority=x % 3), x) for x in numbers]
            ids = [insist(lambda x=x: self._client.enqueue(tasks.double, x)) for x in numbers[:5]]
            self._check("burst", [(2 * x, future.result()) for x, future in zip(numbers, futures, strict=True)])
            found = [insist(lambda at=at: self._client.future(at).result()) for at in ids]
            self._check("enqueued", [(2 * x, value) for x, value in zip(numbers[:5], found, strict=True)])
            number += BURST_CALLS

    def _check(self, what: str, pairs: Sequence[tuple[object, object]]) -> None:
        self.wrong += [f"{what}: {value!r:.80} instead of {wanted!r}" for wanted, value in pairs if wanted != value]
        self.ended.append((self._now_s(), len(pairs)))

    def _export(self) -> None:
        """The same table again and again: the same bytes each time."""
        source, dest = self._folder / "source.csv", self._folder / "out.csv"
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([("no", "text"), *((x, f"row {x}") for x in range(EXPORT_ROWS))])
        first = ""
        while not self._over.wait(EXPORT_EVERY_S):
            run = insist(lambda: self._client.export(source, dest, force=True))
            summary = insist(run.wait)
            digest = hashlib.sha256(dest.read_bytes()).hexdigest()
            if summary.rows != EXPORT_ROWS or digest != (first or digest):
                self.wrong.append(f"export {self.exports}: {summary.rows} rows, SHA-256 {digest}, not {first}")
            first = first or digest
            self.exports += 1
