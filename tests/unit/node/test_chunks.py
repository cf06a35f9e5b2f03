"""The node's book of chunks."""

from __future__ import annotations

import dataclasses
import random

import pytest

from windrow.common.blocks import block_entries, pack_block
from windrow.common.errors import MalformedMessage
from windrow.common.limits import CHUNK_ITEMS_MAX, REPORT_BYTES_MAX, RUNS_MAX
from windrow.common.messages import (
    REQUESTS,
    Chunk,
    ChunkReport,
    InputSlice,
    ItemFailure,
    NumberItems,
    Report,
    ValueRun,
)
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, JobId, NodeId, Range
from windrow.node.chunks import HELD_MAX, REMEMBERED_MIN, Answered, Batch, ChunkBook, Taken, check_chunk
from windrow.node.worker_link import Feed


def chunk(counter: int = 1, start: int = 0, stop: int = 10, *, alone: bool = False) -> Chunk:
    fence = Fence(1, counter)
    return Chunk("c", NodeId("n"), fence, JobId("j"), "t", start, stop, numbers=NumberItems(0, 1 << 40), alone=alone)


def book_with(*chunks: Chunk, lease_first: bool = False) -> ChunkBook:
    book = ChunkBook()
    for one in chunks:
        assert book.take(one, f"tag {one.fence}", lease_first=lease_first, runnable=True) is Taken.NEW
    return book


def values(start: int, stop: int, ticket: int = 1, size_bytes: int = 100) -> Batch:
    return Batch((ValueRun(start, stop, pack_block([b"\x01"] * (stop - start))),), (), 0.5, size_bytes, ticket)


def finish(book: ChunkBook, feed: Feed, ticket: int = 1) -> None:
    book.on_batch(feed.fence, values(feed.start, feed.stop, ticket))
    book.on_feed_told(feed.number, feed.stop)
    book.on_feed_ended(feed.number)


def block(low: int, high: int) -> InputSlice:
    return InputSlice(low, high, pack_block([bytes([index]) for index in range(low, high)]))


def covered(reports: tuple[ChunkReport, ...]) -> RangeSet:
    found = RangeSet()
    for report in reports:
        for part in [*report.released, *((run.start, run.stop) for run in report.values)]:
            assert not found.intersection(*part), "told twice"
            found.add(*part)
        for failure in report.failures:
            assert failure.item not in found, "told twice"
            found.add(failure.item, failure.item + 1)
    return found


def test_a_fence_is_held_until_the_report_with_its_last_outcomes_is_answered() -> None:
    book = book_with(chunk())
    finish(book, book.cut_feed(Fence(1, 1), 10), ticket=7)
    holds, chunks = book.begin_report()
    assert holds == (Fence(1, 1),)
    assert (chunks[0].values[0].start, chunks[0].values[0].stop, chunks[0].busy_s) == (0, 10, 0.5)
    assert book.holds == (Fence(1, 1),)
    answered = book.on_answered(())
    assert (answered.acks, answered.tickets) == (["tag 1.1"], [7])
    assert book.holds == ()
    assert book.empty


def test_the_delivery_is_acknowledged_once_when_its_fence_is_leased() -> None:
    book = book_with(chunk())
    book.begin_report()
    assert book.on_answered(()).acks == ["tag 1.1"]
    book.begin_report()
    assert book.on_answered(()).acks == []


def test_a_chunk_that_came_during_a_report_is_not_leased_by_its_answer() -> None:
    book = book_with(chunk(1))
    book.begin_report()
    book.take(chunk(2), "late", lease_first=False, runnable=True)
    assert book.on_answered(()).acks == ["tag 1.1"]


def test_lease_first_is_not_fed_before_the_answer() -> None:
    book = book_with(chunk(), lease_first=True)
    assert not book.has_ready
    book.begin_report()
    assert not book.has_ready
    book.on_answered(())
    assert [view.unfed for view in book.ready({"t"})] == [10]


def test_lease_first_and_dead_is_never_fed() -> None:
    book = book_with(chunk(), lease_first=True)
    book.begin_report()
    assert book.on_answered((Fence(1, 1),)).acks == ["tag 1.1"]
    assert not book.has_ready
    assert book.empty


