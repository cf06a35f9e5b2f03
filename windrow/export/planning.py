"""Plans an export: checks what was asked against the source, decides the types, and cuts the segments."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from windrow.common.errors import ExportError
from windrow.export.cleaning import arrow_type, find_type
from windrow.export.condition import check_condition, find_condition_columns, shown_names
from windrow.export.paths import check_paths
from windrow.export.plan import OutputColumn, Plan, ReadColumn
from windrow.export.reading import read_rows, reader_of
from windrow.export.spec import ExportSpec, parse_casts
from windrow.export.splitting import (
    BlockStart,
    Read,
    RowStart,
    Segment,
    count_source,
    cut_segments,
    find_last_row_end,
    find_row_end,
    find_row_start,
)
from windrow.export.types import TEXT

SAMPLES = 64
"""Places of the source that types are decided from; a source of SAMPLES * SAMPLE_BYTES or less is read whole."""
SAMPLE_BYTES = 64 << 10
HEADER_BYTES_MAX = 16 << 20

_BOM = b"\xef\xbb\xbf"
_DELIMITERS = (",", "\t", ";", "|")
_MAGIC = {
    b"\x1f\x8b": "is compressed with gzip: gunzip it first",
    b"PK\x03\x04": "is a zip archive: unzip it first",
    b"BZh": "is compressed with bzip2: bunzip2 it first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unzstd it first",
    b"PAR1": "is a Parquet file: this export reads CSV",
    b"\xff\xfe": "is UTF-16: convert it first, e.g. with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "is UTF-16: convert it first, e.g. with iconv -f UTF-16 -t UTF-8",
}


def make_plan(spec: ExportSpec) -> tuple[Plan, list[Segment]]:
    """The plan and its segments; the same source and spec give the same ones."""
    check_paths(spec)
    # Unbuffered would do; the samples like the buffer.
    with open(spec.source, "rb") as file:
        about = os.fstat(file.fileno())
        names, delimiter, start, line = read_header(file, spec)
        chosen = _Choice(names, spec)
        read = reader_of(file)
        starts = count_source(read, start=start, stop=about.st_size, line=line)
        segments = cut_segments(read, starts, spec.segment_bytes)
        found = _decide_types(read, starts, chosen.guessed, names, delimiter, Path(spec.source).name)
    typed = {index: chosen.casts.get(index) or found.get(index, TEXT) for index in chosen.read}
    if spec.where:
        check_condition(spec.where, {names[index]: arrow_type(typed[index]) for index in chosen.where})
    return (
        Plan(
            source=spec.source,
            source_bytes=about.st_size,
            source_mtime_ns=about.st_mtime_ns,
            dest=spec.dest,
            format=spec.format,
            force=spec.force,
            delimiter=delimiter,
            width=len(names),
            read=tuple(ReadColumn(index, names[index], typed[index], index in chosen.casts) for index in chosen.read),
            output=tuple(OutputColumn(index, name, chosen.output_type(index, typed)) for index, name in chosen.output),
            where=spec.where,
            where_columns=chosen.where,
            segments=len(segments),
            segment_bytes=spec.segment_bytes,
        ),
        segments,
    )


def read_header(file: BinaryIO, spec: ExportSpec) -> tuple[list[str], str, int, int]:
    """Column names, delimiter, and offset and line of the first row; ExportError where there is no header."""
    name = Path(spec.source).name
    data = file.read(SAMPLE_BYTES)
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise ExportError(f"{name} {what}")
    start = len(_BOM) if data.startswith(_BOM) else 0
    while (end := find_row_end(data, start, inside=False)) < 0 or not data[start:end].strip(b"\r\n"):
        if end >= 0:
            start = end
        elif len(data) > HEADER_BYTES_MAX:
            raise ExportError(f"{name} has no line end in its first {HEADER_BYTES_MAX} bytes: it is no CSV file")
        elif more := file.read(len(data) or 1):
            data += more
        else:
            end = len(data)
            break
    header = data[start:end]
    if not header.strip(b"\r\n"):
        raise ExportError(f"{name} is empty: an export needs at least a header line with the column names")
    try:
        text = header.decode()
    except UnicodeDecodeError:
        raise ExportError(
            f"the header of {name} is not UTF-8: convert the file first, e.g. with iconv -t UTF-8"
        ) from None
    delimiter = spec.delimiter or _find_delimiter(text)
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ExportError(f"the header of {name} cannot be read: {error}") from None
    return names, delimiter, end, 1 + data.count(b"\n", 0, end)


def _find_delimiter(header: str) -> str:
    """The one that stands most often outside quotes in the header; a comma where none does."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


