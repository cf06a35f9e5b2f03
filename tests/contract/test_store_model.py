"""Random sequences of records against a plain model in memory: whatever way they are cut into batches, both agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windrow.common.blocks import block_entries, pack_block
from windrow.common.options import JobOptions
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, JobId, JobState, Range
from windrow.scheduler.core.records import (
    DropAttempts,
    PutAttempt,
    PutFailure,
    PutJob,
    PutLosses,
    PutValues,
    Record,
    ReopenItems,
)
from windrow.scheduler.ports import Page
from windrow.scheduler.store import SqlStore, open_store

ITEMS = 24
_numbers = count(1)


@dataclass
class Model:
    """What the store should say, item by item; it makes of each drawn step a record that the core might send."""

    no: int
    outcomes: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """By item, in the order of commit."""
    failed: set[int] = field(default_factory=set[int])
    attempts: dict[int, int] = field(default_factory=dict[int, int])
    losses: dict[int, int] = field(default_factory=dict[int, int])
    history: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def step(self, kind: str, start: int, length: int, mark: int) -> Record:
        stop = min(ITEMS, start + length)
        match kind:
            case "values":
                free = [at for at in range(start, stop) if at not in self.outcomes]
                if free:
                    return self._values(start, stop, free, mark)
            case "failure" | "attempt failed":
                if start not in self.outcomes:
                    return self._failure(start, mark, final=kind == "failure")
            case "reopen":
                return self._reopen(start, stop)
            case "drop attempts":
                self.attempts.clear()
                self.losses.clear()
                return DropAttempts(self.no)
            case "losses":
                for item in range(start, stop):
                    self.losses[item] = max(self.losses.get(item, 0), mark)
                return PutLosses(self.no, start, stop, mark)
            case _:
                pass
        self.attempts[start] = mark
        return PutAttempt(self.no, start, mark, 0.0, False)

    def _values(self, start: int, stop: int, free: list[int], mark: int) -> PutValues:
        entries = [f"{at}/{mark}".encode() for at in range(start, stop)]
        self.outcomes |= {at: entries[at - start] for at in free}
        slices = tuple(RangeSet((at, at + 1) for at in free))
        return PutValues(self.no, start, stop - start, pack_block(entries), slices)

    def _failure(self, item: int, mark: int, *, final: bool) -> PutFailure:
        past = self.history.get(item, [])
        self.history[item] = [*past[:3], *[*past[3:], mark][-3:]]
        if final:
            self.outcomes[item] = f"failure {mark}".encode()
            self.failed.add(item)
        return PutFailure(self.no, item, mark, FailureKind.CRASH, "", f"failure {mark}", "", "n", 0.0, final, "", 0)

    def _reopen(self, start: int, stop: int) -> ReopenItems:
        for item in range(start, stop):
            self.attempts.pop(item, None)
            self.losses.pop(item, None)
            if item in self.failed:
                self.failed.remove(item)
                del self.outcomes[item]
        return ReopenItems(self.no, (Range(start, stop),))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    folder: Path = tmp_path_factory.mktemp("model")
    opened = open_store("", state_dir=folder, clock=lambda: 0.0)
    yield opened
    opened.close()


def items_of(page: Page) -> list[tuple[int, bytes]]:
    values = [pair for run in page.values for pair in enumerate(block_entries(run.block), run.start)]
    return values + [(failure.item, failure.message.encode()) for failure in page.failures]


def read_all_results(store: SqlStore, job: JobId, bytes_max: int) -> list[tuple[int, bytes]]:
    """Every item in order, gaps stepped over one by one."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < ITEMS:
        page = store.read_results(job, at, 1 << 40, bytes_max)
        found += sorted(items_of(page))
        at = max(page.next, at + 1)
    return found


def read_all_news(store: SqlStore, job: JobId, bytes_max: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    after, more = -1, True
    while more:
        page = store.read_news(job, after, bytes_max)
        found += items_of(page)
        after, more = page.next, page.more
    return found


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["values", "values", "failure", *4 * ["attempt failed"], "attempt", "losses", "reopen", "drop attempts"]
        ),
        st.integers(0, ITEMS - 1),
        st.integers(1, 8),
        st.integers(1, 9),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cuts=st.sets(st.integers(1, 30)), bytes_max=st.sampled_from([1, 40, 1 << 20]))
def test_the_store_says_what_the_model_says(
    store: SqlStore, steps: list[tuple[str, int, int, int]], cuts: set[int], bytes_max: int
) -> None:
    no = next(_numbers)
    job = JobId(f"JOB{no}")
    model = Model(no)
    batch: list[Record] = [
        PutJob(no, job, "t:u", "", JobOptions(), False, None, (), None, ITEMS, False, JobState.RUNNING, 0.0)
    ]
    for at, step in enumerate(steps):
        batch.append(model.step(*step))
        if at in cuts:
            store.commit(batch)
            batch = []
            info = store.find_info(job)
            assert info is not None
            assert (info.done + info.failed, info.failed) == (len(model.outcomes), len(model.failed))
    store.commit(batch)

    stored = store.find_job(job)
    assert stored is not None
    assert stored.done == RangeSet((at, at + 1) for at in model.outcomes if at not in model.failed).bounds
    assert stored.quarantined == RangeSet((at, at + 1) for at in model.failed).bounds
    assert [(one.item, one.attempts) for one in stored.attempts] == sorted(model.attempts.items())
    losses: dict[int, int] = {}
    for one in stored.losses:
        losses |= {item: max(losses.get(item, 0), one.losses) for item in range(one.start, one.stop)}
    assert losses == model.losses
    for item in range(ITEMS):
        history = store.read_history(job, item).failures
        assert [one.attempts for one in history] == model.history.get(item, [])
    info = store.find_info(job)
    assert info is not None
    assert (info.done, info.failed) == (len(model.outcomes) - len(model.failed), len(model.failed))
    assert read_all_results(store, job, bytes_max) == sorted(model.outcomes.items())
    assert sorted(read_all_news(store, job, bytes_max)) == sorted(model.outcomes.items())
    if bytes_max == 1:  # one outcome row to a page: then the order of commit is seen whole
        assert read_all_news(store, job, bytes_max) == list(model.outcomes.items())
    failures = store.read_failures(job, 0, 1000).failures
    assert [failure.item for failure in failures] == sorted(model.failed)
