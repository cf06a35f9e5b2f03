"""De-duplication in three rounds gives what a sequential read gives, however rows are cut, spread and hurried."""

from __future__ import annotations

import datetime
import decimal
import math
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export import dedupe, files, key_files
from windrow.export.dedupe import find_losers, keep_winners, losers_file_name, write_first_round
from windrow.export.kept_rows import read_kept, write_kept
from windrow.export.key_files import key_file_name, write_keys
from windrow.export.row_keys import encode_keys

SMALL = 600
"""A limit of memory that takes many passes, and many batches to a pass, with a few rows."""

DAY = datetime.date(2024, 2, 29)
INSTANT = datetime.datetime(2024, 2, 29, 12, 30, 0, 5)
VALUES: dict[Any, list[Any]] = {
    pa.string(): [None, "", "a", "ab", "b", "a\x00", "\x00", "é", "x" * 7, "x" * 8, "x" * 9, "y" * 300, "y" * 301],
    pa.int64(): [None, 0, 1, -1, 2**63 - 1, -(2**63)],
    pa.int32(): [None, 0, 1, -1, 2**31 - 1],
    pa.float64(): [None, 0.0, -0.0, 1.5, math.nan, -math.nan, math.inf, -math.inf, 5e-324],
    pa.float32(): [None, 0.0, -0.0, 1.5, math.nan, -math.nan],
    pa.bool_(): [None, True, False],
    pa.date32(): [None, DAY, datetime.date(1970, 1, 1), datetime.date(1, 1, 1)],
    pa.timestamp("us"): [None, INSTANT, datetime.datetime(1970, 1, 1)],
    pa.timestamp("us", "UTC"): [None, INSTANT.replace(tzinfo=datetime.UTC)],
    pa.decimal128(10, 2): [None, decimal.Decimal("0.00"), decimal.Decimal("-1.25"), decimal.Decimal("99999999.99")],
}


def alike(value: Any) -> Any:
    """The value as plain Python compares it, in a form in which NaN equals NaN."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def first_rows(columns: Sequence[Sequence[Any]]) -> list[int]:
    """The reference: which rows stay."""
    first: dict[Any, int] = {}
    for row, key in enumerate(zip(*columns, strict=True)):
        first.setdefault(tuple(alike(value) for value in key), row)
    return sorted(first.values())


def deduped(
    work: Path,
    tables: Sequence[list[Any]],
    partitions: int,
    *,
    memory: int = dedupe.MEMORY_BYTES,
    seed: int = 0,
    local: bool = True,
) -> list[int]:
    """The numbers of the rows that stay; each step in an order of its own. `tables` are the segments' key columns."""
    order = random.Random(seed)
    counts = [len(table[0]) for table in tables]
    numbers = [pa.array(range(sum(counts[:at]), sum(counts[: at + 1])), pa.int64()) for at in range(len(tables))]
    segments = list(range(len(tables)))
    order.shuffle(segments)
    names: list[str] = []
    for at in segments:
        if local:
            names.append(write_first_round(work, at, tables[at], [numbers[at]], partitions, f"u{at}").key_file)
        else:
            # The segment's own repeats left to the second round, which must find them just the same.
            write_kept(work, at, [numbers[at]], f"u{at}")
            names.append(write_keys(work, at, encode_keys(tables[at]), partitions, f"u{at}"))
    todo = list(range(partitions))
    order.shuffle(todo)
    losers = [find_losers(work, partition, names, "u", memory) for partition in todo]
    kept = [keep_winners(work, at, losers, read_kept(work, at))[0].to_pylist() for at in range(len(tables))]
    return [row for rows in kept for row in rows]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[Any]], list[Any], list[int]]:
    """(columns, types, sizes of the segments)."""
    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    rows = draw(st.lists(st.tuples(*(st.sampled_from(VALUES[kind]) for kind in types)), min_size=sum(sizes),
                         max_size=sum(sizes)))  # fmt: skip
    return [[row[at] for row in rows] for at in range(len(types))], types, sizes


