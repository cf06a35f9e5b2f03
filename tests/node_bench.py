"""A workbench with its book and its slots as they are, workers that the test plays, and a clock that it moves."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

from tests.simulation.nodes import NoOomKills
from tests.simulation.workers import SimPage
from windrow.common.blocks import pack_block
from windrow.common.messages import Chunk, ChunkReport, ItemFailure, NumberItems, SourceError, TaskInfo, ValueRun
from windrow.common.words import FailureKind, Fence, JobId, NodeId
from windrow.node import pool
from windrow.node.settings import NodeSettings
from windrow.node.shared_page import NOBODY
from windrow.node.workbench import SPOOLED, Workbench
from windrow.node.worker_link import Feed, FeedOutcomes, Ready, Setup
from windrow.node.worker_process import Ended

TASK = "t"


def chunk(counter: int = 1, stop: int = 10, *, task: str = TASK, job: str = "j", **more: Any) -> Chunk:
    """Items [0, stop) under fence 1.counter."""
    fence, numbers = Fence(1, counter), NumberItems(0, 1)
    return Chunk("c", NodeId("n"), fence, JobId(job), task, 0, stop, numbers=numbers, **more)


class _Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class _Loop:
    """What daemon code asks of a loop when it only wants the time and to be called."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._count = itertools.count()
        self._queue: list[tuple[float, int, _Timer, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> _Timer:
        timer = _Timer()
        heapq.heappush(self._queue, (when, next(self._count), timer, callback, args))
        return timer

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> _Timer:
        return self.call_at(self.now + delay_s, callback, *args)

    def pass_s(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, timer, callback, args = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if not timer.cancelled:
                callback(*args)
        self.now = end


class PlayedWorker:
    """Stands for WorkerProcess: it gets feeds, and says and does what the test wants."""

    def __init__(
        self, slot: int, url: str, on_message: Callable[[object], None], on_end: Callable[[Ended], None]
    ) -> None:
        self.slot, self.pid = slot, slot + 1
        self.page = SimPage()
        self.feeds: list[Feed] = []
        self.killed = False
        self.closed = False
        self._loop = cast("_Loop", asyncio.get_running_loop())
        self._on_message, self._on_end = on_message, on_end
        self._next: dict[int, int] = {}

    # ── The daemon's side ────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: object) -> None:
        if isinstance(message, Feed):
            self.feeds.append(message)
            self._next[message.number] = message.start
        else:
            assert isinstance(message, Setup)

    def kill(self) -> None:
        self.killed = True
        self._loop.call_later(0.001, self.die, -9)

    def close(self) -> None:
        self.closed = True

    def retire(self, on_end: Callable[[], None]) -> None:
        self.close()

    # ── The test's side ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def cut(self) -> list[tuple[int, int, int]]:
        """What it has been given: counter of the fence, start, stop."""
        return [(feed.fence.counter, feed.start, feed.stop) for feed in self.feeds]

    def ready(self, *tasks: str, errors: tuple[SourceError, ...] = ()) -> None:
        self._on_message(Ready(tuple(TaskInfo(task) for task in tasks), errors))

    def work_at(self, feed: Feed, item: int) -> None:
        """It begins with this item now."""
        self.page.feed, self.page.item, self.page.since = feed.number, item, self._loop.time()

    def tell(
        self, feed: Feed, after: int, *, ended: bool = False, item_s: float = 0.001, busy_s: float = 0.5,
        failed: Collection[int] = (),
    ) -> None:  # fmt: skip
        """Values of all items below `after` that were not told of, but for failed ones."""
        first, self._next[feed.number] = self._next[feed.number], after
        fine = [item for item in range(first, after) if item not in failed]
        values = tuple(ValueRun(item, item + 1, pack_block([b"\x01"])) for item in fine)
        failures = tuple(ItemFailure(item, FailureKind.ERROR, "E") for item in failed)
        count = after - feed.start
        if ended:
            self.page.item = NOBODY
        ending = {"elapsed_s": count * item_s, "executed": count, "ended": True} if ended else {}
        self._on_message(FeedOutcomes(feed.number, after, values, failures, busy_s, **ending))

    def end(self, feed: Feed, after: int | None = None, *, item_s: float = 0.001) -> None:
        """It is through with the feed, or has left it before `after`."""
        self.tell(feed, feed.stop if after is None else after, ended=True, item_s=item_s)

    def die(self, code: int = -11) -> None:
        self._on_end(Ended(code, self.page.find_executing(), 5, "last words"))

    def talk_nonsense(self) -> None:
        """It is killed for that by whoever reads it."""
        self._on_end(Ended(-9, self.page.find_executing(), 5, "last words", "not msgpack"))


class NotedSpool:
    """Keeps records in memory."""

    def __init__(self) -> None:
        self.full = False
        self.kept: dict[int, ChunkReport] = {}
        self._tickets = itertools.count(1)

    @property
    def size_bytes(self) -> int:
        return 100 * len(self.kept)

    def append(self, payload: bytes) -> int:
        ticket = next(self._tickets)
        self.kept[ticket] = SPOOLED.decode(payload)
        return ticket

    def settle(self, ticket: int) -> None:
        del self.kept[ticket]


class NodeBench:
    """`bench` is the real workbench; `news` are the delays within which it wanted to report."""

    def __init__(self, slots: int, **settings: Any) -> None:
        self.loop = _Loop()
        self.workers: list[PlayedWorker] = []
        """Of each slot the one that it has now."""
        self.former: list[PlayedWorker] = []
        self.news: list[float] = []
        self.tasks_told = 0
        self.acks: list[object] = []
        self.spool = NotedSpool()
        self._slots = slots
        self._settings = NodeSettings("tcp://x:1", Path(), slots, "n", **settings)

    @contextlib.contextmanager
    def running(self) -> Iterator[NodeBench]:
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(cast("Any", self.loop))
        try:
            with (
                mock.patch.object(pool, "WorkerProcess", self._play),
                mock.patch.object(pool, "watch_own_group", NoOomKills),
            ):
                self.bench = Workbench(self._settings, cast("Any", self.spool), self.news.append, self._on_tasks)
                self.book = self.bench.book
                self.bench.pool.start()
                yield self
        finally:
            asyncio._set_running_loop(before)

    def _play(self, slot: int, *args: Any) -> PlayedWorker:
        worker = PlayedWorker(slot, *args)
        if slot < len(self.workers):
            self.former.append(self.workers[slot])
            self.workers[slot] = worker
        else:
            self.workers.append(worker)
        return worker

    def _on_tasks(self) -> None:
        self.tasks_told += 1

    def ready(self) -> None:
        for worker in self.workers:
            worker.ready(TASK)

    def pass_s(self, seconds: float) -> None:
        self.loop.pass_s(seconds)

    def take_news(self) -> list[float]:
        taken = self.news.copy()
        self.news.clear()
        return taken

    def report(self, dead: Collection[Fence] = (), *, leased: bool = True) -> tuple[ChunkReport, ...]:
        """What the next report says; it is answered at once."""
        _, chunks = self.book.begin_report()
        self.acks += self.bench.on_answered(dead, leased=leased)
        return chunks


@contextlib.contextmanager
def node_bench(slots: int = 2, **settings: Any) -> Iterator[NodeBench]:
    """With workers that are ready for TASK."""
    with NodeBench(slots, **settings).running() as made:
        made.ready()
        yield made
