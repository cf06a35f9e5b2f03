"""A limit: its rows, the bad rows before the last of them and no others, however the work is cut."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError
from windrow.export.run import ExportSummary, export

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
