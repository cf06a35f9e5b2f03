"""Reads one segment of whatever source into rows, wherever its bytes lie."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from windrow.common.errors import ExportError
from windrow.export.looking import name_of
from windrow.export.model import Plan, Segment, Source
from windrow.export.read_jsonl import jsonl_states
from windrow.export.read_parquet import ParquetColumn, parquet_columns
from windrow.export.rows import Rows
from windrow.export.segment_rows import read_segment as rows_of
from windrow.export.segment_rows import text_codec
from windrow.export.storage import SourceFile, check_unchanged, open_source, read_range

parquet: Any = pyarrow.parquet


def read_segment(plan: Plan, segment: Segment, work: Path, data: bytes | None = None) -> Rows:
    """The rows of a segment with the columns that the plan reads; `data` are its bytes, where they are at hand."""
    source = plan.sources[segment.source]
    if not segment.prepared:
        check_unchanged(SourceFile(source.url, source.bytes, source.version))
    if plan.read_form.kind == "parquet":
        with open_source(source.url) as file:
            return rows_of(plan, segment, file)
    return rows_of(plan, segment, load_text(plan, segment, work) if data is None else data)


def states_of_keys(plan: Plan, segment: Segment, work: Path, data: bytes | None = None) -> dict[str, str]:
    """The keys of the JSON objects of a segment, and what their values may be (inference.py)."""
    data = load_text(plan, segment, work) if data is None else data
    return jsonl_states(data, codec=text_codec(plan, segment))


def load_text(plan: Plan, segment: Segment, work: Path) -> bytes:
    """The bytes of a segment of text."""
    if segment.prepared:
        return read_range(str(work / segment.prepared), segment.start, segment.stop)
    return read_range(plan.sources[segment.source].url, segment.start, segment.stop)


def columns_of(source: Source) -> list[ParquetColumn]:
    """The columns of a Parquet source."""
    with open_source(source.url) as file:
        return parquet_columns(file, name_of(source))


def row_group_segments(source: Source, number: int, first: int, segment_bytes: int) -> list[Segment]:
    """Row groups of a Parquet source, the next ones together until they have about `segment_bytes`."""
    groups = _row_groups(source)
    found: list[Segment] = []
    start, row, rows, size = 0, 1, 0, 0
    for at, (count, length) in enumerate(groups):
        rows, size = rows + count, size + length
        if size >= segment_bytes or at == len(groups) - 1:
            if rows:
                found.append(Segment(first + len(found), number, start, at + 1, row))
            start, row, rows, size = at + 1, row + rows, 0, 0
    return found


def _row_groups(source: Source) -> Sequence[tuple[int, int]]:
    """Rows and bytes of each row group."""
    with open_source(source.url) as file:
        try:
            metadata = parquet.read_metadata(file)
        except (pa.ArrowInvalid, OSError) as error:
            detail = str(error).split("\n")[0]
            raise ExportError(f"{name_of(source)} cannot be read as Parquet: {detail}") from None
    groups = (metadata.row_group(at) for at in range(metadata.num_row_groups))
    return [(int(group.num_rows), int(group.total_byte_size)) for group in groups]
