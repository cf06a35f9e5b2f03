"""What the end of a worker process says about the item that it was executing; pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from windrow.common.messages import ItemFailure
from windrow.common.texts import counted
from windrow.common.words import FailureKind
from windrow.node.shared_page import Executing

CRASH_TYPE = "WorkerCrashed"
_TIMEOUT_BASES = ("OSError", "Exception", "BaseException")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the daemon kills a worker: this item of this feed broke a limit."""

    feed: int
    item: int
    kind: FailureKind
    type: str
    message: str
    bases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """A worker has ended, unasked unless `wanted`."""

    feeds: tuple[int, ...]
    """What it had been given and had not ended."""
    executing: Executing | None
    how: str
    why: str
    """More on that, to be put behind everything; or empty."""
    wanted: bool
    verdict: Verdict | None = None
    """With `wanted`: which item it was killed for."""
    memory_bytes_peak: int = 0
    log: str = ""
    nonsense: bool = False
    """It was killed for what it sent."""


def over_time(executing: Executing, limit_s: float, now: float) -> Verdict:
    """The item has run for longer than its `timeout`."""
    message = (
        f"the item ran for {now - executing.since:.2f} s; its limit (timeout) is {limit_s:g} s, "
        "so its worker was killed"
    )
    return Verdict(executing.feed, executing.item, FailureKind.TIMEOUT, "TimeoutError", message, _TIMEOUT_BASES)


def over_memory(executing: Executing, size_bytes: int, limit_bytes: int) -> Verdict:
    """The worker has more memory than it may, while it executes the item."""
    message = (
        f"its worker was killed with {show_bytes(size_bytes)} of memory; the limit is {show_bytes(limit_bytes)} "
        "(node.worker_memory_bytes_max): raise it, or work on smaller parts"
    )
    return Verdict(executing.feed, executing.item, FailureKind.CRASH, CRASH_TYPE, message)


def find_failure(end: WorkerEnd, feed: int, *, alone: bool, once: bool) -> ItemFailure | None:
    """The failure of the item of this feed that the worker's end is blamed on, if any.

    A worker that was killed on purpose is blamed on nobody, but for the item that broke a limit; and not on that
    either when it had ended in time after all, which the note in the shared page tells. Then the item behind it may
    have begun: where items must not run again unasked (`once`) that is told as a crash.
    """
    executing, verdict = end.executing, end.verdict
    if executing is None or executing.feed != feed:
        return None
    if verdict is not None and (verdict.feed, verdict.item) == (feed, executing.item):
        kind, name, message, bases = verdict.kind, verdict.type, verdict.message, verdict.bases
    elif end.wanted and not once:
        return None
    else:
        kind, name, bases = FailureKind.CRASH, CRASH_TYPE, ()
        message = f"the worker process {end.how} while it executed this item{end.why}"
    return ItemFailure(
        executing.item, kind, name, message, alone=alone, bases=bases,
        log=end.log, memory_bytes_peak=end.memory_bytes_peak,
    )  # fmt: skip


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def explain_kill(memory_bytes_peak: int, oom_kills: int | None) -> str:
    """What to think of a SIGKILL that the node has not sent; `oom_kills`: how many the kernel has counted just now,
    None where it does not tell."""
    if oom_kills is None:
        why = "that is what the kernel does when memory runs out"
    elif oom_kills:
        why = f"memory had run out: the kernel has counted {counted(oom_kills, 'such kill', 'such kills')} just now"
    else:
        why = "not for want of memory, as the kernel has counted no such kill: somebody else has sent it"
    return f"; {why}; its memory had peaked at {show_bytes(memory_bytes_peak)}"


def show_bytes(size_bytes: int) -> str:
    """A size for people."""
    size = float(size_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
