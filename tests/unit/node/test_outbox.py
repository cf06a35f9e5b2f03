"""A worker's outcomes on their way out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.waiting import wait_until
from windrow.common.blocks import block_entries
from windrow.common.messages import ItemFailure
from windrow.common.words import FailureKind
from windrow.node import outbox as module
from windrow.node.outbox import BATCH_BYTES, Outbox
from windrow.node.worker_link import FeedOutcomes


class Daemon:
    """Takes what is sent, until it has gone."""

    def __init__(self) -> None:
        self.sent: list[FeedOutcomes] = []
        self.gone = False

    def take(self, message: object) -> None:
        if self.gone:
            raise BrokenPipeError
        assert isinstance(message, FeedOutcomes)
        self.sent.append(message)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def outbox(daemon: Daemon) -> Outbox:
    return Outbox(daemon.take)


def failure(item: int, message: str = "", traceback: str = "", log: str = "") -> ItemFailure:
    return ItemFailure(item, FailureKind.ERROR, "ValueError", message, traceback, log=log)


def values_of(told: FeedOutcomes) -> list[tuple[int, int, list[bytes]]]:
    return [(run.start, run.stop, list(block_entries(run.block))) for run in told.values]


def test_values_and_failures_leave_in_the_order_of_their_items(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 100)
    outbox.entries += [b"a", b"b"]
    outbox.fail(failure(102))
    outbox.entries += [b"d"]
    outbox.flush()
    (told,) = daemon.sent
    assert (told.feed, told.next, told.ended) == (7, 104, False)
    assert values_of(told) == [(100, 102, [b"a", b"b"]), (103, 104, [b"d"])]
    assert [each.item for each in told.failures] == [102]


def test_nothing_is_sent_twice_and_where_there_is_nothing_nothing_is_sent(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 0)
    outbox.flush()
    assert daemon.sent == []
    for _ in range(2):
        outbox.entries.append(b"a")
        outbox.fail(failure(len(daemon.sent) * 2 + 1))
        outbox.flush()
        outbox.flush()
    assert [(values_of(told), [each.item for each in told.failures]) for told in daemon.sent] == [
        ([(0, 1, [b"a"])], [1]),
        ([(2, 3, [b"a"])], [3]),
    ]


def test_values_alone_and_failures_alone_are_sent_too(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 0)
    outbox.entries.append(b"a")
    outbox.flush()
    outbox.fail(failure(1))
    outbox.flush()
    assert [(len(told.values), len(told.failures), told.next) for told in daemon.sent] == [(1, 0, 1), (0, 1, 2)]


def test_the_end_of_a_feed_is_told_with_what_is_left_and_what_was_executed(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 100)
    outbox.entries += [b"a", b"b"]
    outbox.flush()
    outbox.entries.append(b"c")
    outbox.end(103, 1.5)
    told = daemon.sent[-1]
    assert values_of(told) == [(102, 103, [b"c"])]
    assert (told.next, told.ended, told.executed, told.elapsed_s) == (103, True, 3, 1.5)
    outbox.begin(8, 0)
    outbox.end(0, 0.0)
    assert daemon.sent[-1] == FeedOutcomes(8, 0, ended=True), "told of a feed without outcomes, too"


def test_time_in_the_tasks_function_is_told_once(daemon: Daemon, outbox: Outbox) -> None:
    for feed in (7, 8):
        outbox.begin(feed, 0)
        for _ in range(2):
            outbox.busy_s += 0.5
            outbox.entries.append(b"a")
            outbox.flush()
        outbox.busy_s += 0.25
        outbox.end(2, 1.0)
    assert [told.busy_s for told in daemon.sent] == [0.5, 0.5, 0.25] * 2


def test_the_first_item_without_an_outcome_is_known_before_anything_is_sent(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 10)
    assert outbox.catch_up() == 10
    outbox.entries += [b"a", b"b"]
    assert outbox.catch_up() == 12
    outbox.fail(failure(12))
    assert outbox.catch_up() == 13
    assert daemon.sent == []


def test_when_the_last_batch_left_is_known(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    at: list[float] = []
    for now in (1000.0, 1001.0, 1002.0):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda now=now: now))
        if now == 1000.0:
            outbox.begin(7, 0)
        outbox.entries += [b"a"] if now == 1001.0 else []
        outbox.flush()
        at.append(outbox.sent_at)
    assert at == [1000.0, 1001.0, 1001.0], "or when the feed began; looking alone is no batch"


def test_many_failures_do_not_wait_for_the_end_of_the_feed(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 0)
    for item in range(0, 2000, 2):
        outbox.entries.append(b"a")
        outbox.fail(failure(item + 1))
    parts = [len(told.values) + len(told.failures) for told in daemon.sent]
    assert 1500 < sum(parts) <= 2000
    assert 100 < max(parts) < 1000


@pytest.mark.parametrize("text", ["message", "traceback", "log"])
def test_long_failures_do_not_wait_for_many(daemon: Daemon, outbox: Outbox, text: str) -> None:
    outbox.begin(7, 0)
    for item in range(100):
        outbox.fail(failure(item, **{text: "x" * (BATCH_BYTES // 8)}))
    counts = [len(told.failures) for told in daemon.sent]
    assert set(counts) == {9}, "the first that is over the limit goes along, and counting begins anew"


# ── The flusher ──────────────────────────────────────────────────────────────────────────────────────────────────


class Asleep(threading.Event):
    """What the flusher waits on where there is nothing to do; says that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.before_clear = lambda: None

    def clear(self) -> None:
        self.before_clear()
        super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.waiting.set()
        return super().wait(timeout)


