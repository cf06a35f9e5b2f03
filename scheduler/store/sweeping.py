"""Deletes what removed jobs have left, a bounded number of rows at a time, inside the commit that asks for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Dialect, Table, delete, func, select

from windrow.scheduler.store.link import Link, Row, param, prepare
from windrow.scheduler.store.schema import BLOCK, FAILURE, INPUT, OUTCOME, REMOVED

STEP_BYTES_MAX = 4 << 20
"""Of blocks: beyond it a step ends after the row at hand, for each of their pages is put on the list of free ones."""


class _Rows:
    """The rows of one table that belong to one job, in an order of which an index knows; with their blocks."""

    def __init__(
        self, dialect: Dialect, table: Table, order: Column[Any], block: Column[Any], size: Column[Any]
    ) -> None:
        of_job = table.c.job_no == param("job_no")
        first = select(order, block, size).where(of_job).order_by(order).limit(param("rows"))
        self.first = prepare(dialect, first, "job_no", "rows")
        upto = delete(table).where(of_job, order <= param("last"))
        self.drop = prepare(dialect, upto, "job_no", "last")


class Sweeper:
    """Rows of the jobs in `removed`, the oldest first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        dialect = link.dialect
        self._oldest = prepare(dialect, select(func.min(REMOVED.c.job_no)))
        self._forget = prepare(dialect, delete(REMOVED).where(REMOVED.c.job_no == param("job_no")), "job_no")
        self._drop_block = prepare(dialect, delete(BLOCK).where(BLOCK.c.id == param("id")), "id")
        self._with_blocks = (
            _Rows(dialect, OUTCOME, OUTCOME.c.seq, OUTCOME.c.block_id, OUTCOME.c.bytes),
            _Rows(dialect, INPUT, INPUT.c.base, INPUT.c.block_id, INPUT.c.block_bytes),
        )
        failures = select(FAILURE.c.id).where(FAILURE.c.job_no == param("job_no")).limit(param("rows"))
        self._failures = prepare(dialect, failures, "job_no", "rows")
        self._drop_failure = prepare(dialect, delete(FAILURE).where(FAILURE.c.id == param("id")), "id")

    def has_leftovers(self) -> bool:
        return self._find_oldest() is not None

    def sweep(self, rows_max: int) -> None:
        """Delete so many rows at most; of a job without any left the note goes, too."""
        rows, size = rows_max, STEP_BYTES_MAX
        while rows > 0 and size > 0 and (no := self._find_oldest()) is not None:
            before = rows
            for kind in self._with_blocks:
                taken, taken_bytes = self._sweep_rows(kind, no, rows, size)
                rows, size = rows - taken, size - taken_bytes
                if rows <= 0 or size <= 0:
                    return
            rows -= self._sweep_failures(no, rows)
            if rows > 0:
                # Every table had fewer rows of it than there was room for.
                self._link.run_many(self._forget, [(no,)])
                rows = min(rows, before - 1)

    def _find_oldest(self) -> int | None:
        found = self._link.fetch(self._oldest)[0][0]
        return None if found is None else int(found)

    def _sweep_rows(self, kind: _Rows, no: int, rows_max: int, bytes_max: int) -> tuple[int, int]:
        """How many rows went, and how large the blocks were that went with them."""
        taken: list[Row] = []
        size = 0
        for row in self._link.fetch(kind.first, no, rows_max):
            taken.append(row)
            size += row[2]
            if size >= bytes_max:
                break
        if taken:
            # Of a block with several slices the first takes it along: nobody reads the others any more.
            self._link.run_many(self._drop_block, [(row[1],) for row in taken if row[1] is not None])
            self._link.run_many(kind.drop, [(no, taken[-1][0])])
        return len(taken), size

    def _sweep_failures(self, no: int, rows_max: int) -> int:
        found = self._link.fetch(self._failures, no, rows_max)
        self._link.run_many(self._drop_failure, found)
        return len(found)
