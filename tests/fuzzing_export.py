"""The export's readers of bytes that lie in a work folder, or at its destination, for the fuzzers."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from tests.decoder import Decoder
from tests.export_output import Bad, make_plan, write_parts
from windrow.common.codec import to_plain
from windrow.common.errors import ExportError, MalformedMessage
from windrow.common.values import decode_value, encode_value
from windrow.export import converting, cutting, publish, thrift, totals
from windrow.export.bad_places import part_up_to, places_bytes
from windrow.export.cutting import Cut, cut_part, is_behind_cut, note_cut
from windrow.export.dedupe import find_losers, keep_winners, losers_file_name, write_first_round
from windrow.export.encode import encode_head
from windrow.export.joining import join_prefix, join_whole, whole_path
from windrow.export.kept_rows import kept_file_name, read_kept
from windrow.export.key_files import key_file_name
from windrow.export.manifest import check_manifest_path, manifest_bytes, manifest_path
from windrow.export.model import Destination, Errors, Form, OutputColumn, Part, Plan, ReadColumn, Segment, Source, Steps
from windrow.export.parquet_join import ParquetJoiner
from windrow.export.parts import SIDE_COLUMNS, SIDE_FORM, find_part, order_name, part_key
from windrow.export.planning import make_draft
from windrow.export.prepare import find_prepared, prepare
from windrow.export.previewing import Preview, preview_from
from windrow.export.published import is_published
from windrow.export.segmenting import prepared_segments, text_source
from windrow.export.spec import ExportSpec, make_spec, spec_from_dict, spec_to_dict
from windrow.export.work import (
    BEGUN_FILE,
    DRAFT_FILE,
    PLAN_FILE,
    SEGMENTS_FILE,
    TOKEN_FILE,
    Begun,
    Draft,
    Found,
    begin_work,
    find_begun,
    find_difference,
    find_draft,
    find_segments,
    get_plan,
    part_from,
    read_token,
    segment_from,
    write_draft,
    write_segments,
)

_REFUSED = (ExportError,)
_SEGMENT = Segment(0, 0, 0, 10)


@functools.cache
def _kept() -> Path:
    """Where everything lies for as long as the process lives."""
    # In memory where that can be: thousands of files are written.
    memory = Path("/dev/shm")
    _kept_folders.append(tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None))
    return Path(_kept_folders[0].name)


_kept_folders: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _copy_of(like: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(dir=_kept())) / "work"
    if like is None:
        folder.mkdir()
    else:
        shutil.copytree(like, folder)
    return folder


@contextlib.contextmanager
def _folder(files: dict[str, bytes], like: Path | None = None) -> Generator[Path]:
    """A folder with these files, and those of another one; nothing is put on the disk, which would take most of it."""
    folder = _copy_of(like)
    before = {name: (folder / name).read_bytes() for name in files if (folder / name).exists()}
    for file, data in files.items():
        (folder / file).write_bytes(data)
    try:
        with mock.patch("os.fsync"):
            yield folder
    finally:
        for file in files:
            if file in before:
                (folder / file).write_bytes(before[file])
            else:
                (folder / file).unlink(missing_ok=True)


@contextlib.contextmanager
def _new_folder(like: Path | None = None) -> Generator[Path]:
    """For making examples: nobody else's."""
    with tempfile.TemporaryDirectory() as name:
        if like is not None:
            shutil.copytree(like, name, dirs_exist_ok=True)
        yield Path(name)


# ── Records: JSON in the work folder ─────────────────────────────────────────────────────────────────────────────


def _plan() -> Plan:
    return Plan(
        "0.1.0", (Source("/a.csv", 9, "1", "f"),), Form("csv"), ("a",), (ReadColumn(0, "a", "int64"),),
        (OutputColumn(0, "b", "int64"),), Steps(where="a > 1", where_columns=(0,)), Form("csv"), Destination("/b.csv"),
        Errors(), 9,
    )  # fmt: skip


def _read_plan(data: bytes) -> None:
    with _folder({PLAN_FILE: data}) as work:
        whole_path(work, get_plan(work))


@functools.cache
def _draft() -> Draft:
    spec = ExportSpec("/a.csv", "/b.csv", ("a:b",), "a > 1", ("a:int64",))
    return Draft(_plan(), spec, (), (0,), (), 0)


