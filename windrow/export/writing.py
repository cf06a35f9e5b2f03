"""Writes Arrow columns as CSV or Parquet bytes that depend on the rows alone.

CSV: a comma between fields, a line feed after each row. A field is put in quotes where it holds a comma, a quote or a
line end, and where it is the empty text (a null is an empty field); quotes inside it are doubled.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from windrow.export.cleaning import arrow_type, to_text

pc: Any = pyarrow.compute
parquet: Any = pyarrow.parquet

CSV_ROWS = 1 << 16
"""Rows that are joined at a time."""

_NEEDS_QUOTES = r'[",\r\n]'


def csv_header(names: Sequence[str]) -> bytes:
    """The header line."""
    return b"".join(csv_rows([pa.array([name], pa.string()) for name in names]))


def csv_rows(columns: Sequence[Any]) -> Iterator[bytes]:
    """The rows of these columns, all of one length, as CSV."""
    texts = [(to_text(column), pa.types.is_string(column.type)) for column in columns]
    for start in range(0, len(columns[0]), CSV_ROWS):
        fields = [
            _quoted(text.slice(start, CSV_ROWS)) if is_text else text.slice(start, CSV_ROWS) for text, is_text in texts
        ]
        if len(fields) == 1:
            # An empty line would be no row.
            fields = [pc.fill_null(fields[0], '""')]
        lines = pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement="")
        ended = pc.binary_join_element_wise(lines, "", "\n")
        # The bytes of a column of text lie one after the other, which is the file as it shall be.
        size = int(pc.sum(pc.cast(pc.binary_length(ended), pa.int64())).as_py())
        yield bytes(ended.buffers()[2].slice(0, size))


def _quoted(text: Any) -> Any:
    needed = pc.or_(pc.match_substring_regex(text, pattern=_NEEDS_QUOTES), pc.equal(text, ""))
    if not pc.any(needed).as_py():
        return text
    doubled = pc.replace_substring(text, pattern='"', replacement='""')
    return pc.if_else(needed, pc.binary_join_element_wise('"', doubled, '"', ""), text)


def parquet_schema(names: Sequence[str], types: Sequence[str]) -> Any:
    """The schema of the file, decided by the plan."""
    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in zip(names, types, strict=True)])


def parquet_part(schema: Any, columns: Sequence[Any]) -> bytes:
    """A Parquet file of one row group, or of none where there are no rows."""
    table = pa.Table.from_arrays(list(columns), schema=schema)
    sink = pa.BufferOutputStream()
    with _writer(sink, schema) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=table.num_rows)
    return bytes(sink.getvalue())


def parquet_groups(path: str) -> list[int]:
    """Rows of each row group of a Parquet file."""
    with parquet.ParquetFile(path) as file:
        return [int(file.metadata.row_group(at).num_rows) for at in range(file.metadata.num_row_groups)]


def _writer(sink: Any, schema: Any) -> Any:
    # Spelled out, so that another default in a later pyarrow does not change the bytes.
    return parquet.ParquetWriter(
        sink, schema, version="2.6", compression="snappy", use_dictionary=True, write_statistics=True
    )
