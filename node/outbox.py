"""A worker's outcomes on their way to the daemon, in batches bounded by size and age."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from windrow.common.blocks import pack_block
from windrow.common.messages import ItemFailure, ValueRun
from windrow.node.worker_link import FeedOutcomes

BATCH_BYTES = 256 << 10
BATCH_AGE_S = 0.05
_BATCH_PARTS_MAX = 256
"""Runs and failures in one batch."""
_IDLE_ROUNDS = 20
"""After so many rounds with nothing to send the flusher sleeps until the next feed."""


class Outbox:
    """Filled by the main thread; a second thread sends what has grown old while an item is long at work.

    The main thread appends encoded values to `entries` and adds to `busy_s` without the lock: both are single steps
    under the interpreter's own lock, and the flusher only takes entries away from the front.
    """

    def __init__(self, send: Callable[[object], None]) -> None:
        self.entries: list[bytes] = []
        self.busy_s = 0.0
        self.sent_at: float
        """When the last batch left, or the feed began."""
        self._send = send
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._feed: int
        self._first: int
        self._next: int
        self._told_busy_s = 0.0
        self._runs: list[ValueRun] = []
        self._failures: list[ItemFailure] = []
        self._failure_bytes = 0
        self._active = False

    def start(self) -> None:
        """Start the flusher."""
        threading.Thread(target=self._flush_old, name="windrow-flusher", daemon=True).start()

    def begin(self, feed: int, first: int) -> None:
        """The next outcomes belong to this feed."""
        with self._lock:
            self._feed, self._first, self._next = feed, first, first
            self.sent_at = time.monotonic()
            self._active = True
        if not self._awake.is_set():
            self._awake.set()

    def fail(self, failure: ItemFailure) -> None:
        """The item after the last entry has failed."""
        with self._lock:
            self._close_run()
            self._failures.append(failure)
            self._next = failure.item + 1
            self._failure_bytes += len(failure.message) + len(failure.traceback) + len(failure.log)
            full = len(self._runs) + len(self._failures) >= _BATCH_PARTS_MAX or self._failure_bytes > BATCH_BYTES
        if full:
            self.flush()

    def catch_up(self) -> int:
        """The index of the first item that has no outcome yet."""
        with self._lock:
            self._close_run()
            return self._next

    def flush(self) -> None:
        """Send what there is."""
        with self._lock:
            self._close_run()
            if self._runs or self._failures:
                self._send_batch(FeedOutcomes(self._feed, self._next, *self._take()))

    def end(self, after: int, elapsed_s: float) -> None:
        """Send what there is, and that the feed has ended before item `after`."""
        with self._lock:
            self._close_run()
            self._active = False
            values, failures, busy_s = self._take()
            executed = after - self._first
            self._send_batch(FeedOutcomes(self._feed, after, values, failures, busy_s, elapsed_s, executed, ended=True))

    def _close_run(self) -> None:
        count = len(self.entries)
        if count:
            taken = self.entries[:count]
            del self.entries[:count]
            self._runs.append(ValueRun(self._next, self._next + count, pack_block(taken)))
            self._next += count

    def _take(self) -> tuple[tuple[ValueRun, ...], tuple[ItemFailure, ...], float]:
        busy_s = self.busy_s
        taken = (tuple(self._runs), tuple(self._failures), max(0.0, busy_s - self._told_busy_s))
        self._told_busy_s = busy_s
        self._runs.clear()
        self._failures.clear()
        self._failure_bytes = 0
        return taken

    def _send_batch(self, batch: FeedOutcomes) -> None:
        self._send(batch)
        self.sent_at = time.monotonic()

    def _flush_old(self) -> None:
        idle = 0
        try:
            while True:
                time.sleep(BATCH_AGE_S)
                idle = 0 if self._active else idle + 1
                if self._active and time.monotonic() - self.sent_at >= BATCH_AGE_S:
                    self.flush()
                elif idle > _IDLE_ROUNDS:
                    self._awake.clear()
                    # A feed that began just now has set the flag before it was cleared: look again.
                    if not self._active:
                        self._awake.wait()
                    idle = 0
        except OSError:
            return  # The daemon has gone; the main thread meets the same.
