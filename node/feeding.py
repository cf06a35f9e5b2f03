"""Decides which feed goes to which slot; pure.

A feed is about `feed_s` of measured work. A slot gets a second one ahead only where items are so short that it would
idle between two; long items are never put in line behind one another. While nothing is measured a feed is one item,
and it grows by at most GROWTH from one to the next.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from windrow.common.words import Fence, JobId

GROWTH = 16
_WEIGHT = 0.5
"""Of the newest measurement in the mean."""
_JOBS_MAX = 256
_FEED_ITEMS_MAX = 100_000
_SHARE_S = 0.002
"""Work smaller than this is not split between idle slots: handing it over would cost more."""
_ITEM_S_MIN = 1e-7


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot that takes feeds now."""

    number: int
    outstanding: int
    """Feeds that it has not ended."""
    fresh: bool
    """Its worker has not been given anything yet."""


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A chunk that may be fed from, in order of arrival."""

    fence: Fence
    job: JobId
    unfed: int
    alone: bool


@dataclass(frozen=True, slots=True)
class FeedOrder:
    """Give this slot the next `count` items of the chunk."""

    slot: int
    fence: Fence
    count: int


@dataclass(frozen=True, slots=True)
class ReplaceOrder:
    """Put a fresh worker into this idle slot: a suspect item waits for one."""

    slot: int


class Pace:
    """Seconds an item takes, by job, as measured here; the jobs longest unseen are forgotten."""

    def __init__(self, feed_items_max: int = 0) -> None:
        """`feed_items_max`: of a feed, whatever they take; 0 for as many as are thought right."""
        self._feed_items_max = min(feed_items_max or _FEED_ITEMS_MAX, _FEED_ITEMS_MAX)
        self._jobs: OrderedDict[JobId, tuple[float, int]] = OrderedDict()

    def measured(self, job: JobId, items: int, elapsed_s: float) -> None:
        """A feed of so many items took so long."""
        if items < 1:
            return
        item_s = max(elapsed_s / items, _ITEM_S_MIN)
        mean_s, most = self._jobs.pop(job, (item_s, items))
        self._jobs[job] = (mean_s + _WEIGHT * (item_s - mean_s), max(items, most))
        if len(self._jobs) > _JOBS_MAX:
            self._jobs.popitem(last=False)

    def find_item_s(self, job: JobId) -> float | None:
        known = self._jobs.get(job)
        return None if known is None else known[0]

    def items_for(self, job: JobId, feed_s: float) -> int:
        """How many items make a feed."""
        known = self._jobs.get(job)
        if known is None:
            return 1
        item_s, most = known
        return max(1, min(int(feed_s / item_s), GROWTH * most, self._feed_items_max))


def plan_feeds(
    slots: Sequence[SlotView], chunks: Iterable[ChunkView], pace: Pace, feed_s: float, *, starting: int = 0
) -> list[FeedOrder | ReplaceOrder]:
    """What to do now. Idle slots come first, then those that would soon idle; chunks in order of arrival.

    `starting`: workers on their way, each of them fresh. A suspect item that no fresh one can take yet waits for one of
    these, or each slot that idles meanwhile would be replaced for the same item.
    """
    orders: list[FeedOrder | ReplaceOrder] = []
    idle = [slot for slot in slots if slot.outstanding == 0]
    ahead = [slot for slot in slots if slot.outstanding == 1]
    reserved_max = max(1, (len(slots) + starting) // 2)
    reserved = 0
    for chunk in chunks:
        if not idle and not ahead:
            break
        if chunk.alone:
            if reserved < reserved_max:
                reserved += 1
                if _serve_alone(chunk, idle, ahead, orders, starting=starting > 0):
                    starting -= 1
            continue
        left = chunk.unfed
        while left and idle:
            count = min(left, _share(chunk, left, len(idle), pace, feed_s))
            orders.append(FeedOrder(idle.pop(0).number, chunk.fence, count))
            left -= count
        item_s = pace.find_item_s(chunk.job)
        if item_s is None or item_s > feed_s / 2:
            continue
        while left and ahead:
            count = min(left, pace.items_for(chunk.job, feed_s))
            orders.append(FeedOrder(ahead.pop(0).number, chunk.fence, count))
            left -= count
    return orders


def _serve_alone(
    chunk: ChunkView,
    idle: list[SlotView],
    ahead: list[SlotView],
    orders: list[FeedOrder | ReplaceOrder],
    *,
    starting: bool,
) -> bool:
    """Give a suspect item a fresh worker, or keep work from one slot until it is idle and can be replaced. Whether it
    waits for a worker that is starting."""
    fresh = next((slot for slot in idle if slot.fresh), None)
    if fresh is not None:
        idle.remove(fresh)
        orders.append(FeedOrder(fresh.number, chunk.fence, 1))
    elif starting:
        return True
    elif idle:
        orders.append(ReplaceOrder(idle.pop(0).number))
    else:
        ahead.pop(0)
    return False


def _share(chunk: ChunkView, left: int, idle: int, pace: Pace, feed_s: float) -> int:
    """A feed's worth, or less where the rest is to be shared by the idle slots."""
    full = pace.items_for(chunk.job, feed_s)
    item_s = pace.find_item_s(chunk.job)
    if item_s is None:
        return full
    return min(full, max(math.ceil(left / idle), math.ceil(_SHARE_S / item_s)))
