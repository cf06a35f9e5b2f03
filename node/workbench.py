"""Where chunks become outcomes on this node: joins the book of chunks, the slots, the feeding and the spool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

import structlog

from windrow.common.codec import MessageSet
from windrow.common.messages import Chunk, ChunkReport, SourceError, TaskInfo
from windrow.common.words import Fence
from windrow.node.chunks import Answered, Batch, ChunkBook, Taken
from windrow.node.feeding import FeedOrder, Pace, SlotView, plan_feeds
from windrow.node.limits import Limits
from windrow.node.pool import WorkerPool
from windrow.node.settings import NodeSettings
from windrow.node.shared_page import SETTLE_S, Executing
from windrow.node.spool import Spool
from windrow.node.worker_end import WorkerEnd, find_failure
from windrow.node.worker_link import FeedOutcomes, Ready, Setup

log = structlog.get_logger()

SPOOLED = MessageSet[ChunkReport](ChunkReport)
"""The spool's records."""

NEWS_NOW_S = 0.0
NEWS_LEASE_S = 0.01
"""A new chunk waits this long for outcomes that could ride in the same report."""
NEWS_MORE_S = 0.25
"""Outcomes of a chunk that goes on wait this long for more: each report costs a commit, and frees no room."""
_STALL_S = 0.25
"""An item at work for so long does not keep those behind it from idle slots."""
WATCH_S = 0.1
"""How often to look for that."""


