"""A column is cast with all its misfits found at once, and each value is judged as if it stood alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from windrow.export.casting import arrow_type, cast_number, cast_text, clean_text, fits

KINDS = (
    "int64", "int32", "float64", "float32", "bool", "date", "timestamp", "timestamptz", "decimal(5,2)", "decimal(38,0)",
    "decimal(3,3)",
)  # fmt: skip


def text(*values: str | None) -> Any:
    return pa.array(values, pa.string())


def cast(kind: str, *values: str | None, strict: bool = True) -> tuple[list[Any], list[int]]:
    found, bad = cast_text(text(*values), kind, strict=strict)
    assert found.type == arrow_type(kind)
    return found.to_pylist(), [] if bad is None else [row for row, wrong in enumerate(bad.to_pylist()) if wrong]


def test_all_misfits_are_found_and_the_other_values_stay() -> None:
    assert cast("int64", "1", "x", None, "007", "5", "NA", "-0", "1.0") == (
        [1, None, None, None, 5, None, None, None], [1, 3, 6, 7],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "strict", "values", "misfits"),
    [
        ("int64", True, ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "0x1F", "-"], [1, 3, 4]),
        ("int64", False, ["000000000000000000000000007", "+7", "-9223372036854775809", " 7 ", "0x7", "--7"], [2, 4, 5]),
        ("int32", True, ["2147483647", "2147483648", "-2147483648", "-2147483649"], [1, 3]),
        ("float64", True, ["1e5", "1e999", "nan", "01.5", "+1", "1234567890123456", "123456789012345", "."],
         [1, 2, 3, 4, 5, 7]),
        ("float64", False, ["inf", "1e999", "nan", "01.5", "+1", "1234567890123456"], [1]),
        ("bool", True, ["true", "yes", "False", "1"], [1, 3]),
        ("bool", False, ["true", "yes", "Off", "1", "2"], [4]),
        ("date", True, ["2024-02-29", "2023-02-29", "1900-02-29", "2000-02-29", "2024-04-31", "2024-13-01", "20240101"],
         [1, 2, 4, 5, 6]),
        ("timestamp", True, ["2024-01-01", "2024-01-01 25:00", "2024-01-01T10:00Z", "2024-01-01 10:00:00.1234567"],
         [1, 2, 3]),
        ("timestamptz", True, ["2024-01-01 10:00Z", "2024-01-01 10:00", "2024-01-01 10Z", "2024-01-01Z"], [1, 3]),
        ("timestamptz", False, ["2024-01-01 10:00Z", "2024-01-01 10:00", "x"], [2]),
        ("decimal(5,2)", False, ["1.500", "1.505", "1e2", "1e3", "1000", "-999.99", ".", "x", "1e-3"],
         [1, 3, 4, 6, 7, 8]),
    ],
)  # fmt: skip
def test_wrong_values_are_found_among_right_ones(
    kind: str, strict: bool, values: list[str], misfits: list[int]
) -> None:
    assert cast(kind, *values, strict=strict)[1] == misfits


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_nothing_but_misfits_takes_no_quadratic_time(kind: str) -> None:
    # By halving alone, each of them would be an exception.
    column = text(*(["x", "12345678901234567890123456789012345678901", "2023-02-30", "1.2345"] * 50_000))
    _, bad = cast_text(column, kind, strict=True)
    assert bad.true_count >= 100_000


@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_of_a_piece_of_a_column_just_its_own_signs_and_zeros_count(kind: str) -> None:
    column = text("+7", "-07", "5", "-6", "-08", "9", "+9")
    for start in range(len(column)):
        for stop in range(start, len(column) + 1):
            _, bad = cast_text(column.slice(start, stop - start), kind, strict=True)
            wanted = [value.as_py() in ("+7", "-07", "-08", "+9") for value in column.slice(start, stop - start)]
            assert (bad.to_pylist() if bad is not None else [False] * (stop - start)) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_cast(kind: str) -> None:
    assert cast(kind) == ([], [])


def test_text_is_cleaned_as_asked_only() -> None:
    column = text(" a ", "", "  ", None, "\u00a0b")
    assert clean_text(column, trim=False, empty_null=False).to_pylist() == [" a ", "", "  ", None, "\u00a0b"]
    assert clean_text(column, trim=True, empty_null=False).to_pylist() == ["a", "", "", None, "b"]
    assert clean_text(column, trim=False, empty_null=True).to_pylist() == [" a ", None, "  ", None, "\u00a0b"]
    assert clean_text(column, trim=True, empty_null=True).to_pylist() == ["a", None, None, None, "b"]


@pytest.mark.parametrize(
    ("given_type", "kind", "values", "wanted", "misfits"),
    [
        (pa.int64(), "float64", [1, 2**53, 2**53 + 1, None], [1.0, 2.0**53, None, None], [2]),
        (pa.int32(), "int64", [-5, None], [-5, None], []),
        (pa.float32(), "float64", [0.5, None], [0.5, None], []),
        (pa.float64(), "int64", [5.0, 5.5, 1e18, 1e19, float("nan"), -(2.0**63)],
         [5, None, 10**18, None, None, -(2**63)], [1, 3, 4]),
        (pa.float64(), "int32", [2.0**31, -(2.0**31)], [None, -(2**31)], [0]),
    ],
)  # fmt: skip
def test_numbers_become_other_numbers_exactly_or_not(
    given_type: Any, kind: str, values: list[Any], wanted: list[Any], misfits: list[int]
) -> None:
    got = cast_number(pa.array(values, given_type), kind)
    assert got is not None
    assert got[0].to_pylist() == wanted
    assert [row for row, bad in enumerate(got[1] or []) if bad.as_py()] == misfits


def test_other_pairs_of_types_go_over_the_text() -> None:
    assert cast_number(text("5"), "int64") is None
    assert cast_number(pa.array([5]), "decimal(5,2)") is None
    assert cast_number(pa.array([True]), "int64") is None


NUMBER = st.from_regex(r"[+-]?0{0,2}[0-9]{0,21}(\.[0-9]{0,4}0{0,3})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
INSTANT = st.from_regex(
    r"(19|20|00)[0-9]{2}-(0[0-9]|1[0-3])-(3[0-2]|[0-2][0-9])([ T][0-2][0-9](:[0-6][0-9](:[0-6][0-9](\.[0-9]{0,7})?)?)?"
    r"([Zz]|[+-][0-2][0-9](:?[0-7][0-9])?)?)?",
    fullmatch=True,
)
ODD = st.sampled_from([
    None, "", "NA", "N/A", "NULL", "null", "true", "False", "yes", "on", "tRue", " 5", "5 ", "5\n", "0x1F", "0X1f",
    "nan", "-inf", "Infinity", "nan(x)", "٣", "1_0", "-", "+", ".", "-.5", "5.", "1e", "²", "９",
    "9223372036854775808", "\u00a05",
])  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.booleans(),
    st.lists(st.one_of(NUMBER, INSTANT, ODD, st.integers(-(2**64), 2**64).map(str), st.floats().map(repr)), max_size=8),
)
@example("decimal(5,2)", False, ["x", "0000000000000000000000000000000000000000000000001.50"])
def test_each_value_is_judged_as_if_it_stood_alone(kind: str, strict: bool, values: list[str | None]) -> None:
    # Alone, pyarrow's conversion decides with no pattern before it; beside "x" the patterns do.
    alone = [cast_text(text(value), kind, strict=strict) for value in values]
    together, bad = cast_text(text("x", *values), kind, strict=strict)
    assert bad.to_pylist() == [True, *(mask is not None and mask[0].as_py() for _, mask in alone)]
    expected = pa.concat_arrays([pa.nulls(1, arrow_type(kind)), *(found for found, _ in alone)])
    assert [repr(one) for one in together.cast("string")] == [repr(one) for one in expected.cast("string")]
    if strict:
        assert fits(text(*values), kind) == all(mask is None for _, mask in alone)


@pytest.mark.parametrize("kind", ["date", "timestamp"])
def test_of_all_days_just_those_of_the_calendar_fit(kind: str) -> None:
    days = [
        f"{year}-{month:02}-{day:02}" for year in (1900, 1999, 2000, 2024) for month in range(14) for day in range(33)
    ]
    _, bad = cast_text(text(*days, "x"), kind, strict=True)
    assert [day for day, wrong in zip(days, bad.to_pylist(), strict=False) if wrong] == [
        day for day in days if not is_day(day)
    ]  # fmt: skip


def is_day(day: str) -> bool:
    try:
        dt.date.fromisoformat(day)
    except ValueError:
        return False
    return True
