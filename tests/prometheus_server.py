"""A private Prometheus that scrapes one scheduler, and the check that every query of the dashboard finds data in it."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "monitoring" / "dashboards" / "windrow.json"
SCRAPE_FILE = ROOT / "monitoring" / "prometheus" / "prometheus.yml"
INSTALL = "apt-get install -y --no-install-recommends prometheus"

RATE_INTERVAL = "[3s]"
"""In place of Grafana's $__rate_interval: many times the scrape interval of the test."""


@dataclass(frozen=True, slots=True)
class DashboardQuery:
    """One query of one panel, as Prometheus gets it."""

    panel: str
    expr: str


def dashboard_queries(path: Path = DASHBOARD) -> list[DashboardQuery]:
    """Every query of the dashboard."""
    panels = json.loads(path.read_text())["panels"]
    return [
        DashboardQuery(panel["title"], target["expr"].replace("[$__rate_interval]", RATE_INTERVAL))
        for panel in panels
        for target in panel.get("targets", ())
    ]


class PrometheusServer:
    """Where a started Prometheus answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expr: str) -> list[float]:
        """The numbers that an instant query finds now; one that is no number is no data."""
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expr})}", timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        values = [float(series["value"][1]) for series in found["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def metrics(self) -> str:
        """What Prometheus says of itself."""
        with urlopen(f"{self.url}/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    def queries_without_data(self, queries: Iterable[DashboardQuery], timeout_s: float = 30.0) -> list[DashboardQuery]:
        """Those of the queries that have found no data by the end of the time; each is asked until it finds some.

        The cluster must be at work meanwhile: a mean or a quantile over an idle one is no number.
        """
        deadline = time.monotonic() + timeout_s
        missing = list(queries)
        while missing:
            missing = [query for query in missing if not self.query(query.expr)]
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return missing


@contextmanager
def prometheus_server(folder: Path, target: str, scrape_interval: str = "200ms") -> Generator[PrometheusServer]:
    """Runs Prometheus on a free port with our scrape file, pointed at `target` (host:port); data in `folder`."""
    program = shutil.which("prometheus")
    assert program is not None, f"this test needs Prometheus: {INSTALL}"
    config = folder / "prometheus.yml"
    config.write_text(scrape_file_for(target, scrape_interval))
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        yield PrometheusServer(_wait_listening(process, log))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def scrape_file_for(target: str, scrape_interval: str) -> str:
    """The scrape file of this repository with another scheduler, scraped more often."""
    text = SCRAPE_FILE.read_text()
    text, targets = re.subn(r"127\.0\.0\.1:7680", target, text)
    text, intervals = re.subn(r"(scrape_(?:interval|timeout)): \w+", rf"\1: {scrape_interval}", text)
    assert (targets, intervals) == (2, 2), "the scrape file has changed: see scrape_file_for"
    return text


def _wait_listening(process: subprocess.Popen[bytes], log: Path, timeout_s: float = 30.0) -> str:
    """The URL once Prometheus is ready: it picks the port, and its log says which."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text()
        found = re.search(r'msg="Listening on" address=(\S+)', text)
        if found and "Server is ready to receive web requests" in text:
            return f"http://{found[1]}"
        time.sleep(0.05)
    raise AssertionError(f"Prometheus did not start:\n{log.read_text()}")
