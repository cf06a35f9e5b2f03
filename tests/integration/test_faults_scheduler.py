"""A cluster at work whose scheduler is killed, frozen, deposed, without room on its disk or with a damaged store."""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests import cluster_tasks as tasks
from tests.cluster import Cluster, Daemon, run_windrow, running_cluster
from tests.waiting import wait_until
from windrow import Future
from windrow.common.errors import StoreFailed

pytestmark = pytest.mark.faults

PATIENCE_S = 30.0
RESUME_S_MAX = 10.0
KILLS = 4
LEASE_S = 2.0
SHORT_LEASE = {"WINDROW_SCHEDULER__LEASE_S": str(LEASE_S), "WINDROW_SCHEDULER__HEARTBEAT_S": "0.3"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of one slot."""
    with running_cluster(tmp_path / "cluster") as made:
        yield made


@pytest.fixture
def hasty_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of one slot, with leases of two seconds."""
    with running_cluster(tmp_path / "cluster", settings=SHORT_LEASE) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the items of `hold` leave their marks."""
    made = tmp_path / "marks"
    made.mkdir()
    return made


def runs(folder: Path) -> list[int]:
    """One entry for each time that an item of `hold` has begun."""
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("begun-*"))


def chunks_lost(cluster: Cluster) -> float:
    with urlopen(f"{cluster.http}/metrics", timeout=10) as answer:
        text = str(answer.read(), "utf-8")
    return sum(float(value) for value in re.findall(r'^windrow_chunks_total\{.*outcome="lost".*\} (\S+)$', text, re.M))


@contextlib.contextmanager
def frozen(*daemons: Daemon) -> Generator[None]:
    """SIGSTOP for the daemons; they go on in the same order."""
    processes = [psutil.Process(daemon.pid) for daemon in daemons]
    for process in processes:
        process.suspend()
    try:
        for process in processes:
            wait_until(lambda of=process: of.status() == psutil.STATUS_STOPPED, PATIENCE_S, "the freeze")
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # It was killed as it was.
                process.resume()


# ── Killed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_survives_kills_of_the_scheduler_at_any_moment_and_nothing_runs_twice(
    cluster: Cluster, folder: Path
) -> None:
    moments = random.Random(20)
    (folder / "open").touch()
    with cluster.client() as client:
        items = range(200)
        job = client.start(tasks.hold, [(str(folder), x) for x in items])
        calls: list[Future[int]] = []
        for kill in range(KILLS):
            more = moments.randint(1, len(items) // (KILLS + 1))
            goal = min(len(runs(folder)) + more, len(items))
            wait_until(lambda goal=goal: len(runs(folder)) >= goal, PATIENCE_S, f"item {goal} to begin", poll_s=0.001)
            cluster.kill_scheduler()
            calls.append(client.submit(tasks.double, kill))
            cluster.start_scheduler()
        status = job.wait(PATIENCE_S)
        assert (status.state, status.done, status.failed, status.retried) == ("done", len(items), 0, 0)
        assert list(job.results()) == list(items)
        assert [call.result(RESUME_S_MAX) for call in calls] == [2 * kill for kill in range(KILLS)]
        assert runs(folder) == list(items)


def test_a_restart_of_the_scheduler_costs_no_lease_however_short_it_is(tmp_path: Path, folder: Path) -> None:
    settings = {"WINDROW_SCHEDULER__LEASE_S": "1.2", "WINDROW_SCHEDULER__HEARTBEAT_S": "0.3"}
    with running_cluster(tmp_path / "cluster", settings=settings) as cluster, cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(6)])
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        wait_until(lambda: job.status().running >= 2, PATIENCE_S, "their leases")
        with frozen(cluster.scheduler):
            # Each node's report is on its way into the socket of a scheduler that will never answer it.
            until_s = time.monotonic() + 0.9
            wait_until(lambda: time.monotonic() > until_s, PATIENCE_S, "three heartbeats to pass")
            cluster.kill_scheduler()
        cluster.start_scheduler()
        for index in range(2):
            cluster.wait_node(index, lambda node: node.state == "alive" and node.load is not None, "a report")
        assert chunks_lost(cluster) == 0
        (folder / "open").touch()
        status = job.wait(RESUME_S_MAX)
        assert (status.state, status.done, status.retried) == ("done", 6, 0)
        assert runs(folder) == list(range(6))


# ── The store ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def full_disk(daemon: Daemon) -> Generator[None]:
    """No file of this process can grow or be written: the kernel refuses it as it does where no room is left."""
    process = psutil.Process(daemon.pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def test_without_room_on_the_disk_new_work_is_refused_and_all_goes_on_by_itself_when_there_is_room(
    cluster: Cluster, folder: Path
) -> None:
    with cluster.client(timeout=2.0) as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(6)], key="once")
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        with full_disk(cluster.scheduler):
            (folder / "open").touch()
            failures = "windrow_commit_failures_total"
            wait_until(lambda: cluster.metric(failures) > 0, PATIENCE_S, "a commit to fail", poll_s=0.05)
            with pytest.raises(StoreFailed, match=r"store.*nothing was accepted"):
                client.start(tasks.double, range(10), key="refused")
            assert cluster.metric("windrow_store_up") == 0
            # What the nodes have done meanwhile is not durable, so nobody is told; nor that the scheduler is away.
            with pytest.raises(StoreFailed, match="nothing is told of jobs"):
                job.status()
            assert client.health().store == "bad"
        status = job.wait(RESUME_S_MAX)
        assert (status.state, status.done, status.retried) == ("done", 6, 0)
        assert list(job.results()) == list(range(6))
        assert runs(folder) == list(range(6))
        assert chunks_lost(cluster) == 0
        assert list(client.start(tasks.double, range(10), key="refused").results()) == [2 * x for x in range(10)]
        assert cluster.metric("windrow_store_up") == 1


@pytest.mark.parametrize("damage", ["not a database", "cut off"])
def test_a_damaged_store_is_named_at_start_in_one_line_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    with running_cluster(tmp_path / "cluster", nodes=0) as cluster:
        cluster.kill_scheduler()
        state = tmp_path / "cluster" / "scheduler"
        store = state / "windrow.db"
        good = {path: path.read_bytes() for path in state.glob("windrow.db*")}
        bad = b"no database at all " * 500 if damage == "not a database" else None
        for path in good:
            path.unlink()
        store.write_bytes(bad if bad is not None else good[store][: len(good[store]) // 2 + 100])
        before = store.read_bytes()
        done = run_windrow(
            *["scheduler", "--port", "0", "--http-port", "0", "--state", str(state)],
            code=1, folder=cluster.folder, environment=cluster.environment,
        )  # fmt: skip
        [line] = done.stderr.splitlines()
        assert str(store) in line
        assert "damaged" in line
        assert store.read_bytes() == before
        for path, content in good.items():
            path.write_bytes(content)
        cluster.start_scheduler()


# ── Frozen and deposed ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("who", ["the scheduler", "everything"])
def test_a_scheduler_that_was_frozen_for_longer_than_the_lease_gives_nobody_up(
    hasty_cluster: Cluster, folder: Path, who: str
) -> None:
    cluster = hasty_cluster
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(6)])
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        cluster.wait_node(0, lambda node: node.chunks > 0, "the chunks to be there")
        epoch = client.health().epoch
        with contextlib.ExitStack() as nodes:
            if who == "everything":
                # As a laptop that was closed: the scheduler wakes first, and has not heard of the nodes yet.
                nodes.enter_context(frozen(*cluster.nodes))
            with frozen(cluster.scheduler):
                until_s = time.monotonic() + 2 * LEASE_S
                wait_until(lambda: time.monotonic() > until_s, 3 * LEASE_S, "twice the lease to pass")
            turns = cluster.metric("windrow_turns_total")
            # The first one after the waking would end leases; where nobody speaks four are taken in a second.
            wait_until(lambda: cluster.metric("windrow_turns_total") > turns + 1, LEASE_S / 2, "two turns")
        (folder / "open").touch()
        status = job.wait(RESUME_S_MAX)
        assert (status.state, status.done, status.retried) == ("done", 6, 0)
        assert runs(folder) == list(range(6))
        assert (chunks_lost(cluster), client.health().epoch) == (0, epoch)


def take_over(store: Path) -> None:
    """The first thing that another scheduler does, once the lock is gone (as with a file that two machines share)."""
    with contextlib.closing(sqlite3.connect(store, timeout=0.0)) as connection, connection:
        connection.execute("UPDATE cluster SET epoch = epoch + 1")


def is_writing(store: Path) -> bool:
    with contextlib.closing(sqlite3.connect(store, timeout=0.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
    return False


@contextlib.contextmanager
def frozen_between_commits(scheduler: Daemon, store: Path) -> Generator[None]:
    """One that is frozen within a commit keeps the database locked, and nobody takes over."""
    with contextlib.ExitStack() as stack:

        def freeze() -> bool:
            stack.enter_context(frozen(scheduler))
            if is_writing(store):
                stack.close()
                return False
            return True

        wait_until(freeze, PATIENCE_S, "a freeze between two commits")
        yield


def test_a_scheduler_that_wakes_after_another_has_taken_over_commits_nothing_and_ends(
    cluster: Cluster, folder: Path
) -> None:
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(6)])
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        store = cluster.folder / "scheduler" / "windrow.db"
        old = cluster.scheduler.process
        assert old is not None
        with frozen_between_commits(cluster.scheduler, store):
            take_over(store)
            (folder / "open").touch()
            call = client.submit(tasks.double, 21)
        assert old.wait(RESUME_S_MAX) == 1
        cluster.scheduler.process = None
        assert "another scheduler reigns" in cluster.scheduler.last_lines()
        with contextlib.closing(sqlite3.connect(store)) as connection:
            assert connection.execute("SELECT count(*) FROM outcome").fetchone() == (0,)
        cluster.start_scheduler()
        assert call.result(RESUME_S_MAX) == 42
        assert job.wait(RESUME_S_MAX).done == 6
        assert runs(folder) == list(range(6))
