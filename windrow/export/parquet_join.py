"""Joins Parquet files by copying their row groups as bytes under a new footer with every offset shifted.

The whole: row groups, each part's Bloom filters behind its own; then the column indexes of all, the offset indexes of
all, since readers fetch each of these in one go; the footer. Nothing is decoded but footers and offset indexes. The
bytes depend on the parts' bytes and order alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Protocol

from windrow.common.errors import ExportError
from windrow.export.files import read_between
from windrow.export.thrift import I64, STRUCT, Encoded, Items, Struct, decode, encode, encode_field

COPY_BYTES = 1 << 20
"""Copied at a time."""
ORDINAL_MAX = 0x7FFF
"""A row group's ordinal has 16 bits; beyond it no row group has one, for readers want all or none."""
FOOTER_BYTES_MAX = 0x7FFF_FFFF
"""Readers take the footer's length as a signed number of 32 bits."""
BLOOM_HEADER_BYTES_MAX = 256
"""Looked at for the length of a Bloom filter whose writer has not noted it."""

_MAGIC, _MAGIC_ENCRYPTED = b"PAR1", b"PARE"

# Field numbers, as in parquet.thrift.
_FILE_SCHEMA, _FILE_ROWS, _FILE_GROUPS, _FILE_ORDERS, _FILE_ENCRYPTION, _FILE_SIGNATURE = 2, 3, 4, 7, 8, 9
_GROUP_COLUMNS, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_ORDINAL = 1, 3, 5, 7
_COLUMN_PATH, _COLUMN_OFFSET, _COLUMN_META, _COLUMN_CRYPTO, _COLUMN_ENCRYPTED = 1, 2, 3, 8, 9
_OFFSET_INDEX, _OFFSET_INDEX_LENGTH, _COLUMN_INDEX, _COLUMN_INDEX_LENGTH = 4, 5, 6, 7
_META_BYTES, _META_DATA_PAGE, _META_INDEX_PAGE, _META_DICTIONARY_PAGE, _META_BLOOM, _META_BLOOM_LENGTH = (
    7, 9, 10, 11, 14, 15,
)  # fmt: skip
_SCHEMA_TYPE = _INDEX_PAGES = _PAGE_OFFSET = _BLOOM_BYTES = 1


class Sink(Protocol):
    """Where the whole goes: an empty file, or one that sums up what is written (`windrow.export.files.Written`)."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joined file has."""

    rows: int
    groups: int
    bytes: int


@dataclass(slots=True)
class _Chunk:
    """A column chunk of a part, and what belongs to it."""

    column: Struct
    meta: Struct
    start: int
    stop: int
    bloom: tuple[int, int] | None
    """Start and stop."""
    column_index: bytes
    """Empty where there is none."""
    offset_index: Struct | None
    shift: int = 0
    """By how much it moves."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group of a part."""

    fields: Struct
    chunks: list[_Chunk]
    rows: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """What all parts must have in common, and the fields of the footer of the first."""

    path: Path
    footer: Struct
    schema: bytes
    orders: bytes


