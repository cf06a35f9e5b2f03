"""Exports give the same bytes on one slot undisturbed, and on six with a node and the scheduler killed midway."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cluster import Cluster, Daemon, running_cluster
from tests.waiting import wait_until
from windrow.export.run import export

pytestmark = [pytest.mark.system, pytest.mark.faults]

ROWS = 40_000
SEGMENT_BYTES = 48 << 10
DONE_MIN = 6
PATIENCE_S = 90.0
PLACES = ("北京", "two\nlines", 'a "quoted" one', "x,y", "plain", "")


def rows() -> Iterator[tuple[int, str, str, int]]:
    return ((at, PLACES[at % 6], f"{at * 31 % 1000}.{at % 10}", at % 3) for at in range(ROWS))


def csv_bytes(encoding: str = "utf-8") -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(["id", "place", "amount", "kind"])
    writer.writerows(rows())
    return sink.getvalue().encode(encoding)


def jsonl_bytes() -> bytes:
    names = ("id", "place", "amount", "kind")
    return "".join(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in rows()).encode()


def zip_bytes() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.csv", csv_bytes())
    return sink.getvalue()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    columns = [list(column) for column in zip(*rows(), strict=True)]
    pq.write_table(
        pa.table(dict(zip(("id", "place", "amount", "kind"), columns, strict=True))), sink, row_group_size=500
    )
    return bytes(sink.getvalue())


PAIRS: list[tuple[str, Callable[[], bytes], str, dict[str, Any]]] = [
    ("in.csv", csv_bytes, "out.csv", {"where": "kind < 2"}),
    ("gbk.csv", lambda: csv_bytes("gbk"), "out.parquet", {}),
    ("utf16.csv", lambda: csv_bytes("utf-16"), "out.csv.gz", {"trim": True}),
    ("in.csv.gz", lambda: gzip.compress(csv_bytes()), "gbk-out.csv", {"to_encoding": "gbk"}),
    ("in.csv.bz2", lambda: bz2.compress(csv_bytes()), "out.jsonl", {"limit": ROWS - 1_000}),
    ("in.zip", zip_bytes, "folder/", {"to": "parquet"}),
    ("in.csv.zst", lambda: bytes(pa.compress(csv_bytes(), "zstd", asbytes=True)), "parts/",
     {"to": "csv", "partition_by": "kind"}),
    ("in.jsonl", jsonl_bytes, "out.jsonl.zst", {"dedupe_by": "place,amount"}),
    ("in.parquet", parquet_bytes, "zstd.parquet", {"compression": "zstd", "infer": "full"}),
]  # fmt: skip
"""Every kind of source and every kind of destination; with them the steps that need more than one segment."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name, make, _, _ in PAIRS:
        (folder / name).write_bytes(make())
    return folder


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("quiet"), nodes=1, slots=1, tasks=()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {"WINDROW_SCHEDULER__LEASE_S": "2", "WINDROW_SCHEDULER__HEARTBEAT_S": "0.5"}
    with running_cluster(tmp_path_factory.mktemp("troubled"), nodes=3, slots=2, tasks=(), settings=settings) as cluster:
        yield cluster


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@contextmanager
def frozen(*daemons: Daemon) -> Iterator[None]:
    for daemon in daemons:
        os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for daemon in daemons:
            os.kill(daemon.pid, signal.SIGCONT)


def is_under_way(convert: Any) -> bool:
    return bool(convert.status().done >= DONE_MIN)


@pytest.mark.parametrize("number", range(len(PAIRS)), ids=[f"{source} to {dest}" for source, _, dest, _ in PAIRS])
def test_a_killed_node_and_a_killed_scheduler_do_not_show(
    quiet: Cluster, troubled: Cluster, sources: Path, tmp_path: Path, number: int
) -> None:
    name, _, dest, options = PAIRS[number]
    made: list[dict[str, bytes]] = []
    for cluster in (quiet, troubled):
        folder = tmp_path / ("quiet" if cluster is quiet else "troubled")
        folder.mkdir()
        with cluster.client() as client:
            run = export(client, sources / name, f"{folder}/{dest}", segment_bytes=SEGMENT_BYTES, **options)
            if cluster is troubled:
                convert = run.convert
                wait_until(partial(is_under_way, convert), PATIENCE_S, f"{DONE_MIN} segments to be done")
                with frozen(cluster.nodes[1], cluster.nodes[2]):  # else they may end it before the state is looked at
                    cluster.kill_node(0)
                    cluster.kill_scheduler()
                    cluster.start_scheduler()
                    state = run.merge.status().state
                assert state not in ("done", "failed", "cancelled"), "it was over before the kill"
                cluster.start_node(0)
            summary = run.wait(PATIENCE_S)
        assert summary.rows > 1_000 or "dedupe_by" in options
        assert [path.name for path in folder.iterdir()] == [dest.rstrip("/")]
        made.append(contents(folder / dest.rstrip("/")))
    assert made[0]
    assert made[0].keys() == made[1].keys()
    assert made[0] == made[1]
