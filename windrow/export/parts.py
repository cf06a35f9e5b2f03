"""Writes a segment's part with a receipt beside it, and finds what an earlier run has written.

A part is whole when its receipt is there and fits its files: the receipt is renamed into place after they are on the
disk, and holds their sums. Two runs on one segment write files of their own names; the last receipt counts, and both
say the same.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute

from windrow.common.codec import to_plain
from windrow.common.errors import ExportError
from windrow.export.bad_places import places_bytes, places_wanted, read_places
from windrow.export.disk import full_disk_is_retried
from windrow.export.encode import encode_head, encode_rows, shown
from windrow.export.files import Written, hash_file, new_file, sync_folder, write_whole
from windrow.export.locations import file_name
from windrow.export.locations import shown as shown_url
from windrow.export.model import Form, Part, Plan, Segment
from windrow.export.records import RecordKind

pc: Any = pyarrow.compute

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
FOLDER_NAME_BYTES_MAX = 255
SIDE_FORM = Form(kind="csv")
SIDE_TEXT_MAX = 10_000
"""Characters of a value, and of a row."""
SIDE_COLUMNS = ("file", "line", "column", "value", "reason", "text")

_ENDINGS = {"gzip": ".gz", "zstd": ".zst"}


class BadRowLike(Protocol):
    """A row that could not be converted."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def text(self) -> str: ...


class ConvertedRows(Protocol):
    """What the steps leave of a segment."""

    @property
    def columns(self) -> Sequence[Any]:
        """In output order and types."""
        ...

    @property
    def rows_in(self) -> int:
        """Rows read, bad ones among them."""
        ...

    @property
    def bad(self) -> Sequence[BadRowLike]:
        """In source order."""
        ...

    @property
    def order(self) -> Any:
        """Number of each row that is left among the segment's rows."""
        ...

    @property
    def bad_ordinals(self) -> Sequence[int]:
        """The same of each bad row."""
        ...


@dataclass(frozen=True, slots=True)
class _Receipt:
    key: str
    part: Part


_RECEIPT = RecordKind(_Receipt)


def file_ending(form: Form) -> str:
    """Of the destination's files."""
    return f".{form.kind}" + ("" if form.kind == "parquet" else _ENDINGS.get(form.compression, ""))


