"""Rows go through the steps of an export in their order; what does not fit goes aside, and nothing else."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from windrow.common.errors import ExportError
from windrow.export.model import (
    Destination,
    Errors,
    Form,
    OutputColumn,
    Plan,
    ReadColumn,
    Segment,
    Source,
    Steps,
)
from windrow.export.segment_rows import read_segment
from windrow.export.steps import Converted, convert_rows

parquet: Any = pyarrow.parquet


def plan_of(
    columns: str,
    *,
    read: str = "csv",
    write: str = "parquet",
    cast: str = "",
    out: str = "",
    steps: Steps = Steps(),  # noqa: B008
    partition: int | None = None,
    sources: tuple[Source, ...] = (Source("/data/in.csv", 0, "", ""),),
    encoding: str = "utf-8",
) -> Plan:
    """`name:type …`; the names in `cast` are casts; `out` is `name` or `name=new`."""
    fields = [entry.split(":") for entry in columns.split()]
    names = [name for name, _ in fields]
    keep = read == write == "csv"
    output = [entry.partition("=")[::2] for entry in out.split() or names]
    types = {name: "string" if keep and name not in cast.split() else kind for name, kind in fields}
    return Plan(
        windrow="0", sources=sources, read_form=Form(read, encoding=encoding), columns=tuple(names),
        read=tuple(ReadColumn(at, name, kind, name in cast.split()) for at, (name, kind) in enumerate(fields)),
        output=tuple(OutputColumn(names.index(name), new or name, types[name]) for name, new in output),
        steps=steps, write_form=Form(write), dest=Destination("/data/out", partition=partition), errors=Errors(),
        segment_bytes=1,
    )  # fmt: skip


def convert(plan: Plan, data: bytes, *, line: int = 2, source: int = 0, prepared: str = "") -> Converted:
    segment = Segment(0, source, 0, len(data), line, prepared)
    return convert_rows(plan, read_segment(plan, segment, data))


def values(converted: Converted) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in converted.columns), strict=True))


def test_csv_to_csv_changes_no_value_that_no_option_names() -> None:
    data = b'007,1.10\n1e5, x \n"",\nNA,"a,""b"\n'
    assert values(convert(plan_of("a:string b:string", write="csv"), data)) == [
        ("007", "1.10"), ("1e5", " x "), ("", None), ("NA", 'a,"b'),
    ]  # fmt: skip


def test_in_csv_to_csv_a_type_that_was_found_serves_the_condition_alone() -> None:
    steps = Steps(where="n < 20", where_columns=(0,), drop_null=(0,), dedupe=(0,))
    got = convert(
        plan_of("n:float64 t:string", write="csv", steps=steps, partition=0), b"1.10,a\n30,b\n1e1,c\nNA,d\n,e\n"
    )
    assert values(got) == [("1.10", "a"), ("1e1", "c")]
    assert (got.keys[0].to_pylist(), got.partition.to_pylist()) == (["1.10", "1e1"], ["1.10", "1e1"])


def test_a_cast_that_was_asked_for_changes_what_csv_shows() -> None:
    got = convert(plan_of("n:float64 t:string", write="csv", cast="n"), b"1.10,a\n")
    assert (values(got), str(got.columns[0].type)) == ([(1.1, "a")], "double")


def test_a_value_that_does_not_fit_makes_a_bad_row_that_says_the_way_out() -> None:
    got = convert(plan_of("id:int64 price:float64"), b"1,2\n2,x\n\n3,1.5\n", line=7)
    assert values(got) == [(1, 2.0), (3, 1.5)]
    assert (got.rows_in, got.rows, got.order.to_pylist()) == (3, 2, [0, 2])
    (bad,) = got.bad
    assert (bad.line, bad.column, bad.value, bad.text) == (8, "price", "x", "2,x")
    assert bad.reason == (
        "it is no float64 (as the other values looked); "
        "keep it as text with --cast price:string, or let --infer full look at all values first"
    )


def test_a_value_that_does_not_fit_a_cast_is_not_sent_to_another_inference() -> None:
    (bad,) = convert(plan_of("id:int64", cast="id"), b"1.5\n 007 \n").bad
    assert bad.reason == ("it is no int64 (as asked with --cast); keep it as text with --cast id:string")


def test_a_row_with_several_wrong_values_is_one_bad_row() -> None:
    got = convert(plan_of("a:int64 b:int64"), b"1,2\nx,y\n3,z\n")
    assert [(bad.line, bad.column) for bad in got.bad] == [(3, "a"), (4, "b")]


def test_bad_rows_of_all_kinds_stand_in_source_order_with_true_lines() -> None:
    data = b'1,"a\nb"\n2\nx,c\n3,\xff\n4,d\ny,e\n5\n6,f\n'
    got = convert(plan_of("n:int64 t:string"), data)
    assert values(got) == [(1, "a\nb"), (4, "d"), (6, "f")]
    assert got.order.to_pylist() == [0, 4, 7]
    assert got.rows_in == 8
    assert [(bad.line, bad.column) for bad in got.bad] == [(4, ""), (5, "n"), (6, ""), (8, "n"), (9, "")]


def test_trimming_comes_before_casting_and_only_when_asked() -> None:
    data = b" 5 , x \n"
    assert values(convert(plan_of("n:int64 t:string", steps=Steps(trim=True)), data)) == [(5, "x")]
    assert convert(plan_of("n:int64 t:string"), data).bad[0].value == " 5 "


def test_empty_text_becomes_null_only_when_asked_and_after_trimming() -> None:
    data = b'"",a\n"  ",b\nc,c\n'
    assert values(convert(plan_of("t:string u:string"), data)) == [("", "a"), ("  ", "b"), ("c", "c")]
    steps = Steps(trim=True, empty_null=True)
    assert values(convert(plan_of("t:string u:string", steps=steps), data)) == [(None, "a"), (None, "b"), ("c", "c")]


def test_the_condition_sees_source_names_and_typed_values() -> None:
    steps = Steps(where="n > 9 AND t <> 'x'", where_columns=(0, 1))
    plan = plan_of("n:int64 t:string d:date", steps=steps, out="d=day n=t")
    got = convert(plan, b"10,a,2024-01-01\n9,b,2024-01-02\n100,x,2024-01-03\n11,,2024-01-04\n12,c,NA\n")
    assert values(got) == [(dt.date(2024, 1, 1), 10), (None, 12)]
    assert got.order.to_pylist() == [0, 4]


def test_a_bad_row_never_reaches_the_condition() -> None:
    steps = Steps(where="n IS NULL OR 10 / n > 0", where_columns=(0,))
    got = convert(plan_of("n:int64", steps=steps), b"x\n5\nNA\n")
    assert values(got) == [(5,), (None,)]
    assert len(got.bad) == 1


def test_a_condition_that_cannot_be_computed_names_the_lines() -> None:
    steps = Steps(where="CAST(t AS INTEGER) > 1", where_columns=(0,))
    with pytest.raises(ExportError, match=r"^--where: Could not convert.* \(in lines 5 to 6 of in\.csv\)$"):
        convert(plan_of("t:string", steps=steps), b"1\nx\n", line=5)


def test_rows_with_a_null_go_where_asked_after_the_cast_and_the_condition() -> None:
    data = b"1,a\nNA,b\n3,\n4,d\n5,\n"
    steps = Steps(where="n > 1 OR n IS NULL", where_columns=(0,), drop_null=(0, 1), dedupe=(1, 0))
    got = convert(plan_of("n:int64 t:string", steps=steps), data)
    assert values(got) == [(4, "d")]
    assert [key.to_pylist() for key in got.keys] == [["d"], [4]]
    assert got.order.to_pylist() == [3]


def test_keys_and_partitions_need_not_be_in_the_output() -> None:
    got = convert(
        plan_of("k:int64 d:date v:string", steps=Steps(dedupe=(0,)), out="v", partition=1), b"1,2024-01-01,a\n2,,b\n"
    )
    assert values(got) == [("a",), ("b",)]
    assert got.keys[0].to_pylist() == [1, 2]
    assert got.partition.to_pylist() == ["2024-01-01", None]


def test_the_limit_is_left_to_others() -> None:
    assert convert(plan_of("a:int64", steps=Steps(limit=1)), b"1\n2\n").rows == 2


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_a_source_with_a_header_alone_gives_no_rows_of_the_right_types(data: bytes) -> None:
    steps = Steps(trim=True, empty_null=True, where="n > 1", where_columns=(0,), drop_null=(1,), dedupe=(0,))
    got = convert(plan_of("n:int64 d:date", steps=steps), data)
    assert [str(column.type) for column in got.columns] == ["int64", "date32[day]"]
    assert (got.rows, got.rows_in, got.bad) == (0, 0, [])


def test_a_source_of_nothing_but_bad_rows_gives_no_rows() -> None:
    steps = Steps(where="n > 1", where_columns=(0,))
    got = convert(plan_of("n:int64", steps=steps), b"x\ny\n")
    assert (got.rows, got.rows_in, len(got.bad)) == (0, 2, 2)


def test_two_thousand_columns_go_through_and_one_bad_value_takes_one_row() -> None:
    columns = " ".join(f"c{number}:int64" for number in range(2000))
    row = ",".join(str(number) for number in range(2000)).encode()
    got = convert(plan_of(columns), b"\n".join([row, row[:-4] + b"oops", row]))
    assert [column.to_pylist() for column in got.columns] == [[number, number] for number in range(2000)]
    assert [(bad.line, bad.column, bad.value) for bad in got.bad] == [(3, "c1999", "oops")]


def test_many_bad_values_take_no_quadratic_time() -> None:
    got = convert(plan_of("a:int64 t:string"), b"x,1\n5,2\n" * 50_000)
    assert (got.rows, len(got.bad), got.bad[-1].line) == (50_000, 50_000, 100_000)


def test_columns_of_other_files_are_found_by_name_and_missing_ones_are_null() -> None:
    sources = (
        Source("s3://data/a.csv", 0, "", ""),
        Source("/data/all.zip", 0, "", "", member="b.csv", columns=("t", "more", "n")),
    )
    plan = plan_of("n:int64 d:date t:string", sources=sources)
    assert values(convert(plan, b"1,2024-01-01,a\n")) == [(1, dt.date(2024, 1, 1), "a")]
    got = convert(plan, b"a,?,5\nb,?,x\n", source=1)
    assert values(got) == [(5, None, "a")]
    assert got.bad[0].reason.startswith("it is no int64 (as the other values looked)")


def test_a_segment_that_was_prepared_is_utf8_whatever_the_source_was() -> None:
    plan = plan_of("t:string", encoding="big5")
    assert values(convert(plan, "繁體".encode("cp950"))) == [("繁體",)]
    assert values(convert(plan, "繁體".encode(), prepared="segment-0")) == [("繁體",)]


def test_a_text_in_a_number_column_of_json_is_judged_like_text_of_a_csv() -> None:
    plan = plan_of("n:int64 t:string", read="jsonl")
    got = convert(
        plan, b'{"n":1}\n{"n":"5","t":1.10}\n{"n":"007"}\n{"n":" 5"}\n{"n":2.0}\n[]\n{"n":"NA","t":""}', line=1
    )
    assert values(got) == [(1, None), (5, "1.10"), (None, "")]
    assert [(bad.line, bad.column, bad.value) for bad in got.bad] == [
        (3, "n", "007"), (4, "n", " 5"), (5, "n", "2.0"), (6, "", ""),
    ]  # fmt: skip
    assert got.bad[0].text == '{"n":"007"}'


def test_a_cast_to_text_shows_the_values_of_parquet() -> None:
    table = pa.table({"n": [5, None], "d": pa.array([dt.date(2024, 1, 1), None]), "f": [2.0, 2.5]})
    steps = Steps(where="length(n) = 1", where_columns=(0,))
    plan = plan_of("n:string d:string f:int64", read="parquet", cast="n d f", steps=Steps())
    file = io.BytesIO()
    parquet.write_table(table, file)
    rows = read_segment(plan, Segment(0, 0, 0, 1, 1), file)
    got = convert_rows(plan, rows)
    assert values(got) == [("5", "2024-01-01", 2)]
    assert (got.bad[0].line, got.bad[0].column, got.bad[0].value) == (2, "f", "2.5")
    assert got.bad[0].text == '{"n": null, "d": null, "f": 2.5}'
    assert values(convert_rows(plan_of("n:string", read="parquet", cast="n", steps=steps), rows)) == [("5",)]
