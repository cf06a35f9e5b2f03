"""`windrow up` keeps real child processes running; small scripts stand for the daemons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windrow.cli.child import Child
from windrow.cli.supervise import ChildFailed, Plan, Signals, Supervisor

pytestmark = pytest.mark.integration

DAEMON = """
import json, os, pathlib, signal, sys, time
from windrow.cli.parent import die_with_parent
die_with_parent()
name, folder, behaviour = sys.argv[1:4]
folder = pathlib.Path(folder)
def stop(*_):
    with (folder / "order").open("a") as file:
        file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else stop)
print("starting", file=sys.stderr, flush=True)
if behaviour == "bad":
    sys.exit("windrow: the store is locked")
(folder / (name + ".pid")).write_text(str(os.getpid()))
if name == "scheduler":
    part = folder / "part"
    part.write_text(json.dumps({"url": "tcp://127.0.0.1:1234", "http": None, "pid": os.getpid()}))
    part.replace(folder / "ready.json")
while True:
    time.sleep(0.05)
"""


def wait_until(holds: Callable[[], object], what: str, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        threading.Event().wait(0.02)


def alive(pid: int) -> bool:
    try:
        # A killed child whose parent is gone may be left as a zombie of the container's first process.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


class Cluster:
    """A supervisor over scripts."""

    def __init__(self, folder: Path, scheduler: str = "good", node: str = "good", grace_s: float = 20.0) -> None:
        self.folder = folder
        script = folder / "daemon.py"
        script.write_text(DAEMON)
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.pinned: list[str] = []
        self.signals = Signals()

        def child(name: str, behaviour: str) -> Child:
            return Child(name, [name, str(folder), behaviour], environment, (sys.executable, str(script)))

        self.scheduler = child("scheduler", scheduler)
        self.node = child("node-1", node)
        plan = Plan(
            scheduler=self.scheduler,
            ready_file=folder / "ready.json",
            make_nodes=lambda _: [self.node],
            pin_ports=lambda ready: self.pinned.append(ready.url),
            count_alive=lambda _: int((folder / "node-1.pid").exists()),
            grace_s=grace_s,
        )
        self.supervisor = Supervisor(plan, self.signals)

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def ask_to_stop(self) -> None:
        self.signals.count += 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def cluster(**options: object) -> Cluster:
        made.append(Cluster(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield cluster
    for each in made:
        for child in (each.node, each.scheduler):
            if child.running:
                child.send(signal.SIGKILL)
                wait_until(lambda child=child: not child.running, "a child is killed")  # type: ignore[misc]
            child.find_end()


def test_it_is_ready_when_the_nodes_are_alive_and_stops_the_nodes_first(make: Callable[..., Cluster]) -> None:
    cluster = make()
    ready = cluster.supervisor.bring_up()
    assert ready is not None
    assert (ready.url, ready.pid) == ("tcp://127.0.0.1:1234", cluster.pid("scheduler"))
    assert cluster.pinned == [ready.url]
    cluster.ask_to_stop()
    cluster.supervisor.keep_up()
    assert cluster.supervisor.stop()
    assert (cluster.folder / "order").read_text().split() == ["node-1", "scheduler"]


def test_a_ready_file_left_over_is_not_taken_for_ready(make: Callable[..., Cluster]) -> None:
    cluster = make(scheduler="bad")
    (cluster.folder / "ready.json").write_text(json.dumps({"url": "tcp://old:1", "http": None, "pid": 1}))
    with pytest.raises(ChildFailed):
        cluster.supervisor.bring_up()


@pytest.mark.parametrize(("role", "name"), [("scheduler", "scheduler"), ("node", "node-1")])
def test_a_child_that_ends_early_is_named_with_its_last_words(
    make: Callable[..., Cluster], role: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = make(**{role: "bad"})
    with pytest.raises(ChildFailed) as caught:
        cluster.supervisor.bring_up()
    expected = f"{name} ended with exit code 1 before the cluster was ready: windrow: the store is locked"
    assert (caught.value.message, caught.value.exit_code) == (expected, 1)
    assert f"[{name}] starting" in capfd.readouterr().err
    assert cluster.supervisor.stop()


def test_a_child_that_is_killed_later_is_started_again(make: Callable[..., Cluster]) -> None:
    cluster = make()
    assert cluster.supervisor.bring_up() is not None
    first = cluster.pid("node-1")
    keeper = threading.Thread(target=cluster.supervisor.keep_up)
    keeper.start()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: cluster.pid("node-1") != first and alive(cluster.pid("node-1")), "the node runs again")
    cluster.ask_to_stop()
    keeper.join(10)
    assert cluster.supervisor.stop()


def test_what_does_not_stop_within_its_time_is_killed(
    make: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windrow.cli.supervise.NODE_SLACK_S", 0.0)
    cluster = make(node="deaf", grace_s=0.3)
    assert cluster.supervisor.bring_up() is not None
    assert not cluster.supervisor.stop()
    assert not alive(cluster.pid("node-1"))
    assert (cluster.folder / "order").read_text().split() == ["scheduler"]


def test_a_second_signal_kills(make: Callable[..., Cluster]) -> None:
    cluster = make(node="deaf")
    assert cluster.supervisor.bring_up() is not None
    cluster.ask_to_stop()
    stopped: list[bool] = []
    stopper = threading.Thread(target=lambda: stopped.append(cluster.supervisor.stop()))
    stopper.start()
    wait_until(lambda: alive(cluster.pid("node-1")) and stopper.is_alive(), "it waits for the node")
    cluster.ask_to_stop()
    stopper.join(10)
    assert stopped == [False]
    assert not alive(cluster.pid("node-1"))


PARENT = """
import signal, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_supervise
cluster = test_supervise.Cluster(Path(sys.argv[1]))
cluster.supervisor.bring_up()
print("up", flush=True)
threading.Event().wait()
"""


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = PARENT.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        assert parent.stdout is not None
        with parent.stdout:
            assert parent.stdout.readline() == b"up\n"
            pids = [int((tmp_path / f"{name}.pid").read_text()) for name in ("scheduler", "node-1")]
            assert all(map(alive, pids))
            parent.kill()
            parent.wait(10)
        wait_until(lambda: not any(map(alive, pids)), "the children die with their parent")
    finally:
        parent.kill()
        parent.wait(10)
