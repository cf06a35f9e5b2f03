"""How fast work is accepted durably, and what a huge job costs the scheduler's memory."""

from __future__ import annotations

import time
import warnings

from benchmarks import tasks
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.run import Run
from benchmarks.windrow_side import PATIENCE_S, SETTINGS, Stopwatch, memory_mb, windrow
from windrow import WindrowWarning

BILLION = 1_000_000_000


def billion(run: Run) -> Row:
    """A range of a billion, and a while of it."""
    watch_s = run.size(20, 5)

    def turn(number: int) -> Figures:
        with windrow(run.services) as (cluster, client):
            watch = Stopwatch()
            job = client.start(tasks.same, range(BILLION))
            accepted_ms = 1e3 * watch.s
            memory: list[float] = []
            while watch.s < watch_s:
                time.sleep(0.1)
                memory.append(memory_mb(cluster))
            done = job.status().done
            assert done > 0, "nothing of the job was done while it was watched"
            job.cancel()
            job.wait(PATIENCE_S)
            return {"accepted_ms": accepted_ms, "memory_mb": max(memory), "done": float(done)}

    return Row(
        "billion",
        "a job of a billion items accepted (a range), and the scheduler's memory while it runs",
        "accepted_ms",
        True,
        (Contender("Windrow", f"{SETTINGS}; the job runs for {watch_s} s, then it is cancelled", turn),),
        (Bar("Windrow", "accepted_ms", 50, False, "ms"), Bar("Windrow", "memory_mb", 150, False, "MB")),
    )


def distinct(run: Run) -> Row:
    """Items that the client encodes one by one."""
    count = run.size(1_000_000, 200_000)

    def turn(nodes: int) -> Figures:
        items = [(number,) for number in range(count)]
        with warnings.catch_warnings(), windrow(run.services, nodes=nodes) as (_, client):
            warnings.simplefilter("ignore", WindrowWarning)  # that no node is there yet
            watch = Stopwatch()
            job = client.start("benchmarks.tasks:same", items)
            took_s = watch.s
            job.cancel()
            if nodes:
                job.wait(PATIENCE_S)
            return {"took_s": took_s, "for_a_million_s": took_s * 1e6 / count}

    return Row(
        "distinct",
        f"{count:,} distinct items accepted durably from one client",
        "for_a_million_s",
        True,
        (
            Contender("Windrow", f"{SETTINGS}; the slots are at work on the job meanwhile", lambda _: turn(1)),
            Contender(
                "Windrow, no node there", "the same scheduler alone: nothing is run meanwhile", lambda _: turn(0)
            ),
        ),
        (Bar("Windrow", "for_a_million_s", 2.0, False, "s"),),
    )
