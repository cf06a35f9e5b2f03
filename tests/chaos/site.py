"""What a chaos run breaks: the processes of a cluster, its broker, and a link for each connection between them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil

from tests.broker import make_broker, make_broker_cluster
from tests.chaos.plan import ALL_BROKERS, Dispatch, broker_names, link_names
from tests.chaos.tasks import FOLDER_VARIABLE
from tests.cluster import Cluster, Daemon
from tests.link import Link

TASKS = "tests.chaos.tasks"
LOOK_S = 0.2
WORKER_MODULE = "windrow.node.worker"


class OneBroker(Protocol):
    """What is done to one RabbitMQ."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def start(self) -> None: ...

    def memory_bytes(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Brokers:
    """The RabbitMQ of a site, alone or a cluster of several."""

    by_name: Mapping[str, OneBroker]
    queue_type: str
    wipe: Callable[[], None]
    """All of them; they are stopped first."""
    close: Callable[[], None]


def make_brokers(dispatch: Dispatch, count: int, version: str) -> Brokers | None:
    names = broker_names(dispatch, count)
    if not names:
        return None
    if count == 1:
        alone = make_broker(own=True, version=version)
        return Brokers({names[0]: alone}, "classic", alone.wipe, alone.close)
    cluster = make_broker_cluster(version)
    return Brokers(dict(zip(names, cluster.members, strict=True)), "quorum", cluster.wipe, cluster.close)


class Site:
    """A scheduler, nodes, perhaps a RabbitMQ, and the links between them and to the clients."""

    def __init__(
        self,
        folder: Path,
        dispatch: Dispatch,
        *,
        nodes: int,
        slots: int,
        clients: int,
        lease_s: float,
        brokers: int = 1,
        rabbitmq: str = "",
        linked: bool = True,
        tasks: Sequence[str] = (TASKS,),
        settings: Mapping[str, str] | None = None,
        note_runs: bool = True,
    ) -> None:
        """`linked` False: daemons and clients are connected without a link between them; `settings`: more of them;
        `note_runs`: tasks leave a line of each run."""
        self._tasks = tasks
        self._settings = dict(settings or {})
        self._note_runs = note_runs
        self.runs = folder / "runs"
        self.runs.mkdir(parents=True)
        self.links: dict[str, Link] = {}
        self.brokers: Brokers | None = None
        self.ended: list[str] = []
        """Daemons that ended by themselves, and were started again."""
        self.failed: list[str] = []
        """Daemons that could not be started again."""
        self.queues: list[str] = []
        self._claims: set[str] = set()
        self._claims_lock = threading.Lock()
        self._over = threading.Event()
        self._names = link_names(dispatch, nodes, clients, brokers) if linked else []
        # A daemon dies with the thread that has started it (the kernel takes that for its parent), so those that
        # start them live as long as the site.
        self._scheduler_starter = ThreadPoolExecutor(1, "scheduler-starter")
        self._node_starter = ThreadPoolExecutor(1, "node-starter")
        self._clearing = contextlib.ExitStack()
        self._clearing.callback(self._scheduler_starter.shutdown)
        self._clearing.callback(self._node_starter.shutdown)
        try:
            self.brokers = make_brokers(dispatch, brokers, rabbitmq)
            self._build(folder / "cluster", nodes, slots, lease_s)
        except BaseException:
            self.kill()
            raise

    def _build(self, folder: Path, nodes: int, slots: int, lease_s: float) -> None:
        if self.brokers is not None:
            self._clearing.callback(self.brokers.close)
            for name, broker in self.brokers.by_name.items():
                self._open_links(name, broker.url)
        settings = {
            "WINDROW_SCHEDULER__LEASE_S": str(lease_s),
            "WINDROW_SCHEDULER__HEARTBEAT_S": str(lease_s / 6),
            **({FOLDER_VARIABLE: str(self.runs)} if self._note_runs else {}),
            **self._settings,
        }
        if self.brokers is not None:
            settings["WINDROW_SCHEDULER__QUEUE_TYPE"] = self.brokers.queue_type
        url = self._amqp_url("scheduler") if self.brokers else "local:"
        self.cluster = Cluster(folder, amqp_url=url, nodes=0, slots=slots, tasks=self._tasks, settings=settings)
        self._clearing.callback(self.cluster.kill)
        self._open_links("scheduler", self.cluster.url)
        for number in range(nodes):
            flags = ["--amqp", self._amqp_url(f"node-{number}", number + 1)] if self.brokers else []
            self.cluster.add_node(url=self.url_for(f"node-{number}"), more_flags=flags)
        for number in range(nodes):
            self.cluster.await_node(number)
        if self.brokers:
            self.queues = [self.cluster.node_queue(number) for number in range(nodes)]
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._keeper.start()

    def _open_links(self, far: str, url: str) -> None:
        port = urlsplit(url).port
        assert port is not None
        for name in self._names:
            if name.endswith(f">{far}"):
                self.links[name] = Link(port)
                self._clearing.callback(self.links[name].close)

    def url_for(self, who: str) -> str:
        """Where `client-0` or `node-1` reaches the scheduler."""
        link = self.links.get(f"{who}>scheduler")
        return self.cluster.url if link is None else f"tcp://127.0.0.1:{link.port}"

    def _amqp_url(self, who: str, first: int = 0) -> str:
        """Of all brokers, by the links of this one if it has any; it begins with another broker than the others do."""
        assert self.brokers is not None
        urls: list[str] = []
        for name, broker in self.brokers.by_name.items():
            real, link = broker.url, self.links.get(f"{who}>{name}")
            urls.append(real if link is None else real.replace(f":{urlsplit(real).port}", f":{link.port}"))
        first %= len(urls)
        return ",".join((*urls[first:], *urls[:first]))

    def daemon(self, name: str) -> Daemon:
        daemons = {each.name: each for each in (self.cluster.scheduler, *self.cluster.nodes)}
        return daemons[name]

    def workers(self, node: str) -> list[psutil.Process]:
        """Worker processes of a node, by pid."""
        found: list[psutil.Process] = []
        for child in self.daemon(node).children():
            with contextlib.suppress(psutil.Error):
                if WORKER_MODULE in child.cmdline():
                    found.append(child)
        return sorted(found, key=lambda each: each.pid)

    # ── Who is being broken, and who must run ────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def claimed(self, name: str) -> Generator[bool]:
        """Whether nobody else is at it; while this holds nobody else will be."""
        names = set(self.brokers.by_name) if name == ALL_BROKERS and self.brokers is not None else {name}
        with self._claims_lock:
            free = not names & self._claims
            if free:
                self._claims |= names
        try:
            yield free
        finally:
            if free:
                with self._claims_lock:
                    self._claims -= names

    def start(self, daemon: Daemon) -> None:
        """Start a daemon that does not run, as systemd would."""
        if daemon is self.cluster.scheduler:
            self._scheduler_starter.submit(self.cluster.start_scheduler).result()
        else:
            self._node_starter.submit(self.cluster.spawn, daemon).result()

    def note_end(self, daemon: Daemon) -> bool:
        """Whether a daemon has ended by itself, which is taken down."""
        process = daemon.process
        if process is None or process.poll() is None:
            return False
        self.ended.append(f"{daemon.name} ended by itself with exit code {process.returncode}:\n{daemon.last_lines()}")
        daemon.process = None
        return True

    def _keep(self) -> None:
        while not self._over.wait(LOOK_S):
            for daemon in (self.cluster.scheduler, *self.cluster.nodes):
                with self.claimed(daemon.name) as free:
                    if free and self.note_end(daemon):
                        try:
                            self.start(daemon)
                        except AssertionError as error:
                            self.failed.append(f"{daemon.name} does not start again: {error}")
                            return

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def last_lines(self) -> str:
        """Of every log."""
        return "\n".join(
            f"── {each.name}\n{each.last_lines()}" for each in (self.cluster.scheduler, *self.cluster.nodes)
        )

    def stop(self) -> None:
        """In order; what does not stop in order, and a traceback in a log, is an AssertionError."""
        self._over.set()
        self._keeper.join(60.0)
        try:
            self.cluster.stop()
        finally:
            self.kill()

    def kill(self) -> None:
        """Leave nothing behind."""
        self._over.set()
        self._clearing.close()
