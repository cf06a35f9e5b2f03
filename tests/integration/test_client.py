"""The client against a scheduler in memory over real sockets: calls, jobs, losses, restarts, refusals."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from tests.fake_scheduler import FakeScheduler
from windrow import (
    Client,
    ItemRefused,
    JobStatus,
    KeyConflict,
    NotFound,
    SchedulerUnreachable,
    StoreFailed,
    TaskFailed,
    UnknownTask,
    UsageError,
    WindrowWarning,
    call,
    task,
)
from windrow.client import calls, link
from windrow.client.failures import ClientClosed
from windrow.common.errors import UnknownOption, WindrowError
from windrow.common.limits import APPEND_ITEMS_MAX
from windrow.common.messages import Append, CancelJob, Health, HealthInfo, Refused, RetryJob, Started, StartJob
from windrow.common.options import OnLost, Options

pytestmark = pytest.mark.integration
PATIENCE_S = 30.0


@task(name="t:add")
def add(x: int, y: int = 0) -> int:
    return x + y


@task(name="t:invert", retries=2)
def invert(x: int) -> float:
    return 1 / x


@task(
    name="t:careful", retry_on=(ValueError,), never_retry_on=(KeyError, "OSError"), timeout=30, soft_timeout=20.0,
    max_failures=2, on_lost="fail",
)  # fmt: skip
def careful(x: int) -> int:
    return x


def nine(x: int) -> int:
    return 9


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    made = FakeScheduler({"t:add": add, "t:invert": invert, "t:careful": careful})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[Client]:
    with Client(scheduler.url) as made:
        yield made
        scheduler.working.set()


def until(condition: Callable[[], bool]) -> None:
    late_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < late_at, "waited in vain"
        threading.Event().wait(0.005)


class EveryOther:
    """Drops every `step`-th message of one way or both."""

    def __init__(self, step: int, *ways: str) -> None:
        self.step = step
        self.ways = ways
        self.count = 0

    def __call__(self, way: str, message: object) -> bool:
        if way not in self.ways:
            return False
        self.count += 1
        return self.count % self.step == 0


# ── Calls ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_gives_its_value(client: Client) -> None:
    future = client.submit(add, 2, y=3)
    job, index = future.id.split("/")
    assert (len(job), index) == (16, "0")
    assert future.result(PATIENCE_S) == 5
    assert client.submit("t:add", 1).result(PATIENCE_S) == 1


def test_a_failed_call_raises_the_remote_type(client: Client) -> None:
    future = client.submit(invert, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result(PATIENCE_S)
    assert isinstance(caught.value, TaskFailed)
    assert caught.value.node == "fake"


def test_twenty_thousand_calls_share_a_stream_and_few_appends(client: Client, scheduler: FakeScheduler) -> None:
    futures = [client.submit(add, number, 1) for number in range(20_000)]
    assert [future.result(PATIENCE_S) for future in futures] == list(range(1, 20_001))
    assert [future.id.split("/")[1] for future in futures] == [str(number) for number in range(20_000)]
    assert len(scheduler.jobs) == 1
    assert sum(isinstance(message, Append) for message in scheduler.seen) < 2_000
    assert len(scheduler.executed) == 20_000


def test_map_is_in_order_and_takes_endless_input(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windrow.client.client.MAP_AHEAD_MAX", 50)
    assert list(client.map(add, range(200), range(200))) == [2 * number for number in range(200)]

    def numbers() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    results = client.map(add, numbers())
    assert [next(results) for _ in range(100)] == list(range(100))


def test_threads_may_submit_at_once(client: Client, scheduler: FakeScheduler) -> None:
    def work(base: int) -> list[int]:
        return [future.result(PATIENCE_S) for future in [client.submit(add, base, n) for n in range(500)]]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == [[base + n for n in range(500)] for base in range(8)]
    assert len(scheduler.executed) == 4_000


def test_other_options_make_another_stream_and_the_delay_travels_in_the_append(
    client: Client, scheduler: FakeScheduler
) -> None:
    for target in (add, add.options(priority=9), add.options(priority=9), add.options(delay=60)):
        client.submit(target, 1).result(PATIENCE_S)
    assert [job.start.options.priority for job in scheduler.jobs.values()] == [None, 9, None]
    assert [message.delay_s for message in scheduler.seen if isinstance(message, Append)] == [0.0, 0.0, 0.0, 60.0]


def test_concurrent_futures_waits_for_our_futures(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    futures = [client.submit(add, number) for number in range(50)]
    assert not concurrent.futures.wait(futures, timeout=0.05).done
    scheduler.working.set()
    assert len(concurrent.futures.wait(futures, timeout=PATIENCE_S).done) == 50
    assert sorted(one.result() for one in concurrent.futures.as_completed(futures)) == list(range(50))


def test_a_callback_may_ask_the_scheduler(client: Client) -> None:
    got: list[str] = []
    told = threading.Event()
    future = client.submit(add, 1)

    def ask(done: object) -> None:
        got.append(client.health().cluster)
        told.set()

    future.add_done_callback(ask)
    assert told.wait(PATIENCE_S)
    assert got == ["c"]


def test_an_enqueued_call_is_durable_and_found_by_another_client(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    call_id = client.enqueue(add, 2, 2)
    job, index = call_id.split("/")
    assert [len(one.items) for name, one in scheduler.jobs.items() if name == job] == [int(index) + 1]
    with Client(scheduler.url) as other:
        future = other.future(call_id)
        assert other.future(call_id) is future
        assert not concurrent.futures.wait([future], timeout=0.05).done
        scheduler.working.set()
        assert future.result(PATIENCE_S) == 4
        assert other.future(call_id).result(PATIENCE_S) == 4, "again, when it is done already"


@pytest.mark.parametrize("sequences", [True, False])
def test_futures_of_another_client_wait_for_their_own_outcome(scheduler: FakeScheduler, sequences: bool) -> None:
    scheduler.sequences = sequences
    with Client(scheduler.url) as one, Client(scheduler.url) as other:
        first = [one.submit(invert, number) for number in range(900)]
        concurrent.futures.wait(first, timeout=PATIENCE_S)
        scheduler.working.clear()
        later = [one.submit(invert, number) for number in range(3)]
        one.flush(PATIENCE_S)
        found = [other.future(future.id) for future in [first[5], *later]]
        assert found[0].result(PATIENCE_S) == 1 / 5
        scheduler.working.set()
        assert [future.result(PATIENCE_S) for future in found[2:]] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError):
            found[1].result(PATIENCE_S)


def test_a_call_that_does_not_exist_is_not_found(client: Client) -> None:
    call_id = client.enqueue(add, 1)
    for wrong in (call_id.split("/")[0] + "/1", "nosuchjob0000000/0"):
        with pytest.raises(NotFound):
            client.future(wrong).result(PATIENCE_S)


def test_flush_returns_when_all_is_durable(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    futures = [client.submit(add, number) for number in range(1000)]
    client.flush(PATIENCE_S)
    assert sum(len(job.items) for job in scheduler.jobs.values()) == 1000
    assert not futures[-1].done()


def test_flush_says_how_much_is_left_when_time_is_up(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.drop = lambda way, message: isinstance(message, StartJob)
    client.submit(add, 1)
    with pytest.raises(TimeoutError, match="1 calls"):
        client.flush(0.05)
    scheduler.drop = lambda way, message: False


def test_an_unknown_task_fails_its_futures_and_the_flush(client: Client) -> None:
    future = client.submit("t:nonsense", 1)
    with pytest.raises(UnknownTask, match="nonsense"):
        future.result(PATIENCE_S)
    with pytest.raises(UnknownTask):
        client.flush(PATIENCE_S)
    client.flush(PATIENCE_S)
    with pytest.raises(UnknownTask):
        client.enqueue("t:nonsense", 1)


def test_a_refused_append_fails_its_futures_and_the_next_call_gets_a_new_stream(
    client: Client, scheduler: FakeScheduler
) -> None:
    good = client.submit(add, 1)
    assert good.result(PATIENCE_S) == 1
    scheduler.refuse = lambda message: Refused("item_refused", "no") if isinstance(message, Append) else None
    bad = client.submit(add, 2)
    with pytest.raises(ItemRefused):
        bad.result(PATIENCE_S)
    scheduler.refuse = lambda message: None
    after = client.submit(add, 3)
    assert after.result(PATIENCE_S) == 3
    assert after.id.split("/")[0] != good.id.split("/")[0]


def test_what_cannot_be_encoded_fails_its_future_alone(client: Client, scheduler: FakeScheduler) -> None:
    bad, good = client.submit("t:add", object()), client.submit(add, 1)
    assert good.result(PATIENCE_S) == 1
    with pytest.raises(ItemRefused, match="cannot be sent"):
        bad.result(PATIENCE_S)
    with pytest.raises(ItemRefused):
        client.enqueue(add, object())


def test_a_name_that_cannot_travel_is_refused_and_the_client_goes_on(client: Client) -> None:
    """The name of a file that is no UTF-8, as Python hands it on."""
    with pytest.raises(WindrowError, match="StartJob cannot be sent"):
        client.start(add, [1], name="caf\udce9.csv")
    assert client.submit(add, 1).result(PATIENCE_S) == 1


def test_the_notes_of_the_scheduler_become_warnings_once(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.note = "no live node offers t:add"
    with pytest.warns(WindrowWarning, match="no live node"):
        client.start(add, [1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for target in (add, add.options(priority=1)):
            client.submit(target, 1).result(PATIENCE_S)
    assert [str(one.message) for one in caught] == ["no live node offers t:add"]


def test_submitting_waits_while_too_much_is_unsent(
    client: Client, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "UNSENT_BYTES_MAX", 200)
    client.submit(add, 0).result(PATIENCE_S)
    scheduler.drop = lambda way, message: isinstance(message, Append)
    submitted: list[Any] = []
    thread = threading.Thread(target=lambda: submitted.extend(client.submit(add, n) for n in range(500)))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    scheduler.drop = lambda way, message: False
    thread.join(PATIENCE_S)
    assert [future.result(PATIENCE_S) for future in submitted] == list(range(500))


# ── Losses and restarts ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ways", [("request",), ("answer",), ("request", "answer")])
def test_lost_messages_lose_and_double_nothing(
    scheduler: FakeScheduler, ways: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(link, "POLL_TRY_SECONDS", 0.1)
    scheduler.drop = EveryOther(3, *ways)
    with Client(scheduler.url) as client:
        futures = [client.submit(add, number) for number in range(3000)]
        assert [future.result(PATIENCE_S) for future in futures] == list(range(3000))
        job = client.start(add, range(1500))
        assert list(job.results()) == list(range(1500))
        assert list(client.start(add, list(range(1500))).results()) == list(range(1500))
        scheduler.drop = lambda way, message: False
    assert len(scheduler.executed) == len(set(scheduler.executed)) == 6000


def test_everything_goes_on_after_a_restart(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    futures = [client.submit(add, number) for number in range(100)]
    client.flush(PATIENCE_S)
    job = client.start(add, range(10))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.wait, PATIENCE_S)
        scheduler.restart()
        scheduler.working.set()
        began = time.monotonic()
        assert [future.result(PATIENCE_S) for future in futures] == list(range(100))
        assert time.monotonic() - began < 10, "the broken connection is noticed, not waited out"
        assert waiting.result(PATIENCE_S).state == "done"
    assert client.submit(add, 1).result(PATIENCE_S) == 1


def test_calls_that_are_submitted_while_the_scheduler_is_away_run_when_it_is_back(
    client: Client, scheduler: FakeScheduler
) -> None:
    client.submit(add, 0).result(PATIENCE_S)
    scheduler.stop()
    futures = [client.submit(add, number) for number in range(10)]
    scheduler.epoch += 1
    scheduler.start()
    assert [future.result(PATIENCE_S) for future in futures] == list(range(10))


def test_answers_of_a_lower_epoch_are_ignored(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.epoch = 7
    assert client.health().epoch == 7
    scheduler.epoch = 6
    with pytest.raises(SchedulerUnreachable):
        client.ask(Health(), HealthInfo, timeout=0.3)
    scheduler.epoch = 8
    assert client.health().epoch == 8


def test_a_scheduler_that_is_loading_its_store_is_asked_again(client: Client, scheduler: FakeScheduler) -> None:
    refusals = iter(range(3))
    scheduler.refuse = lambda message: (
        Refused("store_failed", "the disk is full") if next(refusals, None) is not None else None
    )
    assert client.health().cluster == "c"


def full_disk(message: object) -> Refused | None:
    new_work = isinstance(message, StartJob | Append)
    return (
        Refused("store_failed", "the store cannot be written (disk full): nothing was accepted") if new_work else None
    )


def soon(function: Callable[[], object]) -> object:
    """What the function gives or raises; one that hangs fails the test instead of holding it up."""
    outcome: concurrent.futures.Future[object] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    assert concurrent.futures.wait([outcome], timeout=PATIENCE_S).done, "it hangs"
    return outcome.result()


def test_while_the_store_takes_nothing_new_work_is_tried_for_its_time_and_then_refused(
    scheduler: FakeScheduler,
) -> None:
    scheduler.refuse = full_disk
    client = Client(scheduler.url, timeout=0.4)
    try:
        for ask in (lambda: client.start(add, range(3)), lambda: client.enqueue(add, 1)):
            began = time.monotonic()
            with pytest.raises(StoreFailed, match=r"^the store cannot be written \(disk full\)"):
                soon(ask)
            assert time.monotonic() - began > 0.3
        future = client.submit(add, 2)
        for wait in (client.flush, lambda: client.flush(0.1)):
            with pytest.raises(StoreFailed, match=r"disk full.*\d calls are not durable yet"):
                soon(wait)
        assert not future.done()
        assert scheduler.executed == []
        scheduler.refuse = lambda message: None
        assert future.result(PATIENCE_S) == 2
        client.flush(PATIENCE_S)
        assert client.start(add, range(3)).wait(PATIENCE_S).done == 3
    finally:
        client.abandon()
    assert len(scheduler.executed) == len(set(scheduler.executed)) == 5


def test_a_start_goes_on_once_the_store_takes_it(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.refuse = full_disk
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(client.start, add, [1, 2, 3])
        until(lambda: sum(isinstance(message, StartJob) for message in scheduler.seen) > 2)
        scheduler.refuse = lambda message: None
        assert starting.result(PATIENCE_S).wait(PATIENCE_S).done == 3
    assert len(scheduler.jobs) == 1


def test_submitting_more_than_fits_is_refused_when_the_store_takes_nothing(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "UNSENT_BYTES_MAX", 200)
    scheduler.refuse = full_disk
    client = Client(scheduler.url, timeout=0.3)
    with pytest.raises(StoreFailed, match=r"disk full.*wait to be sent"):
        soon(lambda: [client.submit(add, 1) for _ in range(1000)])
    client.abandon()


def test_leaving_with_after_such_a_refusal_does_not_wait_for_what_was_not_taken(scheduler: FakeScheduler) -> None:
    scheduler.refuse = full_disk
    futures: list[Any] = []

    def work() -> None:
        with Client(scheduler.url, timeout=0.3) as client:
            futures.append(client.submit(add, 1))
            client.flush()

    with pytest.raises(StoreFailed):
        soon(work)
    with pytest.raises(ClientClosed):
        futures[0].result(PATIENCE_S)


def test_a_start_that_is_made_again_after_a_time_out_starts_nothing_twice(scheduler: FakeScheduler) -> None:
    with Client(scheduler.url, timeout=0.3) as client:
        for items in (range(4), [1, 2, 3, 4]):
            key = str(items)
            scheduler.drop = lambda way, message: way == "answer" and isinstance(message, Started)
            with pytest.raises(SchedulerUnreachable):
                client.start(add, items, key=key)
            scheduler.drop = lambda way, message: False
            assert client.start(add, items, key=key).wait(PATIENCE_S).done == 4
    assert len(scheduler.jobs) == 2
    assert len(scheduler.executed) == len(set(scheduler.executed)) == 8


def test_a_call_whose_answer_was_lost_is_found_by_its_id_and_ran_once(scheduler: FakeScheduler) -> None:
    with Client(scheduler.url, timeout=0.3) as client:
        scheduler.drop = lambda way, message: way == "answer" and not isinstance(message, Started)
        with pytest.raises(SchedulerUnreachable, match="may still be accepted later") as caught:
            client.enqueue(add, 20, 2)
        scheduler.drop = lambda way, message: False
        call_id = str(caught.value).split("client.future('")[1].split("'")[0]
        assert client.future(call_id).result(PATIENCE_S) == 22
    assert len(scheduler.executed) == 1


def test_whoever_waits_or_reads_goes_on_after_a_restart(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.budget = 700
    job = client.start(add, range(2000))
    # Only now: a call made earlier could be among the 700 that are let through.
    until(lambda: job.status().done == 700)
    call_id = client.enqueue(add, 4)
    with Client(scheduler.url) as other, ThreadPoolExecutor(4) as pool:
        waiting = [
            pool.submit(lambda: list(job.results())),
            pool.submit(lambda: sorted(value for _, value in job.as_completed())),
            pool.submit(lambda: job.wait(PATIENCE_S).done),
            pool.submit(lambda: other.future(call_id).result(PATIENCE_S)),
        ]
        try:
            for _ in range(2):
                scheduler.restart()
                assert not any(one.done() for one in waiting)
            scheduler.budget = None
            found = [one.result(PATIENCE_S) for one in waiting]
        finally:
            # Where one waits in vain the pool's threads must end all the same.
            client.abandon()
            other.abandon()
    assert found == [list(range(2000)), list(range(2000)), 2000, 4]
    assert len(scheduler.executed) == len(set(scheduler.executed)) == 2001


def test_without_a_scheduler_a_request_says_where_it_looked() -> None:
    with Client("tcp://127.0.0.1:9", timeout=0.2) as client:
        began = time.monotonic()
        with pytest.raises(SchedulerUnreachable, match=r"no scheduler answers at tcp://127\.0\.0\.1:9: is it running"):
            client.start(add, [1])
        with pytest.raises(SchedulerUnreachable, match="may still be accepted"):
            client.enqueue(add, 1)
        assert time.monotonic() - began < 5
        client.abandon()


def test_waiting_without_a_scheduler_ends_with_its_own_time_out_alone(scheduler: FakeScheduler) -> None:
    with Client(scheduler.url, timeout=0.1) as client:
        scheduler.working.clear()
        job = client.start(add, range(5))
        scheduler.stop()
        with pytest.raises(TimeoutError, match="had not ended"):
            job.wait(timeout=0.5)
        scheduler.working.set()
        scheduler.start()
        assert job.wait(timeout=PATIENCE_S).done == 5


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("items", [range(3, 3003, 3), list(range(3, 3003, 3)), (n for n in range(3, 3003, 3))])
def test_a_job_over_a_range_a_list_or_a_generator(client: Client, scheduler: FakeScheduler, items: Any) -> None:
    job = client.start(add, items, name="nightly", queue="q", priority=5, after=[client.start(add, [1])])
    status = job.wait(timeout=PATIENCE_S)
    assert (status.state, status.total, status.done, status.open) == ("done", 1000, 1000, False)
    assert (status.name, status.task, len(status.after)) == ("nightly", "t:add", 1)
    assert list(job.results()) == list(range(3, 3003, 3))
    started = next(m for m in scheduler.seen if isinstance(m, StartJob) and m.name == "nightly")
    assert (started.options.queue, started.options.priority) == ("q", 5)
    assert (started.numbers is not None) is isinstance(items, range)


def test_items_are_tuples_calls_and_single_arguments(client: Client) -> None:
    job = client.start(add, [(1, 2), call(3, y=4), 5])
    assert list(job.results()) == [3, 7, 5]


def test_a_job_of_many_items_travels_in_batches(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    client.start(add, iter(range(APPEND_ITEMS_MAX + 10)))
    counts = [message.count for message in scheduler.seen if isinstance(message, Append)]
    assert counts == [APPEND_ITEMS_MAX, 10]
    next(iter(scheduler.jobs.values())).pending.clear()


def test_results_come_in_order_with_failures_as_asked(client: Client) -> None:
    job = client.start(invert, [4, 0, 2])
    assert list(job.results(errors="skip")) == [0.25, 0.5]
    returned = list(job.results(errors="return"))
    assert (returned[0], returned[2]) == (0.25, 0.5)
    assert isinstance(returned[1], ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        list(job.results())
    with pytest.raises(UsageError, match="errors="):
        job.results(errors="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize("sequences", [True, False])
def test_results_wait_for_what_is_not_there_yet(client: Client, scheduler: FakeScheduler, sequences: bool) -> None:
    scheduler.sequences = sequences
    growing = client.open(add)
    results = growing.job.results()
    assert growing.append(range(3)) == 3
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with ThreadPoolExecutor(1) as pool:
        fourth = pool.submit(next, results)
        assert not concurrent.futures.wait([fourth], timeout=0.1).done
        before = len(scheduler.seen)
        assert not concurrent.futures.wait([fourth], timeout=0.3).done
        assert len(scheduler.seen) - before <= 2, "waiting is not asking again and again"
        growing.append([7])
        assert fourth.result(PATIENCE_S) == 7
    assert growing.close().wait(PATIENCE_S).total == 4
    assert list(results) == []


def test_outcomes_come_as_completed_failures_too(client: Client) -> None:
    job = client.start(invert, range(2000))
    outcomes = dict(job.as_completed())
    assert len(outcomes) == 2000
    assert isinstance(outcomes.pop(0), ZeroDivisionError)
    assert outcomes == {number: 1 / number for number in range(1, 2000)}


def test_two_readers_of_one_job_see_everything_once(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    job = client.start(add, range(3000))
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(lambda: [index for index, _ in job.as_completed()]) for _ in range(2)]
        ordered = pool.submit(lambda: list(job.results()))
        scheduler.working.set()
        assert all(sorted(reader.result(PATIENCE_S)) == list(range(3000)) for reader in readers)
        assert ordered.result(PATIENCE_S) == list(range(3000))


def test_the_same_key_with_the_same_content_finds_the_job(client: Client, scheduler: FakeScheduler) -> None:
    first = client.start(add, [1, 2, 3], key="k")
    assert client.start(add, iter([1, 2, 3]), key="k").id == first.id
    numbers = client.start(add, range(5), key="r")
    assert client.start(add, range(5), key="r").id == numbers.id
    for key, items in (("k", [1, 2, 4]), ("k", [1, 2]), ("k", [1, 2, 3, 4]), ("r", range(6))):
        with pytest.raises((KeyConflict, UsageError)):
            client.start(add, items, key=key)
    assert len(scheduler.jobs) == 2


def test_a_start_with_a_key_that_was_cut_off_goes_on(client: Client, scheduler: FakeScheduler) -> None:
    def breaks() -> Iterator[int]:
        yield from range(APPEND_ITEMS_MAX + 5)
        raise OSError("the disk went away")

    scheduler.working.clear()
    with pytest.raises(OSError, match="went away"):
        client.start(add, breaks(), key="k")
    job = client.start(add, range(APPEND_ITEMS_MAX + 5).__iter__(), key="k")
    assert (job.status().total, job.status().open) == (APPEND_ITEMS_MAX + 5, False)
    next(iter(scheduler.jobs.values())).pending.clear()


def test_a_start_without_a_key_that_fails_halfway_leaves_a_cancelled_job(
    client: Client, scheduler: FakeScheduler
) -> None:
    with pytest.raises(ItemRefused):
        client.start(add, [1, object()])
    until(lambda: any(isinstance(message, CancelJob) for message in scheduler.seen))
    (job,) = client.jobs()
    assert job.state == "cancelled"
    assert job.reason.startswith("start() failed: ItemRefused")


def test_a_client_that_is_closed_after_a_start_that_failed_has_cancelled_its_job(scheduler: FakeScheduler) -> None:
    for _ in range(10):
        with pytest.raises(ItemRefused), Client(scheduler.url) as client:
            client.start(add, [1, object()])
    assert [job.state for job in scheduler.jobs.values()] == ["cancelled"] * 10


def test_a_slow_generator_is_not_waited_out(
    client: Client, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windrow.client.client.BATCH_AGE_SECONDS", 0.0)

    def slow() -> Iterator[int]:
        for number in range(5):
            yield number
            if number == 3:
                until(lambda: len(scheduler.executed) > 0)

    assert client.start(add, slow()).wait(PATIENCE_S).done == 5


def test_failures_can_be_listed_and_retried(client: Client, scheduler: FakeScheduler) -> None:
    job = client.start(invert, [0, 1, 0, 0])
    assert job.wait(PATIENCE_S).state == "failed"
    assert [failure.item for failure in job.failures()] == [0, 2, 3]
    scheduler.functions["t:invert"] = nine
    assert job.retry_failed(items=[0, 1, 99]) == 1
    until(lambda: job.status().failed == 2)
    assert job.retry_failed() == 2
    assert job.wait(PATIENCE_S).state == "done"
    assert list(job.results()) == [9, 1.0, 9, 9]
    assert job.retry_failed() == 0


def test_failures_of_one_type_can_be_retried(client: Client, scheduler: FakeScheduler) -> None:
    job = client.start(invert, [0, "x", 0, 1, "y"])
    assert job.wait(PATIENCE_S).failed == 4
    scheduler.functions["t:invert"] = nine
    assert job.retry_failed(error_type="KeyError") == 0
    assert job.retry_failed(items=[0, 1], error_type="TypeError") == 1
    until(lambda: job.status().failed == 3)
    assert job.retry_failed(error_type="builtins.ZeroDivisionError") == 2
    assert list(job.results(errors="skip")) == [9, 9, 9, 1.0]


def test_more_runs_than_one_message_names_are_retried_in_several(
    client: Client, scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windrow.client.jobs.RUNS_MAX", 2)
    job = client.start(invert, [0, 1] * 5)
    job.wait(PATIENCE_S)
    scheduler.functions["t:invert"] = nine
    assert job.retry_failed(items=range(9)) == 5
    assert job.wait(PATIENCE_S).done == 10
    assert [len(message.items) for message in scheduler.seen if isinstance(message, RetryJob)] == [2, 2, 1]


def test_an_items_history_names_every_failed_attempt(client: Client, scheduler: FakeScheduler) -> None:
    job = client.start(invert, [1, 0])
    job.wait(PATIENCE_S)
    job.retry_failed()
    until(lambda: len(job.history(1)) == 2)
    assert [(one.item, one.type) for one in job.history(1)] == [(1, "builtins.ZeroDivisionError")] * 2
    assert job.history(0) == []
    with pytest.raises(UsageError, match="no item -1"):
        job.history(-1)


def test_a_paused_job_starts_nothing_until_it_is_resumed(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    job = client.start(add, range(5))
    job.pause()
    job.pause()
    scheduler.working.set()
    assert client.start(add, range(3)).wait(PATIENCE_S).done == 3
    assert (job.status().state, job.status().done) == ("paused", 0)
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.05)
    job.resume()
    assert job.wait(PATIENCE_S).done == 5


def test_a_job_and_an_item_explain_why_they_are_not_done(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    job = client.start(add, range(5))
    told = job.explain()
    assert (told.reasons, told.left_s) == (("the job waits for the test",), 2.5)
    assert (told.status.id, told.status.total) == (job.id, 5)
    assert job.explain(4).reasons == ("item 4 waits for the test",)
    with pytest.raises(UsageError, match="no item -1"):
        job.explain(-1)
    scheduler.working.set()


def test_the_options_for_failures_travel_from_the_task_and_from_start(client: Client, scheduler: FakeScheduler) -> None:
    client.start(careful, [1], max_failures=5, retry_on="shop.Busy").wait(PATIENCE_S)
    client.submit(careful.options(timeout=3), 1).result(PATIENCE_S)
    given = [message.options for message in scheduler.seen if isinstance(message, StartJob)]
    task_says = Options(
        retry_on=("ValueError",), never_retry_on=("KeyError", "OSError"), timeout_s=30.0, soft_timeout_s=20.0,
        max_failures=2, on_lost=OnLost.FAIL,
    )  # fmt: skip
    assert given[0] == dataclasses.replace(task_says, max_failures=5, retry_on=("shop.Busy",))
    assert given[1] == dataclasses.replace(task_says, timeout_s=3.0)


def test_a_cancelled_job_says_so_and_keeps_what_is_done(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.budget = done = 120
    job = client.start(add, range(250))
    until(lambda: job.status().done == done)
    job.cancel(reason="enough")
    status = job.wait(PATIENCE_S)
    assert (status.state, status.reason, status.done, status.cancelled) == ("cancelled", "enough", done, 250 - done)
    assert list(job.results(errors="skip")) == list(range(250 - done, 250))
    returned = list(job.results(errors="return"))
    assert [isinstance(one, CancelledError) for one in returned] == [True] * (250 - done) + [False] * done
    with pytest.raises(CancelledError, match="enough"):
        next(job.results())
    assert len(list(job.as_completed())) == done


def test_an_open_job_can_be_filled_from_elsewhere(client: Client, scheduler: FakeScheduler) -> None:
    opened = client.open(add, key="grows")
    opened.append([1, 2])
    with Client(scheduler.url) as other:
        again = other.open(add, key="grows")
        assert again.append([3]) == 3
        again.close()
    assert list(opened.job.results()) == [1, 2, 3]


def test_jobs_are_found_by_prefix_and_listed_without_streams(client: Client) -> None:
    job = client.start(add, [1])
    client.submit(add, 1).result(PATIENCE_S)
    assert client.job(job.id[:8]).id == job.id
    assert [status.id for status in client.jobs()] == [job.id]
    assert len(client.jobs(streams=True)) == 2
    assert isinstance(job.status(), JobStatus)
    with pytest.raises(NotFound):
        client.job("nosuch")


def test_bad_input_is_refused_before_anything_is_sent(client: Client, scheduler: FakeScheduler) -> None:
    for items in ("text", 5):
        with pytest.raises(UsageError, match="items"):
            client.start(add, items)  # type: ignore[arg-type]
    with pytest.raises(UnknownOption, match="colour"):
        client.start(add, [1], colour="red")
    with pytest.raises(UsageError, match="name has 300"):
        client.start(add, [1], name="x" * 300)
    assert scheduler.seen == []


def test_the_cluster_can_be_looked_at_and_steered(client: Client) -> None:
    assert [node.name for node in client.nodes()] == ["fake"]
    client.drain("fake")
    client.resume("fake")
    assert client.health().dispatch == "local"


# ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_leaving_with_waits_for_futures_and_closes_the_streams(scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    with Client(scheduler.url) as client:
        futures = [client.submit(add, number) for number in range(100)]
        client.enqueue(add, 1)
        client.start(add, range(5))
        threading.Timer(0.1, scheduler.working.set).start()
    assert all(future.done() for future in futures)
    assert [job.open for job in scheduler.jobs.values()] == [False, False, False]
    with pytest.raises(ClientClosed):
        client.submit(add, 1)
    with pytest.raises(ClientClosed):
        client.health()
    client.shutdown()


def test_shutdown_can_cancel_what_has_not_started(scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    client = Client(scheduler.url)
    futures = [client.submit(add, number) for number in range(10)]
    kept = client.enqueue(add, 1)
    client.flush(PATIENCE_S)
    client.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert scheduler.jobs[kept.split("/")[0]].state == "running"  # type: ignore[index]
    scheduler.working.set()


def test_shutdown_without_waiting_goes_on_behind(scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    client = Client(scheduler.url)
    future = client.submit(add, 1)
    client.shutdown(wait=False)
    scheduler.working.set()
    assert future.result(PATIENCE_S) == 1
    until(lambda: not any(job.open for job in scheduler.jobs.values()))


def test_whoever_waits_on_a_client_that_is_abandoned_is_told(scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    client = Client(scheduler.url)
    job = client.start(add, range(3))
    future = client.submit(add, 1)
    client.flush(PATIENCE_S)
    found = client.future(f"{job.id}/0")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.wait)
        assert not concurrent.futures.wait([waiting], timeout=0.05).done
        client.abandon()
        for one in (waiting, future, found):
            with pytest.raises(ClientClosed):
                one.result(PATIENCE_S)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_refuses_to_work_in_a_forked_child(client: Client) -> None:
    client.submit(add, 1).result(PATIENCE_S)
    child = os.fork()
    if child == 0:
        verdict = 1
        try:
            client.submit(add, 1)
        except ClientClosed as error:
            verdict = 0 if "make a new Client" in str(error) else 2
        finally:
            os._exit(verdict)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.submit(add, 1).result(PATIENCE_S) == 1
