"""Parquet files joined as bytes: what readers find is the parts' rows, one part after the other."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import io
import itertools
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export import parquet_join
from windrow.export.files import Written
from windrow.export.parquet_join import Joined, ParquetJoiner, Sink
from windrow.export.run import ExportRun, export
from windrow.export.thrift import BINARY, I16, I32, I64, STRUCT, Items, Struct, decode, encode

WORDS = ["", "plain", "größe", "a,b", "two\nlines"]
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("word", pa.string()),
        ("name", pa.string()),
        ("amount", pa.float64()),
        ("price", pa.decimal128(12, 2)),
        ("seen", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()),
        ("ok", pa.bool_()),
        ("raw", pa.binary()),
        ("tags", pa.list_(pa.string())),
        ("place", pa.struct([("x", pa.int32()), ("deep", pa.list_(pa.struct([("y", pa.float32())])))])),
        ("counts", pa.map_(pa.string(), pa.int16())),
    ]
)


def sample(start: int, stop: int) -> pa.Table:
    day = datetime.date(2024, 1, 1)
    noon = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
    rows = [
        {
            "id": at,
            "word": (chance := random.Random(at)).choice([*WORDS, None]),
            "name": f"name {at:06d}",
            "amount": None if at % 7 == 3 else chance.random(),
            "price": decimal.Decimal(at) / 100,
            "seen": noon + datetime.timedelta(seconds=at),
            "day": day + datetime.timedelta(days=at % 400),
            "ok": chance.choice([True, False, None]),
            "raw": chance.randbytes(at % 5),
            "tags": None if at % 5 == 0 else [str(n) for n in range(at % 4)],
            "place": None if at % 6 == 0 else {"x": at, "deep": [{"y": float(n)} for n in range(at % 3)]},
            "counts": [(word, n) for n, word in enumerate(WORDS[: at % 4])],
        }
        for at in range(start, stop)
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def write_parts(folder: Path, tables: Sequence[pa.Table], **options: Any) -> list[Path]:
    paths = [folder / f"part-{at}.parquet" for at in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path, **options)
    return paths


def join_into(target: Sink, parts: Sequence[Path]) -> Joined:
    joiner = ParquetJoiner(target)
    for part in parts:
        joiner.add(part)
    return joiner.finish()


def join(parts: Sequence[Path], dest: Path) -> Joined:
    with open(dest, "wb") as file:
        return join_into(file, parts)


def footer_of(data: bytes) -> Struct:
    assert data[:4] == data[-4:] == b"PAR1"
    size = struct.unpack("<I", data[-8:-4])[0]
    footer, end = decode(data[-8 - size : -8])
    assert end == size
    return footer


def with_footer(data: bytes, footer: Struct) -> bytes:
    """The file with another footer."""
    size = struct.unpack("<I", data[-8:-4])[0]
    encoded = encode(footer)
    return data[: -8 - size] + encoded + struct.pack("<I", len(encoded)) + b"PAR1"


def columns_of(footer: Struct) -> list[list[Struct]]:
    return [group.get_structs(1) for group in footer.get_structs(4)]


def set_field(fields: Struct, number: int, kind: int, value: Any) -> None:
    """Set a field where its number puts it."""
    fields.fields[number] = (kind, value)
    rest = dict(sorted(fields.fields.items()))
    fields.fields.clear()
    fields.fields.update(rest)


def check_layout(path: Path) -> None:
    """Every offset in the file points at what it says, and nothing of the file belongs to nobody."""
    data = path.read_bytes()
    footer = footer_of(data)
    taken = [(0, 4), (len(data) - 8 - len(encode(footer)), len(data))]
    indexes: dict[int, list[int]] = {5: [], 7: []}
    for column in itertools.chain.from_iterable(columns_of(footer)):
        meta = column.get_struct(3)
        start = meta.find_int(11) or meta.get_int(9)
        stop = start + meta.get_int(7)
        taken.append((start, stop))
        pages = list(pages_of(data, start, stop))
        assert [kind for _, _, kind in pages if kind == 2] == [2] * (11 in meta.fields)
        assert min(at for at, _, kind in pages if kind != 2) == meta.get_int(9)
        for offset, length in ((4, 5), (6, 7)):
            if offset in column.fields:
                at, size = column.get_int(offset), column.get_int(length)
                index, end = decode(data[at : at + size])
                assert end == size
                taken.append((at, at + size))
                indexes[length].append(at)
                if offset == 4:
                    located = [(page.get_int(1), page.get_int(2)) for page in index.get_structs(1)]
                    assert located == [(at, size) for at, size, kind in pages if kind != 2]
        if 14 in meta.fields:
            at, size = meta.get_int(14), meta.get_int(15)
            header, end = decode(data, at)
            assert end + header.get_int(1) == at + size
            taken.append((at, at + size))
    for group in footer.get_structs(4):
        starts = [meta.find_int(11) or meta.get_int(9) for meta in (one.get_struct(3) for one in group.get_structs(1))]
        assert group.find_int(5) in (None, min(starts))
    taken.sort()
    assert [before[1] for before in taken[:-1]] == [after[0] for after in taken[1:]]
    # Readers fetch all column indexes in one go, and all offset indexes.
    assert max(indexes[7], default=0) <= min(indexes[5], default=0)


def pages_of(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Offset, size and kind of each page."""
    while start < stop:
        header, end = decode(data, start)
        end += header.get_int(3)
        yield start, end - start, header.get_int(1)
        start = end
    assert start == stop


