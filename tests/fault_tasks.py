"""Tasks of the fault tests: they fail, crash, hang and kill, and leave a line in a file for each time they began."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

import windrow
from windrow import Retry, SoftTimeout, task

POISON = 61_803
HANG_S = 120.0
"""How long a task hangs that nobody ends; no test waits it out."""


class Flood(LookupError):
    """An error of the user's own."""


def note(folder: str, name: str) -> int:
    """Leave one more line in a file; how many there are."""
    path = Path(folder) / name
    with path.open("a") as file:
        file.write(f"{time.time()}\n")
    return len(path.read_text().splitlines())


@task
def fails_first(folder: str, x: int, failures: int) -> int:
    """Fails so often, then succeeds."""
    number = note(folder, f"runs-{x}")
    if number <= failures:
        raise ConnectionError(f"item {x}, attempt {number}")
    return x


@task
def raises(folder: str, x: int, how: str) -> int:
    note(folder, f"runs-{x}")
    if how == "flood":
        raise Flood(f"flood {x}")
    if how == "value":
        raise ValueError(f"value {x}")
    return x


@task
def comes_later(folder: str, x: int, after: float) -> int:
    if note(folder, f"runs-{x}") == 1:
        raise Retry("not ready", after=after)
    return x


@task
def exits_at_poison(x: int) -> int:
    if x == POISON:
        print("about to leave")
        os._exit(7)
    return x


@task
def segfaults_at_poison(x: int) -> int:
    if x == POISON:
        print("about to fall")
        ctypes.string_at(0)
    return x


@task
def babbles(x: int, poison: int) -> int:
    """Writes into every socket that it finds open, the one to its node among them."""
    if x == poison:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    os.write(int(name), b"\x04\0\0\0junk")
    return x


@task
def kills_its_node(folder: str, x: int, killer: int) -> int:
    """As an item does that takes all the machine's memory: the daemon is gone before it can say anything."""
    note(folder, f"runs-{x}")
    if x == killer:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(HANG_S)
    return x


@task
def hangs(folder: str, x: int, bad: int) -> int:
    note(folder, f"runs-{x}")
    if x == bad:
        time.sleep(HANG_S)
    time.sleep(0.01)
    return x


@task
def tidies(x: int) -> str:
    if x == 0:
        return "in time"
    try:
        time.sleep(HANG_S)
    except SoftTimeout:
        return "tidied"
    return "never"


@task
def grows(x: int) -> int:
    if x == 3:
        kept = b"x" * (300 << 20)
        time.sleep(HANG_S)
        return len(kept)
    return x


@task
def takes_all_memory(x: int, greedy: int) -> int:
    kept: list[bytes] = []
    while x == greedy:
        kept.append(os.urandom(8 << 20))
    return x


@task
def pid(x: int) -> int:
    return os.getpid()


@task
def ends_when_told(folder: str, x: int) -> int:
    """Item 1 does not."""
    note(folder, f"begun-{x}")
    until_s = time.monotonic() + HANG_S
    while not windrow.current().cancelled and time.monotonic() < until_s:
        time.sleep(0.005)
    note(folder, f"told-{x}")
    if x == 1:
        time.sleep(HANG_S)
    return x


@task
def tells(folder: str, x: int) -> list[object]:
    """What it knows of itself, at the second attempt; both attempts leave their item_id."""
    item = windrow.current()
    with (Path(folder) / "ids").open("a") as file:
        file.write(f"{item.item_id}\n")
    if item.attempt == 1:
        raise ConnectionError("first")
    left_s = None if item.deadline is None else item.deadline - time.monotonic()
    return [item.job, item.index, item.item_id, item.attempt, left_s, item.cancelled]


def runs_of(folder: Path, x: int) -> int:
    """How often an item has begun."""
    with contextlib.suppress(FileNotFoundError):
        return len((folder / f"runs-{x}").read_text().splitlines())
    return 0
