"""Raises SoftTimeout inside a task that has run for longer than its soft limit; for the main thread of a worker."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator

from windrow.common.errors import SoftTimeout


@contextlib.contextmanager
def soft_limit(function: Callable[..., object], limit_s: float) -> Generator[Callable[..., object]]:
    """The function, with a limit around each call, for as long as the context lasts."""
    armed = False

    def on_alarm(_number: int, _frame: object) -> None:
        # An alarm may be handled after the call has ended; then it is nobody's.
        if armed:
            raise SoftTimeout(f"the soft time limit of {limit_s:g} s is over")

    def limited(*args: object, **kwargs: object) -> object:
        nonlocal armed
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            return function(*args, **kwargs)
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        yield limited
    finally:
        signal.signal(signal.SIGALRM, before)
