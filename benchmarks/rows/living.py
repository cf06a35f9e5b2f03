"""What scheduler and node cost while nothing is asked of them, and whether the scheduler grows in a long life."""

from __future__ import annotations

import itertools
import time

from benchmarks import tasks
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.run import Run
from benchmarks.windrow_side import PATIENCE_S, SETTINGS, Stopwatch, memory_mb, processor_s, windrow

SETTLE_S = 2.0
SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
JOBS_OF_A_SIZE_MAX = 400


def idle(run: Run) -> Row:
    """Processor time as a share of a core."""
    watch_s = run.size(20, 8)

    def turn(number: int) -> Figures:
        with windrow(run.services) as (cluster, _):
            time.sleep(SETTLE_S)
            node = cluster.nodes[0]
            before = processor_s(cluster.scheduler.pid), processor_s(node.pid, family=True)
            watch = Stopwatch()
            time.sleep(watch_s)
            after = processor_s(cluster.scheduler.pid), processor_s(node.pid, family=True)
            scheduler, whole_node = (100 * (b - a) / watch.s for a, b in zip(before, after, strict=True))
            return {"scheduler_percent": scheduler, "node_percent": whole_node}

    return Row(
        "idle",
        f"idle for {watch_s} s: processor time of the scheduler, and of the node with its workers",
        "scheduler_percent",
        True,
        (Contender("Windrow", SETTINGS, turn),),
        (
            Bar("Windrow", "scheduler_percent", 1.0, False, "% of a core"),
            Bar("Windrow", "node_percent", 1.0, False, "% of a core"),
        ),
    )


def job_sizes(total: int) -> list[int]:
    """Jobs of all sizes up to a tenth of it all, the sizes mixed, that come to so many items."""
    shapes = [size for size in SIZES if size <= total // 10]
    found: list[int] = []
    for size in itertools.cycle(shapes):
        if len(found) >= JOBS_OF_A_SIZE_MAX * len(shapes):
            size = shapes[-1]
        left = total - sum(found)
        if left <= 0:
            return found
        found.append(min(size, left))
    raise AssertionError("there is no end to a cycle")


def soak(run: Run) -> Row:
    """Memory over the second half of many items, against its lowest there."""
    total = run.size(10_000_000, 1_000_000)

    def turn(number: int) -> Figures:
        seen: list[tuple[int, float]] = []
        done = 0
        with windrow(run.services) as (cluster, client):
            watch = Stopwatch()
            for size in job_sizes(total):
                job = client.start(tasks.same, range(size))
                assert job.wait(PATIENCE_S).done == size
                done += size
                seen.append((done, memory_mb(cluster)))
            took_s = watch.s
        second = [memory for so_far, memory in seen if so_far >= total / 2]
        growth = 100 * (max(second) / min(second) - 1)
        return {"growth_percent": growth, "memory_mb": max(second), "jobs": float(len(seen)), "per_s": total / took_s}

    return Row(
        "soak",
        f"{total:,} items in one scheduler's life, jobs of all sizes: memory of the second half, highest to lowest",
        "growth_percent",
        True,
        (Contender("Windrow", f"{SETTINGS}; jobs of 1 to 1,000,000 items one after the other", turn),),
        (Bar("Windrow", "growth_percent", 10, False, "%"),),
        turns=1,
        note="Measured once: it is a course over millions of items, not a moment.",
    )