class ParquetJoiner:
    """Joins parts as they come; in memory are their footers and page indexes, as they stand in the file."""

    def __init__(self, target: Sink, *, have_bytes: int = 0) -> None:
        """`have_bytes`: so many bytes of the target are there already, from adding the same parts before."""
        self._target = target
        self._have = have_bytes
        self._at = 0
        self._shape: _Shape | None = None
        self._groups: list[bytes] = []
        self.rows = 0
        self._with_ordinal = 0
        self._column_indexes = bytearray()
        self._offset_indexes = bytearray()
        self._write(_MAGIC)

    def go_on(self, target: Sink, *, have_bytes: int) -> None:
        """Write what comes next there, of which so many bytes, counted from the beginning, are there already."""
        self._target, self._have = target, have_bytes

    @property
    def kept_bytes(self) -> int:
        """Of footers and page indexes in memory."""
        return sum(map(len, self._groups)) + len(self._column_indexes) + len(self._offset_indexes)

    def add(self, path: Path) -> None:
        """Append a part's row groups. A part that is refused, with ExportError, leaves the target as it was."""
        with open(path, "rb") as file:
            try:
                footer, groups = _read_part(file)
            except ExportError as error:
                raise ExportError(f"{path} cannot be joined: {error.message}") from None
            self._check_shape(path, footer)
            for group in groups:
                self._copy_chunks(path, file, group)
            for group in groups:
                for chunk in group.chunks:
                    self._copy_bloom(path, file, chunk)
        for group in groups:
            self._note(group)

    def finish(self) -> Joined:
        """Write the page indexes and the footer."""
        if self._shape is None:
            raise ExportError("there is no part to join: a Parquet file needs one for its columns, though it be empty")
        footer = encode(self._make_footer(self._shape.footer))
        if len(footer) > FOOTER_BYTES_MAX:
            raise ExportError(
                f"{len(self._groups)} row groups need a footer of {len(footer)} bytes, which no reader takes: "
                "write several files, or larger row groups"
            )
        for piece in (self._column_indexes, self._offset_indexes, footer, struct.pack("<I", len(footer)), _MAGIC):
            self._write(bytes(piece))
        return Joined(self.rows, len(self._groups), self._at)

    def _check_shape(self, path: Path, footer: Struct) -> None:
        schema, orders = encode_field(footer, _FILE_SCHEMA), encode_field(footer, _FILE_ORDERS)
        first = self._shape
        if first is None:
            # Its row groups would stay in memory for nothing.
            footer.fields[_FILE_GROUPS] = (footer.fields[_FILE_GROUPS][0], Items(STRUCT, []))
            self._shape = _Shape(path, footer, schema, orders)
        elif schema != first.schema:
            raise ExportError(f"{path} and {first.path} have different columns: write both with one schema")
        elif orders != first.orders:
            raise ExportError(
                f"{path} and {first.path} order their statistics differently: write both with one program"
            )

    @property
    def joined_bytes(self) -> int:
        """Of the target, so far."""
        return self._at

    def _write(self, data: bytes) -> None:
        if self._at >= self._have:
            self._target.write(data)
        self._at += len(data)

    def _copy(self, path: Path, file: BinaryIO, start: int, stop: int) -> None:
        file.seek(start)
        left = stop - start
        if self._at + left <= self._have:
            self._at += left
            return
        while left:
            data = file.read(min(left, COPY_BYTES))
            if not data:
                raise ExportError(f"{path} changed while it was joined: start again")
            self._write(data)
            left -= len(data)

    def _copy_chunks(self, path: Path, file: BinaryIO, group: _Group) -> None:
        """Copy the group's bytes, in as few runs as they lie in, and tell each chunk how far it has moved."""
        for run in _runs(group.chunks):
            shift = self._at - run[0].start
            self._copy(path, file, run[0].start, run[-1].stop)
            for chunk in run:
                chunk.shift = shift

    def _copy_bloom(self, path: Path, file: BinaryIO, chunk: _Chunk) -> None:
        if chunk.bloom is not None:
            start, stop = chunk.bloom
            chunk.meta.set_int(_META_BLOOM, self._at)
            self._copy(path, file, start, stop)

    def _note(self, group: _Group) -> None:
        """Keep the group for the footer; places of its page indexes count from the first of their kind for now."""
        for chunk in group.chunks:
            _shift_chunk(chunk)
            if chunk.offset_index is not None:
                encoded = encode(chunk.offset_index)
                chunk.column.set_int(_OFFSET_INDEX, len(self._offset_indexes))
                chunk.column.set_int(_OFFSET_INDEX_LENGTH, len(encoded))
                self._offset_indexes += encoded
            if chunk.column_index:
                chunk.column.set_int(_COLUMN_INDEX, len(self._column_indexes))
                self._column_indexes += chunk.column_index
        fields = group.fields
        if fields.find_int(_GROUP_OFFSET):
            fields.set_int(_GROUP_OFFSET, min((chunk.start + chunk.shift for chunk in group.chunks), default=0))
        if fields.find_int(_GROUP_ORDINAL) is not None:
            self._with_ordinal += 1
            fields.set_int(_GROUP_ORDINAL, min(len(self._groups), ORDINAL_MAX))
        self._groups.append(encode(fields))
        self.rows += group.rows

    def _make_footer(self, first: Struct) -> Struct:
        count = len(self._groups)
        ordinals = self._with_ordinal == count and count - 1 <= ORDINAL_MAX
        groups: Iterable[bytes] = self._groups
        if self._offset_indexes or self._column_indexes or (self._with_ordinal and not ordinals):
            groups = (self._settle(data, ordinals) for data in groups)
        fields = dict(first.fields)
        fields[_FILE_ROWS] = (I64, self.rows)
        fields[_FILE_GROUPS] = (first.fields[_FILE_GROUPS][0], Items(STRUCT, [Encoded(data) for data in groups]))
        return Struct(fields)

    def _settle(self, data: bytes, ordinals: bool) -> bytes:
        """A row group with what is known only now that all are there."""
        fields, _ = decode(data)
        for column in fields.get_structs(_GROUP_COLUMNS):
            for number, base in (
                (_COLUMN_INDEX, self._at),
                (_OFFSET_INDEX, self._at + len(self._column_indexes)),
            ):
                place = column.find_int(number)
                if place is not None:
                    column.set_int(number, base + place)
        if not ordinals:
            fields.drop(_GROUP_ORDINAL)
        return encode(fields)


