"""What a task may ask about the item that it is executing: `windrow.current()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from windrow.common.errors import UsageError

LOGGER_NAME = "windrow.task"


class ItemLogger(logging.LoggerAdapter[logging.Logger]):
    """Puts the item's id before every message."""

    def __init__(self, logger: logging.Logger, item_id: str) -> None:
        super().__init__(logger, {"item_id": item_id})
        self._prefix = item_id

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        message, kwargs = super().process(msg, kwargs)
        return f"[{self._prefix}] {message}", kwargs


@dataclass(frozen=True, slots=True)
class CurrentItem:
    """The item at work, as it was when `current()` was called; only `cancelled` is live."""

    job: str
    index: int
    attempt: int
    """1 for the first."""
    deadline: float | None
    """When the first of its time limits is over, on the clock of time.monotonic(); None without a limit."""
    _is_cancelled: Callable[[], bool] = field(repr=False, compare=False)

    @property
    def item_id(self) -> str:
        """`JOB/17`: the same for every attempt, so a key for what must happen once."""
        return f"{self.job}/{self.index}"

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants this item any more: tidy up and end, or be killed after the grace time."""
        return self._is_cancelled()

    @property
    def logger(self) -> ItemLogger:
        """Logs with the item's id before every message."""
        return ItemLogger(logging.getLogger(LOGGER_NAME), self.item_id)


_Find = Callable[[], CurrentItem | None]


def _find_nothing() -> CurrentItem | None:
    return None


_find: _Find = _find_nothing


def current() -> CurrentItem:
    """The item that this worker process is executing; UsageError where there is none."""
    found = _find()
    if found is None:
        raise UsageError(
            "windrow.current() is for tasks while a node executes them: this process is not executing an item"
        )
    return found


def serve_current(find: _Find) -> None:
    """From now on this process executes items; for workers."""
    global _find
    _find = find
