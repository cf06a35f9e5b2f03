"""How commands print: tables (Rich on a terminal, aligned plain text elsewhere), JSON, and numbers for people."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import click

from windrow.common.redact import redact_url
from windrow.common.texts import counted


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    """Numbers stand to the right."""
    keep: bool = False
    """Never cut on a narrow terminal: ids are copied from there."""


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A table on standard output; `empty` on standard error where there are no rows."""
    lines = [[printable(cell) for cell in row] for row in rows]
    if not lines:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _print_rich(columns, lines)
    else:
        _print_plain(columns, lines)


def _print_rich(columns: Sequence[Column], lines: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=column.keep, overflow="fold"
        )
    for line in lines:
        # Text, not str: a name with [brackets] must not be read as markup.
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
    Console().print(table)


_STYLES = {
    "done": "green",
    "alive": "green",
    "ok": "green",
    "failed": "red",
    "bad": "red",
    "lost": "red",
    "running": "cyan",
    "draining": "yellow",
    "cancelled": "yellow",
    "unknown": "yellow",
}


def _print_plain(columns: Sequence[Column], lines: list[list[str]]) -> None:
    table = [[column.title for column in columns], *lines]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {printable(value)}".rstrip())


def print_json(value: object) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False))


def note(text: str) -> None:
    """A line for people, on standard error."""
    click.echo(printable(text), err=True)


def to_json(value: object) -> Any:
    """Whatever a task may return, or one of our dataclasses, as JSON can say it; what it cannot say as its repr."""
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        table = cast("Mapping[object, object]", value)
        return {key if isinstance(key, str) else _name(key): to_json(entry) for key, entry in table.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in cast("Sequence[object]", value)]
    if isinstance(value, set | frozenset):
        # Sorted by text, so that the same set prints the same line.
        return sorted((to_json(entry) for entry in cast("frozenset[object]", value)), key=repr)
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _name(value)


def _name(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    if callable(isoformat):
        return str(isoformat())
    return repr(value) if isinstance(value, bytes) else str(value)


def printable(text: str) -> str:
    """`text` on one line, without passwords and without what would steer the terminal."""
    if text.isprintable() and "://" not in text:
        return text
    clean = "".join(sign if sign.isprintable() else sign.encode("unicode_escape", "replace").decode() for sign in text)
    return redact_url(clean)


def numbered(number: int | None, one: str, many: str) -> str:
    """`1 item`, `1,234 items`, `? items`."""
    return counted(2 if number is None else number, one, many, count(number))


def count(number: int | None) -> str:
    """1234567 as 1,234,567; what is not known as ?."""
    return "?" if number is None else f"{number:,}"


def size(number: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 999.5 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.95 else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def when(wall_s: float) -> str:
    """An instant, by this machine's time zone; empty for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(wall_s)) if wall_s else ""


def duration(seconds: float) -> str:
    """A time span in at most two units."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"
