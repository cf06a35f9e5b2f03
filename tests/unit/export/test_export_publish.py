"""What is at the destination after merges that are killed, repeated, and at work twice at once."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.export_output import Bad, Killed, hooked, make_plan, tree, write_parts
from windrow.common.errors import ExportError
from windrow.export.destination import recover_folder, remove_tree
from windrow.export.joining import join_prefix, join_whole, whole_path
from windrow.export.model import Errors, Part, Plan
from windrow.export.parts import skipped_part
from windrow.export.publish import Published, check_target, publish_export

COUNTS = (5, 0, 7, 4)
BAD = {2: [Bad(30, text='a,"b')], 3: [Bad(41)]}

KINDS: dict[str, Callable[[Path], Plan]] = {
    "csv": lambda at: make_plan(at / "out.csv", errors=Errors(None)),
    "csv limited": lambda at: make_plan(at / "out.csv", limit=8, errors=Errors(None)),
    "jsonl gzip manifest": lambda at: make_plan(at / "o", "jsonl", compression="gzip", manifest=True, errors=Errors(9)),
    "parquet": lambda at: make_plan(at / "out.parquet", "parquet", errors=Errors(9)),
    "parquet limited": lambda at: make_plan(at / "out.parquet", "parquet", limit=13, errors=Errors(9)),
    "parquet force": lambda at: make_plan(at / "out.parquet", "parquet", force=True, errors=Errors(9)),
    "folder": lambda at: make_plan(f"{at}/out/", errors=Errors(9), limit=11, manifest=True),
    "folder force": lambda at: make_plan(f"{at}/out/", "parquet", force=True, errors=Errors(9)),
    "partitions": lambda at: make_plan(f"{at}/out/", partition=2, errors=Errors(9), limit=3, force=True),
}


class Scene:
    """A folder with an export that is ready to be merged, of which there may be many copies."""

    def __init__(self, tmp: Path, kind: str) -> None:
        self._tmp = tmp
        self.here = tmp / "here"
        self.here.mkdir()
        self.plan = KINDS[kind](self.here)
        self.work = self.here / ".out.windrow-1"
        # Each value of a partition is a file, and each file some operations.
        counts = COUNTS if self.plan.dest.partition is None else (2, 0, 2)
        self.parts = write_parts(self.work, self.plan, counts, BAD)
        if self.plan.dest.force and self.plan.dest.folder:
            (self.here / "out" / "kind=old").mkdir(parents=True)
            (self.here / "out" / "part-000099.csv").write_text("old")
        elif self.plan.dest.force:
            Path(self.plan.dest.path).write_text("old")
        shutil.copytree(self.here, tmp / "kept")
        self.published = self.merge("reference")
        self.result = tree(self.here)
        assert not [name for name in self.result if "windrow" in name], "leftovers"

    def merge(self, unique: str) -> Published:
        return publish_export(self.work, self.plan, self.parts, len(self.parts), unique)

    def reset(self) -> None:
        shutil.rmtree(self.here)
        shutil.copytree(self._tmp / "kept", self.here)

    def check(self, what: str, published: Published | None = None) -> None:
        assert tree(self.here) == self.result, what
        if published is not None:
            assert dataclasses.replace(published, sha256="") == dataclasses.replace(self.published, sha256=""), what


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is processes that die here, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


QUICK = ("csv limited", "parquet force", "folder")
"""Between them they go every way; the other kinds take their time beside the faults."""


@pytest.fixture(params=[pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.faults) for kind in KINDS])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, request.param)


def test_a_merge_that_is_killed_anywhere_and_run_again_gives_the_same(scene: Scene) -> None:
    for at in range(1, 10_000):
        scene.reset()
        with hooked(at) as operations, contextlib.suppress(Killed):
            scene.merge("killed")
        dest = Path(scene.plan.dest.path.rstrip("/"))
        if dest.exists() and not scene.plan.dest.force:
            name = dest.name
            now = {one: data for one, data in tree(scene.here).items() if one.split("/")[0] == name}
            then = {one: data for one, data in scene.result.items() if one.split("/")[0] == name}
            assert now == then, f"half a destination after operation {at}"
        scene.check(f"killed at operation {at}", scene.merge("again"))
        if operations.count < at:
            break
    assert at > 20, "nothing was counted"
    scene.check("once more", scene.merge("once more"))


def test_a_merge_that_is_killed_again_and_again_gives_the_same(scene: Scene) -> None:
    dice = random.Random(4)
    for _ in range(30):
        scene.reset()
        kills = [dice.randrange(1, 80) for _ in range(4)]
        for number, at in enumerate(kills):
            with hooked(at), contextlib.suppress(Killed):
                if dice.random() < 0.3:
                    join_prefix(scene.work, scene.plan, scene.parts[: dice.randrange(4)])
                scene.merge(f"killed-{number}")
        scene.check(f"killed at {kills}", scene.merge("again"))


def test_a_file_system_without_links_does_as_well(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*given: object, **named: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    for at in range(1, 10_000):
        scene.reset()
        with hooked(at) as operations, contextlib.suppress(Killed):
            scene.merge("killed")
        scene.check(f"killed at operation {at}", scene.merge("again"))
        if operations.count < at:
            break


def test_two_merges_at_once_give_the_same(scene: Scene) -> None:
    for at in range(1, 10_000):
        scene.reset()
        with hooked(at, lambda: scene.check("the faster one", scene.merge("faster"))) as operations:
            published = scene.merge("slower")
        scene.check(f"overtaken at operation {at}", published)
        if operations.count < at:
            break
    assert at > 20, "nothing was counted"


def test_a_merge_beside_one_that_comes_to_any_point_gives_the_same(scene: Scene) -> None:
    dice = random.Random(4)
    for _ in range(60):
        scene.reset()
        mine, theirs = dice.randrange(1, 60), dice.randrange(1, 90)

        def other(theirs: int = theirs) -> None:
            with hooked(theirs), contextlib.suppress(Killed):
                scene.merge("other")

        with hooked(mine, other):
            published = scene.merge("mine")
        scene.check(f"at operation {mine} the other one came to {theirs}", published)


def test_joining_early_that_is_killed_anywhere_changes_nothing(scene: Scene) -> None:
    for at in range(1, 10_000):
        scene.reset()
        with hooked(at) as operations, contextlib.suppress(Killed):
            join_prefix(scene.work, scene.plan, scene.parts[:1])
            join_prefix(scene.work, scene.plan, scene.parts[:3])
        scene.check(f"killed at operation {at}", scene.merge("merge"))
        if operations.count < at:
            break


def test_joining_early_beside_a_merge_changes_nothing(scene: Scene) -> None:
    for at in range(1, 10_000):
        scene.reset()
        with hooked(at, lambda: scene.check("the merge", scene.merge("merge"))) as operations:
            join_prefix(scene.work, scene.plan, scene.parts[:3])
        if operations.count < at:
            break
        # It may have come too late to a work folder that was being removed.
        shutil.rmtree(scene.work, ignore_errors=True)
        scene.check(f"overtaken at operation {at}")


def test_what_was_joined_early_is_not_joined_again(tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        plan = make_plan(tmp_path / f"out.{kind}", kind)
        work = tmp_path / f"work-{kind}"
        parts = write_parts(work, plan, (5, 6, 7))
        prefix = join_prefix(work, plan, parts[:2])
        assert prefix.parts == 2
        assert join_prefix(work, plan, parts[:2]) == prefix
        # Were it read again, it would be missed: the joined bytes are marked.
        whole = whole_path(work, plan)
        data = bytearray(whole.read_bytes())
        data[10] ^= 1
        whole.write_bytes(data)
        publish_export(work, plan, parts, 3, "u")
        assert Path(plan.dest.path).read_bytes()[: prefix.bytes] == bytes(data)


def test_footers_that_this_process_has_read_are_not_read_again(tmp_path: Path) -> None:
    plan, work = make_plan(tmp_path / "out.parquet", "parquet"), tmp_path / "work"
    parts = write_parts(work, plan, (5, 6, 7))
    expected = join_whole(work, plan, parts).read_bytes()
    whole_path(work, plan).unlink()
    whole_path(work, plan).with_suffix(".json").unlink()
    assert join_prefix(work, plan, parts[:2]).parts == 2
    for part in parts[:2]:
        (work / part.files[0]).write_bytes(b"")
    assert join_whole(work, plan, parts).read_bytes() == expected


def test_footers_that_were_read_for_another_file_do_not_count(tmp_path: Path) -> None:
    plan, work = make_plan(tmp_path / "out.parquet", "parquet"), tmp_path / "work"
    parts = write_parts(work, plan, (5, 6, 7))
    join_prefix(work, plan, parts[:2])
    # Another one under the same name, as long, with a journal that fits: what was read of the first says nothing.
    path = whole_path(work, plan)
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)
    for part in parts[:2]:
        (work / part.files[0]).write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be joined"):
        join_whole(work, plan, parts)


def test_a_look_that_failed_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    plan, work = make_plan(tmp_path / "out.parquet", "parquet"), tmp_path / "work"
    parts = write_parts(work, plan, (5, 6, 7))
    expected = join_whole(work, plan, parts).read_bytes()
    whole_path(work, plan).unlink()
    whole_path(work, plan).with_suffix(".json").unlink()
    join_prefix(work, plan, parts[:1])
    # The second part is added, and then the third one is not what it was.
    right = (work / parts[2].files[0]).read_bytes()
    (work / parts[2].files[0]).write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be joined"):
        join_whole(work, plan, parts)
    (work / parts[2].files[0]).write_bytes(right)
    assert join_whole(work, plan, parts).read_bytes() == expected


@pytest.mark.parametrize("journal", ["{", '{"parts": 2, "bytes": 17}', '{"parts": 9, "bytes": 20}', '{"parts": 0}'])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_journal_that_does_not_fit_is_ignored(tmp_path: Path, kind: str, journal: str) -> None:
    plan = make_plan(tmp_path / "out", kind)
    parts = write_parts(tmp_path / "work", plan, (5, 6, 7))
    publish_export(tmp_path / "work", plan, parts, 3, "u")
    expected = (tmp_path / "out").read_bytes()
    (tmp_path / "out").unlink()
    parts = write_parts(tmp_path / "work", plan, (5, 6, 7))
    whole_path(tmp_path / "work", plan).write_bytes(b"x" * 100_000)
    whole_path(tmp_path / "work", plan).with_suffix(".json").write_text(journal)
    publish_export(tmp_path / "work", plan, parts, 3, "u")
    assert (tmp_path / "out").read_bytes() == expected


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_journal_of_more_than_there_is_is_ignored(tmp_path: Path, kind: str) -> None:
    plan = make_plan(tmp_path / "out", kind)
    parts = write_parts(tmp_path / "work", plan, (5, 6, 7))
    publish_export(tmp_path / "work", plan, parts, 3, "u")
    expected = (tmp_path / "out").read_bytes()
    (tmp_path / "out").unlink()
    parts = write_parts(tmp_path / "work", plan, (5, 6, 7))
    join_prefix(tmp_path / "work", plan, parts[:2])
    os.truncate(whole_path(tmp_path / "work", plan), 10)
    publish_export(tmp_path / "work", plan, parts, 3, "u")
    assert (tmp_path / "out").read_bytes() == expected


def test_a_destination_that_has_appeared_is_not_replaced(tmp_path: Path) -> None:
    for name in ("out.csv", "out/"):
        plan = make_plan(f"{tmp_path}/{name}", manifest=True)
        parts = write_parts(tmp_path / "work", plan, (5,))
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("theirs")
        with pytest.raises(ExportError, match="appeared meanwhile"):
            publish_export(tmp_path / "work", plan, parts, 1, "u")
        assert not list(tmp_path.glob("*.manifest.json"))
        remove_tree(tmp_path / "work")


def test_a_destination_that_appears_at_the_last_moment_is_not_replaced(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv")
    parts = write_parts(tmp_path / "work", plan, (5,))
    shutil.copytree(tmp_path / "work", tmp_path / "kept")
    refused = 0
    for at in range(1, 1000):
        (tmp_path / "out.csv").unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        shutil.copytree(tmp_path / "kept", tmp_path / "work")

        def appear() -> None:
            if not (tmp_path / "out.csv").exists():
                (tmp_path / "out.csv").write_text("theirs")

        with hooked(at, appear) as operations, contextlib.suppress(ExportError):
            publish_export(tmp_path / "work", plan, parts, 1, "u")
        if operations.count < at:
            break
        if (tmp_path / "out.csv").read_text() == "theirs":
            refused += 1
            with pytest.raises(ExportError, match="appeared meanwhile"):
                publish_export(tmp_path / "work", plan, parts, 1, "again")
    assert refused > 5


def test_a_destination_that_appears_between_two_runs_keeps_what_lies_beside_it(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv", manifest=True)
    parts = write_parts(tmp_path / "work", plan, (5,))
    at = 0
    while not (tmp_path / "work" / "published.json").exists():
        at += 1
        with hooked(at), contextlib.suppress(Killed):
            publish_export(tmp_path / "work", plan, parts, 1, f"killed-{at}")
    (tmp_path / "out.csv").write_text("theirs")
    with pytest.raises(ExportError, match="appeared meanwhile"):
        publish_export(tmp_path / "work", plan, parts, 1, "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "work"]


def test_a_gap_or_a_skipped_part_is_refused(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv", limit=100)
    parts = write_parts(tmp_path / "work", plan, (5, 6, 7))
    wrong: list[list[Part]] = [parts[:2], [parts[0], parts[2]], [parts[0], skipped_part(1), parts[2]]]
    for some in wrong:
        with pytest.raises(ExportError, match="start the export again"):
            publish_export(tmp_path / "work", plan, some, 3, "u")


def test_what_is_behind_the_cut_may_be_missing_or_skipped(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv", limit=8)
    for rest in ([], [skipped_part(2)]):
        parts = write_parts(tmp_path / "work", plan, (5, 6))
        published = publish_export(tmp_path / "work", plan, [*parts, *rest], 3, "u")
        assert (published.rows, published.segments) == (8, 2)
        (tmp_path / "out.csv").unlink()


def test_a_merge_of_parts_that_have_gone_says_so(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out.csv")
    parts = write_parts(tmp_path / "work", plan, (5, 6))
    (tmp_path / "work" / parts[1].files[0]).unlink()
    with pytest.raises(ExportError, match="has gone before it was joined"):
        publish_export(tmp_path / "work", plan, parts, 2, "u")
    remove_tree(tmp_path / "work")
    (tmp_path / "out.csv").write_text("not what the parts make")
    with pytest.raises(ExportError, match="has gone before it was joined"):
        publish_export(tmp_path / "work", plan, parts, 2, "u")


def test_a_part_of_another_size_is_refused(tmp_path: Path) -> None:
    for name in ("out.csv", "out/"):
        plan = make_plan(f"{tmp_path}/{name}")
        parts = write_parts(tmp_path / "work", plan, (5, 6))
        with open(tmp_path / "work" / parts[1].files[0], "ab") as file:
            file.write(b"more")
        with pytest.raises(ExportError, match="were written"):
            publish_export(tmp_path / "work", plan, parts, 2, "u")
        remove_tree(tmp_path / "work")


def test_an_old_folder_that_was_put_aside_comes_back(tmp_path: Path) -> None:
    """A kill between putting the old folder aside and the new one in its place, and no merge after it."""
    plan = make_plan(f"{tmp_path}/out/", force=True)
    for how in ("discard", "next run"):
        parts = write_parts(tmp_path / "work", plan, (5, 6))
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "part-000000.csv").write_text("old")
        shutil.copytree(tmp_path, tmp_path.parent / f"kept-{how}")
        seen = False
        for at in range(1, 1000):
            with hooked(at) as operations, contextlib.suppress(Killed):
                publish_export(tmp_path / "work", plan, parts, 2, f"u{at}")
            if not (tmp_path / "out").exists():
                seen = True
                recover_folder(tmp_path / "out") if how == "discard" else check_target(plan)
                assert (tmp_path / "out" / "part-000000.csv").read_text() == "old"
                break
            if operations.count < at:
                break
            shutil.rmtree(tmp_path)
            shutil.copytree(tmp_path.parent / f"kept-{how}", tmp_path)
        assert seen
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()


def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    plan = make_plan(f"{tmp_path}/out/", force=True)
    parts = write_parts(tmp_path / "work", plan, (5,))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("years of work")
    with pytest.raises(ExportError, match=r"thesis\.doc is nothing that an export has written"):
        publish_export(tmp_path / "work", plan, parts, 1, "u")
    assert (tmp_path / "out" / "thesis.doc").read_text() == "years of work"
