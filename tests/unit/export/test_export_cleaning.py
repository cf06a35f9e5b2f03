"""Text becomes typed exactly or not at all; what the plan finds is strict, what the user asks for is taken as said."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pytest

from windrow.export.casting import cast_text, to_text
from windrow.export.inference import decided, join, narrowest

UTC = dt.UTC


class BadValue(Exception):
    """The value in this row (from 0 on) does not fit; it never leaves the export."""

    def __init__(self, row: int, value: str) -> None:
        super().__init__(f"row {row}: {value!r}")
        self.row = row
        self.value = value


def to_type(text: Any, name: str, *, strict: bool) -> Any:
    """The column as this type, nulls where there is no value; BadValue for the first row that does not fit."""
    values, bad = cast_text(text, name, strict=strict)
    if bad is None:
        return values
    row = int(pyarrow.compute.index(bad, True).as_py())
    raise BadValue(row, text[row].as_py())


def find_type(samples: list[Any]) -> str:
    """The narrowest type that every value of the samples fits strictly; text where there are no values to go by."""
    state = ""
    for sample in samples:
        state = join(state, narrowest(sample))
    return decided(state)


def text(*values: str | None) -> Any:
    return pa.array(values, pa.string())


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "0"], "int64"),
        (["9223372036854775807"], "int64"),
        (["9223372036854775808"], "string"),
        (["1", "2.5"], "float64"),
        (["1e5", ".5", "5."], "float64"),
        (["1.5", "12345678901234567"], "string"),
        (["007"], "string"),
        (["00.5"], "string"),
        (["0.5", "0"], "float64"),
        (["+49"], "string"),
        (["0x1F"], "string"),
        ([" 5"], "string"),
        (["nan"], "string"),
        (["inf"], "string"),
        (["1e999"], "string"),
        (["true", "False"], "bool"),
        (["true", "1"], "string"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "string"),
        (["2024-02-29", "2024-02-29 10:00"], "timestamp"),
        (["2024-02-29T10:00:00.123456"], "timestamp"),
        (["2024-02-29T10:00:00.1234567"], "string"),
        (["2024-02-29T10:00:00Z"], "timestamptz"),
        (["2024-02-29T10:00:00Z", "2024-02-29 10:00"], "string"),
        (["2024-02-29", "5"], "string"),
        (["1", None, "NA", ""], "int64"),
        ([None, "NA"], "string"),
        ([], "string"),
    ],
)
def test_the_narrowest_type_that_all_samples_fit_is_found(values: list[str | None], kind: str) -> None:
    assert find_type([text(*values)]) == kind
    # Cut anywhere and in any order: the samples' join is the same.
    assert find_type([text(value) for value in reversed(values)]) == kind


@pytest.mark.parametrize(
    ("kind", "given", "values"),
    [
        ("int64", ["007", " 5 ", "+6", "NA", None, ""], [7, 5, 6, None, None, None]),
        ("int32", ["-2147483648"], [-2147483648]),
        ("float64", ["+1.5", "nan", "-inf", "1e5"], [1.5, "nan", float("-inf"), 1e5]),
        ("bool", ["Yes", "0", "t", "OFF", None], [True, False, True, False, None]),
        ("date", ["2024-02-29"], [dt.date(2024, 2, 29)]),
        ("decimal(6,2)", ["1.5", "-3", "1e2"], [Decimal("1.50"), Decimal("-3.00"), Decimal("100.00")]),
        (
            "timestamp",
            ["2024-01-01", "2024-01-01 05:00", "2024-01-01T05:00:00Z", "2024-01-01 05:00:00+02:00", None],
            [dt.datetime(2024, 1, 1), *[dt.datetime(2024, 1, 1, 5)] * 2, dt.datetime(2024, 1, 1, 3), None],
        ),
        (
            "timestamptz",
            ["2024-01-01 05:00", "2024-01-01T05:00:00-0130"],
            [dt.datetime(2024, 1, 1, 5, tzinfo=UTC), dt.datetime(2024, 1, 1, 6, 30, tzinfo=UTC)],
        ),
        ("string", ["007", "", None, "NA"], ["007", "", None, "NA"]),
    ],
)
def test_casts_take_values_at_their_word(kind: str, given: list[str | None], values: list[Any]) -> None:
    got = to_type(text(*given), kind, strict=False).to_pylist()
    assert ["nan" if value != value else value for value in got] == values


@pytest.mark.parametrize(
    ("kind", "strict", "given", "row"),
    [
        ("int64", True, ["1", "007", "x"], 1),
        ("int64", True, ["1", "x", "007"], 1),
        ("int64", True, ["1", None, "NA", "-0"], 3),
        ("int64", False, ["1", "2", "3.0"], 2),
        ("int64", False, ["0x10"], 0),
        ("int32", False, ["1", "2147483648"], 1),
        ("float64", True, ["1.5", "nan"], 1),
        ("float64", True, ["1.5", "01.5"], 1),
        ("float64", False, ["1", "1e999"], 1),
        ("float32", False, ["1e39"], 0),
        ("bool", False, ["yes", "perhaps", "no"], 1),
        ("bool", True, ["true", "yes"], 1),
        ("date", False, ["2024-02-30"], 0),
        ("timestamp", True, ["2024-01-01", "2024-01-01T00:00:00Z"], 1),
        ("timestamp", False, ["2024-01-01", "25:00"], 1),
        ("decimal(5,2)", False, ["1.25", "1.255"], 1),
        ("decimal(5,2)", False, ["12345.6"], 0),
    ],
)
def test_the_first_row_that_does_not_fit_is_named(kind: str, strict: bool, given: list[str | None], row: int) -> None:
    with pytest.raises(BadValue) as found:
        to_type(text(*given), kind, strict=strict)
    assert (found.value.row, found.value.value) == (row, given[row])


def test_the_first_of_many_rows_is_found() -> None:
    values = [str(number) for number in range(10_000)]
    values[7_777] = values[9_000] = "x"
    with pytest.raises(BadValue) as found:
        to_type(text(*values), "int64", strict=True)
    assert found.value.row == 7_777


def test_typed_values_are_shown_as_csv_shows_them() -> None:
    shown = {
        "int64": (["007"], ["7"]),
        "float64": (["1.10", "1e5", "5.0"], ["1.1", "100000", "5"]),
        "bool": (["Yes"], ["true"]),
        "timestamp": (
            ["2024-01-01T05:00", "2024-01-01 05:00:00.12"],
            ["2024-01-01 05:00:00", "2024-01-01 05:00:00.120000"],
        ),
        "timestamptz": (["2024-01-01 05:00"], ["2024-01-01 05:00:00Z"]),
        "decimal(5,2)": (["1.1"], ["1.10"]),
        "date": (["2024-01-01"], ["2024-01-01"]),
    }
    for kind, (given, wanted) in shown.items():
        assert to_text(to_type(text(*given), kind, strict=False)).to_pylist() == wanted
