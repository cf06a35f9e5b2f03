"""Says how a text file marks its fields and rows, and finds row ends in its bytes by that alone; pure.

Three rules. Quotes (RFC 4180): a quote inside a quoted field is doubled, so a byte lies inside quotes exactly where an
odd number of quotes stands before it. No quotes: every newline ends a row. An escape character: the one byte behind it
means nothing, whatever it is, so escapes are hidden first and one of the other two rules does the rest.

Only ASCII marks: the bytes must be in an encoding whose other bytes can never be one (encoding.is_scannable).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from windrow.common.errors import ExportError

NEWLINE = b"\n"

_HIDDEN = b"\0\0"
"""Stands for an escape and the byte behind it: as long as both, and never a mark."""
_FIRST_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields and rows are marked. ExportError where the marks cannot be told apart."""

    delimiter: str = ","
    quote: str | None = '"'
    """None: quotes mean nothing, every newline ends a row."""
    escape: str | None = None
    """The byte behind it means nothing."""

    def __post_init__(self) -> None:
        marks = [("delimiter", self.delimiter), ("quote", self.quote), ("escape", self.escape)]
        given = [(what, mark) for what, mark in marks if mark is not None]
        for what, mark in given:
            if len(mark) != 1 or not mark.isascii() or mark in "\0\r\n":
                raise ExportError(f"the {what} {mark!r} must be one ASCII character, and no line end")
        if len({mark for _, mark in given}) < len(given):
            raise ExportError(
                "delimiter, quote and escape must be three different characters, not "
                + ", ".join(f"{what} {mark!r}" for what, mark in given)
            )

    @property
    def marks(self) -> str:
        """All characters with a meaning, besides line ends."""
        return self.delimiter + (self.quote or "") + (self.escape or "")

    @property
    def quote_byte(self) -> bytes:
        """The quote; nothing where there is none."""
        return (self.quote or "").encode()

    @property
    def escape_byte(self) -> bytes:
        """The escape; nothing where there is none."""
        return (self.escape or "").encode()


RFC4180 = Dialect()
LINES = Dialect(quote=None)
"""Every newline ends a row: JSON Lines."""


class State(NamedTuple):
    """How bytes begin: what those before them leave open."""

    inside: bool = False
    """The first byte lies inside quotes."""
    escaped: bool = False
    """The first byte lies behind an escape."""


class BlockCount(NamedTuple):
    """What one block adds to the sums; twice where it matters whether its first byte is escaped."""

    length: int
    quotes: int
    newlines: int
    """All of them, inside quotes and out: what lines are counted by."""
    ends_escaped: bool = False
    quotes_if_escaped: int = 0
    ends_escaped_if_escaped: bool = False


def count_block(data: bytes, dialect: Dialect, count: Callable[[bytes, bytes], int] = bytes.count) -> BlockCount:
    """Count one block; blocks may be counted in any order, anywhere. `count` counts a byte as `bytes.count` does."""
    newlines = count(data, NEWLINE)
    quote, escape = dialect.quote_byte, dialect.escape_byte
    if not escape:
        quotes = count(data, quote) if quote else 0
        return BlockCount(len(data), quotes, newlines, quotes_if_escaped=quotes)
    hidden = hide_escapes(data, dialect, escaped=False)
    quotes = count(hidden, quote) if quote else 0
    ends = hidden.endswith(escape)
    run = len(data) - len(data.lstrip(escape))
    if run == len(data):
        # Nothing but escapes, or nothing at all: the block's last byte is as open as its first one was not.
        return BlockCount(len(data), 0, 0, ends, 0, not ends)
    # Behind the leading run and the byte after it both ways agree; of that run every second one is escaped.
    first_is_quote = bool(quote) and data.startswith(quote, run)
    other = quotes + ((1 if run % 2 else -1) if first_is_quote else 0)
    return BlockCount(len(data), quotes, newlines, ends, other, ends)


def next_state(state: State, count: BlockCount) -> State:
    """How the bytes behind this block begin."""
    quotes = count.quotes_if_escaped if state.escaped else count.quotes
    ends = count.ends_escaped_if_escaped if state.escaped else count.ends_escaped
    return State(state.inside ^ bool(quotes % 2), ends)


def state_after(data: bytes, state: State, dialect: Dialect) -> State:
    """How the bytes behind these begin."""
    return next_state(state, count_block(data, dialect))


def hide_escapes(data: bytes, dialect: Dialect, *, escaped: bool) -> bytes:
    """The data, just as long, with NULs in place of each escape and the byte behind it.

    An escape that is the last byte is left: what it hides is not there yet.
    """
    escape = dialect.escape_byte
    if not escape:
        return data
    if escaped:
        data = _HIDDEN[:1] + data[1:] if data else data
    return _escapes(escape).sub(_HIDDEN, data) if escape in data else data


@lru_cache
def _escapes(escape: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(escape) + rb".", re.DOTALL)


