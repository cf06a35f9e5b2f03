"""Sources are found, opened and recognised again wherever they lie."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from windrow.common.errors import ExportError, Unreachable
from windrow.export.locations import file_name, is_url
from windrow.export.storage import (
    FINGERPRINT_BYTES,
    SourceFile,
    check_unchanged,
    find_difference,
    find_sources,
    fingerprint,
    natural_key,
    open_source,
    read_range,
    stat_source,
)


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/", recursive=True)


def names(found: tuple[SourceFile, ...], base: Path) -> list[str]:
    return [str(Path(file.url).relative_to(base)) for file in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b-10.csv", "b-2.csv", "b-1.csv", "c.txt", "sub/a.csv", "sub/deep/z.csv", ".hidden.csv", "b-02.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "folder.csv").mkdir()
    return tmp_path


def test_a_pattern_gives_its_files_in_natural_order_without_folders_and_hidden_ones(folder: Path) -> None:
    assert names(find_sources(f"{folder}/*.csv"), folder) == ["b-1.csv", "b-02.csv", "b-2.csv", "b-10.csv"]
    assert names(find_sources(f"{folder}/b-?.csv"), folder) == ["b-1.csv", "b-2.csv"]
    deep = ["b-1.csv", "b-02.csv", "b-2.csv", "b-10.csv", "sub/a.csv", "sub/deep/z.csv"]
    assert names(find_sources(f"{folder}/**/*.csv"), folder) == deep
    assert names(find_sources(f"file://{folder}/sub/**/*.csv"), folder) == ["sub/a.csv", "sub/deep/z.csv"]


def test_the_order_does_not_depend_on_that_of_the_listing() -> None:
    wanted = ["a/1", "a/2", "a/10", "a-b/1", "b", "b1", "b01", "b1x", "b²", "b" + "9" * 5000]
    wanted.sort(key=natural_key)
    assert wanted.index("a/2") < wanted.index("a/10")
    for seed in range(5):
        mixed = list(wanted)
        random.Random(seed).shuffle(mixed)
        assert sorted(mixed, key=natural_key) == wanted


def test_a_file_with_signs_of_a_pattern_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "data[1]*.csv").write_text("x")
    (tmp_path / "data1.csv").write_text("y")
    assert names(find_sources(f"{tmp_path}/data[1]*.csv"), tmp_path) == ["data[1]*.csv"]


def test_local_paths_need_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "a b.csv").write_bytes(b"0123456789")
    program = """
import sys
sys.modules["fsspec"] = None
from windrow.common.errors import ExportError
from windrow.export.storage import *
(file,) = find_sources(sys.argv[1])
assert (file.bytes, read_range(file.url, 2, 5)) == (10, b"234")
fingerprint(file)
try:
    find_sources("s3://bucket/key")
except ExportError as error:
    print(error)
