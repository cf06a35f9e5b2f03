"""The rows of the benchmark, a module for each kind; the table has them in this order."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.model import Row
from benchmarks.rows import accepting, calls, chunks, commands, core, exporting, living, work
from benchmarks.run import Run

ROWS: dict[str, Callable[[Run], Row]] = {
    "job": calls.job,
    "calls": calls.calls,
    "round-trip": calls.round_trip,
    "tiny-chunks": chunks.tiny_chunks,
    "billion": accepting.billion,
    "distinct": accepting.distinct,
    "processor": work.processor,
    "heavy-tail": work.heavy_tail,
    "commands": commands.commands,
    "export": exporting.export,
    "idle": living.idle,
    "core": core.core,
    "soak": living.soak,
    "chunk-sizes": chunks.chunk_sizes,
    "core-costs": core.core_costs,
}
