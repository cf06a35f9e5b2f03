"""Joins the parts in source order and lets the file appear whole; running it again, at any point, changes nothing.

Order: write the whole beside the parts, note it in the receipt, publish, remove the parts, remove the receipt. Who
finds a receipt compares the published file with it; who finds no work folder compares the file with the parts' sums.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.files import Written, copy_into, hash_file, new_file, publish, remove_folder, write_durably
from windrow.export.parquet_join import join_parquet_files
from windrow.export.plan import Part, Plan
from windrow.export.writing import csv_header, parquet_groups

RECEIPT_FILE = "published.json"


@dataclass(frozen=True, slots=True)
class Published:
    """The file as it was published."""

    path: str
    rows: int
    bytes: int
    sha256: str
    segments: int


def publish_parts(plan: Plan, work: Path, parts: Sequence[Part], unique: str) -> Published:
    """Publish the parts, or find that it has been done already."""
    _check_complete(plan, parts)
    dest = Path(plan.dest)
    done = _find_published(plan, work, parts)
    if done is None:
        try:
            done = _join_and_publish(plan, work, parts, unique)
        except FileExistsError:
            # Perhaps a second run of this very task was faster.
            done = _find_published(plan, work, parts)
            if done is None:
                raise ExportError(f"{dest} has appeared meanwhile: give another destination, or --force") from None
        except FileNotFoundError as error:
            done = _find_published(plan, work, parts)
            if done is None:
                raise ExportError(
                    f"{error.filename or work} has gone before it was joined: start the export again"
                ) from None
    _clear(work)
    return done


def _check_complete(plan: Plan, parts: Sequence[Part]) -> None:
    numbers = [part.segment for part in parts]
    if numbers != list(range(plan.segments)):
        raise ExportError(
            f"{len(parts)} of {plan.segments} segments have parts, or not in order: start the export again"
        )


def _join_and_publish(plan: Plan, work: Path, parts: Sequence[Part], unique: str) -> Published:
    for part in parts:
        size = (work / part.part).stat().st_size
        if size != part.bytes:
            raise ExportError(f"{work / part.part} has {size} bytes, {part.bytes} were written: start the export again")
    whole = work / f"whole-{unique}.tmp"
    rows = sum(part.rows for part in parts)
    if plan.format == "csv":
        size, sha256 = _join_csv(plan, work, parts, whole)
    else:
        size, sha256 = _join_parquet(work, parts, rows, whole)
    done = Published(plan.dest, rows, size, sha256, plan.segments)
    receipt = json.dumps({"rows": rows, "bytes": size, "sha256": sha256}).encode()
    write_durably(work / RECEIPT_FILE, [receipt], unique)
    publish(whole, Path(plan.dest), force=plan.force)
    return done


def _join_csv(plan: Plan, work: Path, parts: Sequence[Part], whole: Path) -> tuple[int, str]:
    with new_file(whole) as file:
        written = Written(file)
        written.write(csv_header(plan.names))
        for part in parts:
            if copy_into(work / part.part, written) != part.bytes:
                raise ExportError(f"{work / part.part} changed while it was joined: start the export again")
    return written.size, written.sha256


def _join_parquet(work: Path, parts: Sequence[Part], rows: int, whole: Path) -> tuple[int, str]:
    with new_file(whole) as file:
        written = Written(file)
        joined = join_parquet_files(written, [work / part.part for part in parts])
        if joined.rows != rows:
            raise ExportError(f"the parts have {joined.rows} rows, {rows} were written: start the export again")
    return written.size, written.sha256


def _find_published(plan: Plan, work: Path, parts: Sequence[Part]) -> Published | None:
    """What an earlier run of this task has published; None where it has not come so far."""
    dest = Path(plan.dest)
    if not dest.is_file():
        return None
    try:
        receipt = json.loads((work / RECEIPT_FILE).read_bytes())
    except FileNotFoundError:
        # Without parts there was a receipt, and it was removed after them: the earlier run came to its end.
        if any(work.glob("part-*")) or not _matches(plan, dest, parts):
            return None
    else:
        if hash_file(dest) != (receipt["bytes"], receipt["sha256"]):
            return None
    size, sha256 = hash_file(dest)
    return Published(plan.dest, sum(part.rows for part in parts), size, sha256, plan.segments)


def _matches(plan: Plan, dest: Path, parts: Sequence[Part]) -> bool:
    """Whether the file is what these parts make, as far as their sums tell."""
    if plan.format != "csv":
        try:
            return parquet_groups(str(dest)) == [part.rows for part in parts if part.rows]
        except (OSError, ValueError):
            return False
    header = csv_header(plan.names)
    if dest.stat().st_size != len(header) + sum(part.bytes for part in parts):
        return False
    with open(dest, "rb") as file:
        if file.read(len(header)) != header:
            return False
        for part in parts:
            if hashlib.sha256(file.read(part.bytes)).hexdigest() != part.sha256:
                return False
    return True


def _clear(work: Path) -> None:
    """Remove the work folder, the receipt after everything that it speaks for."""
    try:
        names = os.listdir(work)
    except FileNotFoundError:
        return
    for name in names:
        if name != RECEIPT_FILE:
            (work / name).unlink(missing_ok=True)
    remove_folder(work)
