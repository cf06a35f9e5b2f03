"""Windrow's errors: one tree, sorted by whose fault it is.

WindrowError
├── UsageError             the caller's: refused before anything was accepted
│   ├── UnknownTask
│   ├── UnknownOption
│   ├── ItemRefused        cannot be encoded, or over the size limit
│   ├── KeyConflict
│   ├── NotFound           no such job, node or result
│   ├── ConfigError        a setting, flag or file
│   └── ExportError        a source, destination, column or condition
│       └── NotSeenHere    this machine does not see it; another may
├── TaskFailed             the task's: an item ended with a failure
├── Retry                  raised by a task: try this item again
├── NodeUnfit              raised by a task: this node cannot do this item, another may
├── CommandFailed          raised by the task of `windrow run`: the command did not exit with 0
│   └── CommandTimeout
├── SoftTimeout            raised inside a task: its soft time limit is over
├── Unreachable            the network's: try again later
│   ├── SchedulerUnreachable
│   └── BrokerUnreachable
├── ProtocolError          the other side's: the message was refused, the daemon goes on
│   ├── MalformedMessage
│   └── ProtocolMismatch
├── StoreError             the store's
│   ├── StoreLocked
│   ├── StoreDamaged
│   ├── StoreFailed        one commit failed; nothing of it was answered
│   └── EpochLost          another scheduler reigns over this store
└── InvariantBroken        ours: a bug in Windrow
"""

from __future__ import annotations

from typing import ClassVar


class WindrowError(Exception):
    """Something went wrong in Windrow."""

    code: ClassVar[str] = "error"
    """Stable on the wire and in JSON."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""


class UsageError(WindrowError):
    """The request cannot be accepted as it stands."""

    code = "usage"


class UnknownTask(UsageError):
    """No live node that serves the queue offers this task."""

    code = "unknown_task"


class UnknownOption(UsageError):
    """There is no such option, or its value does not fit."""

    code = "unknown_option"


class ItemRefused(UsageError):
    """The item cannot be sent."""

    code = "item_refused"


class KeyConflict(UsageError):
    """A job with this key exists and has other content."""

    code = "key_conflict"


class NotFound(UsageError):
    """There is no such thing."""

    code = "not_found"


class ConfigError(UsageError):
    """A setting is wrong."""

    code = "config"


class ExportError(UsageError):
    """The export cannot be done as asked."""

    code = "export"


class NotSeenHere(ExportError):
    """A source, folder or package is not there on this machine; it may be on another."""

    code = "not_seen_here"


class Retry(WindrowError):
    """Raised by a task: try this item again, `after` so many seconds; it uses one of the `retries`."""

    code = "retry"

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class NodeUnfit(WindrowError):
    """Raised by a task: this node cannot do items of this job (a folder is not mounted, a device is missing).

    The item goes to another node and uses none of the `retries`; the job leaves this node out, and fails where no
    node is left. A single call fails with it like with any other error.
    """

    code = "node_unfit"


class CommandFailed(WindrowError):
    """A command of `windrow run` could not be started, or has not exited with 0."""

    code = "command_failed"

    def __init__(self, message: str = "", log: str = "") -> None:
        super().__init__(message)
        self.log = log
        """The last lines that it printed."""


class CommandTimeout(CommandFailed, TimeoutError):
    """A command of `windrow run` has run for longer than it may."""

    code = "command_timeout"


class SoftTimeout(WindrowError, TimeoutError):
    """The item's soft time limit is over: tidy up and end."""

    code = "soft_timeout"


class Unreachable(WindrowError):
    """The other side is out of reach."""

    code = "unreachable"


class SchedulerUnreachable(Unreachable):
    """The scheduler is out of reach."""

    code = "scheduler_unreachable"


class BrokerUnreachable(Unreachable):
    """RabbitMQ is out of reach."""

    code = "broker_unreachable"


class ProtocolError(WindrowError):
    """A message was refused."""

    code = "protocol"


class MalformedMessage(ProtocolError):
    """A message is not what the protocol says."""

    code = "malformed"


class ProtocolMismatch(ProtocolError):
    """The other side speaks another version of the protocol."""

    code = "protocol_version"


class StoreError(WindrowError):
    """The store failed."""

    code = "store"


class StoreLocked(StoreError):
    """Another scheduler holds this store."""

    code = "store_locked"


class StoreDamaged(StoreError):
    """The store cannot be read."""

    code = "store_damaged"


class StoreFailed(StoreError):
    """A commit failed; nothing of it was answered."""

    code = "store_failed"


class EpochLost(StoreError):
    """Another scheduler reigns over this store."""

    code = "epoch_lost"


class InvariantBroken(WindrowError):
    """A bug in Windrow: an invariant does not hold."""

    code = "invariant"


def _tree(base: type[WindrowError]) -> dict[str, type[WindrowError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found |= _tree(child)
    return found


_BY_CODE = _tree(WindrowError)


def error_from_code(code: str, message: str) -> WindrowError:
    """The error that a `Refused` answer stands for; an unknown code becomes a plain WindrowError."""
    return _BY_CODE.get(code, WindrowError)(message)
