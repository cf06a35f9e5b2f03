"""Reads the CSV bytes of whole rows into columns of text, and puts aside the rows that cannot be read.

An empty field is null and an empty quoted field is the empty text, so that what is written back is what was read.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from windrow.common.errors import ExportError
from windrow.common.texts import counted
from windrow.export.model import Form
from windrow.export.rows import BadRow, Rows, TextPlaces, csv_places, undecodable

arrow_csv: Any = pyarrow.csv

UTF8 = "utf-8"
_BOM = b"\xef\xbb\xbf"
_ANY = re.compile(rb"[^\r\n]")
"""Of an empty line there is nothing to read."""


def read_csv(
    data: bytes,
    form: Form,
    *,
    width: int,
    wanted: Mapping[int, int | None],
    first_line: int,
    source: str = "",
    codec: str = UTF8,
    paired: bool = False,
) -> Rows:
    """The wanted columns of whole rows without a header.

    `width` fields make a row. `wanted` says under which index a column goes into the rows, and where it stands in this
    file; None: nowhere, it is null in every row. `codec` is Python's name of the encoding, in which no byte looks like
    a mark of the form or a newline without being one. `paired`: the quotes in the data are known to pair.
    """
    places = csv_places(data, form, first_line, codec)
    taken = _find_unreadable(data, form, places, codec, paired=paired)
    clean = _without(data, taken, places)
    text = clean if codec == UTF8 else clean.decode(codec).encode()
    present = sorted({at for at in wanted.values() if at is not None})
    table, wrong = _parse(text, form, width, present, source)
    count = int(table.num_rows)
    columns = {index: _column(table, at, count) for index, at in wanted.items()}
    bad = taken | _wrong_widths(wrong, sorted(taken), width, places)
    removed = sorted(bad)
    return Rows(columns, count, [bad[ordinal] for ordinal in removed], places, removed, source)


def _find_unreadable(data: bytes, form: Form, places: TextPlaces, codec: str, *, paired: bool) -> dict[int, BadRow]:
    """By ordinal, the rows with bytes that are no characters, and the last one where its quote is never closed."""
    found: dict[int, BadRow] = {}
    if not _is_decodable(data, codec):
        for ordinal in range(len(places)):
            row = places.bytes(ordinal)
            if not row.isascii() and not _is_decodable(row, codec):
                found[ordinal] = _undecodable(row, ordinal, places, codec)
    # A quote that stands inside a field is an ordinary character, so that an odd number of them need not be wrong.
    if form.quote and not paired and _may_be_open(data, form) and not places.closed:
        last = len(places) - 1
        found.setdefault(last, _bad(last, places, f"the quote {form.quote} of its last field is never closed"))
    return found


def _may_be_open(data: bytes, form: Form) -> bool:
    if form.escape and form.escape.encode() in data:
        return True
    quote = form.quote.encode()
    # Looking whether there is any is faster than counting none.
    return quote in data and data.count(quote) % 2 == 1


def _is_decodable(data: bytes, codec: str) -> bool:
    if data.isascii():
        return True
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(row: bytes, ordinal: int, places: TextPlaces, codec: str) -> BadRow:
    try:
        row.decode(codec)
    except UnicodeDecodeError as error:
        return _bad(ordinal, places, undecodable(error))
    raise AssertionError("a row that can be decoded")


def _without(data: bytes, taken: Mapping[int, BadRow], places: TextPlaces) -> bytes:
    if not taken:
        return data
    return b"\n".join(places.bytes(ordinal) for ordinal in range(len(places)) if ordinal not in taken)


def _parse(data: bytes, form: Form, width: int, present: Sequence[int], source: str) -> tuple[Any, list[Any]]:
    """The table of the columns at these places, and what pyarrow says of the rows of another width."""
    # pyarrow cannot read no columns at all, yet the rows must be counted.
    read = list(present) or [0]
    types = {_name(at): pa.string() for at in read}
    wrong: list[Any] = []
    if _ANY.search(data) is None:
        return pa.table({name: pa.array([], kind) for name, kind in types.items()}), wrong

    def on_wrong_width(row: Any) -> str:
        # Its text may be long, and is found by its number.
        wrong.append((int(row.number), int(row.actual_columns)))
        return "skip"

    if data.startswith(_BOM):
        # pyarrow leaves it out at the beginning of any data; here it is a character of the first field.
        data = b"\n" + data
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[_name(at) for at in range(width)]
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=form.delimiter,
                quote_char=form.quote or False,
                double_quote=bool(form.quote),
                escape_char=form.escape or False,
                newlines_in_values=bool(form.quote or form.escape),
                ignore_empty_lines=True,
                invalid_row_handler=on_wrong_width,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(types),
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                # It has been looked at.
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid as error:
        detail = str(error).split("\n")[0]
        raise ExportError(f"{source or 'the source'} cannot be read as CSV: {detail}") from None
    return table, wrong


def _name(at: int) -> str:
    # Names of our own: the header's may stand there twice, or be empty.
    return f"c{at}"


def _column(table: Any, at: int | None, count: int) -> Any:
    if at is None:
        return pa.nulls(count, pa.string())
    column = table.column(_name(at))
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _wrong_widths(
    wrong: Sequence[tuple[int, int]], taken: Sequence[int], width: int, places: TextPlaces
) -> dict[int, BadRow]:
    found: dict[int, BadRow] = {}
    before = 0
    for number, fields in wrong:
        # pyarrow has counted from 1 on, without the rows that were taken out.
        ordinal = number - 1 + before
        while before < len(taken) and taken[before] <= ordinal:
            before += 1
            ordinal += 1
        found[ordinal] = _bad(ordinal, places, f"it has {counted(fields, 'field', 'fields')}, the header has {width}")
    return found


def _bad(ordinal: int, places: TextPlaces, reason: str) -> BadRow:
    return BadRow(places.line(ordinal), "", "", reason, places.text(ordinal))
