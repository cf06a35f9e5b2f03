"""Writes, lists and removes objects at URLs; an object appears whole when its upload is completed, or not at all.

An upload is begun, its blocks are sent, and only then it is completed. One that nobody completes is aborted: at once
where this process lives on, else by whoever finds the note of its id.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable
from typing import Any

from windrow.common.errors import ExportError
from windrow.export.drivers import find_status, fresh_fs, open_fs, told
from windrow.export.locations import scheme_of, shown

BLOCK_BYTES = 16 << 20
"""Sent at a time, and held in memory some two or three times."""
BLOCKS_MAX = 9_000
"""Of one object; S3 takes 10,000."""
READ_ONLY = ("http", "https", "github", "gist", "data")
NOWHERE = ("memory",)
"""What every process has one of its own of."""

Note = Callable[[str], None]
"""Told the id of an upload before its first block is sent."""


class ObjectExists(ExportError):
    """There is an object of this name already."""


def check_scheme(url: str) -> None:
    """ExportError where nothing can be written behind this scheme."""
    scheme = scheme_of(url)
    if "::" in url:
        raise ExportError(f"the destination {shown(url)} has :: in it: name the place itself, without what reads it")
    if scheme in READ_ONLY:
        raise ExportError(f"nothing can be written to {scheme}://: give a path, or a URL like s3://bucket/name")
    if scheme in NOWHERE:
        raise ExportError(f"every process has a {scheme}:// of its own: give a path, or a URL like s3://bucket/name")


def check_writable(url: str) -> None:
    """ExportError where no upload to this object can be begun; one that can is aborted again."""
    with told(url, "destination"):
        fs, inner = fresh_fs(url)
        if not _begins_uploads(fs):
            return
        file = fs.open(inner, "wb", autocommit=False, block_size=BLOCK_BYTES)
        try:
            file._initiate_upload()
        finally:
            _discard(file)


def place_of(url: str) -> tuple[str, str]:
    """(kind of file system, path in it): the same for URLs of the same place."""
    with told(url):
        fs, inner = open_fs(url)
        kind = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        return str(kind), inner.rstrip("/")


def find_size(url: str) -> int | None:
    """Bytes of an object; None where there is none."""
    with told(url, "destination"):
        fs, inner = fresh_fs(url)
        try:
            about: dict[str, Any] = fs.info(inner)
        except FileNotFoundError as error:
            if find_status(error) in (None, 404):
                return None
            raise
        return None if about.get("type") == "directory" else int(about.get("size") or 0)


def find_head(url: str, count: int) -> bytes | None:
    """The first bytes of an object; None where there is none."""
    size = find_size(url)
    if size is None:
        return None
    with told(url, "destination"):
        fs, inner = open_fs(url)
        return bytes(fs.cat_file(inner, start=0, end=min(count, size))) if size else b""


def list_folder(url: str) -> dict[str, int]:
    """Sizes of all objects below this folder, by their names in it."""
    with told(url, "destination"):
        fs, inner = fresh_fs(url.rstrip("/") + "/")
        base = inner.rstrip("/") + "/"
        try:
            found: dict[str, dict[str, Any]] = fs.find(base, detail=True, withdirs=False)
        except FileNotFoundError:
            return {}
    return {
        name.removeprefix(base): int(about.get("size") or 0)
        for name, about in found.items()
        # Some make an empty object to stand for the folder.
        if name.startswith(base) and name != base
    }


def remove_objects(urls: Iterable[str]) -> None:
    """Remove these objects; what is gone already is fine."""
    for url in urls:
        with told(url, "destination"):
            fs, inner = open_fs(url)
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(inner)
            fs.invalidate_cache()


def write_object(
    url: str, pieces: Iterable[bytes], size: int, *, exclusive: bool = False, note: Note | None = None
) -> None:
    """Let an object of `size` bytes appear. ObjectExists for one that is there, where it is to be `exclusive`.

    Memory is bounded by a block, however long the object.
    """
    with told(url, "destination"):
        fs, inner = fresh_fs(url)
        _make_folder(fs, inner)
        file = _open_new(fs, inner, max(BLOCK_BYTES, -(-size // BLOCKS_MAX)), exclusive)
    try:
        if note is not None:
            _note_upload(file, note)
        written = 0
        for piece in pieces:
            with told(url, "destination"):
                file.write(piece)
            written += len(piece)
        if written != size:
            raise ExportError(f"{written} bytes were read for {shown(url)}, not {size}: start the export again")
        with told(url, "destination"):
            # Sends the rest; with autocommit off nothing appears yet.
            file.close()
            _complete(fs, inner, file, exclusive)
    except BaseException:
        _discard(file)
        raise
    finally:
        fs.invalidate_cache()


def abort_upload(url: str, upload: str) -> None:
    """Let go what an upload that nobody completes has sent; one that has ended is fine."""
    with told(url, "destination"):
        fs, inner = open_fs(url)
        if not hasattr(fs, "call_s3"):
            return
        bucket, key, _ = fs.split_path(inner)
        with contextlib.suppress(FileNotFoundError):
            fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)


def _begins_uploads(fs: Any) -> bool:
    return hasattr(fs, "call_s3")


def _make_folder(fs: Any, inner: str) -> None:
    """Stores of objects know no folders; servers of files do."""
    if not _begins_uploads(fs) and "/" in inner.strip("/"):
        with contextlib.suppress(NotImplementedError):
            fs.makedirs(inner.rpartition("/")[0], exist_ok=True)


def _open_new(fs: Any, inner: str, block_bytes: int, exclusive: bool) -> Any:
    if exclusive:
        try:
            return fs.open(inner, "xb", autocommit=False, block_size=block_bytes)
        except FileExistsError:
            raise ObjectExists(f"{inner} exists") from None
        except (NotImplementedError, ValueError):
            # It knows no such mode: then the look before must do.
            pass
    return fs.open(inner, "wb", autocommit=False, block_size=block_bytes)


def _note_upload(file: Any, note: Note) -> None:
    """Have the id noted between the beginning of the upload and its first block: after that a kill leaves bytes."""
    begin = getattr(file, "_initiate_upload", None)
    if begin is None:
        return

    def begin_and_note() -> None:
        begin()
        upload = getattr(file, "mpu", None)
        if isinstance(upload, dict):
            note(str(upload["UploadId"]))

    file._initiate_upload = begin_and_note


def _complete(fs: Any, inner: str, file: Any, exclusive: bool) -> None:
    try:
        file.commit()
    except FileExistsError:
        raise ObjectExists(f"{inner} exists") from None
    except OSError as error:
        if not exclusive:
            raise
        if find_status(error) == 412:
            raise ObjectExists(f"{inner} exists") from None
        if error.errno != errno.ENOSYS and find_status(error) != 501:
            raise
        # The storage knows no conditions: look, and complete without.
        if fs.exists(inner):
            raise ObjectExists(f"{inner} exists") from None
        file.mode = "wb"
        file.commit()


def _discard(file: Any) -> None:
    """Let go what was sent. The error that brought us here is the one to be told."""
    try:
        with contextlib.suppress(Exception):
            file.discard()
    finally:
        # When it is closed again, at the latest by the garbage collector, it must not send anything.
        with contextlib.suppress(AttributeError):
            file.closed = True
