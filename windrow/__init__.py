"""Windrow runs big jobs on many machines: the face that users import."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from windrow.common.errors import (
    ConfigError,
    ExportError,
    ItemRefused,
    KeyConflict,
    NodeUnfit,
    NotFound,
    ProtocolError,
    Retry,
    SchedulerUnreachable,
    SoftTimeout,
    StoreFailed,
    UnknownOption,
    UnknownTask,
    UsageError,
    WindrowError,
)
from windrow.common.tasks import Task, task
from windrow.common.values import Call, call

if TYPE_CHECKING:
    from windrow.client.client import Client
    from windrow.client.failures import ClientClosed, TaskFailed, WindrowWarning
    from windrow.client.futures import Future
    from windrow.client.jobs import Explanation, Job, JobStatus, OpenJob
    from windrow.client.local import local
    from windrow.common.current import current

__version__ = "0.1.0"

__all__ = [
    "Call",
    "Client",
    "ClientClosed",
    "ConfigError",
    "Explanation",
    "ExportError",
    "Future",
    "ItemRefused",
    "Job",
    "JobStatus",
    "KeyConflict",
    "NodeUnfit",
    "NotFound",
    "OpenJob",
    "ProtocolError",
    "Retry",
    "SchedulerUnreachable",
    "SoftTimeout",
    "StoreFailed",
    "Task",
    "TaskFailed",
    "UnknownOption",
    "UnknownTask",
    "UsageError",
    "WindrowError",
    "WindrowWarning",
    "__version__",
    "call",
    "current",
    "local",
    "task",
]

# What needs sockets is imported when it is first asked for: worker processes import this module for `task` alone.
_LATE = {
    "Client": "client.client",
    "ClientClosed": "client.failures",
    "Explanation": "client.jobs",
    "Future": "client.futures",
    "Job": "client.jobs",
    "JobStatus": "client.jobs",
    "OpenJob": "client.jobs",
    "TaskFailed": "client.failures",
    "WindrowWarning": "client.failures",
    "current": "common.current",
    "local": "client.local",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module 'windrow' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"windrow.{_LATE[name]}"), name)
    globals()[name] = found
    return found
