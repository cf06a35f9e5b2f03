"""Futures of other people's calls: each meets its own outcome, whenever it was read."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any, cast

import pytest

from windrow.client.futures import Callbacks
from windrow.client.link import Exchange, Link
from windrow.client.lookups import Lookups
from windrow.client.watches import Watchlist
from windrow.common.blocks import pack_block
from windrow.common.errors import NotFound
from windrow.common.messages import JobInfo, News, Outcomes, Polled, ValueRun
from windrow.common.values import encode_value
from windrow.common.words import JobId, JobState

JOB = JobId("job1")


class Posts:
    """Stands in for the link: keeps what is posted."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def post(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def watch(self) -> None:
        pass


class Bench:
    """Lookups without a scheduler."""

    def __init__(self) -> None:
        self.posts = Posts()
        self.watchlist = Watchlist("c")
        self.lookups = Lookups(cast("Link", self.posts), self.watchlist, Callbacks())

    def watched_after(self) -> int | None:
        poll = self.watchlist.next_poll()
        return None if poll is None else poll.watches[0].after

    def tell(self, news: News) -> None:
        self.watchlist.next_poll()
        self.watchlist.on_polled(Polled(1, (news,)))


def page(sequence: int = -1, state: JobState = JobState.RUNNING, values: tuple[ValueRun, ...] = ()) -> Outcomes:
    info = JobInfo(JOB, "", "t", state, True, 100, 0, 0, 0, 0, 100)
    return Outcomes(1, info, values, (), 0, sequence)


def run(start: int, *values: Any) -> ValueRun:
    return ValueRun(start, start + len(values), pack_block([encode_value(value) for value in values]))


def test_what_has_an_outcome_is_read_and_not_watched() -> None:
    bench = Bench()
    future = bench.lookups.future(JOB, 3)
    bench.posts.exchanges[0].on_answer(page(values=(run(3, "three", "four"),)))
    assert future.result(0) == "three"
    assert bench.watched_after() is None


@pytest.mark.parametrize("sequences", [(5, 9), (9, 5)])
def test_each_is_watched_from_what_was_committed_when_it_was_read(sequences: tuple[int, int]) -> None:
    bench = Bench()
    futures = [bench.lookups.future(JOB, index) for index in (1, 2)]
    for exchange, sequence in zip(bench.posts.exchanges, sequences, strict=True):
        exchange.on_answer(page(sequence))
    assert bench.watched_after() == 5
    bench.tell(News(JOB, 9, JobState.RUNNING, (run(0, "zero", "one"),)))
    assert futures[0].result(0) == "one"
    assert not futures[1].done()
    assert bench.watched_after() == 9
    bench.tell(News(JOB, 10, JobState.RUNNING, (run(2, "two"),)))
    assert futures[1].result(0) == "two"
    assert bench.watched_after() is None, "nobody waits any more"


def test_a_call_whose_reading_was_answered_late_misses_nothing_of_the_news_under_way() -> None:
    """Reading and news come on two sockets: it had no outcome as of 5, got one at 7, and 9 is being asked for."""
    bench = Bench()
    futures = [bench.lookups.future(JOB, index) for index in (1, 2)]
    bench.posts.exchanges[0].on_answer(page(9))
    assert bench.watched_after() == 9
    bench.posts.exchanges[1].on_answer(page(5))
    bench.watchlist.on_polled(Polled(1, (News(JOB, 12, JobState.RUNNING, (run(1, "one"),)),)))
    assert bench.watched_after() == 5
    bench.tell(News(JOB, 12, JobState.RUNNING, (run(1, "one", "two"),)))
    assert [future.result(0) for future in futures] == ["one", "two"]


def test_a_cancelled_job_cancels_and_one_that_ended_without_the_outcome_says_so() -> None:
    bench = Bench()
    early, late, kept = (bench.lookups.future(JOB, index) for index in range(3))
    bench.posts.exchanges[0].on_answer(page(state=JobState.CANCELLED))
    bench.posts.exchanges[1].on_answer(page(4))
    bench.tell(News(JOB, 4, JobState.CANCELLED))
    bench.posts.exchanges[2].on_answer(page(state=JobState.DONE))
    for future in (early, late):
        with pytest.raises(CancelledError):
            future.result(0)
    with pytest.raises(NotFound, match="not kept"):
        kept.result(0)