def find_row_end(data: bytes, at: int, dialect: Dialect, state: State = State()) -> int:  # noqa: B008
    """Just behind the first newline that ends a row, at or after `at`, where `state` holds; -1 where there is none."""
    quote = dialect.quote_byte
    if not dialect.escape:
        return _find_end(data, at, quote, inside=state.inside)
    # Hiding all that follows for the sake of one row would make a walk over rows quadratic.
    window = _FIRST_WINDOW_BYTES
    while True:
        hidden = hide_escapes(data[at : at + window], dialect, escaped=state.escaped)
        found = _find_end(hidden, 0, quote, inside=state.inside)
        if found >= 0:
            return at + found
        if at + window >= len(data):
            return -1
        window *= 4


def _find_end(data: bytes, at: int, quote: bytes, *, inside: bool) -> int:
    if not quote:
        return data.find(NEWLINE, at) + 1 or -1
    while True:
        if inside:
            found = data.find(quote, at)
            if found < 0:
                return -1
            at, inside = found + 1, False
        newline = data.find(NEWLINE, at)
        if newline < 0:
            return -1
        if data.count(quote, at, newline) % 2 == 0:
            return newline + 1
        at, inside = newline + 1, True


def find_last_row_end(data: bytes, dialect: Dialect, state: State = State()) -> int:  # noqa: B008
    """Just behind the last newline that ends a row of data that begin in `state`; -1 where there is none."""
    hidden = hide_escapes(data, dialect, escaped=state.escaped)
    quote = dialect.quote_byte
    stop = len(hidden)
    quotes = (hidden.count(quote) if quote else 0) + state.inside
    while (newline := hidden.rfind(NEWLINE, 0, stop)) >= 0:
        quotes -= hidden.count(quote, newline, stop) if quote else 0
        if quotes % 2 == 0:
            return newline + 1
        stop = newline
    return -1


def scan_row_ends(blocks: Iterable[bytes], dialect: Dialect) -> Iterator[int]:
    """The offset behind each row, one row after the other from the first byte on: slow, and right for bad quoting too.

    A quote opens only where a field begins, as the reader has it; one in the midst of a field is an ordinary character.
    So this is what to fall back to where the parity of all quotes misleads. A quote that is never closed makes one row
    of all that follows, which then lies in memory.
    """
    row = _row_pattern(dialect)
    rest, base, wanted = b"", 0, 0
    for block in blocks:
        rest += block
        if len(rest) < wanted:
            continue
        at = 0
        while found := row.match(rest, at):
            at = found.end()
            yield base + at
        rest, base = rest[at:], base + at
        # A row of many blocks is looked at anew only when there is twice as much of it.
        wanted = 2 * len(rest)
    at = 0
    while found := row.match(rest, at):
        at = found.end()
        yield base + at
    if at < len(rest):
        yield base + len(rest)


def find_whole_rows(data: bytes, at: int, dialect: Dialect) -> tuple[int, bool]:
    """(stop, regular): the rows from `at`, where one begins, to `stop` are whole; `at` itself where none is.

    Regular: no quote of theirs stands in the midst of a field, so that their parity tells which newlines end a row.
    Others are found one at a time, with the rule of scan_row_ends.
    """
    quoted = _quoted_pattern(dialect) if dialect.quote else None
    known = quoted.match(data, at) if quoted is not None else None
    found = find_last_row_end(data[at : known.end() if known is not None else len(data)], dialect)
    if found > 0:
        return at + found, True
    row = _row_pattern(dialect).match(data, at)
    return (row.end(), False) if row is not None else (at, True)


@lru_cache
def _quoted_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """Rows, or a piece of one, whose quotes open where a field begins and close where it ends: a gigabyte a second."""
    quote, escape = re.escape(dialect.quote_byte), re.escape(dialect.escape_byte)
    delimiter = re.escape(dialect.delimiter.encode())
    escaped = rb"|" + escape + rb"(?s:.)" if escape else b""
    text = rb"[^" + quote + escape + rb"]"
    plain = rb"(?:" + text + rb"++" + escaped + rb")*+" if escape else text + rb"*+"
    # An escaped delimiter begins no field. (An escaped escape before a real one is rare, and left to the other rule.)
    begins = rb"(?<![^\n" + delimiter + rb"])" + (rb"(?<!" + escape + rb"[\n" + delimiter + rb"])" if escape else b"")
    inside = rb"(?:" + text + rb"++|" + quote + quote + escaped + rb")*+"
    field = begins + quote + inside + quote + rb"(?=[\r\n" + delimiter + rb"])"
    return re.compile(plain + rb"(?:" + field + plain + rb")*+")


@lru_cache
def _row_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """One row with its newline. Possessive throughout, so that a row which is not all there fails at once."""
    quote, escape = re.escape(dialect.quote_byte), re.escape(dialect.escape_byte)
    delimiter = re.escape(dialect.delimiter.encode())
    escaped = rb"|" + escape + rb"(?s:.)" if escape else b""
    if not quote:
        return re.compile(rb"(?:[^\n" + escape + rb"]++" + escaped + rb")*+\n")
    plain = rb"(?:[^\n" + delimiter + escape + rb"]++" + escaped + rb")*+"
    quoted = quote + rb"(?:[^" + quote + escape + rb"]++|" + quote + quote + escaped + rb")*+" + quote
    field = rb"(?:" + quoted + plain + rb"|(?!" + quote + rb")" + plain + rb")"
    return re.compile(field + rb"(?:" + delimiter + field + rb")*+\n")
