"""What dying, freezing, leaving and cut-off nodes cost, with real processes: nothing is lost, nothing counts twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import cluster_tasks, fault_tasks
from tests.broker import Broker
from tests.cluster import TASKS, Cluster, running_cluster
from tests.fault_tasks import runs_of
from tests.link import open_link
from tests.memory_group import NoMemoryGroup, memory_group
from tests.waiting import wait_until
from windrow import Client, Job

pytestmark = pytest.mark.faults

PATIENCE_S = 30.0
LEASE_S = 2.0
MEMORY_GROUP_BYTES = 400 << 20
SETTINGS = {"WINDROW_SCHEDULER__LEASE_S": str(LEASE_S), "WINDROW_SCHEDULER__HEARTBEAT_S": "0.3"}


@pytest.fixture(params=["local", "amqp"])
def address(request: pytest.FixtureRequest) -> str:
    return "local:" if request.param == "local" else str(request.getfixturevalue("broker").url)


@pytest.fixture
def broker_address(broker: Broker) -> str:
    return broker.url


@contextmanager
def at_work(
    folder: Path,
    address: str = "local:",
    *,
    nodes: int,
    settings: Mapping[str, str] | None = None,
    node_flags: Iterable[str] = (),
) -> Generator[tuple[Cluster, Client]]:
    """A cluster with short leases, so that nobody waits long for a node that is gone, and a client of it."""
    tasks = [TASKS, "tests.fault_tasks"]
    together = {**SETTINGS, **(settings or {})}
    with (
        running_cluster(
            folder / "cluster", amqp_url=address, nodes=nodes, tasks=tasks, settings=together, node_flags=node_flags
        ) as cluster,
        cluster.client() as client,
    ):
        try:
            yield cluster, client
        except BaseException:
            client.abandon()  # The test has failed: nobody waits for calls that may never end.
            raise


def begun(folder: Path) -> list[int]:
    """One entry for each time that an item of `hold` has begun."""
    return [int(path.name.split("-")[1]) for path in folder.glob("begun-*")]


def hold(client: Client, folder: Path, items: range, **options: Any) -> Job:
    return client.start(cluster_tasks.hold, [(str(folder), x) for x in items], **options)


def values(job: Job) -> list[object]:
    """What its items came to; a job that does not end fails the test instead of holding it up."""
    job.wait(PATIENCE_S)
    return list(job.results())


# ── Deaths ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_item_that_kills_its_node_is_quarantined_and_everything_else_is_done(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=1) as (cluster, client):
        job = client.start(fault_tasks.kills_its_node, [(str(tmp_path), x, 37) for x in range(100)])
        node, deaths = cluster.nodes[0], 0
        until_s = time.monotonic() + 60.0
        while not job.status().finished:
            assert time.monotonic() < until_s, f"{deaths} deaths, and the job is not done: {job.explain()}"
            if node.process is not None and node.process.poll() is not None:
                deaths += 1
                cluster.reap_node(0)
                cluster.start_node(0, wait=False)
        status = job.status()
        assert (status.done, status.failed) == (99, 1)
        [failure] = job.failures()
        assert (failure.item, failure.kind.value) == (37, "node")
        assert "3 nodes were lost" in failure.message
        assert 3 <= deaths == runs_of(tmp_path, 37) <= 6


def test_with_on_lost_fail_nothing_runs_twice_when_a_node_is_killed(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=2) as (cluster, client):
        job = hold(client, tmp_path, range(40), on_lost="fail", retries=3)
        wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
        cluster.kill_node(0)
        (tmp_path / "open").touch()
        status = job.wait(PATIENCE_S)
        failures = list(job.failures())
        assert status.failed == len(failures) >= 1
        assert status.done + status.failed == 40
        assert {failure.kind.value for failure in failures} == {"lost"}
        assert 'on_lost="fail"' in failures[0].message
        ran = begun(tmp_path)
        assert len(ran) == len(set(ran)), "an item began twice"
        assert {*range(40)} - set(ran) <= {failure.item for failure in failures}


def test_what_was_finished_while_the_scheduler_was_away_outlives_the_daemon(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=1, settings={"WINDROW_SCHEDULER__LEASE_S": "6"}) as (cluster, client):
        job = hold(client, tmp_path, range(1))
        wait_until(lambda: begun(tmp_path), PATIENCE_S, "the item to begin")
        wait_until(lambda: job.status().running == 1, PATIENCE_S, "its lease")
        cluster.kill_scheduler()
        spool = cluster.folder / "node-0" / "spool"
        before = size_of(spool)
        (tmp_path / "open").touch()
        wait_until(lambda: size_of(spool) > before, PATIENCE_S, "the outcome to be in the spool")
        cluster.kill_node(0)
        cluster.start_scheduler()
        cluster.start_node(0)
        assert values(job) == [0]
        assert begun(tmp_path) == [0], "it did not run again"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.spool"))


# ── Frozen ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_frozen_for_longer_than_its_lease_commits_nothing_twice_and_serves_again(
    tmp_path: Path, address: str
) -> None:
    with at_work(tmp_path, address, nodes=2) as (cluster, client):
        job = hold(client, tmp_path, range(20))
        wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
        os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
        try:
            cluster.wait_node(0, lambda node: node.state == "lost", "the lease to end")
            (tmp_path / "open").touch()
            status = job.wait(PATIENCE_S)
        finally:
            os.kill(cluster.nodes[0].pid, signal.SIGCONT)
        assert (status.done, status.failed, status.retried) == (20, 0, 0)
        cluster.wait_node(0, lambda node: node.state == "alive" and node.chunks == 0, "the node to serve again")
        assert values(job) == list(range(20))
        status = job.status()
        assert (status.done, status.failed, status.retried) == (20, 0, 0)
        client.drain("node-1")
        assert values(client.start(cluster_tasks.double, range(100))) == list(range(0, 200, 2))


def test_a_cancel_holds_while_a_node_is_frozen_and_when_it_comes_back(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=1, settings={"WINDROW_NODE__CANCEL_GRACE_S": "0.5"}) as (cluster, client):
        job = hold(client, tmp_path, range(20))
        wait_until(lambda: begun(tmp_path), PATIENCE_S, "the slot to be busy")
        wait_until(lambda: job.status().running >= 1, PATIENCE_S, "its lease")
        os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
        try:
            job.cancel("not now")
            assert not job.status().finished, "its node may still be executing an item"
            status = job.wait(PATIENCE_S)
            assert cluster.node(0).state == "lost"
        finally:
            os.kill(cluster.nodes[0].pid, signal.SIGCONT)
        assert (status.state, status.reason, status.cancelled) == ("cancelled", "not now", 20)
        assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3, "its slot is free again"
        assert job.status() == status
        assert len(begun(tmp_path)) == 1


# ── Leaving ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("address", "way"), [("local", "drain"), ("amqp", "SIGTERM")], indirect=["address"])
def test_a_node_that_leaves_finishes_what_runs_and_gives_back_the_rest(tmp_path: Path, address: str, way: str) -> None:
    with at_work(tmp_path, address, nodes=2) as (cluster, client):
        job = hold(client, tmp_path, range(30))
        wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
        cluster.wait_node(0, lambda node: node.chunks >= 2, "node 0 to have work in line")
        if way == "drain":
            cluster.windrow("drain", "node-0")
        else:
            cluster.nodes[0].family += cluster.nodes[0].children()
            os.kill(cluster.nodes[0].pid, signal.SIGTERM)
        cluster.wait_node(0, lambda node: node.state == "draining", "node 0 to drain")
        cluster.wait_node(0, lambda node: node.chunks == 1, "it to have given back all but what it runs")
        (tmp_path / "open").touch()
        status = job.wait(PATIENCE_S)
        assert (status.state, status.done, status.failed, status.retried) == ("done", 30, 0, 0)
        assert sorted(begun(tmp_path)) == list(range(30)), "each ran once"
        if way == "SIGTERM":
            cluster.reap_node(0)
            cluster.wait_node(0, lambda node: node.state == "gone", "node 0 to be gone")


def test_a_second_signal_ends_a_node_at_once_and_its_item_runs_elsewhere_without_blame(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=2, settings={"WINDROW_SCHEDULER__LEASE_S": "60"}) as (cluster, client):
        job = hold(client, tmp_path, range(2))
        wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
        cluster.nodes[0].family += cluster.nodes[0].children()
        os.kill(cluster.nodes[0].pid, signal.SIGTERM)
        cluster.wait_node(0, lambda node: node.state == "draining", "node 0 to drain")
        os.kill(cluster.nodes[0].pid, signal.SIGTERM)
        cluster.reap_node(0)
        (tmp_path / "open").touch()
        status = job.wait(PATIENCE_S)
        assert (status.done, status.failed, status.retried) == (2, 0, 0)
        assert len(begun(tmp_path)) == 3, "the item that was cut off ran again"


# ── Cut off ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_cut_off_from_the_scheduler_but_not_the_broker_loses_its_work_to_others(
    tmp_path: Path, broker_address: str
) -> None:
    with at_work(tmp_path, broker_address, nodes=1) as (cluster, client), open_link(port_of(cluster.url)) as link:
        behind = cluster.add_node(url=f"tcp://127.0.0.1:{link.port}")
        cluster.wait_node(behind, lambda node: node.state == "alive" and node.tasks, "the other node to join")
        job = hold(client, tmp_path, range(20))
        wait_until(lambda: len(begun(tmp_path)) == 2, PATIENCE_S, "both slots to be busy")
        link.cut()
        cluster.wait_node(behind, lambda node: node.state == "lost", "the lease to end")
        (tmp_path / "open").touch()
        status = job.wait(PATIENCE_S)
        assert (status.done, status.failed, status.retried) == (20, 0, 0)
        link.heal()
        cluster.wait_node(behind, lambda node: node.state == "alive", "the node to be back")
        assert values(job) == list(range(20))
        client.drain("node-0")
        assert values(client.start(cluster_tasks.double, range(100))) == list(range(0, 200, 2))


def test_a_node_cut_off_from_the_broker_but_not_the_scheduler_works_when_it_is_healed(
    tmp_path: Path, broker_address: str
) -> None:
    with open_link(port_of(broker_address)) as link:
        through = broker_address.replace(f":{port_of(broker_address)}/", f":{link.port}/")
        with at_work(tmp_path, broker_address, nodes=1, node_flags=["--amqp", through]) as (cluster, client):
            first = hold(client, tmp_path, range(3))
            wait_until(lambda: begun(tmp_path), PATIENCE_S, "the slot to be busy")
            wait_until(lambda: first.status().running >= 1, PATIENCE_S, "its lease")
            link.cut()
            # What is at the node goes on; its outcomes go to the scheduler directly.
            (tmp_path / "open").touch()
            wait_until(lambda: first.status().running == 0, PATIENCE_S, "all that was there to be done")
            done = first.status().done
            assert done >= 1
            second = client.start(cluster_tasks.double, range(100))
            cluster.wait_node(0, lambda node: node.chunks >= 1, "its chunks to be on the way")
            assert second.status().done == 0, "they wait in the broker"
            assert cluster.node(0).state == "alive"
            assert first.status().done == done
            link.heal()
            assert first.wait(PATIENCE_S).done == 3
            assert values(second) == list(range(0, 200, 2))
            assert sorted(begun(tmp_path)) == [0, 1, 2]


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def test_a_second_daemon_with_the_same_identity_is_refused_and_the_first_works_on(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=1) as (cluster, client):
        state = cluster.folder / "node-0"
        done = cluster.windrow("node", "--name", "twin", "--state", str(state), "--tasks", TASKS, code=2)
        assert f"another node daemon (pid {cluster.nodes[0].pid})" in done.stderr
        assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_wait_survives_two_restarts_of_the_scheduler_and_nothing_runs_twice(
    tmp_path: Path, broker_address: str
) -> None:
    with at_work(tmp_path, broker_address, nodes=1) as (cluster, client):
        job = hold(client, tmp_path, range(4))
        ended = threading.Event()
        waiter = threading.Thread(target=lambda: (job.wait(), ended.set()), daemon=True)
        waiter.start()
        wait_until(lambda: begun(tmp_path), PATIENCE_S, "an item to begin")
        for _ in range(2):
            cluster.kill_scheduler()
            cluster.start_scheduler()
        assert not ended.is_set()
        (tmp_path / "open").touch()
        assert ended.wait(PATIENCE_S)
        assert sorted(begun(tmp_path)) == [0, 1, 2, 3]


def test_calls_made_while_the_scheduler_is_down_run_once_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    with at_work(tmp_path, nodes=1) as (cluster, client):
        assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3
        # The first is with the scheduler, which dies without an answer; the others are made while there is none.
        os.kill(cluster.scheduler.pid, signal.SIGSTOP)
        futures = [client.submit(cluster_tasks.hold, str(tmp_path), 0)]
        wait_until(lambda: client._link.silent_for(time.monotonic()) > 0.1, PATIENCE_S, "it to be sent")
        cluster.kill_scheduler()
        futures += [client.submit(cluster_tasks.hold, str(tmp_path), x) for x in range(1, 20)]
        cluster.start_scheduler()
        assert [future.result(PATIENCE_S) for future in futures] == list(range(20))
        assert sorted(begun(tmp_path)) == list(range(20))


# ── Limits of a whole node ───────────────────────────────────────────────────────────────────────────────────────


def test_a_node_limits_the_memory_of_its_workers_and_replaces_them_after_some_items(tmp_path: Path) -> None:
    settings = {"WINDROW_NODE__WORKER_MEMORY_BYTES_MAX": "200M", "WINDROW_NODE__RECYCLE_ITEMS": "100"}
    with at_work(tmp_path, nodes=1, settings=settings) as (_cluster, client):
        job = client.start(fault_tasks.grows, range(20))
        status = job.wait(PATIENCE_S)
        assert (status.done, status.failed) == (19, 1)
        [failure] = job.failures()
        assert (failure.item, failure.kind.value) == (3, "crash")
        assert "the limit is 200 MiB" in failure.message
        assert failure.memory_bytes_peak > 200 << 20
        pids = values(client.start(fault_tasks.pid, range(1000)))
        assert len(pids) == 1000
        assert len(set(pids)) >= 5


def test_an_item_that_the_kernel_kills_for_its_memory_fails_alone_and_is_told_as_that(tmp_path: Path) -> None:
    try:
        with memory_group(MEMORY_GROUP_BYTES) as before, at_work(tmp_path, nodes=0) as (cluster, client):
            node = cluster.add_node(before=before)
            cluster.wait_node(node, lambda found: found.state == "alive" and found.tasks, "the node to join")
            job = client.start(fault_tasks.takes_all_memory, [(x, 3) for x in range(20)])
            status = job.wait(PATIENCE_S)
            assert (status.done, status.failed) == (19, 1)
            [failure] = job.failures()
            assert (failure.item, failure.kind.value) == (3, "crash")
            assert "was killed by SIGKILL while it executed this item; memory had run out" in failure.message
            assert "the kernel has counted" in failure.message
            assert MEMORY_GROUP_BYTES // 4 < failure.memory_bytes_peak <= MEMORY_GROUP_BYTES
            assert client.submit(cluster_tasks.add, 1, 2).result(PATIENCE_S) == 3
    except NoMemoryGroup as error:
        pytest.fail(str(error), pytrace=False)


# ── Explain ──────────────────────────────────────────────────────────────────────────────────────────────────────


def why(cluster: Cluster, job: Job) -> str:
    return str(json.loads(cluster.windrow("explain", "--json", job.id).stdout)["reasons"][0])


def test_explain_says_that_there_is_no_node_and_that_nobody_offers_the_task(tmp_path: Path) -> None:
    with at_work(tmp_path, nodes=1) as (cluster, client):
        job = hold(client, tmp_path, range(3))
        wait_until(lambda: begun(tmp_path), PATIENCE_S, "an item to begin")
        cluster.kill_node(0)
        (tmp_path / "open").touch()
        cluster.wait_node(0, lambda node: node.state == "lost", "the lease to end")
        assert "no node is alive; start one with `windrow node`" in why(cluster, job)
        # Another node comes, which has other tasks.
        index = cluster.add_node(tasks=["tests.fault_tasks"])
        cluster.wait_node(index, lambda node: node.state == "alive" and node.tasks, "the other node to join")
        assert "offers the task 'tests.cluster_tasks:hold'" in why(cluster, job)
        cluster.start_node(0)
        assert job.wait(PATIENCE_S).done == 3


def test_explain_says_that_the_broker_is_down(tmp_path: Path, broker_address: str) -> None:
    with open_link(port_of(broker_address)) as link:
        through = broker_address.replace(f":{port_of(broker_address)}/", f":{link.port}/")
        with at_work(tmp_path, through, nodes=1) as (cluster, client):
            link.cut()
            wait_until(lambda: client.health().broker != "ok", PATIENCE_S, "the scheduler to see it")
            job = client.start(cluster_tasks.double, range(10))
            assert "the broker is down" in why(cluster, job)
            link.heal()
            assert job.wait(PATIENCE_S).done == 10