class Workbench:
    """`on_news(delay_s)` is told that a report is due by then; `on_tasks` that the node offers other tasks."""

    def __init__(
        self, settings: NodeSettings, spool: Spool, on_news: Callable[[float], None], on_tasks: Callable[[], None]
    ) -> None:
        self.book = ChunkBook()
        self.tasks: tuple[TaskInfo, ...] = ()
        self.errors: tuple[SourceError, ...] = ()
        self.loaded = False
        """Whether a worker has told what there is."""
        self.pool = WorkerPool(
            settings.slots, settings.url, Setup(settings.tasks, settings.allow, settings.allow_commands), self
        )
        self.limits = Limits(settings, self.pool, self.book)
        self._feed_s = settings.feed_s
        self._cancel_grace_s = settings.cancel_grace_s
        self._spool = spool
        self._on_news = on_news
        self._on_tasks = on_tasks
        self._names: frozenset[str] = frozenset()
        self._pace = Pace(settings.recycle_items)
        self._stalled_spool = False

    # ── Chunks come and go ───────────────────────────────────────────────────────────────────────────────────────

    def take(self, chunk: Chunk, tag: object | None = None, *, lease_first: bool = False) -> Taken:
        """A chunk has come; it starts at once, or after its lease is durable."""
        runnable = chunk.task in self._names
        lease_first = lease_first or chunk.lease_first
        taken = self.book.take(chunk, tag, lease_first=lease_first, runnable=runnable)
        if taken is Taken.NEW:
            if not runnable:
                log.warning(
                    "a chunk for a task that this node does not have is given back",
                    action="chunk_released", task=chunk.task, job=chunk.job, fence=str(chunk.fence),
                )  # fmt: skip
            at_once = lease_first or not runnable or self.book.draining
            self._on_news(NEWS_NOW_S if at_once else NEWS_LEASE_S)
            self.feed()
        elif taken is Taken.REFUSED:
            log.error("more chunks than a node may hold; this one is left", action="chunk_refused", job=chunk.job)
        return taken

    def drain(self) -> None:
        """Finish the items at work, give back the rest, take nothing."""
        if self.book.draining:
            return
        self.book.drain()
        for slot in self.pool.slots:
            self._take_back(slot)
        self._on_news(NEWS_NOW_S)

    def resume(self) -> None:
        self.book.resume()

    def give_up(self, fences: Collection[Fence]) -> None:
        """Give back what has not started of these, also what waits in a slot behind the item at work."""
        for fence in fences:
            self.book.give_up(fence)
        for slot in self.pool.slots:
            if any(self.book.find_fence(number) in fences for number in self.pool.outstanding(slot)):
                self._take_back(slot)
        if fences:
            self._on_news(NEWS_NOW_S)

    def kill(self, fences: Collection[Fence]) -> list[object]:
        """These fences are dead; the delivery tags to acknowledge."""
        acks: list[object] = []
        for fence in fences:
            killed = self.book.kill(fence)
            acks += killed.acks
            self._follow(killed)
        return acks

    def on_answered(self, dead: Collection[Fence], *, leased: bool) -> list[object]:
        """The report under way was answered; the delivery tags to acknowledge."""
        answered = self.book.on_answered(dead, leased=leased)
        self._follow(answered)
        self.feed()
        return answered.acks

    def _follow(self, answered: Answered) -> None:
        for ticket in answered.tickets:
            self._spool.settle(ticket)
        for number in answered.stop:
            self.pool.cancel(number)
            self.pool.stop_through(number)
            asyncio.get_running_loop().call_later(self._cancel_grace_s, self._kill_dead, number)
        if answered.stop:
            self._on_news(NEWS_NOW_S)

    def _kill_dead(self, number: int) -> None:
        for slot, executing in self.pool.busy():
            if executing.feed == number and self.book.is_dead_feed(number):
                log.warning("an item of a dead chunk does not end; its worker is killed", action="worker_killed")
                self.pool.kill(slot)

    # ── Feeding ──────────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self) -> None:
        """Give slots what they can take now."""
        if self._spool.full:
            if not self._stalled_spool:
                log.warning(
                    "the spool is full: nothing new is started until the scheduler takes outcomes",
                    action="spool_full", spool_bytes=self._spool.size_bytes,
                )  # fmt: skip
            self._stalled_spool = True
            return
        self._stalled_spool = False
        if not self.book.has_ready:
            return
        # Workers need not have the same tasks: files change, and an import may fail in one of them.
        alike: dict[frozenset[str], list[SlotView]] = {}
        for view in self.pool.views():
            alike.setdefault(self.pool.tasks_of(view.number), []).append(view)
        for tasks, views in alike.items():
            self._feed_slots(views, tasks)

    def _feed_slots(self, views: list[SlotView], tasks: frozenset[str]) -> None:
        starting = self.pool.starting
        for order in plan_feeds(views, self.book.ready(tasks), self._pace, self._feed_s, starting=starting):
            if isinstance(order, FeedOrder):
                # A chunk in several pieces may give fewer items than were ordered; the rest goes the next time.
                feed = self.book.cut_feed(order.fence, order.count)
                self.pool.send(order.slot, feed)
                self.limits.arm(feed.timeout_s)
            else:
                self.pool.replace(order.slot)

    def watch(self) -> None:
        """Look at the workers' memory, and take items that wait behind a long one to slots that idle."""
        self.limits.watch()
        views = self.pool.views()
        now = asyncio.get_running_loop().time()
        if all(view.outstanding for view in views):
            return
        for slot, executing in self.pool.busy():
            if now - executing.since > _STALL_S and self._has_waiting(slot, executing.feed, executing.item):
                self._take_back(slot)

    def _has_waiting(self, slot: int, feed: int, item: int) -> bool:
        for number in self.pool.outstanding(slot):
            part = self.book.get_feed_range(number)
            if part.stop > item + 1 if number == feed else part.length > 0:
                return True
        return False

    def _take_back(self, slot: int) -> None:
        """Have the slot stop after its current item; what it has not started comes back at once, not after it."""
        feeds = self.pool.outstanding(slot)
        if feeds:
            self.pool.stop_through(max(feeds))
            asyncio.get_running_loop().call_later(SETTLE_S, partial(self._take_back_settled, slot, feeds))

    def _take_back_settled(self, slot: int, feeds: tuple[int, ...]) -> None:
        executing = self.pool.find_executing(slot)
        if executing is None:
            return  # It has got to the stop word and says itself where it stopped.
        for number in feeds:
            part = self.book.find_feed_range(number)
            if part is not None and number >= executing.feed:
                self.book.take_back(number, executing.item + 1 if number == executing.feed else part.start)
        if self.book.unreported:
            self._on_news(NEWS_NOW_S)
        self.feed()

    # ── What the pool tells ──────────────────────────────────────────────────────────────────────────────────────

    def on_ready(self, ready: Ready) -> None:
        if (ready.tasks, ready.errors) != (self.tasks, self.errors) or not self.loaded:
            self.tasks, self.errors = ready.tasks, ready.errors
            self._names = frozenset(task.name for task in ready.tasks)
            self.loaded = True
            for error in ready.errors:
                log.error(f"{error.source}: {error.error}", action="source_failed", source=error.source)
            self._on_tasks()
        if self.book.release_others(frozenset[str]().union(*map(self.pool.tasks_of, self.pool.slots))):
            log.warning("chunks of tasks that no worker has any more are given back", action="chunks_released")
            self._on_news(NEWS_NOW_S)
        self.feed()

    def on_outcomes(self, slot: int, outcomes: FeedOutcomes) -> None:
        number = outcomes.feed
        chunk = self.book.get_chunk(number)
        if outcomes.values or outcomes.failures:
            busy_s = max(0.0, outcomes.busy_s)
            self._keep(ChunkReport(chunk.fence, chunk.job, outcomes.values, outcomes.failures, busy_s=busy_s))
        self.book.on_feed_told(number, outcomes.next)
        if outcomes.ended:
            self._pace.measured(chunk.job, outcomes.executed, outcomes.elapsed_s)
            self.book.on_feed_ended(number)
            if chunk.alone:
                self.pool.replace(slot)
            else:
                self.limits.on_feed_ended(slot)
            self.feed()
        # Of items that may not run twice, what has run is told at once.
        more = self.book.goes_on(chunk.fence) and not chunk.lease_first
        self._on_news(NEWS_MORE_S if more else NEWS_NOW_S)

    def on_worker_end(self, end: WorkerEnd) -> None:
        if not end.wanted and not self.loaded:
            self.errors = (SourceError("--tasks", f"the worker {end.how} while it imported the tasks"),)
            self._on_tasks()
        ends = [replace(end, executing=self._find_untold(end.feeds)), end] if end.nonsense else [end]
        for number in end.feeds:
            for each in ends:
                self._blame(number, each)
            self.book.on_feed_ended(number)
        if end.feeds:
            self._on_news(NEWS_NOW_S)
        self.feed()

    def _find_untold(self, feeds: Sequence[int]) -> Executing | None:
        """The first item that a worker has not told of: what it sent about that was not understood."""
        parts = ((number, self.book.get_feed_range(number)) for number in feeds)
        return next((Executing(number, part.start, 0.0) for number, part in parts if part.length), None)

    def _blame(self, number: int, end: WorkerEnd) -> None:
        chunk = self.book.get_chunk(number)
        failure = find_failure(end, number, alone=chunk.alone, once=chunk.lease_first)
        if failure is None or self.book.find_blamed(number, failure.item) is None:
            return
        self._keep(ChunkReport(chunk.fence, chunk.job, failures=(failure,)))
        self.book.on_feed_told(number, failure.item + 1)

    def _keep(self, report: ChunkReport) -> None:
        record = SPOOLED.encode(report)
        ticket = self._spool.append(record)
        self.book.on_batch(report.fence, Batch(report.values, report.failures, report.busy_s, len(record), ticket))
