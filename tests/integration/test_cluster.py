"""A whole cluster as processes, over both ways of dispatch: what users do with it, and what may happen to it."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from tests import cluster_tasks as tasks
from tests.cluster import TASKS, Cluster, running_cluster
from tests.waiting import wait_until
from tests.yardstick import yardstick
from windrow import Client, Job, KeyConflict, TaskFailed, UnknownTask
from windrow.common.limits import RESULT_BYTES_MAX

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
BROKEN = "import there_is_no_such_module\n"
NEAREST = re.escape("did you mean tests.cluster_tasks:double")
CALL_S_MAX = 0.005
CALL_YARDS_MAX = 5.0
"""On a machine that is slower or busy: so many times what a call is made of takes there (3.5 where it was written)."""
CALL_ROUNDS = 3
ITEMS_S_MAX = 3.0


@pytest.fixture(params=["local", "amqp"], scope="module")
def address(request: pytest.FixtureRequest) -> str:
    """`local:`, or the URL of the RabbitMQ that the tests share."""
    return "local:" if request.param == "local" else str(request.getfixturevalue("broker").url)


@pytest.fixture(scope="module")
def cluster(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes that no test here harms; besides the tasks they have a module that cannot be imported."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "brokentasks.py").write_text(BROKEN)
    with running_cluster(folder, amqp_url=address, tasks=[TASKS, "brokentasks"]) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


@pytest.fixture
def fragile_cluster(address: str, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes with two slots each, for one test that kills some of it."""
    with running_cluster(tmp_path / "cluster", amqp_url=address, slots=2) as made:
        yield made


def begun(folder: Path) -> set[int]:
    """The items of `hold` that have begun."""
    return set(runs(folder))


def runs(folder: Path) -> list[int]:
    """One entry for each time that an item of `hold` has begun."""
    return [int(path.name.split("-")[1]) for path in folder.glob("begun-*")]


# ── Work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_calls_maps_and_jobs_come_back_with_their_values(client: Client) -> None:
    assert client.submit(tasks.add, 20, y=22).result(PATIENCE_S) == 42
    assert list(client.map(tasks.add, range(500), range(500))) == [2 * x for x in range(500)]
    job = client.start(tasks.double, range(0, 30_000, 3))
    status = job.wait(PATIENCE_S)
    assert (status.state, status.total, status.done, status.failed, status.pending) == ("done", 10_000, 10_000, 0, 0)
    assert list(job.results()) == [2 * x for x in range(0, 30_000, 3)]


def test_a_call_is_found_by_its_id_from_another_client(cluster: Cluster, client: Client) -> None:
    call_id = client.enqueue(tasks.add, 1, 2)
    with cluster.client() as other:
        assert other.future(call_id).result(PATIENCE_S) == 3


def test_items_that_fail_are_counted_and_told_and_the_others_are_done(client: Client) -> None:
    job = client.start(tasks.fragile, range(100))
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.failed) == ("failed", 90, 10)
    failures = list(job.failures())
    assert [failure.item for failure in failures] == list(range(3, 100, 10))
    assert failures[0].message == "no 3"
    assert "cluster_tasks.py" in failures[0].traceback
    assert failures[0].node in {"node-0", "node-1"}
    outcomes = list(job.results(errors="return"))
    assert isinstance(outcomes[13], TaskFailed)
    assert isinstance(outcomes[13], ValueError)
    assert outcomes[14] == 14


def test_an_item_is_tried_as_often_as_its_task_says(client: Client, tmp_path: Path) -> None:
    job = client.start(tasks.flaky, [(str(tmp_path), x) for x in range(20)])
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.retried) == ("done", 20, 40)
    assert len(list(tmp_path.iterdir())) == 60
    job = client.start(tasks.flaky, [(str(tmp_path), 99)], retries=1)
    assert job.wait(PATIENCE_S).failed == 1
    [failure] = job.failures()
    assert (failure.type.rpartition(".")[2], failure.attempts) == ("ConnectionError", 2)


def test_the_crash_of_a_worker_is_blamed_on_one_item_alone(client: Client) -> None:
    job = client.start(tasks.crash, [(x, 137) for x in range(300)])
    status = job.wait(PATIENCE_S)
    assert (status.done, status.failed) == (299, 1)
    [failure] = job.failures()
    assert (failure.item, failure.kind.value, failure.attempts) == (137, "crash", 1)
    assert "SIGKILL" in failure.message
    assert list(job.results(errors="skip")) == [x for x in range(300) if x != 137]


def test_a_cancelled_job_ends_with_its_counts_right(client: Client, tmp_path: Path) -> None:
    job = client.start(tasks.hold, [(str(tmp_path), x) for x in range(500)])
    wait_until(lambda: len(begun(tmp_path)) >= 2, PATIENCE_S, "two items to begin")
    job.cancel("not wanted any more")
    status = job.wait(PATIENCE_S)
    assert (status.state, status.reason) == ("cancelled", "not wanted any more")
    assert status.done + status.failed + status.cancelled == 500
    assert status.cancelled >= 498
    assert status.running == status.pending == 0
    with pytest.raises(CancelledError):
        list(job.results())
    # Its slots are free again.
    assert client.submit(tasks.add, 1, 1).result(PATIENCE_S) == 2


