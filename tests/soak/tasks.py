"""Tasks of the soak beside those of the chaos runs."""

from __future__ import annotations

from windrow import task

FAILS_EVERY = 10


@task
def double(x: int) -> int:
    return 2 * x


@task(retries=1, backoff=0.05)
def fail_some(x: int) -> int:
    """Every tenth item fails however often it is tried."""
    if x % FAILS_EVERY == 0:
        raise ValueError(f"{x} will not do")
    return x