def _read_draft(data: bytes) -> None:
    with _folder({DRAFT_FILE: data}) as work:
        draft = find_draft(work)
        if draft is not None:
            find_difference(draft, _draft())
            find_difference(_draft(), draft)


def _read_notes(data: bytes) -> None:
    with _folder(dict.fromkeys((BEGUN_FILE, SEGMENTS_FILE, TOKEN_FILE, cutting.CUT_FILE), data)) as work:
        find_begun(work)
        find_segments(work)
        is_behind_cut(work, 3)
        assert len(read_token(work)) <= 100


def _note_examples() -> tuple[bytes, ...]:
    with _new_folder() as work:
        begin_work(work, Begun("e" * 16, planned=True, resumed=3, notes=("note",)), "u")
        write_segments(work, Found((_SEGMENT, Segment(1, 0, 10, 20, 3, "prepared"))), "u")
        note_cut(work, Cut(2, 7), "u")
        return tuple((work / name).read_bytes() for name in (BEGUN_FILE, SEGMENTS_FILE, cutting.CUT_FILE))


def _draft_example() -> bytes:
    with _new_folder() as work:
        write_draft(work, _draft(), "u")
        return (work / DRAFT_FILE).read_bytes()


@dataclass(frozen=True)
class _Export:
    """An export of three segments with its parts, as text in one file."""

    work: Path
    plan: Plan
    parts: list[Part]
    whole: bytes


def _export(kind: str = "csv", partition: int | None = None) -> _Export:
    return _make_export(kind, partition)


@functools.cache
def _make_export(kind: str, partition: int | None) -> _Export:
    home = _kept() / f"{kind}-{partition}"
    home.mkdir()
    dest = str(home / "out") + ("/" if partition is not None else "")
    plan = make_plan(dest, kind, limit=40, partition=partition)
    parts = write_parts(home / "work", plan, [5, 9, 6], {1: [Bad(12)]})
    whole = b""
    if partition is None:
        with _new_folder(home / "work") as work:
            whole = join_whole(work, plan, parts).read_bytes()
    return _Export(home / "work", plan, parts, whole)


def _read_receipt(data: bytes) -> None:
    made = _export()
    first = converting._first_name(_SEGMENT)
    with _folder({"part-000000.json": data, first: data}, like=made.work) as work:
        for part in (find_part(work, made.plan, _SEGMENT), converting._find_first(work, made.plan, _SEGMENT)):
            if part is not None:
                json.dumps(to_plain(part)).encode()
                assert all((work / name).exists() for name in part.files)


def _first_example() -> bytes:
    made = _export()
    return converting._FIRST.encode(converting._First(part_key(made.plan, _SEGMENT), made.parts[0]))


def _read_journal(data: bytes) -> None:
    made = _export()
    whole = whole_path(Path(), made.plan)
    with _folder({str(whole): b"", str(whole.with_suffix(".json")): data}, like=made.work) as work:
        join_prefix(work, made.plan, made.parts)
        assert whole_path(work, made.plan).read_bytes() == made.whole


def _journal_example() -> bytes:
    made = _export()
    with _new_folder(made.work) as work:
        join_prefix(work, made.plan, made.parts)
        return whole_path(work, made.plan).with_suffix(".json").read_bytes()


def _read_published(data: bytes) -> None:
    with _folder({publish.RECEIPT_FILE: data}) as work:
        publish._RECEIPT.find(work / publish.RECEIPT_FILE)


@functools.cache
def _prepared() -> tuple[Draft, Path]:
    """A packed source whose quotes do not pair, so that its rows were found by a scan."""
    home = _kept() / "prepared"
    home.mkdir()
    source = home / "in.csv.gz"
    source.write_bytes(gzip.compress(b"a,b\n" + b'5" pipe,1\n"x\ny",2\nz,3\n' * 21))
    draft, _ = make_draft(make_spec(source, home / "out.csv", segment_bytes=100))
    work = home / "work"
    work.mkdir()
    list(prepare(text_source(draft, draft.plan.sources[0]), work, "u"))
    _, note = prepared_segments(draft, 0, work, 0)
    assert "do not pair" in note
    return draft, work


