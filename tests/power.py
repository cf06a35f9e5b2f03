"""Rebuilds what a power cut may leave of a folder: a process runs with tests/disk_log.c, and its log is cut anywhere.

What a sync has covered is there. Of what was written since, any part may be there: any sectors of any writes, in any
order, and names that were made or removed count once their folder was synced. So this is harsher than most disks, and
kinder than a broken one, which says that it has synced and has not.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("disk_log.c")
SECTOR_BYTES = 512
_HEAD = struct.Struct("<5Q")


class What(IntEnum):
    WRITE, TRUNCATE, SYNC, CREATE, UNLINK, MKDIR = range(6)


@dataclass(frozen=True, slots=True)
class Step:
    """One call that changed the folder; `path` is relative to it, empty for the folder itself."""

    what: What
    path: str
    offset: int = 0
    data: bytes = b""


Files = dict[str, bytes]
"""Contents by path. A folder that holds nothing is not there."""


@dataclass
class _Inode:
    synced: bytearray = field(default_factory=bytearray)
    since: list[Step] = field(default_factory=list[Step])


def build_logger(folder: Path) -> Path:
    """The shared object of disk_log.c."""
    made = folder / "disk_log.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is missing; as root: apt-get install -y --no-install-recommends gcc libc6-dev"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def run_logged(logger: Path, folder: Path, log: Path, code: str, *arguments: str) -> list[Step]:
    """Run Python code in a process of its own, and return what it did to the folder."""
    environment = os.environ | {"LD_PRELOAD": str(logger), "DISK_LOG_FOLDER": str(folder), "DISK_LOG": str(log)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(_read_log(log, str(folder)))


def _read_log(log: Path, folder: str) -> Iterator[Step]:
    data = log.read_bytes()
    at = 0
    while at < len(data):
        what, path_bytes, offset, length, _ = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        path = data[at : at + path_bytes].decode().removeprefix(folder).lstrip("/")
        at += path_bytes
        written = length if what == What.WRITE else 0
        yield Step(What(what), path, offset, data[at : at + written])
        at += written


class Disk:
    """A folder as the disk has it while the steps of a log are played to it one by one."""

    def __init__(self, files: Files) -> None:
        """`files` lie there from long ago."""
        self._inodes = {path: _Inode(bytearray(data)) for path, data in files.items()}
        """By the names of now."""
        self._synced: dict[str, _Inode | None] = dict(self._inodes)
        """By the names that are sure; None: a folder."""
        for path in files:
            self._synced |= {str(above): None for above in Path(path).parents if above != Path(".")}
        self._since: list[tuple[str, _Inode | None, bool]] = []
        """Names made and removed, not sure yet: name, what it names, whether it is there."""

    def play(self, step: Step) -> None:
        match step.what:
            case What.WRITE | What.TRUNCATE:
                self._inodes[step.path].since.append(step)
            case What.CREATE:
                self._inodes[step.path] = _Inode()
                self._since.append((step.path, self._inodes[step.path], True))
            case What.UNLINK:
                self._since.append((step.path, self._inodes.pop(step.path), False))
            case What.MKDIR:
                self._since.append((step.path, None, True))
            case What.SYNC:
                self._sync(step.path)

    def now(self) -> Files:
        """What every process sees, power being on."""
        return {path: _contents(inode, inode.since) for path, inode in self._inodes.items()}

    def after_power_cut(self, rng: random.Random) -> Files:
        """One of the states that may be found: of what was not synced nothing, all, the first part, or any part."""
        share = rng.choice([0.0, 1.0, 0.05, 0.5, 0.95])
        in_order = rng.random() < 0.5
        names = dict(self._synced)
        first: set[str] = set()
        for name, inode, there in self._since:
            # Of the changes of one name the first ones; names are independent of each other.
            if name in first or rng.random() >= share:
                first.add(name)
            elif there:
                names[name] = inode
            else:
                names.pop(name, None)
        return {
            name: _contents(inode, _survivors(inode.since, share, in_order, rng))
            for name, inode in names.items()
            if inode is not None and all(str(above) in names for above in Path(name).parents if above != Path("."))
        }

    def _sync(self, path: str) -> None:
        inode = self._inodes.get(path)
        if inode is not None:
            inode.synced = bytearray(_contents(inode, inode.since))
            inode.since.clear()
            return
        rest: list[tuple[str, _Inode | None, bool]] = []
        for name, named, there in self._since:
            if str(Path(name).parent) != (path or "."):
                rest.append((name, named, there))
            elif there:
                self._synced[name] = named
            else:
                self._synced.pop(name, None)
        self._since = rest


def _survivors(steps: list[Step], share: float, in_order: bool, rng: random.Random) -> Iterator[Step]:
    kept_steps = round(len(steps) * rng.random()) if in_order and 0.0 < share < 1.0 else len(steps)
    for at, step in enumerate(steps[: kept_steps + 1]):
        whole = in_order and at < kept_steps and share > 0.0
        if step.what == What.TRUNCATE:
            if whole or rng.random() < share:
                yield step
            continue
        begin = step.offset
        end = step.offset + len(step.data)
        while begin < end:
            stop = min(end, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if whole or rng.random() < share:
                yield Step(step.what, step.path, begin, step.data[begin - step.offset : stop - step.offset])
            begin = stop


def _contents(inode: _Inode, steps: Iterator[Step] | list[Step]) -> bytes:
    data = bytearray(inode.synced)
    for step in steps:
        size = step.offset if step.what == What.TRUNCATE else step.offset + len(step.data)
        if len(data) < size:
            data.extend(bytes(size - len(data)))
        if step.what == What.TRUNCATE:
            del data[size:]
        else:
            data[step.offset : size] = step.data
    return bytes(data)


def lay_out(files: Files, folder: Path) -> None:
    """Write the files into an empty folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
