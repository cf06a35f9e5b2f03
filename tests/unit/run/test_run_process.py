"""Commands as processes: their outputs, their end, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until
from windrow.run.process import CommandRunner, Ended, Kept, Stopped

PATIENCE_S = 10.0
Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    runner = CommandRunner()

    def start(*arguments: str, **options: object) -> Ended:
        given: dict[str, object] = {
            "cwd": str(tmp_path), "env": os.environ, "timeout_s": None, "output_bytes": 1000,
            "is_cancelled": lambda: False, **options,
        }  # fmt: skip
        return runner.run(list(arguments), **given)  # type: ignore[arg-type]

    yield start
    runner._group.kill()  # pyright: ignore[reportPrivateUsage]


def is_alive(file: Path) -> bool:
    try:
        return psutil.Process(int(file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_outputs_and_codes_come_back_apart(run: Run) -> None:
    ended = run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ended.code, ended.stdout.content(), ended.stderr.content(), ended.stopped) == (3, b"out\n", b"err\n", None)
    assert run("sh", "-c", "kill -9 $$").code == -signal.SIGKILL


def test_the_middle_of_a_long_output_is_left_out_and_counted(run: Run) -> None:
    ended = run("sh", "-c", "printf begin; head -c 3000000 /dev/zero; printf finish", output_bytes=20)
    content = ended.stdout.content()
    assert content.startswith(b"begin\0")
    assert content.endswith(b"\0finish")
    assert ended.stdout.left_out == 3_000_011 - 20
    assert b"[windrow: 2999991 bytes left out]" in content


@pytest.mark.parametrize("pieces", [[10], [1] * 10, [5, 5], [4, 6], [7, 3]])
def test_an_output_that_fits_is_kept_whole_however_it_comes(pieces: list[int]) -> None:
    kept, data, at = Kept(10), b"0123456789", 0
    for size in pieces:
        kept.add(data[at : at + size])
        at += size
    assert (kept.content(), kept.left_out) == (data, 0)
    kept.add(b"x")
    assert (kept.left_out, kept.total) == (1, 11)


def test_folder_and_environment_are_the_commands_own(run: Run, tmp_path: Path) -> None:
    before = Path.cwd()
    ended = run("sh", "-c", "pwd; echo $A", env={"PATH": os.environ["PATH"], "A": "1"})
    assert ended.stdout.content().decode().split() == [str(tmp_path.resolve()), "1"]
    assert Path.cwd() == before


def test_programs_are_found_on_the_path_of_the_command_and_from_its_folder(run: Run, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho one\n")
    tool.chmod(0o755)
    assert run("./tool").stdout.content() == b"one\n"
    assert run("tool", env={"PATH": f"/nowhere::{os.environ['PATH']}"}).stdout.content() == b"one\n"
    with pytest.raises(FileNotFoundError):
        run("tool")
    tool.chmod(0o644)
    with pytest.raises(PermissionError):
        run("tool", env={"PATH": str(tmp_path)})
    with pytest.raises(PermissionError):
        run("./tool")


def test_a_failed_start_leaves_no_descriptor_open(run: Run) -> None:
    run("true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(FileNotFoundError):
            run("there-is-no-such-command")
        run("true")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_has_no_input_and_dies_of_a_closed_pipe_as_usual(run: Run) -> None:
    assert run("cat").code == 0
    assert run("sh", "-c", "yes | head -n 1").stdout.content() == b"y\n"


def test_what_runs_on_in_the_background_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    ended = run("sh", "-c", "sleep 600 & echo $! > left; echo done")
    assert ended.stdout.content() == b"done\n"
    assert is_alive(tmp_path / "left")


def test_over_its_time_a_command_is_killed_with_all_that_it_started(run: Run, tmp_path: Path) -> None:
    ended = run("sh", "-c", "echo part; sleep 600 & echo $! > child; wait", timeout_s=0.3)
    assert (ended.stopped, ended.code, ended.stdout.content()) == (Stopped.TIMEOUT, -signal.SIGTERM, b"part\n")
    wait_until(lambda: not is_alive(tmp_path / "child"), PATIENCE_S, "the command's child to end")
    assert run("echo", "next").stdout.content() == b"next\n"


def test_a_command_that_ignores_sigterm_or_has_left_the_group_is_killed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windrow.run.process.GRACE_S", 0.1)
    assert run("sh", "-c", "trap '' TERM; while :; do :; done", timeout_s=0.2).code == -signal.SIGKILL
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    assert run("setsid", sys.executable, "-S", "-c", deaf, timeout_s=0.5).code < 0


@pytest.mark.parametrize("script", ["sleep 600", "yes"])
def test_a_command_that_nobody_wants_any_more_is_killed(run: Run, script: str) -> None:
    asked: list[bool] = []

    def is_cancelled() -> bool:
        asked.append(True)
        return len(asked) > 1

    assert run("sh", "-c", script, is_cancelled=is_cancelled).stopped is Stopped.CANCELLED


HOST = """
import os, sys
from windrow.run.process import CommandRunner
CommandRunner().run(["sh", "-c", "echo $$ > command; sleep 600 & echo $! > child; wait"], cwd=sys.argv[1],
    env=os.environ, timeout_s=None, output_bytes=10, is_cancelled=lambda: False)
"""


def test_commands_die_with_the_process_that_runs_them_however_it_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOST, str(tmp_path)]) as host:
        try:
            wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), PATIENCE_S, "start")
            assert is_alive(tmp_path / "command")
        finally:
            host.kill()
    for name in ("command", "child"):
        wait_until(lambda name=name: not is_alive(tmp_path / name), PATIENCE_S, f"the {name} to end")  # type: ignore[misc]
