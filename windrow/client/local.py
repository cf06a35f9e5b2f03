"""A cluster of one's own for scripts, notebooks and tests: starts `windrow up`, and stops it at the end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from windrow.client.client import Client
from windrow.common.errors import Unreachable

READY_SECONDS = 60.0
"""How long the cluster may take until it says `ready`."""
STOP_SECONDS = 20.0
"""How long it may take to stop before it is killed."""
LOG_CHARS = 2000
"""The end of its log that is shown where it does not start."""


@contextlib.contextmanager
def local(
    slots: int = 2,
    nodes: int = 1,
    tasks: Sequence[str] = (),
    allow: Sequence[str] = (),
    state_dir: str | os.PathLike[str] | None = None,
    allow_commands: bool = False,
) -> Generator[Client]:
    """A client of a new scheduler with `nodes` nodes of `slots` worker processes each, on this machine.

    `tasks`: modules, packages or files with tasks, as for `windrow up --tasks`; `allow`: modules whose plain functions
    may be called; `allow_commands`: whether `windrow run` may run commands there. Without `state_dir` all is kept
    in a temporary folder, which goes at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="windrow-")) if state_dir is None else Path(state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        process, url = _start(_command(slots, nodes, tasks, allow, folder, allow_commands), folder)
        try:
            yield from _serve(process, url)
        finally:
            _stop(process)
    finally:
        if state_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def _serve(process: subprocess.Popen[str], url: str) -> Generator[Client]:
    client = Client(url)
    try:
        yield client
        if process.poll() is None:
            client.shutdown()
    finally:
        # Where the script or the cluster failed nothing is waited for: there may be nobody left to answer.
        client.abandon()


def _command(
    slots: int, nodes: int, tasks: Sequence[str], allow: Sequence[str], folder: Path, allow_commands: bool = False
) -> list[str]:
    command = [sys.executable, "-m", "windrow.cli", "up", "--port", "0", "--http-port", "0", "--state", str(folder)]
    command += ["--nodes", str(nodes), "--slots", str(slots)]
    command += ["--allow-commands"] if allow_commands else []
    for flag, values in (("--tasks", tasks), ("--allow", allow)):
        for value in [values] if isinstance(values, str) else values:
            command += [flag, value]
    return command


def _start(command: list[str], folder: Path) -> tuple[subprocess.Popen[str], str]:
    log = folder / "up.log"
    with log.open("a", encoding="utf-8") as errors:
        # In a session of its own: Ctrl-C at the terminal reaches this process, which then stops the cluster in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        _wait_ready(process, log)
        found: object = json.loads((folder / "scheduler.json").read_text(encoding="utf-8"))["url"]
    except BaseException:
        _stop(process)
        raise
    return process, str(found)


def _wait_ready(process: subprocess.Popen[str], log: Path) -> None:
    """Return when the process has said `ready`; its output is read to the end all the same, so that it never blocks."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=_read_lines, args=(process.stdout, lines), name="windrow-up", daemon=True).start()
    try:
        while (line := lines.get(timeout=READY_SECONDS)) is not None:
            if line.strip() == "ready":
                return
    except queue.Empty:
        raise Unreachable(f"`windrow up` was not ready after {READY_SECONDS:g} s{_tail(log)}") from None
    raise Unreachable(f"`windrow up` ended before it was ready{_tail(log)}")


def _read_lines(output: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with output:
        for line in output:
            lines.put(line)
    lines.put(None)


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()[-LOG_CHARS:]
    return f"; the end of its log:\n{text}" if text else ""


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # The whole session: nodes and workers must not outlive what started them.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