@dataclass(slots=True)
class _Claims:
    """What the footer says where; without it a few bytes, named many times, would fill memory and disk."""

    end: int
    """Where the footer begins."""
    taken: int = 0

    def take(self, start: int, stop: int, what: str) -> None:
        if not 4 <= start <= stop <= self.end:
            raise ExportError(f"{what} lies outside the file")
        self.taken += stop - start
        if self.taken > self.end:
            raise ExportError("its footer names the same bytes more than once")


# ── Reading a part ───────────────────────────────────────────────────────────────────────────────────────────────


def _read_part(file: BinaryIO) -> tuple[Struct, list[_Group]]:
    """The part's footer, and its row groups that have rows."""
    footer, end = _read_footer(file)
    if _FILE_ENCRYPTION in footer.fields or _FILE_SIGNATURE in footer.fields:
        raise ExportError("it is encrypted")
    leaves = sum(_SCHEMA_TYPE in element.fields for element in footer.get_structs(_FILE_SCHEMA))
    groups: list[_Group] = []
    claims = _Claims(end)
    for fields in footer.get_structs(_FILE_GROUPS):
        rows = fields.get_int(_GROUP_ROWS)
        columns = fields.get_structs(_GROUP_COLUMNS)
        if rows < 0 or len(columns) != leaves:
            raise ExportError(f"a row group has {rows} rows and {len(columns)} columns, the file {leaves} columns")
        chunks = [_read_chunk(file, column, claims) for column in columns] if rows else []
        if any(after.start < before.stop for before, after in pairwise(_in_place(chunks))):
            raise ExportError("two column chunks overlap")
        groups.append(_Group(fields, chunks, rows))
    rows = sum(group.rows for group in groups)
    if footer.get_int(_FILE_ROWS) != rows:
        raise ExportError(f"its row groups have {rows} rows, its footer says {footer.get_int(_FILE_ROWS)}")
    return footer, [group for group in groups if group.rows]


def _read_footer(file: BinaryIO) -> tuple[Struct, int]:
    """The footer, and where it begins."""
    head, size = file.read(4), file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if _MAGIC_ENCRYPTED in (head, tail[4:]):
        raise ExportError("it is encrypted")
    if size < 12 or head != _MAGIC or tail[4:] != _MAGIC:
        raise ExportError("it is no Parquet file, or it was cut off")
    start = size - 8 - int.from_bytes(tail[:4], "little")
    if start < 4:
        raise ExportError("its footer is longer than the file")
    file.seek(start)
    footer, end = decode(file.read(size - 8 - start))
    if end != size - 8 - start:
        raise ExportError("its footer has bytes that belong to nothing")
    return footer, start