"""
    for name in (f"{tmp_path}/a b.csv", f"file://{tmp_path}/a%20b.csv", f"file://localhost{tmp_path}/a*.csv"):
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "s3://bucket/key needs the package fsspec" in done.stdout
        assert "windrow-engine[export]" in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", "no source .*missing.csv: check the path"),
        ("*.json", "no file matches .*json: check the pattern, and put it in quotes"),
        ("sub", r"sub is a folder: name the files in it, e.g. '.*sub/\*.csv'"),
        ("pipe", "pipe is no file"),
        ("nul\0l", "cannot be read"),
    ],
)
def test_what_is_no_source_is_refused_with_what_to_do(folder: Path, name: str, message: str) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ExportError, match=message):
        find_sources(f"{folder}/{name}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/key.csv", r"needs another package: pip install 'windrow-engine\[s3\]' on every node"),
        ("https://host/key.csv", r"needs another package: pip install 'windrow-engine\[http\]' on every node"),
        ("gs://bucket/*.csv", "needs another package: pip install gcsfs on every node"),
        ("nonsense://x/y", "cannot be opened .*check what stands before ://"),
        ("file://elsewhere/a.csv", "is on another machine: mount it"),
        ("memory://none.csv", "no source memory://none.csv: check the path"),
        ("memory://none*.csv", "no file matches"),
        ("simplecache::memory://x/*.csv", "cannot be used together with ::"),
    ],
)
def test_urls_that_lead_nowhere_are_refused_with_what_to_do(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("s3fs", "gcsfs", "aiohttp", "fsspec.implementations.http"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("s3", "https"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    with pytest.raises(ExportError, match=message):
        find_sources(url)


def test_passwords_in_urls_are_not_shown() -> None:
    with pytest.raises(ExportError) as refused:
        find_sources("s3://me:geheim@bucket/key.csv")
    assert "geheim" not in str(refused.value)
    assert file_name("ftp://me:geheim@host/a/key.csv") == "key.csv"


def test_a_range_is_read_whole_though_each_read_gives_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"0123456789")
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, at: read(handle, min(size, 3), at))
    for start in range(12):
        for stop in range(12):
            assert read_range(str(path), start, stop) == b"0123456789"[start:stop]


def test_urls_are_listed_opened_and_read_in_ranges(memory: Any) -> None:
    for name in ("/d/p10.csv", "/d/p9.csv", "/d/e/p1.csv", "/d/.p.csv"):
        memory.pipe_file(name, f"<{name}>".encode())
    found = find_sources("memory://d/*.csv")
    assert [file.url for file in found] == ["memory:///d/p9.csv", "memory:///d/p10.csv"]
    assert next(file.url for file in find_sources("memory://d/**/*.csv")) == "memory:///d/e/p1.csv"
    assert found[0].bytes == len("</d/p9.csv>")
    assert found[0].name == "p9.csv"
    assert is_url(found[0].url)
    assert read_range(found[0].url, 1, 5) == b"/d/p"
    assert read_range(found[0].url, 5, 5) == b""
    with open_source(found[0].url) as file:
        assert file.read(3) == b"</d"
        file.seek(-2, os.SEEK_END)
        assert file.read() == b"v>"
        assert file.seekable()
    with pytest.raises(ExportError, match="is a folder"):
        stat_source("memory://d")


def test_a_storage_that_fails_is_told_to_be_tried_again(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/a.csv", b"abc")
    (found,) = find_sources("memory://a.csv")
    opened = open_source(found.url)

    class Broken:
        def read(self, size: int) -> bytes:
            raise ConnectionResetError("the other side\nhas hung up")

    opened.raw._file = Broken()  # type: ignore[attr-defined]
    with pytest.raises(Unreachable, match=r"memory.*a.csv cannot be read now \(the other side\): try again"):
        opened.read()


def test_a_fingerprint_tells_what_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    data = bytearray(random.Random(1).randbytes(3 * FINGERPRINT_BYTES))
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18))
    file = stat_source(str(path))
    first = fingerprint(file)
    assert find_difference(first, fingerprint(stat_source(str(path)))) is None
    check_unchanged(file)

    def changed(data: bytes, mtime_ns: int = 10**18) -> str | None:
        path.write_bytes(data)
        os.utime(path, ns=(mtime_ns, mtime_ns))
        return find_difference(first, fingerprint(stat_source(str(path))))

    assert changed(bytes(data), 10**18 + 1) == "a.csv was written anew"
    with pytest.raises(ExportError, match="changed while it was exported: start the export again"):
        check_unchanged(file)
    for at in (0, FINGERPRINT_BYTES - 1, 2 * FINGERPRINT_BYTES, len(data) - 1):
        other = bytearray(data)
        other[at] ^= 1
        assert changed(bytes(other)) == "a.csv has another beginning or end"
    assert changed(bytes(data[:-1])) == f"a.csv had {len(data)} bytes and has {len(data) - 1}"
    with pytest.raises(ExportError, match="changed while"):
        fingerprint(file)


@pytest.mark.parametrize("size", [0, 1, FINGERPRINT_BYTES, FINGERPRINT_BYTES + 1, 2 * FINGERPRINT_BYTES])
def test_every_byte_of_a_small_file_is_in_its_fingerprint(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(size))
    before = fingerprint(stat_source(str(path))).sha256
    for at in {0, size // 2, size - 1} if size else ():
        data = bytearray(size)
        data[at] = 1
        path.write_bytes(data)
        assert fingerprint(stat_source(str(path))).sha256 != before


def test_a_file_in_memory_is_recognised_again(memory: Any) -> None:
    memory.pipe_file("/a.csv", b"abc")
    file = stat_source("memory://a.csv")
    assert file.version
    check_unchanged(file)
    memory.pipe_file("/a.csv", b"abd")
    assert find_difference(fingerprint(file), fingerprint(stat_source("memory://a.csv"))) is not None
