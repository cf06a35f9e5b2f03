"""Nodes in a mount namespace of their own, which lack a mount: exports go on without them, or are refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, running_cluster
from tests.waiting import wait_until
from windrow.common.errors import ExportError
from windrow.export.run import export

pytestmark = [pytest.mark.integration, pytest.mark.system]

PATIENCE_S = 60.0
DATA = b"n,t\n" + b"".join(b"%d,x%d\n" % (number, number) for number in range(20_000))


def blind(folder: Path) -> list[str]:
    """A command line that lets what follows find an empty folder there. It needs root, or user namespaces."""
    return ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {shlex.quote(str(folder))} && exec "$@"', "sh"]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What should be mounted everywhere, with a source in it."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "in.csv").write_bytes(DATA)
    return tmp_path / "shared"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path / "cluster", nodes=0) as made:
        yield made


def test_an_export_goes_on_at_the_nodes_that_see_and_explain_names_the_one_that_does_not(
    cluster: Cluster, shared: Path, tmp_path: Path
) -> None:
    cluster.await_node(cluster.add_node())
    with cluster.client() as client:
        # Until the gate is opened the seeing node is busy, so that the plan goes to the other one.
        held = client.start("tests.cluster_tasks:hold", [(str(tmp_path), 0)])
        wait_until(lambda: list(tmp_path.glob("begun-0-*")), PATIENCE_S, "the seeing node to be busy")
        cluster.await_node(cluster.add_node(before=blind(shared)))
        run = export(client, shared / "in.csv", shared / "out.csv", where="n % 2 = 0", segment_bytes=10_000)

        def is_told(job: str) -> bool:
            return any(
                "node node-1 is left out" in reason and f"no source {shared / 'in.csv'}" in reason
                for reason in client.job(job).explain().reasons
            )

        wait_until(lambda: is_told(run.job("plan").id), PATIENCE_S, "the blind node to be left out")
        # By the id that users have, too.
        assert is_told(run.id)
        (tmp_path / "open").touch()
        assert run.wait(PATIENCE_S).rows == 10_000
        held.wait(PATIENCE_S)
    head, *lines = DATA.splitlines(keepends=True)
    expected = head + b"".join(line for line in lines if int(line.split(b",")[0]) % 2 == 0)
    assert (shared / "out.csv").read_bytes() == expected


def test_with_no_node_that_sees_the_export_is_refused(cluster: Cluster, shared: Path) -> None:
    cluster.await_node(cluster.add_node(before=blind(shared)))
    with cluster.client() as client:
        run = export(client, shared / "in.csv", shared / "out.csv")
        with pytest.raises(ExportError, match=r"no node is left that can go on with the export: no source .*/in\.csv"):
            run.wait(PATIENCE_S)
        assert client.job(run.job("plan").id).status().failed == 1
    assert [path.name for path in shared.iterdir()] == ["in.csv"]
