"""The tasks that the benchmark has run."""

from __future__ import annotations

import time

from windrow import task


@task
def same(x: int) -> int:
    return x


def spin(loops: int) -> int:
    """So much work for the processor, and no other."""
    total = 0
    for number in range(loops):
        total += number & 7
    return total


def rest(seconds: float) -> float:
    """Takes a slot, and no processor; how long it really took."""
    began = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - began


burn, nap = task(spin), task(rest)


def loops_for(seconds: float) -> int:
    """How many loops of `spin` take so long here, when nothing else runs."""
    loops, best_s = 20_000, float("inf")
    spin(loops)
    for _ in range(20):
        began = time.perf_counter()
        spin(loops)
        best_s = min(best_s, time.perf_counter() - began)
    return max(1, round(loops * seconds / best_s))
