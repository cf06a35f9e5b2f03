"""A dry run shows the types that the export gives, or says that they are a guess, and from what."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from windrow.export.previewing import LOOK_BYTES, Preview, make_preview
from windrow.export.run import export
from windrow.export.spec import make_spec

LATE = b"n\n" + b"1\n" * (LOOK_BYTES // 2 - 1000) + b"x\n" * 10
"""A column of whole numbers up to its last rows; about as long as what a dry run reads."""


def look(source: Path, dest: str = "out.parquet", **options: Any) -> Preview:
    return make_preview(make_spec(source, source.parent / dest, **options))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: data.decode().encode("utf-16")])
@pytest.mark.parametrize("tail", [b"", b"y"], ids=["", "no last newline"])
def test_of_a_small_source_it_has_the_types_of_the_export(
    cluster: Any, tmp_path: Path, pack: Callable[[bytes], bytes], tail: bytes
) -> None:
    data = LATE[: 3 << 19] + LATE[-20:] + tail
    (tmp_path / "in.csv").write_bytes(pack(data))
    shown = look(tmp_path / "in.csv")
    export(cluster, tmp_path / "in.csv", tmp_path / "out.parquet").wait()
    assert [kind for _, kind in shown.schema] == [str(kind) for kind in pq.read_schema(tmp_path / "out.parquet").types]
    assert shown.schema == (("n", "string"),)
    assert shown.rows == (("1",),) * 5
    assert shown.notes == ()


@pytest.mark.parametrize(
    ("options", "looks"),
    [({}, "64 places spread over the whole source"), ({"infer": "full"}, "all values")],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_of_a_larger_source_it_says_that_they_are_a_guess_and_from_what(
    tmp_path: Path, pack: Callable[[bytes], bytes], options: dict[str, Any], looks: str
) -> None:
    (tmp_path / "in.csv").write_bytes(pack(LATE * 2))
    shown = look(tmp_path / "in.csv", header=True, **options)
    assert shown.schema == (("n", "string"),)
    assert shown.notes == (f"types are a guess from the first 4.0 MiB of in.csv; the export looks at {looks}",)


def test_of_several_files_it_says_which_one_was_looked_at(tmp_path: Path) -> None:
    (tmp_path / "in-1.csv").write_bytes(b"n\n1\n")
    (tmp_path / "in-2.csv").write_bytes(b"n\nx\n")
    (note,) = look(tmp_path / "in-*.csv").notes
    assert note.startswith("types are a guess from the first 2 bytes of in-1.csv;")


def test_of_json_lines_the_columns_are_a_guess_too(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"n":1}\n' * (LOOK_BYTES // 8 + 1))
    (note,) = look(tmp_path / "in.jsonl").notes
    assert note == "columns and types are a guess from the first 4.0 MiB of in.jsonl; the export looks at all values"


def test_where_nothing_is_guessed_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(LATE * 2)
    assert look(tmp_path / "in.csv", "out.csv").notes == ()
