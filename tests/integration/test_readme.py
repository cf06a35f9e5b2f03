"""The README's example and shell blocks are taken from README.md and run as they stand, on free ports."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.broker import Broker, free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
RUN_S = 90.0
STOP_S = 40.0


def blocks() -> list[tuple[str, str, str]]:
    """(heading, language, text) of every block of code, in order."""
    found: list[tuple[str, str, str]] = []
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        found += [(heading, *block) for block in re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)]
    return found


def block(heading: str, starting: str) -> str:
    """The one block under this heading that starts so."""
    (found,) = [text for title, _, text in blocks() if title == heading and text.startswith(starting)]
    return found


class Terminal:
    """A folder with the README's files, and shells in which its lines are typed; ends whatever they started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        commands = folder / "bin"
        commands.mkdir()
        for name, module in (("windrow", "-m windrow.cli"), ("python", "")):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
            script.chmod(0o755)
        for text in (text for _, language, text in blocks() if language == "python"):
            (folder / text.partition("\n")[0].removeprefix("# ")).write_text(text)
        port = free_port()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("WINDROW_")} | {
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # Where the README uses the default ports and folders, these take their place.
            "WINDROW_SCHEDULER__PORT": str(port),
            "WINDROW_SCHEDULER__HTTP_PORT": "off",
            "WINDROW_URL": f"tcp://127.0.0.1:{port}",
            "WINDROW_STATE_DIR": str(folder / "state"),
        }
        self._shells: list[subprocess.Popen[str]] = []
        self._outputs = 0

    def type(self, lines: str) -> subprocess.Popen[str]:
        """A shell in a session of its own that runs these lines; it stops at the first that fails."""
        self._outputs += 1
        with (
            (self.folder / f"{self._outputs}.out").open("w") as out,
            (self.folder / f"{self._outputs}.err").open("w") as err,
        ):
            shell = subprocess.Popen(
                ["bash", "-eu", "-c", lines], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, text=True,
            )  # fmt: skip
        self._shells.append(shell)
        return shell

    def start_up(self, line: str) -> subprocess.Popen[str]:
        """`windrow up …`, which goes on; returns when it has printed `ready`."""
        shell = self.type(line)
        out, err = (self.folder / f"{self._outputs}.{kind}" for kind in ("out", "err"))
        wait_until(lambda: "ready" in out.read_text() or shell.poll() is not None, 60.0, "`windrow up` to be ready")
        assert out.read_text() == "ready\n", err.read_text()
        return shell

    def output(self) -> str:
        return (self.folder / f"{self._outputs}.out").read_text()

    def run(self, lines: str) -> str:
        """Run the lines to their end, which must be a good one; what they printed."""
        shell = self.type(lines)
        code = shell.wait(RUN_S)
        errors = (self.folder / f"{self._outputs}.err").read_text()
        assert code == 0, f"{lines}\n{self.output()}\n{errors}"
        assert "Traceback" not in errors
        return self.output()

    def of_session(self, shell: subprocess.Popen[str]) -> list[psutil.Process]:
        """What still runs of all that a shell has started."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == shell.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def stop(self, shell: subprocess.Popen[str], signum: signal.Signals) -> None:
        """Signal everything of the shell's own group, and wait until nothing of its session is left."""
        for process in self.of_session(shell):
            if os.getpgid(process.pid) == shell.pid:
                process.send_signal(signum)
        shell.wait(STOP_S)
        wait_until(lambda: not self.of_session(shell), STOP_S, "everything that was started to end")

    def close(self) -> None:
        for shell in self._shells:
            for process in self.of_session(shell):
                process.kill()
            shell.wait(10)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_every_block_is_known_here() -> None:
    """A block that is added to the README must be run by a test below, or be named here with the reason why not."""
    assert [(heading, text.split("\n")[0].split(" ")[0]) for heading, _, text in blocks()] == [
        ("See it, install it", "make"),  # .ci: it is a program of its own, and checks itself
        ("See it, install it", "pip"),  # tests/system/test_install.py
        ("A first job", "#"),
        ("A first job", "#"),
        ("A first job", "windrow"),
        ("A first job", "python"),
        ("An export", "windrow"),
        ("Shell commands", "ls"),
        ("The same cluster on RabbitMQ", "export"),
    ]


def test_the_first_job_runs_as_written(terminal: Terminal) -> None:
    up = terminal.start_up(block("A first job", "windrow up"))
    printed = terminal.run(block("A first job", "python squares.py"))
    lines = printed.splitlines()
    assert lines[:2] == ["49", f"100000 {sum(x * x for x in range(100_000))}"]
    assert [str(x * x) for x in range(1000)] == [line for line in lines if line.isdigit()][1:]
    assert "squares" in printed
    assert "node-2" in printed
    terminal.stop(up, signal.SIGINT)
    assert up.returncode == 0


def test_the_export_runs_as_written(terminal: Terminal) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (terminal.folder / "flights.csv").write_text("carrier,dep_delay,distance\nUA,5,100\nAA,-3,200\nB6,1,300\nDL,,400\n")
    # Beside a cluster, as the port that is free is known to be; without one: tests/unit/test_cli_commands.py.
    up = terminal.start_up("windrow up")
    assert "2 rows" in terminal.run(block("An export", "windrow export"))
    rows = parquet.read_table(terminal.folder / "late.parquet").to_pylist()
    assert rows == [{"carrier": "UA", "miles": 100.0}, {"carrier": "B6", "miles": 300.0}]
    terminal.stop(up, signal.SIGINT)


def test_the_shell_commands_run_as_written(terminal: Terminal) -> None:
    (terminal.folder / "a b.csv").write_text("1\n")
    up = terminal.start_up("windrow up --allow-commands")
    terminal.run(block("Shell commands", "ls"))
    assert (terminal.folder / "a b.csv.gz").exists()
    assert [(terminal.folder / f"page-{page}.txt").read_text() for page in (1, 2, 3)] == [
        "page 1\n", "page 2\n", "page 3\n",
    ]  # fmt: skip
    terminal.stop(up, signal.SIGINT)


def test_the_cluster_on_rabbitmq_runs_as_written_in_five_lines(terminal: Terminal, broker: Broker) -> None:
    lines = block("The same cluster on RabbitMQ", "export")
    assert lines.count("\n") == 5
    written = "amqp://guest:guest@127.0.0.1:5672/%2F"
    assert written in lines
    shell = terminal.type(lines.replace(written, broker.url) + "windrow nodes\nwindrow doctor\n")
    assert shell.wait(RUN_S) == 0, terminal.output() + (terminal.folder / "1.err").read_text()
    printed = terminal.output()
    assert f"100000 {sum(x * x for x in range(100_000))}" in printed
    assert "north" in printed
    assert "south" in printed
    assert "local:" not in printed
    # With SIGTERM, as `kill` sends it, they finish what runs and leave.
    terminal.stop(shell, signal.SIGTERM)
