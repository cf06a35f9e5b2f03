"""The work folder beside the destination: what lies in it, its token, and how it tells whether it can be taken over.

`.NAME.windrow-ID/` belongs to the export ID. An export that takes it over renames it: so one of two that try gets it,
and tasks of the earlier export that still run find no folder and write nothing more.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError, MalformedMessage
from windrow.export.files import write_durably
from windrow.export.locations import file_name, is_url, shown
from windrow.export.looking import Head
from windrow.export.model import PLAN_VERSION, Part, Plan, Segment
from windrow.export.records import RecordKind
from windrow.export.spec import ExportSpec

TOKEN_FILE = "token"
DRAFT_FILE = "draft.json"
PLAN_FILE = "plan.json"
SEGMENTS_FILE = "segments.json"

BEGUN_FILE = "begun.json"

_TOKEN_CHARS_MAX = 100
_ID = re.compile(r"[0-9a-z]{16}")


@dataclass(frozen=True, slots=True)
class KnownType:
    """A column of the source and its type there."""

    index: int
    type: str


@dataclass(frozen=True, slots=True)
class Draft:
    """The plan before rows were found and types decided."""

    plan: Plan
    spec: ExportSpec
    heads: tuple[Head, ...]
    """Of each source; empty for Parquet."""
    guessed: tuple[int, ...]
    """Columns whose types are to be found."""
    known: tuple[KnownType, ...]
    """Types that the source itself gives."""
    partitions: int
    """Of the keys, where rows are de-duplicated."""
    streamed: bool = False
    """Segments are converted while the rest of the one source is unpacked."""


@dataclass(frozen=True, slots=True)
class Found:
    """All segments of an export, and what was noticed when they were found."""

    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()
    samples: tuple[Segment, ...] = ()
    """The beginnings of rows that types are decided from, where cutting has found them on its way; else they are
    looked for in the segments."""


@dataclass(frozen=True, slots=True)
class Begun:
    """How an export began, for runs of the same task that come later."""

    export: str
    planned: bool
    """It took over a plan with all segments, so that nothing is scanned and no type is looked for."""
    resumed: int
    """Finished parts that it took over."""
    notes: tuple[str, ...]


_BEGUN, _DRAFT, _PLAN, _FOUND = RecordKind(Begun), RecordKind(Draft), RecordKind(Plan), RecordKind(Found)
_decode_segment: Callable[[object], Segment] = decoder_for(Segment)
_decode_part: Callable[[object], Part] = decoder_for(Part)


def work_folder(dest: str, export: str, work_dir: str = "") -> Path:
    """Where an export to `dest` keeps its parts: beside it, so that publishing is a rename; of a URL in `work_dir`."""
    folder, prefix = _work_place(dest, work_dir)
    return folder / f"{prefix}{export}"


def find_work_folders(dest: str, work_dir: str = "") -> list[tuple[str, Path]]:
    """(export, folder) of every export to this destination that has one, in the order of their names."""
    folder, prefix = _work_place(dest, work_dir)
    found: list[tuple[str, Path]] = []
    for name in sorted(os.listdir(folder)):
        if name.startswith(prefix) and _ID.fullmatch(name[len(prefix) :]) and (folder / name).is_dir():
            found.append((name[len(prefix) :], folder / name))
    return found


def _work_place(dest: str, work_dir: str) -> tuple[Path, str]:
    """The folder in which the work folder lies, and what the work folder's name begins with."""
    plain = dest.rstrip("/")
    if not is_url(dest):
        return Path(plain).parent, f".{Path(plain).name}.windrow-"
    # Two places may end in the same name.
    key = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return Path(work_dir), f".{file_name(plain)}-{key}.windrow-"


def segment_from(data: object) -> Segment:
    """A segment from an item."""
    return _decode_segment(data)


def plan_from(data: object) -> Plan | None:
    """A plan from a result; None where it is of another version."""
    try:
        return _PLAN.decode(data)
    except MalformedMessage:
        return None


def has_parts(work: str | os.PathLike[str]) -> bool:
    """Whether a later export could take anything up from this folder."""
    folder = Path(work)
    return any(next(folder.glob(f"{kind}-*"), None) is not None for kind in ("part", "first", "prepared"))


def part_from(data: object) -> Part:
    """A converting task's report."""
    try:
        part = _decode_part(data)
    except MalformedMessage as error:
        raise ExportError(f"a part's report cannot be read ({error}): start the export again") from None
    if not part.is_sound:
        raise ExportError(f"the report of segment {part.segment} names files that no part has: start the export again")
    return part


def read_token(work: Path) -> str:
    """What the plan has written for every node to read; empty where it is not there."""
    try:
        with open(work / TOKEN_FILE, encoding="ascii") as file:
            return file.read(_TOKEN_CHARS_MAX)
    except (OSError, ValueError):
        return ""


