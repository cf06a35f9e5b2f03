"""What the figures were taken on: processor, cores, memory, kernel, versions; no names and no places."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import psutil
import zmq

from benchmarks.environments import CACHE, HERE, pinned
from windrow import __version__

OURS = ("msgpack", "pika", "pyzmq", "sqlalchemy", "pyarrow", "duckdb")
SYNCS = 50


def facts() -> dict[str, object]:
    """For the JSON, and the head of the table."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fsync_median_ms": round(fsync_ms(), 3),
        "load_before": round(os.getloadavg()[0], 2),
        "windrow": __version__,
        "libraries": {name: importlib.metadata.version(name) for name in OURS}
        | {"libzmq": zmq.zmq_version(), "sqlite": sqlite3.sqlite_version},
        "neighbours": {path.stem: pinned(path.stem) for path in sorted((HERE / "requirements").glob("*.txt"))},
        "programs": {name: version for name in PROGRAMS if (version := _version(name))},
    }


PROGRAMS = {
    "redis-server": ("redis-server", "--version"),
    "parallel": ("parallel", "--version"),
    "xargs": ("xargs", "--version"),
    "rabbitmq-server": ("dpkg-query", "-W", "-f=${Version}", "rabbitmq-server"),
}


def _version(name: str) -> str:
    command = PROGRAMS[name]
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip().partition("\n")[0][:60]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def fsync_ms() -> float:
    """The median of a written page and its sync, on the disk that all state is on."""
    CACHE.mkdir(exist_ok=True)
    path = CACHE / "fsync"
    took: list[float] = []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(SYNCS):
            began = time.perf_counter()
            os.write(fd, b"\0" * 4096)
            os.fdatasync(fd)
            took.append(1e3 * (time.perf_counter() - began))
    finally:
        os.close(fd)
        path.unlink()
    return sorted(took)[SYNCS // 2]
