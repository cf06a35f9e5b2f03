"""A limit: its rows, the bad rows before the last of them and no others, however the work is cut."""

from __future__ import annotations

import csv
import gzip
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError
from windrow.export import planner
from windrow.export.run import ExportRun, ExportSummary, export

ROWS = 300


def is_bad(number: int) -> bool:
    return number % 7 == 5 or 120 <= number < 140


def is_kept(number: int) -> bool:
    return not is_bad(number) and number % 3 > 0


def text() -> str:
    """Bad are rows of wrong width and values that do not fit, in turns."""
    lines = [f"{n},x{n // 2}" if not is_bad(n) else f"{n}" if n % 2 else f"no{n},x" for n in range(ROWS)]
    return "n,t\n" + "\n".join(lines) + "\n"


def expected(limit: int) -> tuple[list[int], list[int]]:
    """The rows, and the lines of the bad rows before the last of them."""
    kept: list[int] = []
    bad: list[int] = []
    for number in range(ROWS):
        if len(kept) == limit:
            break
        if is_bad(number):
            bad.append(number + 2)
        elif is_kept(number):
            kept.append(number)
    return kept, bad


def go(cluster: Any, folder: Path, limit: int, dest: str = "out.csv", **options: Any) -> ExportSummary:
    (folder / "in.csv").write_text(text())
    given = {"cast": "n:int64", "where": "n % 3 > 0", "max_errors": "all", "force": True, "segment_bytes": 200}
    return export(cluster, folder / "in.csv", folder / dest, limit=limit, **{**given, **options}).wait()


def side_lines(folder: Path, dest: str = "out.csv") -> list[int]:
    path = folder / f"{dest}.errors.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [int(row["line"]) for row in csv.DictReader(file)]


LIMITS = [0, 1, 2, 3, 17, 60, 61, 77, 78, 79, 99, 1000]


