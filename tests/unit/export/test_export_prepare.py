"""Prepared segments are the plain text, cut where it would be cut by itself, however it was packed and encoded."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import tracemalloc
import zlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sequential_cut import Segment, count_source, cut_segments
from tests.unit.export.test_export_compression import PACK
from tests.unit.export.test_export_encoding import WORDS, packed
from windrow.common.errors import ExportError, Retry
from windrow.export import prepare as prepare_module
from windrow.export.compression import COMPRESSIONS, GZIP, ZIP
from windrow.export.dialect import LINES, RFC4180, Dialect
from windrow.export.encoding import BIG5, ENCODINGS, GB18030, GBK, LATIN1, UTF8, UTF16, UTF16_LE
from windrow.export.prepare import PreparedSegment, TextSource, estimate_bytes, find_prepared, prepare
from windrow.export.storage import fingerprint, stat_source


def make_source(path: Path, data: bytes, **options: Any) -> TextSource:
    path.write_bytes(data)
    file = stat_source(str(path))
    given: dict[str, Any] = {"encoding": UTF8, "dialect": RFC4180, "segment_bytes": 1000} | options
    return TextSource(file, fingerprint(file), **given)


def cut(text: bytes, segment_bytes: int, dialect: Dialect = RFC4180) -> list[Segment]:
    def read(offset: int, length: int) -> bytes:
        return text[offset : offset + length]

    starts = count_source(read, start=0, stop=len(text), line=1, dialect=dialect)
    return cut_segments(read, starts, segment_bytes, dialect)


def texts_of(segments: list[PreparedSegment], work: Path) -> list[bytes]:
    return [(work / segment.file).read_bytes() for segment in segments]


@st.composite
def tables(draw: st.DrawFn, kind: str) -> str:
    fields = st.text(st.sampled_from("".join(WORDS[kind]) + '",|\n\r 01'), max_size=8)
    sink = io.StringIO(newline="")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    csv.writer(sink, lineterminator=end).writerows(
        draw(st.lists(st.lists(fields, min_size=2, max_size=3), max_size=20))
    )
    return sink.getvalue().removesuffix(end if draw(st.booleans()) else "\0")


KINDS = sorted(set(ENCODINGS) - {UTF16})


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_segments_are_those_of_the_plain_text(tmp_path: Path, kind: str, compression: str, data: st.DataObject) -> None:
    text = data.draw(tables(kind))
    segment_bytes = data.draw(st.integers(1, 80))
    # What other parts of the text hide must not depend on how much of it is there at a time.
    read_bytes = data.draw(st.sampled_from([1, 3, 1 << 20]))
    raw = PACK[compression](packed(text, kind))
    source = make_source(tmp_path / "in", raw, encoding=kind, compression=compression, segment_bytes=segment_bytes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("windrow.export.encoding.READ_BYTES", read_bytes)
        for old in tmp_path.glob("prepared-*"):
            old.unlink()
        segments = list(prepare(source, tmp_path, "u"))
    plain = text.encode()
    assert b"".join(texts_of(segments, tmp_path)) == plain
    assert [(s.number, s.start, s.stop, s.line) for s in segments] == [
        (s.number, s.start, s.stop, s.line) for s in cut(plain, segment_bytes)
    ]
    assert [s.lines for s in segments] == [part.count(b"\n") for part in texts_of(segments, tmp_path)]
    assert [s.last for s in segments] == [False] * (len(segments) - 1) + [True]
    assert not any(s.inside for s in segments)
    assert find_prepared(source, tmp_path) == segments


@pytest.mark.parametrize(("kind", "character"), [(GBK, "瓅"), (GB18030, "瓅"), (BIG5, "育")])
def test_a_character_with_the_delimiter_in_it_comes_through(tmp_path: Path, kind: str, character: str) -> None:
    bar = next(
        c for c in map(chr, range(0x4E00, 0x9FFF)) if len(raw := c.encode(kind, "ignore")) == 2 and raw[1] == 0x7C
    )
    text = f'a|b\n{bar}|1\n"x|{bar}\n"|2\n'
    source = make_source(tmp_path / "in", text.encode(kind), encoding=kind, dialect=Dialect("|"), segment_bytes=5)
    segments = list(prepare(source, tmp_path, "u"))
    assert [part.decode() for part in texts_of(segments, tmp_path)] == ["a|b\n" + f"{bar}|1\n", f'"x|{bar}\n"|2\n']


def test_a_byte_order_mark_and_a_missing_last_newline_are_handled(tmp_path: Path) -> None:
    for kind, codec in ((UTF8, "utf-8-sig"), (UTF16, "utf-16"), (UTF16_LE, "utf-16"), (GB18030, "gb18030")):
        text = ("\ufeff" if codec == "gb18030" else "") + "a,b\r\n1,é"
        source = make_source(tmp_path / "in", text.encode(codec), encoding=kind)
        (segment,) = prepare(source, tmp_path, "u")
        assert (tmp_path / segment.file).read_bytes() == "a,b\r\n1,é".encode()
        assert (segment.lines, segment.last, segment.inside) == (1, True, False)


def test_an_empty_source_is_one_empty_segment(tmp_path: Path) -> None:
    (segment,) = prepare(make_source(tmp_path / "in", gzip.compress(b""), compression=GZIP), tmp_path, "u")
    assert (segment.bytes, segment.last, (tmp_path / segment.file).read_bytes()) == (0, True, b"")


def test_rows_are_found_where_quotes_are_odd_and_that_is_told_and_without_quotes_they_mean_nothing(
    tmp_path: Path,
) -> None:
    raw = gzip.compress(b'a,b\n1,5"\n2,3\n')
    source = make_source(tmp_path / "in", raw, compression=GZIP, segment_bytes=4)
    segments = list(prepare(source, tmp_path, "u"))
    assert [(s.bytes, s.last, s.inside) for s in segments] == [(4, False, False), (5, False, True), (4, True, True)]
    segments = list(prepare(replace(source, dialect=LINES), tmp_path, "u"))
    assert [(s.bytes, s.inside) for s in segments] == [(4, False), (5, False), (4, False)]


def test_a_segment_is_there_before_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(b"1,2\n" * 3_000_000)
    source = make_source(tmp_path / "in", whole[:-100], compression=GZIP, segment_bytes=1 << 20)
    running = prepare(source, tmp_path, "u")
    # Estimating would read all of so small a source, and meet the damage.
    monkeypatch.setattr(prepare_module, "estimate_bytes", lambda _: 0)
    assert [segment.bytes for segment in islice(running, 3)] == [1 << 20] * 3
    with pytest.raises(ExportError, match=r"in is cut off: its gzip data end in their midst at compressed byte"):
        list(running)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_run_that_was_cut_off_is_gone_on_with_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"".join(b'%d,"x\ny"\n' % number for number in range(3000))
    source = make_source(tmp_path / "in", gzip.compress(text), compression=GZIP, segment_bytes=4096)
    whole_folder = tmp_path / "whole"
    whole_folder.mkdir()
    whole = list(prepare(source, whole_folder, "w"))
    running = prepare(source, tmp_path, "a")
    first = list(islice(running, 3))
    running.close()
    (tmp_path / f"{whole[3].file}.b.tmp").write_bytes(b"half of one")
    written: list[str] = []
    real = prepare_module.write_durably

    def write(path: Path, chunks: Any, unique: str) -> tuple[int, str]:
        written.append(path.name)
        return real(path, chunks, unique)

    monkeypatch.setattr(prepare_module, "write_durably", write)
    again = list(prepare(source, tmp_path, "c"))
    assert again[:3] == first
    assert again == whole
    assert texts_of(again, tmp_path) == texts_of(whole, whole_folder)
    assert [name for name in written if name.endswith(".text")] == [segment.file for segment in whole[3:]]
    written.clear()
    assert list(prepare(source, tmp_path, "d")) == whole
    assert written == []


@pytest.mark.parametrize("harm", ["short", "gone", "note", "strange note"])
def test_a_segment_that_is_not_whole_is_made_again(tmp_path: Path, harm: str) -> None:
    text = b"a,b\n" * 5000
    source = make_source(tmp_path / "in", gzip.compress(text), compression=GZIP, segment_bytes=4096)
    whole = list(prepare(source, tmp_path, "a"))
    file = tmp_path / whole[1].file
    note = file.with_suffix(".json")
    if harm == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "gone":
        file.unlink()
    elif harm == "note":
        note.write_bytes(note.read_bytes()[:-10])
    else:
        note.write_text(json.dumps({"number": "one"}))
    assert find_prepared(source, tmp_path) == whole[:1]
    assert list(prepare(source, tmp_path, "b")) == whole
    assert b"".join(texts_of(whole, tmp_path)) == text


def test_segments_of_another_source_or_other_options_are_not_taken_over(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in", b"a,b\n" * 5000, segment_bytes=4096)
    list(prepare(source, tmp_path, "a"))
    for other in (
        replace(source, encoding=LATIN1),
        replace(source, segment_bytes=4097),
        replace(source, dialect=LINES),
        replace(source, member="x"),
        replace(source, fingerprint=replace(source.fingerprint, sha256="0")),
    ):
        assert find_prepared(other, tmp_path) == []


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in", b"a,b\n" * 5000, segment_bytes=4096)
    running = prepare(source, tmp_path, "a")
    next(running)
    os.utime(tmp_path / "in", ns=(1, 1))
    with pytest.raises(ExportError, match="in changed while it was exported"):
        list(running)
    with pytest.raises(ExportError, match="in changed while it was exported"):
        list(islice(prepare(source, tmp_path, "b"), 4, None))


def test_a_wrong_byte_is_told_with_its_place_and_an_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    raw = gzip.compress(b"a,b\n" * 1000 + b"\xff,1\n")
    source = make_source(tmp_path / "in", raw, compression=GZIP, segment_bytes=100)
    with pytest.raises(ExportError, match="in is not utf-8: byte 4000, in line 1001, begins with ff"):
        list(prepare(source, tmp_path, "a"))
    source = make_source(tmp_path / "in", gzip.compress(raw), compression=GZIP)
    with pytest.raises(ExportError, match="in is compressed twice, the second time with gzip"):
        list(prepare(source, tmp_path, "a"))
    source = make_source(tmp_path / "in", PACK[ZIP](b"a"), compression=ZIP, member="b.csv")
    with pytest.raises(ExportError, match=r"b.csv"):
        list(prepare(source, tmp_path, "a"))


def test_a_disk_without_room_is_told_before_and_during(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(tmp_path / "in", "ä,b\n".encode("latin-1") * 5000, encoding=LATIN1, segment_bytes=4096)
    assert estimate_bytes(source) == 5 * 5000
    asked: list[int] = []

    def refuse(folder: Path, needed: int) -> None:
        asked.append(needed)
        raise Retry("no room", after=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "check_disk", refuse)
        with pytest.raises(Retry, match="no room"):
            next(prepare(source, tmp_path, "a"))
    assert asked == [5 * 5000]

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "write_durably", full)
        with pytest.raises(Retry, match=r"the disk of .* is full: make room"):
            next(prepare(source, tmp_path, "a"))


def test_a_work_folder_that_goes_ends_the_work_with_a_reason(tmp_path: Path) -> None:
    source = make_source(tmp_path / "in", b"a,b\n" * 5000, segment_bytes=4096)
    work = tmp_path / "work"
    with pytest.raises(ExportError, match=r"work has gone: the export was cancelled"):
        next(prepare(source, work, "a"))
    work.mkdir()
    running = prepare(source, work, "a")
    next(running)
    shutil.rmtree(work)
    with pytest.raises(ExportError, match=r"work has gone: the export was cancelled"):
        next(running)


@pytest.mark.system
def test_two_hundred_megabytes_take_little_memory(tmp_path: Path) -> None:
    kind = GBK
    rows = packed("".join(f'{number},王伟,"陈\n静"\n' for number in range(100_000)), kind)
    times = 200_000_000 // len(rows)
    packed_rows = zlib_compressed(rows, times)
    source = make_source(tmp_path / "in", packed_rows, compression=GZIP, encoding=kind, segment_bytes=16 << 20)
    done: list[PreparedSegment] = []
    tracemalloc.start()
    try:
        for segment in prepare(source, tmp_path, "u"):
            done.append(segment)
            (tmp_path / segment.file).unlink()
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
    assert done[-1].stop == len(rows.decode(kind).encode()) * times
    assert done[-1].line + done[-1].lines == 200_000 * times + 1


def zlib_compressed(rows: bytes, times: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(rows) for _ in range(times)) + packer.flush()