def cut(columns: list[list[Any]], types: list[Any], sizes: list[int]) -> list[list[Any]]:
    whole = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    # Slices of one array, with offsets, as a reader may hand them on.
    return [[column.slice(start, size) for column in whole] for start, size in zip(starts, sizes, strict=True)]


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 7), st.sampled_from([SMALL, dedupe.MEMORY_BYTES]), st.integers(0, 99), st.booleans())
def test_the_first_of_equal_rows_stays_as_in_a_sequential_read(
    tmp_path_factory: pytest.TempPathFactory, case: Any, partitions: int, memory: int, seed: int, local: bool
) -> None:
    columns, types, sizes = case
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        # Syncing takes most of the time and changes nothing that can be seen here.
        patch.setattr(files.os, "fsync", lambda _handle: None)
        # A small block is read at once, of a large one a part; here all are small.
        patch.setattr(key_files, "_READ_BYTES", seed % 2 * key_files._READ_BYTES)
        stays = deduped(work, cut(columns, types, sizes), partitions, memory=memory, seed=seed, local=local)
    assert stays == first_rows(columns)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_values_of_each_type_are_told_apart_and_found_equal(tmp_path: Path, kind: Any) -> None:
    column = VALUES[kind] + VALUES[kind][::-1]
    tables = cut([column], [kind], [len(VALUES[kind])] * 2)
    assert deduped(tmp_path, tables, 3) == first_rows([column])


def test_minus_zero_is_zero_nan_is_nan_and_null_is_null_and_neither_is_another(tmp_path: Path) -> None:
    tables = [[pa.array([0.0, math.nan, None])], [pa.array([-0.0, -math.nan, None, 1.0])]]
    assert deduped(tmp_path, tables, 2) == [0, 1, 2, 6]


def test_cells_of_several_columns_do_not_run_into_each_other(tmp_path: Path) -> None:
    left = ["a", "ab", "", "abc", None, ""]
    right = ["bc", "c", "abc", "", "", None]
    assert deduped(tmp_path, cut([left, right], [pa.string()] * 2, [2, 4]), 1) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("memory", [SMALL, dedupe.MEMORY_BYTES])
def test_equal_rows_everywhere_leave_the_very_first_one(tmp_path: Path, memory: int) -> None:
    tables = [[pa.array(["same text"] * 50)] for _ in range(40)]
    assert deduped(tmp_path, tables, 5, memory=memory, seed=3) == [0]


@pytest.mark.parametrize("memory", [SMALL, dedupe.MEMORY_BYTES])
def test_different_rows_all_stay(tmp_path: Path, memory: int) -> None:
    tables = [[pa.array([f"{at}-{row}" for row in range(100)])] for at in range(20)]
    assert deduped(tmp_path, tables, 5, memory=memory) == list(range(2000))


def test_keys_with_one_hash_are_compared_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_hash(keys: Any) -> tuple[Any, Any]:
        return pa.array([12345] * len(keys), pa.uint64()), pa.array(range(len(keys)), pa.uint64())

    monkeypatch.setattr("windrow.export.key_files.hash_keys", one_hash)
    tables = [[pa.array(["a", "b", "c"])], [pa.array(["c", "d", "a"])]]
    assert deduped(tmp_path, tables, 4, memory=SMALL) == [0, 1, 2, 4]


def test_what_is_written_depends_on_the_data_alone(tmp_path: Path) -> None:
    column = [f"k{row % 70}" for row in range(400)]
    tables = cut([column], [pa.string()], [100, 0, 250, 50])
    contents: list[dict[str, bytes]] = []
    for at, memory in enumerate((SMALL, 4 * SMALL, dedupe.MEMORY_BYTES)):
        work = tmp_path / str(at)
        work.mkdir()
        deduped(work, tables, 3, memory=memory, seed=at)
        contents.append({path.name: path.read_bytes() for path in work.iterdir()})
    assert contents[0] == contents[1] == contents[2]
    assert set(contents[0]) == {
        *(f"dedupe-keys-{at:08d}.bin" for at in range(4)),
        *(f"dedupe-kept-{at:08d}.arrow" for at in range(4)),
        *(f"dedupe-losers-{at:04d}.bin" for at in range(3)),
    }