# ── What readers find ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page_index", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "none", "use_dictionary": False},
        {"compression": "snappy"},
        {"compression": "zstd", "data_page_version": "2.0", "write_page_checksum": True},
        {"compression": "gzip", "use_dictionary": ["word"], "write_statistics": False},
        {"compression": "snappy", "bloom_filter_options": {"name": {"ndv": 100}, "id": {"ndv": 100}}},
        {"compression": "snappy", "store_schema": False, "version": "1.0", "store_decimal_as_integer": True},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values())[:40],
)
def test_the_whole_is_the_parts_one_after_the_other(tmp_path: Path, options: dict[str, Any], page_index: bool) -> None:
    cuts = [0, 100, 101, 101, 350, 400]
    tables = [sample(start, stop) for start, stop in itertools.pairwise(cuts)]
    parts = write_parts(
        tmp_path, tables, row_group_size=60, max_rows_per_page=16, write_page_index=page_index, **options
    )
    joined = join(parts, tmp_path / "whole.parquet")
    whole = pq.ParquetFile(tmp_path / "whole.parquet")
    first = pq.ParquetFile(parts[0])
    assert joined == Joined(400, 2 + 1 + 5 + 1, (tmp_path / "whole.parquet").stat().st_size)
    assert [whole.metadata.row_group(at).num_rows for at in range(joined.groups)] == [60, 40, 1, 60, 60, 60, 60, 9, 50]
    assert whole.schema_arrow.equals(first.schema_arrow, check_metadata=True)
    assert whole.metadata.created_by == first.metadata.created_by
    assert whole.metadata.row_group(8).column(0).has_offset_index is page_index
    expected = pa.concat_tables(pq.read_table(part) for part in parts)
    assert pq.read_table(tmp_path / "whole.parquet", page_checksum_verification=True).equals(expected)
    assert whole.read_row_group(3).equals(expected.slice(101, 60))
    assert from_duckdb(tmp_path / "whole.parquet").equals(from_duckdb(*parts))
    check_layout(tmp_path / "whole.parquet")


def from_duckdb(*paths: Path, where: str = "true") -> Any:
    with duckdb.connect() as connection:
        connection.sql("SET TimeZone = 'UTC'")
        return connection.sql(
            f"SELECT * FROM read_parquet({[str(path) for path in paths]}) WHERE {where} ORDER BY id"
        ).to_arrow_table()


