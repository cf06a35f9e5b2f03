"""A whole export, driven in one process: the output is right, the same each time, and whole or not there at all."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from tests.unit.export.conftest import Cluster
from windrow.common.errors import ExportError
from windrow.export import tasks
from windrow.export.destination import aside_path
from windrow.export.run import ExportRun, export, start_export
from windrow.export.spec import make_spec
from windrow.export.stages import STAGES, open_stages, stage_id

Export = Callable[..., Path]


def table_bytes(rows: int, seed: int = 1, end: str = "\n") -> bytes:
    chance = random.Random(seed)
    notes = ["", "plain", "007", "1.10", "1e5", "a,b", 'say ""x""', "two\nlines", "größe", "  padded "]
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=end)
    writer.writerow(["id", "code", "amount", "day", "seen", "ok", "note"])
    for number in range(rows):
        amount = "" if number % 11 == 3 else "NA" if number % 11 == 5 else f"{chance.randrange(100_000) / 100}"
        writer.writerow(
            [number, f"{chance.randrange(1000):04d}", amount, f"2024-0{1 + number % 9}-1{number % 10}",
             f"2024-01-01 {number % 24:02d}:00:00", chance.choice(["true", "false"]), chance.choice(notes)]
        )  # fmt: skip
    return sink.getvalue().encode()


def rows_of(data: bytes) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(data.decode(), newline="")) if row]


@pytest.mark.parametrize("limited", [False, True])
def test_the_scheduler_keeps_what_the_last_stage_reads_for_as_long_as_that_waits(limited: bool) -> None:
    """A job is kept while a live one comes right after it; the rest of an export may take longer than results are."""
    cluster = Cluster()
    open_stages(cluster, "an-export", "/a/file.csv", limited=limited)
    waited_for = cluster.jobs[stage_id("an-export", "merge")].after
    assert {stage_id("an-export", stage) for stage in ("plan", "cut", "decide")} <= set(waited_for)


# ── What comes out ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_to_csv_keeps_every_value_that_no_option_names(export: Export, end: str) -> None:
    data = table_bytes(500, end=end)
    assert rows_of(export(data, segment_bytes=700).read_bytes()) == rows_of(data)


def test_where_types_a_column_for_the_condition_and_leaves_its_text(export: Export) -> None:
    data = b"n,x\n1.10,a\n2e0,b\n0.5,c\n,d\nNA,e\n"
    assert export(data, where="n > 1").read_bytes() == b"n,x\n1.10,a\n2e0,b\n"


def test_empty_fields_and_empty_quoted_fields_stay_apart(export: Export) -> None:
    assert export(b'a,b\n,""\n"",x\n').read_bytes() == b'a,b\n,""\n"",x\n'
    assert export(b'a\n""\nx\n', "one.csv").read_bytes() == b'a\n""\nx\n'
    assert export(b'a,b\n,""\n"",x\n', "out2.csv", where="a is null").read_bytes() == b'a,b\n,""\n'


def test_columns_are_selected_renamed_and_cast(export: Export) -> None:
    data = b"a,b:c,d\n007,x,2024-01-01T05:00:00Z\n08,y,2024-01-02 06:30\n"
    made = export(data, columns='d:when,b:c,a:n"m', cast="a:int64,d:timestamp")
    assert made.read_bytes() == b'when,b:c,"n""m"\n2024-01-01 05:00:00,x,7\n2024-01-02 06:30:00,y,8\n'


def test_times_in_a_condition_are_utc_wherever_the_node_is(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    data = b"t\n2024-01-01T23:30:00-02:00\n2024-01-01T20:30:00Z\n"
    assert export(data, where="day(t) = 2").read_bytes() == b"t\n2024-01-01T23:30:00-02:00\n"


def test_casts_come_before_the_condition(export: Export) -> None:
    assert export(b"a\n007\n3\n", cast="a:int64", where="a = 7").read_bytes() == b"a\n7\n"
    assert export(b"a\n007\n3\n", "b.csv", where="a = '007'").read_bytes() == b"a\n007\n"


def test_parquet_equals_a_direct_computation(export: Export, tmp_path: Path) -> None:
    data = table_bytes(3_000)
    made = export(
        data, "out.parquet", segment_bytes=9_000,
        columns="id,amount:price,day,seen,ok,note,code", cast="amount:decimal(9,2)",
        where="amount > 300 AND day < '2024-07-01'",
    )  # fmt: skip
    got = pq.read_table(made)
    assert [str(kind) for kind in got.schema.types] == [
        "int64", "decimal128(9, 2)", "date32[day]", "timestamp[us]", "bool", "string", "string",
    ]  # fmt: skip
    strings = {name: pa.string() for name in rows_of(data)[0]}
    whole = arrow_csv.read_csv(
        tmp_path / "in.csv",
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(column_types=strings, strings_can_be_null=True, null_values=[""]),
    )
    with duckdb.connect() as connection:
        connection.register("whole", whole)
        direct = connection.sql(
            """SELECT id::BIGINT AS id, nullif(amount, 'NA')::DECIMAL(9, 2) AS price, day::DATE AS day,
               seen::TIMESTAMP AS seen, ok::BOOLEAN AS ok, note, code FROM whole
               WHERE nullif(amount, 'NA')::DECIMAL(9, 2) > 300 AND day::DATE < '2024-07-01' ORDER BY id::BIGINT"""
        ).to_arrow_table()
    assert 1000 < got.num_rows < 3_000
    assert got.to_pylist() == direct.to_pylist()


def test_a_row_group_is_a_segment_and_empty_segments_are_left_out(export: Export) -> None:
    data = b"n\n" + b"".join(b"%d\n" % number for number in range(1000, 2000))
    made = export(data, "out.parquet", segment_bytes=1000, where="n < 1200 OR n >= 1800")
    metadata = pq.ParquetFile(made).metadata
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [200, 200]
    nothing = export(data, "none.parquet", segment_bytes=1000, where="n < 0")
    assert pq.read_table(nothing).schema == pa.schema([("n", pa.int64())])


@pytest.mark.parametrize(
    ("data", "made"),
    [
        (b"a,b", b"a,b\n"),
        (b"a,b\n", b"a,b\n"),
        (b"\xef\xbb\xbfa,b\r\n1,2", b"a,b\n1,2\n"),
        (b"\n\na,b\n\n1,2\n\n\n", b"a,b\n1,2\n"),
        (b'"a\nx",b\n1,2\n', b'"a\nx",b\n1,2\n'),
        (b"a;b\n1,5;2\n", b'a,b\n"1,5",2\n'),
        (b"a\tb\n1\t2\n", b"a,b\n1,2\n"),
        (b"a,a\n1,2\n", b"a,a\n1,2\n"),
    ],
)
def test_odd_sources(export: Export, data: bytes, made: bytes) -> None:
    assert export(data).read_bytes() == made


def test_a_header_alone_makes_a_parquet_file_of_text_columns(export: Export) -> None:
    table = pq.read_table(export(b"a,b\n", "out.parquet"))
    assert (table.num_rows, table.schema) == (0, pa.schema([("a", pa.string()), ("b", pa.string())]))


@pytest.mark.system
def test_two_thousand_columns(export: Export) -> None:
    names = [f"c{number}" for number in range(2_000)]
    data = (
        "\n".join([",".join(names)] + [",".join(str(row + number) for number in range(2_000)) for row in range(9)])
        + "\n"
    )
    assert export(data.encode(), segment_bytes=40_000).read_bytes() == data.encode()
    assert pq.read_table(export(data.encode(), "out.parquet", segment_bytes=40_000))["c1999"].to_pylist() == list(
        range(1999, 2008)
    )


def test_types_are_decided_from_the_whole_source_not_from_its_head(export: Export) -> None:
    data = b"n\n" + b"1\n" * 3_000_000 + b"2.5\n" * 300_000
    made = pq.ParquetFile(export(data, "out.parquet", segment_bytes=2 << 20))
    assert str(made.schema_arrow.field("n").type) == "double"


# ── The same bytes, whatever happens ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dest", ["out.csv", "out.parquet"])
def test_order_and_repetition_of_the_work_do_not_show(cluster: Any, export: Export, dest: str) -> None:
    data = table_bytes(2_000)
    options: dict[str, Any] = {"segment_bytes": 5_000, "where": "id % 3 > 0", "cast": "amount:float64"}
    first = export(data, dest, **options).read_bytes()

    def again(task: str, index: int) -> None:
        # Another node has done this one already; its part stays until the end.
        if task == tasks.CONVERT and index % 3 == 0:
            job = [job for job in cluster.jobs.values() if job.task == task][-1]
            cluster.run_item(job, index)

    cluster.before = again
    for seed in (1, 2):
        cluster.seed = seed
        assert export(data, f"{seed}-{dest}", **options).read_bytes() == first


def test_csv_does_not_depend_on_the_segments_at_all(export: Export) -> None:
    data = table_bytes(800)
    made = {export(data, f"{size}.csv", segment_bytes=size, where="ok").read_bytes() for size in (333, 5_000, 1 << 20)}
    assert len(made) == 1


def test_a_segment_that_is_converted_again_has_the_same_part(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.parquet")
    item = cluster.job(run.convert.id)
    cluster.run_item(item, 1)
    (first,) = parts(run)
    before, answer = first.read_bytes(), item.values[1]
    cluster.run_item(item, 1)
    assert (item.values[1], parts(run)) == (answer, [first])
    first.write_bytes(b"damaged")
    cluster.run_item(item, 1)
    (again,) = [path for path in parts(run) if path != first]
    assert again.read_bytes() == before


@pytest.mark.parametrize("stage", ["plan", "scan", "cut", "decide", "join"])
def test_every_stage_may_run_twice(cluster: Any, tmp_path: Path, stage: str) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    work = Path(run.work)
    names = ("draft.json", "segments.json", "plan.json", "token")
    files = {name: (work / name).read_bytes() for name in names}
    items = {name: list(cluster.job(run.job(name).id).items) for name in ("scan", "infer", "convert")}
    assert len(items["convert"]) > 3
    cluster.run_item(cluster.job(run.job(stage).id), 0)
    assert not cluster.job(run.job(stage).id).failed
    assert {name: (work / name).read_bytes() for name in names} == files
    assert {name: list(cluster.job(run.job(name).id).items) for name in items} == items
    assert run.wait().rows == 400


def test_a_source_that_changes_between_two_plans_is_noticed(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    (tmp_path / "in.csv").write_bytes(table_bytes(401))
    plan = cluster.job(run.job("plan").id)
    cluster.run_item(plan, 0)
    assert "changed while the export was planned" in plan.failed[0].message
    cluster.run_item(cluster.job(run.convert.id), 0)
    assert "changed while it was exported" in cluster.job(run.convert.id).failed[0].message


def test_force_replaces_a_file_that_only_looks_like_the_new_one(export: Export) -> None:
    old = export(b"a\n1\n2\n", "out.parquet").read_bytes()
    assert export(b"a\n3\n4\n", "out.parquet", force=True).read_bytes() != old


def test_a_merge_that_runs_again_long_after_answers_the_same(cluster: Any, tmp_path: Path) -> None:
    for dest in ("out.csv", "out.parquet"):
        run = planned(cluster, tmp_path, dest)
        first = run.wait()
        cluster.run_item(cluster.job(run.merge.id), 0)
        assert run.wait() == first
        (tmp_path / dest).write_bytes(b"something else")
        cluster.run_item(cluster.job(run.merge.id), 0)
        assert "has gone before it was joined" in cluster.job(run.merge.id).failed[0].message
        assert (tmp_path / dest).read_bytes() == b"something else"


def test_a_destination_that_appears_meanwhile_is_not_overwritten(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    (tmp_path / "out.csv").write_bytes(b"mine")
    with pytest.raises(ExportError, match=r"out\.csv has appeared meanwhile"):
        run.wait()
    assert (tmp_path / "out.csv").read_bytes() == b"mine"


def test_a_damaged_part_is_not_published(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")

    def damage(task: str, index: int) -> None:
        if task == "windrow.export:join":
            parts(run)[0].write_bytes(b"x")

    cluster.before = damage
    with pytest.raises(ExportError, match=r"has 1 bytes, \d+ were written"):
        run.wait()
    assert not (tmp_path / "out.csv").exists()


# ── Bad input ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"a,b\n1,2\n", {"columns": "a,zz"}, r"--columns names column 'zz'; the source has a, b"),
        (b"a,b\n1,2\n", {"columns": "zz:new"}, r"--columns names column 'zz'"),
        (b"a,b\n1,2\n", {"columns": "a,b:a"}, r"two columns 'a'"),
        (b"a,b\n1,2\n", {"columns": "a:"}, r"gives no new name"),
        (b"a,b\n1,2\n", {"cast": "zz:int64"}, r"--cast names column 'zz'; the source has a, b"),
        (b"a,b\n1,2\n", {"where": "zz > 1"}, r"--where names column 'zz'; the source has a, b"),
        (b"a,b\n1,2\n", {"where": "a >"}, r"--where 'a >' does not parse"),
        (b"a,b\n1,x\n", {"where": "b > 1"}, r"b string; --cast gives another type"),
        (b"a,a\n1,2\n", {"columns": "a"}, r"stands 2 times"),
        (b"a,a\n1,2\n", {"dest": "out.parquet"}, r"two columns 'a'"),
        (b"", {"columns": "a"}, r"--columns names column 'a'; the source has no columns"),
        (b"\x1f\x8b\x08123", {}, r"in\.csv is (cut off|damaged)"),
        (b"PAR1 and so on", {}, r"in\.csv cannot be read as Parquet"),
        (b"a\xe9,b\n", {"encoding": "utf-8"}, r"header of in\.csv is not utf-8: say what it is with --encoding"),
        (b'a,b\n1,"2\n', {}, r"line 2 of in\.csv: the quote .* is never closed"),
        (b"a,b\n1,2\n\n3\n", {}, r"line 4 of in\.csv: it has 1 field, the header has 2"),
        (b'a,b\n1,"x\ny"\n1,2,3\n', {"where": "a > 0"}, r"line 4 of in\.csv: it has 3 fields"),
        (b"a,b\n1,2\n3,\xe9\n", {"encoding": "utf-8"}, r"line 3 of in\.csv: its byte 3 .0xe9. belongs to no character"),
        (
            b'a,b\n1,"x\n\ny"\n2,z\nx,w\n',
            {"cast": "a:int64"},
            r"line 6 of in\.csv: column 'a' has 'x': it is no int64 \(as asked .*--cast a:string",
        ),
        (
            b'a,b\n1,"x\ny"\n2,z\n3,w\n',
            {"where": "cast(b as integer) > 1"},
            r"Could not convert string .* \(in lines 2 to 5 of in\.csv\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line_and_leaves_nothing(
    cluster: Any, tmp_path: Path, data: bytes, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "in.csv").write_bytes(data)
    options = {"dest": "out.csv"} | options
    dest = tmp_path / options.pop("dest")
    with pytest.raises(ExportError, match=message) as refused:
        export_run(cluster, tmp_path, dest, **options).wait()
    assert "\n" not in refused.value.message
    assert not dest.exists()
    assert set(os.listdir(tmp_path)) <= {"in.csv", "out.csv.errors.csv", f".{dest.name}.windrow-{export_of(cluster)}"}


def test_a_value_that_does_not_fit_the_found_type_names_its_line(cluster: Any, tmp_path: Path) -> None:
    # Longer than what the samples look at, so that the value comes as a surprise.
    lines = [b"%d,%d" % (number, number) for number in range(700_000)]
    lines[606_013] = b"1,007"
    (tmp_path / "in.csv").write_bytes(b"a,b\n" + b"\n".join(lines) + b"\n")
    run = export_run(cluster, tmp_path, tmp_path / "out.parquet", segment_bytes=1 << 20)
    with pytest.raises(
        ExportError, match=r"^1 bad row.*line 606015 of in.csv: column 'b' has '007': it is no int64 \(as the other"
    ) as refused:
        run.wait()
    assert "keep it as text with --cast b:string, or let --infer full" in refused.value.message
    assert (tmp_path / "out.parquet.errors.csv").read_text().splitlines()[1].startswith("in.csv,606015,b,007,")
    assert export_run(cluster, tmp_path, tmp_path / "out.parquet", cast="b:string").wait().rows == 700_000
    # In CSV to CSV no column has a type that nobody asked for.
    assert export_run(cluster, tmp_path, tmp_path / "out.csv").wait().rows == 700_000


@pytest.mark.parametrize("local", [False, True])
def test_bad_paths_are_told_at_once_on_this_machine_and_by_the_plan_elsewhere(
    cluster: Any, tmp_path: Path, local: bool
) -> None:
    cluster.url = "tcp://127.0.0.1:7600" if local else "tcp://10.0.0.9:7600"
    (tmp_path / "in.csv").write_bytes(b"a\n1\n")
    (tmp_path / "there.csv").write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "in.csv")
    cases = [
        ("no.csv", "out.csv", r"no source .*no\.csv: check the path"),
        ("folder.csv", "out.csv", r"is a folder: name the files in it"),
        ("in.csv", "there.csv", r"there\.csv exists: give another destination, or --force"),
        ("in.csv", "folder.csv", r"folder\.csv is a folder"),
        ("in.csv", "no/out.csv", r"the folder .*/no does not exist"),
        ("in.csv", "in.csv", r"source and destination are the same file"),
        ("in.csv", "link.csv", r"source and destination are the same file"),
    ]
    for source, dest, message in cases:
        with pytest.raises(ExportError, match=message):
            export(cluster, tmp_path / source, tmp_path / dest, force=dest == "in.csv").wait()
        assert bool(cluster.jobs) is not local
    assert (tmp_path / "in.csv").read_bytes() == b"a\n1\n"


def test_force_replaces_the_destination(export: Export, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_bytes(b"old")
    assert export(b"a\n1\n", force=True).read_bytes() == b"a\n1\n"


# ── The run ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress_goes_through_its_phases(cluster: Any, tmp_path: Path) -> None:
    data = table_bytes(400)
    (tmp_path / "in.csv").write_bytes(data)
    run = export_run(cluster, tmp_path, tmp_path / "out.csv", segment_bytes=2_000, where="id >= 100")
    assert run.progress().phase == "planning"
    cluster.steps = 1
    seen = []
    while run.progress().phase != "done":
        with pytest.raises(TimeoutError, match="it goes on"):
            run.wait(0.0)
        cluster.run(True)
        seen.append(run.progress())
    phases = [one.phase for one in seen]
    assert list(dict.fromkeys(phases)) == ["planning", "converting", "merging", "done"]
    for _ in range(20):
        last = run.progress()
    assert last.segments_total == last.segments_done
    assert last.segments_done > 5
    assert (last.rows_in, last.rows, last.source_bytes, last.source_bytes_done) == (400, 300, len(data), len(data))
    summary = run.wait()
    assert summary.rows == 300
    assert summary.bytes == (tmp_path / "out.csv").stat().st_size
    assert summary.seconds == 3.5


def test_cancel_stops_the_jobs_and_keeps_what_is_finished(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    cluster.run_item(cluster.job(run.convert.id), 0)
    assert parts(run)
    run.cancel("changed my mind")
    assert not (tmp_path / "out.csv").exists()
    assert parts(run)
    assert [run.job(stage).status().state for stage in ("plan", "convert", "merge")] == [
        "done",
        "cancelled",
        "cancelled",
    ]
    with pytest.raises(ExportError, match="cancelled: changed my mind"):
        run.wait()


def test_cancelling_the_last_job_by_its_id_ends_the_others_at_the_next_look(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    joining = cluster.job(run.job("join").id)
    cluster.job(run.id).cancel("by hand")
    cluster.run_item(joining, 0)
    assert (run.convert.status().state, run.convert.status().reason) == ("cancelled", "by hand")
    assert not joining.open


@pytest.mark.parametrize("stage", ["scan", "decide"])
def test_a_stage_that_fails_leaves_no_job_open(cluster: Any, tmp_path: Path, stage: str) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n1\n")
    run = export_run(cluster, tmp_path, tmp_path / "out.csv")

    def break_it(task: str, index: int) -> None:
        if task == f"windrow.export:{stage}":
            (Path(run.work) / "draft.json").unlink()

    cluster.before = break_it
    cluster.run()
    states = {name: cluster.job(run.job(name).id).state for name in ("convert", "merge", "join", "finish")}
    assert set(states.values()) == {"cancelled"}, states
    with pytest.raises(ExportError, match="has no plan"):
        run.wait()


def test_cancel_brings_back_a_folder_that_the_merge_had_put_aside(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out/", to="csv")
    aside = aside_path(tmp_path / "out")
    aside.mkdir()
    (aside / "part-000000.csv").write_text("old")
    run.cancel()
    assert (tmp_path / "out" / "part-000000.csv").read_text() == "old"
    assert not aside.exists()


def test_cancel_leaves_nothing_where_nothing_is_finished(cluster: Any, tmp_path: Path) -> None:
    run = planned(cluster, tmp_path, "out.csv")
    run.cancel()
    assert sorted(os.listdir(tmp_path)) == ["in.csv"]
    # A worker that has not heard of it yet makes no new folder.
    cluster.run_item(cluster.job(run.convert.id), 1)
    assert "cannot be read here" in cluster.job(run.convert.id).failed[1].message


def test_a_bad_row_ends_the_export_before_all_segments_are_done(cluster: Any, tmp_path: Path) -> None:
    data = b"a\n" + b"x\n" * 10 + b"1\n" * 2_000
    (tmp_path / "in.csv").write_bytes(data)
    run = export_run(cluster, tmp_path, tmp_path / "out.csv", cast="a:int64", segment_bytes=100)
    convert = cluster.job(run.convert.id)
    joining = cluster.job(run.job("join").id)

    def look(task: str, index: int) -> None:
        # What comes by itself every few seconds.
        if task == tasks.CONVERT and len(convert.values) >= 20:
            cluster.run_item(joining, 0)

    cluster.before = look
    cluster.seed = 3
    with pytest.raises(ExportError, match=r"10 bad rows.*column 'a' has 'x'"):
        run.wait()
    assert 20 <= len(convert.values) < convert.total
    assert joining.failed


def test_the_start_is_durable_before_anything_can_run(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"a\n1\n")
    run = start_export(cluster, make_spec(tmp_path / "in.csv", tmp_path / "out.csv"))
    assert run.merge.id == run.id
    assert [job.task.partition(":")[2] for job in cluster.jobs.values()] == [stage.name for stage in STAGES]
    filled = {job.task.partition(":")[2] for job in cluster.jobs.values() if job.items}
    assert filled == {"plan", "cut", "decide", "join", "merge"}
    assert dataclasses.asdict(run.progress())["segments_total"] is None


def test_casts_of_the_command_line_may_come_many_at_once(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b'a,"b,c"\n07,1\n')
    spec = make_spec(tmp_path / "in.csv", tmp_path / "out.csv", cast=('a:int64, "b,c":decimal(3,1)',))
    run = start_export(cluster, spec)
    assert run.status().state == "pending"
    assert run.wait().rows == 1
    assert (run.status().state, run.status().total) == ("done", 1)
    assert (tmp_path / "out.csv").read_bytes() == b'a,"b,c"\n7,1.0\n'


# ── Helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def export_run(cluster: Any, folder: Path, dest: Path | str, **options: Any) -> ExportRun:
    return export(cluster, folder / "in.csv", dest, **options)


def planned(cluster: Any, folder: Path, dest: str, **options: Any) -> ExportRun:
    """An export of which all stages before the converting one have run, and nothing else."""
    (folder / "in.csv").write_bytes(table_bytes(400))
    os.utime(folder / "in.csv", ns=(10**18, 10**18))
    run = export_run(cluster, folder, f"{folder}/{dest}", segment_bytes=3_000, **options)
    steps = cluster.steps
    while run.job("decide").status().state != "done":
        cluster.steps = 1
        cluster.run(True)
    cluster.steps = steps
    return run


def parts(run: ExportRun) -> list[Path]:
    return sorted(path for path in Path(run.work).glob("part-*") if path.suffix != ".json")


def export_of(cluster: Any) -> str:
    """The id of the last export."""
    return str([job.id for job in cluster.jobs.values() if job.task == tasks.MERGE][-1])
