"""A real cluster that keeps ended jobs for a moment only: they go, and calls that go on do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster_tasks
from tests.cluster import Cluster, running_cluster
from tests.waiting import wait_until
from windrow import Client, NotFound
from windrow.client import flows

pytestmark = [pytest.mark.integration, pytest.mark.system]

KEPT_S = 1.0
CALLS = 500
STREAM_CALLS = 50


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    days = str(KEPT_S / 86_400)
    settings = {"WINDROW_SCHEDULER__RESULTS_KEPT_DAYS": days, "WINDROW_SCHEDULER__FAILURES_KEPT_DAYS": days}
    with running_cluster(Path(tmp_path_factory.mktemp("kept")), nodes=1, settings=settings) as made:
        yield made


def is_gone(client: Client, job: str) -> bool:
    try:
        client.job(job).status()
    except NotFound:
        return True
    return False


def test_an_ended_job_is_removed_and_its_key_starts_another_one(cluster: Cluster) -> None:
    with cluster.client() as client:
        first = client.start(cluster_tasks.double, range(1000), key="again")
        assert sum(first.results()) == sum(2 * x for x in range(1000))
        again = client.start(cluster_tasks.double, range(1000), key="again")
        assert again.id == first.id
        # The newest job stays until there is a newer one.
        client.start(cluster_tasks.double, range(1)).wait(timeout=30)
        wait_until(lambda: is_gone(client, first.id), 30.0, "the job to be removed", poll_s=0.1)
        with pytest.raises(NotFound):
            list(client.job(first.id).results())
        second = client.start(cluster_tasks.double, range(10), key="again")
        assert second.id != first.id
        assert list(second.results()) == [2 * x for x in range(10)]


def test_calls_go_on_in_new_streams_and_the_full_ones_are_removed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "STREAM_CALLS_MAX", STREAM_CALLS)
    with cluster.client() as client:
        ids = [client.enqueue(cluster_tasks.double, x) for x in range(STREAM_CALLS + 1)]
        assert [client.future(each).result(timeout=30) for each in ids] == [2 * x for x in range(STREAM_CALLS + 1)]
        futures = [client.submit(cluster_tasks.double, x) for x in range(CALLS)]
        assert [future.result(timeout=30) for future in futures] == [2 * x for x in range(CALLS)]
        streams = list(dict.fromkeys(future.id.partition("/")[0] for future in futures))
        assert len(streams) == CALLS / STREAM_CALLS
        assert client.future(futures[-1].id).result(timeout=30) == 2 * (CALLS - 1)
        wait_until(
            lambda: all(is_gone(client, stream) for stream in streams[:-1]),
            30.0,
            "full streams to be removed",
            poll_s=0.1,
        )
        # The last one is open: its client may make the next call at any time.
        assert client.job(streams[-1]).status().open
        assert client.submit(cluster_tasks.double, 3).result(timeout=30) == 6
        client.flush(timeout=30)


def test_a_stream_that_has_become_old_is_followed_by_another_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.client() as client:
        first = client.submit(cluster_tasks.double, 2)
        second = client.submit(cluster_tasks.double, 3)
        assert (first.result(timeout=30), second.result(timeout=30)) == (4, 6)
        monkeypatch.setattr(flows.time, "clock_gettime", lambda _: 1e12)
        third = client.submit(cluster_tasks.double, 4)
        assert third.result(timeout=30) == 8
        assert first.id.partition("/")[0] == second.id.partition("/")[0] != third.id.partition("/")[0]
        wait_until(
            lambda: is_gone(client, first.id.partition("/")[0]), 30.0, "the old stream to be removed", poll_s=0.1
        )