def test_an_answer_that_wants_a_hello_first_leases_nothing() -> None:
    book = book_with(chunk(1), lease_first=True)
    finish_me = chunk(2)
    book.take(finish_me, "tag 1.2", lease_first=False, runnable=True)
    finish(book, book.cut_feed(Fence(1, 2), 10), ticket=5)
    book.begin_report()
    answered = book.on_answered((), leased=False)
    assert (answered.acks, answered.tickets) == (["tag 1.2"], [5]), "what is over is acknowledged all the same"
    assert book.holds == (Fence(1, 1),)
    assert not book.has_ready
    book.begin_report()
    assert book.on_answered(()).acks == ["tag 1.1"]
    assert [view.fence for view in book.ready({"t"})] == [Fence(1, 1)]


def test_a_feed_carries_what_its_items_need_to_know() -> None:
    one = dataclasses.replace(
        chunk(), attempts=((0, 3, 1), (3, 5, 2), (8, 10, 4)), timeout_s=2.0, soft_timeout_s=1.0, lease_first=True
    )
    book = book_with(one)
    first, second = book.cut_feed(Fence(1, 1), 4), book.cut_feed(Fence(1, 1), 4)
    assert (first.attempts, second.attempts) == (((0, 3, 1), (3, 5, 2)), ((3, 5, 2),))
    assert (first.timeout_s, first.soft_timeout_s, first.one_by_one) == (2.0, 1.0, True)
    plain = book_with(chunk()).cut_feed(Fence(1, 1), 4)
    assert (plain.timeout_s, plain.soft_timeout_s, plain.one_by_one, plain.attempts) == (None, None, False, ())


def test_a_feed_carries_no_attempts_of_the_items_before_and_behind_it() -> None:
    book = book_with(dataclasses.replace(chunk(), attempts=((0, 4, 1), (4, 6, 2))))
    assert [book.cut_feed(Fence(1, 1), count).attempts for count in (4, 2, 4)] == [((0, 4, 1),), ((4, 6, 2),), ()]


def test_a_second_copy_is_acknowledged_with_the_lease_or_at_once() -> None:
    book = book_with(chunk())
    assert book.take(chunk(), "again", lease_first=True, runnable=True) is Taken.HELD
    book.begin_report()
    assert book.on_answered(()).acks == ["tag 1.1", "again"]
    assert book.take(chunk(), "third", lease_first=True, runnable=True) is Taken.LEASED
    finish(book, book.cut_feed(Fence(1, 1), 10))
    book.begin_report()
    book.on_answered(())
    assert book.take(chunk(), "late", lease_first=True, runnable=True) is Taken.OVER


def test_the_inputs_of_a_feed_are_cut_out_of_the_blocks() -> None:
    inputs = (block(0, 4), block(4, 5), block(5, 10))
    book = book_with(dataclasses.replace(chunk(), numbers=None, inputs=inputs))
    feeds = [book.cut_feed(Fence(1, 1), count) for count in (3, 4, 99)]
    assert [(feed.start, feed.stop) for feed in feeds] == [(0, 3), (3, 7), (7, 10)]
    entries = [entry for feed in feeds for piece in feed.inputs for entry in block_entries(piece.block)]
    assert entries == [bytes([index]) for index in range(10)]
    assert feeds[1].inputs[1].block is inputs[1].block, "a whole block is passed on as it is"
    assert not book.has_ready
    book = book_with(dataclasses.replace(chunk(), numbers=None, inputs=inputs))
    feeds = [book.cut_feed(Fence(1, 1), count) for count in (4, 1, 99)]
    assert [feed.inputs for feed in feeds] == [(piece,) for piece in inputs]


def test_a_crash_blames_the_executing_item_and_feeds_the_others_again() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    book.on_batch(feed.fence, values(0, 3))
    book.on_feed_told(feed.number, 3)
    assert book.find_blamed(feed.number, 5) == 5
    book.on_batch(feed.fence, Batch((), (ItemFailure(5, FailureKind.CRASH, "WorkerCrashed"),), 0, 1, 2))
    book.on_feed_told(feed.number, 6)
    book.on_feed_ended(feed.number)
    again = [book.cut_feed(feed.fence, 99), book.cut_feed(feed.fence, 99)]
    assert [(one.start, one.stop) for one in again] == [(3, 5), (6, 10)]


def test_a_crash_of_the_last_item_of_a_leased_fence_is_still_reported() -> None:
    book = book_with(chunk(stop=1))
    feed = book.cut_feed(Fence(1, 1), 1)
    book.begin_report()
    book.on_answered(())
    assert book.find_blamed(feed.number, 0) == 0
    book.on_batch(feed.fence, Batch((), (ItemFailure(0, FailureKind.CRASH, "WorkerCrashed"),), 0, 1, 2))
    book.on_feed_told(feed.number, 1)
    book.on_feed_ended(feed.number)
    assert book.begin_report()[1][0].failures[0].item == 0


