"""Compressed sources give their plain bytes, or an error that names the place."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError, Retry, Unreachable
from windrow.export.compression import (
    BZ2,
    COMPRESSIONS,
    GZIP,
    HEAD_BYTES,
    PLAIN,
    ZIP,
    ZSTD,
    Member,
    check_plain,
    detect_compression,
    find_members,
    open_plain,
)
from windrow.export.disk import check_disk, full_disk_is_retried, shown_bytes
from windrow.export.estimating import needed_bytes


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    PLAIN: bytes,
    GZIP: lambda data: gzip.compress(data, mtime=0),
    BZ2: bz2.compress,
    ZIP: lambda data: zipped(("a.csv", data)),
    ZSTD: zstd,
}
PACKED = pytest.mark.parametrize("kind", [kind for kind in COMPRESSIONS if kind != PLAIN])
STREAMS = pytest.mark.parametrize("kind", [GZIP, BZ2, ZSTD])


def plain(packed: bytes, **options: Any) -> bytes:
    with open_plain(io.BytesIO(packed), "a.dat", **options) as stream:
        return b"".join(iter(lambda: stream.read(1 << 16), b""))


def some_text(size: int, seed: int = 0) -> bytes:
    dice = random.Random(seed)
    lines = [f"{dice.random()},{dice.randbytes(6).hex()},same\n".encode() for _ in range(size // 36)]
    return b"".join(lines)


@pytest.mark.parametrize("kind", COMPRESSIONS)
@settings(deadline=None, max_examples=30)
@given(data=st.binary(max_size=200), times=st.sampled_from([0, 1, 30_000]))
def test_what_was_packed_comes_out_whatever_the_file_is_called(kind: str, data: bytes, times: int) -> None:
    data = b"a,b\n" + data * times
    packed = PACK[kind](data)
    assert detect_compression(packed[:HEAD_BYTES], "x") == kind
    assert plain(packed) == data
    assert plain(packed, compression=kind) == data


@STREAMS
def test_members_and_frames_follow_one_another_as_one_file(kind: str) -> None:
    pack = PACK[kind]
    parts = [some_text(500_000), b"", b"x", some_text(300_000, 1)]
    assert plain(b"".join(pack(part) for part in parts)) == b"".join(parts)


@pytest.mark.parametrize("kind", [GZIP, BZ2])
def test_padding_with_zeros_is_no_data_and_anything_else_behind_is_refused(kind: str) -> None:
    packed = PACK[kind](b"a,b\n")
    assert plain(packed + bytes(600_000)) == b"a,b\n"
    for more in (b"garbage", bytes(10) + b"x", bytes(300_000) + b"x"):
        with pytest.raises(ExportError, match=r"has something else behind its .* data, before compressed byte"):
            plain(packed + more)


@STREAMS
def test_data_cut_off_anywhere_are_an_error_with_the_place(kind: str) -> None:
    packed = PACK[kind](some_text(200_000))
    two = packed + PACK[kind](b"more")
    for cut in [*range(4 if kind == ZSTD else 10, 40), len(packed) // 2, len(packed) - 1, len(two) - 1]:
        with pytest.raises(
            ExportError, match=f"a.dat is cut off: .* at compressed byte {cut}, after .* fetch the file"
        ):
            plain(two[:cut] if cut > len(packed) else packed[:cut], compression=kind)


@pytest.mark.parametrize("kind", [GZIP, BZ2, ZIP])
def test_a_flipped_byte_is_noticed(kind: str) -> None:
    data = some_text(100_000)
    packed = PACK[kind](data)
    for at in (len(packed) // 3, len(packed) // 2):
        damaged = bytearray(packed)
        damaged[at] ^= 0x40
        with pytest.raises(ExportError, match=r"(damaged|cut off|something else).*compressed byte \d+"):
            assert plain(bytes(damaged), compression=kind) == data


def test_a_zip_archive_that_is_cut_off_is_refused() -> None:
    with pytest.raises(ExportError, match=r"the zip archive a.dat is cut off or damaged"):
        plain(PACK[ZIP](some_text(10_000))[:-30])


def test_each_file_in_a_zip_archive_is_one_of_its_own() -> None:
    packed = zipped(("d/", b""), ("d/b10.csv", b"10"), ("d/b9.csv", b"9"), ("__MACOSX/d/._b9.csv", b"no"))
    assert find_members(io.BytesIO(packed), "a.zip") == (Member("d/b9.csv", 1, 3), Member("d/b10.csv", 2, 4))
    assert plain(packed, member="d/b10.csv") == b"10"
    with pytest.raises(ExportError, match=r"has 2 files .'d/b9.csv', 'd/b10.csv' ….: say which one"):
        plain(packed)
    with pytest.raises(ExportError, match=r"has no file 'x': it has changed"):
        plain(packed, member="x")


def test_a_stored_file_in_a_zip_archive_is_read_too() -> None:
    assert plain(zipped(("a", b"abc"), how=zipfile.ZIP_STORED)) == b"abc"
    assert plain(zipped(("a", b"abc"), how=zipfile.ZIP_BZIP2)) == b"abc"


def test_archives_that_cannot_be_read_are_refused_with_what_to_do() -> None:
    locked = bytearray(zipped(("a.csv", b"secret")))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ExportError, match=r"'a.csv' in a.dat is encrypted: unpack it with its password"):
        plain(bytes(locked))
    with pytest.raises(ExportError, match=r"'a.csv' in a.dat is encrypted"):
        plain(bytes(locked), member="a.csv")
    strange = bytearray(zipped(("a.csv", b"x")))
    strange[8] = strange[strange.index(b"PK\x01\x02") + 10] = 97
    with pytest.raises(ExportError, match=r"'a.csv' in a.dat cannot be read .*unpack it first"):
        plain(bytes(strange))
    with pytest.raises(ExportError, match=r"has no file in it"):
        plain(zipped())
    with pytest.raises(ExportError, match=r"is an Office file"):
        plain(zipped(("[Content_Types].xml", b""), ("xl/a.xml", b"")))
    with pytest.warns(UserWarning, match=r"Duplicate"):
        twice = zipped(("a", b"1"), ("a", b"2"))
    with pytest.raises(ExportError, match=r"two files 'a'"):
        plain(twice)


def test_other_packings_are_refused_by_name() -> None:
    for head, message in (
        (b"\xfd7zXZ\x00", "xz: unxz it first"),
        (b"Rar!\x1a\x07\x00", "rar archive"),
        (b"a" * 257 + b"ustar", "tar archive: unpack"),
        (b"%PDF-1.7", "is a PDF"),
    ):
        with pytest.raises(ExportError, match=message):
            detect_compression(head, "a.dat")
        with pytest.raises(ExportError, match=r"found inside a compressed file"):
            check_plain(head, "a.dat")
    with pytest.raises(ExportError, match=r"compressed twice, the second time with gzip"):
        check_plain(gzip.compress(b""), "a.gz")
    check_plain(b"BZh,column\n", "a.csv")
    assert detect_compression(b"", "empty") == PLAIN
    with pytest.raises(ExportError, match=r"no compression 'lzma': there are none, gzip"):
        plain(b"", compression="lzma")


def test_a_frame_that_begins_with_one_to_be_skipped_is_zstd() -> None:
    skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"size"
    assert plain(skipped + zstd(b"abc") + skipped + zstd(b"def")) == b"abcdef"


@PACKED
def test_a_storage_that_fails_in_the_midst_is_said_to_have_failed(kind: str) -> None:
    packed = PACK[kind](random.Random(1).randbytes(3_000_000))

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if 1_000_000 < self.tell() < 2_500_000:
                raise Unreachable("the storage is away")
            return super().read(size)

    with open_plain(Broken(packed), "a") as stream, pytest.raises(Unreachable, match="away"):
        list(iter(lambda: stream.read(1 << 16), b""))


def test_the_stream_tells_how_far_it_is_and_serves_buffered_readers() -> None:
    packed = gzip.compress(random.Random(1).randbytes(1_000_000))
    with open_plain(io.BytesIO(packed), "a") as stream:
        assert stream.compressed_bytes <= HEAD_BYTES
        stream.read(10)
        assert 0 < stream.compressed_bytes < 600_000
        assert len(io.BufferedReader(stream).read()) == 999_990
    raw = io.BytesIO(packed)
    open_plain(raw, "a", closes=False).close()
    assert not raw.closed


@PACKED
def test_a_bomb_takes_little_memory(kind: str) -> None:
    packed = PACK[kind](bytes(64 << 20))
    tracemalloc.start()
    try:
        with open_plain(io.BytesIO(packed), "a") as stream:
            total = 0
            while data := stream.read(1 << 20):
                total += len(data)
        assert total == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", COMPRESSIONS)
@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_the_need_of_a_small_source_is_exact(kind: str, size: int) -> None:
    data = some_text(size)
    packed = PACK[kind](data)
    raw = io.BytesIO(packed)
    need = needed_bytes(raw, "a", len(packed), compression=kind)
    assert (need.bytes, need.exact) == (len(data), True)
    assert not raw.closed


@STREAMS
def test_the_need_of_a_large_source_is_told_by_itself_or_estimated(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windrow.export.estimating.SAMPLE_COMPRESSED_BYTES", 800_000)
    data = some_text(4_000_000)
    one = PACK[kind](data)
    need = needed_bytes(io.BytesIO(one), "a", len(one), compression=kind)
    assert not need.exact
    assert need.bytes == len(data) if kind != BZ2 else 0.8 <= need.bytes / len(data) < 1.3
    # Of many members the last one's length says nothing.
    many = b"".join(PACK[kind](data[at : at + 100_000]) for at in range(0, len(data), 100_000))
    need = needed_bytes(io.BytesIO(many), "a", len(many), compression=kind)
    assert 1 <= need.bytes / len(data) < 1.3


def test_a_length_above_four_gibibytes_is_found_by_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windrow.export.estimating.SAMPLE_COMPRESSED_BYTES", 100_000)
    data = some_text(1_000_000)
    length = 9 * 2**30 + 12345
    begin = gzip.compress(data * 2)[:-8]
    size = len(begin) * length // (2 * len(data))

    class Large(io.BytesIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            return super().seek(len(begin) + 4 if offset == size - 4 else offset, whence)

    raw: BinaryIO = Large(begin + bytes(4) + struct.pack("<I", length % 2**32))
    assert needed_bytes(raw, "a", size, compression=GZIP).bytes == length


def test_a_disk_without_room_is_an_error_to_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_disk(tmp_path, 1)
    with pytest.raises(Retry, match=r"the disk of .* the export needs about 1024.0 TiB .*: make room") as refused:
        check_disk(tmp_path, 1 << 50)
    assert refused.value.after is not None
    with pytest.raises(Retry, match=r"the disk of .* is full: make room"), full_disk_is_retried(tmp_path):
        raise OSError(28, "No space left on device")
    with pytest.raises(Retry, match=r"the quota of .* is full"), full_disk_is_retried(tmp_path):
        raise OSError(122, "Disk quota exceeded")
    with pytest.raises(OSError, match=r"broken"), full_disk_is_retried(tmp_path):
        raise OSError(5, "broken")
    assert [shown_bytes(count) for count in (5, 2048, 3 << 30)] == ["5 bytes", "2.0 KiB", "3.0 GiB"]
