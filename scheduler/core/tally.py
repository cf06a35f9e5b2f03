"""Counts of what became of items and chunks, by task, for the metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

CHUNK_SECONDS_BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


@dataclass(slots=True)
class Tally:
    """Since the start of this scheduler."""

    items_done: int = 0
    items_failed: int = 0
    items_retried: int = 0
    chunks_done: int = 0
    chunks_lost: int = 0
    busy_s: float = 0.0
    chunk_s_sum: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(CHUNK_SECONDS_BOUNDS) + 1))
    """Chunks by time from placing to end; not cumulative, the last is everything above."""

    def observe_chunk(self, seconds: float) -> None:
        self.chunks_done += 1
        self.chunk_s_sum += seconds
        self.buckets[bisect_left(CHUNK_SECONDS_BOUNDS, seconds)] += 1
