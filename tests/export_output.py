"""Plans, parts and file operations that stop half-way, for tests of what exports write."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa

from windrow.export.model import (
    Destination,
    Errors,
    Form,
    OutputColumn,
    Part,
    Plan,
    ReadColumn,
    Segment,
    Source,
    Steps,
)
from windrow.export.parts import write_part

NAMES = ("id", "name", "kind")
TYPES = ("int64", "string", "string")


@dataclass(frozen=True)
class Bad:
    line: int
    column: str = "id"
    value: str = "x"
    reason: str = "no int64"
    text: str = "x,y"


@dataclass(frozen=True)
class Rows:
    columns: Sequence[Any]
    rows_in: int
    bad: Sequence[Bad] = ()
    bad_ordinals: Sequence[int] = ()

    @property
    def order(self) -> Any:
        """As if the bad rows came last, where nothing else is said."""
        left = [number for number in range(self.rows_in) if number not in self.bad_ordinals]
        return pa.array(left[: len(self.columns[0])], pa.int64())


def make_plan(
    dest: Path | str,
    kind: str = "csv",
    *,
    compression: str = "",
    encoding: str = "utf-8",
    limit: int | None = None,
    partition: int | None = None,
    force: bool = False,
    manifest: bool = False,
    errors: Errors | None = None,
    source: str = "/data/flights.csv",
) -> Plan:
    """A plan of one source with the columns id, name and kind; a destination that ends in a slash is a folder."""
    columns = tuple(enumerate(zip(NAMES, TYPES, strict=True)))
    return Plan(
        windrow="1",
        sources=(Source(source, 100, "1", "f00d"),),
        read_form=Form("csv"),
        columns=NAMES,
        read=tuple(ReadColumn(at, name, kind) for at, (name, kind) in columns),
        output=tuple(OutputColumn(at, name, kind) for at, (name, kind) in columns),
        steps=Steps(limit=limit),
        write_form=Form(kind, compression=compression, encoding=encoding),
        dest=Destination(str(dest), str(dest).endswith("/"), partition, force, manifest),
        errors=errors or Errors(),
        segment_bytes=1 << 20,
        spec="asked",
    )


def make_rows(first: int, count: int, bad: Sequence[Bad] = ()) -> Rows:
    """Rows with texts that need quotes and escapes, line ends among them; every seventh name is null."""
    numbers = range(first, first + count)
    names = [None if n % 7 == 6 else f'é "{n}",\nline' if n % 3 == 0 else f"n{n}" for n in numbers]
    kinds = [None if n % 5 == 4 else "ab/ c"[n % 5] for n in numbers]
    columns = [pa.array(numbers, pa.int64()), pa.array(names, pa.string()), pa.array(kinds, pa.string())]
    return Rows(columns, count + len(bad), bad, range(count, count + len(bad)))


def write_parts(
    work: Path, plan: Plan, counts: Sequence[int], bad: dict[int, Sequence[Bad]] | None = None, unique: str = "first"
) -> list[Part]:
    """A part of so many rows for each segment."""
    work.mkdir(exist_ok=True)
    parts: list[Part] = []
    for number, count in enumerate(counts):
        rows = make_rows(sum(counts[:number]), count, (bad or {}).get(number, ()))
        parts.append(write_part(work, plan, Segment(number, 0, number * 10, number * 10 + 10), rows, unique))
    return parts


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in the folder; None for folders."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


class Killed(BaseException):
    """The process is dead."""


class Operations:
    """Counts what is done to files, and does something else in the place of one of them."""

    HOOKED = (
        "open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "pwrite", "copy_file_range",
        "ftruncate",
    )  # fmt: skip

    def __init__(self, at: int, act: Callable[[], None] | None) -> None:
        self.count = 0
        self._at = at
        self._act = act
        self._dead = False

    def before(self, torn: Callable[[], object] | None = None) -> None:
        """`torn` does half of the operation."""
        if self._dead:
            raise Killed
        self.count += 1
        if self.count != self._at:
            return
        if self._act is not None:
            self._act()
            return
        if torn is not None:
            torn()
        self._dead = True
        raise Killed


@contextlib.contextmanager
def hooked(at: int, act: Callable[[], None] | None = None) -> Generator[Operations, None, None]:
    """Before the operation number `at` (from 1 on) do `act`; without one, die there: nothing works any more."""
    operations = Operations(at, act)
    busy = False

    def hook(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal busy
            writes = name != "builtin" or set(given[1] if len(given) > 1 else named.get("mode", "r")) & set("wxa+")
            if writes and not busy:
                busy = True
                try:
                    torn = None
                    if name == "pwrite":
                        torn = lambda: real(given[0], bytes(given[1])[: len(given[1]) // 2], given[2])  # noqa: E731
                    operations.before(torn)
                finally:
                    busy = False
            return real(*given, **named)

        return call

    with contextlib.ExitStack() as stack:
        for name in Operations.HOOKED:
            stack.enter_context(mock.patch.object(os, name, hook(getattr(os, name), name)))
        stack.enter_context(mock.patch.object(builtins, "open", hook(builtins.open, "builtin")))
        yield operations


def with_steps(plan: Plan, **steps: Any) -> Plan:
    return dataclasses.replace(plan, steps=dataclasses.replace(plan.steps, **steps))
