"""Looks at the sources of an export: which files, of what format, compression, encoding and dialect, with what columns.

Only the beginning of each file and samples of it are read. What the options say is taken at its word; what they leave
open is found, and must be the same for all files.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from windrow.common.errors import ExportError
from windrow.export.compression import HEAD_BYTES, PLAIN, ZIP, check_plain, detect_compression, find_members, open_plain
from windrow.export.dialect import LINES, Dialect, find_row_end
from windrow.export.encoding import (
    UTF8,
    Detected,
    codec_of,
    detect_encoding,
    is_scannable,
    parse_encoding,
    resolve_encoding,
    take_samples,
    to_utf8,
)
from windrow.export.locations import file_name
from windrow.export.model import Form, Source
from windrow.export.spec import ExportSpec
from windrow.export.storage import SourceFile, find_sources, fingerprint, open_source, read_range
from windrow.export.texts import check_marks

SAMPLE_BYTES = 64 << 10
STREAM_SAMPLE_BYTES = 4 << 20
"""Plain bytes of a compressed source that its encoding is found from."""
HEADER_BYTES_MAX = 16 << 20

_DELIMITERS = (",", "\t", ";", "|")
_PACKED = (".gz", ".gzip", ".bz2", ".zst", ".zstd", ".zip")
_DECIMAL_OR_DATE = re.compile(
    r"[+-]?\d*\.\d+([eE][+-]?\d+)?|-\d+|\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}"
)
_WHOLE = re.compile(r"\d+")
_YEARS = range(1800, 2200)


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the rows of one file."""

    start: int
    """Offset of the first row, in the bytes that are scanned: the file's, or those of the prepared text."""
    line: int
    """The line in which the first row begins."""


@dataclass(frozen=True, slots=True)
class Found:
    """The sources as they are."""

    sources: tuple[Source, ...]
    form: Form
    heads: tuple[Head, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Text:
    """A text source at the first look."""

    source: Source
    head: bytes
    """Its first plain bytes, not decoded."""
    samples: tuple[tuple[int, bytes], ...]
    whole: bool
    """`head` is all there is."""


def dialect_of(form: Form) -> Dialect:
    """How the rows of text in this form are marked."""
    return LINES if form.kind == "jsonl" else Dialect(form.delimiter, form.quote or None, form.escape or None)


def name_of(source: Source) -> str:
    """For messages."""
    name = file_name(source.url)
    return f"{source.member} in {name}" if source.member else name


def is_prepared(source: Source, form: Form) -> bool:
    """Whether its bytes cannot be cut as they are, and are first made into plain UTF-8 in the work folder."""
    return form.kind != "parquet" and (
        bool(source.compression) or source.sequential or not is_scannable(form.encoding, dialect_of(form))
    )


def look_at(spec: ExportSpec) -> Found:
    """Find the sources and what they are; ExportError where that cannot be told, or they do not fit together."""
    files = find_sources(spec.source)
    sources = [source for file in files for source in _members(file)]
    kinds = [_kind_of(source) for source in sources]
    if len(set(kinds)) > 1:
        other = next(at for at, kind in enumerate(kinds) if kind != kinds[0])
        raise ExportError(
            f"{name_of(sources[0])} is {kinds[0]} and {name_of(sources[other])} is {kinds[other]}: export them apart"
        )
    if kinds[0] == "parquet":
        return Found(tuple(sources), Form("parquet"), ())
    texts = [_first_look(source) for source in sources]
    encoding, marks = _find_encoding(texts, spec)
    form = Form(kinds[0], encoding, delimiter=",", quote="" if kinds[0] == "jsonl" else spec.quote, escape=spec.escape)
    if form.kind == "jsonl":
        heads = [
            Head(0 if is_prepared(text.source, form) else mark, 1) for text, mark in zip(texts, marks, strict=True)
        ]
        return Found(tuple(sources), form, tuple(heads))
    return _look_at_headers(texts, marks, form, spec)


def _members(file: SourceFile) -> list[Source]:
    """The file as sources: a zip archive is one for each of its files."""
    head = read_range(file.url, 0, min(HEAD_BYTES, file.bytes))
    sha256 = fingerprint(file).sha256
    if head.startswith(b"PAR1"):
        _check_ranges(file, "Parquet")
        return [Source(file.url, file.bytes, file.version, sha256)]
    compression = detect_compression(head, file.name)
    if compression != ZIP:
        packed = "" if compression == PLAIN else compression
        return [Source(file.url, file.bytes, file.version, sha256, compression=packed, sequential=file.sequential)]
    _check_ranges(file, "a zip archive")
    with open_source(file.url) as raw:
        members = find_members(raw, file.name)
    return [Source(file.url, file.bytes, file.version, sha256, member.name, ZIP) for member in members]


def _check_ranges(file: SourceFile, what: str) -> None:
    if file.sequential:
        raise ExportError(
            f"the server of {file.name} gives no ranges, and {what} is not read from the beginning to the end: "
            "download it first"
        )


def _kind_of(source: Source) -> str:
    """`csv`, `jsonl` or `parquet`, by the name, else by the first bytes."""
    path = PurePath(source.member or file_name(source.url))
    ending = path.suffix.lower()
    if not source.member and ending in _PACKED:
        ending = PurePath(path.stem).suffix.lower()
    head = plain_head(source, HEAD_BYTES)
    if head.startswith(b"PAR1"):
        if source.compression:
            raise ExportError(f"{name_of(source)} is a Parquet file inside a compressed one: unpack it first")
        return "parquet"
    if ending == ".parquet":
        raise ExportError(f"{name_of(source)} is called .parquet and is no Parquet file: check that it is whole")
    if ending in (".jsonl", ".ndjson"):
        return "jsonl"
    if ending == ".json":
        if head.lstrip().startswith(b"["):
            raise ExportError(f"{name_of(source)} is one JSON array: make it JSON Lines first, e.g. with jq -c '.[]'")
        return "jsonl"
    return (
        "jsonl"
        if ending not in (".csv", ".tsv", ".tab") and head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b'{"')
        else "csv"
    )


