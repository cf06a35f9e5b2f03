"""Reads the items of a job from flags and files; everything is checked before the first item is sent."""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from windrow.common.errors import UsageError
from windrow.common.limits import ITEM_BYTES_MAX, JOB_ITEMS_MAX
from windrow.common.values import Call

_Parse = Callable[[str], object]


@contextmanager
def open_items(
    args: str | None, items: str | None, each_line: str | None, span: str | None
) -> Generator[Iterable[object]]:
    """The items that --args, --items, --each-line or --range name; none of them is one call without arguments."""
    given = {"--args": args, "--items": items, "--each-line": each_line, "--range": span}
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)}: give one of them, a job has one source of items")
    if items is not None:
        with _checked_lines(items, "--items", _parse_json_line) as parsed:
            yield parsed
    elif each_line is not None:
        with _checked_lines(each_line, "--each-line", lambda line: line) as parsed:
            yield parsed
    elif span is not None:
        yield parse_range(span)
    else:
        yield [item_from_json(args, "--args") if args is not None else ()]


def item_from_json(text: str, where: str) -> object:
    """An item from JSON: array = positional arguments, object = keywords, scalar = the single argument."""
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}; text needs quotes, e.g. '\"text\"'") from None
    except RecursionError:
        raise UsageError(f"{where}: the JSON is nested too deeply") from None
    if isinstance(value, list):
        return tuple(cast("list[object]", value))
    if isinstance(value, dict):
        return Call((), cast("dict[str, object]", value))
    return value


def parse_range(text: str) -> range:
    """A:B or A:B:STEP as Python's range; B alone counts from 0."""
    try:
        made = range(*(int(part) for part in text.split(":")))
        length = len(made)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"--range {text}: write A:B or A:B:STEP with whole numbers, e.g. 0:1000") from None
    if length > JOB_ITEMS_MAX:
        raise UsageError(f"--range {text}: {length} items, the limit is {JOB_ITEMS_MAX} (job_items_max)")
    return made


def parse_indexes(text: str) -> Iterator[int]:
    """The item indexes that `5`, `0:10` or `0:10,20:30` name; checked before the first one comes."""
    found: list[range] = []
    for part in text.split(","):
        start, colon, stop = part.strip().partition(":")
        try:
            first = int(start)
            last = int(stop) if colon else first + 1
        except ValueError:
            first, last = -1, -1
        if not 0 <= first < last <= JOB_ITEMS_MAX:
            raise UsageError(f"--items {text}: write A:B (B not included) or a single index, with commas between them")
        found.append(range(first, last))
    return itertools.chain(*found)


def split_call_id(text: str) -> tuple[str, int | None]:
    """JOB/17 as the job and the index of its item; any other id as it is."""
    job, slash, index = text.partition("/")
    if not slash:
        return text, None
    if not (job and index.isascii() and index.isdigit() and int(index) <= JOB_ITEMS_MAX):
        raise UsageError(f"{text}: write JOB or JOB/INDEX, e.g. last/17")
    return job, int(index)


def _parse_json_line(line: str) -> object:
    return item_from_json(line, "") if line.strip() else _BLANK


_BLANK = object()
"""What an empty line of a JSONL file becomes: nothing."""


@contextmanager
def _checked_lines(source: str, flag: str, parse: _Parse) -> Generator[Iterator[object]]:
    # Read twice, so that line 900,000 being wrong leaves no half a job behind.
    with _seekable(source, flag) as stream:
        for _ in _parsed(stream, f"{flag} {source}", parse):
            pass
        stream.seek(0)
        yield _parsed(stream, f"{flag} {source}", parse)


def _seekable(source: str, flag: str) -> AbstractContextManager[BinaryIO]:
    if source != "-":
        path = Path(source)
        try:
            stream = path.open("rb")
        except OSError as error:
            raise UsageError(f"{flag} {source}: {error.strerror}") from None
        if stream.seekable():
            return stream
        with stream:
            return _spooled(stream)
    return _spooled(sys.stdin.buffer)


def _spooled(stream: BinaryIO) -> AbstractContextManager[BinaryIO]:
    """A pipe's content, in memory or in a temporary file when there is much of it."""
    copy = tempfile.SpooledTemporaryFile(max_size=16 << 20)  # noqa: SIM115  # closed by the caller's with
    while block := stream.read(1 << 20):
        copy.write(block)
    copy.seek(0)
    return cast("AbstractContextManager[BinaryIO]", copy)


def _parsed(stream: BinaryIO, where: str, parse: _Parse) -> Iterator[object]:
    number = 0
    while line := stream.readline(2 * ITEM_BYTES_MAX):
        number += 1
        if len(line) >= 2 * ITEM_BYTES_MAX:
            raise UsageError(f"{where}: line {number} is longer than an item may be ({ITEM_BYTES_MAX} bytes)")
        try:
            item = parse(line.decode().removesuffix("\n").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise UsageError(f"{where}: line {number} is not UTF-8 (byte {error.start + 1})") from None
        except UsageError as error:
            raise UsageError(f"{where}: line {number}{error.message}") from None
        if item is not _BLANK:
            yield item
