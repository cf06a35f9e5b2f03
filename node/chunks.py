"""The node's book of chunks; pure. For each fence: what is unfed, what is fed, what is to be reported, what is owed.

Every index of a chunk leaves the book once: in a value, in a failure, or released. A fence is held from its arrival
until the report that carried its last outcomes is answered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from windrow.common.blocks import check_block, slice_block
from windrow.common.errors import MalformedMessage
from windrow.common.limits import CHUNK_ITEMS_MAX, REPORT_BYTES_MAX, RUNS_MAX
from windrow.common.messages import Chunk, ChunkReport, InputSlice, ItemFailure, ValueRun
from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, JobId, Range
from windrow.node.feeding import ChunkView
from windrow.node.remembered import RememberedFences
from windrow.node.worker_link import Feed

REMEMBERED_MIN = 8_192
"""Fences that are done with, so that a late copy of one is not started again."""
HELD_MAX = RUNS_MAX // 2


class Taken(Enum):
    """What became of a chunk that arrived."""

    NEW = auto()
    HELD = auto()
    """It is here already."""
    LEASED = auto()
    """It is here already and its lease is durable: the copy can be acknowledged at once."""
    OVER = auto()
    """Done with, or given up before it came: acknowledge and forget."""
    REFUSED = auto()
    """More chunks than a node may hold."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Outcomes of one fence as they came from a worker; `ticket` says where the spool keeps them."""

    values: tuple[ValueRun, ...]
    failures: tuple[ItemFailure, ...]
    busy_s: float
    size_bytes: int
    ticket: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What the answer to a report brought about."""

    acks: list[object]
    """Delivery tags whose fences are leased or dead now."""
    tickets: list[int]
    """Of batches that the scheduler has."""
    stop: list[int]
    """Feeds of dead fences: stop them."""


@dataclass(slots=True)
class _Fed:
    """A feed under way: everything below `next` is told; `stop` is lowered when the end is given to others."""

    fence: Fence
    next: int
    stop: int


@dataclass(slots=True)
class _Held:
    chunk: Chunk
    arrival: int
    unfed: RangeSet
    leased: bool = False
    dead: bool = False
    giving: bool = False
    """What comes back unexecuted is released, not fed again."""
    owes_word: bool = False
    """A ChunkReport is due although there is nothing to put into it."""
    in_flight: bool = False
    feeds: set[int] = field(default_factory=set[int])
    pending: deque[Batch] = field(default_factory=deque[Batch])
    released: RangeSet = field(default_factory=RangeSet)
    tags: list[object] = field(default_factory=list[object])

    @property
    def unreported(self) -> bool:
        return bool(self.pending or self.released or self.owes_word)

    @property
    def over(self) -> bool:
        return not (self.unfed or self.feeds or self.unreported or self.in_flight)


@dataclass(frozen=True, slots=True)
class _Flight:
    """What the report under way carries."""

    holds: tuple[Fence, ...]
    told: frozenset[Fence]
    """Of which it says something."""
    tickets: list[int]


class ChunkBook:
    """See the module. Feeds are numbered by the book; numbers only grow."""

    def __init__(self) -> None:
        self.draining = False
        self._held: dict[Fence, _Held] = {}
        self._ready: dict[Fence, _Held] = {}
        """Those to be fed from, in order of arrival."""
        self._fed: dict[int, _Fed] = {}
        self._over = RememberedFences(REMEMBERED_MIN)
        self._disowned: dict[Fence, None] = {}
        """Fences asked back that are not here; the scheduler is owed a word on them."""
        self._flight: _Flight | None = None
        self._tickets: list[int] = []
        """Of batches that nobody wants any more."""
        self._arrivals = count()
        self._feeds = count(1)
        """From 1: a worker's stop word is 0 while it stops nothing."""

    # ── What is here ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def holds(self) -> tuple[Fence, ...]:
        return tuple(self._held)

    @property
    def empty(self) -> bool:
        """Nothing is held and nothing is to be said."""
        return not self._held and not self._disowned and self._flight is None

    @property
    def unreported(self) -> bool:
        return bool(self._disowned) or any(held.unreported for held in self._held.values())

    def is_owed(self, fences: Collection[Fence]) -> bool:
        """Whether something is still to be said or done about one of these fences, asked back or dead. What was said
        is owed until it is answered, for it may be said in vain until then."""
        under_way = frozenset[Fence]() if self._flight is None else self._flight.told
        for fence in fences:
            held = self._held.get(fence)
            if fence in self._disowned or fence in under_way or (held is not None and (held.dead or held.unreported)):
                return True
        return False

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def ready(self, tasks: Collection[str]) -> Iterator[ChunkView]:
        """Chunks of these tasks that may be fed from."""
        for fence, held in self._ready.items():
            if held.chunk.task in tasks:
                yield ChunkView(fence, held.chunk.job, len(held.unfed), held.chunk.alone)

    def find_feed_range(self, number: int) -> Range | None:
        """What of a feed is still to be told of."""
        return self.get_feed_range(number) if number in self._fed else None

    def get_feed_range(self, number: int) -> Range:
        """What of a feed under way is still to be told of."""
        fed = self._fed[number]
        return Range(fed.next, fed.stop)

    def find_fence(self, number: int) -> Fence | None:
        """The fence that a feed is of."""
        fed = self._fed.get(number)
        return None if fed is None else fed.fence

    def find_chunk(self, number: int) -> Chunk | None:
        """The chunk that a feed is of."""
        return self.get_chunk(number) if number in self._fed else None

    def get_chunk(self, number: int) -> Chunk:
        """The chunk that a feed under way is of."""
        return self._held[self._fed[number].fence].chunk

    def goes_on(self, fence: Fence) -> bool:
        """Whether more outcomes of the fence will come."""
        held = self._held.get(fence)
        return held is not None and not held.dead and bool(held.unfed or held.feeds)

    def is_dead_feed(self, number: int) -> bool:
        fed = self._fed.get(number)
        return fed is not None and self._held[fed.fence].dead

    # ── Chunks come ──────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, chunk: Chunk, tag: object | None, *, lease_first: bool, runnable: bool) -> Taken:
        """A chunk has come; `tag` is acknowledged when its lease is durable."""
        if chunk.fence in self._over:
            return Taken.OVER
        held = self._held.get(chunk.fence)
        if held is not None:
            if held.leased or held.dead:
                return Taken.LEASED
            if tag is not None:
                held.tags.append(tag)
            return Taken.HELD
        if len(self._held) >= HELD_MAX:
            return Taken.REFUSED
        held = _Held(chunk, next(self._arrivals), RangeSet([(chunk.start, chunk.stop)]))
        if tag is not None:
            held.tags.append(tag)
        self._held[chunk.fence] = held
        if not runnable or self.draining:
            self._release(held)
        elif not lease_first:
            self._make_ready(held)
        return Taken.NEW

    # ── Feeds go and come ────────────────────────────────────────────────────────────────────────────────────────

    def cut_feed(self, fence: Fence, count: int) -> Feed:
        """The next items of a ready chunk, at most `count`, as a feed."""
        held = self._ready[fence]
        first = held.unfed.first
        part = Range(first.start, min(first.stop, first.start + count))
        held.unfed.remove(*part)
        if not held.unfed:
            del self._ready[fence]
        number = next(self._feeds)
        held.feeds.add(number)
        self._fed[number] = _Fed(fence, part.start, part.stop)
        chunk = held.chunk
        return Feed(
            number=number, fence=fence, job=chunk.job, task=chunk.task, start=part.start, stop=part.stop,
            numbers=chunk.numbers, inputs=() if chunk.numbers else _cut_inputs(chunk.inputs, part),
            result_bytes_max=chunk.result_bytes_max, alone=chunk.alone, one_by_one=chunk.lease_first,
            attempts=tuple(entry for entry in chunk.attempts if entry[0] < part.stop and entry[1] > part.start),
            timeout_s=chunk.timeout_s, soft_timeout_s=chunk.soft_timeout_s,
        )  # fmt: skip

    def on_batch(self, fence: Fence, batch: Batch) -> None:
        """Outcomes of a fence are in the spool and go into the next report."""
        held = self._held[fence]
        if held.dead:
            self._tickets.append(batch.ticket)
        else:
            held.pending.append(batch)

    def on_feed_told(self, number: int, after: int) -> None:
        """Everything of the feed below `after` is told."""
        fed = self._fed[number]
        fed.next = max(fed.next, after)

    def on_feed_ended(self, number: int) -> None:
        """The worker is through with the feed; what was not told was not executed."""
        fed = self._fed.pop(number)
        held = self._held[fed.fence]
        held.feeds.discard(number)
        self._give_back(held, fed.next, fed.stop)
        self._forget_if_over(fed.fence)

    def take_back(self, number: int, after: int) -> None:
        """The worker will not start items of the feed from `after` on: they can go elsewhere."""
        fed = self._fed[number]
        stop, fed.stop = fed.stop, min(max(after, fed.next), fed.stop)
        self._give_back(self._held[fed.fence], fed.stop, stop)

    def find_blamed(self, number: int, executing: int) -> int | None:
        """The worker of this feed died executing this item: the item, if it had not been told of. Those before it
        can go elsewhere; on_batch, on_feed_told and on_feed_ended follow."""
        fed = self._fed[number]
        held = self._held[fed.fence]
        # The noted item may lie at fed.stop: noted, and then left alone because of the stop word.
        if held.dead or not fed.next <= executing < fed.stop:
            return None
        self._give_back(held, fed.next, executing)
        return executing

    def _give_back(self, held: _Held, start: int, stop: int) -> None:
        if start >= stop or held.dead:
            return
        if held.giving:
            held.released.add(start, stop)
            return
        held.unfed.add(start, stop)
        self._make_ready(held)

    def _make_ready(self, held: _Held) -> None:
        """It is fed in the order of its arrival, whenever that becomes possible."""
        if held.chunk.fence in self._ready:
            return
        last = next(reversed(self._ready.values()), held)
        self._ready[held.chunk.fence] = held
        if last.arrival > held.arrival:
            self._ready = dict(sorted(self._ready.items(), key=lambda entry: entry[1].arrival))

    # ── Work is taken back ───────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> None:
        """Release everything that is unfed, now and from now on."""
        self.draining = True
        for held in self._held.values():
            self._release(held)

    def resume(self) -> None:
        self.draining = False

    def release_others(self, tasks: Collection[str]) -> bool:
        """Release what is unfed of other tasks, now and from now on; whether there are chunks of such."""
        others = [held for held in self._held.values() if held.chunk.task not in tasks]
        for held in others:
            self._release(held)
        return bool(others)

    def give_up(self, fence: Fence) -> None:
        """Release what is unfed of the fence; one that is not here is not started should it still come."""
        held = self._held.get(fence)
        if held is None:
            self._over.add(fence)
            self._disowned[fence] = None
        elif not held.dead:
            self._release(held)
            held.owes_word = True

    def kill(self, fence: Fence) -> Answered:
        """The fence is dead: drop what has not started; what runs is to be stopped; nothing more is reported."""
        held = self._held.get(fence)
        if held is None or held.dead:
            return Answered([], [], [])
        held.dead = True
        held.unfed.clear()
        held.released.clear()
        held.owes_word = held.in_flight = False
        self._ready.pop(fence, None)
        self._tickets += [batch.ticket for batch in held.pending]
        held.pending.clear()
        acks, held.tags = held.tags, []
        stop = sorted(held.feeds)
        self._forget_if_over(fence)
        return Answered(acks, self._take_tickets(), stop)

    def _release(self, held: _Held) -> None:
        held.giving = True
        held.released.update(held.unfed)
        held.unfed.clear()
        self._ready.pop(held.chunk.fence, None)

    # ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────

    def begin_report(self) -> tuple[tuple[Fence, ...], tuple[ChunkReport, ...]]:
        """`holds` and `chunks` of the next report, bounded; one report is under way at a time."""
        reports: list[ChunkReport] = []
        tickets: list[int] = []
        room = _Room(REPORT_BYTES_MAX, RUNS_MAX)
        for fence in list(self._disowned):
            if not room.take():
                break
            del self._disowned[fence]
            reports.append(ChunkReport(fence, JobId("")))
        for held in self._held.values():
            if not held.unreported:
                continue
            batches: list[Batch] = []
            while held.pending and room.take(held.pending[0].size_bytes, _parts(held.pending[0])):
                batches.append(held.pending.popleft())
            released = [part for part in held.released if room.take()]
            held.released.subtract(released)
            if not batches and not released and not (held.owes_word and room.take()):
                break
            held.owes_word = False
            held.in_flight = True
            tickets += [batch.ticket for batch in batches]
            reports.append(_join(held.chunk, batches, released))
        self._flight = _Flight(tuple(self._held), frozenset(report.fence for report in reports), tickets)
        return self._flight.holds, tuple(reports)

    def on_answered(self, dead: Collection[Fence], *, leased: bool = True) -> Answered:
        """What the report under way carried is durable; of its fences these are dead, the others leased unless the
        scheduler wants a hello first."""
        flight = self._flight
        assert flight is not None, "an answer without a report"
        self._flight = None
        acks: list[object] = []
        stop: list[int] = []
        for fence in dead:
            killed = self.kill(fence)
            acks += killed.acks
            stop += killed.stop
            self._tickets += killed.tickets
        for fence in flight.holds:
            held = self._held.get(fence)
            if held is None:
                continue
            held.in_flight = False
            if leased or held.over:
                held.leased = True
                acks += held.tags
                held.tags = []
            if leased and held.unfed:
                self._make_ready(held)
            self._forget_if_over(fence)
        self._tickets += flight.tickets
        return Answered(acks, self._take_tickets(), stop)

    def _take_tickets(self) -> list[int]:
        tickets, self._tickets = self._tickets, []
        return tickets

    def _forget_if_over(self, fence: Fence) -> None:
        held = self._held[fence]
        if held.over:
            del self._held[fence]
            self._over.add(fence)


