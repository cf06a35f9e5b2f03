"""Runs one command to its end: keeps a bounded part of what it prints, and ends it when its time is over."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from windrow.run.group import CommandGroup

TICK_S = 0.1
"""How often it is looked whether somebody still wants the command."""
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
_READ_BYTES = 1 << 16
_LEFT_BYTES_MAX = 1 << 20
"""As much is read after the command's end; what it has left in the background may go on printing."""
_READABLE = select.POLLIN | select.POLLHUP


class Stopped(StrEnum):
    """Why a command was ended from outside."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class Kept:
    """The beginning and the end of an output, and how long it was."""

    def __init__(self, limit_bytes: int) -> None:
        self._half = max(limit_bytes // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > self._half:
            del self._tail[: -self._half]

    @property
    def left_out(self) -> int:
        """How many bytes of the middle are gone."""
        return self.total - len(self._head) - len(self._tail)

    def content(self) -> bytes:
        """What is kept; a line in its middle says how much is not."""
        if not self.left_out:
            return bytes(self._head + self._tail)
        return b"%b\n[windrow: %d bytes left out]\n%b" % (bytes(self._head), self.left_out, bytes(self._tail))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command has ended."""

    code: int
    """Of its exit; negative: the signal."""
    stdout: Kept
    stderr: Kept
    stopped: Stopped | None = None


class CommandRunner:
    """Runs commands, one after the other."""

    def __init__(self) -> None:
        self._group = CommandGroup()
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        timeout_s: float | None,
        output_bytes: int,
        is_cancelled: Callable[[], bool],
    ) -> Ended:
        """Run it. OSError and ValueError where it cannot be started."""
        stdout, stderr = Kept(output_bytes), Kept(output_bytes)
        with contextlib.ExitStack() as files:
            out_fd, out_end = _pipe(files)
            err_fd, err_end = _pipe(files)
            with out_end, err_end:
                process = subprocess.Popen(
                    arguments, stdin=self._nothing, stdout=out_end.fd, stderr=err_end.fd,
                    cwd=cwd, env=env, process_group=self._group.get_id(),
                )  # fmt: skip
            try:
                follower = _Follower(process, {out_fd: stdout, err_fd: stderr}, files)
                stopped = follower.wait(timeout_s, is_cancelled)
                if stopped is not None:
                    # To the process itself too: it may have left the group.
                    self._group.signal(signal.SIGTERM)
                    process.terminate()
                    follower.wait(GRACE_S, _never)
                    self._group.kill()
                    process.kill()
                    follower.wait(None, _never)
                follower.read_rest()
            except BaseException:
                # An interrupt of the worker's own (a soft time limit): nothing may go on behind its back.
                self._group.kill()
                process.kill()
                process.wait()
                raise
        return Ended(process.wait(), stdout, stderr, stopped)


class _Follower:
    """Reads the outputs of one process until it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], outputs: dict[int, Kept], files: contextlib.ExitStack) -> None:
        self._outputs = outputs
        self._pidfd = os.pidfd_open(process.pid)
        files.callback(os.close, self._pidfd)
        self._poll = select.poll()
        for fd in (*outputs, self._pidfd):
            self._poll.register(fd, _READABLE)
        self._ended = False

    def wait(self, timeout_s: float | None, is_cancelled: Callable[[], bool]) -> Stopped | None:
        """Until the process has ended: None; or until one of the two asks for its end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended:
            left_s = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
            for fd, _ in self._poll.poll(max(0.0, left_s) * 1000):
                if fd == self._pidfd:
                    self._ended = True
                elif not self._read(fd):
                    self._poll.unregister(fd)
            if self._ended:
                break
            if is_cancelled():
                return Stopped.CANCELLED
            if deadline is not None and time.monotonic() >= deadline:
                return Stopped.TIMEOUT
        return None

    def read_rest(self) -> None:
        """What the process has printed at the last moment."""
        for fd in self._outputs:
            left = _LEFT_BYTES_MAX
            while left > 0 and (count := self._read(fd)):
                left -= count

    def _read(self, fd: int) -> int:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        self._outputs[fd].add(data)
        return len(data)


class _End:
    """The end of a pipe that the command gets; closed here once it has it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _pipe(files: contextlib.ExitStack) -> tuple[int, _End]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    files.callback(os.close, reading)
    os.set_blocking(reading, False)
    return reading, _End(writing)


def _never() -> bool:
    return False
