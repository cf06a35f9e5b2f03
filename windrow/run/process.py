"""Runs one command to its end: keeps a bounded part of what it prints, and ends it when its time is over."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from windrow.run.group import CommandGroup
from windrow.run.programs import Programs

TICK_S = 0.1
"""How often it is looked whether somebody still wants the command."""
GRACE_S = 1.0
"""Between SIGTERM and SIGKILL."""
_READ_BYTES = 1 << 16
_LEFT_BYTES_MAX = 1 << 20
"""As much is read after the command's end; what it has left in the background may go on printing."""
_DEFAULT_AGAIN = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them; a program must not inherit that (`yes | head` would never end)."""


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
    """Runs commands, one after the other, from one thread."""

    def __init__(self) -> None:
        self._group = CommandGroup()
        self._programs = Programs()
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def run(
        self,
        arguments: list[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        timeout_s: float | None,
        output_bytes: int,
        is_cancelled: Callable[[], bool],
    ) -> Ended:
        """Run it. OSError and ValueError where it cannot be started."""
        stdout, stderr = Kept(output_bytes), Kept(output_bytes)
        out_fd, out_end = os.pipe2(os.O_CLOEXEC)
        err_fd, err_end = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                pid = self._start(arguments, cwd, env, out_end, err_end)
            finally:
                os.close(out_end)
                os.close(err_end)
            with _Process(pid, {out_fd: stdout, err_fd: stderr}) as process:
                stopped = process.wait(timeout_s, is_cancelled)
                if stopped is not None:
                    self._stop(process)
                process.read_rest()
        finally:
            os.close(out_fd)
            os.close(err_fd)
        return Ended(process.code, stdout, stderr, stopped)

    def _start(self, arguments: list[str], cwd: str, env: Mapping[str, str], out_end: int, err_end: int) -> int:
        """By posix_spawn, which costs half of what subprocess does; it cannot change the folder, so this process does,
        for the moment: a worker has one thread that executes."""
        os.chdir(cwd)
        try:
            return os.posix_spawn(
                self._programs.find(arguments[0], cwd, env.get("PATH", os.defpath)), arguments, env,
                file_actions=(
                    (os.POSIX_SPAWN_DUP2, self._nothing, 0),
                    (os.POSIX_SPAWN_DUP2, out_end, 1),
                    (os.POSIX_SPAWN_DUP2, err_end, 2),
                ),
                setpgroup=self._group.get_id(), setsigdef=_DEFAULT_AGAIN,
            )  # fmt: skip
        finally:
            os.fchdir(self._home)

    def _stop(self, process: _Process) -> None:
        # To the process itself too: it may have left the group.
        self._group.signal(signal.SIGTERM)
        process.signal(signal.SIGTERM)
        process.wait(GRACE_S, _never)
        self._group.kill()
        process.signal(signal.SIGKILL)
        process.wait(None, _never)


class _Process:
    """Reads the outputs of one process until it has ended. Reaped, and if need be killed, at the end of the context."""

    def __init__(self, pid: int, outputs: dict[int, Kept]) -> None:
        self._pid = pid
        self._outputs = outputs
        self._pidfd = os.pidfd_open(pid)
        self._poll = select.poll()
        for fd in (*outputs, self._pidfd):
            self._poll.register(fd, select.POLLIN)
        self._ended = False
        self.code = 0
        """Of its exit, once it is reaped."""

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:
            # An interrupt of the worker's own (a soft time limit): nothing may go on behind its back.
            self.signal(signal.SIGKILL)
        self.code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._pidfd)

    def signal(self, number: signal.Signals) -> None:
        """It is not reaped yet, so its number cannot be another's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._pid, number)

    def wait(self, timeout_s: float | None, is_cancelled: Callable[[], bool]) -> Stopped | None:
        """Until the process has ended: None; or until one of the two asks for its end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended:
            left_s = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
            for fd, event in self._poll.poll(max(0.0, left_s) * 1000):
                if fd == self._pidfd:
                    self._ended = True
                elif event & select.POLLIN:
                    self._outputs[fd].add(os.read(fd, _READ_BYTES))
                else:
                    self._poll.unregister(fd)
            if self._ended:
                return None
            if is_cancelled():
                return Stopped.CANCELLED
            if deadline is not None and time.monotonic() >= deadline:
                return Stopped.TIMEOUT
        return None

    def read_rest(self) -> None:
        """What the process has printed at the last moment; not what it has left behind may go on to print."""
        self._poll.unregister(self._pidfd)
        left = _LEFT_BYTES_MAX
        while left > 0:
            readable = [fd for fd, event in self._poll.poll(0) if event & select.POLLIN]
            if not readable:
                return
            for fd in readable:
                data = os.read(fd, _READ_BYTES)
                self._outputs[fd].add(data)
                left -= len(data)


def _never() -> bool:
    return False
