"""Adds up the bad rows of the whole export, and writes the side file that has them all in source order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.common.texts import counted
from windrow.export.bad_places import part_up_to
from windrow.export.beside import is_or_may_be_ours, open_beside, remove_beside, replace_beside
from windrow.export.cutting import find_cut, row_end
from windrow.export.disk import full_disk_is_retried
from windrow.export.encode import encode_head
from windrow.export.files import COPY_BYTES
from windrow.export.locations import shown
from windrow.export.model import Part, Plan
from windrow.export.parts import SIDE_COLUMNS, SIDE_FORM, SIDE_TEXT_MAX

_HEAD = encode_head(SIDE_FORM, SIDE_COLUMNS)
_FIRST_CHARS_MAX = 10 * SIDE_TEXT_MAX
"""A row of the side file has fewer: two long texts, in which quotes are doubled, and some names."""


def side_path(plan: Plan) -> str:
    """Where the bad rows go: beside the destination."""
    return plan.dest.path.rstrip("/") + ".errors.csv"


def needed_parts(work: Path, plan: Plan, parts: Sequence[Part]) -> Sequence[Part]:
    """The parts up to the cut of the limit, the last one as far as it is needed; what lies behind counts for nothing.

    FileNotFoundError where that cannot be told, because the work folder has gone.
    """
    cut = find_cut(plan, parts)
    return parts if cut is None else [*parts[: cut.parts - 1], part_up_to(work, parts[cut.parts - 1], cut.rows)]


def count_published(plan: Plan) -> int:
    """How many bad rows the side file has that an earlier run has published."""
    if not is_or_may_be_ours(side_path(plan), _HEAD):
        return 0
    with open_beside(side_path(plan)) as file:
        if file is None:
            return 0
        with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            return sum(1 for _ in csv.reader(text)) - 1


def check_errors(work: Path, plan: Plan, parts: Sequence[Part], unique: str, *, all_there: bool) -> None:
    """ExportError where there are more bad rows than allowed; the side file is published then, and named.

    `parts` are the first ones without a gap. A share can only be judged when all of them are there, or cut by a limit.
    """
    all_there = all_there or find_cut(plan, parts) is not None
    parts = needed_parts(work, plan, parts)
    beyond = _find_too_many(plan, parts, all_there=all_there)
    if beyond is None:
        return
    publish_side_file(work, plan, beyond, unique)
    bad = sum(part.bad_rows for part in beyond)
    raise ExportError(f"{_told(plan, beyond, bad)}; {_first_of(work, beyond)}; all of them: {shown(side_path(plan))}")


def publish_side_file(work: Path, plan: Plan, parts: Sequence[Part], unique: str) -> None:
    """Let the side file of these parts appear; with no bad rows, let the one of an earlier run go.

    A file of that name that Windrow has not written is replaced only with --force.
    """
    place = side_path(plan)
    bad = any(part.bad_file for part in parts)
    if not is_or_may_be_ours(place, _HEAD):
        if not bad:
            return
        if not plan.dest.force:
            raise _in_the_way(plan, "go")
    if not bad:
        remove_beside(place)
        return
    with full_disk_is_retried(work):
        replace_beside(place, _side_bytes(work, parts), work / f"errors-{unique}.tmp")


def check_side_path(plan: Plan) -> None:
    """ExportError where the bad rows could not be written."""
    if not plan.dest.force and not is_or_may_be_ours(side_path(plan), _HEAD):
        raise _in_the_way(plan, "would go")


def _in_the_way(plan: Plan, go: str) -> ExportError:
    place = shown(side_path(plan))
    return ExportError(f"{place} is where bad rows {go}, and exists: move it away, or --force to replace it")


def _find_too_many(plan: Plan, parts: Sequence[Part], *, all_there: bool) -> Sequence[Part] | None:
    """The parts up to the one with which there are too many, so that every run says the same."""
    if plan.errors.percent is not None:
        if not all_there:
            return None
        bad, rows = sum(part.bad_rows for part in parts), sum(part.rows_in for part in parts)
        return parts if bad * 100 > plan.errors.percent * rows else None
    if plan.errors.rows is None:
        return None
    bad = 0
    for at, part in enumerate(parts):
        bad += part.bad_rows
        if bad > plan.errors.rows:
            return parts[: at + 1]
    return None


def _told(plan: Plan, parts: Sequence[Part], bad: int) -> str:
    rows = counted(bad, "bad row", "bad rows")
    if plan.errors.percent is not None:
        read = sum(part.rows_in for part in parts)
        return f"{rows} of {read}, and --max-errors allows {plan.errors.percent:g}%"
    allowed = plan.errors.rows or 0
    return f"{rows} so far, and --max-errors allows {allowed}" if allowed else f"{rows}, and none are allowed"


def _first_of(work: Path, parts: Sequence[Part]) -> str:
    path = work / next(part.bad_file for part in parts if part.bad_file)
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        text = io.StringIO(file.read(_FIRST_CHARS_MAX), newline="")
    try:
        source, line, column, value, reason, _ = next(csv.reader(text))
    except (csv.Error, StopIteration, ValueError):
        return f"the first is in {path}, which cannot be read"
    at = f"column {_short(column, 200)!r} has {_short(value, 60)!r}: " if column else ""
    return f"the first is line {_short(line, 20)} of {_short(source, 1000)}: {at}{_short(reason, 500)}"


def _short(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[:chars] + "…"


def _side_bytes(work: Path, parts: Sequence[Part]) -> Iterator[bytes]:
    yield _HEAD
    for part in parts:
        if part.places and part is parts[-1] and part.bad_file:
            # A limit may have cut it.
            text = (work / part.bad_file).read_bytes().decode()
            yield text[: row_end(SIDE_FORM, text, part.bad_rows)].encode()
        elif part.bad_file:
            with open(work / part.bad_file, "rb") as file:
                while data := file.read(COPY_BYTES):
                    yield data
