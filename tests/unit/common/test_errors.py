"""One tree of errors, each with a code that travels."""

from __future__ import annotations

import re

import pytest

from windrow.common import errors
from windrow.common.errors import NotFound, StoreFailed, UsageError, WindrowError, error_from_code

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WindrowError)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_finds_its_class_again(kind: type[WindrowError]) -> None:
    made = error_from_code(kind.code, "what happened")
    assert type(made) is kind
    assert made.message == str(made) == "what happened"


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_an_unknown_code_is_a_plain_error_that_keeps_the_message() -> None:
    made = error_from_code("from_the_future", "hm")
    assert (type(made), made.message) == (WindrowError, "hm")


def test_without_a_message_the_class_speaks_for_itself() -> None:
    assert str(NotFound()) == "There is no such thing."
    assert str(StoreFailed()) == "A commit failed; nothing of it was answered."


def test_the_tree_in_the_docstring_names_every_class_of_this_module() -> None:
    named = set(re.findall(r"[A-Z]\w+Error|[A-Z][a-z]+[A-Z]\w+|Unreachable", errors.__doc__ or ""))
    assert {kind.__name__ for kind in KINDS} <= named | {"TaskFailed", "Retry"}


def test_faults_of_the_caller_are_usage_errors() -> None:
    assert issubclass(NotFound, UsageError)
    assert not issubclass(StoreFailed, UsageError)
