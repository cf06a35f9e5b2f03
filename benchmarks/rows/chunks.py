"""Chunks of fixed sizes: what one chunk costs, and the throughput over the size of chunks."""

from __future__ import annotations

from benchmarks import tasks
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.run import Run
from benchmarks.windrow_side import SETTINGS, Stopwatch, windrow

SIZES = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)


def _turn(run: Run, chunk_items: int | None, items: int) -> Figures:
    with windrow(run.services, chunk_items=chunk_items) as (_, client):
        watch = Stopwatch()
        job = client.start(tasks.same, range(items))
        assert list(job.results()) == list(range(items))
        took_s = watch.s
        sized = {"chunks_per_s": items / took_s / chunk_items} if chunk_items else {}
        return {"per_s": items / took_s, **sized}


def tiny_chunks(run: Run) -> Row:
    """One item in each chunk."""
    items = run.size(30_000, 6_000)
    settings = f"{SETTINGS} but the size of chunks: always 1 (benchmarks/fixed_chunks.py); {items:,} items"
    return Row(
        "tiny-chunks",
        "chunks of one item each (coalescing off), with results",
        "chunks_per_s",
        False,
        (Contender("Windrow", settings, lambda _: _turn(run, 1, items)),),
        (Bar("Windrow", "chunks_per_s", 3_000, True, "chunks/s"),),
    )


def chunk_sizes(run: Run) -> Row:
    """For the plot."""
    contenders = [
        Contender(
            f"chunks of {size:,}",
            f"{count:,} items",
            lambda _, size=size, count=count: _turn(run, size, count) | {"chunk_items": float(size)},
        )
        for size in SIZES
        for count in [min(run.size(1_000_000, 200_000), size * run.size(20_000, 4_000))]
    ]
    whole = run.size(1_000_000, 200_000)
    contenders.append(
        Contender("Windrow", f"it sizes its chunks itself; {whole:,} items", lambda _: _turn(run, None, whole))
    )
    return Row("chunk-sizes", "throughput over the size of chunks, no-op items", "per_s", False, tuple(contenders))
