"""The plan of an export as values: what every segment's conversion depends on, decided once; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from windrow.common.codec import Between
from windrow.export.types import TEXT

PLAN_VERSION = 3

Count = Annotated[int, Between(0, (1 << 63) - 1)]
"""Of rows or bytes."""
PARTITIONS_MAX = 1000
"""Different values of the partition's column, unless another bound is asked for: each is a folder."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the source, as it was when it was planned."""

    url: str
    """A path or an fsspec URL; for a member of an archive the archive's, with `member`."""
    bytes: int
    version: str
    """Modification time in ns, or an object store's tag: another one means that the file has changed."""
    fingerprint: str
    """SHA-256 over size, and first and last 64 KiB."""
    member: str = ""
    compression: str = ""
    """`gzip`, `bz2`, `zip`, `zstd`, or empty."""
    columns: tuple[str, ...] = ()
    """Names of a CSV file's own columns, in its order."""
    sequential: bool = False
    """It can only be read from the beginning: a server gives it without ranges."""


@dataclass(frozen=True, slots=True)
class Form:
    """How bytes become rows, or rows bytes; one for all files of the source, one for the destination."""

    kind: str
    """`csv`, `jsonl` or `parquet`."""
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    """Empty: no quoting."""
    escape: str = ""
    """A character that takes the meaning from the next one; empty: quotes are doubled."""
    header: bool = True
    """A CSV source without one has columns c1, c2, …"""
    compression: str = ""
    """Of the destination: `gzip` or `zstd` for text; for Parquet the codec: `snappy`, `zstd`, `gzip` or `none`."""


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column of the source that is read."""

    index: int
    """Among the source's columns (the first file's; in other files the column is found by its name)."""
    name: str
    type: str = TEXT
    """`string`: as it stands."""
    cast: bool = False
    """The user has asked for the type; else the plan has found it, and only what it would itself write fits."""


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of the output."""

    index: int
    """Of the source's column."""
    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Steps:
    """What happens to rows, in this order: trim, empty_null, cast, where, drop_null, dedupe, limit, select."""

    trim: bool = False
    """White space goes from both ends of text values."""
    empty_null: bool = False
    """Empty text becomes null."""
    where: str = ""
    where_columns: tuple[int, ...] = ()
    drop_null: tuple[int, ...] = ()
    """A row with a null in any of these columns goes."""
    dedupe: tuple[int, ...] = ()
    """Of rows that are equal in these columns (nulls are equal) the first one in source order stays."""
    limit: int | None = None
    """So many rows that survive all of the above, the first ones in source order."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the rows go."""

    path: str
    """Or a URL, without a slash at its end."""
    folder: bool = False
    """The path is a folder, each segment a file in it."""
    partition: int | None = None
    """Index of the source's column by which rows are put into folders `name=value/`; only with `folder`."""
    force: bool = False
    manifest: bool = False
    """Leave a manifest beside the destination: rows, bytes and SHA-256 of each part."""
    partitions_max: int = PARTITIONS_MAX
    """In the whole export."""
    work_dir: str = ""
    """Where the work folder lies, where the path is a URL; else it lies beside it."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How many bad rows the whole job may have; they go to the side file."""

    rows: int | None = 0
    """None: any number."""
    percent: float | None = None
    """Of the rows read; given, `rows` is None."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Whole rows of one file. Text: bytes [start, stop). Parquet: row groups [start, stop)."""

    number: int
    """Counts through all files, in source order."""
    source: int
    """Which of the plan's sources."""
    start: int
    stop: int
    line: int = 1
    """Number of the first row's line (text), or of the first row (Parquet), from 1 on, in its file."""
    prepared: str = ""
    """Name of the file in the work folder that has these rows decompressed and in UTF-8; then start and stop are
    places in it, while `line` still counts in the source."""
    paired: bool = False
    """It was cut where the quotes before it and in it pair, so that nobody need count them again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a segment's conversion depends on besides its place in the source."""

    windrow: str
    """Version of Windrow: another one may write other bytes."""
    sources: tuple[Source, ...]
    read_form: Form
    columns: tuple[str, ...]
    """Names of the source's columns: of the first file, or the union of all."""
    read: tuple[ReadColumn, ...]
    output: tuple[OutputColumn, ...]
    steps: Steps
    write_form: Form
    dest: Destination
    errors: Errors
    segment_bytes: int
    spec: str = ""
    """What was asked, as canonical JSON without the options that change no byte (force, manifest): for resuming."""
    version: int = PLAN_VERSION

    @property
    def names(self) -> list[str]:
        """The output's column names."""
        return [column.name for column in self.output]

    @property
    def types(self) -> list[str]:
        """The output's column types."""
        return [column.type for column in self.output]

    @property
    def typed(self) -> list[ReadColumn]:
        """The columns that are more than text."""
        return [column for column in self.read if column.type != TEXT]


@dataclass(frozen=True, slots=True)
class Part:
    """A segment converted, as the converting task reports it and the part's receipt says."""

    segment: int
    files: tuple[str, ...]
    """Names in the work folder; one, or with partitions one for each value, or none where no row survived."""
    rows_in: Count
    rows: Count
    bad_rows: Count
    bytes: Count
    sha256: tuple[str, ...]
    """Of each file."""
    bad_file: str = ""
    """The part of the side file, where there are bad rows."""
    places: str = ""
    """Where its rows and the bad ones stand in the segment, where a limit may cut it (bad_places.py)."""
    skipped: bool = False
    """Behind the cut of a limit: not converted, because nobody needs it."""

    @property
    def is_sound(self) -> bool:
        """Whether each file has its sum, and none lies outside the work folder."""
        names = [*self.files, *filter(None, (self.bad_file, self.places))]
        return len(self.files) == len(self.sha256) and not any(
            "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")) for name in names
        )
