"""pyarrow and DuckDB read what exports write, of each kind, joined of several parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.dataset as ds
import pyarrow.json as pj
import pyarrow.parquet as pq
import pytest

from tests.export_output import make_plan, make_rows, write_parts
from windrow.export.joining import join_prefix
from windrow.export.model import Plan
from windrow.export.publish import publish_export

COUNTS = (300, 0, 500, 200)
EXPECTED = [
    tuple(row.values()) for row in pa.table(list(make_rows(0, 1000).columns), names=["id", "name", "kind"]).to_pylist()
]


def export(tmp_path: Path, plan: Plan) -> None:
    parts = write_parts(tmp_path / "work", plan, COUNTS)
    join_prefix(tmp_path / "work", plan, parts[:2])
    publish_export(tmp_path / "work", plan, parts, len(COUNTS), "u")


def rows_of(table: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row[name] for name in ("id", "name", "kind")) for row in table.to_pylist())


def read_csv(path: Path) -> Any:
    options = pcsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    return pcsv.read_csv(path, parse_options=pcsv.ParseOptions(newlines_in_values=True), convert_options=options)


def read_json(path: Path, compression: str) -> Any:
    with pa.input_stream(path, compression=compression or None) as stream:
        return pj.read_json(pa.BufferReader(stream.read()))


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_csv(tmp_path: Path, compression: str) -> None:
    path = tmp_path / ("out.csv" + {"": "", "gzip": ".gz", "zstd": ".zst"}[compression])
    export(tmp_path, make_plan(path, compression=compression))
    assert rows_of(read_csv(path)) == EXPECTED
    query = f"from read_csv('{path}', header=true, new_line='\\n', all_varchar=false, parallel=false)"
    assert duckdb.sql(query).fetchall() == EXPECTED


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_json_lines(tmp_path: Path, compression: str) -> None:
    path = tmp_path / ("out.jsonl" + {"": "", "gzip": ".gz", "zstd": ".zst"}[compression])
    export(tmp_path, make_plan(path, "jsonl", compression=compression))
    assert rows_of(read_json(path, compression)) == EXPECTED
    assert duckdb.sql(f"from read_json('{path}', format='newline_delimited')").fetchall() == EXPECTED


@pytest.mark.parametrize("compression", ["", "snappy", "zstd", "gzip", "none"])
def test_parquet_with_filters_over_its_page_indexes(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "out.parquet"
    export(tmp_path, make_plan(path, "parquet", compression=compression))
    assert rows_of(pq.read_table(path)) == EXPECTED
    assert duckdb.sql(f"from '{path}'").fetchall() == EXPECTED
    about = pq.ParquetFile(path).metadata
    assert about.num_row_groups == 3
    assert all(
        about.row_group(group).column(at).has_column_index and about.row_group(group).column(at).has_offset_index
        for group in range(3)
        for at in range(3)
    )
    statistics = about.row_group(1).column(0).statistics
    assert (statistics.min, statistics.max) == (300, 799)
    wanted = [row for row in EXPECTED if 295 <= row[0] < 305]
    found = pq.read_table(path, filters=[("id", ">=", 295), ("id", "<", 305)])
    assert rows_of(found) == wanted
    assert rows_of(ds.dataset(path).to_table(filter=pc.field("name") == "n301")) == [EXPECTED[301]]
    assert duckdb.sql(f"from '{path}' where id >= 295 and id < 305").fetchall() == wanted
    assert duckdb.sql(f"select id from '{path}' where name = 'n301'").fetchall() == [(301,)]


DUCKDB: dict[str, Callable[[Path], str]] = {
    "csv": lambda at: f"read_csv('{at}/**/*.csv', header=true, hive_partitioning=true, parallel=false)",
    "jsonl": lambda at: f"read_json('{at}/**/*.jsonl', hive_partitioning=true)",
    "parquet": lambda at: f"read_parquet('{at}/**/*.parquet', hive_partitioning=true)",
}


@pytest.mark.parametrize("kind", DUCKDB)
@pytest.mark.parametrize("partition", [None, 2])
def test_folders(tmp_path: Path, kind: str, partition: int | None) -> None:
    plan = make_plan(f"{tmp_path}/out/", kind, partition=partition)
    export(tmp_path, plan)
    query = f"select id, name, kind from {DUCKDB[kind](tmp_path / 'out')} order by id"
    assert duckdb.sql(query).fetchall() == EXPECTED
    if kind == "jsonl":
        format_: Any = ds.JsonFileFormat()
    elif kind == "csv":
        format_ = ds.CsvFileFormat(
            pcsv.ParseOptions(newlines_in_values=True),
            convert_options=pcsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        )
    else:
        format_ = ds.ParquetFileFormat()
    # Null values have a folder of their own, which is known by its name alone.
    folders = ds.partitioning(pa.schema([("kind", pa.string())]), flavor="hive") if partition else None
    dataset = ds.dataset(tmp_path / "out", format=format_, partitioning=folders)
    assert rows_of(dataset.to_table(columns=["id", "name", "kind"])) == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["out", "out/"])
def test_no_rows_at_all(tmp_path: Path, kind: str, name: str) -> None:
    plan = make_plan(f"{tmp_path}/{name}", kind)
    parts = write_parts(tmp_path / "work", plan, (0, 0))
    assert publish_export(tmp_path / "work", plan, parts, 2, "u").rows == 0
    path = tmp_path / "out" / f"part-000000.{kind}" if name == "out/" else tmp_path / "out"
    if kind == "parquet":
        assert pq.read_table(path).schema.names == plan.names
        assert duckdb.sql(f"from read_parquet('{path}')").fetchall() == []
    else:
        assert path.read_bytes() == (b"id,name,kind\n" if kind == "csv" else b"")
