"""What every store must do. A second store joins by one more entry in HARNESSES."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

import windrow
from windrow.common.blocks import block_entries, pack_block
from windrow.common.errors import EpochLost, StoreDamaged, StoreFailed, StoreLocked
from windrow.common.limits import JOB_ITEMS_MAX, PAGE_BYTES_MAX, RUNS_MAX, TEXT_CHARS_MAX
from windrow.common.messages import FailureInfo, NumberItems
from windrow.common.options import JobOptions, OnLost
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Range
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
    StoredAttempt,
    StoredChunk,
    StoredInput,
    StoredLosses,
    StoredNode,
    SweepRemoved,
)
from windrow.scheduler.ports import Page, Store
from windrow.scheduler.store import SqlStore, open_store

NODE = NodeId("node-1")
WALL = 1_700_000_000.25


class StoreHarness(Protocol):
    """One empty place for a store, and what a test may do to it behind the store's back."""

    def open(self) -> SqlStore: ...

    def open_elsewhere(self) -> str:
        """Open it in another process; what was printed: the epoch, or the name and text of the error."""
        ...

    def bump_epoch(self) -> None:
        """As another scheduler would that had got past the lock."""
        ...

    def full_disk(self) -> AbstractContextManager[None]:
        """Inside, nothing of any size can be written."""
        ...

    def count_rows(self) -> int:
        """Of all that belongs to jobs."""
        ...

    def child_environment(self) -> dict[str, str]:
        """In which `python -c` finds windrow and, as STATE_DIR, this place."""
        ...


class SqliteHarness:
    """A store in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        self.path = self.folder / "windrow.db"

    def open(self) -> SqlStore:
        return open_store("", state_dir=self.folder, clock=lambda: WALL)

    def open_elsewhere(self) -> str:
        code = """
import os, pathlib, time
from windrow.common.errors import WindrowError
from windrow.scheduler.store import open_store
try:
    print(open_store("", state_dir=pathlib.Path(os.environ["STATE_DIR"]), clock=time.time).epoch)
except WindrowError as error:
    print(type(error).__name__, error)
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.child_environment(), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def bump_epoch(self) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("UPDATE cluster SET epoch = epoch + 1")
        connection.commit()
        connection.close()

    def count_rows(self) -> int:
        connection = sqlite3.connect(self.path)
        tables = ("job", "input", "outcome", "failure", "block", "removed", "attempt", "loss", "chunk")
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        connection.close()
        return sum(counts)

    @contextmanager
    def full_disk(self) -> Generator[None]:
        # A limit on the size of files stands in for a disk that is full: no file grows beyond 64 KiB any more.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def child_environment(self) -> dict[str, str]:
        root = str(Path(str(windrow.__file__)).parent.parent)
        return {**os.environ, "PYTHONPATH": root, "STATE_DIR": str(self.folder)}


HARNESSES: dict[str, Callable[[Path], StoreHarness]] = {"sqlite": SqliteHarness}


