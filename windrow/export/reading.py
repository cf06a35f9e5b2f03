"""Reads CSV bytes into Arrow columns of text, with no guess at types, and tells where a row stands that cannot be read.

An empty field is null and an empty quoted field is the empty text, so that what is written back is what was read.
Empty lines are no rows.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from windrow.common.errors import ExportError
from windrow.export.splitting import NEWLINE, Read, line_of_row

arrow_csv: Any = pyarrow.csv


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of text by their index in the source, and what is needed to say which line a row stands in."""

    columns: dict[int, Any]
    count: int
    data: bytes
    first_line: int

    def line(self, row: int) -> int:
        """The line of the source in which this row (from 0 on) begins."""
        return line_of_row(self.data, row, self.first_line)


def reader_of(file: BinaryIO) -> Read:
    """Reads at any offset of an open file."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    return read


def read_rows(data: bytes, *, width: int, wanted: Sequence[int], delimiter: str, first_line: int, source: str) -> Rows:
    """The wanted columns of whole rows without a header; ExportError names the line of a row that cannot be read."""
    if not data.strip(b"\r\n"):
        return Rows({index: pa.array([], pa.string()) for index in wanted}, 0, data, first_line)
    wrong: list[Any] = []

    def on_wrong_width(row: Any) -> str:
        wrong.append(row)
        return "error"

    # pyarrow cannot read no columns at all, yet the rows must be counted.
    read = list(wanted) or [0]
    try:
        table: Any = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[_name(index) for index in range(width)]
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"',
                double_quote=True,
                escape_char=False,
                newlines_in_values=True,
                ignore_empty_lines=True,
                invalid_row_handler=on_wrong_width,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=[_name(index) for index in read],
                column_types={_name(index): pa.string() for index in read},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _unreadable(error, wrong, data, width, first_line, source) from None
    columns = {index: _one_chunk(table.column(_name(index))) for index in wanted}
    return Rows(columns, table.num_rows, data, first_line)


def _name(index: int) -> str:
    # Names of our own: the header's may stand there twice, or be empty.
    return f"c{index}"


def _one_chunk(column: Any) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _unreadable(
    error: Exception, wrong: list[Any], data: bytes, width: int, first_line: int, source: str
) -> ExportError:
    if wrong:
        row = wrong[0]
        line = line_of_row(data, int(row.number or 1) - 1, first_line)
        return ExportError(
            f"line {line} of {source} has {row.actual_columns} fields, the header has {width}: mend that line"
        )
    try:
        data.decode()
    except UnicodeDecodeError as place:
        line = first_line + data.count(NEWLINE, 0, place.start)
        return ExportError(f"line {line} of {source} is not UTF-8: convert the file first, e.g. with iconv -t UTF-8")
    detail = str(error).split("\n")[0]
    return ExportError(f"{source} cannot be read from line {first_line} on: {detail}")