def part_key(plan: Plan, segment: Segment) -> str:
    """Differs where the part would: what the plan says of this segment's source and of the steps."""
    said = (plan.version, plan.windrow, plan.spec, plan.sources[segment.source], segment, plan.read_form,
            plan.read, plan.output, plan.steps, plan.write_form, plan.dest.folder, plan.dest.partition)  # fmt: skip
    text = json.dumps([to_plain(one) for one in said], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_part(
    work: Path, plan: Plan, segment: Segment, converted: ConvertedRows, unique: str, *, earlier: Part | None = None
) -> Part:
    """Write the segment's files, then their receipt. `unique` keeps two runs from meeting in one file.

    `earlier` is the part of a first round that has counted the rows read and written the bad ones down already.
    """
    columns = list(converted.columns)
    if plan.steps.limit is not None and not plan.steps.dedupe:
        columns = [column.slice(0, plan.steps.limit) for column in columns]
    stem = f"part-{segment.number:06d}-{unique}"
    try:
        with full_disk_is_retried(work):
            return _write_part(work, plan, segment, columns, converted, stem, unique, earlier)
    except BaseException:
        # Nothing half stays: on a full disk that is what others wait for.
        for path in list(work.glob(f"part-{segment.number:06d}*{unique}*")):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _write_part(
    work: Path, plan: Plan, segment: Segment, columns: list[Any], converted: ConvertedRows, stem: str, unique: str,
    earlier: Part | None,
) -> Part:  # fmt: skip
    bad_file = earlier.bad_file if earlier else ""
    if converted.bad:
        if bad_file:
            raise ExportError(f"segment {segment.number} has bad rows in both rounds: the first one finds them all")
        bad_file = write_side_part(work, plan, segment, converted.bad, unique)
    bad_ordinals = converted.bad_ordinals
    if earlier is not None and earlier.places:
        bad_ordinals, _ = read_places(work, earlier.places)
    places = write_part_places(work, plan, segment, bad_ordinals, converted.order.slice(0, len(columns[0])), unique)
    files = _write_files(work, plan, stem, columns)
    part = Part(
        segment=segment.number,
        files=tuple(name for name, _, _ in files),
        rows_in=earlier.rows_in if earlier else converted.rows_in,
        rows=len(columns[0]),
        bad_rows=len(converted.bad) + (earlier.bad_rows if earlier else 0),
        bytes=sum(size for _, size, _ in files),
        sha256=tuple(digest for _, _, digest in files),
        bad_file=bad_file,
        places=places,
    )
    receipt = _RECEIPT.encode(_Receipt(part_key(plan, segment), part))
    # Whoever finds a receipt holds it against the files, and makes the part anew where it says nothing.
    write_whole(work / _receipt_name(segment.number), receipt, unique)
    sync_folder(work)
    return part


def skipped_part(segment: int) -> Part:
    """Of a segment behind the cut of a limit; it has no receipt."""
    return Part(segment, (), 0, 0, 0, 0, (), skipped=True)


def find_part(work: Path, plan: Plan, segment: Segment) -> Part | None:
    """What an earlier run has written of this segment, if all of it is there and as it was written."""
    receipt = _RECEIPT.find(work / _receipt_name(segment.number))
    if receipt is None or receipt.key != part_key(plan, segment):
        return None
    part = receipt.part
    if part.segment != segment.number or not part.is_sound:
        return None
    try:
        sums = [hash_file(work / name) for name in part.files]
        for name in filter(None, (part.bad_file, part.places)):
            (work / name).stat()
        if plan.dest.partition is not None and plan.steps.limit is not None and part.files:
            (work / order_name(part)).stat()
    except (OSError, ValueError):
        return None
    as_written = tuple(digest for _, digest in sums) == part.sha256 and sum(size for size, _ in sums) == part.bytes
    return part if as_written else None


def order_name(part: Part) -> str:
    """Which of the part's files each row is in, as 32-bit numbers: a limit that cuts the part needs it."""
    return part.files[0].partition("/")[0] + ".order"


def partition_column(plan: Plan) -> int | None:
    """Which output column makes the folders; ExportError where none can."""
    if plan.dest.partition is None:
        return None
    if not plan.dest.folder:
        raise ExportError(f"{plan.dest.path} is a file: partitions need a folder, end the destination in a slash")
    places = [at for at, column in enumerate(plan.output) if column.index == plan.dest.partition]
    if not places:
        raise ExportError("the partition's column is not in the output: add it to --columns")
    if len(plan.output) == 1:
        raise ExportError("the partition's column is the only one: a file needs another, add one to --columns")
    return places[0]


def folder_name(name: str, value: str | None) -> str:
    """`name=value`, percent-encoded, as Hive and its readers have it."""
    if value is None:
        shown_value = NULL_FOLDER
    elif value == NULL_FOLDER:
        shown_value = value.replace("_", "%5F", 1)
    else:
        shown_value = quote(value, safe="")
    folder = f"{quote(name, safe='')}={shown_value}"
    if len(folder) > FOLDER_NAME_BYTES_MAX:
        raise ExportError(
            f"the value {(value or '')[:40]!r}… of the partition's column {name!r} is too long for the name of a "
            f"folder, which has at most {FOLDER_NAME_BYTES_MAX} bytes: choose another column"
        )
    return folder


def check_partitions(plan: Plan, parts: Iterable[Part]) -> None:
    """ExportError where these parts together have more folders than the export may."""
    if plan.dest.partition is None:
        return
    folders = {name.split("/")[1] for part in parts for name in part.files}
    if len(folders) > plan.dest.partitions_max:
        raise too_many_partitions(plan, len(folders))


def too_many_partitions(plan: Plan, count: int) -> ExportError:
    """Each value would be a folder."""
    name = next(column.name for column in plan.output if column.index == plan.dest.partition)
    return ExportError(
        f"column {name!r} has {count} different values or more, and each would be a folder; --max-partitions allows "
        f"{plan.dest.partitions_max}: choose a column with fewer, or raise it"
    )


def file_names(plan: Plan) -> tuple[list[str], list[str]]:
    """Names and types of the columns in the files, which the partition's column is not in."""
    left_out = partition_column(plan)
    kept = [at for at in range(len(plan.output)) if at != left_out]
    # Both are made anew at each look, which with thousands of columns must not be done for each of them.
    names, types = plan.names, plan.types
    return [names[at] for at in kept], [types[at] for at in kept]


def encode_file(plan: Plan, columns: Sequence[Any]) -> Iterator[bytes | memoryview]:
    """A part's file; in a folder each begins with the head."""
    names, types = file_names(plan)
    head = [encode_head(plan.write_form, names)] if plan.dest.folder else []
    yield from chain((one for one in head if one), encode_rows(plan.write_form, names, types, columns))


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Write a file of a name that nobody else uses; size and SHA-256."""
    with new_file(path) as file:
        written = Written(file)
        for chunk in chunks:
            written.write(chunk)
    return written.size, written.sha256


def _receipt_name(segment: int) -> str:
    return f"part-{segment:06d}.json"


def _source_name(plan: Plan, at: int) -> str:
    """The file's name; its whole path where two have the same name."""
    source = plan.sources[at]
    url = shown_url(source.url)
    name = file_name(source.url)
    if sum(file_name(one.url) == name and not one.member for one in plan.sources) > 1:
        name = url
    return f"{name}:{source.member}" if source.member else name


def write_side_part(work: Path, plan: Plan, segment: Segment, bad: Sequence[BadRowLike], unique: str) -> str:
    """Write the segment's part of the side file; its name, or nothing where there are no bad rows."""
    if not bad:
        return ""
    source = _source_name(plan, segment.source)
    path = f"part-{segment.number:06d}-{unique}.errors.csv"
    columns = [
        pa.array([source] * len(bad), pa.string()),
        pa.array([row.line for row in bad], pa.int64()),
        pa.array([row.column for row in bad], pa.string()),
        pa.array([row.value[:SIDE_TEXT_MAX] for row in bad], pa.string()),
        pa.array([row.reason for row in bad], pa.string()),
        pa.array([row.text[:SIDE_TEXT_MAX] for row in bad], pa.string()),
    ]
    write_new(work / path, encode_rows(SIDE_FORM, SIDE_COLUMNS, (), columns))
    return path


def write_part_places(work: Path, plan: Plan, segment: Segment, bad: Sequence[int], order: Any, unique: str) -> str:
    """Write where the segment's bad rows and the others stand; the file's name, or nothing where nobody will ask."""
    if not places_wanted(plan, any_bad=bool(bad)):
        return ""
    name = f"part-{segment.number:06d}-{unique}.places"
    write_new(work / name, places_bytes(bad, order))
    return name


def _write_files(work: Path, plan: Plan, stem: str, columns: list[Any]) -> list[tuple[str, int, str]]:
    """Name, size and SHA-256 of each; none where there are no rows."""
    if not len(columns[0]):
        return []
    place = partition_column(plan)
    ending = file_ending(plan.write_form)
    if place is None:
        name = stem + ending
        return [(name, *write_new(work / name, encode_file(plan, columns)))]
    return _write_partitions(work, plan, stem, columns, place)


def _write_partitions(work: Path, plan: Plan, stem: str, columns: list[Any], place: int) -> list[tuple[str, int, str]]:
    values = pc.dictionary_encode(shown(columns[place]), null_encoding="encode")
    column = plan.names[place]
    folders = [folder_name(column, value) for value in values.dictionary.to_pylist()]
    if len(folders) > plan.dest.partitions_max:
        raise too_many_partitions(plan, len(folders))
    by_name = sorted(range(len(folders)), key=folders.__getitem__)
    rank_of = {code: rank for rank, code in enumerate(by_name)}
    ranks: Any = pa.array([rank_of[code] for code in range(len(folders))], pa.int32()).take(values.indices)
    rows = pa.array(range(len(ranks)), pa.int64())
    order = pc.sort_indices(
        pa.table({"file": ranks, "row": rows}), sort_keys=[("file", "ascending"), ("row", "ascending")]
    )
    kept = [column.take(order) for at, column in enumerate(columns) if at != place]
    counts = {one["values"]: one["counts"] for one in pc.value_counts(ranks).to_pylist()}
    written: list[tuple[str, int, str]] = []
    start = 0
    (work / stem).mkdir()
    for rank, code in enumerate(by_name):
        folder = work / stem / folders[code]
        folder.mkdir()
        name = f"{stem}/{folders[code]}/rows{file_ending(plan.write_form)}"
        rows_here = [column.slice(start, counts[rank]) for column in kept]
        written.append((name, *write_new(work / name, encode_file(plan, rows_here))))
        sync_folder(folder)
        start += counts[rank]
    sync_folder(work / stem)
    if plan.steps.limit is not None:
        write_new(work / f"{stem}.order", [bytes(ranks.buffers()[1])[: 4 * len(ranks)]])
    return written
