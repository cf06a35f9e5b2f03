"""Row groups of Parquet files become rows of our types; what has no type of ours is refused by name."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from windrow.common.errors import ExportError
from windrow.export.casting import arrow_type
from windrow.export.read_parquet import check_columns, parquet_columns, read_parquet

parquet: Any = pyarrow.parquet


def file_of(table: Any, rows: int = 1 << 20) -> io.BytesIO:
    file = io.BytesIO()
    parquet.write_table(table, file, row_group_size=rows)
    return file


def one(values: list[Any], kind: Any) -> io.BytesIO:
    return file_of(pa.table({"c": pa.array(values, kind)}))


def test_row_groups_are_read_apart_and_rows_counted_through_the_file() -> None:
    file = file_of(pa.table({"a": list(range(10)), "b": [str(number) for number in range(10)]}), rows=3)
    rows = read_parquet(file, start=1, stop=3, wanted={4: ("b", "string"), 1: ("a", "int64")}, first_row=4)
    assert rows.columns[1].to_pylist() == [3, 4, 5, 6, 7, 8]
    assert rows.columns[4].to_pylist() == ["3", "4", "5", "6", "7", "8"]
    assert (rows.count, rows.line(0), rows.line(5)) == (6, 4, 9)
    assert rows.text(5) == '{"b": "8", "a": 8}'


def test_a_column_that_the_file_does_not_have_is_null() -> None:
    rows = read_parquet(one([1, 2], pa.int64()), start=0, stop=1, wanted={0: ("x", "date")}, first_row=1)
    assert (rows.count, rows.columns[0].to_pylist()) == (2, [None, None])


@pytest.mark.parametrize(
    ("kind", "name", "values", "read"),
    [
        (pa.int8(), "int32", [-128, None], None),
        (pa.uint16(), "int32", [65535], None),
        (pa.int32(), "int32", [-5], None),
        (pa.uint32(), "int64", [2**32 - 1], None),
        (pa.int64(), "int64", [-(2**63)], None),
        (pa.uint64(), "decimal(20,0)", [2**64 - 1], [Decimal(2**64 - 1)]),
        (pa.float32(), "float32", [0.5, None], None),
        (pa.float64(), "float64", [0.1], None),
        (pa.bool_(), "bool", [True, None], None),
        (pa.date32(), "date", [dt.date(2024, 2, 29)], None),
        (pa.date64(), "date", [dt.date(2024, 2, 29)], None),
        (pa.decimal128(9, 2), "decimal(9,2)", [Decimal("1.10")], None),
        (pa.timestamp("s"), "timestamp", [dt.datetime(2024, 1, 1)], None),
        (pa.timestamp("ms"), "timestamp", [dt.datetime(2024, 1, 1, 0, 0, 0, 5000)], None),
        (pa.timestamp("ns"), "timestamp", [dt.datetime(2024, 1, 1, 0, 0, 0, 5)], None),
        (pa.timestamp("us", "Europe/Berlin"), "timestamptz", [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], None),
        (pa.string(), "string", ["ü", None, ""], None),
        (pa.large_string(), "string", ["ü", None], None),
        (pa.binary(), "string", ["ü".encode(), None], ["ü", None]),
        (pa.binary(2), "string", [b"ab", None], ["ab", None]),
        (pa.dictionary(pa.int32(), pa.string()), "string", ["a", None, "a"], None),
        (pa.null(), "string", [None], None),
    ],
)
def test_each_type_is_one_of_ours(kind: Any, name: str, values: list[Any], read: list[Any] | None) -> None:
    file = one(values, kind)
    (column,) = parquet_columns(file, "x.parquet")
    assert (column.name, column.type) == ("c", name)
    check_columns([column], ["c"], "x.parquet")
    rows = read_parquet(file, start=0, stop=1, wanted={0: ("c", name)}, first_row=1)
    assert rows.columns[0].type == arrow_type(name)
    assert rows.columns[0].to_pylist() == (values if read is None else read)
    assert rows.bad == []


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(pa.int64()), [1]),
        (pa.struct([("x", pa.int64())]), {"x": 1}),
        (pa.time64("us"), dt.time(1)),
        (pa.decimal256(50, 2), Decimal("1.10")),
    ],
)
def test_a_type_that_is_none_of_ours_is_refused_where_it_is_wanted(kind: Any, value: Any) -> None:
    file = file_of(pa.table({"good": [1], "odd": pa.array([value], kind)}))
    columns = parquet_columns(file, "x.parquet")
    check_columns(columns, ["good"], "x.parquet")
    with pytest.raises(ExportError) as error:
        check_columns(columns, ["good", "odd"], "x.parquet")
    assert error.value.message.startswith("column 'odd' of x.parquet has the type ")
    assert error.value.message.endswith("which is not exported; choose others with --columns: good")
    with pytest.raises(ExportError, match=r"column 'odd' of x\.parquet has the type"):
        read_parquet(file, start=0, stop=1, wanted={0: ("odd", "string")}, first_row=1, source="x.parquet")


def test_a_name_that_stands_twice_is_refused_where_it_is_wanted() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    columns = parquet_columns(file_of(table), "x.parquet")
    check_columns(columns, ["b"], "x.parquet")
    with pytest.raises(ExportError, match="two columns 'a'"):
        check_columns(columns, ["a"], "x.parquet")


def test_bytes_that_are_no_utf8_make_bad_rows() -> None:
    table = pa.table({"b": pa.array([b"a", b"\xff", None, b"\xc3\xbc"]), "n": [1, 2, 3, 4]})
    wanted = {0: ("b", "string"), 1: ("n", "int64")}
    rows = read_parquet(file_of(table), start=0, stop=1, wanted=wanted, first_row=11, source="x")
    assert rows.columns[0].to_pylist() == ["a", None, "ü"]
    assert rows.columns[1].to_pylist() == [1, 3, 4]
    assert [rows.line(row) for row in range(3)] == [11, 13, 14]
    (bad,) = rows.bad
    assert (bad.line, bad.column, bad.text) == (12, "b", '{"b": "\\\\xff", "n": 2}')
    assert bad.reason == "row 12 of x: column 'b' has '\\\\xff', which is no UTF-8: text must be UTF-8"


@pytest.mark.parametrize(
    ("kind", "numbers", "shown", "why"),
    [
        (
            pa.timestamp("ns"),
            [1_000, 1_001, -1_000, -1],
            "1970-01-01 00:00:00.000001001",
            "which has fractions of a microsecond: a timestamp has none",
        ),
        (
            pa.timestamp("ms", "UTC"),
            [5, 2**62, -5, -(2**62)],
            "<value out of range: 4611686018427387904>Z",
            "which is too far away for a timestamp in microseconds",
        ),
    ],
)
def test_instants_that_a_timestamp_cannot_hold_make_bad_rows(
    kind: Any, numbers: list[int], shown: str, why: str
) -> None:
    file = file_of(pa.table({"t": pa.array([*numbers, None], pa.int64()).cast(kind)}))
    (column,) = parquet_columns(file, "x")
    rows = read_parquet(file, start=0, stop=1, wanted={0: ("t", column.type)}, first_row=1, source="x")
    assert rows.count == 3
    assert rows.columns[0].null_count == 1
    assert [bad.line for bad in rows.bad] == [2, 4]
    assert rows.bad[0].reason == f"row 2 of x: column 't' has '{shown}', {why}"
    assert rows.bad[0].text == f'{{"t": "{shown}"}}'


def test_a_file_without_rows_has_its_types() -> None:
    file = file_of(pa.table({"a": pa.array([], pa.int16())}))
    assert [column.type for column in parquet_columns(file, "x")] == ["int32"]
    rows = read_parquet(file, start=0, stop=0, wanted={0: ("a", "int32")}, first_row=1)
    assert (rows.count, rows.columns[0].type) == (0, pa.int32())


def test_two_thousand_columns_are_read() -> None:
    wanted = {number: (f"c{number}", "int64") for number in range(2000)}
    file = file_of(pa.table({name: [number] for number, (name, _) in wanted.items()}))
    rows = read_parquet(file, start=0, stop=1, wanted=wanted, first_row=1)
    assert [rows.columns[number].to_pylist() for number in range(2000)] == [[number] for number in range(2000)]


def test_what_is_no_parquet_is_refused() -> None:
    for data in (b"", b"a,b\n1,2\n" * 10):
        with pytest.raises(ExportError, match=r"^x\.csv cannot be read as Parquet: "):
            parquet_columns(io.BytesIO(data), "x.csv")
