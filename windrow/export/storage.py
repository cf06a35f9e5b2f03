"""Finds, opens and stats sources wherever they lie: local paths, patterns and fsspec URLs.

Local files never go by way of fsspec: they need no package, and their times are exact. Of what lies elsewhere only the
bytes that are asked for are read; a server that gives no ranges is read in one go, and only from the beginning.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from windrow.common.errors import ExportError, NotSeenHere
from windrow.export.drivers import fresh_fs, open_fs, told
from windrow.export.locations import file_name, local_path, scheme_of, shown

FINGERPRINT_BYTES = 64 << 10
"""Of the head and of the tail."""

LEAST_BYTES = 256 << 10
"""Read at a time of a file that lies elsewhere, after each seek: a footer, a small column."""
AHEAD_BYTES = 8 << 20
"""What that grows to as long as it is read on from where the last read ended."""

_MAGIC = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"([0-9]+)")
_HTTP = ("http", "https")
_VERSION_KEYS = (
    "ETag", "etag", "generation", "md5Hash", "content_md5", "LastModified", "last_modified", "Last-Modified", "updated",
    "mtime",
)  # fmt: skip
"""Where file systems say which version of a file there is; the first that one knows counts."""


class _NoRanges(ExportError):
    """The server gives a file only from its beginning on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was looked at."""

    url: str
    """An absolute path, or a URL of fsspec."""
    bytes: int
    version: str
    """Changes when the file does: the modification time in nanoseconds, or what the storage has (an etag)."""
    sequential: bool = field(default=False, compare=False)
    """It can only be read from the beginning: its server gives no ranges."""

    @property
    def name(self) -> str:
        """For messages."""
        return file_name(self.url)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Tells whether a source is still the one it was."""

    url: str
    bytes: int
    version: str
    sha256: str
    """Of the size, the head and the tail."""


def find_sources(text: str) -> tuple[SourceFile, ...]:
    """The files that a path, pattern or URL means, by name, numbers in it by value; ExportError where there are none.

    Patterns know *, ?, [..] and ** (folders at any depth). A file that is called so literally is that file.
    """
    path = local_path(text)
    found = _find_remote(text) if path is None else _find_local(path)
    return tuple(sorted(found, key=lambda file: natural_key(file.url)))


def stat_source(url: str) -> SourceFile:
    """The file as it is now; ExportError where there is none."""
    path = local_path(url)
    return _stat_remote(url) if path is None else _stat_local(path)


def open_source(url: str, *, sequential: bool = False) -> BinaryIO:
    """The file's bytes, with seek unless `sequential`; what goes wrong in reading is one of Windrow's errors."""
    path = local_path(url)
    with told(url):
        if path is not None:
            return open(path, "rb")
        fs, inner = open_fs(url)
        # No read-ahead of the driver's, which may be 50 MiB for a look at a footer: the buffer here is enough.
        how: dict[str, Any] = {"block_size": 0} if sequential else {"cache_type": "none"}
        file = fs.open(inner, "rb", **how)
        return cast(BinaryIO, io.BufferedReader(_Remote(file, url, ahead=not sequential), LEAST_BYTES))


def read_range(url: str, start: int, stop: int) -> bytes:
    """The bytes [start, stop), in one request; fewer only where the file ends before."""
    path = local_path(url)
    with told(url):
        if path is None:
            try:
                return _read_remote(url, start, stop) if stop > start else b""
            except _NoRanges as error:
                raise ExportError(str(error)) from None
        with open(path, "rb", buffering=0) as file:
            return _read_at(file.fileno(), start, stop)