def _note_of(pattern: str) -> Path:
    return min(_prepared()[1].glob(pattern))


def _read_prepared(data: bytes) -> None:
    draft, made = _prepared()
    with _folder({_note_of("prepared-*.json").name: data}, like=made) as work:
        for piece in find_prepared(text_source(draft, draft.plan.sources[0]), work):
            assert (work / piece.file).stat().st_size == piece.bytes


def _read_places(data: bytes) -> None:
    made = _export()
    with _folder({"some.places": data}) as work:
        part_up_to(work, replace(made.parts[0], places="some.places"), 2)


# ── Other files of the work folder ───────────────────────────────────────────────────────────────────────────────


def _keys() -> list[Any]:
    return [pa.array(["a", "b", None, "a", "größe"])]


@functools.cache
def _deduped() -> Path:
    work = _kept() / "deduped"
    work.mkdir()
    for segment in range(2):
        write_first_round(work, segment, _keys(), _keys(), 1, "u")
    find_losers(work, 0, [key_file_name(0), key_file_name(1)], "u")
    return work


def _read_key_file(data: bytes) -> None:
    with _folder({key_file_name(1): data}, like=_deduped()) as work:
        find_losers(work, 0, [key_file_name(0), key_file_name(1)], "v")


def _read_losers(data: bytes) -> None:
    with _folder({losers_file_name(0): data}) as work:
        keep_winners(work, 1, [losers_file_name(0)], _keys())


def _read_kept(data: bytes) -> None:
    with _folder({kept_file_name(0): data}) as work:
        for column in read_kept(work, 0):
            column.to_pylist()


def _read_order(data: bytes) -> None:
    made = _export(partition=2)
    part = made.parts[1]
    with _folder({order_name(part): data}, like=made.work) as work:
        assert sum(cutting._rows_of_files(work, part, 4)) == 4


def _read_cut_part(data: bytes) -> None:
    for kind in ("csv", "parquet"):
        made = _export(kind)
        part = made.parts[1]
        with _folder({part.files[0]: data}, like=made.work) as work, contextlib.suppress(ExportError):
            assert cut_part(work, made.plan, part, 4, "u").rows == 4


def _part_files(partition: int | None = None) -> tuple[bytes, ...]:
    if partition is not None:
        made = _export(partition=partition)
        return ((made.work / order_name(made.parts[1])).read_bytes(),)
    return tuple((_export(kind).work / _export(kind).parts[1].files[0]).read_bytes() for kind in ("csv", "parquet"))


def _read_side_part(data: bytes) -> None:
    made = _export()
    with _folder({made.parts[1].bad_file: data}, like=made.work) as work:
        assert len(totals._first_of(work, made.parts)) < 4_000


# ── At the destination ───────────────────────────────────────────────────────────────────────────────────────────


def _read_manifest(data: bytes) -> None:
    plan = make_plan(_copy_of(None) / "out", manifest=True)
    with _folder({Path(manifest_path(plan)).name: data}):
        check_manifest_path(plan)


def _read_side_file(data: bytes) -> None:
    plan = make_plan(_copy_of(None) / "out")
    with _folder({Path(totals.side_path(plan)).name: data}):
        totals.check_side_path(plan)


def _manifest_example() -> bytes:
    made = _export()
    return manifest_bytes(made.plan, made.parts, [("out", 9, "f")])


def _read_destination(data: bytes) -> None:
    for kind in ("csv", "parquet"):
        with _folder({"out": data}) as folder:
            is_published(make_plan(folder / "out", kind), _export(kind).parts)


# ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _parquet_file() -> bytes:
    file = BytesIO()
    table = pa.table({"number": list(range(20)), "text": [str(at) for at in range(20)]})
    pq.write_table(table, file, row_group_size=7, write_page_index=True, bloom_filter_options={"number": {"ndv": 9}})
    return file.getvalue()


def _join(parts: Sequence[bytes]) -> bytes:
    with _folder({f"{at}.parquet": data for at, data in enumerate(parts)}) as folder:
        target = BytesIO()
        joiner = ParquetJoiner(target)
        for at in range(len(parts)):
            joiner.add(folder / f"{at}.parquet")
        assert joiner.finish().bytes == len(target.getvalue())
        return target.getvalue()


