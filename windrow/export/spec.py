"""What an export is asked to do, parsed and checked as far as that goes without looking at the source."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError
from windrow.export.types import parse_type

FORMATS = {".csv": "csv", ".parquet": "parquet"}
SEGMENT_BYTES = 16 << 20
SEGMENT_BYTES_MAX = 1 << 30
"""pyarrow reads a segment as one block, which must stay well below 2 GiB."""


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """One export as asked for; the names are those of the command line (`format` is --to)."""

    source: str
    dest: str
    columns: tuple[str, ...] = ()
    """`name` or `name:new_name`, in the order of the output; empty for all."""
    where: str = ""
    cast: tuple[str, ...] = ()
    """`name:type`."""
    format: str = ""
    """`csv` or `parquet`; empty: by the ending of `dest`."""
    delimiter: str = ""
    """Of the source; empty: found in the header line."""
    force: bool = False
    segment_bytes: int = SEGMENT_BYTES


@dataclass(frozen=True, slots=True)
class Cast:
    """A column to be given a type."""

    column: str
    type: str


_decode: Callable[[object], ExportSpec] = decoder_for(ExportSpec)


def spec_to_dict(spec: ExportSpec) -> dict[str, object]:
    """The spec as it travels in an item."""
    plain: dict[str, object] = to_plain(spec)
    return plain


def spec_from_dict(data: object) -> ExportSpec:
    """The spec from an item."""
    return _decode(data)


def make_spec(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    columns: str | Sequence[str] | Mapping[str, str] = (),
    where: str = "",
    cast: str | Sequence[str] | Mapping[str, str] = (),
    to: str = "",
    delimiter: str = "",
    force: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
) -> ExportSpec:
    """A checked spec with absolute paths. Lists may be given as text (`a,b:new`), as sequences or as mappings."""
    spec = ExportSpec(
        source=_absolute(source),
        dest=_absolute(dest),
        columns=_entries(columns),
        where=where.strip(),
        cast=_entries(cast),
        format=to,
        delimiter=delimiter,
        force=force,
        segment_bytes=segment_bytes,
    )
    return check_spec(spec)


def check_spec(spec: ExportSpec) -> ExportSpec:
    """The spec with format and paths decided; ExportError for whatever is wrong without a look at the source."""
    if not spec.source or not spec.dest:
        raise ExportError("an export needs a source and a destination")
    if spec.dest.endswith("/"):
        raise ExportError(f"{spec.dest} is a folder: name the file to write, e.g. {spec.dest}out.parquet")
    delimiter = "\t" if spec.delimiter == "\\t" else spec.delimiter
    if delimiter and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
        raise ExportError(f"--delimiter {spec.delimiter!r}: one ASCII character, neither a quote nor a line end")
    if not 1 <= spec.segment_bytes <= SEGMENT_BYTES_MAX:
        raise ExportError(f"segment_bytes={spec.segment_bytes}: must be between 1 and {SEGMENT_BYTES_MAX}")
    parse_casts(spec.cast)
    if any(not entry.strip() for entry in spec.columns):
        raise ExportError("--columns has an empty name: give names like --columns a,b:new_name")
    return ExportSpec(
        source=_absolute(spec.source),
        dest=_absolute(spec.dest),
        columns=spec.columns,
        where=spec.where.strip(),
        cast=spec.cast,
        format=decide_format(spec.dest, spec.format),
        delimiter=delimiter,
        force=spec.force,
        segment_bytes=spec.segment_bytes,
    )


def decide_format(dest: str, asked: str) -> str:
    """`csv` or `parquet`, as asked or by the ending of the destination."""
    if asked:
        name = asked.strip().lower().lstrip(".")
        if name not in FORMATS.values():
            raise ExportError(f"--to {asked}: there are {' and '.join(FORMATS.values())}")
        return name
    ending = PurePath(dest).suffix.lower()
    if ending not in FORMATS:
        shown = f"ends in {ending}" if ending else "has no ending"
        raise ExportError(
            f"{PurePath(dest).name} {shown}: end it in {' or '.join(FORMATS)}, or say --to csv or --to parquet"
        )
    return FORMATS[ending]


def parse_casts(entries: Sequence[str]) -> tuple[Cast, ...]:
    """Casts from `name:type`; ExportError names the known types."""
    casts: list[Cast] = []
    for entry in entries:
        column, colon, kind = entry.rpartition(":")
        if not colon or not column or not kind.strip():
            raise ExportError(f"--cast {entry!r}: write it as column:type, e.g. --cast price:float64")
        casts.append(Cast(column, parse_type(kind)))
    names = [cast.column for cast in casts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ExportError(f"--cast names column {twice!r} twice: give it one type")
    return tuple(casts)


def split_list(text: str) -> tuple[str, ...]:
    """The entries of `a,b:new`; a name with a comma is put in double quotes, brackets keep theirs (`decimal(9,2)`)."""
    if not text.strip():
        return ()
    entries: list[str] = []
    for part in next(csv.reader([text], skipinitialspace=True)):
        if entries and entries[-1].count("(") > entries[-1].count(")"):
            entries[-1] += "," + part
        else:
            entries.append(part)
    return tuple(entry.strip() for entry in entries)


def _entries(given: str | Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    if isinstance(given, str):
        return split_list(given)
    if isinstance(given, Mapping):
        return tuple(f"{name}:{value}" if value else name for name, value in given.items())
    return tuple(given)


def _absolute(path: str | os.PathLike[str]) -> str:
    # Nodes run in other folders than the client. Symbolic links stay: what they point to is the nodes' to see.
    text = os.fspath(path)
    if not text:
        return ""
    # The slash at the end says that a folder is meant.
    slash = "/" if text.endswith("/") and text.strip("/") else ""
    return os.path.abspath(os.path.expanduser(text)) + slash