@pytest.mark.parametrize(
    ("where", "filters", "rows"),
    [
        ("id BETWEEN 1190 AND 1210", [("id", ">=", 1190), ("id", "<=", 1210)], 21),
        ("name = 'name 002345'", [("name", "==", "name 002345")], 1),
        ("name IN ('name 000000', 'name 002999', 'x')", [("name", "in", ["name 000000", "name 002999", "x"])], 2),
        ("name = 'name 0023456'", [("name", "==", "name 0023456")], 0),
        ("word = 'größe' AND id >= 2000", [("word", "==", "größe"), ("id", ">=", 2000)], None),
        ("amount IS NULL", None, 429),
    ],
)
def test_filters_over_statistics_page_indexes_and_bloom_filters_find_the_same_rows(
    tmp_path: Path, where: str, filters: Any, rows: int | None
) -> None:
    whole = indexed(tmp_path)
    expected = from_duckdb(*sorted(tmp_path.glob("part-*")), where=where)
    assert rows is None or expected.num_rows == rows
    assert from_duckdb(whole, where=where).equals(expected)
    if filters is not None:
        assert pq.read_table(whole, filters=filters)["id"].to_pylist() == expected["id"].to_pylist()


def test_bloom_filters_of_pyarrow_still_exclude_what_is_not_there(tmp_path: Path) -> None:
    whole = indexed(tmp_path)
    kept = [group for group, excluded in probe(whole, "name", "name 002345") if not excluded]
    assert kept == [2345 // 250]
    assert all(excluded for _, excluded in probe(whole, "name", "name"))


def test_bloom_filters_of_duckdb_are_carried_over_too(tmp_path: Path) -> None:
    parts = [tmp_path / f"part-{at}.parquet" for at in range(3)]
    with duckdb.connect() as connection:
        for at, part in enumerate(parts):
            connection.sql(
                f"""COPY (SELECT range AS id, 'part {at} ' || range % 50 AS word, [range, NULL] AS tags
                FROM range({at * 5000}, {at * 5000 + 5000})) TO '{part}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"""
            )
    assert join(parts, tmp_path / "whole.parquet").groups == 9
    assert [excluded for _, excluded in probe(tmp_path / "whole.parquet", "word", "part 1 7")] == [
        True, True, True, False, False, False, True, True, True,
    ]  # fmt: skip
    assert from_duckdb(tmp_path / "whole.parquet").equals(from_duckdb(*parts))
    expected = pa.concat_tables(pq.read_table(part) for part in parts)
    assert pq.read_table(tmp_path / "whole.parquet").equals(expected)
    check_layout(tmp_path / "whole.parquet")


def indexed(folder: Path) -> Path:
    """Three parts with page indexes and Bloom filters, of 1,000 rows each, joined."""
    parts = write_parts(
        folder, [sample(start, start + 1000) for start in (0, 1000, 2000)],
        row_group_size=250, max_rows_per_page=20, write_page_index=True,
        bloom_filter_options={"name": {"ndv": 1000, "fpp": 0.001}},
    )  # fmt: skip
    join(parts, folder / "whole.parquet")
    return folder / "whole.parquet"


def probe(path: Path, column: str, value: str) -> list[tuple[int, bool]]:
    with duckdb.connect() as connection:
        return connection.sql(
            f"""SELECT row_group_id, bloom_filter_excludes FROM parquet_bloom_probe('{path}', '{column}', '{value}')
            ORDER BY row_group_id"""
        ).fetchall()


def test_a_joined_file_can_be_joined_again(tmp_path: Path) -> None:
    whole = indexed(tmp_path)
    join([whole, whole], tmp_path / "twice.parquet")
    assert pq.read_table(tmp_path / "twice.parquet").equals(pa.concat_tables([pq.read_table(whole)] * 2))
    check_layout(tmp_path / "twice.parquet")
    # A part's Bloom filters lie behind all of its row groups, so that from then on it stays as it is.
    join([whole], tmp_path / "once.parquet")
    join([tmp_path / "once.parquet"], tmp_path / "again.parquet")
    assert (tmp_path / "once.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_two_thousand_columns(tmp_path: Path) -> None:
    tables = [pa.table({f"c{at}": [start + at, None] for at in range(2000)}) for start in range(2)]
    parts = write_parts(tmp_path, tables, write_page_index=True, use_dictionary=False)
    assert join(parts, tmp_path / "whole.parquet").rows == 4
    assert pq.read_table(tmp_path / "whole.parquet").equals(pa.concat_tables(tables))


def test_parts_without_rows_add_nothing(tmp_path: Path) -> None:
    empty = SCHEMA.empty_table()
    parts = write_parts(tmp_path, [empty, sample(0, 5), empty, sample(5, 9), empty], write_page_index=True)
    assert join(parts, tmp_path / "whole.parquet").groups == 2
    assert pq.read_table(tmp_path / "whole.parquet").equals(sample(0, 9))
    assert join([parts[0], parts[2]], tmp_path / "none.parquet").rows == 0
    assert pq.read_table(tmp_path / "none.parquet").equals(empty)
    assert from_duckdb(tmp_path / "none.parquet").num_rows == 0
    # A row group without rows goes as well.
    with pq.ParquetWriter(tmp_path / "group.parquet", SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], SCHEMA))
        writer.write_table(empty)
    assert join([tmp_path / "group.parquet", parts[1]], tmp_path / "two.parquet").groups == 1
    assert pq.read_table(tmp_path / "two.parquet").equals(sample(0, 5))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tables_joined_read_as_their_rows(tmp_path: Path, data: st.DataObject) -> None:
    schema = pa.schema([("n", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.float64()))])
    row = st.fixed_dictionaries(
        {"n": st.none() | st.integers(-(2**63), 2**63 - 1), "s": st.none() | st.text(max_size=6),
         "l": st.none() | st.lists(st.none() | st.floats(allow_nan=False), max_size=3)}
    )  # fmt: skip
    tables = [pa.Table.from_pylist(rows, schema) for rows in data.draw(st.lists(st.lists(row), min_size=1, max_size=4))]
    parts: list[Path] = []
    for at, table in enumerate(tables):
        parts.append(tmp_path / f"part-{at}.parquet")
        pq.write_table(
            table, parts[-1],
            row_group_size=data.draw(st.integers(1, 9)), write_page_index=data.draw(st.booleans()),
            compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
            use_dictionary=data.draw(st.booleans()), max_rows_per_page=data.draw(st.integers(1, 5)),
        )  # fmt: skip
    join(parts, tmp_path / "whole.parquet")
    assert pq.read_table(tmp_path / "whole.parquet").equals(pa.concat_tables(tables))
    check_layout(tmp_path / "whole.parquet")


