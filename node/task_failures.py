"""Turns what went wrong with one item inside a worker into the ItemFailure that is reported."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from types import TracebackType

from windrow.common.errors import CommandFailed, CommandTimeout, NodeUnfit, Retry, SoftTimeout
from windrow.common.limits import NAME_CHARS_MAX, TEXT_CHARS_MAX
from windrow.common.messages import ItemFailure
from windrow.common.options import type_name
from windrow.common.words import FailureKind

_BASES_MAX = 64
_AFTER_S_MAX = 366 * 86400.0
_LEFT_OUT_CHARS = 64
"""More than the words take that stand in place of what is left out."""
_OWN_FILES = frozenset(str(Path(__file__).with_name(name)) for name in ("worker.py", "soft_limit.py"))

_KINDS = (
    (SoftTimeout, FailureKind.TIMEOUT),
    (CommandTimeout, FailureKind.TIMEOUT),
    (NodeUnfit, FailureKind.UNFIT),
)


def failure_of(index: int, error: BaseException) -> ItemFailure:
    """The task has raised this."""
    if isinstance(error, CommandFailed):
        # Nobody's Python went wrong: what the command itself has said takes the traceback's place.
        return ItemFailure(
            index, _kind_of(error), _name(type(error)), cut_text(_text_of(error)),
            bases=find_bases(type(error)), log=cut_text(error.log),
        )  # fmt: skip
    try:
        lines = "".join(traceback.format_exception(type(error), error, _from_task(error.__traceback__)))
    except Exception:
        lines = ""
    return ItemFailure(
        index, _kind_of(error), _name(type(error)), cut_text(_text_of(error)), cut_text(lines),
        bases=find_bases(type(error)), after_s=_find_after_s(error),
    )  # fmt: skip


def _kind_of(error: BaseException) -> FailureKind:
    return next((kind for base, kind in _KINDS if isinstance(error, base)), FailureKind.ERROR)


def unsendable(index: int, value: object, error: Exception) -> ItemFailure:
    """The task's value is not made of message data."""
    message = (
        f"the value (a {type(value).__name__}) cannot be sent: {_text_of(error)}; return numbers, text, bytes, "
        "lists, dicts or dates, or write it to a file and return its path"
    )
    return ItemFailure(index, FailureKind.RESULT, "TypeError", cut_text(message))


def too_large(index: int, length: int, limit: int) -> ItemFailure:
    """The task's value is above the limit."""
    message = (
        f"the value has {length} bytes, the limit is {limit} (result_bytes_max): "
        "write it to a file or object store and return its path"
    )
    return ItemFailure(index, FailureKind.RESULT, "ValueError", message)


def unreadable(index: int) -> ItemFailure:
    """The item's arguments are damaged."""
    return ItemFailure(index, FailureKind.ITEM, "ValueError", "the item cannot be read: it is not message data")


def unknown_task(index: int, name: str) -> ItemFailure:
    """This worker has no such task."""
    return ItemFailure(index, FailureKind.ERROR, "windrow.UnknownTask", f"this worker has no task {name}")


def find_bases(kind: type) -> tuple[str, ...]:
    """Names of the class's bases, nearest first, without `object`."""
    return tuple(_name(base) for base in kind.__mro__[1:-1])[:_BASES_MAX]


def cut_text(text: str) -> str:
    """At most TEXT_CHARS_MAX characters: the middle of a long text says least."""
    # Before it is measured: what is written out grows to six times its length, and a message with more than it may
    # have is taken for nonsense.
    text = _clean(text)
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = (TEXT_CHARS_MAX - _LEFT_OUT_CHARS) // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _from_task(trace: TracebackType | None) -> TracebackType | None:
    """Without the first frames, which are the worker's own."""
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES:
        trace = trace.tb_next
    return trace


def _find_after_s(error: BaseException) -> float | None:
    """When the task wants to be tried again. Users write `after`: what is no time is passed over, not fatal."""
    after: object = error.after if isinstance(error, Retry) else None
    if isinstance(after, bool) or not isinstance(after, int | float):
        return None
    # Cut first: there are whole numbers that no float can hold.
    after_s = float(min(max(after, 0.0), _AFTER_S_MAX))
    return None if math.isnan(after_s) else after_s


def _name(kind: type) -> str:
    return _clean(type_name(kind))[:NAME_CHARS_MAX]


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "(the exception's own text cannot be made)"


def _clean(text: str) -> str:
    """Without half surrogates, which no message can carry."""
    return text.encode("utf-8", "backslashreplace").decode()
