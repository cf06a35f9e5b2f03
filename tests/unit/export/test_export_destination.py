"""What may be a destination, how many bad rows there may be, and what lies beside a destination."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.export_output import Bad, hooked, make_plan, write_parts
from windrow.common.errors import ExportError, Retry
from windrow.export import disk
from windrow.export.joining import join_prefix
from windrow.export.model import Errors
from windrow.export.publish import check_target, publish_export
from windrow.export.totals import check_errors


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is processes that die here, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_an_existing_destination_needs_force(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(ExportError, match="exists: give another destination, or --force"):
        check_target(make_plan(tmp_path / "out.csv"))
    check_target(make_plan(tmp_path / "out.csv", force=True))
    (tmp_path / "link.csv").symlink_to(tmp_path / "nothing")
    with pytest.raises(ExportError, match="exists"):
        check_target(make_plan(tmp_path / "link.csv"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="exists"):
        check_target(make_plan(f"{tmp_path}/folder/"))
    check_target(make_plan(f"{tmp_path}/folder/", force=True))
    with pytest.raises(ExportError, match="is a folder: end it in a slash"):
        check_target(make_plan(f"{tmp_path}/folder", force=True))
    with pytest.raises(ExportError, match="is no folder"):
        check_target(make_plan(f"{tmp_path}/out.csv/", force=True))


def test_the_destinations_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist: make it first"):
        check_target(make_plan(tmp_path / "nowhere" / "out.csv"))


def test_a_source_is_no_destination_whatever_it_is_called(tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_text("a\n")
    (tmp_path / "symbolic.csv").symlink_to(source)
    os.link(source, tmp_path / "hard.csv")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("data.csv", "symbolic.csv", "hard.csv", "folder/data.csv", "../" + tmp_path.name + "/data.csv"):
        with pytest.raises(ExportError, match="same file"):
            check_target(make_plan(tmp_path / name, force=True, source=str(source)))
    with pytest.raises(ExportError, match="is in the destination"):
        check_target(make_plan(f"{tmp_path}/", force=True, source=str(source)))
    check_target(make_plan(tmp_path / "other.csv", source=str(source)))
    check_target(make_plan(tmp_path / "data.csv", force=True, source="s3://bucket/data.csv"))


@pytest.mark.parametrize(
    ("pattern", "name", "refused"),
    [
        ("*.csv", "out.csv", True), ("*.csv", "out.parquet", False), ("*.csv", "below/out.csv", False),
        ("**/*.csv", "below/out.csv", True), ("**/*.csv", "out.csv", True), ("o?t.csv", "out.csv", True),
        ("[a-o]ut.csv", "out.csv", True), ("[!a-o]ut.csv", "out.csv", False), ("out.csv", "out.csv", False),
        ("a*b*.csv", "axby.csv", True), ("**", "below/out.csv", True),
    ],
)  # fmt: skip
def test_a_destination_that_a_pattern_of_the_source_names_is_refused(
    tmp_path: Path, pattern: str, name: str, refused: bool
) -> None:
    (tmp_path / "below").mkdir()
    plan = make_plan(tmp_path / name)
    if refused:
        with pytest.raises(ExportError, match="one of the sources that"):
            check_target(plan, [f"{tmp_path}/{pattern}"])
    else:
        check_target(plan, [f"{tmp_path}/{pattern}"])


def test_bad_rows_are_counted_over_the_whole_job(tmp_path: Path) -> None:
    bad = {0: [Bad(2)], 2: [Bad(30), Bad(31)]}
    work = tmp_path / "work"
    plan = make_plan(tmp_path / "out.csv")
    parts = write_parts(work, plan, (3, 3, 4), bad)
    allowed = [Errors(3), Errors(None), Errors(None, 24.0)]
    refused = {
        Errors(0): "1 bad row, and none are allowed; the first is line 2 of flights.csv: column 'id' has 'x': no int64",
        Errors(2): "3 bad rows so far, and --max-errors allows 2",
        Errors(None, 23.0): "3 bad rows of 13, and --max-errors allows 23%",
    }
    for errors in allowed:
        check_errors(work, dataclasses.replace(plan, errors=errors), parts, "u", all_there=True)
    assert not (tmp_path / "out.csv.errors.csv").exists()
    for errors, message in refused.items():
        limited = dataclasses.replace(plan, errors=errors)
        with pytest.raises(ExportError) as told:
            check_errors(work, limited, parts, "u", all_there=True)
        assert message in told.value.message
        assert str(tmp_path / "out.csv.errors.csv") in told.value.message
        rows = list(csv.reader(io.StringIO((tmp_path / "out.csv.errors.csv").read_text(), newline="")))
        assert [row[1] for row in rows] == ["line", "2"] + ([] if errors == Errors(0) else ["30", "31"])
        with pytest.raises(ExportError, match="bad row"):
            publish_export(work, limited, parts, 3, "u")
        assert not (tmp_path / "out.csv").exists()


def test_too_many_bad_rows_are_told_as_soon_as_it_is_known(tmp_path: Path) -> None:
    work = tmp_path / "work"
    plan = make_plan(tmp_path / "out.csv", errors=Errors(1))
    parts = write_parts(work, plan, (3, 3, 4), {0: [Bad(2)], 1: [Bad(30)]})
    check_errors(work, plan, parts[:1], "u", all_there=False)
    with pytest.raises(ExportError, match="2 bad rows so far"):
        check_errors(work, plan, parts[:2], "u", all_there=False)
    share = dataclasses.replace(plan, errors=Errors(None, 1.0))
    check_errors(work, share, parts[:2], "u", all_there=False)
    with pytest.raises(ExportError, match="2 bad rows of 12"):
        check_errors(work, share, parts, "u", all_there=True)


def test_bad_rows_behind_the_cut_of_a_limit_do_not_count(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv", limit=4)
    parts = write_parts(tmp_path / "work", plan, (3, 3, 4), {2: [Bad(30)]})
    check_errors(tmp_path / "work", plan, parts, "u", all_there=False)
    published = publish_export(tmp_path / "work", plan, parts, 3, "u")
    assert (published.bad_rows, published.side_file) == (0, "")
    assert not (tmp_path / "out.csv.errors.csv").exists()


def test_the_side_file_of_an_earlier_run_goes_and_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    side = tmp_path / "out.csv.errors.csv"
    plan = make_plan(tmp_path / "out.csv", errors=Errors(None))
    parts = write_parts(tmp_path / "work", plan, (3,), {0: [Bad(2)]})
    assert publish_export(tmp_path / "work", plan, parts, 1, "u").side_file == str(side)
    assert side.read_text() == 'file,line,column,value,reason,text\nflights.csv,2,id,x,no int64,"x,y"\n'
    forced = make_plan(tmp_path / "out.csv", errors=Errors(None), force=True)
    publish_export(tmp_path / "work", forced, write_parts(tmp_path / "work", forced, (3,)), 1, "u")
    assert not side.exists()
    side.write_text("mine")
    (tmp_path / "out.csv").unlink()
    with pytest.raises(ExportError, match="is where bad rows would go, and exists"):
        check_target(plan)
    publish_export(tmp_path / "work", plan, write_parts(tmp_path / "work", plan, (3,)), 1, "u")
    assert side.read_text() == "mine"


def test_the_manifest_says_what_the_file_is_made_of(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv", manifest=True, limit=8)
    parts = write_parts(tmp_path / "work", plan, (5, 7))
    published = publish_export(tmp_path / "work", plan, parts, 2, "u")
    data = (tmp_path / "out.csv").read_bytes()
    manifest = json.loads((tmp_path / "out.csv.manifest.json").read_text())
    assert published.sha256 == hashlib.sha256(data).hexdigest()
    assert manifest["files"] == [{"name": "out.csv", "bytes": len(data), "sha256": published.sha256}]
    assert (manifest["rows"], manifest["windrow"]) == (8, "1")
    assert [part["rows"] for part in manifest["parts"]] == [5, 3]
    first = len(b"id,name,kind\n")
    assert manifest["parts"][0]["sha256"] == [hashlib.sha256(data[first : first + parts[0].bytes]).hexdigest()]
    assert manifest["columns"][0] == {"name": "id", "type": "int64"}
    assert manifest["sources"] == [{"url": "/data/flights.csv", "member": "", "bytes": 100, "fingerprint": "f00d"}]


def test_the_manifest_of_a_folder_has_its_files_and_a_stale_one_goes(tmp_path: Path) -> None:
    plan = make_plan(f"{tmp_path}/out/", partition=2, manifest=True)
    published = publish_export(tmp_path / "work", plan, write_parts(tmp_path / "work", plan, (5, 7)), 2, "u")
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    found = {
        str(path.relative_to(tmp_path / "out")): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "out").rglob("*") if path.is_file()
    }  # fmt: skip
    assert {one["name"]: one["sha256"] for one in manifest["files"]} == found
    assert published.files == len(found) > 5
    plan = make_plan(f"{tmp_path}/out/", force=True)
    publish_export(tmp_path / "work", plan, write_parts(tmp_path / "work", plan, (5, 7)), 2, "u")
    assert not (tmp_path / "out.manifest.json").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-000000.csv", "part-000001.csv"]


def test_a_disk_without_room_is_told_before_anything_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tmp_path / "out.csv", force=True)
    parts = write_parts(tmp_path / "work", plan, (5, 7))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, disk.SPARE_BYTES + parts[0].bytes))
    assert join_prefix(tmp_path / "work", plan, parts).parts == 0
    with pytest.raises(Retry, match="make room"):
        publish_export(tmp_path / "work", plan, parts, 2, "u")
    assert not (tmp_path / "out.csv").exists()
    # What is joined already needs no room.
    monkeypatch.undo()
    assert join_prefix(tmp_path / "work", plan, parts[:1]).parts == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, disk.SPARE_BYTES + parts[1].bytes))
    publish_export(tmp_path / "work", plan, parts, 2, "u")


def test_a_disk_that_fills_up_while_joining_is_tried_again(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.EDQUOT, "quota")

    for name in ("out.csv", "out.d/"):
        plan = make_plan(f"{tmp_path}/{name}", limit=8, manifest=True, errors=Errors(None))
        parts = write_parts(tmp_path / "work", plan, (5, 7), {0: [Bad(3)]})
        shutil.copytree(tmp_path / "work", tmp_path / "kept")
        seen = 0
        for at in range(1, 1000):
            with hooked(at, full) as operations, contextlib.suppress(OSError):
                try:
                    publish_export(tmp_path / "work", plan, parts, 2, "full")
                except Retry:
                    seen += 1
                    assert not (tmp_path / name).exists()
            if operations.count < at:
                break
            assert publish_export(tmp_path / "work", plan, parts, 2, "again").rows == 8
            shutil.rmtree(tmp_path / name) if name.endswith("/") else (tmp_path / name).unlink()
            shutil.copytree(tmp_path / "kept", tmp_path / "work")
        assert seen > 10
        shutil.rmtree(tmp_path / "kept")
