"""The process group in which a worker's commands run, so that none of them outlives the worker.

Its first member is a shell that only waits: for the end of a pipe whose other end the worker alone has. However the
worker goes, the kernel closes that pipe, and the shell kills its whole group. A command belongs to the group before its
program begins, so there is no moment at which one could be missed, and while the shell lives the group's number cannot
be another's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

_WAIT_AND_KILL = "trap '' HUP INT TERM; read -r _; kill -KILL 0"


class CommandGroup:
    """Made with the first command; a group that was killed is replaced with the next one."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._pipe = -1

    def get_id(self) -> int:
        """The number of a group to start a command in."""
        if self._shell is None or self._shell.poll() is not None:
            self._start()
        assert self._shell is not None
        return self._shell.pid

    def _start(self) -> None:
        self._close()
        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        try:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT_AND_KILL],
                stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", process_group=0,
            )  # fmt: skip
        finally:
            os.close(reading)

    def signal(self, number: signal.Signals) -> None:
        """To every process of the group."""
        if self._shell is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._shell.pid, number)

    def kill(self) -> None:
        """End every process of the group, and what they have left in it."""
        self.signal(signal.SIGKILL)
        self._close()

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        if self._shell is not None:
            self._shell.wait()
            self._shell = None
