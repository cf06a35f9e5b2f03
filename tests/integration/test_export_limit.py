"""On a cluster of processes a limit that is reached ends the rest by cancelling it, and the export succeeds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cluster import running_cluster
from windrow.export.run import ExportRun
from windrow.export.spec import make_spec

pytestmark = [pytest.mark.integration, pytest.mark.system]

ROWS = 2_000_000


@pytest.mark.parametrize("packed", [False, True])
def test_a_limit_ends_the_export_and_cancels_what_lies_behind(tmp_path: Path, packed: bool) -> None:
    data = b"n,t\n" + b"".join(b"%d,x\n" % number if number % 10 else b"%d\n" % number for number in range(ROWS))
    source, dest = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(gzip.compress(data, 1) if packed else data)
    with running_cluster(tmp_path / "cluster", nodes=2, tasks=()) as cluster:
        # More than a thousand segments: the rest is cancelled long before they would be done, however late that comes.
        done = cluster.windrow(
            "export", str(source), str(dest), "--limit", "900", "--max-errors", "100", "--segment-bytes",
            "10000", "--json",
        )  # fmt: skip
        summary = json.loads(done.stdout)
        assert (summary["rows"], summary["bad_rows"]) == (900, 100)
        with cluster.client() as client:
            (export,) = {job.id for job in client.jobs() if job.name == "export out.csv"}
            run = ExportRun(client, export, make_spec(source, dest, limit=900))
            convert = run.convert.wait(60)
            assert (convert.state, convert.failed, run.status().state) == ("cancelled", 0, "done")
            # What is behind the cut of a packed source may not have been unpacked.
            assert convert.cancelled > 0 or packed
            assert run.progress().phase == "done"
    lines = dest.read_bytes().splitlines(keepends=True)
    assert lines == [line for line in data.splitlines(keepends=True) if b"," in line][:901]
    assert len((tmp_path / "out.csv.errors.csv").read_text().splitlines()) == 101
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv", "out.csv.errors.csv", "cluster"}
