"""Hands a way of dispatch's events over in the loop's next turn, so that nobody is called back from inside a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from windrow.scheduler.ports import DispatchEvent


class Telling:
    """Events in order, each told once."""

    def __init__(self) -> None:
        self._on_event: Callable[[DispatchEvent], None] | None = None
        self._events: list[DispatchEvent] = []
        self._scheduled = False

    def start(self, on_event: Callable[[DispatchEvent], None]) -> None:
        self._on_event = on_event
        self._schedule()

    def tell(self, event: DispatchEvent) -> None:
        self._events.append(event)
        self._schedule()

    def flush(self) -> None:
        """Tell what is waiting, now."""
        self._scheduled = False
        if self._on_event is not None:
            events, self._events = self._events, []
            for event in events:
                self._on_event(event)

    def _schedule(self) -> None:
        if self._events and not self._scheduled and self._on_event is not None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)
