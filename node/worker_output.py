"""What a worker prints: read from a pipe, logged line by line with its slot, the last lines kept for its obituary."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque

import structlog

log = structlog.get_logger()

LAST_LINES = 30
LAST_CHARS_MAX = 4_096
LINE_BYTES_MAX = 16_384
"""A longer line is logged in pieces."""
LINES_PER_S_MAX = 1_000
"""What a worker prints beyond it is counted, not logged: the log must not slow the daemon."""
_READ_BYTES = 65_536
_END_BYTES_MAX = 1 << 20
"""How much is still read after the worker's end."""


class LastLines:
    """Puts lines together from pieces and keeps the last ones."""

    def __init__(self) -> None:
        self._kept: deque[str] = deque(maxlen=LAST_LINES)
        self._open = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *whole, self._open = (self._open + data).split(b"\n")
        while len(self._open) > LINE_BYTES_MAX:
            whole.append(self._open[:LINE_BYTES_MAX])
            self._open = self._open[LINE_BYTES_MAX:]
        lines = [
            _decode(part[at : at + LINE_BYTES_MAX]) for part in whole for at in range(0, len(part) or 1, LINE_BYTES_MAX)
        ]
        self._kept.extend(lines)
        return lines

    def end(self) -> list[str]:
        """The line that was begun and not ended, if any."""
        return self.feed(b"\n") if self._open else []

    def text(self) -> str:
        """The last lines, within LAST_CHARS_MAX; the end of them says most."""
        text = "\n".join(self._kept)
        return text if len(text) <= LAST_CHARS_MAX else "…" + text[1 - LAST_CHARS_MAX :]


class WorkerOutput:
    """Reads the pipe until the worker's end; owns the descriptor."""

    def __init__(self, fd: int, slot: int) -> None:
        self._fd = fd
        self._slot = slot
        self._lines = LastLines()
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._logged = 0
        self._left_out = 0
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._on_readable)

    def finish(self) -> str:
        """Read what is left, close the pipe; the last lines. A process that the worker left behind may still hold
        the other end: its output is nobody's any more."""
        left = _END_BYTES_MAX
        while left > 0 and self._fd >= 0 and (count := self._read()):
            left -= count
        self._close()
        self._log(self._lines.end())
        self._tell_left_out()
        return self._lines.text()

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> int:
        """How many bytes were there; the pipe is closed at its end."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            self._log(self._lines.feed(data))
        else:
            self._close()
        return len(data)

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _log(self, lines: list[str]) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._tell_left_out()
            self._second, self._logged = second, 0
        shown = lines[: max(0, LINES_PER_S_MAX - self._logged)]
        for line in shown:
            log.info(line, action="worker_output", slot=self._slot)
        self._logged += len(shown)
        self._left_out += len(lines) - len(shown)

    def _tell_left_out(self) -> None:
        if self._left_out:
            log.warning(
                f"{self._left_out} lines of a worker's output are not shown: more than {LINES_PER_S_MAX} a second",
                action="worker_output_cut", slot=self._slot,
            )  # fmt: skip
        self._left_out = 0


def _decode(data: bytes) -> str:
    return data.decode(errors="replace").rstrip("\r")
