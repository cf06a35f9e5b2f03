"""Decompresses sources as streams in bounded memory.

What a file is, is told by its first bytes, never by its name. Members of gzip and bzip2 and frames of zstd follow one
another as if they were one; members of a zip archive are files of their own.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import bz2
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from windrow.common.errors import ExportError, WindrowError
from windrow.export.storage import natural_key

PLAIN, GZIP, BZ2, ZIP, ZSTD = "none", "gzip", "bz2", "zip", "zstd"
COMPRESSIONS = (PLAIN, GZIP, BZ2, ZIP, ZSTD)

HEAD_BYTES = 512
"""Of a file's beginning tell what it is."""
READ_BYTES = 256 << 10
"""Compressed bytes taken at a time."""
PLAIN_BYTES = 1 << 20
"""Plain bytes given at a time, at most."""
_BZ2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
"""A frame, or one to be skipped (pzstd begins with one)."""
_REFUSED = {
    b"\xfd7zXZ\x00": "is compressed with xz: unxz it first",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it first",
    b"Rar!\x1a\x07": "is a rar archive: unpack it first",
    b"\x04\x22\x4d\x18": "is compressed with lz4: lz4 -d it first",
    b"\x1f\x9d": "is compressed with compress: uncompress it first",
    b"PK\x07\x08": "is one part of a split zip archive: join the parts first",
    b"%PDF-": "is a PDF, no table: save the data as CSV",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an old Office file: save it as CSV",
}
_ENCRYPTED = 0x1


class Readable(Protocol):
    """What bytes are read from, in order."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a zip archive."""

    name: str
    bytes: int
    compressed_bytes: int


class PlainStream(io.RawIOBase):
    """Plain bytes in order, as they are decompressed."""

    def __init__(self, pieces: Iterator[bytes], raw: _Counted, parts: list[Any]) -> None:
        self._pieces = pieces
        self._raw = raw
        self._parts = parts
        self._rest = memoryview(b"")

    @property
    def compressed_bytes(self) -> int:
        """Read so far of the compressed file; for progress."""
        return self._raw.count

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, fewer than that at any time; nothing only at the end."""
        if size < 0:
            return self.readall()
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            for part in self._parts:
                part.close()
        super().close()


def detect_compression(head: bytes, name: str) -> str:
    """The compression of a file that begins so (HEAD_BYTES of it); ExportError for one that is not read here."""
    if head.startswith(b"\x1f\x8b\x08"):
        return GZIP
    if _BZ2.match(head):
        return BZ2
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZIP
    if _ZSTD.match(head):
        return ZSTD
    _refuse(head, name)
    return PLAIN


def check_plain(head: bytes, name: str) -> None:
    """ExportError where what came out of a compressed file begins like another packed one."""
    try:
        found = detect_compression(head, name)
    except ExportError as error:
        raise ExportError(f"{error.message} (it was found inside a compressed file)") from None
    if found != PLAIN:
        raise ExportError(f"{name} is compressed twice, the second time with {found}: unpack it once")


def find_members(raw: BinaryIO, name: str) -> tuple[Member, ...]:
    """The files in a zip archive by name, numbers in it by value; ExportError where there are none to be read."""
    with _open_zip(raw, name) as archive:
        entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
    if any(entry.filename == "[Content_Types].xml" for entry in entries):
        raise ExportError(f"{name} is an Office file, no table: save it as CSV")
    if not entries:
        raise ExportError(f"the archive {name} has no file in it: check that it is the right one")
    seen: set[str] = set()
    for entry in entries:
        if entry.filename in seen:
            raise ExportError(
                f"the archive {name} has two files {entry.filename!r}: unpack it and name the one to read"
            )
        seen.add(entry.filename)
    locked = next((entry for entry in entries if entry.flag_bits & _ENCRYPTED), None)
    if locked is not None:
        raise ExportError(f"{locked.filename!r} in {name} is encrypted: unpack it with its password first")
    found = [Member(entry.filename, entry.file_size, entry.compress_size) for entry in entries]
    return tuple(sorted(found, key=lambda member: natural_key(member.name)))


def open_plain(
    raw: BinaryIO, name: str, *, compression: str | None = None, member: str = "", closes: bool = True
) -> PlainStream:
    """What is in `raw`, plain; `compression` None finds out. A zip archive of several files wants the member's name.

    Data that are cut off or damaged give an ExportError with the place when it is read. Closing the stream closes `raw`
    too, unless `closes` is false.
    """
    if compression is None:
        head = raw.read(HEAD_BYTES)
        raw.seek(-len(head), os.SEEK_CUR)
        compression = detect_compression(head, name)
    counted = _Counted(raw)
    below: list[Any] = [raw] if closes else []
    if compression == PLAIN:
        return PlainStream(iter(lambda: counted.read(PLAIN_BYTES), b""), counted, below)
    if compression == GZIP:
        return PlainStream(_unpack(counted, name, "gzip", b"\x1f\x8b", _Inflate), counted, below)
    if compression == BZ2:
        return PlainStream(_unpack(counted, name, "bzip2", b"BZh", bz2.BZ2Decompressor), counted, below)
    if compression == ZSTD:
        return PlainStream(_unpack_zstd(counted, name), counted, below)
    if compression == ZIP:
        member = member or _only_member(raw, name)
        archive = _open_zip(counted, name)
        return PlainStream(_unpack_zip(archive, member, counted, name), counted, [archive, *below])
    raise ExportError(f"no compression {compression!r}: there are {', '.join(COMPRESSIONS)}")


class _Counted:
    """Counts what is read, so that errors can say where."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.count = 0
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._raw.read(size)
        self.count += len(data)
        return data

    # The rest is for the libraries that want a file.
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self._raw.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class _Inflate:
    """zlib's decompressor with the ways of bz2's."""

    def __init__(self) -> None:
        # 16: with gzip's header and trailer, both checked.
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _unpack(raw: _Counted, name: str, kind: str, magic: bytes, make: Callable[[], Any]) -> Iterator[bytes]:
    """Member after member; zeros behind the last one are the padding of tapes and disks."""
    data = raw.read(READ_BYTES)
    plain = 0
    while data:
        inner = make()
        while not inner.eof:
            try:
                piece: bytes = inner.decompress(data, PLAIN_BYTES)
            except (zlib.error, OSError, ValueError) as error:
                raise _damaged(name, kind, raw.count, plain, error) from None
            data = b""
            if piece:
                plain += len(piece)
                yield piece
            elif not inner.eof and inner.needs_input:
                data = raw.read(READ_BYTES)
                if not data:
                    raise _cut_off(name, kind, raw.count, plain)
        data = inner.unused_data
        while len(data) < len(magic) and (more := raw.read(READ_BYTES)):
            data += more
        while data and not data.strip(b"\0"):
            data = raw.read(READ_BYTES)
            if data.strip(b"\0"):
                raise _trailing(name, kind, raw.count)
        if data and not data.startswith(magic[: len(data)]):
            raise _trailing(name, kind, raw.count - len(data))


