"""Waits for what tests expect, with a deadline and a message; nothing in the tests sleeps to synchronise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_POLL_S = 0.01


def wait_until(predicate: Callable[[], object], timeout_s: float, what: str, *, poll_s: float = _POLL_S) -> None:
    """Return once `predicate` is true; AssertionError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(poll_s)


async def until(predicate: Callable[[], object], timeout_s: float, what: str, *, poll_s: float = _POLL_S) -> None:
    """As `wait_until`, while the asyncio loop goes on."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        await asyncio.sleep(poll_s)