def _read_at(handle: int, start: int, stop: int) -> bytes:
    """Nearly always in one read, whose bytes are then not copied: that takes longer than reading what is in memory."""
    data = os.pread(handle, max(0, stop - start), start)
    pieces = [data]
    # One read gives at most 2 GiB, and fewer bytes where a signal comes.
    while data and (start := start + len(data)) < stop:
        pieces.append(data := os.pread(handle, stop - start, start))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def fingerprint(source: SourceFile) -> Fingerprint:
    """Size, version and a hash of head and tail, or of the head alone; ExportError where it is no longer so long."""
    size = source.bytes
    digest = hashlib.sha256(f"{size}\n".encode())
    head = read_range(source.url, 0, min(FINGERPRINT_BYTES, size))
    tail_start = max(len(head), size - FINGERPRINT_BYTES)
    tail = b"" if source.sequential else read_range(source.url, tail_start, size)
    wanted = FINGERPRINT_BYTES if source.sequential else 2 * FINGERPRINT_BYTES
    if len(head) + len(tail) != min(size, wanted):
        raise _changed(source)
    digest.update(head)
    digest.update(tail)
    return Fingerprint(source.url, size, source.version, digest.hexdigest())


def find_difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """What has changed of the source, in words; None for nothing."""
    if before.url != now.url:
        return f"the source was {shown(before.url)} and is {shown(now.url)}"
    if before.bytes != now.bytes:
        return f"{file_name(now.url)} had {before.bytes} bytes and has {now.bytes}"
    if before.sha256 != now.sha256:
        return f"{file_name(now.url)} has another beginning or end"
    if before.version != now.version:
        return f"{file_name(now.url)} was written anew"
    return None


def check_unchanged(source: SourceFile) -> None:
    """ExportError where the file is no longer the one that was looked at."""
    if stat_source(source.url) != source:
        raise _changed(source)


def natural_key(text: str) -> tuple[object, ...]:
    """Sorts part-2 before part-10, and folders before what only begins like them."""
    parts: list[tuple[object, ...]] = []
    for name in text.split("/"):
        # Texts and numbers take turns, so like is compared with like. A number is longer before it is larger.
        pieces = [
            (len(piece.lstrip("0")), piece.lstrip("0")) if at % 2 else piece
            for at, piece in enumerate(_DIGITS.split(name))
        ]
        parts.append(tuple(pieces))
    # Without the text itself, 1 and 01 would stand as they come.
    return (tuple(parts), text)


def _changed(source: SourceFile) -> ExportError:
    return ExportError(f"{shown(source.url)} changed while it was exported: start the export again")


