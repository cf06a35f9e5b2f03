"""Whole jobs, single calls and round trips, beside every task queue."""

from __future__ import annotations

import statistics
import time

from benchmarks import tasks
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.queues import CELERY_SAFE, DRAMATIQ_SAFE, contenders, last_json
from benchmarks.run import Run
from benchmarks.windrow_side import PATIENCE_S, SETTINGS, Stopwatch, windrow

RANGE = "Windrow, a range"
CEILING = "ceiling"
FEWER = "The neighbours' rates are of fewer calls, since theirs do not rise with the number; the settings say how many."


def job(run: Run) -> Row:
    """One job of no-op items, results read in order."""
    items = run.size(1_000_000, 200_000)
    others = run.size(5_000, 500)

    def windrow_turn(source: list[int] | range) -> Figures:
        with windrow(run.services) as (_, client):
            watch = Stopwatch()
            results = list(client.start(tasks.same, source).results())
            took_s = watch.s
            assert results == list(range(items)), "a result is missing, or in the wrong place"
            return {"per_s": items / took_s, "took_s": took_s}

    return Row(
        "job",
        f"one job of {items:,} no-op items, submitted, run, all results read in order",
        "per_s",
        False,
        (
            Contender(
                "Windrow",
                f"{SETTINGS}; {items:,} distinct items, encoded by the client",
                lambda _: windrow_turn(list(range(items))),
            ),
            Contender(
                RANGE, f"the same, the items given as a `range`: {items:,}", lambda _: windrow_turn(range(items))
            ),
            Contender(
                CEILING,
                f"the bare minimum with the same libraries, as durable (benchmarks/ceiling.py): {items:,} items",
                lambda _: ceiling_turn(run, items),
            ),
            *contenders(run.services, "job", {"others": others}, ["Celery"]),
        ),
        (
            Bar("Windrow", "per_s", 400, True, to=CELERY_SAFE),
            Bar("Windrow", "per_s", 0.5, True, to=CEILING),
            Bar(CEILING, "per_s", 1_500_000, True, "items/s"),
        ),
        note=FEWER,
    )


def ceiling_turn(run: Run, items: int) -> Figures:
    """One run of the ceiling program, in processes of its own."""
    program = ["-m", "benchmarks.ceiling", run.services.amqp_url(), str(run.services.folder), str(items)]
    return last_json(run.python(program))


def calls(run: Run) -> Row:
    """Single calls from one client, every future resolved."""
    count = run.size(100_000, 20_000)
    others = run.size(5_000, 500)

    def windrow_turn(number: int) -> Figures:
        with windrow(run.services) as (_, client):
            watch = Stopwatch()
            results = [future.result(PATIENCE_S) for future in [client.submit(tasks.same, x) for x in range(count)]]
            took_s = watch.s
            assert results == list(range(count)), "a result is missing, or in the wrong place"
            return {"per_s": count / took_s, "took_s": took_s}

    return Row(
        "calls",
        f"{count:,} single `submit` calls from one client, every future resolved",
        "per_s",
        False,
        (
            Contender("Windrow", f"{SETTINGS}; {count:,} calls", windrow_turn),
            *contenders(run.services, "calls", {"others": others}),
        ),
        (Bar("Windrow", "per_s", 40, True, to=DRAMATIQ_SAFE),),
        note=FEWER,
    )


def round_trip(run: Run) -> Row:
    """One call at a time, there and back."""
    count = run.size(1_000, 300)

    def windrow_turn(number: int) -> Figures:
        with windrow(run.services) as (_, client):
            took_ms: list[float] = []
            for number in range(count):
                began = time.perf_counter()
                assert client.submit(tasks.same, number).result(PATIENCE_S) == number
                took_ms.append(1e3 * (time.perf_counter() - began))
            cuts = statistics.quantiles(took_ms, n=100)
            return {"median_ms": cuts[49], "p99_ms": cuts[98]}

    return Row(
        "round-trip",
        f"one call at a time, round trip, {count:,} of them",
        "median_ms",
        True,
        (
            Contender("Windrow", SETTINGS, windrow_turn),
            *contenders(run.services, "round-trip", {"others": count}),
        ),
        (
            Bar("Windrow", "median_ms", 1.0, False, to=DRAMATIQ_SAFE),
            Bar("Windrow", "p99_ms", 2.0, False, to=DRAMATIQ_SAFE),
        ),
    )
