"""Time and memory of items and workers, with slots made for the test."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

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

    def outstanding(self, slot: int) -> tuple[int, ...]:
        return self.feeds.get(slot, ())

    def find_executing(self, slot: int) -> Executing | None:
        return self.at_work.get(slot)

    def find_pid(self, slot: int) -> int:
        return slot + 1

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
        self.killed.append((slot, verdict, time.monotonic()))
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