@pytest.fixture(params=["sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> StoreHarness:
    return HARNESSES[request.param](tmp_path)


@pytest.fixture
def store_factory(harness: StoreHarness) -> Iterator[Callable[[], SqlStore]]:
    """Opens the place; whatever is still open at the end of the test is closed."""
    opened: list[SqlStore] = []

    def open_one() -> SqlStore:
        opened.append(harness.open())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(store_factory: Callable[[], SqlStore]) -> SqlStore:
    return store_factory()


def job_id(no: int) -> JobId:
    return JobId(f"JOB{no:013d}")


def put_job(no: int = 1, *, key: str | None = None, stream: bool = False, total: int = 100) -> PutJob:
    return PutJob(
        no=no, id=job_id(no), task="pkg.mod:run", name=f"job {no}", options=JobOptions(), stream=stream, key=key,
        after=(), numbers=None, total=total, open=True, state=JobState.RUNNING, created_wall=WALL + no,
    )  # fmt: skip


def set_job(no: int = 1, state: JobState = JobState.RUNNING, **changes: object) -> SetJob:
    fields: dict[str, object] = {
        "no": no, "state": state, "total": 100, "open": False, "generation": 0, "reason": "", "done": 0, "failed": 0,
        "cancelled": 0, "retried": 0, "finished_wall": None,
    }  # fmt: skip
    return SetJob(**(fields | changes))  # type: ignore[arg-type]


def entries(start: int, stop: int) -> list[bytes]:
    return [str(index).encode() for index in range(start, stop)]


def put_values(base: int, stop: int, *slices: tuple[int, int], no: int = 1) -> PutValues:
    """A block whose entries are their own indexes; all of it counts unless slices are given."""
    counted = tuple(Range(*part) for part in slices) or (Range(base, stop),)
    return PutValues(no, base, stop - base, pack_block(entries(base, stop)), counted)


def put_failure(item: int, *, no: int = 1, attempt: int = 1, final: bool = True, message: str = "no") -> PutFailure:
    return PutFailure(
        no, item, attempt, FailureKind.ERROR, "builtins.ValueError", message, "Traceback …", "alpha", WALL, final, "", 0
    )


def failure_info(item: int, *, attempts: int = 1, message: str = "no") -> FailureInfo:
    return FailureInfo(item, FailureKind.ERROR, "builtins.ValueError", message, "Traceback …", "alpha", attempts, WALL)


def chunk(counter: int, start: int = 0, stop: int = 10, no: int = 1) -> PutChunk:
    return PutChunk(Fence(1, counter), no, start, stop, NODE)


def seen(page: Page) -> dict[int, bytes | str]:
    """What the page says by item; an item that is in twice fails the test."""
    found: dict[int, bytes | str] = {}
    for run in page.values:
        items = list(block_entries(run.block))
        assert len(items) == run.stop - run.start
        for index, entry in enumerate(items, run.start):
            assert index not in found
            found[index] = entry
    for failure in page.failures:
        assert failure.item not in found
        found[failure.item] = failure.message
    return found


# ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_store_is_empty_and_begins_epoch_one(store: SqlStore) -> None:
    as_port: Store = store
    snapshot = as_port.load()
    assert (snapshot.epoch, snapshot.last_job_no) == (1, 0)
    assert (snapshot.jobs, snapshot.chunks, snapshot.nodes) == ((), (), ())
    assert len(store.secret) == 32
    assert len(store.cluster) >= 16
    assert store.check() == ""


def test_each_opening_is_a_new_epoch_of_the_same_cluster(store_factory: Callable[[], SqlStore]) -> None:
    first = store_factory()
    first.close()
    second = store_factory()
    assert second.epoch == first.epoch + 1
    assert (second.cluster, second.secret) == (first.cluster, first.secret)
    assert second.load().secret == first.secret


def test_a_second_opening_is_refused_and_names_the_holder(harness: StoreHarness, store: SqlStore) -> None:
    with pytest.raises(StoreLocked, match=rf"process {os.getpid()}\b.*--state"):
        harness.open()
    told = harness.open_elsewhere()
    assert told.startswith("StoreLocked ")
    assert f"process {os.getpid()}" in told
    store.commit([put_job()])  # the refused ones have done no harm


def test_a_closed_store_can_be_taken_by_another_process(harness: StoreHarness, store: SqlStore) -> None:
    store.close()
    assert harness.open_elsewhere() == "2"


# ── What was written is what is loaded ───────────────────────────────────────────────────────────────────────────


def test_a_snapshot_gives_back_every_kind_of_record(store_factory: Callable[[], SqlStore]) -> None:
    options = JobOptions(
        queue="heavy", priority=-3, retries=2, backoff_s=0.5, delay_s=7.0, idempotent=True,
        retry_on=("ValueError", "shop.errors.Busy"), never_retry_on=("KeyError",), timeout_s=30.0, soft_timeout_s=25.5,
        max_failures=7, on_lost=OnLost.FAIL,
    )  # fmt: skip
    job = PutJob(
        no=7, id=job_id(7), task="t:u", name="näme \0 '", options=options, stream=True, key="k", after=(job_id(1),),
        numbers=NumberItems(-5, 10**30, 3), total=JOB_ITEMS_MAX, open=True, state=JobState.PENDING, created_wall=WALL,
    )  # fmt: skip
    first = store_factory()
    first.commit(
        [
            put_job(1),
            job,
            PutInput(1, 0, 4, pack_block(entries(0, 4)), b"digest", None),
            PutInput(1, 4, 1, pack_block([b""]), b"", WALL, 30.5),
            chunk(1, 0, 10),
            LeaseChunk(Fence(1, 1)),
            ShortenChunk(Fence(1, 1), (0, 2, 5, 10)),
            chunk(2, 10, JOB_ITEMS_MAX),
            put_values(0, 2),
            put_values(2, 3),
            put_failure(5),
            PutAttempt(1, 8, 2, WALL, True, 12.5),
            PutLosses(1, 5, 10, 1),
            PutLosses(1, 5, 7, 2),
            PutNode(NODE, "alpha", "host", True, False, WALL),
            set_job(1, JobState.PAUSED, total=50, open=True, generation=3, reason="why", retried=9),
        ]
    )
    first.close()
    snapshot = store_factory().load()
    assert snapshot.last_job_no == 7
    stored, other = snapshot.jobs
    assert (stored.done, stored.quarantined) == ((0, 3), (5, 6))
    assert stored.inputs == (
        StoredInput(0, 4, len(pack_block(entries(0, 4))), b"digest", None),
        StoredInput(4, 1, len(pack_block([b""])), b"", WALL, 30.5),
    )
    assert stored.attempts == (StoredAttempt(8, 2, WALL, True, 12.5),)
    assert stored.losses == (StoredLosses(5, 10, 1), StoredLosses(5, 7, 2))
    assert (stored.state, stored.total, stored.open) == (JobState.PAUSED, 50, True)
    assert (stored.generation, stored.reason, stored.retried, stored.finished_wall) == (3, "why", 9, None)
    fields = ("no", "id", "task", "name", "options", "stream", "key", "after", "numbers", "total", "open", "state")
    assert [getattr(other, name) for name in fields] == [getattr(job, name) for name in fields]
    assert snapshot.chunks == (
        StoredChunk(Fence(1, 1), 1, (0, 2, 5, 10), NODE, True),
        StoredChunk(Fence(1, 2), 1, (10, JOB_ITEMS_MAX), NODE, False),
    )
    assert snapshot.nodes == (StoredNode(NODE, "alpha", "host", True, False, WALL),)


def test_terminal_jobs_are_found_but_not_loaded(store: SqlStore) -> None:
    store.commit([put_job(1, key="nightly"), put_job(2), set_job(1, JobState.FAILED, done=99, failed=1)])
    assert [job.no for job in store.load().jobs] == [2]
    assert store.load().last_job_no == 2
    found = store.find_job(job_id(1))
    assert found is not None
    assert found.state is JobState.FAILED
    assert store.find_job_by_key("nightly") == job_id(1)
    assert store.find_job_by_key("night") is None
    assert store.find_job(JobId("none")) is None


def test_outcomes_of_many_small_commits_come_back_as_few_boundaries(store: SqlStore) -> None:
    store.commit([put_job()])
    for at in (3, 0, 2, 1, 7, 6):
        store.commit([put_values(at, at + 1)])
    store.commit([put_failure(4), put_failure(5)])
    job = store.load().jobs[0]
    assert (job.done, job.quarantined) == ((0, 4, 6, 8), (4, 6))


def test_a_job_with_more_rows_than_one_scan_reads_is_loaded_whole(store: SqlStore) -> None:
    count = 12_345
    values: list[Record] = [put_values(2 * at, 2 * at + 1) for at in range(count)]
    store.commit([put_job(), *values])
    done = store.load().jobs[0].done
    assert done == tuple(bound for at in range(count) for bound in (2 * at, 2 * at + 1))


# ── The order of records within a batch ──────────────────────────────────────────────────────────────────────────


def test_a_chunk_may_be_put_leased_shortened_and_dropped_in_one_batch(store: SqlStore) -> None:
    life: list[Record] = [put_job()]
    for counter in (1, 2, 3):
        fence = Fence(1, counter)
        life += [chunk(counter), LeaseChunk(fence), ShortenChunk(fence, (0, 5)), ShortenChunk(fence, (0, 3))]
    store.commit([*life, DropChunk(Fence(1, 2)), chunk(4)])
    assert [(one.fence.counter, one.bounds, one.leased) for one in store.load().chunks] == [
        (1, (0, 3), True),
        (3, (0, 3), True),
        (4, (0, 10), False),
    ]


def test_the_last_change_of_a_job_a_node_or_an_attempt_wins(store: SqlStore) -> None:
    store.commit(
        [
            put_job(),
            set_job(reason="first", total=1),
            PutNode(NODE, "old", "h", False, False, 1.0),
            PutAttempt(1, 5, 1, 1.0, False),
            set_job(reason="last", total=2),
            PutNode(NODE, "new", "h", False, True, 2.0),
            PutAttempt(1, 5, 2, 2.0, True),
        ]
    )
    store.commit([PutAttempt(1, 6, 1, 0.0, False), PutNode(NodeId("a"), "other", "h", False, False, 0.0)])
    store.commit([PutAttempt(1, 6, 7, 0.0, False)])
    snapshot = store.load()
    assert (snapshot.jobs[0].reason, snapshot.jobs[0].total) == ("last", 2)
    assert [node.name for node in snapshot.nodes] == ["other", "new"]
    assert snapshot.jobs[0].attempts == (StoredAttempt(5, 2, 2.0, True), StoredAttempt(6, 7, 0.0, False))


def test_a_forgotten_node_is_gone_unless_it_comes_back(store: SqlStore) -> None:
    node, other = PutNode(NODE, "alpha", "h", False, True, 1.0), PutNode(NodeId("a"), "other", "h", False, False, 1.0)
    store.commit([node, other])
    store.commit([DropNode(NODE)])
    assert [each.name for each in store.load().nodes] == ["other"]
    store.commit([node, DropNode(NODE)])
    assert [each.name for each in store.load().nodes] == ["other"]
    store.commit([DropNode(NODE), node])
    assert [each.name for each in store.load().nodes] == ["other", "alpha"]


@pytest.mark.parametrize("together", [True, False])
def test_reopened_items_lose_outcome_and_attempts_but_keep_their_history(
    store: SqlStore, harness: StoreHarness, together: bool
) -> None:
    before: list[Record] = [put_job(), put_values(0, 2), *(put_failure(at) for at in (2, 3, 4, 5))]
    before += [PutAttempt(1, at, 1, 0.0, False) for at in (1, 2, 3, 4, 5)]
    reopen = ReopenItems(1, (Range(2, 3), Range(4, 6)))
    batches: list[list[Record]] = [[*before, reopen]] if together else [before, [reopen]]
    for batch in batches:
        store.commit(batch)
    job = store.load().jobs[0]
    assert (job.done, job.quarantined) == ((0, 2), (3, 4))
    assert [one.item for one in job.attempts] == [1, 3]
    assert store.read_failures(job.id, 0, 10).failures == (failure_info(3),)
    assert seen(store.read_results(job.id, 0, 1 << 40, 1000)) == {0: b"0", 1: b"1"}
    if isinstance(harness, SqliteHarness):
        connection = sqlite3.connect(harness.path)
        assert connection.execute("SELECT count(*), sum(final) FROM failure").fetchall() == [(4, 1)]
        connection.close()


def test_what_follows_a_reopening_in_the_same_batch_stays(store: SqlStore) -> None:
    store.commit(
        [
            put_job(),
            put_failure(1, message="old"),
            PutAttempt(1, 1, 1, 0.0, False),
            ReopenItems(1, (Range(1, 2),)),
            PutAttempt(1, 1, 5, 0.0, False),
            put_failure(1, attempt=6, message="new"),
            ReopenItems(1, (Range(0, 1),)),
        ]
    )
    job = store.load().jobs[0]
    assert job.quarantined == (1, 2)
    assert job.attempts == (StoredAttempt(1, 5, 0.0, False),)
    assert store.read_failures(job.id, 0, 10).failures == (failure_info(1, attempts=6, message="new"),)
    store.commit([DropAttempts(1), PutAttempt(1, 3, 1, 0.0, False)])
    assert [one.item for one in store.load().jobs[0].attempts] == [3]
    store.commit([PutAttempt(1, 4, 1, 0.0, False), DropAttempts(1)])
    assert store.load().jobs[0].attempts == ()


def test_a_reopened_range_loses_its_losses_and_its_neighbours_keep_theirs(store: SqlStore) -> None:
    store.commit([put_job(1), put_job(2), PutLosses(2, 0, 100, 2)])
    store.commit([PutLosses(1, 0, 30, 1), PutLosses(1, 10, 12, 2), PutLosses(1, 12, 20, 2), PutLosses(1, 40, 50, 1)])
    store.commit([ReopenItems(1, (Range(11, 13), Range(25, 45), Range(60, 70))), PutLosses(1, 11, 12, 1)])
    losses: dict[int, int] = {}
    for one in store.load().jobs[0].losses:
        losses |= {item: max(losses.get(item, 0), one.losses) for item in range(one.start, one.stop)}
    expected = dict.fromkeys([*range(11), *range(13, 25), *range(45, 50)], 1)
    expected |= dict.fromkeys([10, *range(13, 20)], 2) | {11: 1}
    assert losses == expected
    store.commit([PutLosses(1, 0, 5, 3), DropAttempts(1), PutLosses(1, 6, 7, 1)])
    assert [job.losses for job in store.load().jobs] == [(StoredLosses(6, 7, 1),), (StoredLosses(0, 100, 2),)]


def test_more_losses_than_one_scan_reads_are_loaded_whole(store: SqlStore) -> None:
    store.commit([put_job(), *(PutLosses(1, 5, 6, at) for at in range(6_000))])
    assert [one.losses for one in store.load().jobs[0].losses] == list(range(6_000))


def attempts_of(store: SqlStore, item: int, no: int = 1) -> list[int]:
    page = store.read_history(job_id(no), item)
    assert {one.item for one in page.failures} <= {item}
    assert (page.values, page.more) == ((), False)
    return [one.attempts for one in page.failures]


@pytest.mark.parametrize("together", [True, False])
def test_of_an_items_history_the_first_and_the_last_attempts_are_kept(
    store: SqlStore, harness: StoreHarness, together: bool
) -> None:
    tries: list[Record] = []
    for attempt in range(1, 21):
        tries += [put_failure(item, attempt=attempt, final=attempt == 20) for item in (5, 6)]
    store.commit([put_job(1), put_job(2), put_failure(5, no=2), put_failure(4), put_failure(7, final=False)])
    for batch in [tries] if together else [[one] for one in tries]:
        store.commit(batch)
    assert attempts_of(store, 5) == attempts_of(store, 6) == [1, 2, 3, 18, 19, 20]
    assert store.read_failures(job_id(1), 5, 1).failures == (failure_info(5, attempts=20),)
    store.commit([ReopenItems(1, (Range(5, 6),)), *(put_failure(5, attempt=at, final=at == 2) for at in (1, 2))])
    assert attempts_of(store, 5) == [1, 2, 3, 20, 1, 2]
    assert store.read_failures(job_id(1), 5, 1).failures == (failure_info(5, attempts=2),)
    assert (attempts_of(store, 4), attempts_of(store, 7), attempts_of(store, 5, no=2)) == ([1], [1], [1])
    assert (attempts_of(store, 8), attempts_of(store, 5, no=9)) == ([], [])
    if isinstance(harness, SqliteHarness):
        connection = sqlite3.connect(harness.path)
        assert connection.execute("SELECT count(*) FROM failure").fetchone() == (15,)
        connection.close()


def test_a_failure_says_what_the_worker_left_behind_and_no_text_is_longer_than_allowed(store: SqlStore) -> None:
    long = "a" + "x" * 4 * TEXT_CHARS_MAX + "z"
    crash = PutFailure(
        1, 0, 1, FailureKind.CRASH, "C", long, long, "n", WALL, True, log=long, memory_bytes_peak=1 << 40
    )
    store.commit([put_job(), crash])
    (found,) = store.read_failures(job_id(1), 0, 1).failures
    assert found.memory_bytes_peak == 1 << 40
    for text in (found.message, found.traceback, found.log):
        assert (text[0], text[-1]) == ("a", "z")
        assert "characters left out" in text
        assert len(text) <= TEXT_CHARS_MAX
    assert store.read_history(job_id(1), 0).failures == (found,)
    assert store.read_results(job_id(1), 0, 1, 1000).failures == (found,)


def test_a_page_counts_the_last_log_lines_too(store: SqlStore) -> None:
    log = "x" * TEXT_CHARS_MAX
    store.commit([put_job()])
    store.commit([PutFailure(1, at, 1, FailureKind.CRASH, "C", "", "", "n", WALL, True, log, 0) for at in range(300)])
    page = store.read_failures(job_id(1), 0, 1000)
    assert page.more
    assert sum(len(failure.log) for failure in page.failures) <= PAGE_BYTES_MAX
    assert len(store.read_news(job_id(1), -1, 10 * (TEXT_CHARS_MAX + 1)).failures) == 10


def test_reopening_touches_no_other_job(store: SqlStore) -> None:
    store.commit([put_job(1), put_job(2), put_failure(0, no=1), put_failure(0, no=2), PutAttempt(2, 0, 1, 0.0, False)])
    store.commit([ReopenItems(1, (Range(0, 100),)), DropAttempts(1)])
    assert [job.quarantined for job in store.load().jobs] == [(), (0, 1)]
    assert len(store.load().jobs[1].attempts) == 1


# ── Reading outcomes and inputs ──────────────────────────────────────────────────────────────────────────────────


def test_results_stop_at_the_first_gap(store: SqlStore) -> None:
    store.commit([put_job(), put_values(3, 5), put_values(0, 2), put_failure(2), put_values(6, 8)])
    page = store.read_results(job_id(1), 0, 1 << 40, PAGE_BYTES_MAX)
    assert seen(page) == {0: b"0", 1: b"1", 2: "no", 3: b"3", 4: b"4"}
    assert (page.next, page.more) == (5, False)
    assert store.read_results(job_id(1), 5, 1 << 40, PAGE_BYTES_MAX) == Page((), (), 5, more=False)
    assert seen(store.read_results(job_id(1), 6, 1 << 40, PAGE_BYTES_MAX)) == {6: b"6", 7: b"7"}
    assert store.read_results(JobId("none"), 0, 1 << 40, 10) == Page((), (), 0, more=False)


def test_only_the_slices_of_a_block_that_count_are_read(store: SqlStore) -> None:
    store.commit([put_job(), put_values(10, 20, (10, 12), (15, 17)), put_values(12, 15), put_values(16, 20, (17, 18))])
    assert store.load().jobs[0].done == (10, 18)
    page = store.read_results(job_id(1), 10, 1 << 40, PAGE_BYTES_MAX)
    assert seen(page) == {at: str(at).encode() for at in range(10, 18)}
    within = store.read_results(job_id(1), 16, 1 << 40, PAGE_BYTES_MAX)
    assert (seen(within), within.next) == ({16: b"16", 17: b"17"}, 18)


def test_a_page_of_results_ends_at_its_limit_and_says_so(store: SqlStore) -> None:
    store.commit([put_job(), *(put_values(at, at + 10) for at in range(0, 100, 10))])
    size = len(pack_block(entries(10, 20)))
    page = store.read_results(job_id(1), 0, 1 << 40, 2 * size)
    assert (page.next, page.more) == (20, True)
    at_least_one = store.read_results(job_id(1), 20, 1 << 40, 1)
    assert (at_least_one.next, at_least_one.more) == (30, True)
    last = store.read_results(job_id(1), 90, 1 << 40, 1)
    assert (last.next, last.more) == (100, False)


def test_a_page_has_no_more_entries_than_a_message_may_carry(store: SqlStore) -> None:
    count = RUNS_MAX + 10
    values: list[Record] = [put_values(at, at + 1) for at in range(count)]
    store.commit([put_job(), *values])

    def read_all(job: JobId, start: int, bytes_max: int) -> Page:
        return store.read_results(job, start, count, bytes_max)

    for read, first in ((read_all, 0), (store.read_news, -1)):
        page = read(job_id(1), first, PAGE_BYTES_MAX)
        assert (len(page.values), page.more) == (RUNS_MAX, True)
        rest = read(job_id(1), page.next, PAGE_BYTES_MAX)
        assert (len(rest.values), rest.more) == (10, False)
        assert seen(page) | seen(rest) == {at: str(at).encode() for at in range(count)}


def test_news_come_in_the_order_of_commits(store: SqlStore) -> None:
    store.commit([put_job(1), put_job(2), put_values(5, 7)])
    store.commit([put_failure(9), put_values(0, 1, no=2), put_values(0, 4, (0, 1), (3, 4))])
    page = store.read_news(job_id(1), -1, PAGE_BYTES_MAX)
    assert [(run.start, run.stop) for run in page.values] == [(5, 7), (0, 1), (3, 4)]
    assert page.failures == (failure_info(9),)
    assert not page.more
    assert store.read_news(job_id(1), page.next, PAGE_BYTES_MAX) == Page((), (), page.next, more=False)
    short = store.read_news(job_id(1), -1, 1)
    assert (seen(short), short.more) == ({5: b"5", 6: b"6"}, True)
    rest = store.read_news(job_id(1), short.next, PAGE_BYTES_MAX)
    assert seen(rest) == {9: "no", 0: b"0", 3: b"3"}
    assert store.read_news(JobId("none"), 4, 10) == Page((), (), 4, more=False)


def test_a_sequence_is_never_given_twice_even_after_reopening_and_a_restart(
    store_factory: Callable[[], SqlStore],
) -> None:
    store = store_factory()
    store.commit([put_job(), put_failure(0)])
    told = store.read_news(job_id(1), -1, 1000).next
    store.commit([ReopenItems(1, (Range(0, 1),))])
    store.close()
    store = store_factory()
    store.commit([put_values(0, 1)])
    assert seen(store.read_news(job_id(1), told, 1000)) == {0: b"0"}


def test_failures_are_paged_in_item_order(store: SqlStore) -> None:
    store.commit([put_job(1), put_job(2), put_failure(3, no=2), put_failure(7, final=False)])
    items = [3 * at for at in range(200)]
    store.commit([put_failure(at) for at in reversed(items)])
    read: list[int] = []
    at, more = 0, True
    while more:
        page = store.read_failures(job_id(1), at, 70)
        assert len(page.failures) == min(70, len(items) - len(read))
        read += [failure.item for failure in page.failures]
        at, more = page.next, page.more
    assert read == items
    assert store.read_failures(JobId("none"), 5, 10) == Page((), (), 5, more=False)


def test_a_page_of_long_failures_fits_into_a_message(store: SqlStore) -> None:
    long = "ü" * TEXT_CHARS_MAX
    store.commit([put_job(), *(put_failure(at, message=long) for at in range(300))])
    page = store.read_failures(job_id(1), 0, 1000)
    assert page.more
    assert sum(len(failure.message) for failure in page.failures) <= PAGE_BYTES_MAX
    assert store.read_failures(job_id(1), page.next, 1).failures == (failure_info(page.next, message=long),)


def test_inputs_tile_exactly_what_was_asked_for(store: SqlStore) -> None:
    inputs: list[Record] = [PutInput(1, at, 10, pack_block(entries(at, at + 10)), b"", None) for at in (0, 10, 20, 40)]
    store.commit([put_job(1), put_job(2), *inputs, PutInput(2, 0, 1, pack_block([b"other"]), b"", None)])
    found = store.read_inputs(job_id(1), 5, 25)
    assert [(part.start, part.stop) for part in found] == [(5, 10), (10, 20), (20, 25)]
    assert [entry for part in found for entry in block_entries(part.block)] == entries(5, 25)
    assert [(part.start, part.stop) for part in store.read_inputs(job_id(1), 12, 13)] == [(12, 13)]
    for start, stop in ((25, 31), (30, 31), (35, 45), (45, 51)):
        with pytest.raises(StoreDamaged, match=r"items \d+ to \d+"):
            store.read_inputs(job_id(1), start, stop)
    with pytest.raises(StoreDamaged):
        store.read_inputs(JobId("none"), 0, 1)


# ── Jobs as users see them ───────────────────────────────────────────────────────────────────────────────────────


def test_the_counts_of_a_live_job_follow_every_commit(store_factory: Callable[[], SqlStore]) -> None:
    def counts(of: SqlStore) -> tuple[int, int, int, int]:
        info = of.find_info(job_id(1))
        assert info is not None
        assert info.done + info.failed + info.cancelled + info.running + info.pending == info.total
        return info.done, info.failed, info.cancelled, info.pending

    store = store_factory()
    store.commit([put_job(total=100), put_values(0, 10, (0, 4), (6, 10))])
    assert counts(store) == (8, 0, 0, 92)
    store.commit([put_failure(20), put_failure(21), put_failure(22, final=False)])
    assert counts(store) == (8, 2, 0, 90)
    store.commit([ReopenItems(1, (Range(20, 21),))])
    assert counts(store) == (8, 1, 0, 91)
    store.commit([put_values(20, 21), set_job(1, JobState.CANCELLING, cancelled=50)])
    assert counts(store) == (9, 1, 50, 40)
    store.close()
    store = store_factory()
    assert counts(store) == (9, 1, 50, 40)
    store.load()
    store.commit([put_values(30, 31)])
    assert counts(store) == (10, 1, 50, 39)
    store.commit([set_job(1, JobState.CANCELLED, done=10, failed=1, cancelled=89, finished_wall=WALL)])
    assert counts(store) == (10, 1, 89, 0)


def test_a_commit_that_failed_counts_for_nothing(harness: StoreHarness, store: SqlStore) -> None:
    store.commit([put_job()])
    with harness.full_disk(), pytest.raises(StoreFailed):
        store.commit([PutValues(1, 0, 1, pack_block([bytes(1 << 20)]), (Range(0, 1),))])
    info = store.find_info(job_id(1))
    assert info is not None
    assert info.done == 0


def test_jobs_are_listed_newest_first_page_by_page_without_streams(store: SqlStore) -> None:
    store.commit([put_job(no, stream=no % 3 == 0) for no in range(1, 11)])
    store.commit([set_job(4, JobState.CANCELLING), set_job(5, JobState.DONE), set_job(7, JobState.PAUSED)])
    store.commit([set_job(2, JobState.STOPPING)])

    def listed(limit: int = 100, before: str = "", streams: bool = False, state: str = "") -> list[int]:
        return [int(info.id[3:]) for info in store.list_jobs(limit=limit, before=before, streams=streams, state=state)]

    assert listed() == [10, 8, 7, 5, 4, 2, 1]
    assert listed(limit=3) == [10, 8, 7]
    assert listed(limit=3, before=job_id(7)) == [5, 4, 2]
    assert listed(before="none") == []
    assert listed(streams=True) == list(range(10, 0, -1))
    assert listed(state="running") == [10, 8, 4, 2, 1]
    assert listed(state="running", streams=True, before=job_id(8)) == [6, 4, 3, 2, 1]
    assert listed(state="done") == [5]
    assert listed(state="no such state") == []
    assert listed(state="paused") == [7]
    for ending in (store.find_info(job_id(4)), store.find_info(job_id(2))):
        assert ending is not None
        assert ending.state is JobState.RUNNING
    assert [job.state for job in store.load().jobs if job.no in (2, 4)] == [JobState.STOPPING, JobState.CANCELLING]


def test_an_info_says_what_was_asked_for(store: SqlStore) -> None:
    options = JobOptions(queue="heavy", priority=9)
    job = PutJob(1, job_id(1), "t:u", "n", options, True, None, (job_id(5),), None, 3, False, JobState.PENDING, WALL)
    store.commit([job, set_job(1, JobState.FAILED, total=3, done=1, failed=1, cancelled=1, retried=4, generation=2,
                               reason="r", finished_wall=WALL + 1)])  # fmt: skip
    info = store.find_info(job_id(1))
    assert info is not None
    assert (info.queue, info.priority, info.stream, info.after) == ("heavy", 9, True, (job_id(5),))
    assert (info.done, info.failed, info.cancelled, info.running, info.pending) == (1, 1, 1, 0, 0)
    assert (info.reason, info.created_s, info.finished_s, info.retried) == ("r", WALL, WALL + 1, 4)
    assert (info.task, info.name, info.generation, info.open) == ("t:u", "n", 2, False)
    assert store.find_info(JobId("none")) is None


def test_job_ids_are_found_by_prefix_taken_literally(store: SqlStore) -> None:
    store.commit([put_job(no) for no in (1, 2, 11, 12)])
    assert store.find_job_ids("JOB", 10) == [job_id(no) for no in (1, 2, 11, 12)]
    assert store.find_job_ids("JOB", 2) == [job_id(1), job_id(2)]
    assert store.find_job_ids(job_id(11), 10) == [job_id(11)]
    assert store.find_job_ids("JOB000000000001", 10) == [job_id(11), job_id(12)]
    assert store.find_job_ids("JO_", 10) == []
    assert store.find_job_ids("%", 10) == []


# ── When things go wrong ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_is_all_or_nothing(store: SqlStore) -> None:
    store.commit([put_job(1)])
    with pytest.raises(StoreFailed):
        store.commit([put_job(2), chunk(1), put_values(0, 5), put_job(1)])
    snapshot = store.load()
    assert ([job.no for job in snapshot.jobs], snapshot.chunks) == ([1], ())
    assert snapshot.jobs[0].done == ()
    store.commit([put_job(2), chunk(1), put_values(0, 5)])
    assert store.check() == ""
    assert store.load().jobs[0].done == (0, 5)


def test_a_full_disk_fails_the_commit_and_the_store_goes_on_once_there_is_room(
    harness: StoreHarness, store_factory: Callable[[], SqlStore]
) -> None:
    store = store_factory()
    store.commit([put_job()])
    big = PutValues(1, 0, 1, pack_block([bytes(1 << 20)]), (Range(0, 1),))
    with harness.full_disk():
        for _ in range(3):
            with pytest.raises(StoreFailed, match=r"store .* failed while"):
                store.commit([chunk(1), big])
        assert store.find_info(job_id(1)) is not None  # reading goes on
        assert "failed while" in store.check()
    assert store.check() == ""  # well again before anybody commits
    assert store.load().chunks == ()
    store.commit([chunk(1), big])
    assert store.check() == ""
    store.close()
    snapshot = store_factory().load()
    assert (len(snapshot.chunks), snapshot.jobs[0].done) == (1, (0, 1))


def test_a_number_that_the_database_cannot_hold_fails_the_commit_only(store: SqlStore) -> None:
    with pytest.raises(StoreFailed):
        store.commit([put_job(1, total=1 << 70)])
    store.commit([put_job(1, total=JOB_ITEMS_MAX)])


def test_nothing_is_written_under_an_epoch_that_is_over(harness: StoreHarness, store: SqlStore) -> None:
    store.commit([put_job(1)])
    harness.bump_epoch()
    with pytest.raises(EpochLost, match=r"epoch 2.*epoch 1"):
        store.commit([put_job(2)])
    with pytest.raises(EpochLost):
        store.load()
    with pytest.raises(EpochLost):
        store.check_reign()
    assert store.find_job(job_id(2)) is None
    assert "taken over" in store.check()


def test_all_that_a_commit_returned_for_outlives_sigkill(
    harness: StoreHarness, store_factory: Callable[[], SqlStore]
) -> None:
    code = """
import os, pathlib, time
from windrow.common.blocks import pack_block
from windrow.common.options import JobOptions
from windrow.common.words import *
from windrow.scheduler.core.records import *
from windrow.scheduler.store import open_store
store = open_store("", state_dir=pathlib.Path(os.environ["STATE_DIR"]), clock=time.time)
store.commit([PutJob(1, JobId("JOB0000000000001"), "t:u", "", JobOptions(), False, None, (), None, 0, True,
                     JobState.RUNNING, 0.0)])
for at in range(0, 10**9, 2):
    store.commit([PutChunk(Fence(1, at), 1, at, at + 2, NodeId("n")),
                  PutValues(1, at, 2, pack_block([b"a", b"b"]), (Range(at, at + 2),))])
    print(at + 2, flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], env=harness.child_environment(), stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = 0
    for line in child.stdout:
        told = int(line)
        if told >= 100:
            child.send_signal(signal.SIGKILL)
            break
    told = max([told, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
    child.stdout.close()
    assert child.wait(timeout=30) == -signal.SIGKILL
    store = store_factory()
    snapshot = store.load()
    assert snapshot.epoch == 2
    done = snapshot.jobs[0].done
    assert done[0] == 0
    assert told <= done[1] <= told + 2
    assert len(snapshot.chunks) == done[1] // 2


def test_results_end_where_the_reader_wants_them_to_end(store: SqlStore) -> None:
    store.commit([put_job(total=10), put_values(0, 10)])
    page = store.read_results(job_id(1), 3, 5, PAGE_BYTES_MAX)
    assert seen(page) == {3: b"3", 4: b"4"}
    assert page.next == 5


def test_the_sequence_of_the_newest_outcome_is_known(store: SqlStore) -> None:
    store.commit([put_job(total=10)])
    assert store.last_sequence(job_id(1)) == -1
    store.commit([put_values(0, 10)])
    assert store.last_sequence(job_id(1)) == store.read_news(job_id(1), -1, PAGE_BYTES_MAX).next


# ── What is not kept any more ────────────────────────────────────────────────────────────────────────────────────


def put_ended(no: int, finished_wall: float, state: JobState = JobState.DONE, items: int = 10) -> list[Record]:
    """A whole job: items in an input block, outcomes in one of their own, and its last item failed."""
    return [
        put_job(no, key=f"key {no}", total=items),
        PutInput(no, 0, items, pack_block(entries(0, items)), b"digest", None),
        put_values(0, items - 1, no=no),
        put_failure(items - 1, no=no),
        set_job(no, state, total=items, done=items - 1, failed=1, finished_wall=finished_wall),
    ]


def test_ended_jobs_are_found_by_state_and_end_the_oldest_first(store: SqlStore) -> None:
    for no, finished, state in ((1, 30.0, JobState.DONE), (2, 10.0, JobState.DONE), (3, 20.0, JobState.FAILED)):
        store.commit(put_ended(no, finished, state))
    store.commit([put_job(4)])
    found = store.find_ended({JobState.DONE: 100.0, JobState.FAILED: 100.0}, 9)
    assert [(one.no, one.id, one.state, one.finished_wall) for one in found] == [
        (2, job_id(2), JobState.DONE, 10.0),
        (1, job_id(1), JobState.DONE, 30.0),
        (3, job_id(3), JobState.FAILED, 20.0),
    ]
    assert [one.no for one in store.find_ended({JobState.DONE: 100.0, JobState.FAILED: 100.0}, 1)] == [2, 3]
    assert [one.no for one in store.find_ended({JobState.DONE: 30.0}, 9)] == [2]
    assert store.find_ended({}, 9) == ()


def test_a_removed_job_is_found_by_nobody_and_others_are_as_they_were(store: SqlStore) -> None:
    store.commit(put_ended(1, 10.0) + put_ended(2, 10.0))
    assert store.last_sequence(job_id(1)) > 0
    store.commit([RemoveJob(1, job_id(1))])
    assert store.find_job(job_id(1)) is None
    assert store.find_info(job_id(1)) is None
    assert store.find_job_by_key("key 1") is None
    assert store.find_job_ids("JOB", 9) == [job_id(2)]
    assert store.find_ended({JobState.DONE: 100.0}, 9)[0].no == 2
    assert store.read_results(job_id(1), 0, 10, PAGE_BYTES_MAX) == Page((), (), 0, more=False)
    assert store.last_sequence(job_id(1)) == -1
    assert len(seen(store.read_results(job_id(2), 0, 10, PAGE_BYTES_MAX))) == 10
    assert store.load().last_job_no == 2


def test_what_a_removed_job_has_left_is_swept_in_bounded_steps_and_nothing_else(
    harness: StoreHarness, store: SqlStore
) -> None:
    big, items = 1, 60
    store.commit([put_job(big, total=items)])
    for item in range(items):
        last = [put_values(item, item + 1, no=big)] if item % 2 else [put_failure(item, no=big)]
        store.commit([PutInput(big, item, 1, pack_block([b"x"]), b"d", None), *last])
    store.commit([set_job(big, JobState.FAILED, total=items, finished_wall=5.0)])
    store.commit(put_ended(2, 10.0) + put_ended(3, 10.0))
    whole = harness.count_rows()
    assert not store.has_leftovers()
    store.commit([RemoveJob(big, job_id(big)), RemoveJob(2, job_id(2))])
    before = harness.count_rows()
    steps = 0
    while store.has_leftovers():
        store.commit([SweepRemoved(20)])
        now = harness.count_rows()
        # A row with its block counts once.
        assert before - 2 * 20 <= now < before
        before, steps = now, steps + 1
    assert steps >= 5
    store.commit([SweepRemoved(20)])
    assert before < whole
    assert len(seen(store.read_results(job_id(3), 0, 10, PAGE_BYTES_MAX))) == 10
    assert [each.stop for each in store.read_inputs(job_id(3), 0, 10)] == [10]
    store.commit([RemoveJob(3, job_id(3)), put_job(4)])
    while store.has_leftovers():
        store.commit([SweepRemoved(1)])
    assert harness.count_rows() == 1


def test_a_sweep_goes_on_after_a_restart(harness: StoreHarness, store_factory: Callable[[], SqlStore]) -> None:
    first = store_factory()
    first.commit([*put_ended(1, 10.0), put_job(2)])
    first.commit([RemoveJob(1, job_id(1)), SweepRemoved(1)])
    first.close()
    second = store_factory()
    assert second.has_leftovers()
    second.commit([SweepRemoved(100)])
    assert not second.has_leftovers()
    assert harness.count_rows() == 1


def test_a_key_may_be_given_again_in_the_commit_that_removes_its_job(store: SqlStore) -> None:
    store.commit(put_ended(1, 10.0))
    store.commit([put_job(2, key="key 1"), RemoveJob(1, job_id(1))])
    assert store.find_job_by_key("key 1") == job_id(2)


def test_the_room_of_removed_jobs_is_used_again(harness: StoreHarness, store: SqlStore) -> None:
    block = pack_block([bytes(100_000)] * 10)

    def run(no: int) -> None:
        store.commit([put_job(no), PutValues(no, 0, 10, block, (Range(0, 10),))])
        store.commit([set_job(no, JobState.DONE, finished_wall=1.0)])

    for no in range(1, 6):
        run(no)
    store.checkpoint()
    size = store.size_bytes()
    for no in range(6, 26):
        run(no)
        store.commit([RemoveJob(no - 5, job_id(no - 5))])
        while store.has_leftovers():
            store.commit([SweepRemoved(10)])
        store.checkpoint()
    assert store.size_bytes() < size + 3 * len(block)


def test_a_sweep_of_large_blocks_ends_sooner(harness: StoreHarness, store: SqlStore) -> None:
    block = pack_block([bytes(1 << 20)])
    store.commit([put_job(1), put_job(2)])
    for item in range(12):
        store.commit([PutValues(1, item, 1, block, (Range(item, item + 1),))])
    store.commit([set_job(1, JobState.DONE, finished_wall=1.0)])
    store.commit([RemoveJob(1, job_id(1))])
    before = harness.count_rows()
    store.commit([SweepRemoved(100)])
    # A row of an outcome and its block for each MiB up to 4.
    assert harness.count_rows() == before - 2 * 4