class _Room:
    """What still fits into a report; the first batch always does."""

    def __init__(self, size_bytes: int, parts: int) -> None:
        self._bytes = size_bytes
        self._parts = parts
        self._empty = True

    def take(self, size_bytes: int = 0, parts: int = 1) -> bool:
        if not self._empty and (size_bytes > self._bytes or parts > self._parts):
            return False
        self._empty = False
        self._bytes -= size_bytes
        self._parts -= parts
        return True


def _parts(batch: Batch) -> int:
    return len(batch.values) + len(batch.failures)


def _join(chunk: Chunk, batches: list[Batch], released: list[Range]) -> ChunkReport:
    return ChunkReport(
        fence=chunk.fence,
        job=chunk.job,
        values=tuple([run for batch in batches for run in batch.values]),
        failures=tuple([failure for batch in batches for failure in batch.failures]),
        released=tuple(released),
        busy_s=sum(batch.busy_s for batch in batches),
    )


def _cut_inputs(inputs: tuple[InputSlice, ...], part: Range) -> tuple[InputSlice, ...]:
    """The inputs of a part of the chunk: whole blocks where they lie inside, slices at the edges."""
    at = bisect_right(inputs, part.start, key=lambda piece: piece.start) - 1
    found: list[InputSlice] = []
    while at < len(inputs) and inputs[at].start < part.stop:
        piece = inputs[at]
        low, high = max(piece.start, part.start), min(piece.stop, part.stop)
        block = slice_block(piece.block, low - piece.start, high - piece.start)
        found.append(InputSlice(low, high, block))
        at += 1
    return tuple(found)


def check_chunk(chunk: Chunk) -> None:
    """MalformedMessage unless the chunk's items tile its range."""
    count = chunk.stop - chunk.start
    if not 0 < count <= CHUNK_ITEMS_MAX:
        raise MalformedMessage(f"chunk {chunk.fence} has {count} items; 1 to {CHUNK_ITEMS_MAX} are taken")
    if any(len(entry) != 3 for entry in chunk.attempts):
        raise MalformedMessage(f"chunk {chunk.fence}: attempts are [start, stop, attempts]")
    if chunk.numbers is not None:
        if chunk.numbers.step == 0:
            raise MalformedMessage(f"chunk {chunk.fence}: the step of its numbers is 0")
        return
    at = chunk.start
    for piece in chunk.inputs:
        if piece.start != at:
            raise MalformedMessage(f"chunk {chunk.fence}: its inputs do not tile {chunk.start}:{chunk.stop}")
        check_block(piece.block, piece.stop - piece.start)
        at = piece.stop
    if at != chunk.stop:
        raise MalformedMessage(f"chunk {chunk.fence}: its inputs end at {at}, not at {chunk.stop}")
