"""What is at a URL after exports that are refused, killed anywhere, repeated, and taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.export_output import Bad, Killed, hooked, make_plan, write_parts
from tests.object_store import ObjectStore, register
from windrow.common.errors import ExportError
from windrow.export import objects, url_publish
from windrow.export import run as export_run
from windrow.export.files import remove_folder
from windrow.export.model import Errors, Part
from windrow.export.publish import Published, check_target, publish_export
from windrow.export.spec import make_spec
from windrow.export.uploads import abort_noted, clear_begun
from windrow.export.work import work_folder

COUNTS = (30, 0, 7, 40)
BAD = {2: [Bad(30, text='a,"b')], 3: [Bad(41)]}
EXPORT = "0123456789abcdef"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("out.csv", {"manifest": True}),
    "csv limited": ("out.csv", {"limit": 35}),
    "parquet force": ("out.parquet", {"kind": "parquet", "force": True, "limit": 50}),
    "folder": ("out/", {"limit": 40}),
    "folder force": ("out/", {"kind": "parquet", "force": True}),
    "partitions": ("out/", {"partition": 2, "force": True}),
}
QUICK = ("csv", "folder force")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[ObjectStore]]:
    register()
    ObjectStore.reset()
    monkeypatch.setattr(objects, "BLOCK_BYTES", 1 << 10)
    # Which operation comes when is to be the same each time.
    monkeypatch.setattr(url_publish, "AT_ONCE", 1)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    yield ObjectStore
    ObjectStore.reset()


class Scene:
    """An export that is ready to be published, of which there may be many copies."""

    def __init__(self, tmp: Path, kind: str) -> None:
        name, options = KINDS[kind]
        plan = make_plan(f"shop://bucket/{name}", errors=Errors(9), **options)
        self.folder = plan.dest.folder
        self.plan = dataclasses.replace(
            plan, dest=dataclasses.replace(plan.dest, path=plan.dest.path.rstrip("/"), work_dir=str(tmp))
        )
        self.work = work_folder(self.plan.dest.path, EXPORT, str(tmp))
        counts = COUNTS if self.plan.dest.partition is None else (4, 0, 3)
        self.parts: list[Part] = write_parts(self.work, self.plan, counts, BAD)
        self.old: dict[str, bytes] = {"bucket/other": b"not ours"}
        if self.plan.dest.force:
            self.old |= {"bucket/out/part-000099.parquet": b"old"} if self.folder else {"bucket/out.parquet": b"old"}
            self.old |= (
                {"bucket/out.manifest.json": b'{\n "windrow_manifest": 1,\n "files": []}'} if self.folder else {}
            )
        self._kept = tmp / "kept"
        shutil.copytree(self.work, self._kept)
        ObjectStore.objects.update(self.old)
        self.published = self.publish("reference")
        self.result = dict(ObjectStore.objects)
        assert any(name == "send" for name in ObjectStore.operations)
        assert not self.work.exists()
        assert not ObjectStore.uploads

    def publish(self, unique: str) -> Published:
        return publish_export(self.work, self.plan, self.parts, len(self.parts), unique)

    def reset(self) -> None:
        remove_folder(self.work)
        shutil.copytree(self._kept, self.work)
        ObjectStore.reset()
        ObjectStore.objects.update(self.old)

    def check(self, what: str, published: Published) -> None:
        assert ObjectStore.objects == self.result, what
        # One that was killed between its beginning and its note has sent nothing yet.
        assert not any(one["data"] for one in ObjectStore.uploads.values()), f"{what}: an upload was left over"
        assert published == self.published, what
        assert not self.work.exists(), what

    def check_never_half(self, what: str) -> None:
        """What is there is the old, or the new, or, of a folder, has no manifest."""
        found = ObjectStore.objects
        if self.folder:
            assert (
                "bucket/out.manifest.json" not in found
                or found in (self.old, self.result)
                or all(found[name] == data for name, data in self.result.items() if name != "bucket/out.manifest.json")
                or found == {**self.old}
            ), what
        for name in ("bucket/out.csv", "bucket/out.parquet"):
            assert found.get(name) in (self.old.get(name), self.result.get(name)), what


@pytest.fixture(params=[pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.faults) for kind in KINDS])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, request.param)


@contextlib.contextmanager
def killed_at(at: int) -> Iterator[Any]:
    with hooked(at) as operations:
        ObjectStore.before = staticmethod(operations.before)
        try:
            with contextlib.suppress(Killed):
                yield operations
        finally:
            ObjectStore.before = staticmethod(lambda: None)


def test_an_upload_that_is_killed_anywhere_and_run_again_gives_the_same(scene: Scene) -> None:
    for at in range(1, 10_000):
        scene.reset()
        with killed_at(at) as operations:
            scene.publish("killed")
        scene.check_never_half(f"killed at operation {at}")
        scene.check(f"killed at operation {at}", scene.publish("again"))
        if operations.count < at:
            break
    assert at > 20, "nothing was counted"


def test_an_upload_that_is_killed_leaves_nothing_once_it_is_given_up(scene: Scene) -> None:
    for at in range(1, 10_000, 3):
        scene.reset()
        with killed_at(at) as operations:
            scene.publish("killed")
        if operations.count < at:
            break
        clear_begun(scene.work, scene.plan.dest.path if scene.folder else None)
        manifest = json.loads(ObjectStore.objects.get("bucket/out.manifest.json", b'{"files": []}'))
        missing = [one for one in manifest["files"] if f"bucket/out/{one['name']}" not in ObjectStore.objects]
        assert not missing, f"a manifest without its objects, {at}"
        if manifest["files"]:
            # It had come to its end.
            continue
        assert not any(one["data"] for one in ObjectStore.uploads.values()), at
        if scene.folder and not scene.plan.dest.force:
            assert {name for name in ObjectStore.objects if name.startswith("bucket/out/")} == set(), at


def test_a_folder_goes_on_with_what_is_there_already(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "folder")
    scene.reset()
    sent: list[str] = []
    real = url_publish.upload_file

    def send(work: Path, path: Path, url: str, **named: Any) -> None:
        if len(sent) == 2:
            raise ExportError("no more")
        real(work, path, url, **named)
        sent.append(url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(url_publish, "upload_file", send)
        with pytest.raises(ExportError, match="no more"):
            scene.publish("first")
    # The same command finds its own objects, and does not take them for somebody else's.
    check_target(scene.plan)
    before = ObjectStore.operations.count("complete")
    ObjectStore.objects["bucket/out/notes.txt"] = b"mine"
    with pytest.raises(ExportError, match="out/ exists: give another destination"):
        scene.publish("again")
    del ObjectStore.objects["bucket/out/notes.txt"]
    scene.check("taken up", scene.publish("again"))
    parts = len(scene.result) - len(scene.old) - 2
    assert ObjectStore.operations.count("complete") - before == parts - 2 + 2, "parts were sent twice"


def test_what_is_there_is_refused_without_force_whoever_put_it_there(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "csv")
    scene.reset()
    ObjectStore.objects["bucket/out.csv"] = b"somebody else's"
    for attempt in (lambda: check_target(scene.plan), lambda: scene.publish("x")):
        with pytest.raises(ExportError, match=r"shop://bucket/out.csv exists: give another destination, or --force"):
            attempt()
    # It comes while the upload is under way.
    del ObjectStore.objects["bucket/out.csv"]

    def come() -> None:
        if "bucket/out.csv.manifest.json" in ObjectStore.objects:
            ObjectStore.objects["bucket/out.csv"] = b"somebody else's"

    ObjectStore.before = staticmethod(come)
    with pytest.raises(ExportError, match="exists: give another"):
        scene.publish("y")
    assert ObjectStore.objects["bucket/out.csv"] == b"somebody else's"
    assert not ObjectStore.uploads


def test_force_replaces_a_folder_of_parts_and_nothing_else(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "folder force")
    assert "bucket/out/part-000099.parquet" not in scene.result
    scene.reset()
    check_target(scene.plan)
    ObjectStore.objects["bucket/out/notes.txt"] = b"mine"
    with pytest.raises(ExportError, match=r"out/notes.txt is nothing that an export has written, and --force would"):
        check_target(scene.plan)
    with pytest.raises(ExportError, match=r"notes.txt"):
        scene.publish("x")
    assert ObjectStore.objects["bucket/out/part-000099.parquet"] == b"old"


def test_the_manifest_of_a_folder_says_what_each_object_is(tmp_path: Path) -> None:
    import hashlib

    scene = Scene(tmp_path, "partitions")
    manifest = json.loads(scene.result["bucket/out.manifest.json"])
    named = {f"bucket/out/{one['name']}": one["sha256"] for one in manifest["files"]}
    there = {name: data for name, data in scene.result.items() if name.startswith("bucket/out/")}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in there.items()} == named


def test_memory_is_bounded_by_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[int] = []
    opened = ObjectStore._open

    def note(self: ObjectStore, path: str, mode: str = "rb", block_size: int | None = None, **given: Any) -> Any:
        largest.append(block_size or 0)
        return opened(self, path, mode, block_size, **given)

    monkeypatch.setattr(ObjectStore, "_open", note)
    objects.write_object("shop://bucket/a", [b"x" * 4000], 4000)
    with pytest.raises(ExportError, match="4000 bytes were read"):
        objects.write_object("shop://bucket/b", [b"x" * 4000], 9_000 * 5_000)
    assert largest == [1 << 10, 5_000], "an object has at most BLOCKS_MAX blocks"
    assert "bucket/b" not in ObjectStore.objects
    assert not ObjectStore.uploads


def test_an_upload_that_somebody_else_has_ended_is_no_hindrance(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "csv")
    scene.reset()
    from windrow.export.uploads import note_upload

    note_upload(scene.work, "shop://bucket/out.csv", "gone")
    abort_noted(scene.work)
    scene.check("after", scene.publish("x"))


@pytest.mark.parametrize(
    ("dest", "options", "message"),
    [
        ("shop://bucket/a.csv", {"work_dir": ""}, r"is a URL: give --work-dir, a folder that every node sees"),
        ("shop://bucket/a.csv", {"work_dir": "s3://b/w"}, r"--work-dir s3://b/w is a URL: give a folder"),
        ("https://host/a.csv", {}, "nothing can be written to https://"),
        ("memory://bucket/a.csv", {}, "every process has a memory:// of its own"),
        ("simplecache::shop://b/a.csv", {}, "has :: in it"),
        ("out.csv", {}, "--work-dir is for a destination that is a URL"),
    ],
)
def test_destinations_that_cannot_be_are_refused_at_once(
    tmp_path: Path, dest: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        make_spec("in.csv", dest, **({"work_dir": str(tmp_path)} | options))


@pytest.mark.parametrize(
    ("dest", "sources", "message"),
    [
        ("shop://bucket/out.csv", ["shop://bucket/out.csv"], "the same object"),
        ("shop://bucket/out/", ["shop://bucket/out/a.csv"], "is in the destination"),
        ("shop://bucket/", [], "is a whole bucket"),
        ("shop://none/out.csv", [], "there is no such bucket or folder, make it first"),
        ("shop://forbidden/out.csv", [], "check its permissions, and the credentials of every node"),
        ("shop://bucket/taken.csv", [], "exists: give another destination"),
        ("shop://bucket/taken/", [], "taken/ exists: give another destination"),
        ("nonsense://bucket/a.csv", [], "check what stands before ://"),
    ],
)
def test_destinations_are_checked_before_anything_runs(
    tmp_path: Path, dest: str, sources: list[str], message: str
) -> None:
    ObjectStore.objects.update({"bucket/taken.csv": b"x", "bucket/taken/part-000000.csv": b"x"})
    made = make_plan(dest).dest
    made = dataclasses.replace(made, path=dest.rstrip("/"), work_dir=str(tmp_path))
    from windrow.export.destination import check_destination

    with pytest.raises(ExportError, match=message):
        check_destination(made, sources)
    assert not ObjectStore.uploads
    with pytest.raises(ExportError, match=r"--work-dir.*does not exist: make it first"):
        check_destination(dataclasses.replace(made, work_dir=str(tmp_path / "none")), [])


def test_a_pattern_that_names_the_destination_is_refused(tmp_path: Path) -> None:
    from windrow.export.destination import check_destination

    dest = dataclasses.replace(make_plan("shop://bucket/d/out.csv").dest, work_dir=str(tmp_path))
    with pytest.raises(ExportError, match=r"is one of the sources that shop://bucket/d/\*.csv names"):
        check_destination(dest, [], ["shop://bucket/d/*.csv"])
    check_destination(dest, ["shop://bucket/other.csv", "/bucket/d/out.csv"], ["shop://bucket/*.csv"])


def test_a_whole_export_goes_from_url_to_url(cluster: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        ObjectStore.objects[f"bucket/in-{number}.csv"] = f"a,b\n{number},x\n".encode()
    source, dest = "shop://bucket/in-*.csv", "shop://bucket/out.csv"
    summary = export_run.export(cluster, source, dest, work_dir=str(tmp_path)).wait()
    assert ObjectStore.objects["bucket/out.csv"] == b"a,b\n1,x\n2,x\n"
    assert (summary.path, summary.rows) == ("shop://bucket/out.csv", 2)
    assert list(tmp_path.iterdir()) == []
    assert not ObjectStore.uploads


def test_a_cancelled_export_leaves_no_upload_and_no_half_folder(cluster: Any, tmp_path: Path) -> None:
    ObjectStore.objects["bucket/in.csv"] = b"a,b\n1,x\n2,y\n"

    def stop() -> None:
        if sum(name == "complete" for name in ObjectStore.operations) == 1:
            ObjectStore.before = staticmethod(lambda: None)
            raise ExportError("the wire is cut")

    ObjectStore.before = staticmethod(stop)
    made = export_run.export(
        cluster, "shop://bucket/in.csv", "shop://bucket/out/", to="csv", work_dir=str(tmp_path), segment_bytes=4
    )
    with pytest.raises(ExportError, match="the wire is cut"):
        made.wait()
    assert ObjectStore.operations.count("complete") == 1, "one object was there already"
    assert set(ObjectStore.objects) == {"bucket/in.csv"}
    assert not ObjectStore.uploads
    # The parts are kept, and the same command goes on with them.
    again = export_run.export(
        cluster, "shop://bucket/in.csv", "shop://bucket/out/", to="csv", work_dir=str(tmp_path), segment_bytes=4
    )
    assert again.wait().files == 2
    assert any("finished parts are taken up" in line for line in again.progress().notes)
    assert list(tmp_path.iterdir()) == []
