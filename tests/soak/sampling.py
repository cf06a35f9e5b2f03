"""Looks every few seconds at what must stay flat: processes, store, spools, broker."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pika
import psutil

from tests.chaos.site import Site
from tests.soak.judging import Point
from windrow import Client, WindrowError

Series = dict[str, list[Point]]


class Sampler:
    """A thread; `series` grows until `stop`."""

    def __init__(self, site: Site, began_at: float, every_s: float) -> None:
        self.series: Series = {}
        self._site = site
        self._began_at = began_at
        self._every_s = every_s
        self._over = threading.Event()
        self._client = Client(site.cluster.url, timeout=2.0)
        self._thread = threading.Thread(target=self._look, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(30.0)
        self._client.shutdown(wait=False)

    def _look(self) -> None:
        while not self._over.wait(self._every_s):
            for look in (self._look_at_processes, self._look_at_store, self._look_at_core, self._look_at_broker):
                # What is being restarted cannot be looked at; the next sample will do.
                with contextlib.suppress(psutil.Error, OSError, sqlite3.Error, WindrowError, pika.exceptions.AMQPError):
                    look()

    def _put(self, name: str, value: float, life: object = "") -> None:
        self.series.setdefault(name, []).append(Point(time.monotonic() - self._began_at, float(value), str(life)))

    def _look_at_processes(self) -> None:
        cluster = self._site.cluster
        for daemon in (cluster.scheduler, *cluster.nodes):
            process = daemon.process
            if process is not None and process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self._put_processes(daemon.name, [psutil.Process(process.pid)])
        for node in cluster.nodes:
            if node.process is not None and node.process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self._put_processes(f"{node.name} workers", self._site.workers(node.name))

    def _put_processes(self, who: str, processes: Sequence[psutil.Process]) -> None:
        """The one that takes most, for what only some of them have imported yet is no growth; a life ends with any."""
        if not processes:
            return
        life = " ".join(str(process.pid) for process in processes)
        self._put(f"{who}.memory", max(process.memory_info().rss for process in processes), life)
        self._put(f"{who}.files", max(process.num_fds() for process in processes), life)
        self._put(f"{who}.threads", max(process.num_threads() for process in processes), life)

    def _look_at_store(self) -> None:
        cluster = self._site.cluster
        database = cluster.folder / "scheduler" / "windrow.db"
        self._put("store.database", database.stat().st_size)
        log = Path(f"{database}-wal")
        self._put("store.log", log.stat().st_size if log.exists() else 0)
        self._put("spools", sum(_size_of(cluster.folder / node.name) for node in cluster.nodes))
        link = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1.0)
        try:
            self._put("store.jobs", link.execute("SELECT count(*) FROM job").fetchone()[0])
        finally:
            link.close()

    def _look_at_core(self) -> None:
        self._put("core.jobs", self._client.health().jobs)

    def _look_at_broker(self) -> None:
        if self._site.brokers is None:
            return
        [broker] = self._site.brokers.by_name.values()
        if (memory := broker.memory_bytes()) is not None:
            self._put("broker.memory", memory)
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        try:
            channel = connection.channel()
            depths = [channel.queue_declare(queue, passive=True).method.message_count for queue in self._site.queues]
            self._put("broker.messages", sum(depths))
        finally:
            connection.close()


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total
