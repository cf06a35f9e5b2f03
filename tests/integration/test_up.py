"""`windrow up` for real: scheduler, nodes and workers as processes, jobs from the command line."""

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

pytestmark = pytest.mark.integration

TASKS = """
import time
from windrow import task

@task
def add(x, y):
    return x + y

@task
def double(x):
    return 2 * x

@task
def fragile(x):
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x

@task
def slow(x):
    time.sleep(0.2)
    return x
"""


def wait_until(holds: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        threading.Event().wait(0.05)


class Up:
    """A running `windrow up` and the command line that talks to it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        (folder / "uptasks.py").write_text(TASKS)
        self.state = folder / "state"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WINDROW_")}
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        self.log = (folder / "log").open("wb")
        command = ["up", "--tasks", "uptasks", "--state", str(self.state), "--port", "0", "--http-port", "0", *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "windrow.cli", *command],
            cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline().strip()
        assert self.first_line == "ready", (folder / "log").read_text()
        self.facts = json.loads((self.state / "scheduler.json").read_text())

    def windrow(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "windrow.cli", *arguments, "--url", self.facts["url"]],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.log.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path, "--nodes", "2", "--slots", "1")
    yield running
    running.close()


def test_a_job_goes_from_submit_to_results(up: Up) -> None:
    job = up.windrow("submit", "uptasks:add", "--args", "[20, 22]", "--wait", "--json")
    assert json.loads(job)["done"] == 1
    assert up.windrow("results", "last") == "42\n"
    up.windrow("submit", "uptasks:double", "--range", "1000", "--wait")
    assert [int(line) for line in up.windrow("results", "last").splitlines()] == [2 * x for x in range(1000)]


def test_failed_items_are_counted_listed_and_retried(up: Up) -> None:
    job = up.windrow("submit", "uptasks:fragile", "--range", "20").strip()
    up.windrow("wait", job, "--timeout", "30", code=1)
    assert json.loads(up.windrow("job", job[:6], "--json"))["failed"] == 2
    assert "ValueError: no …" in up.windrow("failures", job)
    assert "1 item of" in up.windrow("retry", job, "--items", "3")
    up.windrow("wait", job, code=1)


def test_nodes_and_doctor_see_two_nodes(up: Up) -> None:
    names = {node["name"]: node["state"] for node in json.loads(up.windrow("nodes", "--json"))["nodes"]}
    assert names == {"node-1": "alive", "node-2": "alive"}
    checks = {check["name"]: check["state"] for check in json.loads(up.windrow("doctor", "--json"))["checks"]}
    assert (checks["scheduler"], checks["nodes"], checks["tasks"]) == ("ok", "ok", "ok")


def test_ctrl_c_stops_everything_in_order_with_exit_code_0(up: Up) -> None:
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert not (up.state / "scheduler.json").exists()
    assert not (up.state / "scheduler" / "scheduler.json").exists()


def test_a_killed_scheduler_comes_back_at_the_same_address_and_the_job_ends(up: Up) -> None:
    job = up.windrow("submit", "uptasks:slow", "--range", "40").strip()
    before = json.loads((up.state / "scheduler" / "scheduler.json").read_text())
    os.kill(before["pid"], signal.SIGKILL)
    up.windrow("wait", job, "--timeout", "60")
    after = json.loads((up.state / "scheduler" / "scheduler.json").read_text())
    assert after["url"] == before["url"]
    assert after["pid"] != before["pid"]
    assert [int(line) for line in up.windrow("results", job).splitlines()] == list(range(40))


def test_a_port_that_is_taken_is_said_in_a_line(up: Up, tmp_path: Path) -> None:
    port = up.facts["url"].rpartition(":")[2]
    flags = ["--port", port, "--http-port", "off", "--state", str(tmp_path / "2")]
    done = subprocess.run(
        [sys.executable, "-m", "windrow.cli", "up", *flags],
        cwd=tmp_path, env=up.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "before the cluster was ready" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
