"""Tasks of the cluster tests; those that wait do so for a file, never for a length of time that matters."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from windrow import NodeUnfit, task

GATE_S_MAX = 120.0
HOLD_S_MIN = 0.02
"""An item that is known to be long is handed out in small chunks, so that tests can say where it will run."""


@task
def add(x: int, y: int = 0) -> int:
    return x + y


@task
def double(x: int) -> int:
    return 2 * x


@task
def nothing(x: int) -> None:
    return None


@task
def fragile(x: int) -> int:
    """Fails for good at every tenth item."""
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x


@task(retries=2, backoff=0.01)
def flaky(folder: str, x: int) -> int:
    """Succeeds at the third attempt; each attempt leaves a file."""
    attempts = len(list(Path(folder).glob(f"{x}-*")))
    (Path(folder) / f"{x}-{attempts}").touch()
    if attempts < 2:
        raise ConnectionError(f"attempt {attempts + 1}")
    return x


@task
def mend(folder: str, x: int) -> int:
    """Every third item fails until somebody mends it."""
    if x % 3 == 0 and not (Path(folder) / "mended").exists():
        raise RuntimeError("not mended")
    return x


@task
def crash(x: int, bad: int) -> int:
    """One item kills the worker that executes it."""
    if x == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@task
def hold(folder: str, x: int) -> int:
    """Says that it has begun, and ends when the gate is opened."""
    (Path(folder) / f"begun-{x}-{time.time_ns()}").touch()
    time.sleep(HOLD_S_MIN)
    until_s = time.monotonic() + GATE_S_MAX
    while not (Path(folder) / "open").exists():
        if time.monotonic() > until_s:
            raise TimeoutError("nobody opened the gate")
        time.sleep(0.01)
    return x


@task
def work(x: int, seconds: float) -> int:
    """Keeps a slot busy."""
    time.sleep(seconds)
    return x


@task
def big(size: int) -> bytes:
    """A result of so many bytes."""
    return bytes(size)


@task
def picky(folder: str, x: int) -> int:
    """Cannot be done on the node that gets to it first; returns the daemon that did it."""
    claim = Path(folder) / "claimed"
    mine = claim.with_name(f"claim-{os.getpid()}")
    mine.write_text(str(os.getppid()))
    with contextlib.suppress(FileExistsError):
        os.link(mine, claim)
    if claim.read_text() == str(os.getppid()):
        raise NodeUnfit("the folder is not mounted here")
    return os.getppid()


@task(idempotent=True)
def stuck_once(folder: str, x: int) -> int:
    """Whoever comes first waits for the gate; whoever comes second is quick."""
    try:
        (Path(folder) / f"begun-{x}").touch(exist_ok=False)
    except FileExistsError:
        return x
    deadline = time.monotonic() + GATE_S_MAX
    while not (Path(folder) / "gate").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return -1


@task
def nowhere(x: int) -> int:
    raise NodeUnfit("no node has what it takes")