def not_seen(work: Path) -> str:
    """What a node says that cannot read the token."""
    return f"{work / TOKEN_FILE} cannot be read here: mount the folder {work.parent} on every node"


def write_token(work: Path, unique: str) -> str:
    """The token of the folder, written where there is none."""
    found = read_token(work)
    if not found:
        write_durably(work / TOKEN_FILE, [unique.encode()], unique)
        found = read_token(work)
    return found


def write_draft(work: Path, draft: Draft, unique: str) -> None:
    """Put the draft there; ExportError where another one is there (the plan task ran twice, and the source changed)."""
    found = find_draft(work)
    if found is not None:
        if found != draft:
            raise ExportError(f"{shown(draft.spec.source)} changed while the export was planned: start it again")
        return
    _DRAFT.write(work / DRAFT_FILE, draft, unique)


def write_draft_anew(work: Path, draft: Draft, unique: str) -> None:
    """Put the draft in the place of one that differs only in what changes no part."""
    _DRAFT.write(work / DRAFT_FILE, draft, unique)


def find_draft(work: Path) -> Draft | None:
    """The draft in this folder; None where there is none, or one of another version of Windrow."""
    return _DRAFT.find(work / DRAFT_FILE)


def get_draft(work: Path) -> Draft:
    """The draft; ExportError where there is none."""
    draft = find_draft(work)
    if draft is None:
        raise gone(work)
    return draft


def begin_work(work: Path, begun: Begun, unique: str) -> Begun:
    """Note how the export began, or find how it did."""
    found = find_begun(work)
    if found is None or found.export != begun.export:
        _BEGUN.write(work / BEGUN_FILE, begun, unique)
        return begun
    return found


def find_begun(work: Path) -> Begun | None:
    """How the export, or the one that it took over, began."""
    return _BEGUN.find(work / BEGUN_FILE)


def write_segments(work: Path, found: Found, unique: str) -> None:
    """Put the list of segments there."""
    _FOUND.write(work / SEGMENTS_FILE, found, unique)


def find_segments(work: Path) -> Found | None:
    """The list of segments; None where it is not complete."""
    return _FOUND.find(work / SEGMENTS_FILE)


def write_plan(work: Path, plan: Plan, unique: str) -> None:
    """Put the plan there."""
    _PLAN.write(work / PLAN_FILE, plan, unique)


def find_plan(work: Path) -> Plan | None:
    """The plan in this folder; None where there is none, or one of another version."""
    plan = _PLAN.find(work / PLAN_FILE)
    return plan if plan is not None and plan.version == PLAN_VERSION else None


def get_plan(work: Path) -> Plan:
    """The plan; ExportError where there is none."""
    plan = find_plan(work)
    if plan is None:
        raise gone(work)
    return plan


def gone(work: Path) -> ExportError:
    """The work folder is not what it was."""
    return ExportError(f"{work} has no plan: the export was cancelled, or was taken over by another one")


def find_difference(before: Draft, now: Draft) -> str | None:
    """What keeps `now` from taking over the parts of `before`, in words; None for nothing."""
    if before.plan.version != now.plan.version or before.plan.windrow != now.plan.windrow:
        return f"Windrow was {before.plan.windrow} and is {now.plan.windrow}"
    if before.plan.spec != now.plan.spec:
        was, asked = _options(before.plan.spec), _options(now.plan.spec)
        if was is None or asked is None:
            return "what was asked of it cannot be read"
        names = [_flag(name) for name in sorted(was.keys() | asked.keys()) if was.get(name) != asked.get(name)]
        return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} given otherwise"
    if before.plan.sources != now.plan.sources:
        return _source_difference(before, now)
    return None


def _options(spec: str) -> dict[str, object] | None:
    try:
        options: object = json.loads(spec)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, object], options) if isinstance(options, dict) else None


def _source_difference(before: Draft, now: Draft) -> str:
    was, found = before.plan.sources, now.plan.sources
    if [one.url for one in was] != [one.url for one in found]:
        return f"there were {len(was)} source files and are {len(found)}, or they are called otherwise"
    one = next((after for first, after in zip(was, found, strict=False) if first != after), found[0])
    return f"{file_name(one.url)} has changed (size, modification time, or its head or tail)"


def _flag(name: str) -> str:
    return {"format": "--to", "source": "the source", "segment_bytes": "the segment size"}.get(
        name, f"--{name.replace('_', '-')}"
    )


def segment_item(work: Path, export: str, token: str, segment: Segment) -> dict[str, object]:
    """The item of one segment."""
    return {"work": str(work), "export": export, "token": token, "segment": to_plain(segment)}


def segment_items(work: Path, export: str, token: str, segments: Sequence[Segment]) -> list[dict[str, object]]:
    """The items of these segments."""
    return [segment_item(work, export, token, segment) for segment in segments]
