"""Joins parts in source order as bytes into one file, a finished prefix early and the rest when all are there.

The file lies in the work folder and is named after what it is made of. Every run writes the same bytes at the same
places, so that any number of them may be at it at once, and none ever truncates what another may still need. A journal
beside it says how many parts are in it and on the disk; one that does not fit is as good as none.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from windrow.common.codec import to_plain
from windrow.common.errors import ExportError, Retry
from windrow.export.cutting import find_cut, note_cut
from windrow.export.disk import check_disk, full_disk_is_retried
from windrow.export.encode import empty_columns, encode_head, encode_rows
from windrow.export.model import Part, Plan
from windrow.export.parquet_join import ParquetJoiner
from windrow.export.parts import file_names, write_new
from windrow.export.records import RecordKind

COPY_BYTES = 1 << 20
JOURNAL_BYTES = 256 << 20
"""After so many bytes what has been joined is put on the disk and noted."""
KEPT_BYTES_MAX = 64 << 20
"""Of footers that a process keeps for its next look; with more, it reads them again."""

_NOT_IN_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
"""What the kernel says where it cannot copy from file to file."""

Progress = Callable[[int, int], None]
"""Told how many parts and bytes are joined."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """How much is joined."""

    parts: int
    bytes: int


_PREFIX = RecordKind(Prefix)


@dataclass(frozen=True, slots=True)
class _Kept:
    """How far this process has come with a Parquet file, which else only reading all footers again would tell."""

    path: Path
    inode: int
    parts: tuple[Part, ...]
    joiner: ParquetJoiner
    head_bytes: int

    def fits(self, path: Path, about: os.stat_result, noted: Sequence[Part]) -> bool:
        """Whether that file, which has these parts, begins with what was joined."""
        return (self.path, self.inode, self.parts) == (path, about.st_ino, tuple(noted[: len(self.parts)]))


_kept: list[_Kept] = []
"""One at most; none while it is being added to."""


def whole_path(work: Path, plan: Plan) -> Path:
    """Where the parts are joined."""
    about = [to_plain(one) for one in (plan.spec, plan.sources, plan.output, plan.steps, plan.write_form, plan.windrow)]
    key = hashlib.sha256(json.dumps(about, ensure_ascii=False).encode()).hexdigest()[:16]
    return work / f"whole-{key}.tmp"


def join_prefix(work: Path, plan: Plan, parts: Sequence[Part], progress: Progress | None = None) -> Prefix:
    """Join the parts, which are the first ones without a gap, as far as that needs nothing but bytes.

    What is joined already is not joined again. Does nothing for a folder, on a disk that is nearly full, and where the
    work folder has gone: joining early is never needed. join_whole takes over from here.
    """
    nothing = Prefix(0, 0)
    try:
        cut = find_cut(plan, parts)
        if cut is not None:
            note_cut(work, cut, os.urandom(8).hex())
            # The one that is cut is for join_whole, when it is known that the export does not fail.
            parts = parts[: cut.parts - 1]
        if plan.dest.folder:
            return nothing
        with full_disk_is_retried(work), Joining(work, plan) as joining:
            return joining.add(parts, progress)
    except (FileNotFoundError, Retry):
        return nothing


def join_whole(work: Path, plan: Plan, parts: Sequence[Part], progress: Progress | None = None) -> Path:
    """The file with all of these parts, which are cut already. Retry where the disk has no room for it."""
    with full_disk_is_retried(work), Joining(work, plan) as joining:
        joining.add(parts, progress)
        joining.finish()
    return whole_path(work, plan)


class Joining:
    """The file while parts are added to it; kept open, it joins only what is new each time."""

    def __init__(self, work: Path, plan: Plan) -> None:
        self._work = work
        self._is_parquet = plan.write_form.kind == "parquet"
        self._form = plan.write_form
        self._path = whole_path(work, plan)
        self._names, self._types = file_names(plan)
        self._done: Prefix | None = None

    def __enter__(self) -> Joining:
        # Never truncated: another run may have written more, and the bytes are the same.
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._noted = self._read_journal()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def add(self, parts: Sequence[Part], progress: Progress | None = None) -> Prefix:
        """Bring the file to all of these parts, from the first on, and note it. Retry where there is no room."""
        if [part.segment for part in parts] != list(range(len(parts))):
            raise ExportError("parts to be joined have a gap: start the export again")
        missing = sum(part.bytes for part in parts) - max(self._noted.bytes, self._done.bytes if self._done else 0)
        check_disk(self._work, max(0, missing))
        done = self._done
        if done is None:
            done = self._take_over(parts)
        for part in parts[done.parts :]:
            self._check_place()
            done = self._add_part(part, done)
            if done.bytes - self._noted.bytes >= JOURNAL_BYTES:
                self._note(done)
            if progress is not None:
                progress(done.parts, done.bytes)
        self._done = done
        self._note(done)
        if self._is_parquet and self._joiner.kept_bytes <= KEPT_BYTES_MAX:
            inode = os.fstat(self._handle).st_ino
            _kept[:] = [_Kept(self._path, inode, tuple(parts), self._joiner, self._head_bytes)]
        return done

    def finish(self) -> None:
        """Put the end and everything else on the disk. Only when no further part will come."""
        assert self._done is not None, "nothing was added"
        _kept.clear()
        end = self._done.bytes
        if self._is_parquet:
            if end == self._head_bytes:
                self._add_empty()
            end = self._joiner.finish().bytes
        # What an earlier journal that did not fit has left behind the end.
        os.ftruncate(self._handle, end)
        os.fsync(self._handle)

    def _take_over(self, parts: Sequence[Part]) -> Prefix:
        """What the journal speaks of, if that is the beginning of these parts; else a new beginning."""
        noted = self._noted
        if 0 < noted.parts <= len(parts):
            done = self._begin_with_kept(parts, noted) or self._begin(noted.bytes)
            for part in parts[done.parts : noted.parts]:
                done = self._pass_part(part, done)
            if done == noted:
                return done
        self._noted = Prefix(0, 0)
        return self._begin(0)

    def _begin_with_kept(self, parts: Sequence[Part], noted: Prefix) -> Prefix | None:
        """Go on where this process has ended its last look, if that is the beginning of these parts."""
        # Taken out: whoever fails with it leaves it half changed.
        kept = _kept.pop() if _kept else None
        if kept is None or not kept.fits(self._path, os.fstat(self._handle), parts[: noted.parts]):
            return None
        kept.joiner.go_on(_Places(self._write, noted.bytes), have_bytes=noted.bytes)
        self._joiner, self._head_bytes = kept.joiner, kept.head_bytes
        return Prefix(len(kept.parts), kept.joiner.joined_bytes)

    def _begin(self, have_bytes: int) -> Prefix:
        if self._is_parquet:
            self._joiner = ParquetJoiner(_Places(self._write, have_bytes), have_bytes=have_bytes)
            self._head_bytes = self._joiner.joined_bytes
            return Prefix(0, self._head_bytes)
        head = encode_head(self._form, self._names)
        if not have_bytes:
            self._write(head, 0)
        return Prefix(0, len(head))

    def _pass_part(self, part: Part, done: Prefix) -> Prefix:
        """As `_add_part`, of a part whose bytes are there."""
        return self._add_part(part, done) if self._is_parquet else Prefix(done.parts + 1, done.bytes + part.bytes)

    def _add_part(self, part: Part, done: Prefix) -> Prefix:
        before = self._joiner.rows if self._is_parquet else 0
        for name in part.files:
            if self._is_parquet:
                self._joiner.add(self._work / name)
            else:
                self._copy(self._work / name, part.bytes, done.bytes)
        if self._is_parquet and self._joiner.rows - before != part.rows:
            raise ExportError(
                f"the part of segment {part.segment} in {self._work} has {self._joiner.rows - before} rows, "
                f"{part.rows} were written: start the export again"
            )
        return Prefix(done.parts + 1, self._joiner.joined_bytes if self._is_parquet else done.bytes + part.bytes)

    def _add_empty(self) -> None:
        """A file without rows needs its columns nevertheless."""
        empty = self._work / f"empty-{os.urandom(8).hex()}.tmp"
        write_new(empty, encode_rows(self._form, self._names, self._types, empty_columns(self._types)))
        self._joiner.add(empty)
        empty.unlink()

    def _check_place(self) -> None:
        """FileNotFoundError where another run has published the file meanwhile: it is no longer ours to write."""
        if os.stat(self._path).st_ino != os.fstat(self._handle).st_ino:
            raise FileNotFoundError(2, "replaced meanwhile", str(self._path))

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._handle, view, at)
            view, at = view[count:], at + count

    def _copy(self, path: Path, size: int, at: int) -> None:
        with open(path, "rb", buffering=0) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise ExportError(f"{path} has {found} bytes, {size} were written: start the export again")
            start = _copied_in_kernel(file.fileno(), self._handle, size, at)
            file.seek(start)
            while start < size:
                data = file.read(COPY_BYTES)
                if not data:
                    raise ExportError(f"{path} changed while it was joined: start the export again")
                self._write(data, at + start)
                start += len(data)

    def _note(self, done: Prefix) -> None:
        if done.parts <= self._noted.parts:
            return
        # First the bytes, then the word for them.
        os.fsync(self._handle)
        _PREFIX.write(self._journal_path, done, os.urandom(8).hex())
        self._noted = done

    def _read_journal(self) -> Prefix:
        noted = _PREFIX.find(self._journal_path)
        if noted is not None and noted.parts > 0 and 0 < noted.bytes <= os.fstat(self._handle).st_size:
            return noted
        return Prefix(0, 0)

    @property
    def _journal_path(self) -> Path:
        return self._path.with_suffix(".json")


class _Places:
    """Where a joiner's bytes go, one after the other."""

    def __init__(self, write: Callable[[bytes, int], None], at: int) -> None:
        self._write = write
        self._at = at

    def write(self, data: bytes, /) -> None:
        self._write(data, self._at)
        self._at += len(data)


def _copied_in_kernel(source: int, target: int, size: int, at: int) -> int:
    """Copy without the bytes coming here, on some file systems without copying at all; returns how many that was."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done, done, at + done)
        except OSError as error:
            if error.errno in _NOT_IN_KERNEL:
                return done
            raise
        if not count:
            return done
        done += count
    return done
