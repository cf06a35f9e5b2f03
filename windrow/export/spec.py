"""What an export is asked to do, parsed and checked as far as that goes without looking at the source."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError
from windrow.export.locations import is_url, local_path, shown
from windrow.export.model import PARTITIONS_MAX
from windrow.export.objects import check_scheme
from windrow.export.texts import (
    INFER,
    check_marks,
    decide_compression,
    decide_format,
    entries_of,
    parse_casts,
    parse_errors,
    parse_mark,
    writes_tabs,
)

SEGMENT_BYTES = 16 << 20
SEGMENT_BYTES_MAX = 1 << 30
"""pyarrow reads a segment as one block, which must stay well below 2 GiB."""

_CHANGES_NO_PART = ("dest", "force", "manifest", "max_errors", "max_partitions", "work_dir")


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
    """`csv`, `jsonl` or `parquet`; empty: by the ending of `dest`."""
    delimiter: str = ""
    """Of the source; empty: found in the header line."""
    quote: str = '"'
    """Of the source; empty: no quoting."""
    escape: str = ""
    """Of the source; empty: none, quotes are doubled."""
    header: bool | None = None
    """Whether the source's first line holds the column names; None: by the look of it."""
    encoding: str = ""
    """Of the source; empty: found."""
    infer: str = "sample"
    """How types are found: `sample`, `full` or `none`."""
    trim: bool = False
    empty_null: bool = False
    drop_null: tuple[str, ...] = ()
    dedupe_by: tuple[str, ...] = ()
    limit: int | None = None
    max_errors: str = "0"
    """`12`, `0.5%` or `all`."""
    compression: str = ""
    """Of the destination; empty: by its ending, for Parquet `snappy`."""
    to_encoding: str = ""
    """Of the destination; empty: UTF-8."""
    to_delimiter: str = ""
    """Of the destination; empty: a comma, or a tab where it ends in .tsv."""
    partition_by: str = ""
    """The column whose values become folders."""
    max_partitions: int = PARTITIONS_MAX
    """So many different values it may have."""
    manifest: bool = False
    force: bool = False
    segment_bytes: int = SEGMENT_BYTES
    work_dir: str = ""
    """Where parts lie until they are uploaded; only where the destination is a URL."""


class SpecOptions(TypedDict, total=False):
    """The options of an export by the names of the command line; lists as text (`a,b:new`), sequence or mapping."""

    columns: str | Sequence[str] | Mapping[str, str]
    where: str
    cast: str | Sequence[str] | Mapping[str, str]
    to: str
    delimiter: str
    quote: str | None
    escape: str | None
    header: bool | None
    encoding: str
    infer: str
    trim: bool
    empty_null: bool
    drop_null: str | Sequence[str]
    dedupe_by: str | Sequence[str]
    limit: int | None
    max_errors: str | int
    compression: str
    to_encoding: str
    to_delimiter: str
    partition_by: str
    max_partitions: int
    manifest: bool
    force: bool
    segment_bytes: int
    work_dir: str


_decode: Callable[[object], ExportSpec] = decoder_for(ExportSpec)
_LISTS = ("columns", "cast", "drop_null", "dedupe_by")
_FLAGS = ("trim", "empty_null", "manifest", "force")
_NUMBERS = ("limit", "max_partitions", "segment_bytes")
_NAMES = frozenset(SpecOptions.__annotations__)


def spec_to_dict(spec: ExportSpec) -> dict[str, object]:
    """The spec as it travels in an item."""
    plain: dict[str, object] = to_plain(spec)
    return plain


def spec_from_dict(data: object) -> ExportSpec:
    """The spec from an item."""
    return _decode(data)


def canonical_spec(spec: ExportSpec) -> str:
    """What was asked, as JSON with sorted keys, without the options that change no part (force, manifest, …)."""
    plain = {name: value for name, value in spec_to_dict(spec).items() if name not in _CHANGES_NO_PART}
    return json.dumps(plain, sort_keys=True, ensure_ascii=False)


def make_spec(
    source: str | os.PathLike[str], dest: str | os.PathLike[str], **options: Unpack[SpecOptions]
) -> ExportSpec:
    """A checked spec with absolute paths, from options as Python or the command line give them."""
    return spec_from_options({"source": os.fspath(source), "dest": os.fspath(dest), **options})


def spec_from_options(given: Mapping[str, object]) -> ExportSpec:
    """A checked spec from options by their names, `source` and `dest` among them; ExportError for unknown ones."""
    fields: dict[str, Any] = {"source": "", "dest": ""}
    for name, value in given.items():
        if name not in _NAMES and name not in ("source", "dest"):
            known = ", ".join(sorted(_NAMES))
            raise ExportError(f"an export has no option {name!r}: there are {known}")
        fields["format" if name == "to" else name] = _checked(name, value)
    return check_spec(ExportSpec(**fields))


