"""Every kind of source and of destination, in one process: the same rows, whatever they came in and go out as."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from windrow.common.errors import ExportError
from windrow.export.run import ExportRun, export

ROWS = 600
PLACES = ("北京", "two\nlines", 'a "quoted" one', "x,y", "plain")
TABLE = [(at, PLACES[at % 5], at / 4) for at in range(ROWS)]


def csv_text(end: str = "\n", delimiter: str = ",") -> str:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=end, delimiter=delimiter)
    writer.writerow(["id", "place", "amount"])
    writer.writerows((at, place, f"{amount:.2f}") for at, place, amount in TABLE)
    return sink.getvalue()


def jsonl_text() -> str:
    return "".join(
        json.dumps({"id": at, "place": place, "amount": amount}, ensure_ascii=False) + "\n"
        for at, place, amount in TABLE
    )


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def zipped(data: bytes, name: str = "inner.csv") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return sink.getvalue()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    at, place, amount = (list(column) for column in zip(*TABLE, strict=True))
    pq.write_table(pa.table({"id": at, "place": place, "amount": amount}), sink, row_group_size=100)
    return bytes(sink.getvalue())


SOURCES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "csv": ("in.csv", lambda: csv_text().encode()),
    "csv crlf and bom": ("in.csv", lambda: b"\xef\xbb\xbf" + csv_text("\r\n").encode()),
    "csv without a last newline": ("in.csv", lambda: csv_text().encode()[:-1]),
    "tsv": ("in.tsv", lambda: csv_text(delimiter="\t").encode()),
    "gbk": ("in.csv", lambda: csv_text().encode("gbk")),
    "gb18030": ("in.csv", lambda: csv_text().encode("gb18030")),
    "big5": ("in.csv", lambda: csv_text().encode("big5")),
    "shift-jis": ("in.csv", lambda: csv_text().encode("shift-jis")),
    "utf-16": ("in.csv", lambda: csv_text().encode("utf-16")),
    "gzip": ("in.csv.gz", lambda: gzip.compress(csv_text().encode())),
    "gzip gbk": ("in.csv.gz", lambda: gzip.compress(csv_text().encode("gbk"))),
    "bz2": ("in.csv.bz2", lambda: bz2.compress(csv_text().encode())),
    "zip": ("in.zip", lambda: zipped(csv_text().encode())),
    "zstd": ("in.csv.zst", lambda: zstd(csv_text().encode())),
    "jsonl": ("in.jsonl", lambda: jsonl_text().encode()),
    "jsonl gzip": ("in.jsonl.gz", lambda: gzip.compress(jsonl_text().encode())),
    "parquet": ("in.parquet", parquet_bytes),
}
DESTINATIONS: dict[str, dict[str, Any]] = {
    "out.csv": {},
    "out.csv.gz": {},
    "out.csv.zst": {},
    "gbk.csv": {"to_encoding": "gbk"},
    "utf16.csv": {"to_encoding": "utf-16"},
    "out.tsv": {},
    "out.jsonl": {},
    "out.jsonl.gz": {},
    "out.parquet": {},
    "zstd.parquet": {"compression": "zstd"},
    "folder/": {"to": "csv"},
    "parquets/": {"to": "parquet"},
}


def rows_at(path: Path, **options: Any) -> list[tuple[int, str, float]]:
    """The rows of any destination."""
    if path.is_dir():
        return [row for part in sorted(path.iterdir()) for row in rows_at(part)]
    if path.suffix == ".parquet":
        return [(row["id"], row["place"], row["amount"]) for row in pq.read_table(path).to_pylist()]
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            data = stream.read()
    text = data.decode(options.get("to_encoding", "utf-8"))
    if ".jsonl" in path.name:
        found = [json.loads(line) for line in text.splitlines()]
        return [(row["id"], row["place"], row["amount"]) for row in found]
    read = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ","))
    assert read[0] == ["id", "place", "amount"]
    return [(int(at), place, float(amount)) for at, place, amount in read[1:]]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_its_rows(cluster: Any, tmp_path: Path, kind: str) -> None:
    name, make = SOURCES[kind]
    (tmp_path / name).write_bytes(make())
    options: dict[str, Any] = {"encoding": kind} if kind in ("big5", "shift-jis") else {}
    for dest in ("out.csv", "out.parquet"):
        summary = export(cluster, tmp_path / name, tmp_path / dest, segment_bytes=3_000, **options).wait()
        assert (summary.rows, summary.notes, summary.segments > 2) == (ROWS, (), True)
        assert rows_at(tmp_path / dest) == TABLE
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "out.csv", "out.parquet"])


@pytest.mark.parametrize("dest", DESTINATIONS)
def test_every_destination_has_the_rows(cluster: Any, tmp_path: Path, dest: str) -> None:
    (tmp_path / "in.csv").write_text(csv_text(), newline="")
    options = DESTINATIONS[dest]
    export(cluster, tmp_path / "in.csv", f"{tmp_path}/{dest}", segment_bytes=3_000, **options).wait()
    assert rows_at(tmp_path / dest.rstrip("/"), **options) == TABLE


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "gzip"])
@pytest.mark.parametrize("to", ["csv", "jsonl", "parquet"])
def test_header_only_one_row_and_empty_sources(cluster: Any, tmp_path: Path, kind: str, to: str) -> None:
    tables = {"one": [(7, "x")], "none": []}
    for label, table in tables.items():
        source, dest = tmp_path / f"{label}.{kind}", tmp_path / f"{label}-out.{to}"
        if kind == "parquet":
            pq.write_table(
                pa.table(
                    {
                        "a": pa.array([row[0] for row in table], pa.int64()),
                        "b": pa.array([row[1] for row in table], pa.string()),
                    }
                ),
                source,
            )
        elif kind == "jsonl":
            source.write_text("".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in table))
        else:
            text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in table)
            source.write_bytes(gzip.compress(text.encode()) if kind == "gzip" else text.encode())
        if kind == "jsonl" and not table:
            # Nothing says what its columns would be; see below.
            continue
        assert export(cluster, source, dest).wait().rows == len(table)
        if to == "parquet":
            assert [tuple(row.values()) for row in pq.read_table(dest).to_pylist()] == table
        elif to == "csv":
            assert dest.read_text() == "a,b\n" + "".join(f"{a},{b}\n" for a, b in table)
        else:
            assert [tuple(json.loads(line).values()) for line in dest.read_text().splitlines()] == table


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz", "in.jsonl"])
@pytest.mark.parametrize("dest", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_source_without_a_byte_has_neither_columns_nor_rows_and_it_is_said(
    cluster: Any, tmp_path: Path, name: str, dest: str
) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"\n\n") if name.endswith("gz") else b"")
    summary = export(cluster, tmp_path / name, tmp_path / dest).wait()
    assert (summary.rows, summary.notes) == (0, ("the source is empty: there are neither columns nor rows",))
    if dest == "out.parquet":
        table = pq.read_table(tmp_path / dest)
        assert (table.num_rows, table.num_columns) == (0, 0)
    else:
        assert (tmp_path / dest).read_bytes() == b""


def test_files_of_a_pattern_are_one_table_by_name(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "d-2.csv").write_text("b,a\nx,1\ny,2\n")
    (tmp_path / "d-10.csv").write_text("a,c\n3,z\n")
    (tmp_path / "d-1.csv").write_text("a,b\n0,w\n")
    (tmp_path / "d-11.csv.gz").write_bytes(gzip.compress(b"c,b\n\xc3\xa4,v\n"))
    summary = export(cluster, tmp_path / "d-*", tmp_path / "out.csv", segment_bytes=5).wait()
    assert (tmp_path / "out.csv").read_text() == "a,b,c\n0,w,\n1,x,\n2,y,\n3,,z\n,v,ä\n"
    assert (summary.rows, summary.segments) == (5, 4)


def test_types_that_do_not_go_together_are_refused_with_both_names(cluster: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "p1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "p2.parquet")
    with pytest.raises(
        ExportError, match=r"column 'a' is int64 in p1\.parquet and string in p2\.parquet: --cast a:string"
    ):
        export(cluster, tmp_path / "p*.parquet", tmp_path / "out.csv").wait()
    assert export(cluster, tmp_path / "p*.parquet", tmp_path / "out.csv", cast="a:string").wait().rows == 2
    (tmp_path / "p3.csv").write_text("a\n1\n")
    with pytest.raises(ExportError, match=r"p1\.parquet is parquet and p3\.csv is csv: export them apart"):
        export(cluster, tmp_path / "p[13].*", tmp_path / "out2.csv").wait()


def test_keys_of_json_lines_are_united_whatever_the_samples_see(cluster: Any, tmp_path: Path) -> None:
    lines = ['{"a": 1}'] * 300 + ['{"b": "x", "a": 2}'] + ['{"a": 3, "c": [1, {"d": null}]}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    export(cluster, tmp_path / "in.jsonl", tmp_path / "out.parquet", segment_bytes=100).wait()
    table = pq.read_table(tmp_path / "out.parquet")
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "string"]
    assert table.to_pylist()[-2:] == [{"a": 2, "b": "x", "c": None}, {"a": 3, "b": None, "c": '[1, {"d": null}]'}]


def test_infer_says_who_decides_the_types(cluster: Any, tmp_path: Path) -> None:
    # The decimal lies where no sample looks.
    data = bytearray(b"n,m\n" + b"1,2\n" * 2_000_000)
    data[4 + 4 * 1_127_200 : 4 + 4 * 1_127_201] = b".5,\n"
    (tmp_path / "in.csv").write_bytes(data)
    path = tmp_path / "out.parquet"
    with pytest.raises(ExportError, match=r"line 1127202 of in\.csv: column 'n' has '\.5'.*--infer full"):
        export(cluster, tmp_path / "in.csv", path).wait()
    export(cluster, tmp_path / "in.csv", path, infer="full").wait()
    assert [str(kind) for kind in pq.read_schema(path).types] == ["double", "int64"]
    export(cluster, tmp_path / "in.csv", path, infer="none", force=True, limit=3).wait()
    assert [str(kind) for kind in pq.read_schema(path).types] == ["string", "string"]


def test_a_first_line_of_data_is_no_header_and_is_said(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1.5,2024-01-02\n2.5,2024-01-03\n")
    summary = export(cluster, tmp_path / "in.csv", tmp_path / "out.csv").wait()
    assert (tmp_path / "out.csv").read_text() == "c1,c2\n1.5,2024-01-02\n2.5,2024-01-03\n"
    assert "the first line looks like data" in summary.notes[0]
    (tmp_path / "years.csv").write_text("name,2023,2024\nx,1,2\n")
    assert export(cluster, tmp_path / "years.csv", tmp_path / "y.csv").wait().notes == ()
    export(cluster, tmp_path / "years.csv", tmp_path / "n.csv", header=False).wait()
    assert (tmp_path / "n.csv").read_text().startswith("c1,c2,c3\nname,2023,2024\n")


def test_segments_are_converted_while_a_single_packed_source_is_unpacked(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(csv_text().encode()))
    run = export(cluster, tmp_path / "in.csv.gz", tmp_path / "out.csv", segment_bytes=3_000)
    seen: list[tuple[int, bool]] = []

    def look(task: str, index: int) -> None:
        if task.endswith(":cut"):
            job = cluster.job(run.convert.id)
            seen.append((job.total, job.open))

    cluster.before = look
    assert run.wait().rows == ROWS
    ((total, is_open),) = seen
    assert total >= 4
    assert is_open


def test_the_steps_go_in_their_order(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("k,v,w\n a ,1,x\nb,,y\n a,2,z\n,3,q\nc,4,\nd,5,e\n")
    run = export(
        cluster, tmp_path / "in.csv", tmp_path / "out.csv", segment_bytes=6,
        trim=True, empty_null=True, cast="v:int64", where="v <> 5 or v is null", drop_null="k,v", dedupe_by="k",
        limit=2, columns="v,k:key",
    )  # fmt: skip
    assert run.wait().rows == 2
    assert (tmp_path / "out.csv").read_text() == "v,key\n1,a\n4,c\n"


@pytest.mark.parametrize("dest", ["out.csv", "out.parquet", "out.jsonl.gz"])
def test_duplicates_go_whatever_segments_they_are_in(cluster: Any, tmp_path: Path, dest: str) -> None:
    text = "k,n\n" + "".join(f"{'' if at % 7 == 0 else at * 31 % 50},{at}\n" for at in range(700))
    (tmp_path / "in.csv").write_text(text)
    seen: dict[str, int] = {}
    for line in text.splitlines()[1:]:
        key, number = line.split(",")
        seen.setdefault(key, int(number))
    made = {
        export(cluster, tmp_path / "in.csv", tmp_path / f"{size}-{dest}", segment_bytes=size, dedupe_by="k").wait().rows
        for size in (100, 1_000, 100_000)
    }
    assert made == {len(seen)}
    if dest == "out.csv":
        rows = list(csv.DictReader((tmp_path / f"100-{dest}").read_text().splitlines()))
        assert [int(row["n"]) for row in rows] == sorted(seen.values())


def test_bad_rows_are_counted_over_the_whole_and_go_to_the_side_file(cluster: Any, tmp_path: Path) -> None:
    lines = [f"{at},x" if at % 100 != 50 else f"bad{at},x" for at in range(1_000)]
    lines[333] = "1,2,3"
    (tmp_path / "in.csv").write_text("n,t\n" + "\n".join(lines) + "\n")

    def go(dest: str, **options: Any) -> ExportRun:
        return export(cluster, tmp_path / "in.csv", tmp_path / dest, cast="n:int64", segment_bytes=100, **options)

    with pytest.raises(ExportError, match=r"11 bad rows.*--max-errors allows 10; the first is line 52 of in\.csv"):
        go("a.csv", max_errors=10).wait()
    with pytest.raises(ExportError, match=r"11 bad rows of 1000, and --max-errors allows 1%"):
        go("b.csv", max_errors="1%").wait()
    summary = go("c.csv", max_errors="1.1%").wait()
    assert (summary.rows, summary.rows_in, summary.bad_rows) == (989, 1_000, 11)
    assert summary.side_file == str(tmp_path / "c.csv.errors.csv")
    side = list(csv.DictReader(Path(summary.side_file).read_text().splitlines()))
    assert [int(row["line"]) for row in side] == sorted([*range(52, 1_002, 100), 335])
    assert {row["column"] for row in side} == {"n", ""}
    assert go("d.csv", max_errors="all", dedupe_by="t").wait().bad_rows == 11
    assert (tmp_path / "d.csv.errors.csv").read_bytes() == Path(summary.side_file).read_bytes()
    # What lies behind the cut of a limit counts for nothing.
    assert go("e.csv", limit=40).wait().rows == 40


def test_what_the_destination_cannot_hold_is_a_bad_row(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n1,ä\n2,城\n3,z\n")
    with pytest.raises(ExportError, match=r"line 3 of in\.csv: column 'b' has '城': latin-1 has no character"):
        export(cluster, tmp_path / "in.csv", tmp_path / "out.csv", to_encoding="latin-1").wait()
    export(cluster, tmp_path / "in.csv", tmp_path / "o.csv", to_encoding="latin-1", max_errors=1).wait()
    assert (tmp_path / "o.csv").read_bytes() == "a,b\n1,ä\n3,z\n".encode("latin-1")


def test_the_bound_on_partitions_is_one_for_the_whole_export_and_can_be_raised(cluster: Any, tmp_path: Path) -> None:
    # Each segment has few values, all together 60.
    (tmp_path / "in.csv").write_text("k,n\n" + "".join(f"k{number // 10},{number}\n" for number in range(600)))
    options: dict[str, Any] = {"to": "csv", "partition_by": "k", "segment_bytes": 100}
    joining = ""

    def look(task: str, index: int) -> None:
        # What comes by itself every few seconds.
        if task == "windrow.export:convert" and joining:
            cluster.run_item(cluster.job(joining), 0)

    for before in (cluster.before, look):
        cluster.before = before
        run = export(cluster, tmp_path / "in.csv", f"{tmp_path}/out/", max_partitions=20, **options)
        joining = run.job("join").id
        with pytest.raises(
            ExportError, match=r"column 'k' has \d+ different values or more.*--max-partitions allows 20"
        ):
            run.wait()
        assert not (tmp_path / "out").exists()
    done = run.convert.status()
    assert done.done < done.total, "it was noticed at the end only"
    # The finished parts fit: the bound changes none.
    again = export(cluster, tmp_path / "in.csv", f"{tmp_path}/out/", max_partitions=60, **options).wait()
    assert any("parts are taken up" in note for note in again.notes)
    assert len(list((tmp_path / "out").iterdir())) == 60
    limited = export(cluster, tmp_path / "in.csv", f"{tmp_path}/few/", max_partitions=20, limit=195, **options).wait()
    assert (limited.rows, len(list((tmp_path / "few").iterdir()))) == (195, 20)
    with pytest.raises(ExportError, match="--max-partitions 0: a number of folders, 1 or more"):
        export(cluster, tmp_path / "in.csv", f"{tmp_path}/no/", max_partitions=0, **options)


def test_partitions_make_folders(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("k,n\n" + "".join(f"{'ab'[at % 2]},{at}\n" for at in range(100)))
    export(cluster, tmp_path / "in.csv", f"{tmp_path}/out/", to="parquet", partition_by="k", segment_bytes=100).wait()
    table = pq.read_table(tmp_path / "out")
    assert sorted(zip(table["n"].to_pylist(), table["k"].to_pylist(), strict=True)) == [
        (at, "ab"[at % 2]) for at in range(100)
    ]
    with pytest.raises(ExportError, match=r"--columns leaves out 'k'"):
        export(cluster, tmp_path / "in.csv", f"{tmp_path}/no/", to="csv", partition_by="k", columns="n").wait()


def test_a_manifest_has_rows_and_sums_of_each_part(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(csv_text(), newline="")
    summary = export(cluster, tmp_path / "in.csv", tmp_path / "out.csv", segment_bytes=3_000, manifest=True).wait()
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_text())
    assert (manifest["rows"], len(manifest["parts"])) == (ROWS, summary.segments)
    assert manifest["files"] == [{"name": "out.csv", "bytes": summary.bytes, "sha256": summary.sha256}]