def test_an_item_that_was_told_of_or_given_to_others_is_not_blamed() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    book.on_feed_told(feed.number, 4)
    assert book.find_blamed(feed.number, 3) is None
    book.take_back(feed.number, 6)
    assert [view.unfed for view in book.ready({"t"})] == [4]
    assert book.find_blamed(feed.number, 6) is None
    assert book.find_blamed(feed.number, 5) == 5


def test_items_given_back_keep_the_order_of_arrival() -> None:
    book = book_with(chunk(1), chunk(2))
    feed = book.cut_feed(Fence(1, 1), 10)
    book.take_back(feed.number, 1)
    assert [view.fence.counter for view in book.ready({"t"})] == [1, 2]


def test_drain_releases_what_is_unfed_and_what_comes_back() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 4)
    book.drain()
    assert book.take(chunk(2), None, lease_first=False, runnable=True) is Taken.NEW
    book.on_batch(feed.fence, values(0, 1))
    book.on_feed_told(feed.number, 1)
    book.on_feed_ended(feed.number)
    _, reports = book.begin_report()
    assert [(report.fence.counter, report.released) for report in reports] == [
        (1, (Range(1, 10),)),
        (2, (Range(0, 10),)),
    ]
    book.on_answered(())
    assert book.empty


def test_give_up_of_a_known_fence_releases_only_what_is_unfed_and_always_says_a_word() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    book.give_up(Fence(1, 1))
    assert book.begin_report()[1] == (ChunkReport(Fence(1, 1), JobId("j")),)
    book.on_answered(())
    assert not book.is_owed([Fence(1, 1)])
    finish(book, feed)
    assert len(covered(book.begin_report()[1])) == 10


def test_give_up_of_an_unknown_fence_leaves_a_tombstone() -> None:
    book = ChunkBook()
    book.give_up(Fence(1, 1))
    assert book.is_owed([Fence(1, 1)])
    holds, reports = book.begin_report()
    assert (holds, reports) == ((), (ChunkReport(Fence(1, 1), JobId("")),))
    book.on_answered(())
    assert book.take(chunk(), "tag", lease_first=False, runnable=True) is Taken.OVER
    assert book.empty


def test_a_dead_fence_is_held_while_it_runs_and_reports_nothing_more() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 4)
    book.on_batch(feed.fence, values(0, 1, ticket=3))
    killed = book.kill(Fence(1, 1))
    assert (killed.acks, killed.stop, killed.tickets) == (["tag 1.1"], [feed.number], [3])
    assert book.is_dead_feed(feed.number)
    assert not book.has_ready
    assert not book.unreported
    book.on_batch(feed.fence, values(1, 2, ticket=4))
    assert book.begin_report() == ((Fence(1, 1),), ())
    assert book.on_answered((Fence(1, 1),)).tickets == [4]
    book.on_feed_ended(feed.number)
    assert book.empty


def test_an_unknown_task_is_released_wholly() -> None:
    book = ChunkBook()
    book.take(chunk(), "tag", lease_first=False, runnable=False)
    assert not book.has_ready
    assert book.begin_report()[1][0].released == (Range(0, 10),)