def _find_local(path: str) -> list[SourceFile]:
    if os.path.lexists(path) or not _MAGIC.search(path):
        return [_stat_local(path)]
    # A set: ** may come to the same file in two ways.
    found = [name for name in set(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise _no_match(path)
    return [_stat_local(name) for name in found]


def _stat_local(path: str) -> SourceFile:
    with told(path):
        about = os.stat(path)
    if stat.S_ISDIR(about.st_mode):
        raise ExportError(f"the source {path} is a folder: name the files in it, e.g. '{Path(path) / '*.csv'}'")
    if not stat.S_ISREG(about.st_mode):
        raise ExportError(f"the source {path} is no file: write what it gives into one first")
    if not os.access(path, os.R_OK):
        raise NotSeenHere(f"the source {path} cannot be read: check its permissions")
    return SourceFile(os.path.abspath(path), about.st_size, str(about.st_mtime_ns))


def _no_match(text: str) -> NotSeenHere:
    return NotSeenHere(
        f"no file matches {shown(text)}: check the pattern, and put it in quotes so that the shell leaves it alone"
    )


def _find_remote(url: str) -> list[SourceFile]:
    # In http a ? begins the query.
    http = scheme_of(url) in _HTTP
    magic = "*" in url if http else _MAGIC.search(url)
    if not magic:
        return [_with_ranges(_stat_remote(url))]
    if "::" in url:
        raise ExportError(f"{shown(url)}: a pattern cannot be used together with ::, name the files")
    with told(url):
        fs, inner = fresh_fs(url)
        if fs.isfile(inner):
            return [_with_ranges(_stat_remote(url))]
        listed: dict[str, dict[str, Any]] = fs.glob(inner, detail=True)
        hidden = "/." in inner
        found = [
            # A page with links says nothing of the files behind them.
            _stat_remote(str(fs.unstrip_protocol(name))) if http else _remote_file(fs, name, about)
            for name, about in listed.items()
            # As for local files and in the shell: names that begin with a dot must be asked for.
            if about.get("type") == "file" and (hidden or "/." not in name)
        ]
    if not found:
        raise _no_match(url)
    return [_with_ranges(file) for file in found]


def _stat_remote(url: str) -> SourceFile:
    with told(url):
        fs, inner = fresh_fs(url)
        about: dict[str, Any] = fs.info(inner)
        if about.get("type") == "directory":
            raise ExportError(f"the source {shown(url)} is a folder: name the files in it, e.g. '{shown(url)}/*.csv'")
        file = _remote_file(fs, inner, about)
    # The name as it was given: the one that fs makes leaves out what stands before :: and who logs in.
    return SourceFile(url, file.bytes, file.version)


def _remote_file(fs: Any, name: str, about: dict[str, Any]) -> SourceFile:
    url = str(fs.unstrip_protocol(name))
    size = about.get("size")
    if size is None:
        raise ExportError(f"{shown(url)} does not say how long it is: download it first")
    return SourceFile(url, int(size), _version(fs, name, about))


def _version(fs: Any, name: str, about: dict[str, Any]) -> str:
    for key in _VERSION_KEYS:
        if about.get(key):
            return f"{key.lower()}:{about[key]}"
    try:
        return f"modified:{fs.modified(name)}"
    except (NotImplementedError, KeyError, TypeError, AttributeError):
        # Then size and fingerprint must do.
        return ""


def _with_ranges(file: SourceFile) -> SourceFile:
    """The file, and whether its server gives ranges: those of http need not."""
    if scheme_of(file.url) not in _HTTP or "::" in file.url or file.bytes < 2:
        return file
    try:
        with told(file.url):
            _read_remote(file.url, file.bytes - 1, file.bytes)
    except _NoRanges:
        return replace(file, sequential=True)
    return file


def _read_remote(url: str, start: int, stop: int) -> bytes:
    fs, inner = open_fs(url)
    if scheme_of(url) not in _HTTP or "::" in url:
        return bytes(fs.cat_file(inner, start=start, end=stop))
    # The driver's cat_file takes a whole file for the range that it asked for; its files look. With the size it asks
    # for nothing else.
    with fs.open(inner, "rb", cache_type="none", size=stop, block_size=stop - start) as file:
        file.seek(start)
        try:
            return bytes(file.read(stop - start))
        except ValueError:
            raise _NoRanges(
                f"the server of {shown(url)} gives no ranges, and what is read here does not begin at the beginning: "
                "download it first"
            ) from None


class _Remote(io.RawIOBase):
    """A file of fsspec whose errors are Windrow's; each read is a request, so those that follow one another grow."""

    def __init__(self, file: Any, url: str, *, ahead: bool) -> None:
        self._file = file
        self._url = url
        self._step = LEAST_BYTES if ahead else 0
        """Bytes of the next request; 0 for a stream, which goes on by itself."""
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            with told(self._url):
                self._rest = memoryview(self._file.read(max(len(buffer), self._step)))
            self._step = min(2 * self._step, AHEAD_BYTES)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        at = self.tell()
        if (whence == os.SEEK_SET and offset == at) or (whence == os.SEEK_CUR and not offset):
            # What was read ahead stays good.
            return at
        if whence == os.SEEK_CUR:
            offset, whence = at + offset, os.SEEK_SET
        self._rest = memoryview(b"")
        self._step = min(self._step, LEAST_BYTES)
        with told(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell()) - len(self._rest)

    def close(self) -> None:
        if not self.closed:
            self._rest = memoryview(b"")
            close: Callable[[], None] = self._file.close
            close()
        super().close()