# ── How it is written ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_parts_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    whole = indexed(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for at, part in enumerate(sorted(tmp_path.glob("part-*"))):
        (other / f"{9 - at}").write_bytes(part.read_bytes())
    with open(tmp_path / "again.parquet", "wb") as file:
        written = Written(file)
        joiner = ParquetJoiner(written)
        for at in (9, 8, 7):
            joiner.add(other / f"{at}")
        joined = joiner.finish()
    data = (tmp_path / "again.parquet").read_bytes()
    assert data == whole.read_bytes()
    assert (written.size, written.sha256) == (joined.bytes, hashlib.sha256(data).hexdigest())


def test_no_more_than_a_block_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_join, "COPY_BYTES", 1000)
    parts = write_parts(tmp_path, [sample(0, 3000)], compression="none", use_dictionary=False)
    sizes: list[int] = []

    class Counting(io.BytesIO):
        def write(self, data: Any, /) -> int:
            sizes.append(len(data))
            return super().write(data)

    target = Counting()
    join_into(target, parts)
    assert len(sizes) > 100
    assert max(sizes[:-3]) == 1000
    target.seek(0)
    assert pq.read_table(target).equals(sample(0, 3000))


def test_chunks_without_a_gap_are_copied_in_one_run(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [sample(0, 50)])
    writes: list[int] = []

    class Counting(io.BytesIO):
        def write(self, data: Any, /) -> int:
            writes.append(len(data))
            return super().write(data)

    join_into(Counting(), parts)
    # The magic, the row group; no page indexes; footer, its length, the magic.
    assert [size > 0 for size in writes] == [True, True, False, False, True, True, True]