class _Choice:
    """The columns that the spec names, found in the header."""

    def __init__(self, names: list[str], spec: ExportSpec) -> None:
        self._names = names
        self._format = spec.format
        self.casts = {self._find(cast.column, "--cast"): cast.type for cast in parse_casts(spec.cast)}
        self.where = find_condition_columns(spec.where, names) if spec.where else ()
        self.output = [self._find_output(entry) for entry in spec.columns] or list(enumerate(names))
        self._check_output()
        self.read = sorted({index for index, _ in self.output} | set(self.where) | set(self.casts))
        # CSV to CSV types only what an option names; the rest stays text, so that no value changes.
        typed = set(self.read) if spec.format != "csv" else set(self.where)
        self.guessed = sorted(typed - set(self.casts))

    def output_type(self, index: int, typed: dict[int, str]) -> str:
        """What the column is in the output."""
        return self.casts.get(index, TEXT) if self._format == "csv" else typed[index]

    def _find(self, name: str, option: str) -> int:
        found = [index for index, known in enumerate(self._names) if known == name]
        if not found:
            raise ExportError(f"{option} names column {name!r}; the source has {shown_names(self._names)}")
        if len(found) > 1:
            raise ExportError(f"{option} names column {name!r}, which stands {len(found)} times in the header")
        return found[0]

    def _find_output(self, entry: str) -> tuple[int, str]:
        """`name`, or `name:new` with the name as long as it can be (a column may be called `a:b`)."""
        if entry in self._names:
            return self._find(entry, "--columns"), entry
        name, colon, new = entry.rpartition(":")
        while colon and name not in self._names and ":" in name:
            name, _, more = name.rpartition(":")
            new = f"{more}:{new}"
        if not colon or name not in self._names:
            return self._find(entry.partition(":")[0], "--columns"), entry
        if not new:
            raise ExportError(f"--columns {entry!r} gives no new name: write {name}:new_name, or {name} to keep it")
        return self._find(name, "--columns"), new

    def _check_output(self) -> None:
        names = [name for _, name in self.output]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        # A CSV that goes through as it is may keep such a header; anything made of it may not.
        if twice is not None and (self._format != "csv" or names != self._names):
            raise ExportError(
                f"the output would have two columns {twice!r}: choose and rename with --columns a,b:new_name"
            )


def _decide_types(
    read: Read, starts: list[BlockStart], columns: Sequence[int], names: list[str], delimiter: str, source: str
) -> dict[int, str]:
    """The type of each of these columns, from samples spread over the source."""
    if not columns:
        return {}
    parts: dict[int, list[Any]] = {index: [] for index in columns}
    for place, data in _samples(read, starts):
        rows = read_rows(
            data, width=len(names), wanted=columns, delimiter=delimiter, first_line=place.line, source=source
        )
        for index, column in rows.columns.items():
            parts[index].append(column)
    return {index: find_type(parts[index]) for index in columns}


def _samples(read: Read, starts: list[BlockStart]) -> list[tuple[RowStart, bytes]]:
    """Whole rows from SAMPLES places, or all rows of a small source."""
    first, end = starts[0].offset, starts[-1].offset
    if end - first <= SAMPLES * SAMPLE_BYTES:
        return [(RowStart(first, starts[0].line), read(first, end - first))]
    found: list[tuple[RowStart, bytes]] = []
    # The last place is such that its sample reaches the end of the source.
    step = (end - first - SAMPLE_BYTES) / (SAMPLES - 1)
    for number in range(SAMPLES):
        place = find_row_start(read, starts, first + round(number * step))
        data = read(place.offset, SAMPLE_BYTES)
        if place.offset + len(data) < end:
            # A row longer than a sample is left out: it gives no type away that others would not.
            data = data[: max(find_last_row_end(data), 0)]
        if data:
            found.append((place, data))
    return found
