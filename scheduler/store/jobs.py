"""Reads jobs: whole, as the core rebuilds its sets from them, and as users see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Dialect, Select, Table, false, func, select

from windrow.common.codec import decoder_for
from windrow.common.errors import MalformedMessage, StoreDamaged
from windrow.common.messages import JobInfo, NumberItems
from windrow.common.options import JobOptions
from windrow.common.words import TERMINAL_STATES, JobId, JobState
from windrow.scheduler.core.records import EndedJob, StoredAttempt, StoredInput, StoredJob, StoredLosses
from windrow.scheduler.store.counts import LiveCounts
from windrow.scheduler.store.link import Link, Prepared, Row, param, prepare
from windrow.scheduler.store.schema import ATTEMPT, INPUT, JOB, LOSS, OUTCOME

T = TypeVar("T")

SCAN_ROWS = 5_000
"""Rows that one statement of a long scan reads."""

_STORED = (
    "no", "id", "task", "name", "options", "stream", "key", "after", "numbers", "total", "open", "state",
    "generation", "reason", "retried", "created_wall", "finished_wall",
)  # fmt: skip
_SEEN = (
    "no", "id", "name", "task", "state", "open", "total", "done", "failed", "cancelled", "options", "stream",
    "reason", "created_wall", "finished_wall", "retried", "after", "generation",
)  # fmt: skip
_LIVE = tuple(state.value for state in JobState if state not in TERMINAL_STATES)
_SHOWN_AS_RUNNING = (JobState.RUNNING.value, JobState.CANCELLING.value, JobState.STOPPING.value)
"""Users know no `cancelling` and no `stopping`."""
_NO_MAX = (1 << 63) - 1
NUMBERS_KEPT = 100_000

_make_options = decoder_for(JobOptions)
_make_numbers = decoder_for(NumberItems)


class _Statements:
    def __init__(self, dialect: Dialect) -> None:
        names = [f"state{at}" for at in range(len(_LIVE))]
        live = JOB.c.state.in_([param(name) for name in names])
        scan = ("job_no", "behind", "rows")
        self.live = prepare(dialect, _select_jobs(_STORED).where(live).order_by(JOB.c.no), *names)
        self.last_no = prepare(dialect, select(func.max(JOB.c.no)))
        self.by_id = prepare(dialect, _select_jobs(_STORED).where(JOB.c.id == param("id")), "id")
        self.seen_by_id = prepare(dialect, _select_jobs(_SEEN).where(JOB.c.id == param("id")), "id")
        ended = (JOB.c.state == param("state"), JOB.c.finished_wall < param("before"))
        first = select(JOB.c.no, JOB.c.id, JOB.c.state, JOB.c.finished_wall).where(*ended)
        self.ended = prepare(
            dialect, first.order_by(JOB.c.finished_wall).limit(param("rows")), "state", "before", "rows"
        )
        self.id_by_key = prepare(dialect, select(JOB.c.id).where(JOB.c.key == param("key")), "key")
        self.no_by_id = prepare(dialect, select(JOB.c.no).where(JOB.c.id == param("id")), "id")
        self.ids = prepare(dialect, _select_ids(), "low", "high", "rows")
        self.pages = {
            (streams, stated): prepare(dialect, *_select_page(streams=streams, stated=stated))
            for streams in (False, True)
            for stated in (False, True)
        }
        self.outcomes = prepare(dialect, _scan(OUTCOME, "start", "stop", "failure_id"), *scan)
        self.inputs = prepare(
            dialect, _scan(INPUT, "base", "count", "block_bytes", "digest", "due_wall", "wait_s"), *scan
        )
        self.attempts = prepare(dialect, _scan(ATTEMPT, "item", "attempts", "due_wall", "suspect", "wait_s"), *scan)
        self.losses = prepare(dialect, _scan(LOSS, "seq", "start", "stop", "losses"), *scan)
        length = func.coalesce(func.sum(OUTCOME.c.stop - OUTCOME.c.start), 0)
        self.sums = prepare(
            dialect,
            select(length, func.count(OUTCOME.c.failure_id)).where(OUTCOME.c.job_no == param("job_no")),
            "job_no",
        )


def _select_jobs(names: Sequence[str]) -> Select[*tuple[Any, ...]]:
    return select(*(JOB.c[name] for name in names))


def _select_ids() -> Select[*tuple[Any, ...]]:
    between = (JOB.c.id >= param("low"), JOB.c.id <= param("high"))
    return select(JOB.c.id).where(*between).order_by(JOB.c.id).limit(param("rows"))


def _select_page(*, streams: bool, stated: bool) -> tuple[Any, ...]:
    """The statement, and the names of its parameters in order."""
    page = _select_jobs(_SEEN).where(JOB.c.no < param("below")).order_by(JOB.c.no.desc()).limit(param("rows"))
    if not streams:
        page = page.where(JOB.c.stream == false())
    if not stated:
        return page, "below", "rows"
    names = [f"state{at}" for at in range(len(_SHOWN_AS_RUNNING))]
    return page.where(JOB.c.state.in_([param(name) for name in names])), "below", *names, "rows"


def _scan(table: Table, order: str, *names: str) -> Select[*tuple[Any, ...]]:
    """Rows of one job in order, from behind a given one."""
    return (
        select(table.c[order], *(table.c[name] for name in names))
        .where(table.c.job_no == param("job_no"), table.c[order] > param("behind"))
        .order_by(table.c[order])
        .limit(param("rows"))
    )


class JobReader:
    """Every question about jobs that is not about their outcomes."""

    def __init__(self, link: Link, counts: LiveCounts) -> None:
        self._link = link
        self._counts = counts
        self._statements = _Statements(link.dialect)
        self._numbers: dict[str, int] = {}

    def find_last_no(self) -> int:
        """The highest job number, 0 for none."""
        return int(self._link.fetch(self._statements.last_no)[0][0] or 0)

    def read_live(self) -> tuple[StoredJob, ...]:
        """All jobs that are not terminal, by number."""
        jobs = tuple(self._stored(row) for row in self._link.fetch(self._statements.live, *_LIVE))
        for job in jobs:
            self._counts.put(job.no, _length(job.done), _length(job.quarantined))
        return jobs

    def find(self, job: JobId) -> StoredJob | None:
        found = self._link.fetch(self._statements.by_id, job)
        return self._stored(found[0]) if found else None

    def find_no(self, job: str) -> int | None:
        """The job's number, which never changes: pollers ask for it again and again."""
        no = self._numbers.get(job)
        if no is None:
            found = self._link.fetch(self._statements.no_by_id, job)
            if not found:
                return None
            if len(self._numbers) >= NUMBERS_KEPT:
                self._numbers.clear()
            no = self._numbers[job] = int(found[0][0])
        return no

    def find_ended(self, before: Mapping[JobState, float], limit: int) -> tuple[EndedJob, ...]:
        """See Store.find_ended."""
        return tuple(
            EndedJob(no, JobId(id_), JobState(state), finished_wall)
            for each, wall in before.items()
            for no, id_, state, finished_wall in self._link.fetch(self._statements.ended, each.value, wall, limit)
        )

    def forget(self, job: JobId) -> None:
        """The job was removed."""
        self._numbers.pop(job, None)

    def find_id_by_key(self, key: str) -> JobId | None:
        found = self._link.fetch(self._statements.id_by_key, key)
        return JobId(found[0][0]) if found else None

    def find_ids(self, prefix: str, limit: int) -> list[JobId]:
        found = self._link.fetch(self._statements.ids, prefix, prefix + "\U0010ffff", limit)
        return [JobId(row[0]) for row in found]

    def find_info(self, job: JobId) -> JobInfo | None:
        found = self._link.fetch(self._statements.seen_by_id, job)
        return self._info(found[0]) if found else None

    def list_infos(self, *, limit: int, before: str, streams: bool, state: str) -> list[JobInfo]:
        """Newest first; nothing where `before` names no job."""
        below = self.find_no(before) if before else _NO_MAX
        if below is None:
            return []
        states = _SHOWN_AS_RUNNING if state == JobState.RUNNING.value else (state,) * len(_SHOWN_AS_RUNNING)
        page = self._statements.pages[streams, bool(state)]
        rows = self._link.fetch(page, below, *(states if state else ()), limit)
        return [self._info(row) for row in rows]

    def _stored(self, row: Row) -> StoredJob:
        (
            no, id_, task, name, options, stream, key, after, numbers, total, open_, state,
            generation, reason, retried, created_wall, finished_wall,
        ) = row  # fmt: skip
        done, quarantined = self._sets(no)
        inputs = self._scan(self._statements.inputs, no)
        attempts = self._scan(self._statements.attempts, no)
        losses = self._scan(self._statements.losses, no)
        return StoredJob(
            no=no,
            id=JobId(id_),
            task=task,
            name=name,
            options=_decode(_make_options, options),
            stream=bool(stream),
            key=key,
            after=_decode(_make_after, after),
            numbers=None if numbers is None else _decode(_make_numbers, numbers),
            total=total,
            open=bool(open_),
            state=JobState(state),
            generation=generation,
            reason=reason,
            retried=retried,
            created_wall=created_wall,
            finished_wall=finished_wall,
            done=done,
            quarantined=quarantined,
            inputs=tuple(StoredInput(*found) for found in inputs),
            attempts=tuple(
                StoredAttempt(item, used, due, bool(suspect), wait) for item, used, due, suspect, wait in attempts
            ),
            losses=tuple(StoredLosses(start, stop, lost) for _, start, stop, lost in losses),
        )

    def _sets(self, no: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Boundaries of the items with a value, and of those with a failure."""
        done: list[int] = []
        quarantined: list[int] = []
        for start, stop, failure_id in self._scan(self._statements.outcomes, no):
            bounds = done if failure_id is None else quarantined
            if bounds and bounds[-1] == start:
                bounds[-1] = stop
            else:
                bounds += (start, stop)
        return tuple(done), tuple(quarantined)

    def _scan(self, statement: Prepared, no: int) -> Iterator[Row]:
        behind = -1
        while True:
            rows = self._link.fetch(statement, no, behind, SCAN_ROWS)
            yield from rows
            if len(rows) < SCAN_ROWS:
                return
            behind = rows[-1][0]

    def _info(self, row: Row) -> JobInfo:
        (
            no, id_, name, task, state, open_, total, done, failed, cancelled, options, stream,
            reason, created_wall, finished_wall, retried, after, generation,
        ) = row  # fmt: skip
        known = JobState(state)
        if known not in TERMINAL_STATES:
            done, failed = self._live_counts(no)
        decided = _decode(_make_options, options)
        return JobInfo(
            id=JobId(id_),
            name=name,
            task=task,
            state=JobState.RUNNING if known in _SHOWN_AS_RUNNING else known,
            open=bool(open_),
            total=total,
            done=done,
            failed=failed,
            cancelled=cancelled,
            running=0,
            pending=max(0, total - done - failed - cancelled),
            queue=decided.queue,
            priority=decided.priority,
            stream=bool(stream),
            reason=reason,
            created_s=created_wall,
            finished_s=finished_wall,
            retried=retried,
            after=_decode(_make_after, after),
            generation=generation,
        )

    def _live_counts(self, no: int) -> tuple[int, int]:
        known = self._counts.find(no)
        if known is None:
            length, failed = self._link.fetch(self._statements.sums, no)[0]
            known = (int(length) - int(failed), int(failed))
            self._counts.put(no, *known)
        return known


def _length(bounds: Sequence[int]) -> int:
    return sum(bounds[1::2]) - sum(bounds[::2])


def _make_after(plain: Any) -> tuple[JobId, ...]:
    return tuple(JobId(str(other)) for other in plain)


def _decode(make: Callable[[Any], T], text: str) -> T:
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, MalformedMessage) as error:
        raise StoreDamaged(f"a job's row cannot be read ({error}): put back a copy of the store") from None