# ── What other writers do ────────────────────────────────────────────────────────────────────────────────────────


def test_gaps_chunks_in_any_order_and_old_offsets(tmp_path: Path) -> None:
    """A file as old writers made them: junk between chunks, offsets of metadata copies, fields that we do not know."""
    expected = sample(0, 40)
    pq.write_table(expected, tmp_path / "new.parquet", write_page_index=True, row_group_size=20)
    old = scattered((tmp_path / "new.parquet").read_bytes())
    (tmp_path / "old.parquet").write_bytes(old)
    assert pq.read_table(tmp_path / "old.parquet").equals(expected)
    join([tmp_path / "new.parquet", tmp_path / "old.parquet"], tmp_path / "whole.parquet")
    assert pq.read_table(tmp_path / "whole.parquet").equals(pa.concat_tables([expected] * 2))
    assert from_duckdb(tmp_path / "whole.parquet").num_rows == 80
    check_layout(tmp_path / "whole.parquet")
    whole = columns_of(footer_of((tmp_path / "whole.parquet").read_bytes()))
    assert {column.get_int(2) for column in whole[0]} == {0}
    for at, column in enumerate(whole[2]):
        meta = column.get_struct(3)
        start = meta.find_int(11) or meta.get_int(9)
        # One that points at the chunk moves with it, one that points behind it is taken back.
        assert column.get_int(2) == (start if at % 2 else 0)
        assert 10 not in meta.fields
        assert meta.fields[99] == (BINARY, b"unknown")


def scattered(data: bytes) -> bytes:
    footer = footer_of(data)
    out = bytearray(b"PAR1")
    moves: list[tuple[Struct, int]] = []
    for group in columns_of(footer):
        for at, column in reversed(list(enumerate(group))):
            meta = column.get_struct(3)
            start = meta.find_int(11) or meta.get_int(9)
            stop = start + meta.get_int(7)
            out += b"junk" * at
            shift = len(out) - start
            out += data[start:stop]
            for number in (9, 11):
                if number in meta.fields:
                    meta.set_int(number, meta.get_int(number) + shift)
            column.set_int(2, start + shift if at % 2 else stop + shift)
            set_field(meta, 10, I64, 4)
            set_field(meta, 99, BINARY, b"unknown")
            moves.append((column, shift))
    for column, shift in moves:
        index, _ = decode(data, column.get_int(4))
        for page in index.get_structs(1):
            page.set_int(1, page.get_int(1) + shift)
        encoded = encode(index)
        at, size = column.get_int(6), column.get_int(7)
        column.set_int(4, len(out))
        column.set_int(5, len(encoded))
        column.set_int(6, len(out) + len(encoded))
        out += encoded + data[at : at + size]
    encoded = encode(footer)
    return bytes(out) + encoded + struct.pack("<I", len(encoded)) + b"PAR1"


def test_the_length_of_a_bloom_filter_is_found_where_it_is_not_noted(tmp_path: Path) -> None:
    join([indexed(tmp_path)], tmp_path / "once.parquet")
    data = (tmp_path / "once.parquet").read_bytes()
    footer = footer_of(data)
    for column in itertools.chain.from_iterable(columns_of(footer)):
        column.get_struct(3).drop(15)
    (tmp_path / "old.parquet").write_bytes(with_footer(data, footer))
    join([tmp_path / "old.parquet"], tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "old.parquet").read_bytes()
    assert [excluded for _, excluded in probe(tmp_path / "again.parquet", "name", "name 002345")].count(False) == 1


