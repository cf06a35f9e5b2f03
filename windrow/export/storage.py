"""Finds, opens and stats sources wherever they lie: local paths, patterns and fsspec URLs; the one module of fsspec.

Local files never go by way of fsspec: they need no package, and their times are exact.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from windrow.common.errors import ExportError, NotSeenHere, Unreachable, WindrowError
from windrow.common.redact import redact_url

FINGERPRINT_BYTES = 64 << 10
"""Of the head and of the tail."""

_URL = re.compile(r"(?:[a-zA-Z0-9+.-]+::)*[a-zA-Z][a-zA-Z0-9+.-]*://")
_MAGIC = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"([0-9]+)")
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs",
    "adl": "adlfs", "http": "aiohttp requests", "https": "aiohttp requests", "sftp": "paramiko", "ssh": "paramiko",
    "hdfs": "pyarrow", "smb": "smbprotocol", "webhdfs": "requests", "oci": "ocifs", "oss": "ossfs",
}  # fmt: skip
_VERSION_KEYS = (
    "ETag", "etag", "generation", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime",
)  # fmt: skip
"""Where file systems say which version of a file there is; the first that one knows counts."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as it was when it was looked at."""

    url: str
    """An absolute path, or a URL of fsspec."""
    bytes: int
    version: str
    """Changes when the file does: the modification time in nanoseconds, or what the storage has (an etag)."""

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


def is_url(text: str) -> bool:
    """Whether this goes by way of fsspec."""
    return _local_path(text) is None


def file_name(url: str) -> str:
    """The last part of a path or URL, without passwords and queries."""
    path = _local_path(url)
    return (path if path is not None else redact_url(url).partition("?")[0]).rstrip("/").rpartition("/")[2] or url


def find_sources(text: str) -> tuple[SourceFile, ...]:
    """The files that a path, pattern or URL means, by name, numbers in it by value; ExportError where there are none.

    Patterns know *, ?, [..] and ** (folders at any depth). A file that is called so literally is that file.
    """
    path = _local_path(text)
    found = _find_remote(text) if path is None else _find_local(path)
    return tuple(sorted(found, key=lambda file: natural_key(file.url)))


def stat_source(url: str) -> SourceFile:
    """The file as it is now; ExportError where there is none."""
    path = _local_path(url)
    return _stat_remote(url) if path is None else _stat_local(path)


def open_source(url: str) -> BinaryIO:
    """The file's bytes, with seek; what goes wrong in reading is one of Windrow's errors."""
    path = _local_path(url)
    with _told(url):
        if path is not None:
            return open(path, "rb")
        fs, inner = _remote(url)
        return cast(BinaryIO, io.BufferedReader(_Remote(fs.open(inner, "rb"), url), 1 << 20))


def read_range(url: str, start: int, stop: int) -> bytes:
    """The bytes [start, stop), in one request; fewer only where the file ends before."""
    path = _local_path(url)
    with _told(url):
        if path is None:
            fs, inner = _remote(url)
            return bytes(fs.cat_file(inner, start=start, end=stop)) if stop > start else b""
        with open(path, "rb", buffering=0) as file:
            data = bytearray()
            file.seek(start)
            # One read gives at most 2 GiB, and fewer bytes where a signal comes.
            while more := file.read(stop - start - len(data)):
                data += more
            return bytes(data)


def fingerprint(source: SourceFile) -> Fingerprint:
    """Size, version and a hash of head and tail; ExportError where the file is no longer so long."""
    size = source.bytes
    digest = hashlib.sha256(f"{size}\n".encode())
    head = read_range(source.url, 0, min(FINGERPRINT_BYTES, size))
    tail_start = max(len(head), size - FINGERPRINT_BYTES)
    tail = read_range(source.url, tail_start, size)
    if len(head) + len(tail) != min(size, 2 * FINGERPRINT_BYTES):
        raise _changed(source)
    digest.update(head)
    digest.update(tail)
    return Fingerprint(source.url, size, source.version, digest.hexdigest())


def find_difference(before: Fingerprint, now: Fingerprint) -> str | None:
    """What has changed of the source, in words; None for nothing."""
    if before.url != now.url:
        return f"the source was {redact_url(before.url)} and is {redact_url(now.url)}"
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
    return ExportError(f"{redact_url(source.url)} changed while it was exported: start the export again")


def _local_path(text: str) -> str | None:
    if not _URL.match(text):
        return text
    scheme = text.partition("://")[0].lower()
    if scheme == "local":
        return text.partition("://")[2]
    if scheme != "file":
        return None
    host = urlsplit(text).netloc
    if host not in ("", "localhost"):
        raise ExportError(f"{text} is on another machine: mount it, and write file:///path or the path alone")
    return unquote(text.partition("://")[2].removeprefix(host))


