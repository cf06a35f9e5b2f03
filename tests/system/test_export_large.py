"""A large export takes little memory, and one that was interrupted at the terminal goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster import Cluster, running_cluster
from tests.waiting import wait_until
from windrow import Client
from windrow.export.run import export

pytestmark = pytest.mark.system

LINES = b"".join(
    b'%d,"north, by the ""river""",%d.25,2024-01-%02d\n' % (at, at % 1000, 1 + at % 28) for at in range(100_000)
)
REPEATS = 120
"""About 500 MB: more than WORKER_BYTES_MAX, which the export of any size must keep to."""
WORKER_BYTES_MAX = 400 << 20
"""With 5 GB it was 283 MiB at most."""
PATIENCE_S = 180.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), nodes=1, slots=2, tasks=()) as made:
        yield made


class Watch:
    """Notes the largest resident memory of a node's workers."""

    def __init__(self, node: int) -> None:
        self._node = psutil.Process(node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.bytes_max = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            for worker in self._node.children(recursive=True):
                try:
                    self.bytes_max = max(self.bytes_max, worker.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue


@pytest.mark.parametrize("dest", ["out.parquet", "out.csv"])
def test_workers_stay_small_whatever_the_size_of_the_source(cluster: Cluster, tmp_path: Path, dest: str) -> None:
    source = tmp_path / "in.csv"
    with source.open("wb") as file:
        file.write(b"id,place,amount,day\n")
        for _ in range(REPEATS):
            file.write(LINES)
    assert source.stat().st_size > WORKER_BYTES_MAX
    with cluster.client() as client, Watch(cluster.nodes[0].pid) as watch:
        summary = export(client, source, tmp_path / dest, dedupe_by="id" if dest == "out.csv" else "").wait(PATIENCE_S)
    assert summary.rows_in == 100_000 * REPEATS
    assert 50 << 20 < watch.bytes_max < WORKER_BYTES_MAX
    source.unlink()


def is_any_cancelled(client: Client) -> bool:
    """Or about to be. On a busy machine the lease of the held node may end before the cancel comes, and the job too."""
    statuses = client.jobs()
    if any(status.state == "cancelled" for status in statuses):
        return True
    going_on = (client.job(status.id) for status in statuses if not status.finished)
    return any("cancelling" in reason for job in going_on for reason in job.explain().reasons)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    source, dest = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(b"id,place,amount,day\n" + LINES * 3)
    command = [
        sys.executable,
        "-m",
        "windrow.cli",
        "export",
        str(source),
        str(dest),
        "--segment-bytes",
        "50000",
        "--trim",
    ]
    environment = cluster.environment | {"WINDROW_URL": cluster.url}

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    first = run()
    wait_until(lambda: len(list(tmp_path.glob(".out.csv.windrow-*/part-*.json"))) > 9, PATIENCE_S, "some parts")
    # The node is held until the cancel has come: it could be done before.
    os.kill(cluster.nodes[0].pid, signal.SIGSTOP)
    os.kill(first.pid, signal.SIGINT)
    with cluster.client() as client:
        wait_until(lambda: is_any_cancelled(client), PATIENCE_S, "the export to be cancelled")
    os.kill(cluster.nodes[0].pid, signal.SIGCONT)
    _, errors = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130
    assert f"cancelled, {dest} is as it was; the finished parts are kept; go on with: windrow export" in errors
    assert not dest.exists()
    second = run()
    printed, errors = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, errors
    assert "going on with export" in errors
    assert "300,000 rows" in printed
    assert dest.read_bytes().count(b"\n") == 300_001
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]