def test_ordinals_are_counted_anew_and_left_out_where_not_all_can_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, numbered = tmp_path / "plain.parquet", tmp_path / "numbered.parquet"
    pq.write_table(sample(0, 30), plain, row_group_size=10, write_page_index=True)
    footer = footer_of(plain.read_bytes())
    for at, group in enumerate(footer.get_structs(4)):
        group.drop(7)
        set_field(group, 7, I16, at)
    numbered.write_bytes(with_footer(plain.read_bytes(), footer))
    footer = footer_of(plain.read_bytes())
    for group in footer.get_structs(4):
        group.drop(7)
    plain.write_bytes(with_footer(plain.read_bytes(), footer))

    def ordinals(*parts: Path) -> list[int | None]:
        join(parts, tmp_path / "whole.parquet")
        check_layout(tmp_path / "whole.parquet")
        assert pq.read_table(tmp_path / "whole.parquet").num_rows == 30 * len(parts)
        return [
            group.find_int(7) for group in footer_of((tmp_path / "whole.parquet").read_bytes()).get_structs(4)
        ]  # fmt: skip

    assert ordinals(numbered, numbered) == [0, 1, 2, 3, 4, 5]
    assert ordinals(numbered, plain) == ordinals(plain, numbered) == [None] * 6
    # An ordinal has 16 bits.
    assert parquet_join.ORDINAL_MAX == 2**15 - 1
    monkeypatch.setattr(parquet_join, "ORDINAL_MAX", 5)
    assert ordinals(numbered, numbered) == [0, 1, 2, 3, 4, 5]
    assert ordinals(numbered, numbered, numbered) == [None] * 9


# ── What is refused ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (pa.schema([("a", pa.int64()), ("b", pa.int64())]), "different columns"),
        (pa.schema([("a", pa.int64()), ("c", pa.string())]), "different columns"),
        (pa.schema([("b", pa.string()), ("a", pa.int64())]), "different columns"),
        (pa.schema([("a", pa.int64())]), "different columns"),
        (pa.schema([pa.field("a", pa.int64(), nullable=False), ("b", pa.string())]), "different columns"),
    ],
)
@pytest.mark.parametrize("rows", [0, 1])
def test_parts_of_different_columns_are_refused_with_both_names(
    tmp_path: Path, other: pa.Schema, message: str, rows: int
) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    row = {field.name: 1 if field.type == pa.int64() else "x" for field in other}
    parts = write_parts(
        tmp_path, [schema.empty_table(), schema.empty_table(), pa.Table.from_pylist([row] * rows, other)]
    )
    with pytest.raises(ExportError, match=rf"part-2\.parquet and .*part-0\.parquet have {message}"):
        join(parts, tmp_path / "whole.parquet")


def test_parts_whose_statistics_are_ordered_differently_are_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [sample(0, 5), sample(5, 9)])
    footer = footer_of(parts[1].read_bytes())
    footer.drop(7)
    parts[1].write_bytes(with_footer(parts[1].read_bytes(), footer))
    with pytest.raises(ExportError, match=r"part-1\.parquet and .*part-0\.parquet order their statistics differently"):
        join(parts, tmp_path / "whole.parquet")


def test_a_refused_part_leaves_the_whole_as_it_was(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [sample(0, 30), sample(30, 50)])
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(parts[0].read_bytes()[:-1])
    strange = tmp_path / "strange.parquet"
    pq.write_table(pa.table({"n": [1]}), strange)
    target = io.BytesIO()
    joiner = ParquetJoiner(target)
    joiner.add(parts[0])
    for path in (bad, strange):
        with pytest.raises(ExportError, match=path.name):
            joiner.add(path)
    with pytest.raises(FileNotFoundError):
        joiner.add(tmp_path / "none.parquet")
    joiner.add(parts[1])
    joiner.finish()
    join(parts, tmp_path / "whole.parquet")
    assert target.getvalue() == (tmp_path / "whole.parquet").read_bytes()


def test_no_parts_are_refused() -> None:
    with pytest.raises(ExportError, match="no part to join"):
        join_into(io.BytesIO(), [])


def test_a_footer_that_no_reader_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_join, "FOOTER_BYTES_MAX", 10_000)
    (part,) = write_parts(tmp_path, [sample(0, 30)])
    with pytest.raises(ExportError, match=r"9 row groups need a footer of \d+ bytes, which no reader takes"):
        join([part] * 9, tmp_path / "whole.parquet")


