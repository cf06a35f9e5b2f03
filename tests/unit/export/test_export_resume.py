"""The same export again after it was cut off: finished parts are taken up where all fits, else it is said why not."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError, NodeUnfit, Retry
from windrow.export import tasks
from windrow.export.run import ExportRun, export
from windrow.export.stages import derived_id
from windrow.export.work import find_work_folders, work_folder

TEXT = "n,t\n" + "".join(f"{at},{'x' * (at % 9)}\n" for at in range(2_000))


def begun(cluster: Any, folder: Path, steps: int = 12, **options: Any) -> ExportRun:
    """An export that was cut off when some segments were converted."""
    run = export(cluster, folder / "in.csv", folder / "out.csv", **({"segment_bytes": 1_000} | options))
    cluster.steps = steps
    cluster.run(True)
    cluster.steps = None
    return run


def parts(run: ExportRun) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in Path(run.work).glob("part-*.csv")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text(TEXT)
    os.utime(path, ns=(10**18, 10**18))
    return path


def lost(cluster: Any) -> None:
    """The cluster that the export ran on is no more."""
    cluster.jobs.clear()


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_finished_parts_are_taken_up(cluster: Any, source: Path, how: str) -> None:
    first = begun(cluster, source.parent)
    kept = parts(first)
    assert len(kept) > 3
    if how == "killed":
        lost(cluster)
    else:
        first.cancel()
    run = export(cluster, source, source.with_name("out.csv"), segment_bytes=1_000, max_errors=7)
    scanned: list[str] = []
    seen: dict[str, int] = {}

    def look(task: str, index: int) -> None:
        scanned.append(task)
        seen.update(parts(run) if task == tasks.MERGE else {})

    cluster.before = look
    summary = run.wait()
    assert summary.notes == (f"going on with export {first.id}: {len(kept)} finished parts are taken up",)
    assert kept.items() <= seen.items()
    assert "windrow.export:scan" not in scanned
    assert source.with_name("out.csv").read_text() == TEXT
    assert find_work_folders(str(source.with_name("out.csv"))) == []


def test_a_packed_source_that_was_unpacked_half_way_goes_on_there(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    run = export(cluster, tmp_path / "in.csv.gz", tmp_path / "out.csv", segment_bytes=1_000)
    cluster.steps = 2
    cluster.run(True)
    cluster.steps = None
    prepared = {path.name for path in Path(run.work).glob("prepared-*.text")}
    assert prepared
    lost(cluster)
    again = export(cluster, tmp_path / "in.csv.gz", tmp_path / "out.csv", segment_bytes=1_000)
    summary = again.wait()
    assert "going on with export" in summary.notes[0]
    assert (tmp_path / "out.csv").read_text() == TEXT


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"where": "n > 1"}, r"--where was given otherwise"),
        ({"trim": True, "limit": 9}, r"--limit, --trim were given otherwise"),
        ({"segment_bytes": 999}, r"the segment size was given otherwise"),
        ({}, r"in\.csv has changed"),
    ],
)
def test_what_differs_is_said_and_it_starts_afresh(
    cluster: Any, source: Path, options: dict[str, Any], what: str
) -> None:
    first = begun(cluster, source.parent)
    lost(cluster)
    if not options:
        source.write_text(TEXT.replace("n,t\n", "m,t\n"))
    summary = export(cluster, source, source.with_name("out.csv"), **({"segment_bytes": 1_000} | options)).wait()
    (note,) = summary.notes
    assert note.startswith(f"starting afresh, export {first.id} left parts that do not fit: ")
    assert re.search(what, note)
    assert not Path(first.work).exists()


def test_another_version_of_windrow_starts_afresh(cluster: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(cluster, source.parent)
    lost(cluster)
    monkeypatch.setattr("windrow.export.planning.windrow_version", lambda: "99")
    summary = export(cluster, source, source.with_name("out.csv"), segment_bytes=1_000).wait()
    assert "Windrow was" in summary.notes[0]
    assert "is 99" in summary.notes[0]


def test_an_export_that_still_runs_is_not_disturbed(cluster: Any, source: Path) -> None:
    first = begun(cluster, source.parent)
    second = export(cluster, source, source.with_name("out.csv"), segment_bytes=1_000)
    cluster.before = lambda task, index: None
    plan = cluster.job(second.job("plan").id)
    cluster.run_item(plan, 0)
    message = plan.failed[0].message
    assert f"export {first.id} to" in message
    assert "still runs" in message
    second.cancel()
    assert first.wait().rows == 2_000


def test_tasks_of_an_export_that_was_taken_over_write_nothing_more(cluster: Any, source: Path) -> None:
    first = begun(cluster, source.parent)
    item = cluster.job(first.convert.id)
    rest = next(index for index in range(item.total) if index not in item.values)
    first.cancel()
    run = begun(cluster, source.parent, steps=1)
    before = sorted(os.listdir(source.parent))
    cluster.run_item(item, rest)
    assert item.failed[rest].type.endswith("NodeUnfit")
    assert sorted(os.listdir(source.parent)) == before
    assert run.wait().rows == 2_000


def test_a_node_that_does_not_see_the_folder_leaves_itself_out(cluster: Any, source: Path, tmp_path: Path) -> None:
    run = begun(cluster, source.parent, steps=8)
    item = {"work": str(tmp_path / "elsewhere"), "export": run.id, "token": "x", "segment": {}}
    with pytest.raises(NodeUnfit, match=r"elsewhere/token cannot be read here: mount the folder"):
        tasks.convert(item)
    with pytest.raises(NodeUnfit, match="cannot be read here"):
        tasks.convert({**item, "work": run.work})


def test_a_full_disk_is_tried_again(cluster: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(cluster, source.parent, steps=8)
    item = cluster.job(run.convert.id)
    rest = next(index for index in range(item.total) if index not in item.values)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("windrow.export.parts.write_new", full)
        cluster.run_item(item, rest)
    assert item.failed.pop(rest).type == f"{Retry.__module__}.{Retry.__qualname__}"
    assert run.wait().rows == 2_000


def test_the_task_run_starts_an_export_and_again_the_same_one(cluster: Any, source: Path) -> None:
    dest = str(source.with_name("o-{date}.csv"))
    item = {"source": str(source), "dest": dest, "where": "n < 10"}
    found = {start(cluster, item, "job1/3") for _ in range(2)}
    assert found == {derived_id("job1/3")}
    (made,) = found
    assert made == start(cluster, item, "job1/3")
    other = start(cluster, {**item, "dest": str(source.with_name("other.csv"))}, "job1/4")
    assert other != made
    for one in (made, other):
        assert cluster.job(one).wait().state == "done"
    # The day on which the fake cluster has made the job.
    assert source.with_name("o-1970-01-01.csv").read_text().count("\n") == 11
    with pytest.raises(ExportError, match="no option 'colour'"):
        start(cluster, {**item, "colour": "red"}, "job1/5")


def start(cluster: Any, item: dict[str, Any], item_id: str) -> str:
    from windrow.export.starting import start_from_task

    return start_from_task(cluster, item, item_id)


def test_the_work_folder_lies_beside_the_destination() -> None:
    assert work_folder("/a/b.csv", "id") == Path("/a/.b.csv.windrow-id")
    assert work_folder("/a/b/", "id") == Path("/a/.b.windrow-id")
