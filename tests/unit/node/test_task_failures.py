"""What becomes of an exception that a task raised."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from windrow.common.errors import CommandFailed, CommandTimeout, NodeUnfit, Retry, SoftTimeout
from windrow.common.limits import NAME_CHARS_MAX, TEXT_CHARS_MAX
from windrow.common.messages import ItemFailure
from windrow.common.words import FailureKind
from windrow.node import task_failures
from windrow.node.task_failures import failure_of, find_bases, too_large, unknown_task, unreadable, unsendable
from windrow.node.worker_link import FROM_WORKER, FeedOutcomes


class Deep(KeyError):
    """An error with a few bases."""


def raised(error: BaseException) -> ItemFailure:
    try:
        raise error
    except BaseException as caught:
        return failure_of(3, caught)


def test_bases_are_named_nearest_first_without_object() -> None:
    assert find_bases(Deep) == ("KeyError", "LookupError", "Exception", "BaseException")
    assert raised(Deep("x")).type == f"{__name__}.Deep"


def test_a_long_line_of_bases_and_a_long_name_are_cut() -> None:
    kind: type[Exception] = ValueError
    for number in range(100):
        kind = type(f"E{number}" + "x" * 500, (kind,), {})
    failure = raised(kind())
    assert len(failure.bases) == 64
    assert max(len(name) for name in (*failure.bases, failure.type)) == NAME_CHARS_MAX


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (5, 5.0), (0.25, 0.25), (-1, 0.0), (math.inf, 366 * 86400.0), (10**400, 366 * 86400.0), (-(10**400), 0.0),
        (None, None), (math.nan, None), ("5", None), (True, None),
    ],
)  # fmt: skip
def test_after_is_told_where_it_is_a_time(after: object, expected: float | None) -> None:
    assert raised(Retry("again", after=after)).after_s == expected  # type: ignore[arg-type]


def test_a_soft_timeout_that_escapes_is_a_timeout() -> None:
    assert raised(SoftTimeout("over")).kind is FailureKind.TIMEOUT
    assert raised(TimeoutError("the task's own")).kind is FailureKind.ERROR


def test_an_exception_whose_text_cannot_be_made_is_a_failure_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "cannot be made" in raised(Odd()).message
    assert raised(ValueError("\udc80")).message == "\\udc80"


def sent(failure: ItemFailure) -> ItemFailure:
    """As it arrives at the daemon."""
    told = FROM_WORKER.decode(FROM_WORKER.encode(FeedOutcomes(1, 1, failures=(failure,))))
    assert isinstance(told, FeedOutcomes)
    return told.failures[0]


@pytest.mark.parametrize("sign", ["x", "\udc80", "\U0001f600"])
@pytest.mark.parametrize("length", [0, TEXT_CHARS_MAX - 1, TEXT_CHARS_MAX, TEXT_CHARS_MAX + 1, 70_000])
def test_a_failure_with_any_text_can_be_sent(sign: str, length: int) -> None:
    for failure in (
        raised(ValueError(sign * length)),
        raised(CommandFailed(sign * length, sign * length)),
        unsendable(3, object(), ValueError(sign * length)),
    ):
        assert sent(failure) == failure
        assert max(len(failure.message), len(failure.traceback), len(failure.log)) <= TEXT_CHARS_MAX


def test_of_a_long_text_the_middle_is_left_out_and_how_much_that_is_is_said() -> None:
    text = "".join(f"{number:07d}," for number in range(10_000))
    message = raised(ValueError(text)).message
    found = re.fullmatch(r"(.*)\n… (\d+) characters left out …\n(.*)", message)
    assert found is not None
    start, count, end = found.groups()
    assert text.startswith(start)
    assert text.endswith(end)
    assert len(start) + int(count) + len(end) == len(text)
    assert len(start) == len(end) > 0.49 * TEXT_CHARS_MAX
    assert raised(ValueError(text[:TEXT_CHARS_MAX])).message == text[:TEXT_CHARS_MAX]


def test_of_a_command_its_last_lines_are_told_in_place_of_a_traceback() -> None:
    failure = raised(CommandFailed("exit code 3", "no such file"))
    assert (failure.kind, failure.message, failure.log) == (FailureKind.ERROR, "exit code 3", "no such file")
    assert (failure.item, failure.traceback) == (3, "")
    assert failure.type.endswith("CommandFailed")
    assert failure.bases[-2:] == ("Exception", "BaseException")
    assert raised(CommandTimeout("too long")).kind is FailureKind.TIMEOUT
    assert raised(NodeUnfit("no such device")).kind is FailureKind.UNFIT


def called_by_the_worker(task: Callable[..., object]) -> ItemFailure:
    """The failure of a task that a frame of the worker's own file calls."""
    names: dict[str, Callable[..., ItemFailure]] = {}
    own = Path(task_failures.__file__).with_name("worker.py")
    code = "def call_each(task, failure_of):\n try: task()\n except BaseException as error: return failure_of(3, error)"
    exec(compile(code, str(own), "exec"), names)
    return names["call_each"](task, failure_of)


def test_a_traceback_begins_in_the_task_and_not_in_the_worker() -> None:
    def divide() -> float:
        return 1 / 0

    shown = called_by_the_worker(divide).traceback
    assert "in divide" in shown
    assert "call_each" not in shown


def test_a_task_that_cannot_even_be_called_so_has_the_error_in_place_of_a_traceback() -> None:
    def wants_more(_: object) -> None: ...

    failure = called_by_the_worker(wants_more)
    assert "missing 1 required positional argument" in failure.traceback
    assert "File" not in failure.traceback


def test_what_is_wrong_with_an_item_or_a_value_is_told_as_such() -> None:
    assert (unreadable(3).item, unreadable(3).kind, unreadable(3).type) == (3, FailureKind.ITEM, "ValueError")
    large = too_large(3, 2000, 1000)
    assert (large.item, large.kind, large.type) == (3, FailureKind.RESULT, "ValueError")
    assert "2000 bytes, the limit is 1000" in large.message
    odd = unsendable(3, object(), TypeError("no"))
    assert (odd.item, odd.kind, odd.type) == (3, FailureKind.RESULT, "TypeError")
    assert "(a object) cannot be sent: no" in odd.message
    unknown = unknown_task(3, "m:f")
    assert (unknown.item, unknown.kind, unknown.type) == (3, FailureKind.ERROR, "windrow.UnknownTask")
    assert "m:f" in unknown.message
