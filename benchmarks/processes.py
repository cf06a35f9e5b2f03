"""Starts processes in sessions of their own and ends all of each, whatever becomes of this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

END_S = 10.0


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """The process, while the `with` lasts; afterwards it and all that it started in its session have ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*_dies_with_us(), *command], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to its group, and SIGKILL to what is left of it after a while."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def output_of(command: Sequence[str], *, cwd: Path, timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """What the program printed; RuntimeError with the end of its complaints where it failed or took too long."""
    process = subprocess.Popen(
        [*_dies_with_us(), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{Path(command[0]).name} had not ended after {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}: {(err or out)[-600:]}")
    return out


def wait_for_text(
    log: Path, text: str, process: subprocess.Popen[bytes], timeout_s: float = 60.0, count: int = 1
) -> None:
    """Until the log holds the text so many times."""
    until = time.monotonic() + timeout_s
    while log.read_text(errors="replace").count(text) < count:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"no {text!r} in {log.name}: {log.read_text(errors='replace')[-600:]}")
        time.sleep(0.02)


def _dies_with_us() -> list[str]:
    """Where this process is killed outright, its children go too."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
