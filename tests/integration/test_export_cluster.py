"""Exports on a cluster of processes stay right while a node, the scheduler or RabbitMQ is killed midway."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.broker import Broker
from tests.cluster import Cluster, running_cluster
from tests.waiting import wait_until
from windrow import Client
from windrow.export.run import ExportRun, export

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS = 300_000
SEGMENT_BYTES = 64 << 10
DONE_MIN = 30
"""Segments that are done when something is killed."""
PATIENCE_S = 90.0
WORDS = ("north", "south", 'the "old" mill', "east, by the river", "", "Größe")
COLUMNS = "id,place:area,amount"
WHERE = "id % 3 <> 0 and amount < 900"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 300,000 rows, in which quoting matters."""
    path = tmp_path_factory.mktemp("source") / "source.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "name", "place", "amount", "note"])
        writer.writerows(
            (x, f"name-{x * 7919 % 100_003}", WORDS[x % len(WORDS)], f"{x * 31 % 1000}.{x % 100:02}", "·" * (x % 40))
            for x in range(ROWS)
        )
    return path


@pytest.fixture(scope="module")
def expected() -> pa.Table:
    """What the export must come to, computed by the rule that the rows are made by."""
    kept = [x for x in range(ROWS) if x % 3 and x * 31 % 1000 + x % 100 / 100 < 900]
    amounts = [Decimal(f"{x * 31 % 1000}.{x % 100:02}") for x in kept]
    columns = {
        "id": pa.array(kept, pa.int64()),
        "area": pa.array([WORDS[x % len(WORDS)] or None for x in kept], pa.string()),
        "amount": pa.array(amounts, pa.decimal128(9, 2)),
    }
    return pa.table(columns)


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[[str], Cluster]]:
    """Starts a scheduler and two nodes with the given way of dispatch."""
    # A shorter lease than usual: it is tested that the work moves on, not for how long nobody notices.
    settings = {"WINDROW_SCHEDULER__LEASE_S": "2", "WINDROW_SCHEDULER__HEARTBEAT_S": "0.5"}
    with contextlib.ExitStack() as stack:

        def start(address: str) -> Cluster:
            made = running_cluster(tmp_path / "cluster", amqp_url=address, tasks=(), settings=settings)
            return stack.enter_context(made)

        yield start


def begin(client: Client, source: Path, dest: Path) -> ExportRun:
    """The export is under way: part of it is done, and not all.

    What follows must be quick: while a scheduler or a broker is away, the nodes go on with what they hold.
    """
    run = export(
        client, source, dest,
        columns=COLUMNS, where=WHERE, cast="amount:decimal(9,2)", segment_bytes=SEGMENT_BYTES,
    )  # fmt: skip
    wait_until(lambda: run.progress().segments_done >= DONE_MIN, PATIENCE_S, f"{DONE_MIN} segments to be done")
    assert is_midway(run)
    return run


def is_midway(run: ExportRun) -> bool:
    status = run.convert.status()
    return DONE_MIN <= status.done < status.total


def check(run: ExportRun, expected: pa.Table, dest: Path) -> None:
    """The export ends, and its file holds exactly the expected rows in order; nothing else is left beside it."""
    summary = run.wait(PATIENCE_S)
    assert (summary.path, summary.rows, summary.bytes) == (str(dest), expected.num_rows, dest.stat().st_size)
    assert summary.segments > 2 * DONE_MIN
    if dest.suffix == ".parquet":
        assert pq.read_table(dest).equals(expected)
    else:
        with dest.open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            assert next(rows) == expected.column_names
            columns = zip(*rows, strict=True)
            for found, column in zip(columns, expected.columns, strict=True):
                assert list(found) == ["" if value is None else str(value) for value in column.to_pylist()]
    assert list(dest.parent.iterdir()) == [dest]
    convert = run.convert.status()
    assert (convert.state, convert.done, convert.failed) == ("done", summary.segments, 0)


@pytest.fixture(params=["local", "amqp"])
def address(request: pytest.FixtureRequest) -> str:
    """`local:`, or the URL of the RabbitMQ that the tests share."""
    return "local:" if request.param == "local" else str(request.getfixturevalue("amqp_url"))


@pytest.fixture
def dest_folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_node_is_killed_midway(
    start_cluster: Callable[[str], Cluster], address: str, source: Path, dest_folder: Path, expected: pa.Table
) -> None:
    cluster, dest = start_cluster(address), dest_folder / "out.csv"
    with cluster.client() as client:
        run = begin(client, source, dest)
        cluster.wait_node(0, lambda node: node.chunks > 0, "node 0 to hold part of it")
        assert is_midway(run)
        cluster.kill_node(0)
        check(run, expected, dest)
        assert cluster.node(0).state == "lost"


def test_the_scheduler_is_killed_and_restarted_midway(
    start_cluster: Callable[[str], Cluster], address: str, source: Path, dest_folder: Path, expected: pa.Table
) -> None:
    cluster, dest = start_cluster(address), dest_folder / "out.parquet"
    with cluster.client() as client:
        run = begin(client, source, dest)
        cluster.kill_scheduler()
        cluster.start_scheduler()
        check(run, expected, dest)
        assert client.health().epoch == 2


def test_rabbitmq_is_killed_and_restarted_midway(
    start_cluster: Callable[[str], Cluster], own_broker: Broker, source: Path, dest_folder: Path, expected: pa.Table
) -> None:
    cluster, dest = start_cluster(own_broker.url), dest_folder / "out.csv"
    with cluster.client() as client:
        run = begin(client, source, dest)
        own_broker.kill()
        wait_until(lambda: client.health().broker == "bad", PATIENCE_S, "the scheduler to notice")
        own_broker.start()
        check(run, expected, dest)
        assert client.health().broker == "ok"
