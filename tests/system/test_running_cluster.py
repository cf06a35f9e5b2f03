"""A real Prometheus scrapes a running cluster with work going on, and every query of the dashboard finds data."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests import cluster_tasks as tasks
from tests.cluster import Cluster, running_cluster
from tests.prometheus_server import PrometheusServer, dashboard_queries, prometheus_server
from tests.waiting import wait_until
from windrow import Client

pytestmark = pytest.mark.system

PATIENCE_S = 30.0


@pytest.fixture(scope="module", params=["local", "amqp"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    address = "local:" if request.param == "local" else str(request.getfixturevalue("broker").url)
    with running_cluster(tmp_path_factory.mktemp("cluster"), amqp_url=address) as made:
        yield made


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with prometheus_server(tmp_path_factory.mktemp("prometheus"), cluster.http.removeprefix("http://")) as server:
        yield server


@pytest.fixture(scope="module")
def work(cluster: Cluster) -> Iterator[Client]:
    """Items that are done, that fail and that are tried again, one job after the other, until the tests are over."""
    over = threading.Event()
    with cluster.client() as client:

        def go_on() -> None:
            while not over.is_set():
                client.start(tasks.fragile, range(40), retries=1, backoff=0.05).wait(PATIENCE_S)
                client.start(tasks.work, [(x, 0.01) for x in range(40)]).wait(PATIENCE_S)

        thread = threading.Thread(target=go_on, name="work")
        thread.start()
        yield client
        over.set()
        thread.join(2 * PATIENCE_S)
        assert not thread.is_alive()


@pytest.mark.usefixtures("work")
def test_every_query_of_the_dashboard_finds_data_in_a_running_cluster(prometheus: PrometheusServer) -> None:
    assert prometheus.queries_without_data(dashboard_queries()) == []


def test_what_prometheus_says_is_true(cluster: Cluster, prometheus: PrometheusServer, tmp_path: Path) -> None:
    name = tasks.hold.name

    def seen(expr: str) -> float:
        return sum(prometheus.query(expr))

    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(tmp_path), x) for x in range(10)], queue="default")
        busy = "sum(windrow_node_slots{state='busy'})"
        wait_until(lambda: seen(busy) == 2, PATIENCE_S, "Prometheus to see both slots busy")
        wait_until(lambda: seen("windrow_nodes{state='alive'}") == 2, PATIENCE_S, "Prometheus to see two nodes")
        assert seen(f"windrow_items_total{{task='{name}'}}") == 0
        (tmp_path / "open").touch()
        job.wait(PATIENCE_S)
        done = f"windrow_items_total{{task='{name}',outcome='done'}}"
        wait_until(lambda: seen(done) == 10, PATIENCE_S, "Prometheus to see ten items done")


def test_the_scheduler_says_that_it_is_ready_and_where_to_scrape(cluster: Cluster) -> None:
    for path in ("/healthz", "/readyz", "/"):
        with urlopen(cluster.http + path, timeout=10) as answer:
            assert answer.status == 200
    with urlopen(f"{cluster.http}/sd", timeout=10) as answer:
        assert isinstance(json.load(answer), list)
