"""--where is one condition on one row, shut off from everything outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from windrow.common.errors import ExportError
from windrow.export.condition import check_condition, find_condition_columns, keep_rows

NAMES = ["a", "b", "Day", "odd name"]
TYPES: list[Any] = [pa.int64(), pa.string(), pa.date32(), pa.float64()]


def check(where: str) -> tuple[int, ...]:
    used = find_condition_columns(where, NAMES)
    check_condition(where, {NAMES[index]: TYPES[index] for index in used})
    return used


@pytest.mark.parametrize(
    ("where", "used"),
    [
        ("a > 5", (0,)),
        ("A = 1 AND b LIKE 'x%' OR NOT (a IS NULL)", (0, 1)),
        ('"odd name" < 1.5 -- a comment', (3,)),
        ("day >= DATE '2024-01-01' AND year(day) < 2025", (2,)),
        ("day > '2024-01-01'", (2,)),
        ("CAST(b AS INTEGER) IN (1, 2)", (1,)),
        ("coalesce(a, 0) BETWEEN 1 AND 2", (0,)),
        ("CASE WHEN a % 2 = 0 THEN TRUE END", (0,)),
        ("lower(b) || 'x' = 'yx' AND b ~ '^y'", (1,)),
        ("split_part(b, '-', 1) = 'x'", (1,)),
        ("true", ()),
    ],
)
def test_conditions_on_a_row_are_taken(where: str, used: tuple[int, ...]) -> None:
    assert check(where) == used


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("a >", r"does not parse: syntax error"),
        ("a = 'x", r"does not parse"),
        ("a > 1; DROP TABLE source", r"does not parse"),
        ("a > 1) GROUP BY (a", r"is not one condition: check the brackets"),
        ("colour = 1", r"names column 'colour'; the source has a, b, Day, odd name"),
        ("source.a = 1", r"names column 'source.a'"),
        ("current_date > day", r"names column 'current_date'"),
        ("a IN (SELECT 1)", r"may not use a subquery"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", r"may not use a subquery"),
        ("read_text('/etc/passwd') IS NULL", r"may not use read_text, which reads from outside"),
        ("getenv('HOME') = 'x'", r"no function getenv"),
        ("count(*) > 1", r"which looks at many rows"),
        ("row_number() OVER () > 1", r"may not use a window function"),
        ("random() < 0.5", r"may not use random, which gives another answer each time"),
        ("day < now()", r"may not use now"),
        ("COLUMNS(*) > 1", r"may not use \*"),
        ("a > ?", r"may not use a parameter"),
        ("#1 > 2", r"may not use a column's number"),
        ("a + 1", r"gives int64 values, not true or false"),
        ("b > 2", r"b string; --cast gives another type"),
        ("year(b) = 1", r"--where: .*year"),
    ],
)
def test_other_conditions_are_refused_in_one_line(where: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as refused:
        check(where)
    assert "\n" not in refused.value.message


def test_rows_are_answered_in_order_with_nulls() -> None:
    column = pa.array([1, None, 3] * 50_000)
    assert keep_rows("a > 2", {"a": column}, 150_000).to_pylist() == [False, None, True] * 50_000
    assert keep_rows("1 = 1", {}, 3).to_pylist() == [True, True, True]


def test_a_condition_that_cannot_be_computed_is_an_error() -> None:
    with pytest.raises(ExportError, match="Could not convert string 'x'"):
        keep_rows("CAST(b AS INTEGER) > 1", {"b": pa.array(["1", "x"])}, 2)


def test_columns_that_sql_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(ExportError, match="upper and lower case"):
        find_condition_columns('"a" = 1 AND "A" = 1', ["a", "A"])
    with pytest.raises(ExportError, match="stands 2 times"):
        find_condition_columns("a = 1", ["a", "a"])


def test_nothing_outside_is_reached_even_past_the_checks(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("x\n1\n")
    with pytest.raises(ExportError, match=r"disabled|access"):
        keep_rows(f"(SELECT count(*) FROM read_csv('{secret}')) = 1", {"a": pa.array([1])}, 1)
    with pytest.raises(ExportError, match="does not exist"):
        keep_rows("(SELECT count(*) FROM secret) = 1", {"a": pa.array([1])}, 1)
