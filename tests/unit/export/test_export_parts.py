"""Parts, their receipts, partitions, and the cut of a limit."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.export_output import Bad, Killed, Rows, hooked, make_plan, make_rows, tree, with_steps, write_parts
from windrow.common.errors import ExportError, Retry
from windrow.export.cutting import Cut, cut_part, find_cut, is_behind_cut
from windrow.export.encode import encode_head, encode_rows
from windrow.export.joining import join_prefix
from windrow.export.model import Errors, Plan, Segment, Source
from windrow.export.parts import find_part, folder_name, part_key, skipped_part, write_part
from windrow.export.publish import check_target, publish_export

SEGMENT = Segment(3, 0, 100, 200)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is processes that die here, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_a_part_that_was_written_is_found(tmp_path: Path) -> None:
    plans = {"a": make_plan(tmp_path / "out.csv"), "b": make_plan(f"{tmp_path}/out/", partition=2, limit=9)}
    for unique, plan in plans.items():
        assert find_part(tmp_path, plan, SEGMENT) is None
        part = write_part(tmp_path, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), unique)
        assert find_part(tmp_path, plan, SEGMENT) == part
        assert (part.segment, part.rows_in, part.rows, part.bad_rows) == (3, 6, 5, 1)
        for path in tmp_path.glob("part-*.json"):
            path.unlink()


def test_a_part_that_is_not_as_it_was_written_is_not_found(tmp_path: Path) -> None:
    plan = make_plan(f"{tmp_path}/out/", partition=2, limit=9)
    for name in ("file", "bad", "order", "receipt"):
        part = write_part(tmp_path, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), name)
        path = tmp_path / {
            "file": part.files[1], "bad": part.bad_file, "order": f"part-000003-{name}.order",
            "receipt": "part-000003.json",
        }[name]  # fmt: skip
        if name == "file":
            data = bytearray(path.read_bytes())
            data[-2] ^= 1
            path.write_bytes(data)
        elif name == "receipt":
            path.write_bytes(path.read_bytes()[:-3])
        else:
            path.unlink()
        assert find_part(tmp_path, plan, SEGMENT) is None, name


def test_a_part_of_another_plan_is_not_found(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv")
    write_part(tmp_path, plan, SEGMENT, make_rows(0, 5), "u")
    changed = [
        dataclasses.replace(plan, windrow="2"),
        dataclasses.replace(plan, spec="asked for more"),
        dataclasses.replace(plan, sources=(Source("/data/flights.csv", 100, "2", "beef"),)),
        with_steps(plan, where="id > 1"),
        make_plan(tmp_path / "out.csv", encoding="gbk"),
    ]
    for other in changed:
        assert find_part(tmp_path, other, SEGMENT) is None
    assert find_part(tmp_path, plan, dataclasses.replace(SEGMENT, stop=201)) is None
    # These change no byte of it.
    for same in (make_plan(tmp_path / "out.csv", force=True, manifest=True, errors=Errors(9)),):
        assert find_part(tmp_path, same, SEGMENT) is not None
        assert part_key(same, SEGMENT) == part_key(plan, SEGMENT)


def test_a_conversion_that_is_killed_anywhere_leaves_no_part_or_a_whole_one(
    tmp_path: Path,
) -> None:
    plan = make_plan(f"{tmp_path}/out/", partition=2, limit=9)
    for at in range(1, 1000):
        work = tmp_path / str(at)
        work.mkdir()
        with hooked(at) as operations, contextlib.suppress(Killed):
            write_part(work, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), "killed")
        found = find_part(work, plan, SEGMENT)
        again = write_part(work, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), "again")
        assert find_part(work, plan, SEGMENT) == again
        assert found is None or found.sha256 == again.sha256
        if operations.count < at:
            assert found is not None
            break
    assert at > 20


def test_a_full_disk_is_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    plan = make_plan(f"{tmp_path}/out/", partition=2, limit=9)
    for at in range(1, 1000):

        def full() -> None:
            raise OSError(errno.ENOSPC, "full")

        with hooked(at, full) as operations:
            try:
                write_part(tmp_path, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), "u")
            except Retry:
                left = {name for name in tree(tmp_path) if not name.endswith(".json")}
                assert left == set(), f"operation {at}"
                (tmp_path / "part-000003.json").unlink(missing_ok=True)
        if operations.count < at:
            break
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    assert at > 20


def test_bad_rows_are_written_with_their_places(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv")
    bad = [Bad(7, "name", 'a "b"', "has,comma", "x\ny"), Bad(9, "", "", "3 fields of 4", "y" * 20_000)]
    part = write_part(tmp_path, plan, SEGMENT, Rows(make_rows(0, 2).columns, 4, bad), "u")
    rows = list(csv.reader(io.StringIO((tmp_path / part.bad_file).read_text(), newline="")))
    assert rows[0] == ["flights.csv", "7", "name", 'a "b"', "has,comma", "x\ny"]
    assert rows[1] == ["flights.csv", "9", "", "", "3 fields of 4", "y" * 10_000]


def test_sources_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    sources = (
        Source("/a/x.csv", 1, "1", "f"),
        Source("/b/x.csv", 1, "1", "f"),
        Source("/z.zip", 1, "1", "f", "in.csv"),
    )
    plan = dataclasses.replace(make_plan(tmp_path / "out.csv"), sources=sources)
    names: list[str] = []
    for at in range(3):
        part = write_part(tmp_path, plan, Segment(at, at, 0, 1), make_rows(0, 1, [Bad(7)]), "u")
        names.append((tmp_path / part.bad_file).read_text().split(",")[0])
    assert names == ["/a/x.csv", "/b/x.csv", "z.zip:in.csv"]


def test_a_second_round_takes_over_what_the_first_has_counted(tmp_path: Path) -> None:
    plan = with_steps(make_plan(tmp_path / "out.csv", limit=2), dedupe=(0,))
    first = write_part(tmp_path, plan, SEGMENT, make_rows(0, 5, [Bad(7)]), "first")
    assert first.rows == 5, "a limit is for what is left of the duplicates"
    second = write_part(tmp_path, plan, SEGMENT, make_rows(0, 3), "second", earlier=first)
    assert (second.rows, second.rows_in, second.bad_rows, second.bad_file) == (3, 6, 1, first.bad_file)


def test_a_part_has_no_more_rows_than_the_limit(tmp_path: Path) -> None:
    part = write_part(tmp_path, make_plan(tmp_path / "out.csv", limit=2), SEGMENT, make_rows(0, 5), "u")
    assert part.rows == 2


def test_too_many_values_for_a_partition_are_refused(tmp_path: Path) -> None:
    plan = make_plan(f"{tmp_path}/out/", partition=2)
    plan = dataclasses.replace(plan, dest=dataclasses.replace(plan.dest, partitions_max=4))
    with pytest.raises(ExportError, match=r"column 'kind' has 5 different values or more.*--max-partitions allows 4"):
        write_part(tmp_path, plan, SEGMENT, make_rows(0, 9), "u")
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "__HIVE_DEFAULT_PARTITION__"), ("__HIVE_DEFAULT_PARTITION__", "%5F_HIVE_DEFAULT_PARTITION__"),
        ("a/b", "a%2Fb"), ("..", ".."), ("50%", "50%25"), ("é", "%C3%A9"), ("a=b", "a%3Db"), ("", ""),
    ],
)  # fmt: skip
def test_folders_of_values(value: str | None, expected: str) -> None:
    assert folder_name("a b", value) == f"a%20b={expected}"


def test_a_value_that_is_too_long_for_a_folder_is_refused() -> None:
    folder_name("a", "x" * 253)
    with pytest.raises(ExportError, match="too long for the name of a folder"):
        folder_name("a", "x" * 254)


def test_partitions_need_a_folder_and_another_column(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="end the destination in a slash"):
        check_target(make_plan(tmp_path / "out", partition=2))
    plan = make_plan(f"{tmp_path}/out/", partition=2)
    with pytest.raises(ExportError, match="not in the output"):
        check_target(dataclasses.replace(plan, output=plan.output[:2]))
    with pytest.raises(ExportError, match="the only one"):
        check_target(dataclasses.replace(plan, output=plan.output[2:]))
    check_target(plan)


def test_where_a_limit_cuts(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, make_plan(tmp_path / "o"), (5, 0, 7))
    limits = {0: Cut(1, 0), 1: Cut(1, 1), 5: Cut(1, 5), 6: Cut(3, 1), 12: Cut(3, 7), 13: None}
    assert {limit: find_cut(make_plan(tmp_path / "o", limit=limit), parts) for limit in limits} == limits
    assert find_cut(make_plan(tmp_path / "o"), parts) is None


def test_segments_behind_the_cut_are_known_as_soon_as_it_is_found(tmp_path: Path) -> None:
    for dest in (f"{tmp_path}/out/", tmp_path / "out.csv"):
        plan = make_plan(dest, limit=8)
        parts = write_parts(tmp_path, plan, (5, 7, 3), unique=str(plan.dest.folder))
        join_prefix(tmp_path, plan, parts[:1])
        assert not is_behind_cut(tmp_path, 2)
        join_prefix(tmp_path, plan, parts[:2])
        assert [is_behind_cut(tmp_path, segment) for segment in range(4)] == [False, False, True, True]
        (tmp_path / "cut.json").unlink()
    assert skipped_part(3).skipped


LIMITED = {
    "csv": lambda at, limit: make_plan(at / "o", limit=limit),
    "csv gbk": lambda at, limit: make_plan(at / "o", encoding="gbk", limit=limit),
    "csv utf-16": lambda at, limit: make_plan(at / "o", encoding="utf-16", limit=limit),
    "csv gzip": lambda at, limit: make_plan(at / "o", compression="gzip", limit=limit),
    "jsonl zstd": lambda at, limit: make_plan(at / "o", "jsonl", compression="zstd", limit=limit),
    "parquet": lambda at, limit: make_plan(at / "o", "parquet", compression="zstd", limit=limit),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_a_limit_gives_the_first_rows(tmp_path: Path, kind: str) -> None:
    plan: Plan
    for limit in (0, 1, 4, 5, 6, 11, 12, 20):
        plan = LIMITED[kind](tmp_path, limit)
        unlimited = with_steps(plan, limit=None)
        parts = write_parts(tmp_path / "work", unlimited, (5, 0, 7))
        published = publish_export(tmp_path / "work", plan, parts, 3, "u")
        assert published.rows == min(limit, 12)
        data = (tmp_path / "o").read_bytes()
        columns: list[Any] = [one.slice(0, limit) for one in make_rows(0, 12).columns]
        if kind == "parquet":
            assert pq.read_table(tmp_path / "o").to_pydict() == pa.table(columns, names=plan.names).to_pydict()
        elif kind.startswith("csv") and not plan.write_form.compression:
            expected = encode_head(plan.write_form, plan.names) + b"".join(
                encode_rows(plan.write_form, plan.names, plan.types, columns)
            )
            assert data == expected
        else:
            plain = dataclasses.replace(plan.write_form, compression="")
            expected = encode_head(plain, plan.names) + b"".join(encode_rows(plain, plan.names, plan.types, columns))
            if data or expected:
                with pa.CompressedInputStream(pa.BufferReader(data), plan.write_form.compression) as stream:
                    assert stream.read() == expected
        (tmp_path / "o").unlink()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_limit_cuts_partitions_by_source_order(tmp_path: Path, kind: str) -> None:
    plan = make_plan(f"{tmp_path}/out/", kind, partition=2, limit=9)
    parts = write_parts(tmp_path / "work", plan, (5, 9))
    cut = cut_part(tmp_path / "work", plan, parts[1], 4, "u")
    assert (cut.rows, len(cut.files)) == (4, 4)
    assert publish_export(tmp_path / "work", plan, parts, 2, "u").rows == 9
    found: list[int] = []
    for path in (tmp_path / "out").rglob("part-*"):
        if kind == "parquet":
            found += pq.read_table(path, partitioning=None)["id"].to_pylist()
        else:
            found += [int(row["id"]) for row in csv.DictReader(io.StringIO(path.read_text(), newline=""))]
    assert sorted(found) == list(range(9))
