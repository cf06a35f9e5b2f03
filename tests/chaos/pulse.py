"""Notes when the scheduler commits outcomes, as its metrics show it from outside."""

from __future__ import annotations

import contextlib
import threading
import time
from urllib.request import urlopen

LOOK_S = 0.1
METRIC = b"windrow_items_total{"


class Pulse:
    """Looks again and again, past all links; `commits_s` are the looks that found something new."""

    def __init__(self, http: str, began_at: float) -> None:
        self.commits_s: list[float] = []
        self._url = f"{http}/metrics"
        self._began_at = began_at
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pulse", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        last = 0.0
        while not self._over.wait(LOOK_S):
            # It is killed and frozen: nothing that goes wrong here says more than that.
            with contextlib.suppress(OSError, ValueError):
                with urlopen(self._url, timeout=2.0) as answer:
                    text: bytes = answer.read()
                total = sum(float(line.rpartition(b" ")[2]) for line in text.splitlines() if line.startswith(METRIC))
                # A scheduler that was started again counts from 0.
                if total > last or 0 < total < last:
                    self.commits_s.append(time.monotonic() - self._began_at)
                last = total

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10.0)
