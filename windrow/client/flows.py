"""One stream of a client with what hangs on it: futures, and when the next call belongs into another stream."""

from __future__ import annotations

import time
from typing import Any

from windrow.client.futures import Future
from windrow.client.streams import Phase, Stream
from windrow.common.errors import WindrowError

STREAM_CALLS_MAX = 50_000
STREAM_SECONDS_MAX = 3_600.0
"""A stream that has so many calls, or is so old, is closed, and the next call begins another one.

Ended streams are removed after a while, open ones never: a client that calls for months must not fill the store.
"""


class Flow:
    """One stream of this client with what hangs on it. Guarded by the lock of its Calls."""

    def __init__(self, stream: Stream, *, watched: bool) -> None:
        self.stream = stream
        self.watched = watched
        """With futures; else calls that were enqueued, whose outcomes nobody here waits for."""
        self.futures: dict[int, Future[Any]] = {}
        self.asking = False
        """A step of it is with the link."""
        self.error: WindrowError | None = None
        # A clock that nobody sets, and that goes on while the machine sleeps.
        self._old_at = time.clock_gettime(time.CLOCK_BOOTTIME) + STREAM_SECONDS_MAX

    @property
    def full(self) -> bool:
        """The next call belongs into another one."""
        if self.stream.total >= STREAM_CALLS_MAX:
            return True
        return self.stream.total > 0 and time.clock_gettime(time.CLOCK_BOOTTIME) > self._old_at

    @property
    def over(self) -> bool:
        """Nothing of it is awaited any more."""
        return not self.futures and (self.error is not None or self.stream.phase is Phase.CLOSED)
