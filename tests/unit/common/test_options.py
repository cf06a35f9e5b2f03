"""Options: call beats task beats settings, and what does not exist or fit is named."""

from __future__ import annotations

import dataclasses
import re
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import MalformedMessage, UnknownOption
from windrow.common.options import OPTION_NAMES, JobOptions, OnLost, Options, decide, make_options, over, type_name


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
        ("on_lost", "explode", "write 'rerun' or 'fail'"),
        ("on_lost", 1, "write 'rerun' or 'fail'"),
        ("retry_on", ["E"] * 65, "65 types of exceptions; at most 64"),
        ("retry_on", ["ValueError", 5], "give exception classes, or names"),
        ("retry_on", int, "give exception classes, or names"),
        ("never_retry_on", "", "1 to 256 characters"),
        ("never_retry_on", ("E" * 257,), "1 to 256 characters"),
        ("never_retry_on", type("E" * 300, (Exception,), {}), "1 to 256 characters"),
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


def documented() -> dict[str, object]:
    """Field → default, as the table of the options has them."""
    text = (Path(__file__).resolve().parents[3] / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", text.partition("| option | default | does |")[2], re.MULTILINE)
    words: dict[str, object] = {"no": False, "`default`": "default"}
    return {
        OPTION_NAMES[name]: words[said] if said in words else float(said) for name, said in rows if name in OPTION_NAMES
    }


def test_what_nobody_gave_takes_the_default_that_the_documents_say() -> None:
    said = documented()
    assert len(said) == 7
    assert {name: getattr(JobOptions(), name) for name in said} == said


def test_what_nobody_gave_takes_its_default() -> None:
    assert decide(Options()) == JobOptions()
    assert decide(Options(retries=0, backoff_s=0.0, queue="q")) == JobOptions(queue="q", retries=0, backoff_s=0.0)


def test_options_and_their_decided_form_name_the_same_fields() -> None:
    fields = [field.name for field in dataclasses.fields(Options)]
    assert fields == [field.name for field in dataclasses.fields(JobOptions)]
    assert sorted(OPTION_NAMES.values()) == sorted(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("priority", value) for value in (-1001, 1001)),
        *(("retries", value) for value in (-1, 1_000_001)),
        *(("max_failures", value) for value in (-1, (1 << 53) + 1)),
        *((name, value) for name in ("backoff", "backoff_max", "delay") for value in (-0.001, 366 * 86400 + 1)),
        *((name, value) for name in ("timeout", "soft_timeout") for value in (-1, 366 * 86400 + 1)),
    ],
)
def test_a_number_that_the_wire_would_refuse_is_refused_before_it_is_sent(name: str, value: float) -> None:
    with pytest.raises(MalformedMessage):
        decoder_for(Options)({OPTION_NAMES[name]: value})
    with pytest.raises(UnknownOption, match=f"^{name}={value}: must be between"):
        make_options({name: value})


@pytest.mark.parametrize(("name", "expected"), [("retries", "int"), ("delay", "int or float")])
def test_where_a_number_is_expected_the_kind_of_it_is_said(name: str, expected: str) -> None:
    with pytest.raises(UnknownOption, match=f"expected {expected}$"):
        make_options({name: "1"})


@pytest.mark.parametrize("name", ["timeout", "soft_timeout"])
def test_a_time_limit_that_no_item_could_keep_is_refused(name: str) -> None:
    with pytest.raises(UnknownOption, match=r"must be between 0\.001 and"):
        make_options({name: 0})


class Word(str, Enum):  # noqa: UP042  As users write them.
    """`str(Word.NORTH)` is "Word.NORTH"."""

    NORTH = "north"
    FAIL = "fail"


def test_words_may_be_members_of_an_enum_and_are_plain_text_then() -> None:
    made = make_options({"queue": Word.NORTH, "retry_on": Word.NORTH, "on_lost": Word.FAIL})
    assert made == Options(queue="north", retry_on=("north",), on_lost=OnLost.FAIL)
    assert [type(made.queue), type(made.on_lost), *map(type, made.retry_on or ())] == [str, OnLost, str]


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (ValueError, ("ValueError",)),
        (Broken, (f"{__name__}.Broken",)),
        ([KeyboardInterrupt, "package.module.Class"], ("KeyboardInterrupt", "package.module.Class")),
        ((), ()),
    ],
)
def test_types_of_exceptions_are_given_as_classes_or_names_one_or_several(given: object, names: object) -> None:
    assert make_options({"retry_on": given}).retry_on == names
    assert make_options({"never_retry_on": given}).never_retry_on == names


@pytest.mark.parametrize(
    ("script", "module"), [("/srv/ann/jobs.py", "jobs"), ("jobs.py", "jobs"), ("jobs", "jobs"), (None, "__main__")]
)
def test_an_exception_of_a_script_is_called_as_nodes_call_it_that_import_the_script(
    monkeypatch: pytest.MonkeyPatch, script: str | None, module: str
) -> None:
    main = ModuleType("__main__")
    if script is not None:
        main.__file__ = script
    monkeypatch.setitem(sys.modules, "__main__", main)
    kind = type("Broken", (Exception,), {"__module__": "__main__"})
    assert type_name(kind) == f"{module}.Broken"
    assert make_options({"retry_on": kind}).retry_on == (f"{module}.Broken",)


@pytest.mark.parametrize(
    "given",
    [
        {"priority": 1000, "retries": 1_000_000, "max_failures": 1 << 53, "queue": "q" * 256, "on_lost": "rerun"},
        {"priority": -1000, "retries": 0, "max_failures": 0, "queue": "q", "on_lost": "fail", "idempotent": False},
        {"delay": 366 * 86400.0, "backoff": 366 * 86400.0, "backoff_max": 366 * 86400},
        {"timeout": 366 * 86400.0, "soft_timeout": 366 * 86400},
        {"delay": 0, "backoff": 0, "backoff_max": 0, "timeout": 0.001, "soft_timeout": 0.001},
        {"retry_on": ["E" * 256] * 64, "never_retry_on": "E"},
    ],
)
def test_what_python_takes_the_wire_takes_too(given: dict[str, object]) -> None:
    made = make_options(given)
    assert decoder_for(Options)(to_plain(made)) == made
