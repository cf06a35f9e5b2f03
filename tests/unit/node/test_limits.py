"""Time and memory of items and workers, with slots made for the test."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.simulation.clock import Clock, Process
from tests.waiting import until
from windrow.common.messages import Chunk, NumberItems
from windrow.common.words import FailureKind, Fence, JobId, NodeId
from windrow.node.limits import Limits
from windrow.node.oom import OomKills
from windrow.node.pool import WorkerPool
from windrow.node.settings import NodeSettings
from windrow.node.shared_page import Executing
from windrow.node.worker_end import Verdict

CHUNK = Chunk("c", NodeId("n"), Fence(1, 1), JobId("j"), "t", 0, 10, numbers=NumberItems(0, 1 << 40))
SETTINGS = NodeSettings("tcp://x:1", Path(), 2, "n")


class Slots:
    """Stands for the pool; a worker's pid is its slot's number + 1."""

    def __init__(self) -> None:
        self.slots = range(2)
        self.oom_kills = OomKills(None)
        self.at_work: dict[int, Executing] = {}
        self.feeds: dict[int, tuple[int, ...]] = {}
        self.items = {0: 0, 1: 0}
        self.fresh: set[int] = set()
        self.worn: set[int] = set()
        self.killed: list[tuple[int, Verdict, float]] = []
        self.replaced: list[int] = []
        self.starting: set[int] = set()
        self.looks = 0

    def outstanding(self, slot: int) -> tuple[int, ...]:
        return self.feeds.get(slot, ())

    def find_executing(self, slot: int) -> Executing | None:
        self.looks += 1
        return self.at_work.get(slot)

    def find_pid(self, slot: int) -> int:
        return 0 if slot in self.starting else slot + 1

    def executed(self, slot: int) -> int:
        return self.items[slot]

    def wear_out(self, slot: int) -> bool:
        if slot in self.fresh:
            return False
        self.worn.add(slot)
        return True

    def is_worn(self, slot: int) -> bool:
        return slot in self.worn

    def recover(self, slot: int) -> None:
        self.worn.discard(slot)

    def replace(self, slot: int) -> None:
        self.replaced.append(slot)
        self.worn.discard(slot)

    def kill(self, slot: int, verdict: Verdict) -> None:
        self.killed.append((slot, verdict, asyncio.get_running_loop().time()))
        self.at_work.pop(slot, None)
        self.feeds.pop(slot, None)


class Book:
    def __init__(self, chunks: dict[int, Chunk]) -> None:
        self.find_chunk = chunks.get


def make(slots: Slots, chunks: dict[int, Chunk], sizes: dict[int, int] | None = None, **settings: Any) -> Limits:
    found = dataclasses.replace(SETTINGS, **settings)
    return Limits(found, cast("WorkerPool", slots), cast("Any", Book(chunks)), (sizes or {}).__getitem__)


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", body()))


class Daemon:
    """A loop in virtual time, and slots in it."""

    def __init__(self, chunks: dict[int, Chunk], sizes: dict[int, int] | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.process = Process(self.clock, "daemon")
        self.slots = Slots()
        self.limits = make(self.slots, chunks, sizes, **settings)

    def run(self, until_s: float, *steps: tuple[float, Callable[[], object]]) -> list[tuple[int, int, float]]:
        """What is killed (slot, item, when) where this is done at these instants."""
        for when_s, do in steps:
            self.process.call_at(when_s, do)
        self.clock.run(lambda: False, until_s)
        return [(slot, verdict.item, round(when_s, 2)) for slot, verdict, when_s in self.slots.killed]

    def watch(self, at_s: float = 0.0) -> None:
        self.clock.now = at_s
        with self.process.running():
            self.limits.watch()

    def starts(self, slot: int, feed: int, item: int) -> Callable[[], None]:
        def start() -> None:
            self.slots.at_work[slot] = Executing(feed, item, self.clock.now)

        return start


def limited(timeout_s: float) -> Chunk:
    return dataclasses.replace(CHUNK, timeout_s=timeout_s)


def test_an_item_that_starts_late_has_its_whole_time() -> None:
    daemon = Daemon({1: limited(10.0)})
    daemon.slots.feeds = {0: (1,)}
    killed = daemon.run(100, (0, lambda: daemon.limits.arm(10.0)), (12, daemon.starts(0, 1, 3)))
    assert killed == [(0, 3, 22.0)]


def test_a_longer_limit_that_comes_later_puts_no_shorter_one_off() -> None:
    daemon = Daemon({1: limited(10.0), 2: limited(600.0)})
    daemon.slots.feeds = {0: (1,), 1: (2,)}
    killed = daemon.run(
        1000, (0, daemon.starts(0, 1, 3)), (0, daemon.starts(1, 2, 4)),
        (0, lambda: daemon.limits.arm(10.0)), (0, lambda: daemon.limits.arm(600.0)),
    )  # fmt: skip
    assert killed == [(0, 3, 10.0), (1, 4, 600.0)]


def test_slots_are_looked_at_when_a_time_may_be_over_and_not_all_the_while() -> None:
    """However often a limit was set: all of them have one timer."""
    daemon = Daemon({1: limited(10.0), 2: CHUNK})
    daemon.slots.feeds = {0: (1,), 1: (2,)}
    arms = [(0.0, lambda limit=limit: daemon.limits.arm(limit)) for limit in (30.0, 20.0, 10.0, 10.0)]
    items = [(float(second), daemon.starts(0, 1, second)) for second in range(0, 1000, 8)]
    over = [(1000.0, lambda: daemon.slots.feeds.clear()), (1000.0, lambda: daemon.slots.at_work.clear())]
    assert daemon.run(5000, *arms, *items, *over) == []
    assert daemon.slots.looks < 1.5 * 1000 / 8 * len(daemon.slots.slots)


def test_a_feed_that_is_sent_costs_no_look_at_the_slots() -> None:
    daemon = Daemon({1: limited(10.0)})
    daemon.slots.feeds = {0: (1,)}
    daemon.run(9, *((each / 100, lambda: daemon.limits.arm(10.0)) for each in range(100)))
    assert daemon.slots.looks == 0


def test_an_item_that_is_over_its_time_is_told_of_and_others_without_a_limit_are_let_be() -> None:
    daemon = Daemon({1: limited(10.0), 2: CHUNK})
    daemon.slots.feeds = {0: (1,), 1: (2,)}
    with capture_logs() as logs:
        killed = daemon.run(
            1000, (0, daemon.starts(0, 1, 3)), (0, daemon.starts(1, 2, 4)), (0, lambda: daemon.limits.arm(10.0))
        )
    assert killed == [(0, 3, 10.0)]
    assert [(entry["action"], entry["item"]) for entry in logs] == [("item_timeout", 3)]


def test_a_feed_that_the_book_has_forgotten_is_in_nobodys_way() -> None:
    daemon = Daemon({1: limited(10.0)})
    daemon.slots.feeds = {0: (7,), 1: (1,)}
    killed = daemon.run(
        1000, (0, daemon.starts(0, 7, 3)), (0, daemon.starts(1, 1, 4)), (0, lambda: daemon.limits.arm(10.0))
    )
    assert killed == [(1, 4, 10.0)]


def test_memory_is_measured_a_few_times_a_second_where_there_is_a_limit_and_of_workers_that_are_ready() -> None:
    class Sizes(dict[int, int]):
        asked = 0

        def __getitem__(self, pid: int) -> int:
            self.asked += 1
            return super().__getitem__(pid)

    sizes = Sizes({1: 1, 2: 1})
    daemon = Daemon({}, sizes, recycle_bytes=150)
    for tenth in range(1, 101):
        daemon.watch(tenth / 10)
    assert 60 <= sizes.asked <= 80, "of two workers"
    daemon.slots.starting = {0, 1}
    daemon.watch(20)
    assert sizes.asked <= 80
    Daemon({}, {}).watch()


def test_the_kernels_count_of_kills_is_followed_without_a_limit_too() -> None:
    class Kills:
        looked: list[float] = []  # noqa: RUF012

        def look(self, now: float) -> None:
            self.looked.append(now)

    daemon = Daemon({})
    daemon.slots.oom_kills = cast("OomKills", Kills())
    daemon.watch(5.0)
    assert Kills.looked == [5.0]


def test_a_worker_with_as_much_as_it_may_have_is_let_be() -> None:
    daemon = Daemon({1: CHUNK}, {1: 150, 2: 100}, worker_memory_bytes_max=150, recycle_bytes=150)
    daemon.slots.at_work = {0: Executing(1, 3, 0.0)}
    daemon.slots.feeds = {0: (1,)}
    daemon.watch()
    assert (daemon.slots.killed, daemon.slots.worn, daemon.slots.replaced) == ([], set(), [])


def test_without_a_limit_of_memory_no_item_is_killed_for_what_its_worker_has() -> None:
    daemon = Daemon({1: CHUNK}, {1: 200, 2: 100}, recycle_bytes=150)
    daemon.slots.at_work = {0: Executing(1, 3, 0.0)}
    daemon.slots.feeds = {0: (1,)}
    daemon.watch()
    assert (daemon.slots.killed, daemon.slots.worn) == ([], {0})


def test_what_a_worker_is_killed_or_replaced_for_is_told() -> None:
    daemon = Daemon({1: CHUNK}, {1: 300, 2: 180}, worker_memory_bytes_max=200, recycle_bytes=150)
    daemon.slots.at_work = {0: Executing(1, 3, 0.0)}
    daemon.slots.feeds = {0: (1,)}
    with capture_logs() as logs:
        daemon.watch()
    assert [(entry["action"], entry["slot"], entry["memory_bytes"]) for entry in logs] == [
        ("worker_memory", 0, 300),
        ("worker_recycled", 1, 180),
    ]
    assert daemon.slots.replaced == [1], "the lower of the two limits counts"


def test_without_limits_a_worker_goes_on_and_is_not_measured() -> None:
    daemon = Daemon({})
    daemon.slots.items = {0: 0, 1: 10**9}
    daemon.slots.feeds = {0: (1,)}
    for slot in (0, 1):
        daemon.limits.on_feed_ended(slot)
    assert (daemon.slots.worn, daemon.slots.replaced) == (set(), [])


def test_a_worker_that_has_executed_little_goes_on_and_so_does_one_whose_memory_has_shrunk() -> None:
    daemon = Daemon({}, {1: 1, 2: 200}, recycle_items=100, recycle_bytes=150)
    daemon.slots.items = {0: 99, 1: 99}
    daemon.slots.feeds = {0: (1, 2), 1: (3,)}
    daemon.watch()
    daemon.limits.on_feed_ended(0)
    assert daemon.slots.worn == {1}
    daemon.slots.feeds = {}
    daemon.limits = make(daemon.slots, {}, {1: 1, 2: 1}, recycle_items=100, recycle_bytes=150)
    daemon.limits.on_feed_ended(1)
    assert (daemon.slots.worn, daemon.slots.replaced) == (set(), [])


def test_an_item_is_killed_just_after_its_time_and_its_neighbour_goes_on() -> None:
    async def body() -> None:
        slots = Slots()
        limits = make(slots, {1: dataclasses.replace(CHUNK, timeout_s=0.2), 2: CHUNK})
        slots.feeds = {0: (1,), 1: (2,)}
        limits.arm(0.2)
        limits.arm(None)
        since = time.monotonic()
        slots.at_work = {0: Executing(1, 3, since), 1: Executing(2, 8, since - 1000)}
        await until(lambda: slots.killed, 5, "a kill")
        ((slot, verdict, at),) = slots.killed
        assert (slot, verdict.item, verdict.kind) == (0, 3, FailureKind.TIMEOUT)
        assert 0.2 <= at - since < 0.25

    run(body)


def test_each_item_of_a_feed_has_its_own_time() -> None:
    async def body() -> None:
        slots = Slots()
        limits = make(slots, {1: dataclasses.replace(CHUNK, timeout_s=0.1)})
        slots.feeds = {0: (1,)}
        limits.arm(0.1)
        since = time.monotonic()
        while time.monotonic() - since < 0.3:
            slots.at_work = {0: Executing(1, 3, time.monotonic())}
            await asyncio.sleep(0.01)
        assert not slots.killed
        await until(lambda: slots.killed, 5, "a kill of the item that stays")

    run(body)


def test_a_shorter_limit_that_comes_later_is_heeded_first() -> None:
    async def body() -> None:
        slots = Slots()
        limits = make(
            slots, {1: dataclasses.replace(CHUNK, timeout_s=600.0), 2: dataclasses.replace(CHUNK, timeout_s=0.1)}
        )
        slots.feeds = {0: (1,)}
        limits.arm(600.0)
        slots.feeds[1] = (2,)
        limits.arm(0.1)
        now = time.monotonic()
        slots.at_work = {0: Executing(1, 3, now), 1: Executing(2, 4, now)}
        await until(lambda: slots.killed, 5, "a kill")
        assert slots.killed[0][0] == 1

    run(body)


def test_memory_over_the_limit_kills_for_the_item_at_work() -> None:
    async def body() -> None:
        slots = Slots()
        limits = make(slots, {1: CHUNK}, {1: 200, 2: 100}, worker_memory_bytes_max=150)
        slots.at_work = {0: Executing(1, 3, 0.0), 1: Executing(1, 4, 0.0)}
        slots.feeds = {0: (1,), 1: (1,)}
        limits.watch()
        assert [(slot, verdict.item, verdict.kind) for slot, verdict, _ in slots.killed] == [(0, 3, FailureKind.CRASH)]

    run(body)


@pytest.mark.parametrize("setting", ["worker_memory_bytes_max", "recycle_bytes"])
def test_an_idle_worker_that_keeps_too_much_is_replaced_without_blame_but_not_a_fresh_one(setting: str) -> None:
    async def body() -> None:
        slots = Slots()
        slots.fresh = {1}
        make(slots, {}, {1: 200, 2: 200}, **{setting: 150}).watch()
        assert (slots.replaced, slots.killed) == ([0], [])

    run(body)


def test_a_heavy_worker_at_work_is_replaced_after_its_feeds_unless_it_has_recovered() -> None:
    async def body() -> None:
        slots, sizes = Slots(), {1: 200, 2: 200}
        limits = make(slots, {1: CHUNK}, sizes, recycle_bytes=150)
        slots.feeds = {0: (1, 2), 1: (3,)}
        limits.watch()
        assert slots.worn == {0, 1}
        slots.feeds = {0: (2,)}
        sizes[2] = 100
        limits.on_feed_ended(0)
        limits.on_feed_ended(1)
        assert (slots.replaced, slots.worn) == ([], {0})
        slots.feeds = {}
        limits.on_feed_ended(0)
        assert slots.replaced == [0]

    run(body)


def test_a_worker_that_has_executed_enough_is_replaced_when_it_has_nothing_left() -> None:
    async def body() -> None:
        slots = Slots()
        limits = make(slots, {}, {1: 1, 2: 1}, recycle_items=100)
        slots.items = {0: 99, 1: 100}
        slots.feeds = {1: (7,)}
        limits.on_feed_ended(0)
        limits.on_feed_ended(1)
        assert (slots.replaced, slots.worn) == ([], {1})
        slots.feeds = {}
        limits.on_feed_ended(1)
        assert slots.replaced == [1]

    run(body)
