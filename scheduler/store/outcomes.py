"""Reads items and outcomes in short pages: inputs for chunks, values and failures for clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Select, false, func, select, true

from windrow.common.blocks import slice_block
from windrow.common.errors import MalformedMessage, StoreDamaged
from windrow.common.limits import PAGE_BYTES_MAX, RUNS_MAX
from windrow.common.messages import FailureInfo, InputSlice, ValueRun
from windrow.common.words import FailureKind
from windrow.scheduler.ports import Page
from windrow.scheduler.store.link import Link, Prepared, Row, param, prepare
from windrow.scheduler.store.schema import BLOCK, FAILURE, INPUT, OUTCOME

PAGE_ROWS = 256
"""Narrow rows that one statement reads; a page may need several, most need less than one."""

_FAILURE = (
    "item", "kind", "type", "message", "traceback", "node", "attempt", "failed_wall", "log",
    "memory_bytes_peak",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Slice:
    """One narrow outcome row."""

    seq: int
    start: int
    stop: int
    base: int
    block_id: int | None
    failure_id: int | None
    bytes: int


class _Statements:
    def __init__(self, dialect: Dialect) -> None:
        job = OUTCOME.c.job_no == param("job_no")
        low, high, rows = param("low"), param("high"), param("rows")
        # The page may begin within a slice: then with the one that begins last before it.
        floor = select(func.max(OUTCOME.c.start)).where(job, OUTCOME.c.start <= low).scalar_subquery()
        from_floor = OUTCOME.c.start >= func.coalesce(floor, low)
        by_item = _select_slices().where(job, from_floor).order_by(OUTCOME.c.start).limit(rows)
        by_commit = _select_slices().where(job, OUTCOME.c.seq > low).order_by(OUTCOME.c.seq).limit(rows)
        newest = select(func.coalesce(func.max(OUTCOME.c.seq), -1)).where(job)
        self.newest = prepare(dialect, newest, "job_no")
        self.by_item = prepare(dialect, by_item, "job_no", "low", "rows")
        self.by_commit = prepare(dialect, by_commit, "job_no", "low", "rows")
        blocks: dict[str, Prepared] = {}
        failures: dict[str, Prepared] = {}
        for order in ("start", "seq"):
            column = OUTCOME.c[order]
            among = (job, column >= low, column <= high)
            block_ids = select(OUTCOME.c.block_id).where(*among, OUTCOME.c.block_id.is_not(None))
            failure_ids = select(OUTCOME.c.failure_id).where(*among, OUTCOME.c.failure_id.is_not(None))
            wide = select(BLOCK.c.id, BLOCK.c.bytes).where(BLOCK.c.id.in_(block_ids))
            blocks[order] = prepare(dialect, wide, "job_no", "low", "high")
            wide = _select_failures("id").where(FAILURE.c.id.in_(failure_ids))
            failures[order] = prepare(dialect, wide, "job_no", "low", "high")
        self.blocks = blocks
        self.failures = failures
        quarantined = (FAILURE.c.job_no == param("job_no"), FAILURE.c.final == true(), FAILURE.c.item >= low)
        self.quarantined = prepare(
            dialect,
            _select_failures("item").where(*quarantined).order_by(FAILURE.c.item).limit(rows),
            "job_no",
            "low",
            "rows",
        )
        one = (FAILURE.c.job_no == param("job_no"), FAILURE.c.final.in_([false(), true()]), FAILURE.c.item == low)
        self.history = prepare(dialect, _select_failures("id").where(*one).order_by(FAILURE.c.id), "job_no", "low")
        self.inputs = prepare(dialect, _select_inputs(), "job_no", "low", "high")


def _select_slices() -> Select[*tuple[Any, ...]]:
    names = ("seq", "start", "stop", "base", "block_id", "failure_id", "bytes")
    return select(*(OUTCOME.c[name] for name in names))


def _select_failures(first: str) -> Select[*tuple[Any, ...]]:
    return select(FAILURE.c[first].label("first"), *(FAILURE.c[name] for name in _FAILURE))


def _select_inputs() -> Select[*tuple[Any, ...]]:
    job = INPUT.c.job_no == param("job_no")
    floor = select(func.max(INPUT.c.base)).where(job, INPUT.c.base <= param("low")).scalar_subquery()
    return (
        select(INPUT.c.base, INPUT.c.count, BLOCK.c.bytes)
        .join(BLOCK, BLOCK.c.id == INPUT.c.block_id)
        .where(job, INPUT.c.base >= func.coalesce(floor, param("low")), INPUT.c.base < param("high"))
        .order_by(INPUT.c.base)
    )


class OutcomeReader:
    """Pages of outcomes and slices of inputs; jobs go by number here."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._statements = _Statements(link.dialect)

    def read_inputs(self, no: int, start: int, stop: int) -> tuple[InputSlice, ...]:
        """Slices that tile [start, stop); StoreDamaged where they do not."""
        found: list[InputSlice] = []
        at = start
        for base, count, block in self._link.fetch(self._statements.inputs, no, start, stop):
            end = min(stop, base + count)
            if not base <= at < end:
                break
            found.append(InputSlice(at, end, _slice(block, at - base, end - base)))
            at = end
        if at < stop:
            raise StoreDamaged(
                f"items {at} to {stop} of job number {no} are missing from the store: put back a copy of it"
            )
        return tuple(found)

    def read_results(self, no: int, start: int, stop: int, bytes_max: int) -> Page:
        """See Store.read_results."""
        taken: list[_Slice] = []
        room = _Room(bytes_max)
        at, more = start, False
        while not more and at < stop:
            rows = self._link.fetch(self._statements.by_item, no, at, PAGE_ROWS)
            before = at
            for part in map(_make_slice, rows):
                if not part.start <= at < part.stop or at >= stop:
                    break
                part = dataclasses.replace(part, stop=min(part.stop, stop))
                if not room.take(part):
                    more = True
                    break
                taken.append(part)
                at = part.stop
            if at == before or len(rows) < PAGE_ROWS:
                break
        values, failures = self._widen(no, taken, "start", start)
        return Page(values, failures, at, more)

    def read_news(self, no: int, after: int, bytes_max: int) -> Page:
        """See Store.read_news."""
        taken: list[_Slice] = []
        room = _Room(bytes_max)
        at, more = after, False
        while not more:
            rows = self._link.fetch(self._statements.by_commit, no, at, PAGE_ROWS)
            for part in map(_make_slice, rows):
                if not room.take(part):
                    more = True
                    break
                taken.append(part)
                at = part.seq
            if len(rows) < PAGE_ROWS:
                break
        values, failures = self._widen(no, taken, "seq", 0)
        return Page(values, failures, at, more)

    def last_sequence(self, no: int) -> int:
        """Of the job's newest outcome; -1 where there is none."""
        return int(self._link.fetch(self._statements.newest, no)[0][0])

    def read_failures(self, no: int, start: int, limit: int) -> Page:
        """See Store.read_failures; texts are counted against PAGE_BYTES_MAX too."""
        found: list[FailureInfo] = []
        room = PAGE_BYTES_MAX
        at = start
        while len(found) < limit:
            wanted = min(PAGE_ROWS // 4, limit - len(found) + 1)
            rows = self._link.fetch(self._statements.quarantined, no, at, wanted)
            for row in rows:
                info = _make_failure(row)
                room -= _text_bytes(info)
                if len(found) == limit or (found and room < 0):
                    return Page((), tuple(found), at, more=True)
                found.append(info)
                at = info.item + 1
            if len(rows) < wanted:
                return Page((), tuple(found), at, more=False)
        return Page((), tuple(found), at, more=bool(self._link.fetch(self._statements.quarantined, no, at, 1)))

    def read_history(self, no: int, item: int) -> Page:
        """See Store.read_history; the writer keeps so few of an item that all of them fit into a page."""
        rows = self._link.fetch(self._statements.history, no, item)
        return Page((), tuple(map(_make_failure, rows)), item + 1, more=False)

    def _widen(
        self, no: int, taken: Sequence[_Slice], order: str, floor: int
    ) -> tuple[tuple[ValueRun, ...], tuple[FailureInfo, ...]]:
        """The slices with bytes and texts, cut at `floor`; each block is read once, however many slices it has."""
        if not taken:
            return (), ()
        low, high = (getattr(part, order) for part in (taken[0], taken[-1]))
        blocks: dict[int, bytes] = {}
        failures: dict[int, FailureInfo] = {}
        if any(part.block_id is not None for part in taken):
            blocks = {row[0]: row[1] for row in self._link.fetch(self._statements.blocks[order], no, low, high)}
        if any(part.failure_id is not None for part in taken):
            rows = self._link.fetch(self._statements.failures[order], no, low, high)
            failures = {row[0]: _make_failure(row) for row in rows}
        try:
            return (
                tuple(_make_run(part, blocks[part.block_id], floor) for part in taken if part.block_id is not None),
                tuple(failures[part.failure_id] for part in taken if part.failure_id is not None),
            )
        except KeyError as error:
            raise StoreDamaged(
                f"outcomes of job number {no} have lost their bytes ({error}): put back a copy of the store"
            ) from None


class _Room:
    """How much still fits into a page: always one entry, then up to so many bytes and RUNS_MAX entries."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes = bytes_max
        self._entries = 0
        self._blocks: set[int] = set()

    def take(self, part: _Slice) -> bool:
        size = 0 if part.block_id in self._blocks else part.bytes
        if self._entries and (self._bytes < size or self._entries >= RUNS_MAX):
            return False
        self._bytes -= size
        self._entries += 1
        if part.block_id is not None:
            self._blocks.add(part.block_id)
        return True


def _make_slice(row: Row) -> _Slice:
    return _Slice(*row)


def _make_run(part: _Slice, block: bytes, floor: int) -> ValueRun:
    start = max(part.start, floor)
    return ValueRun(start, part.stop, _slice(block, start - part.base, part.stop - part.base))


def _make_failure(row: Row) -> FailureInfo:
    _, item, kind, *texts_and_more = row
    return FailureInfo(item, FailureKind(kind), *texts_and_more)


def _text_bytes(info: FailureInfo) -> int:
    return len(info.type) + len(info.message) + len(info.traceback) + len(info.log)


def _slice(block: bytes, start: int, stop: int) -> bytes:
    try:
        return slice_block(block, start, stop)
    except (ValueError, MalformedMessage) as error:
        raise StoreDamaged(f"a block of the store cannot be cut ({error}): put back a copy of the store") from None
