"""Tasks of the chaos runs: each run of an item leaves a line in a file of its worker before it does anything else."""

from __future__ import annotations

import os
import time
from pathlib import Path

from windrow import current, task

FOLDER_VARIABLE = "CHAOS_FOLDER"
RETRIES = 1000
"""Workers are killed at random, and each kill of an item that is alone in its worker uses an attempt."""
STRAGGLER_EVERY = 50
STRAGGLER_S = 2.0


def note_run() -> int:
    """Write down that the current item runs, where there is a folder for it; its attempt."""
    item = current()
    if FOLDER_VARIABLE not in os.environ:
        return item.attempt
    # Opened each time: the line is in the kernel, where no SIGKILL reaches it, and nothing is open in between.
    file = os.open(
        Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    try:
        os.write(file, f"{item.item_id} {item.attempt} {os.getpid()} {time.time():.3f}\n".encode())
    finally:
        os.close(file)
    return item.attempt


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0)
def square(x: int) -> int:
    note_run()
    time.sleep(0.002)
    return x * x


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0)
def join(word: str, number: int) -> str:
    note_run()
    time.sleep(0.01)
    return f"{word}:{number}"


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0)
def flaky(x: int) -> int:
    """Every item fails none, one or two times."""
    if note_run() <= x % 3:
        raise ConnectionError(f"not yet, {x}")
    return -x


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0, idempotent=True)
def straggle(x: int) -> int:
    """A few items take much longer than the others."""
    note_run()
    time.sleep(STRAGGLER_S if x % STRAGGLER_EVERY == 0 else 0.01)
    return x + 1


@task(retries=RETRIES, on_lost="fail")
def once(x: int) -> int:
    """Must not run twice, whatever happens; it never raises, so no attempt may follow the first."""
    note_run()
    time.sleep(0.005)
    return 2 * x


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0)
def slow(x: int) -> int:
    note_run()
    time.sleep(0.05)
    return 3 * x


@task(retries=RETRIES, backoff=0.05, backoff_max=1.0)
def add(x: int, y: int) -> int:
    note_run()
    return x + y
