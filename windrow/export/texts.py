"""Takes the options of an export apart as users write them: lists, casts, limits, formats, compressions; pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from windrow.common.errors import ExportError
from windrow.export.model import Errors
from windrow.export.types import parse_type

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
}  # fmt: skip
"""Ending → format."""
FORMATS = ("csv", "jsonl", "parquet")
TEXT_COMPRESSIONS = ("none", "gzip", "zstd")
PARQUET_COMPRESSIONS = ("none", "snappy", "gzip", "zstd")
PARQUET_DEFAULT = "snappy"
INFER = ("sample", "full", "none")

_PACKED = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_OTHER_FORMATS = {"ndjson": "jsonl", "json": "jsonl", "tsv": "csv", "pq": "parquet"}
_OTHER_COMPRESSIONS = {"gz": "gzip", "zst": "zstd", "": "", "uncompressed": "none"}
_NAMED_MARKS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "backslash": "\\"}


@dataclass(frozen=True, slots=True)
class Cast:
    """A column to be given a type."""

    column: str
    type: str


def split_list(text: str) -> tuple[str, ...]:
    """The entries of `a,b:new`; a name with a comma is put in double quotes, brackets keep theirs (`decimal(9,2)`)."""
    if not text.strip():
        return ()
    entries: list[str] = []
    if re.search(r'(^|,)\s*"', text) and text.count('"') % 2:
        raise ExportError(f"the list {text} has a quote that is not closed: put names with a comma in double quotes")
    parts = next(csv.reader([text], skipinitialspace=True))
    for part in parts:
        if entries and entries[-1].count("(") > entries[-1].count(")"):
            entries[-1] += "," + part
        else:
            entries.append(part)
    return tuple(entry.strip() for entry in entries)


def entries_of(given: str | Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    """The entries of a list that is given as text, as a sequence of names, or as a mapping name → value."""
    if isinstance(given, str):
        return split_list(given)
    if isinstance(given, Mapping):
        return tuple(f"{name}:{value}" if value else name for name, value in given.items())
    return tuple(given)


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


def parse_errors(text: str) -> Errors:
    """How many bad rows there may be, from `12`, `0.5%` or `all`."""
    asked = text.strip().lower()
    if asked == "all":
        return Errors(None, None)
    if re.fullmatch(r"\d{1,15}", asked):
        return Errors(int(asked), None)
    if re.fullmatch(r"\d{1,3}(\.\d+)?\s*%", asked) and float(asked.rstrip("% ")) <= 100:
        return Errors(None, float(asked.rstrip("% ")))
    raise ExportError(f"--max-errors {text}: a number of rows, a percentage like 0.5%, or all")


def parse_mark(text: str, option: str, *, none: bool) -> str:
    """One ASCII character, as itself or by its name; empty for `none`, where that may be."""
    if none and text.lower() in ("none", ""):
        return ""
    mark = _NAMED_MARKS.get(text.lower(), text)
    if len(mark) != 1 or not mark.isascii() or mark in "\0\r\n":
        raise ExportError(f"{option} {text!r}: one ASCII character and no line end{', or none' if none else ''}")
    return mark


def check_marks(delimiter: str, quote: str, escape: str, prefix: str = "--") -> None:
    """ExportError where two of the marks (empty: none, or not yet known) are the same character."""
    marks = [("delimiter", delimiter), ("quote", quote), ("escape", escape)]
    for at, (name, mark) in enumerate(marks):
        for other, same in marks[at + 1 :]:
            if mark and mark == same:
                raise ExportError(
                    f"{prefix}{name} and {prefix}{other} are both {mark!r}: give two different characters"
                )


def decide_format(dest: str, asked: str) -> str:
    """`csv`, `jsonl` or `parquet`, as asked or by the ending of the destination."""
    if asked:
        name = asked.strip().lower().lstrip(".")
        name = _OTHER_FORMATS.get(name, name)
        if name not in FORMATS:
            raise ExportError(f"--to {asked}: there are {', '.join(FORMATS)}")
        return name
    if dest.endswith("/"):
        raise ExportError(f"{dest} is a folder: say what to write into it with --to csv, --to jsonl or --to parquet")
    path = PurePath(dest)
    ending = path.suffix.lower()
    if ending in _PACKED:
        ending = PurePath(path.stem).suffix.lower()
    if ending not in KINDS:
        shown = f"ends in {ending}" if ending else "has no ending"
        raise ExportError(f"{path.name} {shown}: end it in {', '.join(KINDS)}, or say --to csv, jsonl or parquet")
    return KINDS[ending]


def decide_compression(dest: str, kind: str, asked: str) -> str:
    """How the destination is compressed: as asked, by its ending, or as its format is by default; empty: not at all."""
    name = asked.strip().lower()
    name = _OTHER_COMPRESSIONS.get(name, name)
    by_ending = "" if dest.endswith("/") else _PACKED.get(PurePath(dest).suffix.lower(), "")
    if kind == "parquet":
        if by_ending:
            raise ExportError(
                f"{PurePath(dest).name}: a Parquet file is compressed inside; end it in .parquet and say "
                f"--compression {by_ending}"
            )
        if name and name not in PARQUET_COMPRESSIONS:
            raise ExportError(f"--compression {asked}: for Parquet there are {', '.join(PARQUET_COMPRESSIONS)}")
        return name or PARQUET_DEFAULT
    if name and name not in TEXT_COMPRESSIONS:
        raise ExportError(f"--compression {asked}: for {kind} there are {', '.join(TEXT_COMPRESSIONS)}")
    found = name or by_ending
    return "" if found == "none" else found


def writes_tabs(dest: str) -> bool:
    """Whether the destination's ending says that tabs stand between the fields."""
    path = PurePath(dest)
    ending = path.suffix.lower()
    return (PurePath(path.stem).suffix.lower() if ending in _PACKED else ending) in (".tsv", ".tab")
