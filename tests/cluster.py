"""A whole cluster as processes: a scheduler and node daemons, to be killed and started again, and what clients see."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil

from tests.dispatching import delete_queues
from tests.waiting import wait_until
from windrow import Client
from windrow.common.errors import WindrowError
from windrow.common.messages import NodeInfo

TASKS = "tests.cluster_tasks"
ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0
STOP_S = 40.0
LOG_LINES = 15


@dataclass(slots=True)
class Daemon:
    """One daemon and every process that it has had."""

    name: str
    arguments: list[str]
    log: Path
    before: list[str] = field(default_factory=list[str])
    """What is put before its command line."""
    process: subprocess.Popen[bytes] | None = None
    family: list[psutil.Process] = field(default_factory=list[psutil.Process])
    """Processes seen below earlier processes of this daemon, when those were killed."""

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Cluster:
    """`nodes` nodes of `slots` slots each, at work when the constructor returns; `stop` checks that all went well."""

    def __init__(
        self,
        folder: Path,
        *,
        amqp_url: str = "local:",
        nodes: int = 2,
        slots: int = 1,
        tasks: Iterable[str] = (TASKS,),
        settings: Mapping[str, str] | None = None,
        node_flags: Iterable[str] = (),
    ) -> None:
        """`settings`: environment of every daemon, e.g. WINDROW_SCHEDULER__LEASE_S; `node_flags`: of every node."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.amqp_url = amqp_url
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WINDROW_")}
        self.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        # The daemons alone get the broker's address, and die with this process, even if it is killed.
        self._daemon_environment = {
            **self.environment,
            **(settings or {}),
            "WINDROW_AMQP_URL": amqp_url,
            "WINDROW_PARENT_PID": str(os.getpid()),
        }
        self.scheduler = self._daemon("scheduler", ["scheduler", "--port", "0", "--http-port", "0"])
        self.nodes: list[Daemon] = []
        self._slots = slots
        self._tasks = list(tasks)
        self._node_flags = list(node_flags)
        self._queues: set[str] = set()
        self.url = self.http = ""
        self._watcher: Client | None = None
        try:
            self.start_scheduler()
            for _ in range(nodes):
                self.add_node()
            for index in range(nodes):
                self.await_node(index)
        except BaseException:
            self.kill()
            raise

    # ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────

    def start_scheduler(self) -> None:
        """Start it, the first time at any ports, then at the same ones; returns when it takes work."""
        self.spawn(self.scheduler)
        ready = self.folder / "scheduler" / "scheduler.json"

        def is_ready() -> bool:
            self._check_runs(self.scheduler)
            return ready.exists() and json.loads(ready.read_text())["pid"] == self.scheduler.pid

        wait_until(is_ready, START_S, "the scheduler's ready file")
        facts = json.loads(ready.read_text())
        self.url, self.http = facts["url"], facts["http"]
        ports = {"--port": self.url, "--http-port": self.http}
        for flag, address in ports.items():
            self.scheduler.arguments[self.scheduler.arguments.index(flag) + 1] = str(urlsplit(address).port)

    def kill_scheduler(self) -> None:
        self.kill_daemon(self.scheduler)

    def add_node(
        self, *, url: str = "", tasks: Iterable[str] = (), before: Iterable[str] = (), more_flags: Iterable[str] = ()
    ) -> int:
        """Start one more node, without waiting for it; its number. `before`: what its command line begins with."""
        name = f"node-{len(self.nodes)}"
        flags = ["--url", url or self.url, "--name", name, "--slots", str(self._slots)]
        sources = [part for source in tuple(tasks) or self._tasks for part in ("--tasks", source)]
        self.nodes.append(self._daemon(name, ["node", *flags, *self._node_flags, *more_flags, *sources]))
        self.nodes[-1].before = list(before)
        self.spawn(self.nodes[-1])
        return len(self.nodes) - 1

    def kill_node(self, index: int) -> None:
        """SIGKILL for the daemon; its workers have to notice by themselves."""
        self.kill_daemon(self.nodes[index])

    def reap_node(self, index: int) -> None:
        """Take note that a node has ended or is about to, which is no fault."""
        daemon = self.nodes[index]
        assert daemon.process is not None
        daemon.process.wait(STOP_S)
        daemon.process = None

    def start_node(self, index: int, *, wait: bool = True) -> None:
        """Start a killed node again in its old folder; returns when it offers its tasks."""
        self.spawn(self.nodes[index])
        if wait:
            self.await_node(index)

    def stop(self) -> None:
        """Stop everything in order. Whatever died by itself, did not stop in order or stayed fails the test."""
        running = [daemon for daemon in (*self.nodes, self.scheduler) if daemon.process is not None]
        family = [child for daemon in (*self.nodes, self.scheduler) for child in daemon.family]
        try:
            for daemon in running:
                self._check_runs(daemon)
                family += daemon.children()
            self._note_queues()
            self._close_watcher()
            for daemon in running:
                self.stop_daemon(daemon)
            left = psutil.wait_procs(family, timeout=10.0)[1]
            assert not left, f"still running after the cluster has stopped: {left}"
        finally:
            self.kill()
        self._check_logs()

    def kill(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        self._close_watcher()
        for daemon in (*self.nodes, self.scheduler):
            if daemon.process is not None:
                daemon.family += daemon.children()
                daemon.process.kill()
                daemon.process.wait()
                daemon.process = None
            for child in daemon.family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()  # psutil knows whether the pid is still the same process
        if self._queues:
            with contextlib.suppress(Exception):  # a broker that a test has killed
                delete_queues(self.amqp_url, *self._queues)
            self._queues.clear()

    def _daemon(self, name: str, arguments: list[str]) -> Daemon:
        return Daemon(name, [*arguments, "--state", str(self.folder / name)], self.folder / f"{name}.log")

    def spawn(self, daemon: Daemon) -> None:
        """Start its process, without waiting for anything."""
        assert daemon.process is None, f"{daemon.name} is running already"
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(
                [*daemon.before, sys.executable, "-m", "windrow.cli", *daemon.arguments],
                cwd=self.folder, env=self._daemon_environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill_daemon(self, daemon: Daemon) -> None:
        """SIGKILL; what it has started is remembered, for `stop` to see that it ends."""
        self._check_runs(daemon)
        assert daemon.process is not None
        daemon.family += daemon.children()
        daemon.process.kill()
        daemon.process.wait()
        daemon.process = None

    def stop_daemon(self, daemon: Daemon) -> None:
        """SIGTERM; AssertionError where it does not stop in order."""
        assert daemon.process is not None
        daemon.process.terminate()
        try:
            code = daemon.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{daemon.name} did not stop in {STOP_S} s:\n{daemon.last_lines()}") from None
        assert code == 0, f"{daemon.name} stopped with exit code {code}:\n{daemon.last_lines()}"
        daemon.process = None

    def _check_runs(self, daemon: Daemon) -> None:
        code = daemon.process.poll() if daemon.process is not None else None
        assert code is None, f"{daemon.name} has ended by itself with exit code {code}:\n{daemon.last_lines()}"

    def _check_logs(self) -> None:
        for daemon in (self.scheduler, *self.nodes):
            text = daemon.log.read_text(errors="replace")
            at = text.find("Traceback (most recent call last)")
            assert at < 0, f"{daemon.name} has logged a traceback:\n{text[max(0, at - 500) : at + 3000]}"

    # ── What can be seen of it ───────────────────────────────────────────────────────────────────────────────────

    def client(self, **options: Any) -> Client:
        """A new client; the caller closes it."""
        return Client(self.url, **options)

    @property
    def watcher(self) -> Client:
        """The cluster's own client, for looking."""
        if self._watcher is None:
            self._watcher = Client(self.url)
        return self._watcher

    def find_node(self, index: int) -> NodeInfo | None:
        """What the scheduler says of a node."""
        self._check_runs(self.scheduler)
        name = self.nodes[index].name
        return next((node for node in self.watcher.nodes() if node.name == name), None)

    def node(self, index: int) -> NodeInfo:
        found = self.find_node(index)
        assert found is not None, f"the scheduler does not know node {index}"
        return found

    def wait_node(self, index: int, holds: Callable[[NodeInfo], object], what: str, timeout_s: float = 15.0) -> None:
        """Wait until something is true of a node."""

        def look() -> bool:
            found = self.find_node(index)
            return found is not None and bool(holds(found))

        wait_until(look, timeout_s, what, poll_s=0.05)

    def await_node(self, index: int) -> None:
        """Wait until the daemon that runs now, not the one before it, offers its tasks and its workers are there."""
        daemon = self.nodes[index]

        def is_this_boot(node: NodeInfo) -> bool:
            self._check_runs(daemon)
            if node.state != "alive" or not node.tasks or node.load is None:
                return False
            pids = {slot.pid for slot in node.load.slots if slot.state in ("idle", "busy")}
            return len(pids) == self._slots and pids <= {child.pid for child in daemon.children()}

        self.wait_node(index, is_this_boot, f"{daemon.name} to join", START_S)

    def windrow(
        self, *arguments: str, code: int | None = 0, url: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line; it must end with this exit code (None: any), and never show a traceback."""
        return run_windrow(
            *arguments, "--url", url or self.url, code=code, folder=self.folder, environment=self.environment
        )

    def metric(self, name: str) -> float:
        """Sum over all labels of one metric, as /metrics shows it."""
        with urlopen(f"{self.http}/metrics", timeout=10) as answer:
            lines = str(answer.read(), "utf-8").splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        assert found, f"/metrics has no {name}"
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def node_queue(self, index: int) -> str:
        """The name of a node's queue in RabbitMQ."""
        return f"windrow.{self.watcher.health().cluster}.node.{self.node(index).id}"

    def _note_queues(self) -> None:
        """Which queues to delete at the end: a node that may come back keeps its own."""
        if self.amqp_url != "local:" and self.scheduler.process is not None:
            with contextlib.suppress(WindrowError):
                cluster = self.watcher.health().cluster
                self._queues = {f"windrow.{cluster}.node.{node.id}" for node in self.watcher.nodes()}

    def _close_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.shutdown(wait=False)


def run_windrow(
    *arguments: str, code: int | None, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`."""
    done = subprocess.run(
        [sys.executable, "-m", "windrow.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # Those of tasks are shown with an indent.
    assert not re.search("^Traceback", done.stdout + done.stderr, re.MULTILINE), done.stdout + done.stderr
    assert code in (None, done.returncode), f"exit code {done.returncode} of {arguments}:\n{done.stdout}\n{done.stderr}"
    return done


@contextlib.contextmanager
def running_cluster(folder: Path, **options: Any) -> Generator[Cluster]:
    """A cluster for a `with`: checked at the end, and only cleared away where the test has failed already."""
    cluster = Cluster(folder, **options)
    try:
        yield cluster
    except BaseException:
        cluster.kill()
        raise
    cluster.stop()