def test_reports_are_bounded_and_the_rest_rides_in_the_next() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    for index in range(10):
        book.on_batch(feed.fence, values(index, index + 1, index, size_bytes=REPORT_BYTES_MAX // 3))
    book.on_feed_told(feed.number, 10)
    book.on_feed_ended(feed.number)
    sizes: list[int] = []
    while book.unreported:
        _, reports = book.begin_report()
        sizes.append(len(reports[0].values))
        book.on_answered(())
    assert sizes == [3, 3, 3, 1]
    assert book.empty


def test_one_batch_larger_than_a_report_goes_by_itself() -> None:
    book = book_with(chunk())
    finish(book, book.cut_feed(Fence(1, 1), 5))
    feed = book.cut_feed(Fence(1, 1), 5)
    book.on_batch(feed.fence, values(5, 10, 2, size_bytes=2 * REPORT_BYTES_MAX))
    assert len(book.begin_report()[1][0].values) == 1
    book.on_answered(())
    assert len(book.begin_report()[1][0].values) == 1


def test_a_node_holds_a_bounded_number_of_chunks() -> None:
    book = book_with(*(chunk(number) for number in range(HELD_MAX)))
    assert book.take(chunk(HELD_MAX), None, lease_first=False, runnable=True) is Taken.REFUSED


def test_tombstones_are_bounded() -> None:
    book = ChunkBook()
    for number in range(2 * REMEMBERED_MIN):
        book.give_up(Fence(1, number))
    assert book.take(chunk(REMEMBERED_MIN - 1), None, lease_first=False, runnable=True) is Taken.NEW
    assert book.take(chunk(REMEMBERED_MIN), None, lease_first=False, runnable=True) is Taken.OVER


class Dice:
    """Plays a node: feeds, tells, crashes, takes back, gives up and reports by chance."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.book = ChunkBook()
        self.chunks = [chunk(n, 100 * n, 100 * n + self.dice.randint(1, 60)) for n in range(1, 6)]
        self.coming = self.chunks.copy()
        self.feeds: dict[int, Feed] = {}
        self.told: list[ChunkReport] = []
        self.tickets: set[int] = set()
        self.drawn = 0
        self.in_flight = False

    @property
    def over(self) -> bool:
        return not self.coming and not self.feeds and not self.in_flight and self.book.empty

    def step(self) -> None:
        dice, book = self.dice, self.book
        if self.coming and dice.random() < 0.2:
            book.take(self.coming.pop(), None, lease_first=dice.random() < 0.5, runnable=True)
        for view in list(book.ready({"t"})):
            feed = book.cut_feed(view.fence, dice.randint(1, 9))
            self.feeds[feed.number] = feed
        for number in list(self.feeds):
            part = book.find_feed_range(number)
            assert part is not None
            dice.choice([self.tell, self.end, self.take_back, self.crash, self.rest])(number, part)
        if dice.random() < 0.05:
            book.give_up(dice.choice(self.chunks).fence)
        if dice.random() < 0.01:
            book.drain()
        if not self.in_flight:
            self.told += book.begin_report()[1]
            self.in_flight = True
        elif dice.random() < 0.5:
            self.follow(book.on_answered(()))
            self.in_flight = False

    def follow(self, answered: Answered) -> None:
        self.tickets -= set(answered.tickets)

    def ticket(self) -> int:
        self.drawn += 1
        self.tickets.add(self.drawn)
        return self.drawn

    def tell(self, number: int, part: Range) -> None:
        if part.length:
            after = self.dice.randint(part.start + 1, part.stop)
            self.book.on_batch(self.feeds[number].fence, values(part.start, after, self.ticket()))
            self.book.on_feed_told(number, after)

    def end(self, number: int, _part: Range) -> None:
        del self.feeds[number]
        self.book.on_feed_ended(number)

    def take_back(self, number: int, part: Range) -> None:
        self.book.take_back(number, self.dice.randint(part.start, part.stop))

    def crash(self, number: int, part: Range) -> None:
        blamed = self.book.find_blamed(number, self.dice.randint(part.start, part.stop))
        if blamed is not None:
            failure = ItemFailure(blamed, FailureKind.CRASH, "WorkerCrashed")
            self.book.on_batch(self.feeds[number].fence, Batch((), (failure,), 0, 1, self.ticket()))
            self.book.on_feed_told(number, blamed + 1)
        self.end(number, part)

    def rest(self, number: int, part: Range) -> None:
        pass


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_every_index_is_told_of_once(seed: int) -> None:
    game = Dice(seed)
    steps = 0
    while not game.over:
        game.step()
        steps += 1
        assert steps < 5_000, "it comes to no end"
    assert not game.tickets
    started = {report.fence for report in game.told if report.job}
    found = covered(tuple(game.told))
    for one in game.chunks:
        if one.fence in started:
            assert found.covers(one.start, one.stop)
        else:
            assert not found.intersection(one.start, one.stop), "given up before it came"


class HardDice(Dice):
    """Fences die too, copies come, the node is resumed, and the scheduler may want a hello first."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.dead: set[Fence] = set()
        self.tags: set[object] = set()
        """Of deliveries that are not acknowledged."""
        self.deliveries = 0

    def step(self) -> None:
        dice, book = self.dice, self.book
        if dice.random() < 0.1:
            self.deliver(dice.choice([one for one in self.chunks if one not in self.coming] or self.chunks))
        if dice.random() < 0.02:
            self.die(dice.choice(self.chunks).fence)
        if dice.random() < 0.05:
            book.resume()
        if self.in_flight and dice.random() < 0.3:
            leased = dice.random() < 0.7
            dead = [fence for fence in book.holds if dice.random() < 0.05]
            self.dead.update(dead)
            self.follow(book.on_answered(dead, leased=leased))
            self.in_flight = False
        super().step()

    def deliver(self, one: Chunk) -> None:
        self.deliveries += 1
        if one in self.coming:
            self.coming.remove(one)
        taken = self.book.take(one, self.deliveries, lease_first=self.dice.random() < 0.5, runnable=True)
        if taken in (Taken.NEW, Taken.HELD):
            self.tags.add(self.deliveries)

    def die(self, fence: Fence) -> None:
        if fence in self.book.holds:
            self.dead.add(fence)
            self.follow(self.book.kill(fence))

    def follow(self, answered: Answered) -> None:
        for tag in answered.acks:
            self.tags.remove(tag)
        for ticket in answered.tickets:
            self.tickets.remove(ticket)
        assert set(answered.stop) <= set(self.feeds)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_dies_every_delivery_is_acknowledged_once_and_every_ticket_settled_once(seed: int) -> None:
    game = HardDice(seed)
    steps = 0
    while not game.over:
        game.step()
        steps += 1
        assert steps < 5_000, "it comes to no end"
    game.book.begin_report()
    game.follow(game.book.on_answered(()))
    assert not game.tags
    assert not game.tickets
    found = covered(tuple(game.told))
    given_up = {report.fence for report in game.told if not report.job}
    for one in game.chunks:
        if one.fence not in game.dead | given_up:
            assert found.covers(one.start, one.stop)


@pytest.mark.parametrize(
    "bad",
    [
        chunk(stop=0),
        dataclasses.replace(chunk(), numbers=NumberItems(0, 1, 0)),
        chunk(stop=CHUNK_ITEMS_MAX + 1),
        dataclasses.replace(chunk(), attempts=((0, 1),)),
        dataclasses.replace(chunk(), attempts=((0, 1, 1), (1, 2, 1, 1))),
        dataclasses.replace(chunk(), numbers=None),
        dataclasses.replace(chunk(), numbers=None, inputs=(InputSlice(0, 10, pack_block([b"x"] * 9)),)),
        dataclasses.replace(chunk(), numbers=None, inputs=(InputSlice(1, 10, pack_block([b"x"] * 9)),)),
        dataclasses.replace(chunk(), numbers=None, inputs=(InputSlice(0, 9, pack_block([b"x"] * 9)),)),
    ],
)
def test_a_chunk_whose_items_do_not_tile_its_range_is_refused(bad: Chunk) -> None:
    with pytest.raises(MalformedMessage):
        check_chunk(bad)


def test_a_fence_goes_on_until_nothing_of_it_is_unfed_or_at_a_worker() -> None:
    book = book_with(chunk())
    fence = Fence(1, 1)
    first, second = book.cut_feed(fence, 4), book.cut_feed(fence, 6)
    finish(book, first)
    assert book.goes_on(fence)
    finish(book, second)
    assert not book.goes_on(fence)
    assert not book.goes_on(Fence(1, 2))


def tell(book: ChunkBook, feed: Feed, after: int, ticket: int = 1) -> None:
    """Of a feed that was cut as a whole and told of nothing yet."""
    book.on_batch(feed.fence, values(feed.start, after, ticket))
    book.on_feed_told(feed.number, after)


def feeds_of(book: ChunkBook) -> list[tuple[int, int, int]]:
    """Cuts all that may be fed: counter, start and stop, in order."""
    found: list[tuple[int, int, int]] = []
    while view := next(book.ready({"t"}), None):
        feed = book.cut_feed(view.fence, 1_000)
        found.append((feed.fence.counter, feed.start, feed.stop))
    return found


# ── What is owed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_that_nothing_came_of_is_named_and_nothing_is_said_of_it() -> None:
    book = book_with(chunk())
    assert not book.is_owed([Fence(1, 1)])
    assert book.begin_report() == ((Fence(1, 1),), ())
    assert not book.is_owed([Fence(1, 1)])


def test_a_fence_that_is_not_here_is_owed_a_word_until_the_report_with_it_was_answered() -> None:
    book = ChunkBook()
    book.give_up(Fence(1, 1))
    assert book.unreported
    assert not book.empty
    book.begin_report()
    assert book.is_owed([Fence(1, 1)]), "the scheduler would ask for it again"
    assert not book.empty
    book.on_answered(())
    assert not book.is_owed([Fence(1, 1)])
    assert book.empty


def test_a_fence_that_is_asked_back_is_owed_until_the_report_with_its_release_was_answered() -> None:
    book = book_with(chunk(1), chunk(2))
    book.give_up(Fence(1, 1))
    assert book.is_owed([Fence(1, 2), Fence(1, 1)])
    assert not book.is_owed([Fence(1, 2), Fence(1, 3)])
    book.begin_report()
    assert book.is_owed([Fence(1, 1)])
    book.on_answered(())
    assert not book.is_owed([Fence(1, 1)])


def test_a_dead_fence_is_owed_as_long_as_it_runs() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    book.kill(Fence(1, 1))
    assert book.is_owed([Fence(1, 1)])
    book.on_feed_ended(feed.number)
    assert not book.is_owed([Fence(1, 1)])


def test_a_fence_that_ends_while_its_last_outcomes_are_on_their_way_is_held_until_they_are_answered() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    tell(book, feed, 10)
    book.begin_report()
    book.on_feed_ended(feed.number)
    assert book.holds == (Fence(1, 1),)
    assert book.on_answered(()).acks == ["tag 1.1"]
    assert book.empty


def test_a_book_is_not_empty_while_a_report_is_under_way() -> None:
    book = ChunkBook()
    book.begin_report()
    assert not book.empty
    book.on_answered(())
    assert book.empty


# ── Dead fences ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dead_fence_that_does_not_run_is_forgotten_at_once_whatever_it_had_to_say() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 4)
    finish(book, feed, ticket=3)
    book.begin_report()
    book.give_up(Fence(1, 1))
    killed = book.kill(Fence(1, 1))
    assert (killed.acks, killed.tickets, killed.stop) == (["tag 1.1"], [], [])
    assert book.holds == ()
    assert not book.unreported
    assert book.on_answered((Fence(1, 1),)) == Answered([], [3], [])
    assert book.empty
    assert book.take(chunk(), "late", lease_first=False, runnable=True) is Taken.OVER


def test_outcomes_of_a_dead_fence_that_nobody_was_told_of_are_dropped() -> None:
    book = book_with(chunk())
    finish(book, book.cut_feed(Fence(1, 1), 4), ticket=3)
    assert book.kill(Fence(1, 1)).tickets == [3]
    assert book.holds == ()
    assert book.begin_report() == ((), ())


def test_a_fence_that_dies_while_it_runs_is_stopped_once_and_what_comes_back_is_not_fed_again() -> None:
    book = book_with(chunk())
    first, second = book.cut_feed(Fence(1, 1), 4), book.cut_feed(Fence(1, 1), 4)
    tell(book, first, 2, ticket=5)
    book.begin_report()
    book.on_batch(first.fence, values(2, 3, 6))
    book.on_feed_told(first.number, 3)
    answered = book.on_answered((Fence(1, 1),))
    assert (answered.stop, sorted(answered.tickets)) == ([first.number, second.number], [5, 6])
    assert book.kill(Fence(1, 1)) == Answered([], [], [])
    assert not book.goes_on(Fence(1, 1))
    assert book.find_blamed(first.number, 3) is None
    book.take_back(first.number, 3)
    book.on_feed_ended(first.number)
    assert not book.has_ready
    assert not book.unreported
    book.on_feed_ended(second.number)
    assert book.empty


def test_a_dead_fence_that_is_asked_back_is_owed_no_word() -> None:
    book = book_with(chunk())
    book.cut_feed(Fence(1, 1), 4)
    book.kill(Fence(1, 1))
    book.give_up(Fence(1, 1))
    book.drain()
    assert not book.unreported
    assert book.begin_report() == ((Fence(1, 1),), ())


def test_a_copy_of_a_dead_fence_that_still_runs_is_acknowledged_at_once() -> None:
    book = book_with(chunk())
    book.cut_feed(Fence(1, 1), 10)
    book.kill(Fence(1, 1))
    assert book.take(chunk(), "again", lease_first=False, runnable=True) is Taken.LEASED


def test_the_death_of_a_fence_that_is_not_here_brings_nothing_about() -> None:
    assert ChunkBook().kill(Fence(1, 1)) == Answered([], [], [])


# ── Feeds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_feeds_are_numbered_from_above_0_and_numbers_only_grow() -> None:
    book = book_with(chunk(1), chunk(2))
    numbers = [book.cut_feed(Fence(1, counter), 3).number for counter in (2, 1, 1, 2)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0, "0 is the stop word that stops nothing"


def test_a_feed_is_found_with_its_fence_and_chunk_until_it_has_ended() -> None:
    book = book_with(chunk(1), chunk(2))
    feed, other = book.cut_feed(Fence(1, 2), 4), book.cut_feed(Fence(1, 1), 4)
    book.kill(Fence(1, 1))
    assert (book.find_fence(feed.number), book.find_feed_range(feed.number)) == (Fence(1, 2), Range(0, 4))
    assert book.find_chunk(feed.number) == chunk(2)
    assert (book.is_dead_feed(feed.number), book.is_dead_feed(other.number)) == (False, True)
    book.on_feed_ended(feed.number)
    assert (book.find_fence(feed.number), book.find_feed_range(feed.number)) == (None, None)
    assert book.find_chunk(feed.number) is None
    assert not book.is_dead_feed(feed.number)


def test_a_fence_goes_on_while_all_that_is_left_of_it_waits_here() -> None:
    book = book_with(chunk())
    finish(book, book.cut_feed(Fence(1, 1), 4))
    assert book.goes_on(Fence(1, 1))


def test_nothing_is_taken_back_of_what_was_told_and_of_what_was_taken_back_before() -> None:
    book = book_with(chunk())
    feed = book.cut_feed(Fence(1, 1), 10)
    tell(book, feed, 5)
    book.take_back(feed.number, 8)
    book.take_back(feed.number, 9)
    book.take_back(feed.number, 10)
    assert feeds_of(book) == [(1, 8, 10)]
    book.take_back(feed.number, 3)
    assert feeds_of(book) == [(1, 5, 8)]
    book.take_back(feed.number, 5)
    book.on_feed_ended(feed.number)
    assert not book.has_ready


def test_a_chunk_that_waited_for_its_lease_is_fed_before_those_that_came_after_it() -> None:
    book = ChunkBook()
    book.take(chunk(1), None, lease_first=True, runnable=True)
    book.take(chunk(2), None, lease_first=False, runnable=True)
    book.take(chunk(3), None, lease_first=True, runnable=True)
    book.begin_report()
    assert [view.fence.counter for view in book.ready({"t"})] == [2]
    book.on_answered(())
    assert [view.fence.counter for view in book.ready({"t"})] == [1, 2, 3]


def test_items_given_back_come_between_those_that_came_before_and_after() -> None:
    book = book_with(chunk(1), chunk(2), chunk(3))
    feed = book.cut_feed(Fence(1, 2), 10)
    book.take_back(feed.number, 5)
    book.on_feed_told(feed.number, 3)
    book.on_feed_ended(feed.number)
    assert feeds_of(book) == [(1, 0, 10), (2, 3, 10), (3, 0, 10)]


def test_a_chunk_that_came_by_the_poll_has_no_delivery_to_acknowledge() -> None:
    book = ChunkBook()
    book.take(chunk(), None, lease_first=False, runnable=True)
    book.take(chunk(), None, lease_first=False, runnable=True)
    book.begin_report()
    assert book.on_answered(()).acks == []


# ── Work is taken back ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_comes_back_of_a_fence_that_was_asked_back_is_released_and_nothing_of_others() -> None:
    book = book_with(chunk(1), chunk(2))
    first, second = book.cut_feed(Fence(1, 1), 4), book.cut_feed(Fence(1, 2), 4)
    book.give_up(Fence(1, 1))
    assert Fence(1, 1) not in [view.fence for view in book.ready({"t"})]
    book.on_feed_ended(first.number)
    book.on_feed_ended(second.number)
    assert book.begin_report()[1] == (ChunkReport(Fence(1, 1), JobId("j"), released=(Range(0, 10),)),)
    assert feeds_of(book) == [(2, 0, 10)]


def test_chunks_of_tasks_that_no_worker_has_are_released_with_what_comes_back_of_them() -> None:
    book = book_with(chunk(1), dataclasses.replace(chunk(2), task="other"))
    assert [view.fence.counter for view in book.ready({"other"})] == [2]
    feed = book.cut_feed(Fence(1, 2), 4)
    assert not book.release_others({"t", "other"})
    assert book.release_others({"t"})
    book.on_feed_ended(feed.number)
    (report,) = book.begin_report()[1]
    assert (report.fence.counter, report.released) == (2, (Range(0, 10),))
    assert feeds_of(book) == [(1, 0, 10)]


def test_a_node_that_is_resumed_takes_chunks_again() -> None:
    book = ChunkBook()
    book.drain()
    assert book.draining
    book.resume()
    assert not book.draining
    book.take(chunk(), None, lease_first=False, runnable=True)
    assert feeds_of(book) == [(1, 0, 10)]


# ── What fits into a report ──────────────────────────────────────────────────────────────────────────────────────


def sent(book: ChunkBook) -> tuple[ChunkReport, ...]:
    """What the next report says; it must be one that the scheduler takes."""
    holds, chunks = book.begin_report()
    assert REQUESTS.decode(REQUESTS.encode(Report(NodeId("n"), "boot", 1, holds, chunks)))
    book.on_answered(())
    return chunks


def test_a_report_names_all_chunks_that_a_node_may_hold() -> None:
    book = book_with(*(chunk(number) for number in range(HELD_MAX)))
    sent(book)
    assert len(book.holds) == HELD_MAX


def test_a_report_has_room_for_as_many_words_as_a_message_may_have() -> None:
    book = book_with(chunk(0))
    for number in range(1, RUNS_MAX + 2):
        book.give_up(Fence(1, number))
    tell(book, book.cut_feed(Fence(1, 0), 10), 10)
    assert {report.fence.counter for report in sent(book)} == set(range(1, RUNS_MAX + 1))
    assert [report.fence.counter for report in sent(book)] == [RUNS_MAX + 1, 0]


def test_runs_and_failures_of_a_report_are_together_as_many_as_a_message_may_have() -> None:
    book = book_with(chunk(1), chunk(2))
    feed = book.cut_feed(Fence(1, 1), 10)
    runs, failures = values(0, 1).values * 4, (ItemFailure(1, FailureKind.ERROR, "E"),) * 4
    for ticket in range(RUNS_MAX // 8):
        book.on_batch(feed.fence, Batch(runs, failures, 0.0, 100, ticket))
    book.give_up(Fence(1, 2))
    assert [len(report.values) + len(report.failures) for report in sent(book)] == [RUNS_MAX]
    assert [report.fence.counter for report in sent(book)] == [2]


def test_ranges_given_back_that_do_not_fit_into_a_report_ride_in_the_next() -> None:
    book = book_with(chunk(stop=2 * RUNS_MAX + 2))
    feeds = [book.cut_feed(Fence(1, 1), 1) for _ in range(2 * RUNS_MAX + 2)]
    book.give_up(Fence(1, 1))
    for feed in feeds[::2]:
        book.on_feed_ended(feed.number)
    told = [sent(book), sent(book)]
    assert [len(reports[0].released) for reports in told] == [RUNS_MAX, 1]
    assert len(covered((*told[0], *told[1]))) == RUNS_MAX + 1


def test_a_report_that_its_outcomes_fill_to_the_last_byte_still_has_room_for_words() -> None:
    book = book_with(chunk(1), chunk(2))
    feed = book.cut_feed(Fence(1, 1), 10)
    for at in range(2):
        book.on_batch(feed.fence, values(at, at + 1, at, size_bytes=REPORT_BYTES_MAX // 2))
    book.give_up(Fence(1, 2))
    book.give_up(Fence(1, 3))
    assert [(report.fence.counter, len(report.values)) for report in sent(book)] == [(3, 0), (1, 2), (2, 0)]


def test_a_chunk_whose_outcomes_do_not_fit_any_more_is_not_in_the_report() -> None:
    book = book_with(chunk(1), chunk(2), chunk(3))
    for counter in (1, 2, 3):
        feed = book.cut_feed(Fence(1, counter), 10)
        book.on_batch(feed.fence, values(0, 10, size_bytes=REPORT_BYTES_MAX - 1))
    assert [[report.fence.counter for report in sent(book)] for _ in range(3)] == [[1], [2], [3]]


# ── What a chunk must be ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "good",
    [
        chunk(1, 7, 8),
        chunk(1, CHUNK_ITEMS_MAX, 2 * CHUNK_ITEMS_MAX),
        dataclasses.replace(chunk(1, 5, 10), attempts=((5, 7, 1), (8, 9, 2))),
        dataclasses.replace(chunk(1, 5, 10), numbers=None, inputs=(block(5, 7), block(7, 10))),
    ],
)
def test_a_chunk_whose_items_tile_its_range_is_taken(good: Chunk) -> None:
    check_chunk(good)
