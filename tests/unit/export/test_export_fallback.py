"""Text whose quotes do not pair gives the rows of a sequential read, however it is packed, and says so in one line."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from windrow.common.errors import ExportError
from windrow.export.dialect import Dialect, State, find_row_end, find_whole_rows, scan_row_ends
from windrow.export.run import ExportSummary, export

NOTE = "its quotes do not pair as RFC 4180 has them, so its rows were found by one sequential scan"


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("in.csv", data)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "zip": zipped,
    "zstd": zstd,
    "utf-16": lambda data: data.decode().encode("utf-16"),
}


def text(quote: str = '""', seed: int = 1, strays: tuple[int, ...] = (60,), rows: int = 400) -> str:
    """Rows with quoted newlines and, in some, a quote in the midst of a field. `quote`: how one inside quotes is
    written."""
    chance = random.Random(seed)
    lines = ["id,note,size,end\n"]
    for number in range(rows):
        note = chance.choice(["", "plain", f'"two\nlines {number}"', f'"a {quote}b{quote}, c"', "größe", '"\n\n"'])
        size = '5" pipe' if number in strays else "x" * chance.randrange(9)
        lines.append(f"{number},{note},{size},é{number}\n")
    return "".join(lines)


def rows_of(text: str, **marks: Any) -> list[list[str]]:
    """As a sequential reader has them."""
    return [row for row in csv.reader(io.StringIO(text, newline=""), **marks) if row]


def run(cluster: Any, folder: Path, data: bytes, dest: str = "out.csv", **options: Any) -> ExportSummary:
    (folder / "in.csv").write_bytes(data)
    return export(cluster, folder / "in.csv", folder / dest, **{"segment_bytes": 700, "header": True, **options}).wait()


@pytest.mark.parametrize("where", ["", "id >= 0"], ids=["as it is", "with types"])
@pytest.mark.parametrize("packed", PACKED)
def test_an_odd_number_of_quotes(cluster: Any, tmp_path: Path, packed: str, where: str) -> None:
    made = run(cluster, tmp_path, PACKED[packed](text().encode()), where=where)
    assert rows_of((tmp_path / "out.csv").read_text()) == rows_of(text())
    assert [note for note in made.notes if NOTE in note] == list(made.notes)
    assert len(made.notes) == 1
    assert made.segments > 5


@pytest.mark.parametrize("packed", PACKED)
def test_an_even_number_of_quotes_behind_which_rows_have_another_width(
    cluster: Any, tmp_path: Path, packed: str
) -> None:
    source = text(strays=(60, 330))
    made = run(cluster, tmp_path, PACKED[packed](source.encode()))
    assert rows_of((tmp_path / "out.csv").read_text()) == rows_of(source)
    assert len([note for note in made.notes if NOTE in note]) == 1


@pytest.mark.parametrize("packed", PACKED)
def test_an_escape_character(cluster: Any, tmp_path: Path, packed: str) -> None:
    source = text('\\"')
    made = run(cluster, tmp_path, PACKED[packed](source.encode()), escape="\\")
    expected = rows_of(source, escapechar="\\", doublequote=False)
    assert rows_of((tmp_path / "out.csv").read_text()) == expected
    assert len([note for note in made.notes if NOTE in note]) == 1


@pytest.mark.parametrize("packed", PACKED)
def test_quotes_that_mean_nothing_need_no_fallback(cluster: Any, tmp_path: Path, packed: str) -> None:
    source = "".join(f'{number},"{"x" * (number % 7)}\n' for number in range(400))
    made = run(cluster, tmp_path, PACKED[packed](b"a,b\n" + source.encode()), quote="none")
    expected = rows_of("a,b\n" + source, quoting=csv.QUOTE_NONE)
    assert rows_of((tmp_path / "out.csv").read_text()) == expected
    assert made.notes == ()


@pytest.mark.parametrize("packed", PACKED)
def test_rows_of_wrong_width_are_bad_rows_with_the_lines_that_they_have(
    cluster: Any, tmp_path: Path, packed: str
) -> None:
    lines = [f"{number},x\n" if number % 5 else f"{number},x,more\n" for number in range(400)]
    lines[201] = '201,5" pipe\n'
    made = run(
        cluster, tmp_path, PACKED[packed](("a,b\n" + "".join(lines)).encode()), max_errors="all", segment_bytes=99
    )
    bad = rows_of((tmp_path / "out.csv.errors.csv").read_text())[1:]
    assert [int(row[1]) for row in bad] == [number + 2 for number in range(0, 400, 5)]
    assert (made.rows, made.bad_rows, len([note for note in made.notes if NOTE in note])) == (320, 80, 1)


@pytest.mark.parametrize("packed", PACKED)
def test_a_quote_that_is_never_closed_is_one_bad_row(cluster: Any, tmp_path: Path, packed: str) -> None:
    source = "a,b\n" + "1,x\n" * 300 + '2,"never closed\n' + "3,y\n" * 300
    with pytest.raises(ExportError, match=r"1 bad row.*line 302 of .*in\.csv: the quote .* is never closed"):
        run(cluster, tmp_path, PACKED[packed](source.encode()))


@pytest.mark.parametrize("packed", ["gzip", "utf-16"])
def test_what_was_found_so_is_taken_up_by_a_second_run(cluster: Any, tmp_path: Path, packed: str) -> None:
    failed = [False]

    def fail(task: str, index: int) -> None:
        if task == "windrow.export:decide" and not failed[0]:
            failed[0] = True
            scan = next(job for job in cluster.jobs.values() if job.task == "windrow.export:scan")
            cluster.run_item(scan, 0)

    cluster.before = fail
    made = run(cluster, tmp_path, PACKED[packed](text().encode()))
    assert failed[0]
    assert rows_of((tmp_path / "out.csv").read_text()) == rows_of(text())
    assert len(made.notes) == 1


# ── The rule itself ──────────────────────────────────────────────────────────────────────────────────────────────


def row_ends(data: bytes, dialect: Dialect) -> Iterator[int]:
    """Every row end that find_whole_rows knows."""
    at = 0
    while (found := find_whole_rows(data, at, dialect))[0] > at:
        stop, regular = found
        while regular and at < stop:
            at = find_row_end(data, at, dialect, State())
            yield at
        if not regular:
            yield stop
        assert at <= stop
        at = stop


@pytest.mark.parametrize(
    "dialect", [Dialect(), Dialect(";", "'"), Dialect(",", '"', "\\"), Dialect(",", None), Dialect(",", None, "\\")]
)
def test_whole_rows_end_where_one_row_after_the_other_ends(dialect: Dialect) -> None:
    chance = random.Random(5)
    marks = [dialect.delimiter, dialect.quote or "q", dialect.quote or "q", dialect.escape or "e", "\n", "\r\n", "a"]
    for _ in range(3_000):
        data = "".join(chance.choices(marks, k=chance.randrange(30))).encode()
        expected = [end for end in scan_row_ends([data], dialect) if data[end - 1 : end] == b"\n"]
        found = list(row_ends(data, dialect))
        # Behind the last whole row the scan makes one row of the rest.
        assert found == expected[: len(found)], data
        assert len(found) >= len(expected) - 1, data