def test_a_part_that_is_cut_while_it_is_copied_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_join, "COPY_BYTES", 1 << 14)
    (part,) = write_parts(tmp_path, [sample(0, 3000)], compression="none", use_dictionary=False)

    class Cutting(io.BytesIO):
        def write(self, data: Any, /) -> int:
            with open(part, "r+b") as file:
                file.truncate(1 << 15)
            return super().write(data)

    target: Any = io.BytesIO()
    joiner = ParquetJoiner(target)
    monkeypatch.setattr(joiner, "_target", Cutting())
    with pytest.raises(ExportError, match=r"part-0\.parquet changed while it was joined"):
        joiner.add(part)


def tampered(data: bytes) -> dict[str, bytes]:
    """The file, wrong in one way each."""

    def change(edit: Any) -> bytes:
        footer = footer_of(data)
        edit(footer, footer.get_structs(4)[0], columns_of(footer)[0][0], columns_of(footer)[0][0].get_struct(3))
        return with_footer(data, footer)

    size = struct.unpack("<I", data[-8:-4])[0]
    return {
        "it is no Parquet file, or it was cut off ": b"",
        "it is no Parquet file, or it was cut off  ": b"PAR1PAR1",
        "it is no Parquet file, or it was cut off": data[:-1],
        "it is no Parquet file": b"a,b\n1,2\n3,4\n",
        "it is no Parquet file, or": b"PARX" + data[4:],
        "it is encrypted": data[:-4] + b"PARE",
        "it is encrypted ": change(lambda file, group, column, meta: set_field(file, 8, STRUCT, Struct({}))),
        "it is encrypted  ": change(lambda file, group, column, meta: set_field(file, 9, BINARY, b"key")),
        "it is encrypted   ": change(lambda file, group, column, meta: set_field(column, 8, STRUCT, Struct({}))),
        "it is encrypted    ": change(lambda file, group, column, meta: set_field(column, 9, BINARY, b"x")),
        "its columns are in other files": change(lambda file, group, column, meta: set_field(column, 1, BINARY, b"x")),
        "footer is longer than the file": data[:-8] + struct.pack("<I", len(data)) + b"PAR1",
        "bytes that belong to nothing": data[:-8] + b"\0" + struct.pack("<I", size + 1) + b"PAR1",
        "end too early": data[: -8 - 1] + struct.pack("<I", size - 1) + b"PAR1",
        "field 4 is missing": change(lambda file, group, column, meta: file.drop(4)),
        "field 2 has the wrong type": change(lambda file, group, column, meta: set_field(file, 2, I32, 1)),
        "its row groups have 20 rows": change(lambda file, group, column, meta: file.set_int(3, 21)),
        "a row group has -1 rows": change(lambda file, group, column, meta: group.set_int(3, -1)),
        "and 11 columns": change(lambda file, group, column, meta: group.get_structs(1).pop()),
        "a column chunk lies outside": change(lambda file, group, column, meta: meta.set_int(7, 1 << 40)),
        "a column chunk lies outside ": change(lambda file, group, column, meta: meta.set_int(7, -5)),
        "a column chunk lies outside  ": change(lambda file, group, column, meta: meta.set_int(9, 0)),
        "a page lies outside": change(lambda file, group, column, meta: meta.set_int(9, len(data))),
        "a page index lies outside": change(lambda file, group, column, meta: column.set_int(6, len(data))),
        "a page index lies outside ": change(lambda file, group, column, meta: column.set_int(7, -1)),
        "a Bloom filter lies outside": change(lambda file, group, column, meta: meta.set_int(15, 1 << 30)),
        "a Bloom filter lies outside ": change(lambda file, group, column, meta: meta.set_int(14, -4)),
        "an offset index has bytes that belong": change(
            lambda file, group, column, meta: column.set_int(5, column.get_int(5) + 1)
        ),
        "a page lies outside its column chunk": change(
            lambda file, group, column, meta: column.set_int(4, columns_of(file)[0][1].get_int(4))
            or column.set_int(5, columns_of(file)[0][1].get_int(5))
        ),
        "two column chunks overlap": change(
            lambda file, group, column, meta: meta.set_int(7, meta.get_int(7) + 1)
        ),
    }  # fmt: skip


