"""A daemon that `windrow up` runs as a child process: its start, its log lines, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from windrow.cli.parent import PARENT_VARIABLE

PROGRAM = (sys.executable, "-m", "windrow.cli")
LAST_LINES = 20
LINE_BYTES_MAX = 64 << 10
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 30.0
STEADY_S = 60.0
"""A child that lived so long starts again with the first delay."""


class Child:
    """One daemon of `windrow up`, over all its restarts. All methods are for the main thread."""

    def __init__(
        self, name: str, arguments: Sequence[str], extra: dict[str, str], program: Sequence[str] = PROGRAM
    ) -> None:
        self.name = name
        self._program = program
        self.arguments = list(arguments)
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._started_s = 0.0
        self._delay_s = BACKOFF_FIRST_S
        self._due_s: float | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, now_s: float) -> None:
        """Start the process. It must be the main thread that does: the kernel ties the child to that thread's end."""
        self._started_s, self._due_s = now_s, None
        self._lines.clear()
        self._process = subprocess.Popen(
            [*self._program, *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self._extra, PARENT_VARIABLE: str(os.getpid())},
            # A group of its own: Ctrl-C is for `up`, which stops its children in the right order.
            process_group=0,
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=self._forward, args=(self._process.stderr,), name=f"log of {self.name}", daemon=True
        )
        self._reader.start()

    def find_end(self) -> str | None:
        """How the process ended; None while it runs."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        if self._reader is not None:
            # Its last words are still in the pipe; a grandchild may hold that open, so not for ever.
            self._reader.join(1.0)
        if code < 0:
            return f"was killed by {_signal_name(-code)}"
        return f"ended with exit code {code}"

    @property
    def exit_code(self) -> int:
        """The exit code to leave with because of this child's."""
        code = self._process.returncode if self._process else 0
        return code if code in {1, 2, 3, 4} else 1

    @property
    def last_words(self) -> str:
        """The last line that the process logged."""
        return next((line for line in reversed(self._lines) if line.strip()), "it said nothing")

    def plan_restart(self, now_s: float) -> float:
        """Note when to start again; the seconds until then."""
        if now_s - self._started_s >= STEADY_S:
            self._delay_s = BACKOFF_FIRST_S
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, BACKOFF_MAX_S)
        self._due_s = now_s + delay_s
        return delay_s

    @property
    def restart_planned(self) -> bool:
        return self._due_s is not None

    def restart_is_due(self, now_s: float) -> bool:
        """Whether the planned time has come."""
        return self._due_s is not None and now_s >= self._due_s

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if there is still somebody to get it."""
        if self._process is not None:
            self._process.send_signal(number)

    def _forward(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(LINE_BYTES_MAX):
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                # Without a terminal to write to the pipe is emptied all the same, or the child would stand still.
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(f"[{self.name}] {text}\n")
                    sys.stderr.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def make_folder(path: Path) -> None:
    """A state folder that only its owner may read."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
