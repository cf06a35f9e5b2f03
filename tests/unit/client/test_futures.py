"""Futures: cheap, and still what concurrent.futures promises."""

from __future__ import annotations

import concurrent.futures
import operator
import threading
from typing import Any

import pytest

from windrow.client.futures import Callbacks, Future, failed_future, resolve_values
from windrow.common.words import JobId


def make(index: int = 17) -> Future[Any]:
    return Future(JobId("job1"), index, Callbacks())


def test_the_id_is_known_at_once() -> None:
    assert make().id == "job1/17"


def test_a_future_that_nobody_looked_at_gets_no_lock_of_its_own() -> None:
    future = make()
    resolve_values([(future, 5)])
    assert "_condition" not in vars(future)
    assert future.result(0) == 5


def test_a_future_that_is_waited_on_wakes_its_waiter() -> None:
    future = make()
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(future.result(10)))
    thread.start()
    resolve_values([(future, "value")])
    thread.join(10)
    assert got == ["value"]


def test_concurrent_futures_can_wait_for_ours() -> None:
    futures = [make(index) for index in range(3)]
    done, not_done = concurrent.futures.wait(futures, timeout=0)
    assert (len(done), len(not_done)) == (0, 3)
    resolve_values([(futures[1], 1)])
    assert next(concurrent.futures.as_completed(futures, timeout=5)) is futures[1]


def test_a_submitted_call_cannot_be_taken_back() -> None:
    future = make()
    assert not future.cancel()
    assert not future.done()
    future.set_cancelled()
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)


def test_callbacks_never_run_on_the_io_thread() -> None:
    callbacks = Callbacks()
    callbacks.set_io_thread(threading.get_ident())
    future: Future[Any] = Future(JobId("job1"), 0, callbacks)
    ran_on: list[int] = []
    told = threading.Event()

    def note(done: object) -> None:
        ran_on.append(threading.get_ident())
        told.set()

    future.add_done_callback(note)
    resolve_values([(future, 1)])
    assert told.wait(10)
    assert ran_on != [threading.get_ident()]
    callbacks.stop(10)


def test_a_callback_on_a_done_future_runs_at_once_and_gets_the_future() -> None:
    future = make()
    resolve_values([(future, 1)])
    got: list[object] = []
    future.add_done_callback(got.append)
    assert got == [future]


def test_a_call_that_could_not_be_sent_has_no_id() -> None:
    future = failed_future(ValueError("x"), Callbacks())
    assert future.id == ""
    with pytest.raises(ValueError, match="x"):
        future.result(0)


def test_an_attribute_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        operator.attrgetter("nonsense")(make())
