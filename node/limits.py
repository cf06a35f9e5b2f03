"""Watches what items and workers may not exceed: time for each item, memory for each worker; and wears workers out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import structlog

from windrow.node.chunks import ChunkBook
from windrow.node.load import memory_bytes
from windrow.node.pool import WorkerPool
from windrow.node.settings import NodeSettings
from windrow.node.worker_end import over_memory, over_time

log = structlog.get_logger()

_STEP_S = 0.005
"""An item's time is over: it is looked at again no sooner than after this."""
_MEMORY_S = 0.25


class Limits:
    """`arm` when a feed is sent, `watch` often; all of it runs in the daemon's loop."""

    def __init__(
        self, settings: NodeSettings, pool: WorkerPool, book: ChunkBook, measure: Callable[[int], int] = memory_bytes
    ) -> None:
        self._memory_max = settings.worker_memory_bytes_max
        self._recycle_items = settings.recycle_items
        self._recycle_bytes = settings.recycle_bytes
        self._pool = pool
        self._book = book
        self._measure = measure
        self._timer: asyncio.TimerHandle | None = None
        self._due: float
        """Of the timer."""
        self._memory_due = 0.0

    # ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def arm(self, timeout_s: float | None) -> None:
        """A feed whose items have this limit is on its way."""
        if timeout_s is not None:
            self._look_at(_now() + timeout_s)

    def _look_at(self, due: float) -> None:
        """No item can be over its time before this: one timer for all of them."""
        if self._timer is not None and due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._on_due)

    def _on_due(self) -> None:
        self._timer = None
        now = _now()
        due = math.inf
        for slot in self._pool.slots:
            for number in self._pool.outstanding(slot):
                chunk = self._book.find_chunk(number)
                if chunk is not None and chunk.timeout_s is not None:
                    due = min(due, now + chunk.timeout_s)
            due = min(due, self._check_time(slot, now))
        if due < math.inf:
            self._look_at(max(due, now + _STEP_S))

    def _check_time(self, slot: int, now: float) -> float:
        """When the item at work in the slot is over its time; it is ended where it is."""
        executing = self._pool.find_executing(slot)
        if executing is None:
            return math.inf
        chunk = self._book.find_chunk(executing.feed)
        if chunk is None or chunk.timeout_s is None:
            return math.inf
        if now - executing.since < chunk.timeout_s:
            return executing.since + chunk.timeout_s
        log.warning(
            "an item is over its time limit; its worker is killed", action="item_timeout", slot=slot, job=chunk.job,
            item=executing.item, timeout_s=chunk.timeout_s,
        )  # fmt: skip
        self._pool.kill(slot, over_time(executing, chunk.timeout_s, now))
        return math.inf

    # ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self) -> None:
        """Look at the workers' memory, if it is time for that."""
        now = _now()
        if now < self._memory_due:
            return
        self._memory_due = now + _MEMORY_S
        self._pool.oom_kills.look(now)
        if not self._memory_max and not self._recycle_bytes:
            return
        for slot in self._pool.slots:
            pid = self._pool.find_pid(slot)
            if pid:
                self._check_memory(slot, self._measure(pid))

    def _check_memory(self, slot: int, size_bytes: int) -> None:
        executing = self._pool.find_executing(slot)
        if self._memory_max and size_bytes > self._memory_max and executing is not None:
            log.warning(
                "a worker is over its memory limit and is killed", action="worker_memory", slot=slot,
                memory_bytes=size_bytes, item=executing.item,
            )  # fmt: skip
            self._pool.kill(slot, over_memory(executing, size_bytes, self._memory_max))
        elif self._is_heavy(size_bytes) and self._pool.wear_out(slot) and not self._pool.outstanding(slot):
            self.renew(slot)

    def _is_heavy(self, size_bytes: int) -> bool:
        # What an idle worker has above the limit is no item's fault: it goes without blame.
        limits = [limit for limit in (self._memory_max, self._recycle_bytes) if limit]
        return any(size_bytes > limit for limit in limits)

    # ── Wear ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_feed_ended(self, slot: int) -> None:
        """Replace a worker that is worn out, once it has nothing left to do."""
        if self._recycle_items and self._pool.executed(slot) >= self._recycle_items:
            self._pool.wear_out(slot)
        if self._pool.is_worn(slot) and not self._pool.outstanding(slot):
            self.renew(slot)

    def renew(self, slot: int) -> None:
        """Put a fresh worker into an idle slot whose worker is worn out, unless it has recovered."""
        size_bytes = self._measure(self._pool.find_pid(slot))
        executed = self._pool.executed(slot)
        if self._is_heavy(size_bytes) or (self._recycle_items and executed >= self._recycle_items):
            log.info(
                "a worker is replaced by a fresh one", action="worker_recycled", slot=slot, items=executed,
                memory_bytes=size_bytes,
            )  # fmt: skip
            self._pool.replace(slot)
        else:
            self._pool.recover(slot)


def _now() -> float:
    # The clock by which workers note the start of an item.
    return asyncio.get_running_loop().time()