def test_each_step_may_run_twice_at_once_and_again(tmp_path: Path) -> None:
    column = [f"k{row % 30}" for row in range(300)]
    tables = cut([column], [pa.string()], [100, 100, 100])
    failed: list[BaseException] = []

    def go(unique: str) -> None:
        try:
            for _ in range(5):
                names = [write_first_round(tmp_path, at, tables[at], tables[at], 2, unique).key_file for at in range(3)]
                losers = [find_losers(tmp_path, at, names, unique) for at in range(2)]
                kept = [keep_winners(tmp_path, at, losers, read_kept(tmp_path, at))[0] for at in range(3)]
                assert [len(rows) for rows in kept] == [30, 0, 0]
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=go, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("step", range(3))
def test_a_full_disk_is_an_oserror_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    keys = [pa.array(["a", "b", "a"])]
    steps = (
        lambda: write_kept(tmp_path, 0, keys, "u"),
        lambda: write_keys(tmp_path, 0, encode_keys(keys), 2, "u"),
        lambda: find_losers(tmp_path, 0, [key_file_name(0)], "u"),
    )
    for earlier in steps[:step]:
        earlier()
    before = set(tmp_path.iterdir())

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        steps[step]()
    assert caught.value.errno == 28
    assert set(tmp_path.iterdir()) == before


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    keys = [pa.array(["a", "b"])]
    names = [write_first_round(tmp_path, at, keys, keys, at + 1, "u").key_file for at in range(2)]
    with pytest.raises(ExportError, match="not of one export"):
        find_losers(tmp_path, 0, names, "u")
    lonely = write_first_round(tmp_path, 7, keys, keys, 1, "u").key_file
    with pytest.raises(ExportError, match="not of one export"):
        # Its number decides how long the file of losers is.
        find_losers(tmp_path, 0, [lonely], "u")
    write_first_round(tmp_path, 0, keys, keys, 2, "u")
    losers = [find_losers(tmp_path, at, names, "u") for at in range(2)]
    with pytest.raises(ExportError, match=r"1 files of losers in .* instead of 2"):
        keep_winners(tmp_path, 0, losers[:1], keys)
    with pytest.raises(ExportError, match="does not know segment 2"):
        keep_winners(tmp_path, 2, losers, keys)
    with pytest.raises(ExportError, match="are of other rows"):
        keep_winners(tmp_path, 1, losers, [pa.array(["a"])])
    with pytest.raises(ExportError, match="0 files of losers"):
        keep_winners(tmp_path, 0, [], keys)


def test_a_file_cut_short_is_refused_with_its_name(tmp_path: Path) -> None:
    keys = [pa.array(["a", "b", "c"])]
    name = write_first_round(tmp_path, 0, keys, keys, 1, "u").key_file
    for path in (tmp_path / name, tmp_path / "dedupe-kept-00000000.arrow"):
        os.truncate(path, path.stat().st_size - 3)
    with pytest.raises(ExportError, match=rf"{name} is cut short"):
        find_losers(tmp_path, 0, [name], "u")
    with pytest.raises(ExportError, match=r"dedupe-kept-00000000\.arrow is damaged"):
        read_kept(tmp_path, 0)
    (tmp_path / losers_file_name(0)).write_bytes(b"no such thing" * 20)
    with pytest.raises(ExportError, match="does not know segment 0"):
        keep_winners(tmp_path, 0, [losers_file_name(0)], keys)


def test_kept_columns_come_back_as_they_were(tmp_path: Path) -> None:
    columns = [pa.array(values * 3, kind).slice(1) for kind, values in VALUES.items() for values in [values[:2]]]
    assert len({len(column) for column in columns}) == 1
    write_kept(tmp_path, 7, columns, "u")
    back = read_kept(tmp_path, 7)
    assert [column.type for column in back] == [column.type for column in columns]
    assert [column.to_pylist() for column in back] == [column.to_pylist() for column in columns]
    assert all(isinstance(column, pa.Array) for column in back)
    write_kept(tmp_path, 8, [pa.array([], pa.string())], "u")
    assert [len(column) for column in read_kept(tmp_path, 8)] == [0]
