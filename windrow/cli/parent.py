"""Ties a daemon's life to that of the `windrow up` which started it, so that nothing outlives that."""

from __future__ import annotations

import ctypes
import os
import signal

PARENT_VARIABLE = "WINDROW_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, where a parent that wants so has started it.

    The child asks for itself: code between fork and exec is not safe in a parent with threads.
    """
    wanted = os.environ.pop(PARENT_VARIABLE, "")
    if not wanted.isdigit():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(wanted):
        # It died before the kernel was asked.
        os.kill(os.getpid(), signal.SIGKILL)
