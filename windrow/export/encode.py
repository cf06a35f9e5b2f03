"""Encodes Arrow columns as CSV, JSON Lines or Parquet bytes that depend on the form and the rows alone.

CSV: a field is put in quotes where it holds a delimiter, a quote, an escape character or a line end, and where it is
the empty text; a null is an empty field. Without quotes, null and the empty text look the same.
JSON Lines: one object a line, keys in the order of the columns; NaN and infinity, which JSON does not have, are null;
dates and times are ISO 8601 text; whole numbers keep all their digits.
Text is compressed with pyarrow's zstd (no further package, and each frame says how long its content is) or zlib.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from windrow.common.errors import ExportError
from windrow.export.casting import arrow_type, to_text
from windrow.export.form import ZSTD_LEVEL, codec_of, mark_of
from windrow.export.model import Form

pc: Any = pyarrow.compute
parquet: Any = pyarrow.parquet

BLOCK_ROWS_MAX = 1 << 16
"""Rows that are encoded at a time."""
BLOCK_BYTES = 32 << 20
"""About so many bytes are encoded at a time; with few rows at a time, each column costs more than its values."""
GROUP_ROWS_MAX = 1 << 20
"""Of a row group; a segment that has more rows gets several."""

_GZIP_LEVEL = 6
_GZIP_MEMBER = 31
"""For zlib: a gzip header without a name, its time 0."""
_PAGE_BYTES = 1 << 20
_DICTIONARY_BYTES_MAX = 128 << 10
"""Of a column's different values in a row group. With pyarrow's 1 MiB, columns of mostly different values are put into
a dictionary first and written plainly after all: files of a segment took a third longer to write and were larger."""
_CONTROLS = r"[\x00-\x1f]"
_SHORT_ESCAPES = (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r"), ("\t", r"\t"))


def encode_head(form: Form, names: Sequence[str]) -> bytes:
    """What comes before all rows: byte order mark and header line; compressed it is a member of its own."""
    text = mark_of(form)
    if form.kind == "csv" and form.header and names:
        text += b"".join(_encoded(form, _csv_rows(form, [pa.array([name], pa.string()) for name in names]), "a column"))
    return b"".join(_packed(form, [text])) if text and form.kind != "parquet" else b""


def encode_rows(
    form: Form, names: Sequence[str], types: Sequence[str], columns: Sequence[Any]
) -> Iterator[bytes | memoryview]:
    """The rows without the head; for Parquet a whole file. Compressed text is one gzip member, or zstd frames."""
    if form.kind == "parquet":
        yield _parquet_file(form, names, types, columns)
    elif columns and len(columns[0]):
        rows = _csv_rows(form, columns) if form.kind == "csv" else _json_rows(names, columns)
        yield from _packed(form, _encoded(form, rows, "a value"))


def encode_text(form: Form, text: str) -> bytes:
    """Rows that are text already, as the form has it."""
    return b"".join(_packed(form, [text.encode(codec_of(form))]))


def _encoded(form: Form, blocks: Iterable[bytes], what: str) -> Iterator[bytes]:
    codec = codec_of(form)
    for block in blocks:
        if codec == "utf-8":
            yield block
            continue
        try:
            yield block.decode().encode(codec)
        except UnicodeEncodeError as error:
            character = error.object[error.start]
            raise ExportError(
                f"{what} has the character {character!r}, which {form.encoding} does not have: write it as utf-8"
            ) from None


def _packed(form: Form, blocks: Iterable[bytes]) -> Iterator[bytes]:
    if form.compression == "gzip":
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_MEMBER)
        for block in blocks:
            if data := packer.compress(block):
                yield data
        yield packer.flush()
    elif form.compression == "zstd":
        codec = pa.Codec("zstd", compression_level=ZSTD_LEVEL)
        for block in blocks:
            yield codec.compress(block, asbytes=True)
    else:
        yield from blocks


def _row_blocks(columns: Sequence[Any], names_bytes: int) -> Iterator[list[Any]]:
    """Slices of all columns; how many rows each has follows from the rows."""
    count = len(columns[0])
    row_bytes = sum(column.nbytes for column in columns) // max(1, count) + 16 * len(columns) + names_bytes
    rows = max(1, min(BLOCK_ROWS_MAX, BLOCK_BYTES // row_bytes))
    for start in range(0, count, rows):
        yield [column.slice(start, rows) for column in columns]


def _bytes_of(text: Any) -> bytes:
    """The values one after the other, which is how a column of text lies in memory."""
    size = int(pc.sum(pc.cast(pc.binary_length(text), pa.int64())).as_py())
    return bytes(text.buffers()[2].slice(0, size))


def _join(*pieces: Any) -> Any:
    return pc.binary_join_element_wise(*pieces, "", null_handling="replace", null_replacement="")


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _csv_rows(form: Form, columns: Sequence[Any]) -> Iterator[bytes]:
    special = special_characters(form)
    # A delimiter that numbers and times have in them, too.
    awkward = form.delimiter in "+-.: "
    for block in _row_blocks(columns, 0):
        fields = [
            _csv_field(form, special, shown(column)) if awkward or pa.types.is_string(column.type) else shown(column)
            for column in block
        ]
        if len(fields) == 1 and form.quote:
            # An empty line would be no row.
            fields = [pc.fill_null(fields[0], form.quote * 2)]
        fields[-1] = _join(fields[-1], "\n")
        yield _bytes_of(
            fields[0]
            if len(fields) == 1
            else pc.binary_join_element_wise(*fields, form.delimiter, null_handling="replace", null_replacement="")
        )


def special_characters(form: Form) -> str:
    """A pattern for what a CSV field cannot hold as it stands."""
    characters = {form.delimiter, form.quote, form.escape, "\r", "\n"} - {""}
    return "[" + "".join(f"\\x{{{ord(one):x}}}" for one in sorted(characters)) + "]"


def _csv_field(form: Form, special: str, text: Any) -> Any:
    needed = pc.match_substring_regex(text, pattern=special)
    if not form.quote:
        if not form.escape or not pc.any(needed).as_py():
            return text
        return pc.replace_substring_regex(text, pattern=f"({special})", replacement=_literal(form.escape) + r"\1")
    needed = pc.or_(needed, pc.equal(text, ""))
    if not pc.any(needed).as_py():
        return text
    if form.escape:
        text_inside = pc.replace_substring(text, pattern=form.escape, replacement=form.escape * 2)
        text_inside = pc.replace_substring(text_inside, pattern=form.quote, replacement=form.escape + form.quote)
    else:
        text_inside = pc.replace_substring(text, pattern=form.quote, replacement=form.quote * 2)
    return pc.if_else(needed, _join(form.quote, text_inside, form.quote), text)


def _literal(text: str) -> str:
    """As it must stand in a replacement."""
    return text.replace("\\", "\\\\")


def shown(column: Any) -> Any:
    """A column as text; decimals without exponents."""
    text = to_text(column)
    if pa.types.is_decimal(column.type):
        exponent = pc.match_substring(text, pattern="E")
        if pc.any(exponent).as_py():
            plain = pa.array([None if one is None else format(one, "f") for one in column.to_pylist()], pa.string())
            text = pc.if_else(exponent, plain, text)
    return text


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────────────


def _json_rows(names: Sequence[str], columns: Sequence[Any]) -> Iterator[bytes]:
    keys = [json.dumps(name, ensure_ascii=False) + ":" for name in names]
    keys = [("," if at else "{") + key for at, key in enumerate(keys)]
    for block in _row_blocks(columns, sum(len(key.encode()) for key in keys)):
        pieces: list[Any] = []
        for key, column in zip(keys, block, strict=True):
            pieces += [key, pc.fill_null(_json_value(column), "null")]
        yield _bytes_of(_join(*pieces, "}\n"))


def _json_value(column: Any) -> Any:
    kind = column.type
    if pa.types.is_string(kind):
        return _quoted_json(column)
    if pa.types.is_floating(kind):
        return shown(pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind)))
    if pa.types.is_timestamp(kind):
        return _null_kept('"', pc.replace_substring(shown(column), pattern=" ", replacement="T", max_replacements=1))
    if pa.types.is_date(kind):
        return _null_kept('"', shown(column))
    return shown(column)


def _quoted_json(text: Any) -> Any:
    special = pc.match_substring_regex(text, pattern=r'["\\\x00-\x1f]')
    if pc.any(special).as_py():
        escaped = text
        for character, escape in _SHORT_ESCAPES:
            escaped = pc.replace_substring(escaped, pattern=character, replacement=escape)
        if pc.any(pc.match_substring_regex(escaped, pattern=_CONTROLS)).as_py():
            for code in range(0x20):
                escaped = pc.replace_substring(escaped, pattern=chr(code), replacement=f"\\u{code:04x}")
        text = pc.if_else(special, escaped, text)
    return _null_kept('"', text)


def _null_kept(around: str, text: Any) -> Any:
    return pc.binary_join_element_wise(around, text, around, "", null_handling="emit_null")


# ── Parquet ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parquet_schema(names: Sequence[str], types: Sequence[str]) -> Any:
    """The schema of the file, decided by the plan."""
    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in zip(names, types, strict=True)])


def empty_columns(types: Sequence[str]) -> list[Any]:
    """Columns of these types without rows."""
    return [pa.array([], arrow_type(kind)) for kind in types]


def parquet_groups(path: str | BinaryIO) -> list[int]:
    """Rows of each row group of a Parquet file; ExportError where it is none."""
    try:
        with parquet.ParquetFile(path) as file:
            return [int(file.metadata.row_group(at).num_rows) for at in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise ExportError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _parquet_file(form: Form, names: Sequence[str], types: Sequence[str], columns: Sequence[Any]) -> memoryview:
    schema = parquet_schema(names, types)
    table = pa.Table.from_arrays(list(columns), schema=schema)
    codec = form.compression or "snappy"
    level = {"zstd": ZSTD_LEVEL, "gzip": _GZIP_LEVEL}.get(codec)
    sink = pa.BufferOutputStream()
    # Spelled out, so that another default in a later pyarrow does not change the bytes.
    with parquet.ParquetWriter(
        sink, schema, version="2.6", compression=codec, compression_level=level, use_dictionary=True,
        dictionary_pagesize_limit=_DICTIONARY_BYTES_MAX,
        write_statistics=True, write_page_index=True, data_page_version="1.0", data_page_size=_PAGE_BYTES,
        store_schema=True,
    ) as writer:  # fmt: skip
        if table.num_rows:
            writer.write_table(table, row_group_size=min(table.num_rows, GROUP_ROWS_MAX))
    return memoryview(sink.getvalue())
