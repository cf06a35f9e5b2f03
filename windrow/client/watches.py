"""Which jobs somebody here wants news of: makes the poll that asks for all of them, and hands its answer round.

A poll names a job once, so interests in one job take turns: those that are furthest behind are asked for first, and
once all have seen the same they are served together.
"""

from __future__ import annotations

import threading
from typing import Protocol

from windrow.common.errors import NotFound, WindrowError
from windrow.common.limits import RUNS_MAX
from windrow.common.messages import ClientPoll, News, Polled, Watch
from windrow.common.words import TERMINAL_STATES, JobId


class Interest(Protocol):
    """Somebody who wants news of one job. The methods are called on the I/O thread and must not block."""

    job: JobId
    after: int
    """Sequence of the last outcome seen; moved on by the watchlist, and back by its owner where it wants more."""
    outcomes: bool
    """False: only the end of the job is of interest."""

    def on_news(self, news: News) -> bool:
        """Take the news; False: no more is wanted."""
        ...

    def on_lost(self, error: WindrowError) -> None:
        """No news will come: the job does not exist, or the client was closed."""
        ...


def is_over(news: News) -> bool:
    """True where the job has ended and this is the last news of it."""
    return news.state in TERMINAL_STATES and not news.more


class Watchlist:
    """All interests of one client."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._interests: dict[JobId, list[Interest]] = {}
        self._asked: dict[JobId, tuple[int, list[Interest]]] = {}
        """From where the last poll asks, and for whom."""
        self._turn = 0

    def add(self, interest: Interest) -> None:
        """From the next poll on `interest` is served."""
        with self._lock:
            self._interests.setdefault(interest.job, []).append(interest)

    def remove(self, interest: Interest) -> None:
        """`interest` gets nothing more; one that is not there is no matter."""
        with self._lock:
            kept = [other for other in self._interests.get(interest.job, ()) if other is not interest]
            if kept:
                self._interests[interest.job] = kept
            else:
                self._interests.pop(interest.job, None)

    def next_poll(self) -> ClientPoll | None:
        """The poll to send now; none where nobody waits for anything."""
        with self._lock:
            jobs = list(self._interests)
            if len(jobs) > RUNS_MAX:
                # More than one poll can name: they take turns, each as long as a poll is parked.
                self._turn = (self._turn + RUNS_MAX) % len(jobs)
                jobs = (jobs[self._turn :] + jobs[: self._turn])[:RUNS_MAX]
            watches: list[Watch] = []
            self._asked = {}
            for job in jobs:
                behind = _furthest_behind(self._interests[job])
                watch = Watch(job, behind[0].after if behind[0].outcomes else -1, behind[0].outcomes)
                watches.append(watch)
                self._asked[job] = (watch.after, behind)
            return ClientPoll(self._client, tuple(watches)) if watches else None

    def on_polled(self, polled: Polled) -> bool:
        """Hand the answer to the last poll round; False where it moved nothing on."""
        moved = False
        for news in polled.news:
            for interest in self._served(news.job, over=is_over(news)):
                moved |= self._hand_over(interest, news)
        for job in polled.unknown:
            for interest in self._served(job, over=True):
                moved = True
                self.remove(interest)
                interest.on_lost(_unknown(job))
        return moved

    def on_lost(self, error: WindrowError) -> None:
        """Nobody gets anything any more."""
        with self._lock:
            lost = [interest for interests in self._interests.values() for interest in interests]
            self._interests.clear()
        for interest in lost:
            interest.on_lost(error)

    def _served(self, job: JobId, *, over: bool) -> list[Interest]:
        """Those whom the news of this job is for: its end those who wait for the end alone, the rest who asked for it.

        Not those who have gone back since: they would miss what lies between.
        """
        with self._lock:
            after, asked = self._asked.get(job, (-1, []))
            there = self._interests.get(job, [])
            return [one for one in there if (one in asked and one.after >= after if one.outcomes else over)]

    def _hand_over(self, interest: Interest, news: News) -> bool:
        over = is_over(news)
        moved = over or news.next > interest.after
        interest.after = max(interest.after, news.next)
        if not interest.on_news(news) or over:
            self.remove(interest)
        return moved


def _furthest_behind(interests: list[Interest]) -> list[Interest]:
    reading = [interest for interest in interests if interest.outcomes]
    if not reading:
        return list(interests)
    after = min(interest.after for interest in reading)
    return [interest for interest in reading if interest.after == after]


def _unknown(job: JobId) -> WindrowError:
    return NotFound(f"there is no job {job} (any more): it was never started, or its time of keeping has passed")
