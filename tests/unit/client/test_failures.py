"""The exceptions of failed items."""

from __future__ import annotations

import builtins
import dataclasses
import pickle
import traceback

import pytest

from windrow.client.failures import TaskFailed, task_failed
from windrow.common.errors import WindrowError
from windrow.common.messages import FailureInfo
from windrow.common.words import FailureKind


def failure(kind: str, message: str = "boom", attempts: int = 1) -> FailureInfo:
    return FailureInfo(7, FailureKind.ERROR, kind, message, "Traceback: here\n", "n1", attempts)


@pytest.mark.parametrize("name", ["ZeroDivisionError", "builtins.ZeroDivisionError"])
def test_a_builtin_is_caught_as_itself_and_as_a_failed_task(name: str) -> None:
    error = task_failed(failure(name), "job1")
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error, TaskFailed)
    assert isinstance(error, WindrowError)
    assert error.type == type(error).__name__ == "ZeroDivisionError"
    assert type(task_failed(failure(name))) is type(error), "made once for each type"


@pytest.mark.parametrize(
    "name",
    sorted(name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)),
)
def test_every_builtin_gives_an_ordinary_exception_that_reads_well(name: str) -> None:
    error = task_failed(failure(name))
    assert isinstance(error, TaskFailed)
    assert str(error) == f"{name}: boom [item 7, on node n1, 1 attempt]"
    assert not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | StopIteration | StopAsyncIteration)


@pytest.mark.parametrize("name", ["KeyError", "OSError", "TimeoutError", "UnicodeDecodeError", "ValueError"])
def test_common_builtins_are_caught_as_themselves(name: str) -> None:
    assert isinstance(task_failed(failure(name)), getattr(builtins, name))


@pytest.mark.parametrize("name", ["shop.orders.OutOfStock", "WorkerCrashed", "ExceptionGroup", "print", ""])
def test_other_types_are_plain_failed_tasks_that_name_the_type(name: str) -> None:
    error = task_failed(failure(name))
    assert type(error) is TaskFailed
    assert error.type == name


def test_it_says_where_how_often_and_shows_the_remote_traceback() -> None:
    error = task_failed(failure("ValueError", attempts=3), "job1")
    assert str(error) == "ValueError: boom [item 7 of job job1, on node n1, 3 attempts]"
    assert (error.message, error.node, error.attempts, error.item, error.traceback) == (
        "boom", "n1", 3, 7, "Traceback: here\n",
    )  # fmt: skip
    assert "Traceback: here" in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("name", ["TimeoutError", "windrow.common.errors.SoftTimeout", "ValueError", ""])
def test_an_item_over_its_time_limit_is_a_time_out_whatever_its_type(name: str) -> None:
    error = task_failed(dataclasses.replace(failure(name), kind=FailureKind.TIMEOUT))
    assert isinstance(error, TaskFailed)
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, ValueError)
    assert (error.kind, error.type) == (FailureKind.TIMEOUT, name)
    assert type(pickle.loads(pickle.dumps(error))) is type(error)


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.NODE, FailureKind.CRASH])
@pytest.mark.parametrize("name", ["WorkerCrashed", "NodeLost", "MemoryError", "TimeoutError"])
def test_what_ended_an_item_from_outside_is_told_by_its_kind_alone(kind: FailureKind, name: str) -> None:
    error = task_failed(dataclasses.replace(failure(name), kind=kind))
    assert type(error) is TaskFailed
    assert (error.kind, error.type) == (kind, name)


def test_a_crash_shows_what_the_worker_wrote_last_and_its_memory() -> None:
    info = dataclasses.replace(failure("WorkerCrashed"), log="one\ntwo\n", memory_bytes_peak=5 << 30)
    error = task_failed(info)
    assert (error.log, error.memory_bytes_peak) == ("one\ntwo\n", 5 << 30)
    assert "Last lines of the worker:\none\ntwo" in "".join(traceback.format_exception(error))
    assert "Last lines" not in "".join(traceback.format_exception(task_failed(failure("ValueError"))))


def test_it_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(task_failed(failure("ValueError"), "job1")))
    assert isinstance(error, ValueError)
    assert str(error) == "ValueError: boom [item 7 of job job1, on node n1, 1 attempt]"