def test_failed_items_run_again_when_they_are_retried(client: Client, tmp_path: Path) -> None:
    job = client.start(tasks.mend, [(str(tmp_path), x) for x in range(30)])
    assert job.wait(PATIENCE_S).failed == 10
    (tmp_path / "mended").touch()
    assert job.retry_failed([0, 1, 3]) == 2
    wait_until(lambda: job.status().failed == 8, PATIENCE_S, "two items to be mended")
    assert job.retry_failed() == 8
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.failed) == ("done", 30, 0)
    assert list(job.results()) == list(range(30))
    assert list(job.failures()) == []


def test_a_drained_node_finishes_gives_back_and_works_again_after_resume(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    job = client.start(tasks.hold, [(str(tmp_path), x) for x in range(20)])
    wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
    client.drain("node-0")
    cluster.wait_node(0, lambda node: node.state == "draining", "node 0 to drain")
    (tmp_path / "open").touch()
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.retried) == ("done", 20, 0)
    cluster.wait_node(0, lambda node: node.chunks == 0, "node 0 to be empty")

    second = tmp_path / "second"
    second.mkdir()
    job = client.start(tasks.hold, [(str(second), x) for x in range(40)])
    wait_until(lambda: len(begun(second)) == 1, PATIENCE_S, "the other node to begin")
    assert cluster.node(0).chunks == 0
    client.resume("node-0")
    wait_until(lambda: len(begun(second)) == 2, PATIENCE_S, "node 0 to work again")
    (second / "open").touch()
    assert job.wait(PATIENCE_S).done == 40


def test_the_same_key_finds_the_same_job(client: Client) -> None:
    first = client.start(tasks.double, [1, 2, 3], key="nightly")
    assert client.start(tasks.double, [1, 2, 3], key="nightly").id == first.id
    first.wait(PATIENCE_S)
    assert client.start(tasks.double, [1, 2, 3], key="nightly").id == first.id
    with pytest.raises(KeyConflict):
        client.start(tasks.double, [1, 2, 4], key="nightly")
    assert list(first.results()) == [2, 4, 6]


def test_results_are_streamed_in_order_while_the_job_is_at_work(client: Client, tmp_path: Path) -> None:
    go_on = threading.Event()

    def items() -> Iterator[tuple[str, int]]:
        yield from ((str(tmp_path), x) for x in range(5))
        assert go_on.wait(PATIENCE_S)
        yield from ((str(tmp_path), x) for x in range(5, 10))

    (tmp_path / "open").touch()
    job = client.open(tasks.hold)
    feed = items()
    job.append(itertools.islice(feed, 5))
    results = job.job.results()
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    assert job.job.status().open
    go_on.set()
    job.append(feed)
    job.close()
    assert list(results) == [5, 6, 7, 8, 9]


def test_a_result_over_the_limit_fails_its_item_and_the_job_goes_on(client: Client) -> None:
    job = client.start(tasks.big, [10, RESULT_BYTES_MAX + 1, 20])
    status = job.wait(PATIENCE_S)
    assert (status.done, status.failed) == (2, 1)
    [failure] = job.failures()
    assert (failure.item, failure.kind.value) == (1, "result")
    assert str(RESULT_BYTES_MAX) in failure.message
    assert [len(value) for value in job.results(errors="skip")] == [10, 20]


def test_an_unknown_task_is_refused_with_the_nearest_name(client: Client) -> None:
    with pytest.raises(UnknownTask, match=NEAREST):
        client.start("tests.cluster_tasks:duoble", [1])
    with pytest.raises(UnknownTask, match=NEAREST):
        client.submit("tests.cluster_tasks:duoble", 1).result(PATIENCE_S)


def test_a_module_that_cannot_be_imported_is_shown_and_the_rest_is_served(cluster: Cluster) -> None:
    for index in range(2):
        [error] = cluster.node(index).errors
        assert error.source == "brokentasks"
        assert "there_is_no_such_module" in error.error
    shown = cluster.windrow("nodes").stderr
    assert "node-0 could not import brokentasks: ModuleNotFoundError" in shown
    checks = json.loads(cluster.windrow("doctor", "--json", code=1).stdout)["checks"]
    bad = [check["detail"] for check in checks if check["name"] == "tasks" and check["state"] == "bad"]
    assert len(bad) == 2
    assert all("there_is_no_such_module" in detail for detail in bad)


def test_a_node_that_cannot_do_a_job_is_left_out_of_it(client: Client, tmp_path: Path) -> None:
    job = client.start(tasks.picky, [(str(tmp_path), x) for x in range(200)])
    assert job.wait(PATIENCE_S).done == 200
    done_by = set(job.results())
    assert len(done_by) == 1
    assert int((tmp_path / "claimed").read_text()) not in done_by


