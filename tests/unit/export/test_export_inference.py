"""The type of a column is that of all its values, however they are grouped; of files it is that of all files."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export.casting import cast_text
from windrow.export.inference import decided, join, join_all, join_named, narrowest, states_of, union_columns
from windrow.export.model import Form, Steps
from windrow.export.read_csv import read_csv


def text(*values: str | None) -> Any:
    return pa.array(values, pa.string())


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([], ""),
        ([None, "", "NA"], ""),
        (["1", None], "int64|float64"),
        (["1234567890123456"], "int64"),
        (["1", "1.5"], "float64"),
        (["1.5", "1234567890123456"], "string"),
        (["007"], "string"),
        (["1", "007"], "string"),
        (["2024-01-01"], "date|timestamp"),
        (["2024-01-01", "2024-01-01 10:00"], "timestamp"),
        (["2024-01-01 10:00Z"], "timestamptz"),
        (["2024-01-01", "2024-01-01 10:00Z"], "string"),
        (["true"], "bool"),
        (["true", "1"], "string"),
        (["2024-01-01", "1"], "string"),
    ],
)
def test_the_state_says_what_all_values_fit(values: list[str | None], state: str) -> None:
    assert narrowest(text(*values)) == state


def test_one_value_far_behind_the_others_counts() -> None:
    assert narrowest(text(*["1"] * 100_000, "x")) == "string"
    assert narrowest(text(*[None] * 100_000, "2.5")) == "float64"


@pytest.mark.parametrize(
    ("one", "other", "whole"),
    [
        ("", "int64|float64", "int64|float64"),
        ("int64|float64", "float64", "float64"),
        ("int64", "float64", "string"),
        ("date|timestamp", "timestamp", "timestamp"),
        ("date|timestamp", "timestamptz", "string"),
        ("bool", "int64|float64", "string"),
        ("string", "", "string"),
        ("string", "bool", "string"),
    ],
)
def test_two_states_join_to_what_they_have_in_common(one: str, other: str, whole: str) -> None:
    assert join(one, other) == join(other, one) == whole


def test_a_column_without_values_is_text() -> None:
    assert [decided(state) for state in ("", "string", "int64|float64", "date|timestamp")] == [
        "string", "string", "int64", "date",
    ]  # fmt: skip


def test_a_segment_reports_its_columns_as_they_are_when_they_are_cast() -> None:
    rows = read_csv(b' 5 ,"",1\nx\n6,x,2\n', Form("csv"), width=3, wanted={0: 0, 1: 1, 2: 2}, first_line=1)
    assert states_of(rows, Steps(), (0, 1, 2)) == ["string", "string", "int64|float64"]
    assert states_of(rows, Steps(trim=True), (2, 0)) == ["int64|float64", "int64|float64"]
    assert join_all([["", "date|timestamp"], ["bool", "timestamp"]]) == ["bool", "timestamp"]
    assert join_all([]) == []


def test_columns_join_by_name_in_order_of_first_appearance() -> None:
    joined = join_named([{"b": "bool"}, {"a": "", "b": "bool"}, {"c": "string", "a": "float64"}])
    assert list(joined.items()) == [("b", "bool"), ("a", "float64"), ("c", "string")]


VALUE = st.sampled_from([
    None, "", "NA", "1", "-5", "0", "007", "1.5", "1e5", "1234567890123456", "12345678901234567890", "2024-01-01",
    "2024-01-01 10:00", "2024-01-01 10:00Z", "true", "FALSE", "x",
])  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(VALUE, max_size=4), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_grouping_gives_the_type_of_the_whole(pieces: list[list[str | None]], shuffler: Any) -> None:
    whole = narrowest(text(*(value for piece in pieces for value in piece)))
    states = [narrowest(text(*piece)) for piece in pieces]
    while len(states) > 1:
        shuffler.shuffle(states)
        states.append(join(states.pop(), states.pop()))
    assert states == [whole]


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUE, max_size=8))
def test_every_value_fits_the_type_that_was_found(values: list[str | None]) -> None:
    assert cast_text(text(*values), decided(narrowest(text(*values))), strict=True)[1] is None


def test_columns_of_several_files_are_found_by_name() -> None:
    files = [
        ("a.csv", [("id", "int64|float64"), ("x", "")]),
        ("b.csv", [("x", "date|timestamp"), ("new", "bool"), ("id", "float64")]),
    ]
    assert union_columns(files) == [("id", "float64"), ("x", "date|timestamp"), ("new", "bool")]
    assert union_columns([]) == []


@pytest.mark.parametrize(
    ("one", "other", "whole"),
    [
        ("int32", "int64", "int64"),
        ("int32", "int32", "int32"),
        ("int32", "float64", "float64"),
        ("int64", "float32", "float64"),
        ("float32", "float64", "float64"),
        ("date", "timestamp", "timestamp"),
        ("decimal(9,2)", "decimal(8,4)", "decimal(11,4)"),
    ],
)
def test_types_of_files_that_one_type_can_hold_are_joined(one: str, other: str, whole: str) -> None:
    for first, second in ((one, other), (other, one)):
        assert union_columns([("a", [("c", first)]), ("b", [("c", second)])]) == [("c", whole)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int64|float64", "string"),
        ("bool", "int64|float64"),
        ("date|timestamp", "float64"),
        ("timestamp", "timestamptz"),
        ("decimal(38,0)", "decimal(38,38)"),
        ("decimal(9,2)", "float64"),
    ],
)
def test_conflicting_types_are_refused_with_both_files_unless_cast(one: str, other: str) -> None:
    files = [("a.csv", [("c", "")]), ("b.csv", [("c", one)]), ("d.csv", [("x", "bool"), ("c", other)])]
    with pytest.raises(ExportError) as error:
        union_columns(files)
    kinds = [state.split("|")[0] for state in (one, other)]
    assert error.value.message == (
        f"column 'c' is {kinds[0]} in b.csv and {kinds[1]} in d.csv: --cast c:string takes both as text"
    )
    assert union_columns(files, casts=["c"]) == [("c", "string"), ("x", "bool")]


def test_a_header_with_a_name_twice_must_be_that_of_all_files() -> None:
    twice = [("c", "int64"), ("c", "bool")]
    assert union_columns([("a", twice), ("b", twice)]) == twice
    for files in ([("a", twice), ("b", [("c", "int64")])], [("a", [("c", "int64")]), ("b", twice)]):
        with pytest.raises(ExportError, match=r"column 'c' stands twice in a header.*columns of b are not those"):
            union_columns(files)
