"""How fast this machine is at what a single call is made of, so that a bar on latency means the same everywhere.

A call is, at the least, two commits and a chain of messages between processes. The yardstick is two fdatasyncs of a few
pages and four round trips of a REQ socket to another Python process: the same disk, the same scheduler of the kernel,
the same libraries, and nothing of Windrow.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import zmq

ROUND_TRIPS, SYNCS = 4, 2
_PAGES = b"\0" * 12_288
_ECHO = """
import sys, zmq
sock = zmq.Context().socket(zmq.REP)
print(sock.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    sock.send(sock.recv())
"""


@contextlib.contextmanager
def yardstick(folder: Path) -> Generator[Callable[[], float]]:
    """A function that takes one measurement, in seconds: the median of 100."""
    echo = subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE)
    context = zmq.Context()
    fd = os.open(folder / "yardstick", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        assert echo.stdout is not None
        sock = context.socket(zmq.REQ)
        sock.connect(f"tcp://127.0.0.1:{int(echo.stdout.readline())}")

        def once_s() -> float:
            began = time.perf_counter()
            for _ in range(SYNCS):
                os.write(fd, _PAGES)
                os.fdatasync(fd)
            for _ in range(ROUND_TRIPS):
                sock.send(b"x" * 200)
                sock.recv()
            return time.perf_counter() - began

        yield lambda: statistics.median(once_s() for _ in range(100))
    finally:
        os.close(fd)
        context.destroy(linger=0)
        echo.kill()
        echo.wait()
        assert echo.stdout is not None
        echo.stdout.close()
