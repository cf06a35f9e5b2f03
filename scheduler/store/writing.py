"""Turns records into rows and writes them, many rows to a statement.

Rows are gathered by statement, and a flush runs the statements in one fixed order. That gives what the records' own
order would give, because a fence, a block and a job number are never used twice: for each of them insert, change and
delete can only come in this order, and rows of one statement keep the order they came in. The one case where a later
record could be overtaken is a failure, an attempt or a loss after its job's were deleted; then what is there is flushed
first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Delete, Dialect, Insert, delete, false, func, insert, select, true, update

from windrow.common.codec import to_plain
from windrow.common.limits import TEXT_CHARS_MAX
from windrow.scheduler.core.records import (
    DropAttempts,
    DropChunk,
    DropNode,
    LeaseChunk,
    PutAttempt,
    PutChunk,
    PutFailure,
    PutInput,
    PutJob,
    PutLosses,
    PutNode,
    PutValues,
    Record,
    RemoveJob,
    ReopenItems,
    SetJob,
    ShortenChunk,
    SweepRemoved,
)
from windrow.scheduler.store.link import Link, Prepared, Row, param, prepare, prepare_insert
from windrow.scheduler.store.schema import ATTEMPT, BLOCK, CHUNK, FAILURE, INPUT, JOB, LOSS, NODE, OUTCOME, REMOVED
from windrow.scheduler.store.sweeping import Sweeper

_JOB_COLUMNS = (
    "no", "id", "key", "task", "name", "options", "stream", "after", "numbers", "total", "open", "state",
    "generation", "reason", "done", "failed", "cancelled", "retried", "created_wall", "finished_wall",
)  # fmt: skip
_SET_COLUMNS = (
    "state", "total", "open", "generation", "reason", "done", "failed", "cancelled", "retried", "finished_wall",
)  # fmt: skip
_FAILURE_COLUMNS = (
    "id", "job_no", "item", "attempt", "kind", "type", "message", "traceback", "node", "failed_wall", "final",
    "log", "memory_bytes_peak",
)  # fmt: skip


HISTORY_FIRST, HISTORY_LAST = 3, 3
"""So many failed attempts of an item are kept; those in between go when a new one comes."""


class _Statements:
    """Every statement that writes, in the order in which a flush runs them."""

    def __init__(self, dialect: Dialect) -> None:
        def put(table: Any, *names: str) -> Prepared:
            return prepare_insert(dialect, table, *names)

        fence = (CHUNK.c.epoch == param("at_epoch"), CHUNK.c.counter == param("at_counter"))
        set_job = {name: param(f"to_{name}") for name in _SET_COLUMNS}
        self.remove_job = prepare(dialect, delete(JOB).where(JOB.c.no == param("at_no")), "at_no")
        self.put_removed = put(REMOVED, "job_no")
        self.put_job = put(JOB, *_JOB_COLUMNS)
        self.set_job = prepare(
            dialect,
            update(JOB).where(JOB.c.no == param("at_no")).values(set_job),
            *(f"to_{name}" for name in _SET_COLUMNS),
            "at_no",
        )
        self.put_block = put(BLOCK, "id", "bytes")
        self.put_input = put(
            INPUT, "job_no", "base", "count", "block_id", "block_bytes", "digest", "due_wall", "wait_s"
        )
        self.put_chunk = put(CHUNK, "epoch", "counter", "job_no", "bounds", "node", "leased")
        self.lease_chunk = prepare(dialect, update(CHUNK).where(*fence).values(leased=true()), "at_epoch", "at_counter")
        self.shorten_chunk = prepare(
            dialect,
            update(CHUNK).where(*fence).values(bounds=param("to_bounds")),
            "to_bounds",
            "at_epoch",
            "at_counter",
        )
        self.drop_chunk = prepare(dialect, delete(CHUNK).where(*fence), "at_epoch", "at_counter")
        self.put_failure = put(FAILURE, *_FAILURE_COLUMNS)
        self.trim_history = prepare(dialect, _trim_history(), "at_job", "at_item")
        self.put_outcome = put(OUTCOME, "job_no", "start", "stop", "base", "block_id", "failure_id", "bytes")
        self.drop_attempt = prepare(
            dialect,
            delete(ATTEMPT).where(ATTEMPT.c.job_no == param("at_job"), ATTEMPT.c.item == param("at_item")),
            "at_job",
            "at_item",
        )
        self.put_attempt = put(ATTEMPT, "job_no", "item", "attempts", "due_wall", "suspect", "wait_s")
        self.drop_attempts = prepare(dialect, delete(ATTEMPT).where(ATTEMPT.c.job_no == param("at_job")), "at_job")
        self.drop_node = prepare(dialect, delete(NODE).where(NODE.c.id == param("at_id")), "at_id")
        self.put_node = put(NODE, "id", "name", "host", "drained", "gone", "seen_wall")
        self._prepare_reopening(dialect)
        self._prepare_losses(dialect)

    def _prepare_reopening(self, dialect: Dialect) -> None:
        item_range = ("at_job", "at_start", "at_stop")
        start, stop = param("at_start"), param("at_stop")
        quarantined = (FAILURE.c.job_no == param("at_job"), FAILURE.c.final == true())
        self.reopen_attempts = prepare(
            dialect,
            delete(ATTEMPT).where(ATTEMPT.c.job_no == param("at_job"), ATTEMPT.c.item >= start, ATTEMPT.c.item < stop),
            *item_range,
        )
        # Found through the failures, which are few, and not by a scan over the job's outcomes, which may be many.
        self.reopen_outcomes = prepare(
            dialect,
            delete(OUTCOME).where(
                OUTCOME.c.job_no == param("at_job"),
                OUTCOME.c.start.in_(
                    select(FAILURE.c.item).where(*quarantined, FAILURE.c.item >= start, FAILURE.c.item < stop)
                ),
                OUTCOME.c.failure_id.is_not(None),
            ),
            *item_range,
        )
        self.reopen_failures = prepare(
            dialect,
            update(FAILURE).where(*quarantined, FAILURE.c.item >= start, FAILURE.c.item < stop).values(final=false()),
            *item_range,
        )

    def _prepare_losses(self, dialect: Dialect) -> None:
        item_range = ("at_job", "at_start", "at_stop")
        start, stop = param("at_start"), param("at_stop")
        self.put_losses = prepare_insert(dialect, LOSS, "job_no", "start", "stop", "losses")
        # What reaches over an end of the range stays as a row of its own.
        over = (LOSS.c.job_no == param("at_job"), LOSS.c.start < stop, LOSS.c.stop > start)
        self.keep_losses_below = prepare(
            dialect, _copy_losses(LOSS.c.start, start, *over, LOSS.c.start < start), *item_range
        )
        self.keep_losses_above = prepare(
            dialect, _copy_losses(stop, LOSS.c.stop, *over, LOSS.c.stop > stop), *item_range
        )
        self.reopen_losses = prepare(dialect, delete(LOSS).where(*over), *item_range)
        self.drop_losses = prepare(dialect, delete(LOSS).where(LOSS.c.job_no == param("at_job")), "at_job")


def _trim_history() -> Delete:
    """Takes the oldest in the middle out of an item's history where it has become one too long: run after each put."""
    one = (
        FAILURE.c.job_no == param("at_job"),
        # Both, so that the index serves.
        FAILURE.c.final.in_([false(), true()]),
        FAILURE.c.item == param("at_item"),
    )
    oldest = select(FAILURE.c.id).where(*one).order_by(FAILURE.c.id).limit(1)
    surplus = oldest.offset(HISTORY_FIRST + HISTORY_LAST).exists()
    return delete(FAILURE).where(FAILURE.c.id == oldest.offset(HISTORY_FIRST).scalar_subquery(), surplus)