@pytest.fixture
def flusher(daemon: Daemon, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Thread]:
    monkeypatch.setattr(module, "BATCH_AGE_S", 0.002)
    before = set(threading.enumerate())
    outbox.start()
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon, "it keeps no worker from ending"
    yield thread
    daemon.gone = True
    outbox.begin(99, 0)
    outbox.entries.append(b"x")
    thread.join(2)
    assert not thread.is_alive(), "it ends when the daemon has gone"


@pytest.mark.usefixtures("flusher")
def test_what_is_finished_does_not_wait_for_a_long_item_behind_it(daemon: Daemon, outbox: Outbox) -> None:
    outbox.begin(7, 0)
    for item in range(3):
        outbox.entries.append(b"a")
        wait_until(lambda item=item: len(daemon.sent) > item, 2, "an outcome to be sent")
    assert [values_of(told) for told in daemon.sent] == [[(item, item + 1, [b"a"])] for item in range(3)]


def test_where_batches_leave_often_the_flusher_sends_none_and_seldom_looks(
    daemon: Daemon, outbox: Outbox, flusher: threading.Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = sleeps = 0

    def now() -> float:
        nonlocal looks
        looks += threading.current_thread() is flusher
        return 1000.0

    def sleep(for_s: float) -> None:
        nonlocal sleeps
        sleeps += 1
        time.sleep(for_s)

    with monkeypatch.context() as patched:
        patched.setattr(module, "time", SimpleNamespace(monotonic=now, sleep=sleep))
        outbox.begin(7, 0)
        outbox.entries.append(b"a")
        wait_until(lambda: looks > 5, 2, "the flusher to look")
        assert sleeps >= looks - 1
        assert daemon.sent == []


@pytest.fixture
def asleep(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Outbox, Asleep]]:
    """An outbox whose flusher has gone to sleep."""
    monkeypatch.setattr(module, "BATCH_AGE_S", 0.002)
    event = Asleep()
    with monkeypatch.context() as patched:
        patched.setattr(module.threading, "Event", lambda: event)
        outbox = Outbox(daemon.take)
    outbox.start()
    assert event.waiting.wait(2)
    yield outbox, event
    daemon.gone = True
    outbox.begin(99, 0)
    outbox.entries.append(b"a")


def test_an_idle_flusher_sleeps_until_the_next_feed(daemon: Daemon, asleep: tuple[Outbox, Asleep]) -> None:
    outbox, event = asleep
    for feed in range(2):
        event.waiting.clear()
        outbox.begin(feed, 0)
        outbox.entries.append(b"a")
        wait_until(lambda feed=feed: daemon.sent and daemon.sent[-1].feed == feed, 2, "an outcome to be sent")
        outbox.end(1, 0.0)
        assert event.waiting.wait(2)


def test_a_feed_that_begins_while_the_flusher_falls_asleep_keeps_it_awake(
    daemon: Daemon, asleep: tuple[Outbox, Asleep]
) -> None:
    outbox, event = asleep
    event.before_clear = lambda: outbox.begin(7, 0)
    outbox.begin(6, 0)
    outbox.end(0, 0.0)
    outbox.entries.append(b"a")
    wait_until(lambda: daemon.sent[-1].feed == 7, 2, "an outcome to be sent")
