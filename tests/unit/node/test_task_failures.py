"""What becomes of an exception that a task raised."""

from __future__ import annotations

import math

import pytest

from windrow.common.errors import Retry, SoftTimeout
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.messages import ItemFailure
from windrow.common.words import FailureKind
from windrow.node.task_failures import failure_of, find_bases


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
        (5, 5.0), (0.25, 0.25), (-1, 0.0), (math.inf, 366 * 86400.0),
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