def _read_parquet(data: bytes) -> None:
    whole = _join([data])
    # What is named once is written once.
    assert len(whole) <= 3 * len(data) + 1_000


def _footer_bytes(file: bytes) -> bytes:
    return file[-8 - struct.unpack("<I", file[-8:-4])[0] : -8]


def _read_footer(footer: bytes) -> None:
    """The bytes in the place of a right footer: the columns are there."""
    file = _parquet_file()
    columns = file[: -8 - len(_footer_bytes(file))]
    part = columns + footer + struct.pack("<I", len(footer)) + b"PAR1"
    whole = _join([part])
    # What was joined can be joined again, and comes to the same.
    assert _join([whole]) == whole
    with contextlib.suppress(ExportError):
        _join([file, part])


def _read_thrift(data: bytes) -> None:
    value, end = thrift.decode(data)
    again = thrift.encode(value)
    assert thrift.encode(thrift.decode(again)[0]) == again
    assert len(again) <= end


def _preview_example() -> Preview:
    return Preview("a", (("a", "int64"),), (("1",),), 1, 2, 3, 0.5, ("note",))


@functools.cache
def export_decoders() -> dict[str, Decoder]:
    """By name."""
    malformed = (MalformedMessage,)

    def read_value(read: Callable[[Any], object]) -> Callable[[bytes], object]:
        return lambda data: read(decode_value(data))

    spec = encode_value(spec_to_dict(ExportSpec("/a.csv", "/b.csv", ("a:b",), "a > 1", ("a:int64",))))
    receipt = (_export().work / "part-000000.json").read_bytes()
    published = publish._RECEIPT.encode(publish._Receipt(3, 9, 1, "f"))
    deduped = _deduped()
    side = (_export().work / _export().parts[1].bad_file).read_bytes()
    side_head = encode_head(SIDE_FORM, SIDE_COLUMNS)
    part, segment = encode_value(to_plain(_export().parts[1])), encode_value(to_plain(_SEGMENT))
    footer = _footer_bytes(_parquet_file())
    return {
        "plans": Decoder(_read_plan, _REFUSED, (json.dumps(to_plain(_plan())).encode(),)),
        "drafts": Decoder(_read_draft, (), (_draft_example(),)),
        "notes": Decoder(_read_notes, (), _note_examples()),
        "receipts": Decoder(_read_receipt, (), (receipt, _first_example())),
        "journals": Decoder(_read_journal, (), (_journal_example(),)),
        "publications": Decoder(_read_published, (), (published,)),
        "prepared": Decoder(_read_prepared, (), (_note_of("prepared-*.json").read_bytes(),)),
        "places": Decoder(_read_places, _REFUSED, (b"".join(places_bytes([1], pa.array([0, 2, 3]))),)),
        "key files": Decoder(_read_key_file, _REFUSED, ((deduped / key_file_name(1)).read_bytes(),)),
        "losers": Decoder(_read_losers, _REFUSED, ((deduped / losers_file_name(0)).read_bytes(),)),
        "kept rows": Decoder(_read_kept, _REFUSED, ((deduped / kept_file_name(0)).read_bytes(),)),
        "orders": Decoder(_read_order, _REFUSED, _part_files(partition=2)),
        "cut parts": Decoder(_read_cut_part, (), _part_files()),
        "side parts": Decoder(_read_side_part, (), (side,)),
        "manifests": Decoder(_read_manifest, _REFUSED, (_manifest_example(),)),
        "side files": Decoder(_read_side_file, _REFUSED, (side_head + side,)),
        "destinations": Decoder(_read_destination, (), (_export("parquet").whole, _export().whole)),
        "parquet": Decoder(_read_parquet, _REFUSED, (_parquet_file(),)),
        "footers": Decoder(_read_footer, _REFUSED, (footer,)),
        "thrift": Decoder(_read_thrift, _REFUSED, (footer,)),
        "specs": Decoder(read_value(spec_from_dict), malformed, (spec,)),
        "parts": Decoder(read_value(part_from), (*malformed, ExportError), (part,)),
        "segments": Decoder(read_value(segment_from), malformed, (segment,)),
        "previews": Decoder(read_value(preview_from), malformed, (encode_value(to_plain(_preview_example())),)),
    }
