"""The spool of outcomes that are not acknowledged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from windrow.node.spool import MAGIC, Spool, Spooled


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_what_one_boot_left_the_next_one_reads(tmp_path: Path) -> None:
    first = Spool(tmp_path, "boot1", 1 << 20)
    for text in (b"a", b"", b"c" * 70_000):
        first.append(text)
    second = Spool(tmp_path, "boot2", 1 << 20)
    assert list(second.read_old()) == [Spooled("boot1", text) for text in (b"a", b"", b"c" * 70_000)]
    second.append(b"new")
    second.forget_old()
    third = Spool(tmp_path, "boot3", 1 << 20)
    assert list(third.read_old()) == [Spooled("boot2", b"new")]


def test_no_outcome_is_on_disk_when_all_is_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    tickets = [spool.append(b"x" * 100) for _ in range(3)]
    for ticket in tickets:
        assert spool.size_bytes > 300
        spool.settle(ticket)
    assert spool.size_bytes == 0
    assert sum(path.stat().st_size for path in files(tmp_path)) < 100
    assert list(Spool(tmp_path, "c", 1 << 20).read_old()) == []
    spool.append(b"y")
    assert list(Spool(tmp_path, "c", 1 << 20).read_old()) == [Spooled("b", b"y")]


def test_one_file_serves_reports_that_are_acknowledged_one_by_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    for _ in range(10):
        spool.settle(spool.append(b"x"))
    assert len(files(tmp_path)) == 1
    spool.close()
    assert not files(tmp_path)


def test_what_is_not_acknowledged_outlives_the_close(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    spool.settle(spool.append(b"x"))
    spool.append(b"y")
    spool.close()
    assert list(Spool(tmp_path, "c", 1 << 20).read_old()) == [Spooled("b", b"y")]


def test_segments_go_one_by_one_so_that_steady_work_does_not_fill_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 80_000)
    last = spool.append(b"x" * 5_000)
    for _ in range(100):
        ticket = spool.append(b"x" * 5_000)
        spool.settle(last)
        last = ticket
        assert not spool.full
    assert spool.size_bytes < 30_000


@pytest.mark.parametrize("cut", [1, 4, 9, 100, 1000, 1007])
def test_a_damaged_tail_is_cut_off(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    spool.append(b"good")
    spool.append(b"z" * 1000)
    (path,) = files(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    again = Spool(tmp_path, "c", 1 << 20)
    assert list(again.read_old()) == [Spooled("b", b"good")]
    assert list(again.read_old()) == [Spooled("b", b"good")]
    assert path.stat().st_size == len(MAGIC) + 8 + 1 + 8 + 4


def test_a_flipped_bit_ends_the_reading_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    spool.append(b"good")
    spool.append(b"bad!")
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert list(Spool(tmp_path, "c", 1 << 20).read_old()) == [Spooled("b", b"good")]


def test_a_file_that_is_no_spool_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "0000000003.spool").write_bytes(b"something else")
    spool = Spool(tmp_path, "b", 1 << 20)
    assert list(spool.read_old()) == []
    spool.append(b"x")
    assert [path.stem for path in files(tmp_path)] == ["0000000003", "0000000004"]


def test_over_the_limit_it_is_full_and_still_keeps_everything(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 10_000)
    tickets = [spool.append(b"x" * 1_000) for _ in range(30)]
    assert spool.full
    assert len(list(Spool(tmp_path, "c", 1 << 20).read_old())) == 30
    for ticket in tickets:
        spool.settle(ticket)
    assert not spool.full


def test_what_the_scheduler_refused_is_set_aside(tmp_path: Path) -> None:
    Spool(tmp_path, "b", 1 << 20).append(b"x")
    spool = Spool(tmp_path, "c", 1 << 20)
    spool.set_old_aside()
    assert not files(tmp_path)
    assert len(list(tmp_path.glob("*.refused"))) == 1
    assert spool.size_bytes == 0


def test_a_disk_that_fails_stops_new_work_until_all_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    tickets = [spool.append(b"before")]

    def fail(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        tickets.append(spool.append(b"lost"))
    assert spool.full
    tickets.append(spool.append(b"after"))
    assert [record.payload for record in Spool(tmp_path, "c", 1 << 20).read_old()] == [b"before", b"after"]
    for ticket in tickets:
        spool.settle(ticket)
    assert not spool.full
