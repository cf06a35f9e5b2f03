"""The exceptions that a failed item raises: TaskFailed, and its children that are the remote builtin type too."""

from __future__ import annotations

import builtins
from typing import ClassVar

from windrow.common.errors import UsageError, WindrowError
from windrow.common.messages import FailureInfo
from windrow.common.texts import counted
from windrow.common.words import FailureKind


class WindrowWarning(UserWarning):
    """Something that was accepted but may not do what was meant."""


class ClientClosed(UsageError, RuntimeError):
    """The client has been closed; make a new one."""


class TaskFailed(WindrowError):
    """An item ended with a failure.

    Where the remote type is a builtin the exception is one of that type too: `except ZeroDivisionError` catches it. An
    item that was over its time limit raises a TimeoutError. Others (a crash, a lost node) are told apart by `kind`.
    """

    code: ClassVar[str] = "task_failed"

    def __init__(self, info: FailureInfo, job: str = "") -> None:
        # Not super(): next in line may be a builtin that wants arguments of its own, as UnicodeDecodeError does.
        Exception.__init__(self, info.message)
        self.info = info
        self.job = job
        self.type = _plain_type(info.type)
        """Name of the remote exception class, with its module unless it is a builtin; or `WorkerCrashed`."""
        self.kind = info.kind
        """Why it failed: `error` (the task raised), `crash`, `timeout`, `lost`, `node`, `result` or `item`."""
        self.item = info.item
        """Index of the item in its job."""
        self.node = info.node
        """Name of the node that made the last attempt."""
        self.attempts = info.attempts
        self.traceback = info.traceback
        """Traceback of the last attempt, as text."""
        self.log = info.log
        """Last lines that the worker wrote, where it died."""
        self.memory_bytes_peak = info.memory_bytes_peak
        """Of the worker that died; 0 where that is not known."""
        if info.traceback:
            # A note is shown wherever Python shows the exception, and leaves str() one line.
            self.add_note("Traceback on the node:\n" + info.traceback.rstrip())
        if info.log:
            self.add_note("Last lines of the worker:\n" + info.log.rstrip())

    @property
    def message(self) -> str:
        """The remote exception's own text."""
        return self.info.message

    def __str__(self) -> str:
        where = f"item {self.item}" + (f" of job {self.job}" if self.job else "")
        node = f", on node {self.node}" if self.node else ""
        tries = counted(self.attempts, "attempt", "attempts")
        head = f"{self.type}: {self.message}" if self.message else self.type
        return f"{head} [{where}{node}, {tries}]"

    def __reduce__(self) -> tuple[object, ...]:
        # A class that was made at run time cannot be found by name: the pickle makes it again.
        return task_failed, (self.info, self.job)


_CLASSES: dict[str, type[TaskFailed]] = {}
_ENDED_FROM_OUTSIDE = frozenset({FailureKind.CRASH, FailureKind.LOST, FailureKind.NODE})
"""The task raised nothing, whatever the type says."""


def task_failed(info: FailureInfo, job: str = "") -> TaskFailed:
    """The exception for a failed item, of the remote type too where that is a builtin."""
    name = "TimeoutError" if info.kind is FailureKind.TIMEOUT else _plain_type(info.type)
    if info.kind in _ENDED_FROM_OUTSIDE:
        return TaskFailed(info, job)
    kind = _CLASSES.get(name)
    if kind is None:
        # Only names that are builtins are kept, so that the table cannot grow with what users raise.
        remote = _find_builtin(name)
        kind = TaskFailed if remote is None else _CLASSES.setdefault(name, _make_class(name, remote))
    return kind(info, job)


def _plain_type(name: str) -> str:
    return name.removeprefix("builtins.").removeprefix("builtins:")


def _find_builtin(name: str) -> type[Exception] | None:
    """The builtin exception class; none for those that steer the interpreter or a generator when they are raised."""
    found: object = getattr(builtins, name, None)
    if not isinstance(found, type) or not issubclass(found, Exception) or found is Exception:
        return None
    return None if issubclass(found, StopIteration | StopAsyncIteration) else found


def _make_class(name: str, remote: type[Exception]) -> type[TaskFailed]:
    try:
        made = type(name, (TaskFailed, remote), {"__module__": __name__, "__doc__": f"A task raised {name}."})
        made(_SAMPLE)
    except Exception:
        # Some builtins (ExceptionGroup) want arguments of their own when they are made.
        return TaskFailed
    return made


_SAMPLE = FailureInfo(item=0, kind=FailureKind.ERROR, type="", message="", traceback="", node="", attempts=1)
