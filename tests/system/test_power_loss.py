"""The power is cut at every sync of the scheduler's store, and everything that a commit had returned for is there."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.power import Disk, Files, Step, What, build_logger, lay_out, run_logged
from windrow.common.blocks import block_entries
from windrow.common.errors import WindrowError
from windrow.common.words import Fence, JobId
from windrow.scheduler.store import SqlStore, open_store

pytestmark = pytest.mark.system

JOB = JobId("JOB0000000000001")
COMMITS = 28
STATE = "new/state"
TOLD = "told"
LIFE = """
import os, pathlib, sys, threading, time
from windrow.common.blocks import pack_block
from windrow.common.options import JobOptions
from windrow.common.words import *
from windrow.scheduler.core.records import *
from windrow.scheduler.store import open_store, sqlite

folder, synchronous, commits = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sqlite._PRAGMAS = tuple(p.replace("synchronous = FULL", "synchronous = " + synchronous) for p in sqlite._PRAGMAS)
told = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
store = open_store("", state_dir=folder / "new" / "state", clock=time.time)
os.write(told, f"open {store.epoch} {store.cluster} {store.secret.hex()}\\n".encode())
job = JobId("JOB0000000000001")
if store.find_job(job) is None:
    store.commit([PutJob(1, job, "t:u", "", JobOptions(), False, None, (), None, 0, True, JobState.RUNNING, 0.0)])
first = len(store.load().chunks)
os.write(told, f"done {first}\\n".encode())
housekeeping = []
for at in range(first, first + commits):
    size = (1, 300, 9_000)[at % 3]
    block = pack_block([f"{at}/".encode() * size, str(at).encode()])
    store.commit([PutChunk(Fence(1, at), 1, 2 * at, 2 * at + 2, NodeId("n")),
                  PutValues(1, 2 * at, 2, block, (Range(2 * at, 2 * at + 2),)),
                  PutLosses(1, 2 * at, 2 * at + 1, at + 1)])
    os.write(told, f"done {at + 1}\\n".encode())
    if at % 7 == 3:
        housekeeping.append(threading.Thread(target=store.checkpoint))
        housekeeping[-1].start()
    if at % 14 == 13:
        # To its end, so that the log begins anew.
        for thread in housekeeping:
            thread.join()
        store.checkpoint()
for thread in housekeeping:
    thread.join()
os._exit(0)
"""


@dataclass
class Told:
    """What somebody was told before the power went."""

    epoch: int = 0
    cluster: str = ""
    secret: str = ""
    commits: int = -1
    """-1: not even that the job is there."""

    def hear(self, line: str) -> None:
        kind, *rest = line.split()
        if kind == "open":
            self.epoch, self.cluster, self.secret = int(rest[0]), rest[1], rest[2]
        else:
            self.commits = int(rest[0])


@pytest.fixture(scope="module")
def logger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_logger(tmp_path_factory.mktemp("logger"))


def live(logger: Path, folder: Path, files: Files, synchronous: str = "FULL") -> list[Step]:
    """One life of a store that begins with these files; what it did to them, checked against what it left."""
    home = (folder / "home").resolve()
    home.mkdir(parents=True)
    lay_out(files, home)
    steps = run_logged(logger, home, folder / "log", LIFE, str(home), synchronous, str(COMMITS))
    disk = Disk(files)
    for step in steps:
        disk.play(step)
    left = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    for name, data in disk.now().items():
        assert name.endswith("-shm") or left[name] == data, f"a change of {name} was not logged"
    assert left.keys() == disk.now().keys()
    return steps


def power_cuts(steps: list[Step], files: Files, told: Told, rng: random.Random) -> Iterator[Files]:
    """What may be found after a cut at each sync and each word given; `told` keeps up with it."""
    disk = Disk(files)
    for step in steps:
        if step.path == TOLD:
            if step.what == What.WRITE:
                told.hear(step.data.decode())
                yield disk.after_power_cut(rng)
            continue
        if step.what in (What.SYNC, What.UNLINK):
            # Before it, when the most is open; and for each there is more than one way to go wrong.
            yield disk.after_power_cut(rng)
            yield disk.after_power_cut(rng)
        disk.play(step)
        if step.what == What.SYNC:
            yield disk.after_power_cut(rng)


def whats_wrong(files: Files, folder: Path, told: Told, rng: random.Random) -> str:
    """Opens the store that was found, as a scheduler does at its start; empty when all that was told is there."""
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(files, folder)
    shared = folder / STATE / "windrow.db-shm"
    if shared.exists():
        # Memory of processes that are gone: whatever lies there says nothing.
        shared.write_bytes(rng.randbytes(rng.choice([0, 100, 32768])))
    try:
        store = open_store("", state_dir=folder / STATE, clock=lambda: 0.0)
    except WindrowError as error:
        return f"not opened: {error}"
    try:
        return _compare(store, told)
    except WindrowError as error:
        return f"not read: {error}"
    finally:
        store.close()


def _compare(store: SqlStore, told: Told) -> str:
    if told.epoch and (store.cluster, store.secret.hex()) != (told.cluster, told.secret):
        return "another cluster"
    if store.epoch <= told.epoch:
        return f"epoch {store.epoch} again"
    snapshot = store.load()
    if not snapshot.jobs:
        return "the job is lost" if told.commits >= 0 else ""
    count = len(snapshot.chunks)
    if not max(0, told.commits) <= count <= max(0, told.commits) + 1:
        return f"{told.commits} commits were told, {count} are there"
    job = snapshot.jobs[0]
    fences = [chunk.fence for chunk in snapshot.chunks]
    if fences != [Fence(1, at) for at in range(count)] or tuple(job.done) != ((0, 2 * count) if count else ()):
        return f"half a commit: {count} chunks, done {job.done}"
    if [loss.losses for loss in job.losses] != list(range(1, count + 1)):
        return f"half a commit: {count} chunks, losses {job.losses}"
    return _compare_values(store, count)


def _compare_values(store: SqlStore, count: int) -> str:
    found: list[bytes] = []
    while len(found) < 2 * count:
        page = store.read_results(JOB, len(found), 2 * count, 1 << 20)
        if not page.values:
            return f"values from {len(found)} on are gone"
        for run in page.values:
            found += block_entries(run.block)
    expected = [f"{at}/".encode() * (1, 300, 9_000)[at % 3] if first else str(at).encode()
                for at in range(count) for first in (True, False)]  # fmt: skip
    return "" if found == expected else "other values"


def test_whatever_a_commit_returned_for_is_there_after_a_power_cut(logger: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    files: Files = {}
    told = Told()
    seen = 0
    for life in range(2):
        steps = live(logger, tmp_path / f"life{life}", files)
        assert sum(step.path.endswith(".db-wal") and step.offset == 0 for step in steps) > 1, "the log never began anew"
        last = files
        for found in power_cuts(steps, files, told, rng):
            wrong = whats_wrong(found, tmp_path / "found", told, rng)
            assert not wrong, f"cut {seen} in life {life}: {wrong}"
            seen += 1
            last = found
        # The next life begins with what the last cut left: with a log that is to be recovered.
        files = {name: data for name, data in last.items() if name != TOLD}
    assert seen > 200


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_store_that_does_not_sync_each_commit_is_found_out(logger: Path, tmp_path: Path, synchronous: str) -> None:
    rng = random.Random(2)
    told = Told()
    steps = live(logger, tmp_path / "life", {}, synchronous)
    wrong = (whats_wrong(found, tmp_path / "found", told, rng) for found in power_cuts(steps, {}, told, rng))
    assert any(wrong)
