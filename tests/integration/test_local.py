"""A cluster of one's own, and how a client leaves when its process ends; `windrow up` is played by a script."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_scheduler import FakeScheduler
from windrow import local
from windrow.common.errors import Unreachable

pytestmark = pytest.mark.integration

UP = """
import json, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
print("noise")
(folder / "scheduler.json").write_text(json.dumps({"url": sys.argv[2], "http": None, "pid": 0}))
if sys.argv[3] == "stubborn":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
else:
    # Whoever runs the tests in the background of a shell hands down an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("ready", flush=True)
    print("x" * 200_000, flush=True)
    while True:
        signal.pause()
except KeyboardInterrupt:
    pathlib.Path(sys.argv[4]).write_text("stopped in order")
"""


def add(x: int, y: int) -> int:
    return x + y


def invert(x: int) -> float:
    return 1 / x


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    made = FakeScheduler({"t:add": add})
    made.start()
    yield made
    made.stop()


def play(monkeypatch: pytest.MonkeyPatch, url: str, mood: str, mark: Path) -> list[Path]:
    folders: list[Path] = []

    def command(slots: int, nodes: int, tasks: object, allow: object, folder: Path, allow_commands: bool) -> list[str]:
        folders.append(folder)
        return [sys.executable, "-c", UP, str(folder), url, mood, str(mark)]

    monkeypatch.setattr("windrow.client.local._command", command)
    return folders


def test_a_local_cluster_serves_and_is_stopped_and_cleared_away(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = play(monkeypatch, scheduler.url, "gentle", tmp_path / "mark")
    with local(slots=4, tasks=["mytasks"]) as client:
        future = client.submit("t:add", 2, 2)
        assert folders[0].is_dir()
    assert future.result(0) == 4
    assert (tmp_path / "mark").read_text() == "stopped in order"
    assert not folders[0].exists()


def test_a_given_state_folder_stays_and_a_stubborn_cluster_is_killed(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    play(monkeypatch, scheduler.url, "stubborn", tmp_path / "mark")
    monkeypatch.setattr("windrow.client.local.STOP_SECONDS", 0.3)
    scheduler.working.clear()
    with pytest.raises(ZeroDivisionError), local(state_dir=tmp_path / "state") as client:
        invert(client.submit("t:add", 2, 2).running())
    assert (tmp_path / "state" / "up.log").exists()
    assert not (tmp_path / "mark").exists()


def test_a_cluster_that_does_not_start_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]

    def fails(*given: object) -> list[str]:
        return command

    monkeypatch.setattr("windrow.client.local._command", fails)
    with pytest.raises(Unreachable, match=r"(?s)ended before it was ready.*the port is taken"), local():
        pass


def test_the_command_line_is_that_of_windrow_up(tmp_path: Path) -> None:
    command = importlib.import_module("windrow.client.local")._command(3, 2, ["a", "./b.py"], ["c"], tmp_path)
    assert command[1:] == [
        "-m", "windrow.cli", "up", "--port", "0", "--http-port", "0", "--state", str(tmp_path), "--nodes", "2",
        "--slots", "3", "--tasks", "a", "--tasks", "./b.py", "--allow", "c",
    ]  # fmt: skip
    allowing = importlib.import_module("windrow.client.local")._command(1, 1, [], [], tmp_path, True)
    assert "--allow-commands" in allowing
    assert "--allow-commands" not in command


def run_script(code: str, url: str) -> float:
    began = time.monotonic()
    environment = os.environ | {"WINDROW_URL": url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=30)
    return time.monotonic() - began


SUBMIT_AND_GO = "import windrow; c = windrow.Client(); [c.submit('t:add', n, 1) for n in range(1000)]"


def test_what_was_submitted_is_sent_before_the_interpreter_ends(scheduler: FakeScheduler) -> None:
    scheduler.working.clear()
    run_script(SUBMIT_AND_GO, scheduler.url)
    assert [len(job.items) for job in scheduler.jobs.values()] == [1000]


def test_the_end_of_the_interpreter_never_hangs_without_a_scheduler() -> None:
    assert run_script(SUBMIT_AND_GO, "tcp://127.0.0.1:9") < 20
