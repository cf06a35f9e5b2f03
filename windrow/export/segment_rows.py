"""Reads one segment of an export's source into rows, whatever the source's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from windrow.export.encoding import UTF8, codec_of
from windrow.export.locations import file_name
from windrow.export.model import Plan, Segment
from windrow.export.read_csv import read_csv
from windrow.export.read_jsonl import read_jsonl
from windrow.export.read_parquet import read_parquet
from windrow.export.rows import Rows


def read_segment(plan: Plan, segment: Segment, data: bytes | str | BinaryIO) -> Rows:
    """The plan's columns of a segment: of text the bytes of its rows, of Parquet the file or its path."""
    origin = plan.sources[segment.source]
    source = origin.member or file_name(origin.url)
    codec = text_codec(plan, segment)
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
            paired=segment.paired,
        )
    return read_parquet(
        data, start=segment.start, stop=segment.stop, wanted=names, first_row=segment.line, source=source
    )


def text_codec(plan: Plan, segment: Segment) -> str:
    """Python's name of the encoding of a segment's bytes."""
    return UTF8 if segment.prepared else codec_of(plan.read_form.encoding)


def _places(plan: Plan, own: tuple[str, ...]) -> Mapping[int, int | None]:
    """Where each column that is read stands in a file with these columns."""
    if own == plan.columns:
        return {column.index: column.index for column in plan.read}
    places = {name: at for at, name in enumerate(own)}
    return {column.index: places.get(column.name) for column in plan.read}
