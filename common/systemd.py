"""Tells systemd how the daemon is, over the socket that NOTIFY_SOCKET names; does nothing without one."""

from __future__ import annotations

import os
import socket


def notify(text: str) -> None:
    """Send e.g. `READY=1`; a socket that cannot be reached is no reason to stop, so errors are passed over."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # A leading @ stands for the NUL byte of Linux's abstract sockets.
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), target)
    except OSError:
        return


def find_watchdog_s() -> float | None:
    """How often to send `WATCHDOG=1`: half of what systemd waits; None where it does not watch this process."""
    pid = os.environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdecimal() and int(text) > 0 else None
