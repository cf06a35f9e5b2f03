"""What failing, crashing, hanging and unwanted items cost, seen by client and command line, with real processes."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import cluster_tasks, fault_tasks
from tests.cluster import TASKS, Cluster, running_cluster
from tests.fault_tasks import POISON, runs_of
from tests.waiting import wait_until
from windrow import Client, Job, TaskFailed, WindrowWarning

pytestmark = pytest.mark.faults

PATIENCE_S = 30.0
ITEMS = 100_000
SETTINGS = {"WINDROW_NODE__CANCEL_GRACE_S": "1"}


@pytest.fixture(params=["local", "amqp"], scope="module")
def address(request: pytest.FixtureRequest) -> str:
    return "local:" if request.param == "local" else str(request.getfixturevalue("broker").url)


@pytest.fixture(scope="module")
def cluster(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of one slot for all tests here."""
    folder = tmp_path_factory.mktemp("faults")
    with running_cluster(folder, amqp_url=address, tasks=[TASKS, "tests.fault_tasks"], settings=SETTINGS) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


def values(job: Job) -> list[object]:
    """What its items came to; a job that does not end fails the test instead of holding it up."""
    job.wait(PATIENCE_S)
    return list(job.results())


# ── Retries ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_the_items_that_failed_run_again_each_after_a_longer_pause(client: Client, tmp_path: Path) -> None:
    items = [(str(tmp_path), x, 3 if x == 5 else 0) for x in range(40)]
    job = client.start(fault_tasks.fails_first, items, retries=3, backoff=0.3)
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.retried) == ("done", 40, 3)
    assert [runs_of(tmp_path, x) for x in range(40)] == [4 if x == 5 else 1 for x in range(40)]
    at = [float(line) for line in (tmp_path / "runs-5").read_text().splitlines()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    # Jitter takes at most half of 0.3, 0.6 and 1.2 s.
    assert all(gap >= least for gap, least in zip(gaps, (0.15, 0.3, 0.6), strict=True)), gaps


def test_the_type_of_the_exception_says_what_runs_again(client: Client, tmp_path: Path) -> None:
    items = [(str(tmp_path), 0, "flood"), (str(tmp_path), 1, "value"), (str(tmp_path), 2, "no")]
    job = client.start(fault_tasks.raises, items, retries=2, backoff=0.01, retry_on=LookupError)
    assert job.wait(PATIENCE_S).failed == 2
    assert [runs_of(tmp_path, x) for x in range(3)] == [3, 1, 1]
    second = tmp_path / "second"
    second.mkdir()
    items = [(str(second), x, how) for _, x, how in items]
    job = client.start(fault_tasks.raises, items, retries=2, backoff=0.01, never_retry_on=[fault_tasks.Flood])
    assert job.wait(PATIENCE_S).failed == 2
    assert [runs_of(second, x) for x in range(3)] == [1, 3, 1]


def test_a_task_may_say_when_it_wants_to_run_again(client: Client, tmp_path: Path) -> None:
    job = client.start(fault_tasks.comes_later, [(str(tmp_path), 0, 0.8)], retries=1, backoff=60.0)
    assert job.wait(PATIENCE_S).done == 1
    first, second = (float(line) for line in (tmp_path / "runs-0").read_text().splitlines())
    assert 0.8 <= second - first < 10.0


def test_an_exhausted_item_is_told_with_all_its_attempts_and_runs_again_when_it_is_retried(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    items = [(str(tmp_path), 0, 3), (str(tmp_path), 1, 0), (str(tmp_path), 2, 3)]
    job = client.start(fault_tasks.fails_first, items, retries=2, backoff=0.01)
    assert job.wait(PATIENCE_S).failed == 2
    [failure, _] = job.failures()
    assert (failure.item, failure.kind.value, failure.type, failure.attempts) == (0, "error", "ConnectionError", 3)
    assert failure.message == "item 0, attempt 3"
    assert "fault_tasks.py" in failure.traceback
    assert failure.node in {"node-0", "node-1"}
    assert [each.message for each in job.history(0)] == [f"item 0, attempt {number}" for number in (1, 2, 3)]

    shown = cluster.windrow("failures", "--each", "-v", job.id).stdout
    for number in (1, 2, 3):
        assert f"item 0, attempt {number}" in shown
    assert "fault_tasks.py" in shown
    told = [json.loads(line) for line in cluster.windrow("failures", "--json", "-v", job.id).stdout.splitlines()]
    assert [len(each["history"]) for each in told] == [3, 3]
    assert len(cluster.windrow("failures", job.id).stdout.splitlines()) == 2, "a heading, and one line for both"
    explained = json.loads(cluster.windrow("explain", "--json", f"{job.id}/0").stdout)
    assert "rests in quarantine" in explained["reasons"][0]

    assert json.loads(cluster.windrow("retry", "--json", "--items", "0:2", job.id).stdout)["retried"] == 1
    wait_until(lambda: job.status().failed == 1, PATIENCE_S, "item 0 to be done")
    assert json.loads(cluster.windrow("retry", "--json", "--type", "ValueError", job.id).stdout)["retried"] == 0
    assert json.loads(cluster.windrow("retry", "--json", "--type", "ConnectionError", job.id).stdout)["retried"] == 1
    assert job.wait(PATIENCE_S).done == 3
    assert [runs_of(tmp_path, x) for x in range(3)] == [4, 1, 4]


def test_a_job_that_fails_too_much_stops_and_a_retry_runs_the_rest(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    # Slow enough that it is stopped long before its end.
    items = [(str(tmp_path), x) for x in range(400)]
    job = client.start(cluster_tasks.mend, items, max_failures=3)
    status = job.wait(PATIENCE_S)
    assert (status.state, status.total) == ("failed", 400)
    assert status.failed > 3
    assert "max_failures is 3" in status.reason
    (tmp_path / "mended").touch()
    cluster.windrow("retry", job.id)
    wait_until(lambda: job.status().done == 400, PATIENCE_S, "all to be done")
    assert job.wait(PATIENCE_S).state == "done"


# ── Crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["exits", "segfaults"])
def test_one_poison_item_among_100_000_costs_that_item_only(client: Client, how: str) -> None:
    poisoned = fault_tasks.exits_at_poison if how == "exits" else fault_tasks.segfaults_at_poison
    job = client.start(poisoned, range(ITEMS))
    status = job.wait(PATIENCE_S)
    assert (status.done, status.failed) == (ITEMS - 1, 1)
    [failure] = job.failures()
    assert (failure.item, failure.kind.value, failure.type) == (POISON, "crash", "WorkerCrashed")
    assert ("code 7" if how == "exits" else "SIGSEGV") in failure.message
    assert ("about to leave" if how == "exits" else "segfaults_at_poison") in failure.log
    assert 1 << 20 < failure.memory_bytes_peak < 10 << 30
    outcomes = list(job.results(errors="return"))
    assert isinstance(outcomes[POISON], TaskFailed)
    assert [x for x, outcome in enumerate(outcomes) if x != POISON and outcome != x] == []


def test_an_item_that_writes_into_the_link_of_its_worker_fails_alone(client: Client) -> None:
    job = client.start(fault_tasks.babbles, [(x, 17) for x in range(300)])
    status = job.wait(PATIENCE_S)
    assert (status.done, status.failed) == (299, 1)
    [failure] = job.failures()
    assert (failure.item, failure.kind.value) == (17, "crash")
    assert "sent what is no message" in failure.message


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_item_over_its_time_fails_alone_and_what_was_done_before_it_stays(client: Client, tmp_path: Path) -> None:
    job = client.start(fault_tasks.hangs, [(str(tmp_path), x, 17) for x in range(60)], timeout=0.7)
    status = job.wait(PATIENCE_S)
    assert (status.done, status.failed) == (59, 1)
    [failure] = job.failures()
    assert (failure.item, failure.kind.value) == (17, "timeout")
    assert "0.7 s" in failure.message
    assert [runs_of(tmp_path, x) for x in range(60)] == [1] * 60
    with pytest.raises(TimeoutError):
        list(job.results())
    assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3


def test_a_soft_time_limit_lets_a_task_tidy_up(client: Client) -> None:
    assert values(client.start(fault_tasks.tidies, range(2), soft_timeout=0.3)) == ["in time", "tidied"]


# ── Cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cancelled_item_is_told_and_killed_after_the_grace_time(
    cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    job = client.start(fault_tasks.ends_when_told, [(str(tmp_path), x) for x in range(50)], retries=5)
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, PATIENCE_S, "both slots to be busy")
    began = time.monotonic()
    # Seen beside the command: on a busy machine that may end after the grace time.
    with ThreadPoolExecutor() as aside:
        command = aside.submit(cluster.windrow, "cancel", job.id, "--reason", "wrong numbers")
        wait_until(lambda: "cancelling" in job.explain().reasons[0], PATIENCE_S, "an item to go on for the grace time")
        status = job.wait(PATIENCE_S)
        command.result()
    assert 0.8 < time.monotonic() - began < 8.0
    assert (status.state, status.reason, status.running, status.pending) == ("cancelled", "wrong numbers", 0, 0)
    assert status.done + status.cancelled == 50
    assert len(list(tmp_path.glob("told-*"))) == 2
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3


# ── Pause ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["client", "command line"])
def test_a_paused_job_finishes_what_runs_and_goes_on_when_resumed(
    cluster: Cluster, client: Client, tmp_path: Path, way: str
) -> None:
    job = client.start(cluster_tasks.hold, [(str(tmp_path), x) for x in range(20)])
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, PATIENCE_S, "both slots to be busy")
    if way == "client":
        job.pause()
    else:
        assert "is paused" in cluster.windrow("pause", job.id).stdout
    assert "paused" in job.explain().reasons[0]
    (tmp_path / "open").touch()
    wait_until(lambda: job.status().running == 0, PATIENCE_S, "what runs to be finished")
    status = job.status()
    assert (status.state, status.failed, status.retried) == ("paused", 0, 0)
    assert status.done == len(list(tmp_path.glob("begun-*"))) < 20
    # Others work meanwhile.
    assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3
    assert job.status().done == status.done
    if way == "client":
        job.resume()
    else:
        cluster.windrow("resume", job.id)
    status = job.wait(PATIENCE_S)
    assert (status.state, status.done, status.retried) == ("done", 20, 0)
    assert len(list(tmp_path.glob("begun-*"))) == 20, "each ran once"


# ── Inside a task ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_knows_its_item_over_all_attempts(client: Client, tmp_path: Path) -> None:
    job = client.start(fault_tasks.tells, [(str(tmp_path), x) for x in range(3)], retries=1, backoff=0.01, timeout=20)
    job.wait(PATIENCE_S)
    for x, (of_job, index, item_id, attempt, left_s, cancelled) in enumerate(job.results()):
        assert (of_job, index, item_id, attempt, cancelled) == (job.id, x, f"{job.id}/{x}", 2, False)
        assert 15.0 < left_s <= 20.0
    assert sorted((tmp_path / "ids").read_text().split()) == sorted(2 * [f"{job.id}/{x}" for x in range(3)])


# ── Explain ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_explain_says_that_nobody_serves_the_queue(cluster: Cluster, client: Client) -> None:
    with pytest.warns(WindrowWarning, match="nowhere"):
        job = client.start(cluster_tasks.double, range(5), queue="nowhere")
    told = json.loads(cluster.windrow("explain", "--json", job.id).stdout)
    assert told["left_s"] is None
    assert "no live node serves the queue 'nowhere'" in told["reasons"][0]
    assert "time left: nobody can say" in cluster.windrow("explain", job.id).stdout
    job.cancel()


def test_explain_says_until_when_an_item_backs_off(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    job = client.start(fault_tasks.fails_first, [(str(tmp_path), 0, 9)], retries=1, backoff=500.0)
    wait_until(lambda: job.status().retried or "back off" in str(job.explain().reasons), PATIENCE_S, "a failure")
    told = json.loads(cluster.windrow("explain", "--json", f"{job.id}/0").stdout)
    assert "item 0 is delayed after 1 failed attempts: due in" in told["reasons"][0]
    shown = cluster.windrow("explain", job.id).stdout
    assert "the next is due in" in shown
    assert "time left: about" in shown
    job.cancel()


def test_explain_names_what_takes_all_slots(cluster: Cluster, client: Client, tmp_path: Path) -> None:
    first = client.start(cluster_tasks.hold, [(str(tmp_path), x) for x in range(30)], name="the-long-one")
    wait_until(lambda: len(list(tmp_path.glob("begun-*"))) == 2, PATIENCE_S, "both slots to be busy")
    second = client.start(cluster_tasks.hold, [(str(tmp_path), x) for x in range(100, 400)])
    reason = json.loads(cluster.windrow("explain", "--json", second.id).stdout)["reasons"][0]
    assert "all slots of node-0, node-1 are taken by" in reason
    assert "the-long-one" in reason
    (tmp_path / "open").touch()
    assert (first.wait(PATIENCE_S).done, second.wait(PATIENCE_S).done) == (30, 300)