def plain_head(source: Source, size: int) -> bytes:
    """The first plain bytes of a source; fewer only where there are no more."""
    if not source.compression:
        return read_range(source.url, 0, min(size, source.bytes))
    with (
        open_source(source.url, sequential=source.sequential) as raw,
        open_plain(raw, name_of(source), compression=source.compression, member=source.member) as stream,
    ):
        head = b""
        while len(head) < size and (more := stream.read(size - len(head))):
            head += more
    check_plain(head[:HEAD_BYTES], name_of(source))
    return head


def _first_look(source: Source) -> _Text:
    if source.compression or source.sequential:
        head = plain_head(source, STREAM_SAMPLE_BYTES)
        return _Text(source, head[:HEADER_BYTES_MAX], ((0, head),), len(head) < STREAM_SAMPLE_BYTES)
    samples = take_samples(lambda at, length: read_range(source.url, at, min(at + length, source.bytes)), source.bytes)
    whole = len(samples) == 1
    return _Text(source, samples[0][1], tuple(samples), whole)


def _find_encoding(texts: Sequence[_Text], spec: ExportSpec) -> tuple[str, list[int]]:
    """The encoding of all files, and the length of the byte order mark of each."""
    if spec.encoding:
        given = parse_encoding(spec.encoding)
        found = [resolve_encoding(given, text.head[:HEAD_BYTES], name_of(text.source)) for text in texts]
    else:
        found = [_detect(text) for text in texts]
    # Plain ASCII is text in every encoding but UTF-16.
    telling = [
        (one.encoding, text)
        for one, text in zip(found, texts, strict=True)
        if one.encoding != UTF8 or not all(data.isascii() for _, data in text.samples)
    ]
    first = telling[0] if telling else (UTF8, texts[0])
    other = next(((encoding, text) for encoding, text in telling if encoding != first[0]), None)
    if other is not None:
        raise ExportError(
            f"{name_of(first[1].source)} looks like {first[0]} and {name_of(other[1].source)} like {other[0]}: "
            "give the encoding of all with --encoding, or export them apart"
        )
    return first[0], [one.bom_bytes for one in found]


def _detect(text: _Text) -> Detected:
    return detect_encoding(text.samples, name_of(text.source), whole=text.whole)


def _look_at_headers(texts: Sequence[_Text], marks: Sequence[int], form: Form, spec: ExportSpec) -> Found:
    lines = [_first_line(text, mark, form) for text, mark in zip(texts, marks, strict=True)]
    shown = [line.text for line in lines]
    delimiter = spec.delimiter or _find_delimiter(next(filter(None, shown), ""), spec.quote)
    check_marks(delimiter, spec.quote, spec.escape)
    form = dataclasses.replace(form, delimiter=delimiter)
    rows = [_fields(line, form, name_of(text.source)) for line, text in zip(shown, texts, strict=True)]
    _check_delimiter(shown, rows, texts, form)
    first = next((row for row in rows if row), list[str]())
    header = spec.header if spec.header is not None else not _looks_like_data(first)
    notes: tuple[str, ...] = ()
    if spec.header is None and not header:
        notes = ("the first line looks like data, so the columns are called c1, c2, …: --header if it has names",)
    form = dataclasses.replace(form, header=header)
    heads: list[Head] = []
    sources: list[Source] = []
    for line, row, text in zip(lines, rows, texts, strict=True):
        names = tuple(row) if header else tuple(f"c{number}" for number in range(1, len(row) + 1))
        sources.append(dataclasses.replace(text.source, columns=names))
        heads.append(_head(line, text, form, line.stop if header else line.start))
    return Found(tuple(sources), form, tuple(heads), notes)