@pytest.mark.parametrize("options", [{}, {"dedupe_by": "n"}], ids=["plain", "dedupe"])
def test_bad_rows_behind_the_last_row_neither_count_nor_are_written(
    cluster: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    chance = random.Random(3)
    for limit in LIMITS:
        kept, bad = expected(limit)
        for size in (1 << 20, chance.randrange(50, 900)):
            cluster.seed += 1
            made = go(cluster, tmp_path, limit, segment_bytes=size, **options)
            assert (made.rows, made.bad_rows, side_lines(tmp_path)) == (len(kept), len(bad), bad), (limit, size)
            found = [int(row.split(",")[0]) for row in (tmp_path / "out.csv").read_text().splitlines()[1:]]
            assert found == kept
            assert bool(made.side_file) is bool(bad)


def test_characters_that_the_destination_has_not_are_bad_rows_of_the_same_kind(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n→\n2\n→\n3\n")
    for limit, count in ((1, 0), (2, 1), (3, 2), (4, 2)):
        made = export(
            cluster, tmp_path / "in.csv", tmp_path / "out.csv", to_encoding="latin-1", limit=limit,
            max_errors="all", force=True,
        ).wait()  # fmt: skip
        assert (made.rows, made.bad_rows) == (min(limit, 3), count)


@pytest.mark.parametrize("size", [1 << 20, 200])
def test_the_allowed_number_is_that_of_the_bad_rows_before_the_last_row(
    cluster: Any, tmp_path: Path, size: int
) -> None:
    kept, bad = expected(77)
    assert go(cluster, tmp_path, 77, segment_bytes=size, max_errors=len(bad)).rows == len(kept)
    with pytest.raises(ExportError, match=rf"^{len(bad)} bad rows"):
        go(cluster, tmp_path, 77, segment_bytes=size, max_errors=len(bad) - 1)


@pytest.mark.parametrize("size", [1 << 20, 200])
def test_a_share_is_one_of_the_rows_up_to_the_last_row(cluster: Any, tmp_path: Path, size: int) -> None:
    kept, bad = expected(77)
    share = 100 * len(bad) / (kept[-1] + 1)
    assert go(cluster, tmp_path, 77, segment_bytes=size, max_errors=f"{share + 0.1:.2f}%").rows == 77
    with pytest.raises(ExportError, match=rf"^{len(bad)} bad rows of {kept[-1] + 1},"):
        go(cluster, tmp_path, 77, segment_bytes=size, max_errors=f"{share - 0.1:.2f}%")


def test_a_merge_that_runs_again_when_all_is_gone_says_the_same(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(text())
    run = export(
        cluster, tmp_path / "in.csv", tmp_path / "out.csv",
        cast="n:int64", where="n % 3 > 0", max_errors="all", segment_bytes=200, limit=77,
    )  # fmt: skip
    first = run.wait()
    assert first.bad_rows == len(expected(77)[1])
    cluster.run_item(cluster.job(run.merge.id), 0)
    assert run.wait() == first


# ── What lies behind the cut ─────────────────────────────────────────────────────────────────────────────────────


def look_when(cluster: Any, run: ExportRun, stage: str, enough: int) -> None:
    """Let the joining job have its next look as soon as so many items of the stage are done."""
    watched, joining = cluster.job(run.job(stage).id), cluster.job(run.job("join").id)

    def look(task: str, index: int) -> None:
        if set(range(enough)) <= watched.values.keys() and joining.open:
            cluster.run_item(joining, len(joining.items) - 1)

    cluster.before = look


@pytest.mark.parametrize("dest", ["out.csv", "out.parquet", "out/"])
@pytest.mark.parametrize("dedupe", [False, True])
def test_segments_behind_the_cut_are_cancelled_and_the_export_is_done(
    cluster: Any, tmp_path: Path, dest: str, dedupe: bool
) -> None:
    (tmp_path / "in.csv").write_text("n\n" + "".join(f"{at}\n" for at in range(4_000)))
    options: dict[str, Any] = {"dedupe_by": "n"} if dedupe else {}
    run = export(
        cluster, tmp_path / "in.csv", f"{tmp_path}/{dest}",
        to="parquet" if dest == "out.parquet" else "csv", segment_bytes=500, limit=300, **options,
    )  # fmt: skip
    stage = "finish" if dedupe else "convert"
    look_when(cluster, run, stage, 3)
    summary = run.wait()
    assert (summary.rows, summary.segments, summary.bad_rows) == (300, 3, 0)
    status = run.job(stage).status()
    assert (status.state, status.failed, run.status().state) == ("cancelled", 0, "done")
    assert "the limit is reached" in status.reason
    assert 3 <= status.done < status.total == status.done + status.cancelled
    for _ in range(20):
        progress = run.progress()
    assert (progress.phase, progress.rows) == ("done", 300)
    assert progress.segments_done == progress.segments_total
    # Whoever runs again finds the same.
    cluster.run_item(cluster.job(run.merge.id), 0)
    assert run.wait() == summary


def test_unpacking_stops_at_the_cut(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress("".join(f"{at},x\n" for at in range(4_000)).encode()))
    run = export(
        cluster, tmp_path / "in.csv.gz", tmp_path / "out.csv", header=False, segment_bytes=500, limit=100
    )  # fmt: skip
    seen: list[int] = []
    unpacked: list[str] = []
    append, prepare = planner.append, planner.prepare

    def watch(client: Any, job: Any, items: Any, first: int = 0, **more: Any) -> int:
        # As other nodes would: what is unpacked is converted, and looked at, while the rest is unpacked.
        total = append(client, job, items, first, **more)
        seen.append(total)
        converting = cluster.job(run.convert.id)
        assert converting.id == job
        cluster.run_item(converting, total - 1)
        if total == 3:
            joining = cluster.job(run.job("join").id)
            cluster.run_item(joining, len(joining.items) - 1)
        return total

    def unpack(*given: Any) -> Iterator[Any]:
        for piece in prepare(*given):
            unpacked.append(piece.file)
            yield piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "append", watch)
        patch.setattr(planner, "prepare", unpack)
        summary = run.wait()
    assert seen == [1, 2, 3]
    assert len(unpacked) == 4
    assert summary.rows == 100
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 101
    assert run.convert.status().state == "cancelled"


def test_a_limit_that_is_not_reached_ends_when_all_is_converted(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n\n1\n2\n")
    run = export(cluster, tmp_path / "in.csv", tmp_path / "out.csv", limit=3)
    assert run.wait().rows == 2
    assert run.convert.status().state == "done"


@pytest.mark.parametrize("stage", ["scan", "convert"])
def test_a_stage_that_fails_ends_an_export_with_a_limit(cluster: Any, tmp_path: Path, stage: str) -> None:
    (tmp_path / "in.csv").write_text("n\n1\n2\n")
    run = export(cluster, tmp_path / "in.csv", tmp_path / "out.csv", limit=3)

    def spoil(task: str, index: int) -> None:
        if task == f"windrow.export:{stage}":
            for name in ("draft.json", "plan.json"):
                (Path(run.work) / name).unlink(missing_ok=True)

    cluster.before = spoil
    cluster.run()
    assert {run.job(name).status().state for name in ("join", "merge")} <= {"cancelled", "done"}
    assert run.merge.status().state == "cancelled"
    with pytest.raises(ExportError, match="has no plan"):
        run.wait()
