"""Reads one segment of an export's source into rows, whatever the source's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from windrow.export.locations import file_name
from windrow.export.model import Plan, Segment
from windrow.export.read_csv import UTF8, read_csv
from windrow.export.read_jsonl import read_jsonl
from windrow.export.read_parquet import read_parquet
from windrow.export.rows import Rows

_CODECS = {"gbk": "gb18030", "big5": "cp950", "shift-jis": "cp932"}
"""The supersets that Windows writes under these names."""


def read_segment(plan: Plan, segment: Segment, data: bytes | str | BinaryIO) -> Rows:
    """The plan's columns of a segment: of text the bytes of its rows, of Parquet the file or its path."""
    origin = plan.sources[segment.source]
    source = origin.member or file_name(origin.url)
    codec = UTF8 if segment.prepared else _CODECS.get(plan.read_form.encoding, plan.read_form.encoding)
    names = {column.index: (column.name, column.type) for column in plan.read}
    if isinstance(data, bytes):
        if plan.read_form.kind == "jsonl":
            return read_jsonl(data, wanted=names, first_line=segment.line, source=source, codec=codec)
        own = origin.columns or plan.columns
        return read_csv(
            data,
            plan.read_form,
            width=len(own),
            wanted=_places(plan, own),
            first_line=segment.line,
            source=source,
            codec=codec,
        )
    return read_parquet(
        data, start=segment.start, stop=segment.stop, wanted=names, first_row=segment.line, source=source
    )


def _places(plan: Plan, own: tuple[str, ...]) -> Mapping[int, int | None]:
    """Where each column that is read stands in a file with these columns."""
    if own == plan.columns:
        return {column.index: column.index for column in plan.read}
    places = {name: at for at, name in enumerate(own)}
    return {column.index: places.get(column.name) for column in plan.read}