def _read_chunk(file: BinaryIO, column: Struct, claims: _Claims) -> _Chunk:
    if _COLUMN_CRYPTO in column.fields or _COLUMN_ENCRYPTED in column.fields:
        raise ExportError("it is encrypted")
    if _COLUMN_PATH in column.fields:
        raise ExportError("it has only the footer, its columns are in other files")
    meta = column.get_struct(_COLUMN_META)
    pages = [meta.get_int(_META_DATA_PAGE)]
    dictionary = meta.find_int(_META_DICTIONARY_PAGE)
    if dictionary is not None and dictionary > 0:
        pages.append(dictionary)
    start = min(pages)
    stop = start + meta.get_int(_META_BYTES)
    claims.take(start, stop, "a column chunk")
    if max(pages) > stop:
        raise ExportError("a page lies outside its column chunk")
    place = _find_place(column, _COLUMN_INDEX, _COLUMN_INDEX_LENGTH, claims)
    column_index = read_between(file, *place) if place else b""
    place = _find_place(column, _OFFSET_INDEX, _OFFSET_INDEX_LENGTH, claims)
    offset_index = _read_offset_index(read_between(file, *place), start, stop) if place else None
    return _Chunk(column, meta, start, stop, _find_bloom(file, meta, claims), column_index, offset_index)


def _find_place(fields: Struct, offset: int, length: int, claims: _Claims) -> tuple[int, int] | None:
    """Start and stop of a page index. Where there is none its fields go, for they would point somewhere."""
    start, size = fields.find_int(offset), fields.find_int(length)
    if not start or not size:
        fields.drop(offset, length)
        return None
    claims.take(start, start + size, "a page index")
    return start, start + size


def _find_bloom(file: BinaryIO, meta: Struct, claims: _Claims) -> tuple[int, int] | None:
    start, size = meta.find_int(_META_BLOOM), meta.find_int(_META_BLOOM_LENGTH)
    if not start:
        meta.drop(_META_BLOOM, _META_BLOOM_LENGTH)
        return None
    if size is None:
        claims.take(start, start, "a Bloom filter")
        header, header_bytes = decode(read_between(file, start, min(claims.end, start + BLOOM_HEADER_BYTES_MAX)))
        size = header_bytes + header.get_int(_BLOOM_BYTES)
    claims.take(start, start + size, "a Bloom filter")
    return start, start + size


def _read_offset_index(data: bytes, start: int, stop: int) -> Struct:
    index, end = decode(data)
    if end != len(data):
        raise ExportError("an offset index has bytes that belong to nothing")
    if any(not start <= page.get_int(_PAGE_OFFSET) < stop for page in index.get_structs(_INDEX_PAGES)):
        raise ExportError("a page lies outside its column chunk")
    return index


# ── Moving ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _runs(chunks: list[_Chunk]) -> Iterator[list[_Chunk]]:
    """The chunks as they lie in the file, those without a gap between them together."""
    run: list[_Chunk] = []
    for chunk in _in_place(chunks):
        if run and chunk.start != run[-1].stop:
            yield run
            run = []
        run.append(chunk)
    if run:
        yield run


def _in_place(chunks: list[_Chunk]) -> list[_Chunk]:
    return sorted(chunks, key=lambda chunk: (chunk.start, chunk.stop))


def _shift_chunk(chunk: _Chunk) -> None:
    """Shift the offsets of the chunk's pages; its Bloom filter and page indexes have places of their own."""
    meta, shift = chunk.meta, chunk.shift
    meta.set_int(_META_DATA_PAGE, meta.get_int(_META_DATA_PAGE) + shift)
    for number in (_META_DICTIONARY_PAGE, _META_INDEX_PAGE):
        offset = meta.find_int(number)
        if offset is not None and chunk.start <= offset < chunk.stop:
            meta.set_int(number, offset + shift)
        elif offset is not None and offset > 0:
            # It points at something that has stayed behind.
            meta.drop(number)
    # Old writers put a second copy of the chunk's metadata there; it is not copied, for its offsets would be wrong.
    offset = chunk.column.find_int(_COLUMN_OFFSET) or 0
    if offset:
        inside = chunk.start <= offset < chunk.stop
        chunk.column.set_int(_COLUMN_OFFSET, offset + shift if inside else 0)
    if chunk.offset_index is not None:
        for page in chunk.offset_index.get_structs(_INDEX_PAGES):
            page.set_int(_PAGE_OFFSET, page.get_int(_PAGE_OFFSET) + shift)
