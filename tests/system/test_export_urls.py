"""Exports from web servers, and from and to a store of the S3 kind, on a real cluster, with what can go wrong there."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cluster import Cluster, running_cluster
from tests.waiting import wait_until
from tests.web_servers import FileServer, Gate, s3_settings, s3_store, serving_files
from windrow.common.errors import ExportError, Unreachable
from windrow.export.run import export
from windrow.export.storage import find_sources

pytestmark = pytest.mark.system

ROWS = 30_000
SEGMENT_BYTES = 64 << 10
PATIENCE_S = 90.0
SECRET = "geheim-4711"


def csv_bytes(first: int = 0) -> bytes:
    rows = (f'{at},"line {at}\nof two",{at % 7}.{at % 10}\n' for at in range(first, first + ROWS))
    return ("id,text,amount\n" + "".join(rows)).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "in.csv").write_bytes(csv_bytes())
    (folder / "in.csv.gz").write_bytes(gzip.compress(csv_bytes()))
    (folder / "many").mkdir()
    for number in (2, 10):
        (folder / "many" / f"p{number}.csv").write_bytes(csv_bytes(number * ROWS))
    table = pa.table({"id": range(200_000), "text": [f"t{at * 7919 % 100_003}" for at in range(200_000)]})
    pq.write_table(table, folder / "in.parquet", row_group_size=20_000)
    with serving_files(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "files" in request.fixturenames:
        server: FileServer = request.getfixturevalue("files")
        server.ranges, server.status = True, 0
        server.reset()


@pytest.fixture(scope="module")
def s3() -> Iterator[Gate]:
    with s3_store() as gate:
        settings = s3_settings(gate)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            fs = fsspec.filesystem("s3")
            fs.mkdir("bucket")
            fs.pipe_file("bucket/in/a-2.csv", csv_bytes())
            fs.pipe_file("bucket/in/a-10.csv", csv_bytes(ROWS))
            yield gate
            fs.clear_instance_cache()


@pytest.fixture(scope="module")
def cluster(s3: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {"WINDROW_SCHEDULER__LEASE_S": "2", "WINDROW_SCHEDULER__HEARTBEAT_S": "0.5"}
    with running_cluster(tmp_path_factory.mktemp("cluster"), nodes=2, slots=1, tasks=(), settings=settings) as cluster:
        yield cluster


def run(cluster: Cluster, source: str | Path, dest: str | Path, **options: Any) -> Any:
    with cluster.client() as client:
        options.setdefault("segment_bytes", SEGMENT_BYTES)
        return export(client, source, dest, **options).wait(PATIENCE_S)


def local_bytes(cluster: Cluster, source: Path | str, dest: Path, **options: Any) -> bytes:
    run(cluster, source, dest, **options)
    return dest.read_bytes()


def objects(prefix: str) -> dict[str, bytes]:
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    return {name: fs.cat_file(name) for name in fs.find(prefix)}


def open_uploads() -> list[Any]:
    return list(fsspec.filesystem("s3").list_multipart_uploads("bucket"))


# ── From web servers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_with_ranges_is_read_in_ranges(cluster: Cluster, files: FileServer, tmp_path: Path) -> None:
    (files.folder / "long.csv").write_bytes(csv_bytes() + b"".join(csv_bytes(at * ROWS)[15:] for at in range(1, 10)))
    wanted = local_bytes(cluster, files.folder / "long.csv", tmp_path / "local.csv", segment_bytes=1 << 20)
    summary = run(cluster, f"{files.url}/long.csv", tmp_path / "out.csv", segment_bytes=1 << 20)
    assert (tmp_path / "out.csv").read_bytes() == wanted
    assert (summary.rows, summary.segments > 8) == (10 * ROWS, True)
    size = (files.folder / "long.csv").stat().st_size
    ranges = [one for method, path, one in files.requests if method == "GET" and path == "/long.csv"]
    assert all(ranges), "asked for the whole file"
    # Once for counting quotes, once for converting; the rest is looking and sampling.
    assert files.sent_bytes < 3.5 * size, f"{files.sent_bytes / size:.1f} times the file"


@pytest.mark.parametrize("name", ["in.csv", "in.csv.gz"])
def test_a_server_without_ranges_is_read_a_few_times_whole(
    cluster: Cluster, files: FileServer, tmp_path: Path, name: str
) -> None:
    wanted = local_bytes(cluster, files.folder / name, tmp_path / "local.csv")
    files.ranges = False
    summary = run(cluster, f"{files.url}/{name}", tmp_path / "out.csv", segment_bytes=SEGMENT_BYTES // 4)
    assert (tmp_path / "out.csv").read_bytes() == wanted
    # Some look at its beginning and hang up.
    assert files.count("GET", name) < 15 < summary.segments, "a download for each segment"


def test_a_page_with_links_is_a_folder_for_patterns(cluster: Cluster, files: FileServer, tmp_path: Path) -> None:
    wanted = local_bytes(cluster, f"{files.folder}/many/*.csv", tmp_path / "local.csv")
    run(cluster, f"{files.url}/many/*.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == wanted
    assert wanted.splitlines()[1].startswith(b"60000,"), "p2 comes before p10"


def test_of_parquet_only_the_bytes_that_are_needed_are_read(
    cluster: Cluster, files: FileServer, tmp_path: Path
) -> None:
    wanted = local_bytes(cluster, files.folder / "in.parquet", tmp_path / "local.csv", columns="id")
    files.reset()
    run(cluster, f"{files.url}/in.parquet", tmp_path / "out.csv", columns="id")
    assert (tmp_path / "out.csv").read_bytes() == wanted
    assert files.sent_bytes < 4 * (files.folder / "in.parquet").stat().st_size
    files.ranges = False
    with pytest.raises(ExportError, match="gives no ranges, and Parquet is not read from the beginning"):
        run(cluster, f"{files.url}/in.parquet", tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (403, ExportError, "cannot be read: check its permissions, and the credentials of every node"),
        (401, ExportError, "check its permissions"),
        (404, ExportError, "no source http.*in.csv: check the path"),
        (418, ExportError, "the server answers 418"),
        (503, Unreachable, "the server answers 503: try again later"),
    ],
)
def test_what_a_server_answers_is_one_clear_line(
    files: FileServer, status: int, kind: type[Exception], message: str
) -> None:
    files.status = status
    with pytest.raises(kind, match=message) as caught:
        find_sources(f"{files.url}/in.csv")
    assert "\n" not in str(caught.value)


def test_nobody_at_the_address_is_one_clear_line() -> None:
    with pytest.raises(Unreachable, match=r"http://127.0.0.1:9/in.csv cannot be read now \(.*\): try again later"):
        find_sources("http://127.0.0.1:9/in.csv")


def test_a_server_that_fails_for_a_while_is_asked_again(cluster: Cluster, files: FileServer, tmp_path: Path) -> None:
    with cluster.client() as client:
        made = export(client, f"{files.url}/in.csv", tmp_path / "out.csv", segment_bytes=SEGMENT_BYTES)
        wait_until(lambda: made.convert.status().done > 0, PATIENCE_S, "the first segments to be done")
        files.status = 503
        answered = len(files.requests)
        wait_until(lambda: len(files.requests) > answered + 1, PATIENCE_S, "requests to be refused")
        files.status = 0
        assert made.wait(PATIENCE_S).rows == ROWS


# ── From and to S3 ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["out.parquet", "out.csv.gz", "out.jsonl"])
def test_a_store_gives_and_takes_the_bytes_that_a_disk_does(
    cluster: Cluster, s3: Gate, tmp_path: Path, name: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    for one in ("a-2.csv", "a-10.csv"):
        (here / one).write_bytes(objects("bucket/in")[f"bucket/in/{one}"])
    wanted = local_bytes(cluster, f"{here}/*.csv", tmp_path / name)
    work = tmp_path / "work"
    work.mkdir()
    summary = run(cluster, "s3://bucket/in/*.csv", f"s3://bucket/{name}", work_dir=str(work), manifest=True)
    found = objects(f"bucket/{name}")
    assert found[f"bucket/{name}"] == wanted
    assert (summary.rows, summary.sha256) == (2 * ROWS, hashlib.sha256(wanted).hexdigest())
    manifest = json.loads(fsspec.filesystem("s3").cat_file(f"bucket/{name}.manifest.json"))
    assert manifest["files"] == [{"name": name, "bytes": len(wanted), "sha256": summary.sha256}]
    assert not list(work.iterdir())
    assert not open_uploads()
    with pytest.raises(ExportError, match=f"s3://bucket/{name} exists: give another destination, or --force"):
        run(cluster, "s3://bucket/in/*.csv", f"s3://bucket/{name}", work_dir=str(work))
    run(cluster, "s3://bucket/in/a-2.csv", f"s3://bucket/{name}", work_dir=str(work), force=True)
    assert len(objects(f"bucket/{name}")[f"bucket/{name}"]) < len(wanted)


def test_a_folder_and_its_partitions_are_objects_and_the_manifest_comes_last(
    cluster: Cluster, s3: Gate, tmp_path: Path
) -> None:
    s3.requests.clear()
    options: dict[str, Any] = {"to": "csv", "partition_by": "amount", "where": "id < 1000"}
    run(cluster, "s3://bucket/in/*.csv", "s3://bucket/parts/", work_dir=str(tmp_path), **options)
    local = tmp_path / "local"
    run(cluster, "s3://bucket/in/*.csv", f"{local}/", **options)
    wanted = {f"bucket/parts/{one.relative_to(local)}": one.read_bytes() for one in local.rglob("part-*")}
    assert objects("bucket/parts/") == wanted
    completed = [one for one in s3.requests if one.startswith("POST") and "uploadId=" in one]
    assert len(completed) == len(wanted) + 1
    assert "parts.manifest.json" in completed[-1]
    manifest = json.loads(fsspec.filesystem("s3").cat_file("bucket/parts.manifest.json"))
    assert {f"bucket/parts/{one['name']}": one["sha256"] for one in manifest["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in wanted.items()
    }
    assert not open_uploads()


def test_a_node_that_is_killed_in_the_upload_leaves_no_half_object_and_no_upload(
    cluster: Cluster, s3: Gate, tmp_path: Path
) -> None:
    source = tmp_path / "big.csv"
    line = b"x" * 999 + b"\n"
    source.write_bytes(b"a\n" + line * 40_000)
    s3.hold, dest = re.compile(r"PUT /bucket/big.csv\?.*partNumber=2"), "s3://bucket/big.csv"
    s3.go.clear()
    s3.held.clear()
    work = tmp_path / "work"
    work.mkdir()
    try:
        with cluster.client() as client:
            made = export(client, source, dest, work_dir=str(work))
            assert s3.held.wait(PATIENCE_S)
            assert "bucket/big.csv" not in objects("bucket/big.csv"), "half an object"
            assert len(open_uploads()) == 1
            # Whichever of them it is at.
            cluster.kill_node(0)
            cluster.kill_node(1)
            s3.go.set()
            cluster.start_node(0)
            cluster.start_node(1)
            summary = made.wait(PATIENCE_S)
    finally:
        s3.go.set()
        s3.hold = None
    assert summary.rows == 40_000
    assert objects("bucket/big.csv")["bucket/big.csv"] == source.read_bytes()
    assert not open_uploads()
    assert not list(work.iterdir())
    assert s3.count(r"DELETE /bucket/big.csv\?.*uploadId=") >= 1


def test_a_store_that_fails_for_a_while_is_asked_again(cluster: Cluster, s3: Gate, tmp_path: Path) -> None:
    with cluster.client() as client:
        made = export(client, "s3://bucket/in/a-2.csv", "s3://bucket/late.csv", work_dir=str(tmp_path))
        wait_until(lambda: made.job("plan").status().state == "done", PATIENCE_S, "the plan")
        # More than the driver tries by itself: the task has to be run again.
        s3.fail = 8
        try:
            summary = made.wait(PATIENCE_S)
        finally:
            left, s3.fail = s3.fail, 0
    assert left == 0
    assert summary.rows == ROWS
    assert not open_uploads()


def test_a_store_that_lets_nobody_in_is_one_clear_line(s3: Gate, cluster: Cluster, tmp_path: Path) -> None:
    s3.refuse = 403
    try:
        with pytest.raises(ExportError, match=r"the source s3://bucket/in/a-2.csv cannot be read: check its perm"):
            run(cluster, "s3://bucket/in/a-2.csv", tmp_path / "out.csv")
        (tmp_path / "in.csv").write_bytes(b"a\n1\n")
        with pytest.raises(ExportError, match=r"the destination s3://bucket/x.csv cannot be written: check its perm"):
            run(cluster, tmp_path / "in.csv", "s3://bucket/x.csv", work_dir=str(tmp_path))
    finally:
        s3.refuse = 0
    with pytest.raises(ExportError, match=r"s3://none/x.csv cannot be written: there is no such bucket"):
        run(cluster, tmp_path / "in.csv", "s3://none/x.csv", work_dir=str(tmp_path))
    with pytest.raises(ExportError, match=r"no source s3://none/x.csv: check the path"):
        run(cluster, "s3://none/x.csv", tmp_path / "out.csv")


# ── Secrets, and memory ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_credentials_are_shown_anywhere(cluster: Cluster, s3: Gate, files: FileServer, tmp_path: Path) -> None:
    (files.folder / "bad.csv").write_bytes(b"a,b\n1,2\nx,3\n")
    address = files.url.removeprefix("http://")
    source = f"http://me:{SECRET}@{address}/bad.csv?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}"
    seen: list[str] = []

    def windrow(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "windrow.cli", words[0], "--url", cluster.url, *words[1:]],
            env=cluster.environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        seen.append(done.stdout + done.stderr)
        return done.stdout

    options = ("--work-dir", str(tmp_path), "--cast", "a:int64")
    windrow("export", source, "s3://bucket/good.csv", *options, "--max-errors", "1", "--manifest")
    windrow("export", source, "s3://bucket/bad.csv", *options)
    windrow("export", source + "x", f"{tmp_path}/none/out.csv")
    windrow("export", source.replace("bad.csv", "none.csv"), f"{tmp_path}/out.csv")
    windrow("export", source, f"{tmp_path}/out.csv", "--dry-run")
    windrow("export", f"s3://me:{SECRET}@bucket/a.csv", f"{tmp_path}/out.csv")
    with cluster.client() as client:
        made = export(client, source, "s3://bucket/never.csv", work_dir=str(tmp_path), cast="a:int64")
        with pytest.raises(ExportError) as failed:
            made.wait(PATIENCE_S)
        seen.append(f"{failed.value} {made!r}")
        for stage, commands in {"decide": ("results",), "convert": ("failures", "explain"), "merge": ("job",)}.items():
            for command in commands:
                windrow(command, made.job(stage).id)
                windrow(command, made.job(stage).id, "--json")
    windrow("jobs")
    seen += [data.decode() for name, data in objects("bucket").items() if name.endswith((".json", ".errors.csv"))]
    seen += [daemon.log.read_text(errors="replace") for daemon in (cluster.scheduler, *cluster.nodes)]
    assert "good.csv" in seen[0]
    assert any('"bad.csv' in text or "of bad.csv" in text for text in seen)
    shown = [text for text in seen if SECRET in text]
    assert not shown, shown[0][:3000]


def test_an_upload_takes_the_memory_of_some_blocks_however_long_it_is(s3: Gate) -> None:
    program = """
import resource, sys
from windrow.export.objects import write_object
piece = bytes(1 << 20)
write_object("s3://bucket/warm", [piece] * 40, 40 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_object("s3://bucket/long", (piece for _ in range(160)), 160 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert int(done.stdout) < 64, f"{done.stdout} MiB more for a long object"
    fsspec.filesystem("s3").rm_file("bucket/long")
