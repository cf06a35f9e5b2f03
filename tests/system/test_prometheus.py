"""A real Prometheus scrapes the scheduler's HTTP server, and every query of the dashboard finds data."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count

import pytest

from tests.prometheus_server import (
    INSTALL,
    SCRAPE_FILE,
    DashboardQuery,
    PrometheusServer,
    dashboard_queries,
    prometheus_server,
)
from tests.sample_view import sample_view
from windrow.monitoring.metrics import render_metrics
from windrow.scheduler.http import HttpServer
from windrow.scheduler.view import ClusterView

pytestmark = pytest.mark.system


@contextmanager
def busy_scheduler() -> Generator[int]:
    """The HTTP server of a scheduler whose counters grow with each look, in a thread of its own; gives the port."""
    steps = count(1)
    started = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    def view() -> ClusterView:
        return sample_view(next(steps))

    async def run() -> None:
        server = HttpServer("127.0.0.1", 0, view=view, ready=lambda: (True, ""), metrics=render_metrics)
        ports.append(await server.start())
        started.set()
        await stopping.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="busy scheduler")
    thread.start()
    try:
        assert started.wait(10), "the HTTP server did not start"
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Generator[PrometheusServer]:
    with (
        busy_scheduler() as port,
        prometheus_server(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{port}") as server,
    ):
        yield server


def test_the_scrape_file_is_valid() -> None:
    try:
        checked = subprocess.run(
            ["promtool", "check", "config", "--lint=all", "--lint-fatal", str(SCRAPE_FILE)],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.fail(f"this test needs promtool: {INSTALL}")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_query_of_the_dashboard_finds_data(prometheus: PrometheusServer) -> None:
    queries = dashboard_queries()
    assert len(queries) > 30
    assert prometheus.queries_without_data(queries) == []


def test_a_query_for_what_is_not_there_is_told(prometheus: PrometheusServer) -> None:
    absent = DashboardQuery("nothing", "windrow_no_such_metric")
    no_number = DashboardQuery("no number", "sum(windrow_epoch * 0) / sum(windrow_epoch * 0)")
    assert prometheus.queries_without_data([absent, no_number], timeout_s=0.5) == [absent, no_number]


def test_rates_and_quantiles_are_the_true_ones(prometheus: PrometheusServer) -> None:
    assert prometheus.queries_without_data([DashboardQuery("", "rate(windrow_items_total[3s])")]) == []
    # Of the sample's items 1000 of 1008 are done; of its chunks 60 % end within 0.03 s.
    [done] = prometheus.query("sum(rate(windrow_items_total{outcome='done'}[3s])) / sum(rate(windrow_items_total[3s]))")
    assert done == pytest.approx(1000 / 1008)
    [half] = prometheus.query("histogram_quantile(0.5, sum by (le) (rate(windrow_chunk_seconds_bucket[3s])))")
    assert 0.01 <= half <= 0.03


def test_service_discovery_is_read_without_a_failure(prometheus: PrometheusServer) -> None:
    refreshed = DashboardQuery("", "up{job='windrow-scheduler'} == 1")
    assert prometheus.queries_without_data([refreshed]) == []
    assert "prometheus_sd_http_failures_total 0" in prometheus.metrics()