def _find_local(path: str) -> list[SourceFile]:
    if os.path.lexists(path) or not _MAGIC.search(path):
        return [_stat_local(path)]
    # A set: ** may come to the same file in two ways.
    found = [name for name in set(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    if not found:
        raise _no_match(path)
    return [_stat_local(name) for name in found]


def _stat_local(path: str) -> SourceFile:
    with _told(path):
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
        f"no file matches {redact_url(text)}: check the pattern, and put it in quotes so that the shell leaves it alone"
    )


def _remote(url: str) -> tuple[Any, str]:
    """The file system and the path in it."""
    try:
        import fsspec.core
    except ImportError:
        raise NotSeenHere(
            f"{redact_url(url)} needs the package fsspec: install the export extra on every node, "
            "e.g. pip install 'windrow-engine[export]'"
        ) from None
    protocol = url.partition("://")[0].rpartition("::")[2].lower()
    try:
        fs, inner = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        todo = f"pip install {package} on every node" if package else str(error)
        raise NotSeenHere(f"{redact_url(url)} needs another package: {todo}") from None
    except ValueError as error:
        shown = redact_url(str(error))
        raise ExportError(f"{redact_url(url)} cannot be opened ({shown}): check what stands before ://") from None
    return fs, str(inner)


def _find_remote(url: str) -> list[SourceFile]:
    # In http a ? begins the query.
    magic = "*" in url if url.startswith(("http://", "https://")) else _MAGIC.search(url)
    if not magic:
        return [_stat_remote(url)]
    if "::" in url:
        raise ExportError(f"{redact_url(url)}: a pattern cannot be used together with ::, name the files")
    with _told(url):
        fs, inner = _remote(url)
        # What was listed earlier in this process may be out of date.
        fs.invalidate_cache()
        if fs.isfile(inner):
            return [_stat_remote(url)]
        listed: dict[str, dict[str, Any]] = fs.glob(inner, detail=True)
        hidden = "/." in inner
        found = [
            _remote_file(fs, name, about)
            for name, about in listed.items()
            # As for local files and in the shell: names that begin with a dot must be asked for.
            if about.get("type") == "file" and (hidden or "/." not in name)
        ]
    if not found:
        raise _no_match(url)
    return found


def _stat_remote(url: str) -> SourceFile:
    with _told(url):
        fs, inner = _remote(url)
        fs.invalidate_cache()
        about: dict[str, Any] = fs.info(inner)
        if about.get("type") == "directory":
            raise ExportError(
                f"the source {redact_url(url)} is a folder: name the files in it, e.g. '{redact_url(url)}/*.csv'"
            )
        file = _remote_file(fs, inner, about)
    # The name as it was given: the one that fs makes leaves out what stands before :: and who logs in.
    return SourceFile(url, file.bytes, file.version)


def _remote_file(fs: Any, name: str, about: dict[str, Any]) -> SourceFile:
    url = str(fs.unstrip_protocol(name))
    size = about.get("size")
    if size is None:
        raise ExportError(f"{redact_url(url)} does not say how long it is: download it first")
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


@contextlib.contextmanager
def _told(url: str) -> Generator[None, None, None]:
    """Errors of file systems as Windrow's."""
    shown = redact_url(url)
    try:
        yield
    except WindrowError:
        raise
    except FileNotFoundError:
        raise NotSeenHere(f"no source {shown}: check the path; every node must see it under the same one") from None
    except PermissionError:
        raise NotSeenHere(f"the source {shown} cannot be read: check its permissions") from None
    except IsADirectoryError:
        raise ExportError(f"the source {shown} is a folder: name the files in it") from None
    except (NotImplementedError, ValueError) as error:
        raise ExportError(f"the source {shown} cannot be read: {_first_line(error)}") from None
    except Exception as error:
        # Every storage has errors of its own; most of what is left passes by itself.
        raise Unreachable(f"{shown} cannot be read now ({_first_line(error)}): try again later") from None


def _first_line(error: BaseException) -> str:
    return redact_url(str(error).partition("\n")[0]) or type(error).__name__


class _Remote(io.RawIOBase):
    """A file of fsspec whose errors are Windrow's."""

    def __init__(self, file: Any, url: str) -> None:
        self._file = file
        self._url = url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with _told(self._url):
            data: bytes = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _told(self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            close: Callable[[], None] = self._file.close
            close()
        super().close()
