"""Windrow as it is measured: a scheduler on SQLite with fsync and one node of two slots, over the shared RabbitMQ."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import tasks
from benchmarks.services import Services
from tests.cluster import Cluster, Daemon
from windrow import Client

SLOTS = 2
SETTINGS = (
    "durable: RabbitMQ with confirms and persistent messages, SQLite with fsync; 1 node of 2 slots; no setting changed"
)
PATIENCE_S = 900.0


class BenchCluster(Cluster):
    """As the tests have it; with `chunk_items`, the scheduler cuts chunks of that size and no other."""

    def __init__(self, folder: Path, *, chunk_items: int | None = None, **options: Any) -> None:
        self._chunk_items = chunk_items
        super().__init__(folder, **options)

    def spawn(self, daemon: Daemon) -> None:
        if self._chunk_items is None or daemon is not self.scheduler:
            super().spawn(daemon)
            return
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fixed_chunks", str(self._chunk_items), *daemon.arguments],
                cwd=self.folder, env=self._daemon_environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip


@contextlib.contextmanager
def windrow(services: Services, *, warm: bool = True, **options: Any) -> Generator[tuple[BenchCluster, Client]]:
    """A fresh cluster and a client of it. `warm`: it has run some calls already, as the neighbours have."""
    options = {"nodes": 1, "slots": SLOTS, "tasks": ["benchmarks.tasks"], "amqp_url": services.amqp_url(), **options}
    with tempfile.TemporaryDirectory(dir=services.folder, ignore_cleanup_errors=True) as folder:
        cluster = BenchCluster(Path(folder), **options)
        try:
            with cluster.client() as client:
                if warm and options["nodes"]:
                    for future in [client.submit(tasks.same, x) for x in range(50)]:
                        future.result(PATIENCE_S)
                yield cluster, client
            cluster.stop()
        finally:
            cluster.kill()


def memory_mb(cluster: BenchCluster) -> float:
    """What the scheduler holds now."""
    return float(psutil.Process(cluster.scheduler.pid).memory_info().rss) / 1e6


def processor_s(pid: int, *, family: bool = False) -> float:
    """Processor time that a process has used so far, with its children where asked."""
    process = psutil.Process(pid)
    each = [process, *(process.children(recursive=True) if family else [])]
    return float(sum(sum(one.cpu_times()[:2]) for one in each))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def s(self) -> float:
        return time.perf_counter() - self._began
