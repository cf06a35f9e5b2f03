"""What the plan decides once for all segments, and the work folder in which it and the parts lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError, MalformedMessage
from windrow.export.files import write_durably
from windrow.export.splitting import Segment
from windrow.export.types import TEXT

PLAN_FILE = "plan.json"
PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column of the source that is read."""

    index: int
    name: str
    type: str
    """`string`: as it stands."""
    cast: bool = False
    """The user has asked for the type; else the plan has found it."""


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of the output."""

    index: int
    """Of the source's column."""
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a segment's conversion depends on, besides its place in the source."""

    source: str
    source_bytes: int
    source_mtime_ns: int
    dest: str
    format: str
    force: bool
    delimiter: str
    width: int
    """Columns of the source."""
    read: tuple[ReadColumn, ...]
    output: tuple[OutputColumn, ...]
    where: str
    where_columns: tuple[int, ...]
    segments: int
    segment_bytes: int
    version: int = PLAN_VERSION

    @property
    def names(self) -> list[str]:
        """The output's column names."""
        return [column.name for column in self.output]

    @property
    def types(self) -> list[str]:
        """The output's column types."""
        return [column.type for column in self.output]

    @property
    def typed(self) -> list[ReadColumn]:
        """The columns that are more than text."""
        return [column for column in self.read if column.type != TEXT]


@dataclass(frozen=True, slots=True)
class Part:
    """A segment converted, as the converting task reports it."""

    segment: int
    part: str
    """Name of the part file in the work folder."""
    rows_in: int
    rows: int
    bytes: int
    sha256: str


_decode_plan: Callable[[object], Plan] = decoder_for(Plan)
_decode_part: Callable[[object], Part] = decoder_for(Part)


def work_folder(dest: str, job: str) -> Path:
    """Where the plan and the parts lie: beside the destination, so that publishing is a rename."""
    path = Path(dest)
    return path.parent / f".{path.name}.windrow-{job}"


def plan_to_dict(plan: Plan) -> dict[str, object]:
    """The plan as it travels in results and lies in the plan file."""
    plain: dict[str, object] = to_plain(plan)
    return plain


def plan_from_dict(data: object) -> Plan:
    """The plan from a result or the plan file; ExportError where another version of Windrow wrote it."""
    try:
        plan = _decode_plan(data)
    except MalformedMessage as error:
        raise ExportError(f"the plan cannot be read ({error}): start the export again") from None
    if plan.version != PLAN_VERSION:
        raise ExportError(
            f"the plan has version {plan.version}, this node writes {PLAN_VERSION}: start the export again"
        )
    return plan


def part_from_dict(data: object) -> Part:
    """A converting task's report."""
    try:
        return _decode_part(data)
    except MalformedMessage as error:
        raise ExportError(f"a part's report cannot be read ({error}): start the export again") from None


def write_plan(work: Path, plan: Plan, unique: str) -> None:
    """Put the plan into the work folder, or check that it is the one that is there (the plan task ran twice)."""
    if (work / PLAN_FILE).exists():
        if read_plan(work) != plan:
            raise ExportError(f"{plan.source} changed while the export was planned: start it again")
        return
    text = json.dumps(plan_to_dict(plan), indent=1, ensure_ascii=False)
    write_durably(work / PLAN_FILE, [text.encode()], unique)


def read_plan(work: Path) -> Plan:
    """The plan in this work folder; ExportError where there is none."""
    try:
        text = (work / PLAN_FILE).read_bytes()
    except FileNotFoundError:
        raise ExportError(
            f"{work} has no plan: the export was cancelled, or this node does not see the destination's folder"
        ) from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ExportError(f"the plan in {work} is damaged: start the export again") from None
    return plan_from_dict(data)


def segment_item(work: Path, segment: Segment) -> dict[str, object]:
    """The item of one segment."""
    return {
        "work": str(work),
        "segment": segment.number,
        "start": segment.start,
        "stop": segment.stop,
        "line": segment.line,
    }