def test_an_item_that_is_stuck_on_one_node_is_done_by_its_twin_on_another(client: Client, tmp_path: Path) -> None:
    job = client.start(tasks.stuck_once, [(str(tmp_path), 1)])
    try:
        assert job.wait(PATIENCE_S).done == 1
        assert list(job.results()) == [1]
    finally:
        (tmp_path / "gate").touch()


def test_a_job_that_no_node_can_do_fails_and_says_why(client: Client) -> None:
    job = client.start(tasks.nowhere, range(100))
    status = job.wait(PATIENCE_S)
    assert status.state == "failed"
    assert "no node has what it takes" in status.reason


# ── Speed ────────────────────────────────────────────────────────────────────────────────────────────────────────


def best_of(rounds: int, good_enough_s: float, measure: Callable[[], float]) -> float:
    """The best of some rounds, so that a machine which is busy for a moment fails nobody."""
    best = measure()
    for _ in range(rounds - 1):
        if best <= good_enough_s:
            break
        best = min(best, measure())
    return best


@pytest.mark.alone
def test_a_call_on_an_idle_cluster_comes_back_in_5_ms(client: Client, tmp_path: Path) -> None:
    client.submit(tasks.add, 0, 0).result(PATIENCE_S)

    def median_s() -> float:
        took: list[float] = []
        for x in range(200):
            began = time.perf_counter()
            assert client.submit(tasks.add, x, 1).result(PATIENCE_S) == x + 1
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    with yardstick(tmp_path) as yard_s:

        def share_of_bar() -> float:
            before_s, call_s, after_s = yard_s(), median_s(), yard_s()
            return call_s / max(CALL_S_MAX, CALL_YARDS_MAX * (before_s + after_s) / 2)

        assert best_of(CALL_ROUNDS, 1.0, share_of_bar) <= 1.0


@pytest.mark.alone
@pytest.mark.parametrize("way", ["start", "map"])
def test_100_000_trivial_items_take_at_most_3_s(client: Client, way: str) -> None:
    def started_s() -> float:
        began = time.perf_counter()
        job = client.start(tasks.nothing, range(100_000))
        assert job.wait(PATIENCE_S).done == 100_000
        return time.perf_counter() - began

    def mapped_s() -> float:
        began = time.perf_counter()
        assert sum(1 for _ in client.map(tasks.nothing, range(100_000))) == 100_000
        return time.perf_counter() - began

    assert best_of(2, ITEMS_S_MAX, started_s if way == "start" else mapped_s) <= ITEMS_S_MAX


# ── Deaths ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_work_of_a_killed_node_is_done_elsewhere_within_10_s(fragile_cluster: Cluster, tmp_path: Path) -> None:
    cluster = fragile_cluster
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(tmp_path), x) for x in range(12)])
        wait_until(lambda: len(begun(tmp_path)) == 4, PATIENCE_S, "all four slots to be busy")
        cluster.kill_node(0)
        killed_at = time.monotonic()
        (tmp_path / "open").touch()
        status = job.wait(PATIENCE_S)
        assert time.monotonic() - killed_at < 10.0
        assert (status.state, status.done, status.retried) == ("done", 12, 0)
        assert list(job.results()) == list(range(12))
        assert cluster.node(0).state == "lost"

        # It comes back as itself, with work for all.
        known = cluster.node(0).id
        cluster.start_node(0)
        assert cluster.node(0).id == known
        assert list(client.start(tasks.double, range(1000)).results()) == [2 * x for x in range(1000)]


def test_a_client_that_waits_survives_a_restart_of_the_scheduler(fragile_cluster: Cluster, tmp_path: Path) -> None:
    cluster = fragile_cluster
    with cluster.client() as client:
        future = client.submit(tasks.hold, str(tmp_path), 100)
        job = client.start(tasks.hold, [(str(tmp_path), x) for x in range(10)])
        wait_until(lambda: len(begun(tmp_path)) == 4, PATIENCE_S, "all four slots to be busy")
        waiting = Waiter(job)
        epoch = client.health().epoch
        cluster.kill_scheduler()
        # What ends meanwhile waits in the nodes.
        (tmp_path / "open").touch()
        cluster.start_scheduler()
        assert waiting.results() == list(range(10))
        assert future.result(PATIENCE_S) == 100
        assert (job.wait(PATIENCE_S).done, client.health().epoch) == (10, epoch + 1)
        # Nothing that was at work or done in a node was done again.
        assert sorted(runs(tmp_path)) == [*range(10), 100]


class Waiter:
    """A thread that waits for the results of a job from now on."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._found: list[object] = []
        self._thread = threading.Thread(target=self._wait, name="waiter", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        self._found.extend(self._job.results())

    def results(self) -> list[object]:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the results did not come"
        return self._found
