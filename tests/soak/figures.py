"""What a soak watches, and how much of it is still called flat."""

from __future__ import annotations

from collections.abc import Iterable

from tests.soak.judging import MB, Figure


def _of_process(who: str, memory_step: float, files_step: float) -> dict[str, list[Figure]]:
    return {
        f"{who}.memory": [
            Figure(f"{who}: memory", "MB", memory_step, per_min=0.1, by_life=True, scale=MB),
            Figure(f"{who}: memory, over restarts", "MB", 8.0, 0.1, per_min=0.1, scale=MB),
        ],
        f"{who}.files": [Figure(f"{who}: open files", "", files_step, per_min=0.05, by_life=True)],
        f"{who}.threads": [Figure(f"{who}: threads", "", 2.0, per_min=0.02, by_life=True)],
    }


def all_figures(nodes: Iterable[str]) -> dict[str, list[Figure]]:
    """Series → the figures that are judged by it."""
    found = _of_process("scheduler", 1.5, 4.0)
    for node in nodes:
        # Of what it has measured it keeps the last 256 jobs, and between two trims its heap has holes.
        found |= _of_process(node, 4.0, 4.0)
        found |= _of_process(f"{node} workers", 2.0, 3.0)
        # What they take depends on whether one of them has met an export in this life.
        found[f"{node} workers.memory"].pop()
    return found | {
        "store.database": [Figure("store: database", "MB", 2.0, 0.15, per_min=0.02, scale=MB)],
        "store.log": [Figure("store: write-ahead log", "MB", 8.0, per_min=0.05, scale=MB)],
        "spools": [Figure("nodes: spools", "MB", 4.0, per_min=0.05, scale=MB)],
        "store.jobs": [Figure("jobs and streams in the store", "", 20.0, 0.2)],
        "core.jobs": [Figure("jobs and streams in the core", "", 8.0, 0.2)],
        "broker.messages": [Figure("broker: messages in queues", "", 20.0)],
        "broker.memory": [Figure("broker: memory", "MB", 25.0, 0.05, per_min=0.3, scale=MB)],
        "call.p50": [Figure("single call, p50", "ms", 5.0, 1.0, scale=1e-3)],
        "call.p99": [Figure("single call, p99", "ms", 60.0, 1.0, scale=1e-3)],
        "items": [Figure("items that ended", "1/s", 0.0, 0.6, falls=True)],
    }