def _copy_losses(start: ColumnElement[Any], stop: ColumnElement[Any], *those: ColumnElement[bool]) -> Insert:
    rows = select(LOSS.c.job_no, start, stop, LOSS.c.losses).where(*those)
    return insert(LOSS).from_select(["job_no", "start", "stop", "losses"], rows)


class Writer:
    """Writes batches over one link, which has a transaction open. Block and failure ids are drawn here: the store has
    one writer, and the rows that refer to them need not wait for the database."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._statements = _Statements(link.dialect)
        self._sweeper = Sweeper(link)
        self._next_block = self._first_free(BLOCK.c.id)
        self._next_failure = self._first_free(FAILURE.c.id)

    def _first_free(self, column: Any) -> int:
        found = self._link.fetch(prepare(self._link.dialect, select(func.max(column))))
        return int(found[0][0] or 0) + 1

    def has_leftovers(self) -> bool:
        """Whether SweepRemoved has anything to do."""
        return self._sweeper.has_leftovers()

    def write(self, records: Sequence[Record]) -> None:
        """All records in order. What it leaves behind when it fails must be rolled back by the caller."""
        batch = _Batch(self._link, self._statements, self._next_block, self._next_failure)
        for record in records:
            batch.take(record)
        batch.flush()
        if batch.sweep_rows:
            self._sweeper.sweep(batch.sweep_rows)
        self._next_block, self._next_failure = batch.next_block, batch.next_failure


class _Batch:
    """Rows gathered until the next flush."""

    def __init__(self, link: Link, statements: _Statements, next_block: int, next_failure: int) -> None:
        self._link = link
        self._statements = statements
        self.next_block = next_block
        self.next_failure = next_failure
        self.sweep_rows = 0
        """To be swept once all else is written."""
        self._takers: dict[type, Callable[[Any], None]] = {
            PutJob: self._put_job,
            SetJob: self._set_job,
            PutInput: self._put_input,
            PutChunk: self._put_chunk,
            LeaseChunk: lambda record: self._leases.append(record.fence),
            ShortenChunk: self._shorten_chunk,
            DropChunk: lambda record: self._drops.append(record.fence),
            PutValues: self._put_values,
            PutFailure: self._put_failure,
            PutAttempt: self._put_attempt,
            PutLosses: self._put_losses,
            ReopenItems: self._reopen_items,
            DropAttempts: self._drop_attempts,
            RemoveJob: lambda record: self._removed.append((record.no,)),
            SweepRemoved: self._sweep_removed,
            PutNode: self._put_node,
            DropNode: self._drop_node,
        }
        self._empty()

    def _empty(self) -> None:
        self._jobs: list[Row] = []
        self._job_changes: list[Row] = []
        self._blocks: list[Row] = []
        self._inputs: list[Row] = []
        self._chunks: list[Row] = []
        self._leases: list[Row] = []
        self._bounds: list[Row] = []
        self._drops: list[Row] = []
        self._failures: list[Row] = []
        self._histories: list[Row] = []
        self._outcomes: list[Row] = []
        self._attempts: dict[Row, Row] = {}
        self._losses: list[Row] = []
        self._reopened: list[Row] = []
        self._ended: list[Row] = []
        self._removed: list[Row] = []
        self._nodes: dict[str, Row | None] = {}
        self._deleting: set[int] = set()

    def take(self, record: Record) -> None:
        self._takers[type(record)](record)

    def flush(self) -> None:
        run = self._run
        to = self._statements
        run(to.remove_job, self._removed)
        run(to.put_removed, self._removed)
        run(to.put_job, self._jobs)
        run(to.set_job, self._job_changes)
        run(to.put_block, self._blocks)
        run(to.put_input, self._inputs)
        run(to.put_chunk, self._chunks)
        run(to.lease_chunk, self._leases)
        run(to.shorten_chunk, self._bounds)
        run(to.drop_chunk, self._drops)
        run(to.put_failure, self._failures)
        run(to.trim_history, self._histories)
        run(to.put_outcome, self._outcomes)
        run(to.drop_attempt, list(self._attempts))
        run(to.put_attempt, list(self._attempts.values()))
        run(to.put_losses, self._losses)
        run(to.reopen_attempts, self._reopened)
        run(to.keep_losses_below, self._reopened)
        run(to.keep_losses_above, self._reopened)
        run(to.reopen_losses, self._reopened)
        run(to.reopen_outcomes, self._reopened)
        run(to.reopen_failures, self._reopened)
        run(to.drop_attempts, self._ended)
        run(to.drop_losses, self._ended)
        run(to.drop_node, [(id_,) for id_ in self._nodes])
        run(to.put_node, [row for row in self._nodes.values() if row is not None])
        self._empty()

    def _run(self, statement: Prepared, rows: list[Row]) -> None:
        if rows:
            self._link.run_many(statement, rows)

    def _put_job(self, job: PutJob) -> None:
        numbers = None if job.numbers is None else json.dumps(to_plain(job.numbers))
        self._jobs.append(
            (
                job.no, job.id, job.key, job.task, job.name, json.dumps(to_plain(job.options)), job.stream,
                json.dumps(job.after), numbers, job.total, job.open, job.state.value,
                0, "", 0, 0, 0, 0, job.created_wall, None,
            )
        )  # fmt: skip

    def _set_job(self, job: SetJob) -> None:
        self._job_changes.append(
            (
                job.state.value, job.total, job.open, job.generation, job.reason, job.done, job.failed, job.cancelled,
                job.retried, job.finished_wall, job.no,
            )
        )  # fmt: skip

    def _put_input(self, put: PutInput) -> None:
        block_id = self._put_block(put.block)
        self._inputs.append(
            (put.no, put.base, put.count, block_id, len(put.block), put.digest, put.due_wall, put.wait_s)
        )

    def _put_block(self, block: bytes) -> int:
        block_id = self.next_block
        self.next_block += 1
        self._blocks.append((block_id, block))
        return block_id

    def _put_chunk(self, chunk: PutChunk) -> None:
        epoch, counter = chunk.fence
        self._chunks.append((epoch, counter, chunk.no, f"{chunk.start},{chunk.stop}", chunk.node, False))

    def _shorten_chunk(self, chunk: ShortenChunk) -> None:
        self._bounds.append((",".join(map(str, chunk.bounds)), *chunk.fence))

    def _put_values(self, put: PutValues) -> None:
        block_id = self._put_block(put.block)
        size = len(put.block)
        for start, stop in put.slices:
            self._outcomes.append((put.no, start, stop, put.base, block_id, None, size))

    def _put_failure(self, put: PutFailure) -> None:
        if put.no in self._deleting:
            self.flush()
        failure_id = self.next_failure
        self.next_failure += 1
        message, traceback, log = shortened(put.message), shortened(put.traceback), shortened(put.log)
        self._failures.append(
            (
                failure_id, put.no, put.item, put.attempt, put.kind.value, put.type, message, traceback,
                put.node, put.failed_wall, put.final, log, put.memory_bytes_peak,
            )
        )  # fmt: skip
        self._histories.append((put.no, put.item))
        if put.final:
            size = len(put.type) + len(message) + len(traceback) + len(log)
            self._outcomes.append((put.no, put.item, put.item + 1, put.item, None, failure_id, size))

    def _put_attempt(self, put: PutAttempt) -> None:
        if put.no in self._deleting:
            self.flush()
        self._attempts[put.no, put.item] = (put.no, put.item, put.attempts, put.due_wall, put.suspect, put.wait_s)

    def _put_losses(self, put: PutLosses) -> None:
        if put.no in self._deleting:
            self.flush()
        self._losses.append((put.no, put.start, put.stop, put.losses))

    def _reopen_items(self, reopen: ReopenItems) -> None:
        self._deleting.add(reopen.no)
        self._reopened.extend((reopen.no, start, stop) for start, stop in reopen.ranges)

    def _drop_attempts(self, drop: DropAttempts) -> None:
        self._deleting.add(drop.no)
        self._ended.append((drop.no,))

    def _sweep_removed(self, sweep: SweepRemoved) -> None:
        self.sweep_rows += sweep.rows_max

    def _put_node(self, node: PutNode) -> None:
        self._nodes[node.id] = (node.id, node.name, node.host, node.drained, node.gone, node.seen_wall)

    def _drop_node(self, drop: DropNode) -> None:
        self._nodes[drop.id] = None


def shortened(text: str) -> str:
    """`text`, without its middle where it is longer than TEXT_CHARS_MAX: both ends say more."""
    if len(text) <= TEXT_CHARS_MAX:
        return text
    half = TEXT_CHARS_MAX // 2 - 32
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
