"""Interests in jobs: who is asked for, who is told, and that nobody misses or repeats an outcome."""

from __future__ import annotations

import weakref

import pytest

from windrow.client.watches import Watchlist
from windrow.common.errors import NotFound, WindrowError
from windrow.common.limits import RUNS_MAX
from windrow.common.messages import News, Polled, Watch
from windrow.common.words import JobId, JobState

JOB = JobId("job1")


class Reader:
    """An interest that writes down what it is told."""

    def __init__(self, job: JobId = JOB, after: int = -1, outcomes: bool = True) -> None:
        self.job = job
        self.after = after
        self.outcomes = outcomes
        self.told: list[News] = []
        self.lost: WindrowError | None = None

    def on_news(self, news: News) -> bool:
        self.told.append(news)
        return True

    def on_lost(self, error: WindrowError) -> None:
        self.lost = error


def news(following: int, state: JobState = JobState.RUNNING, more: bool = False) -> News:
    return News(JOB, following, state, more=more)


def watched(watchlist: Watchlist) -> tuple[Watch, ...]:
    poll = watchlist.next_poll()
    return () if poll is None else poll.watches


def test_without_interests_there_is_no_poll() -> None:
    watchlist = Watchlist("c")
    reader = Reader()
    watchlist.add(reader)
    watchlist.remove(reader)
    assert watchlist.next_poll() is None


def test_the_one_behind_is_served_first_and_the_other_hears_nothing_twice() -> None:
    watchlist = Watchlist("c")
    ahead, behind = Reader(after=9), Reader(after=4)
    watchlist.add(ahead)
    watchlist.add(behind)
    assert watched(watchlist) == (Watch(JOB, 4),)
    assert watchlist.on_polled(Polled(1, (news(9),)))
    assert (len(behind.told), len(ahead.told)) == (1, 0)
    assert watched(watchlist) == (Watch(JOB, 9),)
    watchlist.on_polled(Polled(1, (news(12),)))
    assert (behind.after, ahead.after, len(ahead.told)) == (12, 12, 1)


def test_one_that_wants_nothing_more_leaves_the_others_of_its_job_alone() -> None:
    watchlist = Watchlist("c")
    first, second = Reader(), Reader()
    watchlist.add(first)
    watchlist.add(second)
    watchlist.remove(first)
    assert watched(watchlist) == (Watch(JOB, -1),)
    watchlist.on_polled(Polled(1, (news(3),)))
    assert (len(first.told), len(second.told)) == (0, 1)


def test_one_that_goes_back_while_a_poll_is_under_way_gets_nothing_that_begins_behind_it() -> None:
    watchlist = Watchlist("c")
    reader = Reader(after=9)
    watchlist.add(reader)
    assert watched(watchlist) == (Watch(JOB, 9),)
    reader.after = 5
    assert not watchlist.on_polled(Polled(1, (news(12),)))
    assert (reader.told, reader.after) == ([], 5)
    assert watched(watchlist) == (Watch(JOB, 5),)


def test_the_end_is_told_once_all_is_read_to_those_who_wait_for_it_alone_too() -> None:
    watchlist = Watchlist("c")
    reader, waiter = Reader(), Reader(outcomes=False)
    watchlist.add(reader)
    watchlist.add(waiter)
    assert watched(watchlist) == (Watch(JOB, -1),)
    watchlist.on_polled(Polled(1, (news(5, JobState.DONE, more=True),)))
    assert waiter.told == []
    assert watched(watchlist) == (Watch(JOB, 5),)
    watchlist.on_polled(Polled(1, (news(8, JobState.DONE),)))
    assert len(waiter.told) == 1
    assert watchlist.next_poll() is None, "a job that has ended is watched no more"


def test_waiting_for_the_end_alone_asks_for_no_outcomes() -> None:
    watchlist = Watchlist("c")
    waiter = Reader(after=7, outcomes=False)
    watchlist.add(waiter)
    assert watched(watchlist) == (Watch(JOB, outcomes=False),)
    assert not watchlist.on_polled(Polled(1, (news(9),)))
    assert waiter.told == [], "it has not ended"


def test_an_unknown_job_is_a_loss_for_all_who_watch_it() -> None:
    watchlist = Watchlist("c")
    readers = [Reader(), Reader(outcomes=False)]
    for reader in readers:
        watchlist.add(reader)
    watchlist.next_poll()
    assert watchlist.on_polled(Polled(1, unknown=(JOB,)))
    assert all(isinstance(reader.lost, NotFound) for reader in readers)
    assert watchlist.next_poll() is None


def test_an_interest_that_came_after_the_poll_waits_for_the_next() -> None:
    watchlist = Watchlist("c")
    early, late = Reader(after=3), Reader(after=-1)
    watchlist.add(early)
    watchlist.next_poll()
    watchlist.add(late)
    watchlist.on_polled(Polled(1, (news(7),)))
    assert late.told == [], "it would have missed the outcomes up to 3"
    assert watched(watchlist) == (Watch(JOB, -1),)


@pytest.mark.parametrize("asked", [Reader(after=3), Reader(outcomes=False)])
def test_one_that_came_after_the_poll_hears_of_the_end_with_its_outcomes_and_not_before(asked: Reader) -> None:
    watchlist = Watchlist("c")
    late = Reader(after=-1)
    watchlist.add(asked)
    watchlist.next_poll()
    watchlist.add(late)
    watchlist.on_polled(Polled(1, (news(7, JobState.DONE),)))
    assert (len(asked.told), late.told) == (1, [])
    assert watched(watchlist) == (Watch(JOB, -1),)
    watchlist.on_polled(Polled(1, (news(7, JobState.DONE),)))
    assert len(late.told) == 1


def test_once_the_client_is_closed_everybody_is_told_so_and_nothing_is_asked() -> None:
    watchlist = Watchlist("c")
    readers = [Reader(), Reader(outcomes=False), Reader(JobId("job2"))]
    for reader in readers:
        watchlist.add(reader)
    error = WindrowError("closed")
    watchlist.on_lost(error)
    assert [reader.lost for reader in readers] == [error] * 3
    assert watchlist.next_poll() is None


@pytest.mark.parametrize("others", [0, 1])
def test_one_that_was_removed_is_let_go_of_with_the_next_poll(others: int) -> None:
    watchlist, reader = Watchlist("c"), Reader()
    watchlist.add(reader)
    watchlist.next_poll()
    watchlist.remove(reader)
    for _ in range(others):
        watchlist.add(Reader(JobId("job2")))
    watchlist.next_poll()
    gone = weakref.ref(reader)
    del reader
    assert gone() is None


def test_news_that_moves_nothing_on_is_told_apart() -> None:
    watchlist = Watchlist("c")
    watchlist.add(Reader(after=7))
    watchlist.next_poll()
    assert not watchlist.on_polled(Polled(1, (news(7),)))
    assert not watchlist.on_polled(Polled(1))
    assert watchlist.on_polled(Polled(1, (news(7, JobState.DONE),))), "its end is news"


def test_more_jobs_than_fit_a_poll_take_turns() -> None:
    watchlist = Watchlist("c")
    jobs = {JobId(f"job{number}") for number in range(RUNS_MAX + 10)}
    for job in jobs:
        watchlist.add(Reader(job))
    first = {watch.job for watch in watched(watchlist)}
    assert len(first) == RUNS_MAX
    assert first | {watch.job for watch in watched(watchlist)} == jobs