def read_spec_file(path: str | os.PathLike[str]) -> dict[str, object]:
    """The options in a TOML file: source, dest and the names of the flags, with `-` or `_`; flags beat them."""
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(f"--spec {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"--spec {path} is no TOML file: {error}") from None
    found = {name.replace("-", "_"): value for name, value in data.items()}
    for name in found:
        if name not in _NAMES and name not in ("source", "dest"):
            raise ExportError(f"--spec {path}: there is no option {name!r}; it has source, dest and the flags' names")
    return found


def _checked(name: str, value: object) -> object:
    """The field's value; ExportError where it has another kind."""
    option = f"--{name.replace('_', '-')}"
    if name in _LISTS:
        if not isinstance(value, str | Mapping | Sequence):
            raise ExportError(f"{option} {value!r}: give names, as text or as a list")
        entries = entries_of(cast("str | Sequence[str] | Mapping[str, str]", value))
        # On the command line --cast may be given several times, with several casts each.
        return tuple(part for entry in entries for part in (entries_of(entry) if name == "cast" else (entry,)))
    if name in _FLAGS or name == "header":
        if not isinstance(value, bool) and not (name == "header" and value is None):
            raise ExportError(f"{option} {value!r}: true or false")
        return value
    if name in _NUMBERS:
        if (isinstance(value, bool) or not isinstance(value, int)) and not (name == "limit" and value is None):
            raise ExportError(f"{option} {value!r}: a whole number")
        return value
    if name == "max_errors" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None and name in ("quote", "escape"):
        return ""
    if not isinstance(value, str):
        raise ExportError(f"{option} {value!r}: give text")
    return value


def check_spec(spec: ExportSpec) -> ExportSpec:
    """The spec with formats and paths decided; ExportError for what is wrong without a look at the source."""
    if not spec.source or not spec.dest:
        raise ExportError("an export needs a source and a destination")
    _check_work_dir(spec)
    delimiter = parse_mark(spec.delimiter, "--delimiter", none=False) if spec.delimiter else ""
    quote = parse_mark(spec.quote, "--quote", none=True)
    escape = parse_mark(spec.escape, "--escape", none=True)
    escape = "" if escape == quote else escape  # A quote that escapes itself is a quote that is doubled.
    check_marks(delimiter, quote, escape)
    if not 1 <= spec.segment_bytes <= SEGMENT_BYTES_MAX:
        raise ExportError(f"segment_bytes={spec.segment_bytes}: must be between 1 and {SEGMENT_BYTES_MAX}")
    parse_casts(spec.cast)
    parse_errors(spec.max_errors)
    for option, names in (
        ("--columns", spec.columns),
        ("--drop-null", spec.drop_null),
        ("--dedupe-by", spec.dedupe_by),
    ):
        if any(not entry.strip() for entry in names):
            raise ExportError(f"{option} has an empty name: give names like {option} a,b")
    if spec.infer not in INFER:
        raise ExportError(f"--infer {spec.infer}: there are {', '.join(INFER)}")
    if spec.limit is not None and spec.limit < 0:
        raise ExportError(f"--limit {spec.limit}: a number of rows, 0 or more")
    if spec.max_partitions < 1:
        raise ExportError(f"--max-partitions {spec.max_partitions}: a number of folders, 1 or more")
    kind = decide_format(spec.dest, spec.format)
    made = dataclasses.replace(
        spec,
        source=_absolute(spec.source),
        dest=_absolute(spec.dest),
        work_dir=spec.work_dir and _absolute(spec.work_dir),
        where=spec.where.strip(),
        format=kind,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        compression=decide_compression(spec.dest, kind, spec.compression) or "none",
    )
    return _check_destination(made)


def _check_destination(spec: ExportSpec) -> ExportSpec:
    """The rules of what is written."""
    folder = spec.dest.endswith("/")
    if spec.partition_by and not folder:
        raise ExportError(f"--partition-by makes folders: end the destination in a slash, {spec.dest}/")
    to_encoding, to_delimiter = spec.to_encoding, spec.to_delimiter
    if spec.format != "csv" and to_delimiter:
        raise ExportError(f"--to-delimiter is for CSV; the destination is {spec.format}")
    if spec.format == "parquet" and to_encoding:
        raise ExportError("--to-encoding is for text; a Parquet file is always UTF-8 inside")
    if spec.format == "csv":
        to_delimiter = parse_mark(
            to_delimiter or ("tab" if writes_tabs(spec.dest) else ","), "--to-delimiter", none=False
        )
        check_marks(to_delimiter, '"', "", "--to-")
    return dataclasses.replace(spec, to_encoding=to_encoding, to_delimiter=to_delimiter)


def with_date(spec: ExportSpec, started_s: float) -> ExportSpec:
    """The spec with {date} in the destination replaced by the day (UTC) on which the export starts: 2026-11-21."""
    day = time.strftime("%Y-%m-%d", time.gmtime(started_s))
    return dataclasses.replace(spec, dest=spec.dest.replace("{date}", day))


def _check_work_dir(spec: ExportSpec) -> None:
    if spec.work_dir and is_url(spec.work_dir):
        raise ExportError(f"--work-dir {shown(spec.work_dir)} is a URL: give a folder that every node sees")
    if not is_url(spec.dest):
        if spec.work_dir:
            raise ExportError("--work-dir is for a destination that is a URL: for a path, parts lie beside it")
        return
    check_scheme(spec.dest)
    if not spec.work_dir:
        raise ExportError(
            f"{shown(spec.dest)} is a URL: give --work-dir, a folder that every node sees, for parts until the upload"
        )


def _absolute(path: str) -> str:
    # Nodes run in other folders than the client. Symbolic links stay: what they point to is the nodes' to see.
    if not path or is_url(path):
        return path
    path = local_path(path) or path
    # The slash at the end says that a folder is meant.
    slash = "/" if path.endswith("/") and path.strip("/") else ""
    return os.path.abspath(os.path.expanduser(path)) + slash
