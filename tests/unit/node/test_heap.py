"""What the daemon does not use goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from windrow.node import heap

PROGRAM = """
from windrow.node.heap import trim_heap

def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

# Too small to be mapped each for itself, and one of a thousand stays.
blocks = [bytearray(20_000) for _ in range(5_000)]
blocks = blocks[::1000]
before = resident_mb()
trim_heap()
print(before - resident_mb())
"""


def test_pages_between_what_stays_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert float(done.stdout) > 50.0


def test_it_is_done_again_and_again_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def three_times() -> None:
        done = asyncio.Semaphore(0)
        monkeypatch.setattr(heap, "TRIM_EVERY_S", 0.001)
        monkeypatch.setattr(heap, "trim_heap", done.release)
        trimming = asyncio.create_task(heap.trim_for_ever())
        for _ in range(3):
            await asyncio.wait_for(done.acquire(), 10.0)
        trimming.cancel()

    asyncio.run(three_times())