def _unpack_zstd(raw: _Counted, name: str) -> Iterator[bytes]:
    import pyarrow as pa

    python_file: Any = pa.PythonFile
    plain = 0
    try:
        with pa.CompressedInputStream(python_file(raw, mode="r"), "zstd") as stream:
            while piece := stream.read(PLAIN_BYTES):
                plain += len(piece)
                yield piece
    except WindrowError:
        raise
    except OSError as error:
        text = str(error)
        if "Truncated" in text:
            raise _cut_off(name, "zstd", raw.count, plain) from None
        if "too much memory" in text:
            raise ExportError(
                f"{name} was compressed with --long or --ultra and needs more than 128 MiB of memory for its window: "
                "compress it again without, e.g. zstd -d --long=31 -c FILE | zstd -o NEW"
            ) from None
        raise _damaged(name, "zstd", raw.count, plain, error) from None


def _unpack_zip(archive: zipfile.ZipFile, member: str, raw: _Counted, name: str) -> Iterator[bytes]:
    place = f"{member!r} in {name}"
    plain = 0
    try:
        with archive.open(member) as file:
            while piece := file.read(PLAIN_BYTES):
                plain += len(piece)
                yield piece
    except KeyError:
        raise ExportError(
            f"the archive {name} has no file {member!r}: it has changed, start the export again"
        ) from None
    except NotImplementedError as error:
        raise ExportError(f"{place} cannot be read ({error}): unpack it first") from None
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        raise ExportError(f"{place} is encrypted: unpack it with its password first") from None
    except EOFError:
        raise _cut_off(place, "zip", raw.tell(), plain) from None
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        raise _damaged(place, "zip", raw.tell(), plain, error) from None


def _open_zip(raw: Any, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise ExportError(
            f"the zip archive {name} is cut off or damaged ({error}): fetch it again; unzip -t {name} tests it"
        ) from None


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    # What macOS puts beside the files it packs is nobody's data.
    name = entry.filename
    return not entry.is_dir() and not name.startswith("__MACOSX/") and not name.endswith(".DS_Store")


def _only_member(raw: Any, name: str) -> str:
    members = find_members(raw, name)
    if len(members) != 1:
        shown = ", ".join(repr(member.name) for member in members[:5])
        raise ExportError(f"the archive {name} has {len(members)} files ({shown} …): say which one")
    return members[0].name


def _refuse(head: bytes, name: str) -> None:
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise ExportError(f"{name} {what}")
    if head[257:262] == b"ustar":
        raise ExportError(f"{name} is a tar archive: unpack it first")


def _cut_off(name: str, kind: str, offset: int, plain: int) -> ExportError:
    return ExportError(
        f"{name} is cut off: its {kind} data end in their midst at compressed byte {offset}, "
        f"after {plain} plain bytes: fetch the file again"
    )


def _damaged(name: str, kind: str, offset: int, plain: int, error: Exception) -> ExportError:
    return ExportError(
        f"{name} is damaged: its {kind} data cannot be read before compressed byte {offset}, "
        f"after {plain} plain bytes ({error}): fetch the file again"
    )


def _trailing(name: str, kind: str, offset: int) -> ExportError:
    return ExportError(
        f"{name} has something else behind its {kind} data, before compressed byte {offset}: "
        "fetch the file again, or unpack it first if it shall be so"
    )