def test_damaged_and_encrypted_parts_are_refused_in_one_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    pq.write_table(
        sample(0, 20).select(range(11)), good, write_page_index=True, bloom_filter_options={"id": {"ndv": 9}}
    )
    for message, data in tampered(good.read_bytes()).items():
        bad.write_bytes(data)
        with pytest.raises(ExportError, match=rf"bad\.parquet cannot be joined: .*{message.strip()}") as refused:
            join([good, bad], tmp_path / "whole.parquet")
        assert "\n" not in refused.value.message


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_footer_is_joined_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    if not (tmp_path / "good.parquet").exists():
        pq.write_table(
            sample(0, 20), tmp_path / "good.parquet", write_page_index=True, bloom_filter_options={"id": {"ndv": 9}}
        )
    good = (tmp_path / "good.parquet").read_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[-data.draw(st.integers(1, len(good) * 3 // 4))] = data.draw(st.integers(0, 255))
    (tmp_path / "bad.parquet").write_bytes(bad)
    target = io.BytesIO()
    try:
        joined = join_into(target, [tmp_path / "bad.parquet"])
    except ExportError:
        return
    assert joined.bytes == len(target.getvalue())
    footer_of(target.getvalue())


def test_unknown_fields_of_the_first_part_stay(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [sample(0, 5), sample(5, 9)])
    footer = footer_of(parts[0].read_bytes())
    set_field(footer, 77, STRUCT, Struct({1: (9, Items(I64, [1, 2, 3]))}))
    parts[0].write_bytes(with_footer(parts[0].read_bytes(), footer))
    join(parts, tmp_path / "whole.parquet")
    assert footer_of((tmp_path / "whole.parquet").read_bytes()).fields[77] == footer.fields[77]
    assert pq.read_table(tmp_path / "whole.parquet").equals(sample(0, 9))


# ── In an export ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_keeps_the_row_groups_of_its_parts_as_they_are(cluster: Any, tmp_path: Path) -> None:
    parts: list[bytes] = []
    run = export_of_two_parts(cluster, tmp_path, lambda found: parts.extend(part.read_bytes() for part in found))
    summary = run.wait()
    data = (tmp_path / "out.parquet").read_bytes()
    assert (summary.rows, summary.bytes) == (400, len(data))
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == list(range(1000, 1400))
    assert len(parts) == 2
    for part in parts:
        chunk = pq.ParquetFile(io.BytesIO(part)).metadata.row_group(0).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        assert part[start : start + chunk.total_compressed_size] in data
    check_layout(tmp_path / "out.parquet")


@pytest.mark.parametrize("damage", ["magic", "rows"])
def test_a_damaged_part_is_not_published(cluster: Any, tmp_path: Path, damage: str) -> None:
    def spoil(parts: list[Path]) -> None:
        data = parts[1].read_bytes()
        footer = footer_of(data)
        footer.set_int(3, footer.get_int(3) + 1)
        footer.get_structs(4)[0].set_int(3, footer.get_int(3))
        parts[1].write_bytes(data[:-1] + b"x" if damage == "magic" else with_footer(data, footer))

    message = {"magic": r"part-.* cannot be joined: it is no Parquet file", "rows": r"has \d+ rows, \d+ were written"}
    with pytest.raises(ExportError, match=message[damage]):
        export_of_two_parts(cluster, tmp_path, spoil).wait()
    assert not (tmp_path / "out.parquet").exists()


JOIN = "windrow.export:join"


def export_of_two_parts(cluster: Any, folder: Path, before_merge: Callable[[list[Path]], None]) -> ExportRun:
    (folder / "in.csv").write_bytes(b"n\n" + b"".join(b"%d\n" % number for number in range(1000, 1400)))
    run = export(cluster, folder / "in.csv", folder / "out.parquet", segment_bytes=1200)

    def look(task: str, index: int) -> None:
        if task == JOIN:
            before_merge(sorted(Path(run.work).glob("part-*.parquet")))

    cluster.before = look
    return run
