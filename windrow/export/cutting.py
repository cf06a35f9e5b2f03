"""Finds where a limit cuts the parts, writes the one that is cut anew, and tells tasks what nobody needs any more."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet

from windrow.common.codec import Between
from windrow.common.errors import ExportError
from windrow.common.limits import JOB_ITEMS_MAX
from windrow.export.encode import encode_head, encode_text
from windrow.export.files import hash_file, sync_folder
from windrow.export.form import codec_of
from windrow.export.model import Form, Part, Plan
from windrow.export.parts import encode_file, file_names, order_name, write_new
from windrow.export.records import RecordKind

parquet: Any = pyarrow.parquet

CUT_FILE = "cut.json"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a limit is reached: of the last of so many parts only so many rows are needed."""

    parts: int
    rows: int


@dataclass(frozen=True, slots=True)
class Needed:
    """How many segments the limit leaves, from the first one on."""

    segments: Annotated[int, Between(1, JOB_ITEMS_MAX)]


_NEEDED = RecordKind(Needed)


def find_cut(plan: Plan, parts: Sequence[Part]) -> Cut | None:
    """None where the parts, from the first on, do not have as many rows as the limit."""
    left = plan.steps.limit
    if left is None:
        return None
    for at, part in enumerate(parts):
        if part.rows >= left:
            return Cut(at + 1, left)
        left -= part.rows
    return None


def note_cut(work: Path, cut: Cut, unique: str) -> None:
    """Let converting tasks see that no segment behind the cut is needed."""
    if not (work / CUT_FILE).exists():
        _NEEDED.write(work / CUT_FILE, Needed(cut.parts), unique)


def is_cut(work: Path) -> bool:
    """Whether the limit is known to be reached."""
    return (work / CUT_FILE).exists()


def is_behind_cut(work: Path, segment: int) -> bool:
    """Whether nobody needs this segment. False until it is known."""
    needed = _NEEDED.find(work / CUT_FILE)
    return needed is not None and segment >= needed.segments


def cut_part(work: Path, plan: Plan, part: Part, rows: int, unique: str) -> Part:
    """The part with its first rows only, in new files; the part itself where that is all of them."""
    if rows == part.rows:
        return part
    if not rows:
        return replace(part, files=(), rows=0, bytes=0, sha256=())
    wanted = _rows_of_files(work, part, rows)
    files: list[str] = []
    sums: list[tuple[int, str]] = []
    for at, name in enumerate(part.files):
        if not wanted[at]:
            continue
        if hash_file(work / name)[1] != part.sha256[at]:
            raise ExportError(f"{work / name} is not as it was written: start the export again")
        # A partition's file keeps its folder.
        cut = f"cut-{part.segment:06d}" + name[name.find("/") :] if "/" in name else f"cut-{part.segment:06d}"
        passing = work / f"cut-{at:06d}-{unique}.tmp"
        sums.append(write_new(passing, [_first_rows(plan, work / name, wanted[at])]))
        (work / cut).parent.mkdir(parents=True, exist_ok=True)
        _settle(passing, work / cut)
        sync_folder((work / cut).parent)
        files.append(cut)
    return replace(
        part, files=tuple(files), rows=rows, bytes=sum(size for size, _ in sums), sha256=tuple(one for _, one in sums)
    )


def _settle(passing: Path, final: Path) -> None:
    """Give the file its name, or leave the one that another run has put there: it has the same bytes."""
    try:
        os.link(passing, final)
    except FileExistsError:
        pass
    except OSError:
        # No links here. Replacing is as good, but that a second run may find its file to be another one.
        if not final.exists():
            os.replace(passing, final)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(passing)


def _rows_of_files(work: Path, part: Part, rows: int) -> list[int]:
    if len(part.files) == 1:
        return [rows]
    path = work / order_name(part)
    with open(path, "rb") as file:
        order = memoryview(file.read(4 * min(rows, part.rows)))
    counts: Counter[int] = Counter(order.cast("i") if len(order) % 4 == 0 else ())
    wanted = [counts[at] for at in range(len(part.files))]
    if sum(wanted) != rows:
        raise ExportError(f"{path} is not as it was written: start the export again")
    return wanted


def _first_rows(plan: Plan, path: Path, rows: int) -> bytes:
    if plan.write_form.kind == "parquet":
        table = parquet.read_table(path, use_threads=False, partitioning=None).slice(0, rows).combine_chunks()
        return b"".join(encode_file(plan, [_whole(column) for column in table.columns]))
    form = plan.write_form
    text = _unpacked(form, path.read_bytes())
    names, _ = file_names(plan)
    head = encode_head(form, names) if plan.dest.folder else b""
    plain_head = _unpacked(form, head) if head else b""
    body = text[len(plain_head) :].decode(codec_of(form))
    return head + encode_text(form, body[: row_end(form, body, rows)])


def _whole(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _unpacked(form: Form, data: bytes) -> bytes:
    if form.compression == "gzip":
        pieces: list[bytes] = []
        while data:
            member = zlib.decompressobj(31)
            pieces.append(member.decompress(data))
            data = member.unused_data
        return b"".join(pieces)
    if form.compression == "zstd":
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return bytes(stream.read())
    return data


def row_end(form: Form, text: str, rows: int) -> int:
    """Where the row ends, in text that Windrow has written; ExportError where there are fewer rows."""
    special = [re.escape(form.escape) + "."] if form.kind == "csv" and form.escape else []
    quote = re.escape(form.quote) if form.kind == "csv" and form.quote else ""
    plain = f"[^{quote}{re.escape(form.escape)}]*"
    # What is in quotes is taken in one go; a doubled quote ends one piece and begins the next.
    inside = plain + (f"(?:{special[0]}{plain})*" if special else "")
    pattern = "|".join([*special, *([f"{quote}{inside}{quote}"] if quote else []), "(\n)"])
    left = rows
    for found in re.finditer(pattern, text, re.DOTALL):
        if found[1]:
            left -= 1
            if not left:
                return found.end()
    raise ExportError(f"a part has {rows - left} rows, {rows} were written: start the export again")
