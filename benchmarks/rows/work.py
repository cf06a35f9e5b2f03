"""Items that take time: on the processor beside multiprocessing.Pool, and of wild lengths beside the possible."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.pool import Pool

from benchmarks import tasks
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.run import Run
from benchmarks.windrow_side import SETTINGS, SLOTS, Stopwatch, windrow

ONE_BY_ONE = "multiprocessing.Pool, one by one"
CHUNKS = (1, 2, 4, 8, 16, 32, 64, 128)
SHORTEST_S, LONGEST_S = 0.001, 5.0
MEDIAN_S, SIGMA = 0.02, 1.5


def processor(run: Run, chunks: tuple[int, ...] = CHUNKS) -> Row:
    """Items of 1 ms."""
    count = run.size(20_000, 4_000)
    best: list[int] = []

    def items() -> list[int]:
        if not run.loops:
            run.loops = tasks.loops_for(0.001)
        return [run.loops] * count

    def pool_turn(number: int) -> Figures:
        wanted = items()
        with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
            if not best:
                best.append(_best_chunk(pool, wanted, chunks))
            return _pool_rate(pool, wanted, best[0]) | {"chunk_items": float(best[0])}

    def windrow_turn(number: int) -> Figures:
        wanted = items()
        with windrow(run.services) as (_, client):
            watch = Stopwatch()
            found = sum(1 for _ in client.start(tasks.burn, wanted).as_completed())
            took_s = watch.s
            assert found == count
            return {"per_s": count / took_s, "took_s": took_s}

    return Row(
        "processor",
        f"{count:,} processor-bound items of 1 ms, two slots, no chunk size given",
        "per_s",
        False,
        (
            Contender("Windrow", f"{SETTINGS}; the task is new to the cluster; results as they come", windrow_turn),
            Contender(
                "multiprocessing.Pool",
                f"imap_unordered, 2 processes, the best chunk size of {chunks}; nothing is durable",
                pool_turn,
            ),
        ),
        (Bar("Windrow", "per_s", 0.97, True, to="multiprocessing.Pool"),),
    )


def _best_chunk(pool: Pool, items: list[int], chunks: tuple[int, ...]) -> int:
    """The fastest in the best of three tries each, on a part of the items."""
    if len(chunks) == 1:
        return chunks[0]
    part = items[: max(2_000, len(items) // 5)]
    rates = {size: max(_pool_rate(pool, part, size)["per_s"] for _ in range(3)) for size in chunks}
    return max(rates, key=lambda size: rates[size])


def _pool_rate(pool: Pool, items: list[int], chunk: int) -> Figures:
    pool.map(tasks.spin, [1] * 20)
    watch = Stopwatch()
    found = sum(1 for _ in pool.imap_unordered(tasks.spin, items, chunksize=chunk))
    took_s = watch.s
    assert found == len(items)
    return {"per_s": found / took_s, "took_s": took_s}


def lengths(seed: int, total_s: float) -> list[float]:
    """Log-normal naps, 1 ms to 5 s, that take about so long in all; in no order."""
    dice = random.Random(seed)
    found: list[float] = []
    while sum(found) < total_s:
        found.append(min(LONGEST_S, max(SHORTEST_S, MEDIAN_S * dice.lognormvariate(0.0, SIGMA))))
    return found


def bound_s(naps: list[float]) -> float:
    """What no schedule on two slots can pass."""
    return max(sum(naps) / SLOTS, max(naps))


def over_bound(took_s: float, naps: list[float], measured: list[float]) -> Figures:
    """Beside the bound of the lengths that were asked for, and of those that the items measured themselves: the second
    leaves out that a sleep ends late."""
    assert len(measured) == len(naps)
    return {
        "over_bound": took_s / bound_s(naps), "over_measured": took_s / bound_s(measured), "took_s": took_s,
        "items": float(len(naps)),
    }  # fmt: skip


def heavy_tail(run: Run) -> Row:
    """Each turn has lengths of its own."""
    total_s = float(run.size(160, 40))

    def windrow_turn(number: int) -> Figures:
        naps = lengths(number, total_s)
        with windrow(run.services) as (_, client):
            watch = Stopwatch()
            measured = [took for _, took in client.start(tasks.nap, naps).as_completed()]
            return over_bound(watch.s, naps, measured)

    def pool_turn(number: int) -> Figures:
        naps = lengths(number, total_s)
        with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
            pool.map(tasks.rest, [0.0] * 4)
            watch = Stopwatch()
            measured = list(pool.imap_unordered(tasks.rest, naps, chunksize=1))
            return over_bound(watch.s, naps, measured)

    return Row(
        "heavy-tail",
        f"heavy-tailed items (log-normal, 1 ms to 5 s, {total_s:g} s in all), against max(sum / slots, longest)",
        "over_bound",
        True,
        (
            Contender("Windrow", f"{SETTINGS}; the task is new to the cluster; items sleep", windrow_turn),
            Contender(
                ONE_BY_ONE,
                "imap_unordered, chunksize 1, 2 processes: each item to the next free slot, in order",
                pool_turn,
            ),
        ),
        (Bar("Windrow", "over_bound", 1.05, False, "× the bound"),),
        note="The bound knows all lengths beforehand. Who does not, and takes items in order, ends up to half "
        "the longest item after it.",
    )
