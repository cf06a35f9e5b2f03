"""Options: call beats task beats settings, and what does not exist or fit is named."""

from __future__ import annotations

import dataclasses

import pytest

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import UnknownOption
from windrow.common.options import OPTION_NAMES, JobOptions, Options, decide, make_options, over


def test_public_names_become_fields_with_units() -> None:
    made = make_options({"queue": "q", "priority": 9, "retries": 3, "backoff": 2, "delay": 60, "idempotent": True})
    assert made == Options("q", 9, 3, 2.0, None, 60.0, True)
    assert type(made.delay_s) is float


def test_what_is_none_is_not_given() -> None:
    assert make_options({"queue": None}) == make_options({}) == Options()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("prioritty", 1, "no option 'prioritty'; there are queue, priority"),
        ("queue", "", "1 to 256 characters"),
        ("queue", "q" * 257, "1 to 256 characters"),
        ("queue", 3, "expected str"),
        ("priority", 1001, "between -1000 and 1000"),
        ("priority", "9", "expected int"),
        ("priority", True, "expected int"),
        ("retries", -1, "between 0 and"),
        ("retries", 1.5, "expected int"),
        ("delay", -0.1, "between 0 and"),
        ("delay", float("nan"), "between 0 and"),
        ("backoff", "1", "expected int or float"),
        ("idempotent", 1, "expected bool"),
    ],
)
def test_what_does_not_exist_or_fit_is_named(name: str, value: object, says: str) -> None:
    with pytest.raises(UnknownOption) as error:
        make_options({name: value})
    assert says in str(error.value)
    assert name in str(error.value)


def test_the_upper_options_win_where_they_say_something_also_false_and_zero() -> None:
    upper, lower = Options(priority=0, idempotent=False), Options(priority=5, retries=2, idempotent=True)
    assert over(upper, lower) == Options(priority=0, retries=2, idempotent=False)
    assert over(Options(), lower) == lower == over(lower, Options())


def test_what_nobody_gave_takes_its_default() -> None:
    assert decide(Options()) == JobOptions()
    assert decide(Options(retries=0, backoff_s=0.0, queue="q")) == JobOptions(queue="q", retries=0, backoff_s=0.0)


def test_options_and_their_decided_form_name_the_same_fields() -> None:
    fields = [field.name for field in dataclasses.fields(Options)]
    assert fields == [field.name for field in dataclasses.fields(JobOptions)]
    assert sorted(OPTION_NAMES.values()) == sorted(fields)


@pytest.mark.parametrize(
    "given", [{"priority": 1000}, {"priority": -1000}, {"retries": 1_000_000}, {"delay": 366 * 86400.0}]
)
def test_what_python_takes_the_wire_takes_too(given: dict[str, object]) -> None:
    made = make_options(given)
    assert decoder_for(Options)(to_plain(made)) == made
