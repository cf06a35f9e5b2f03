"""A node that does not see the source, or the destination's folder, is left out at any stage; others go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError
from windrow.export import tasks
from windrow.export.run import ExportRun, export

DATA = b"n,t\n" + b"".join(b"%d,x%d\n" % (number, number) for number in range(500))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where the source is, and where the destination will be."""
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "in.csv").write_bytes(DATA)
    return tmp_path / "from", tmp_path / "to"


@pytest.fixture
def hide(cluster: Any, tmp_path: Path) -> Callable[..., None]:
    """Lets the first runs of a stage find an empty folder, as a node without the mount does."""

    def blind(folder: Path, stage: str, runs: int = 1) -> None:
        left = [runs]
        aside = tmp_path / "aside"

        def before(task: str, _: int) -> None:
            if aside.exists():
                folder.rmdir()
                os.rename(aside, folder)
            if task == f"windrow.export:{stage}" and left[0]:
                left[0] -= 1
                os.rename(folder, aside)
                folder.mkdir()

        cluster.before = before

    return blind


def begin(cluster: Any, folders: tuple[Path, Path], dest: str = "out.parquet", **options: Any) -> ExportRun:
    return export(cluster, folders[0] / "in.csv", folders[1] / dest, segment_bytes=1000, **options)


@pytest.mark.parametrize("stage", ["plan", "scan", "cut", "infer", "decide", "convert"])
def test_a_node_without_the_source_leaves_each_stage_to_another(
    cluster: Any, folders: tuple[Path, Path], hide: Callable[..., None], stage: str
) -> None:
    cluster.nodes = 2
    hide(folders[0], stage)
    options = {"infer": "full"} if stage == "infer" else {}
    run = begin(cluster, folders, **options)
    assert run.wait().rows == 500
    (said,) = cluster.job(run.job(stage).id).unfit
    assert "no source" in said
    assert str(folders[0] / "in.csv") in said


@pytest.mark.parametrize("stage", ["scan", "cut", "infer", "decide", "convert", "dedupe", "finish", "join", "merge"])
def test_a_node_without_the_destination_leaves_each_stage_to_another(
    cluster: Any, folders: tuple[Path, Path], hide: Callable[..., None], stage: str
) -> None:
    cluster.nodes = 2
    hide(folders[1], stage)
    run = begin(cluster, folders, infer="full", dedupe_by="t")
    assert run.wait().rows == 500
    (said,) = cluster.job(run.job(stage).id).unfit
    assert run.work in said
    assert os.listdir(folders[1]) == ["out.parquet"]


def test_a_node_that_has_the_folder_of_the_destination_and_not_its_parent_leaves_the_plan_to_another(
    cluster: Any, folders: tuple[Path, Path], hide: Callable[..., None]
) -> None:
    cluster.nodes = 2
    (folders[1] / "deep").mkdir()
    hide(folders[1], "plan")
    run = begin(cluster, folders, "deep/out.csv")
    assert run.wait().rows == 500
    assert "deep does not exist" in cluster.job(run.job("plan").id).unfit[0]


@pytest.mark.parametrize("stage", ["plan", "scan", "convert"])
def test_where_no_node_sees_the_source_the_export_is_refused_and_says_what_was_not_seen(
    cluster: Any, folders: tuple[Path, Path], hide: Callable[..., None], stage: str
) -> None:
    cluster.nodes = 3
    hide(folders[0], stage, runs=3)
    run = begin(cluster, folders)
    with pytest.raises(ExportError, match=r"no node is left that can go on with the export: no source .*/in\.csv"):
        run.wait()
    assert len(cluster.job(run.job(stage).id).unfit) == 3
    assert run.merge.status().state == "cancelled"


def test_a_missing_source_and_a_wrong_option_fail_at_the_first_attempt_where_there_is_one_node(
    cluster: Any, folders: tuple[Path, Path]
) -> None:
    with pytest.raises(ExportError, match=r"no source .*/no\.csv: check the path"):
        export(cluster, folders[0] / "no.csv", folders[1] / "out.csv").wait()
    with pytest.raises(ExportError, match=r"no file matches .*/no-\*\.csv: check the pattern"):
        export(cluster, folders[0] / "no-*.csv", folders[1] / "out.csv").wait()


def test_a_wrong_option_is_not_tried_at_another_node(cluster: Any, folders: tuple[Path, Path]) -> None:
    cluster.nodes = 5
    run = begin(cluster, folders, columns="zz")
    with pytest.raises(ExportError, match=r"^--columns names column 'zz'"):
        run.wait()
    plan = cluster.job(run.job("plan").id)
    assert (plan.unfit, len(plan.failed)) == ([], 1)


def test_a_source_that_goes_while_it_is_exported_ends_the_export(cluster: Any, folders: tuple[Path, Path]) -> None:
    cluster.nodes = 2
    run = begin(cluster, folders)

    def remove(task: str, _: int) -> None:
        if task == tasks.CONVERT:
            (folders[0] / "in.csv").unlink(missing_ok=True)

    cluster.before = remove
    with pytest.raises(ExportError, match=r"no node is left .* no source .*/in\.csv"):
        run.wait()