def _head(line: _Line, text: _Text, form: Form, at: int) -> Head:
    """The head of a file whose rows begin at byte `at` of what the line was found in."""
    before = line.data[line.mark : at]
    if line.encoding == form.encoding and is_prepared(text.source, form):
        before = to_utf8(before, form.encoding, name=name_of(text.source))
        at = len(before)
    return Head(at, 1 + before.count(b"\n"))


@dataclass(frozen=True, slots=True)
class _Line:
    """The first line with something in it."""

    text: str
    """Empty where there is none."""
    data: bytes
    """The beginning of the file, in `encoding`, that it was found in."""
    encoding: str
    mark: int
    """Bytes of the byte order mark before it."""
    start: int
    stop: int


def _first_line(text: _Text, mark: int, form: Form) -> _Line:
    name = name_of(text.source)
    data, encoding = text.head, form.encoding
    if encoding.startswith("utf-16"):
        # Line ends are looked for as ASCII bytes; such a source is prepared anyway.
        data, encoding, mark = data[mark:].decode(codec_of(encoding), "ignore").encode(), UTF8, 0
    # The delimiter is not known yet, and means nothing for row ends.
    dialect = Dialect(";" if form.quote == "," else ",", form.quote or None, form.escape or None)
    start = mark
    while (end := find_row_end(data, start, dialect)) >= 0 and not data[start:end].strip(b"\r\n"):
        start = end
    if end < 0:
        end = len(data)
        if not text.whole and data:
            raise ExportError(
                f"{name} has no line end in its first {end} bytes: it is no CSV file, or its quotes do not pair"
            )
    line = data[start:end]
    if not line.strip(b"\r\n"):
        return _Line("", data, encoding, mark, end, end)
    try:
        return _Line(line.decode(codec_of(encoding)), data, encoding, mark, start, end)
    except UnicodeDecodeError:
        raise ExportError(f"the header of {name} is not {form.encoding}: say what it is with --encoding") from None


def _fields(line: str, form: Form, name: str) -> list[str]:
    """The fields of one line."""
    if not line:
        return []
    reader = csv.reader(
        io.StringIO(line, newline=""),
        delimiter=form.delimiter,
        quotechar=form.quote or None,
        quoting=csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE,
        doublequote=not form.escape,
        escapechar=form.escape or None,
    )
    try:
        return next(reader)
    except (csv.Error, StopIteration) as error:
        raise ExportError(f"the header of {name} cannot be read: {error}") from None


def _find_delimiter(header: str, quote: str) -> str:
    """The one that stands most often outside quotes in the header; a comma where none does."""
    outside = "".join(header.split(quote)[::2]) if quote else header
    return max(_DELIMITERS, key=outside.count)


def _check_delimiter(lines: Sequence[str], rows: Sequence[list[str]], texts: Sequence[_Text], form: Form) -> None:
    """ExportError where one file has one column only because another character stands between its fields."""
    wide = next((at for at, row in enumerate(rows) if len(row) > 1), None)
    if wide is None:
        return
    for at, row in enumerate(rows):
        other = _find_delimiter(lines[at], form.quote)
        if len(row) == 1 and other != form.delimiter and other in lines[at]:
            raise ExportError(
                f"{name_of(texts[wide].source)} has {form.delimiter!r} between its fields and "
                f"{name_of(texts[at].source)} {other!r}: export them apart"
            )


def _looks_like_data(fields: Sequence[str]) -> bool:
    """Whether the first line is a row rather than names: it has decimals or dates, or numbers that are no years."""
    if not fields or len(set(fields)) < len(fields):
        return bool(fields) and any(_DECIMAL_OR_DATE.fullmatch(field.strip()) for field in fields)
    whole = [int(field) for field in fields if _WHOLE.fullmatch(field.strip()) and len(field) < 18]
    counted = whole in (list(range(len(whole))), list(range(1, len(whole) + 1)))
    numbers = [number for number in whole if number not in _YEARS]
    return any(_DECIMAL_OR_DATE.fullmatch(field.strip()) for field in fields) or (bool(numbers) and not counted)
