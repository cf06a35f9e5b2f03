"""The spool of outcomes that are not acknowledged."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from windrow.common.errors import ConfigError
from windrow.common.limits import MESSAGE_BYTES_MAX
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


def test_a_disk_that_fails_is_told_of_once_and_stops_new_work_until_the_last_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(os, "write", fail)
        tickets = [spool.append(b"lost") for _ in range(3)]
    assert [entry["action"] for entry in logs] == ["spool_failed"]
    for ticket in tickets:
        assert spool.full
        spool.settle(ticket)
    assert not spool.full
    spool.append(b"kept")
    assert payloads(tmp_path) == [b"kept"]


def fail(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_after(writes: int, then_bytes: int = 0) -> Callable[[int, bytes], int]:
    """So many writes succeed; of the next one so many bytes are written, and no more."""
    write, done = os.write, 0

    def limited(fd: int, data: bytes) -> int:
        nonlocal done
        done += 1
        if done <= writes:
            return write(fd, data)
        if done == writes + 1 and then_bytes:
            return write(fd, data[:then_bytes])
        return fail()

    return limited


def payloads(folder: Path) -> list[bytes]:
    """What the next start reads."""
    return [record.payload for record in Spool(folder, "next", 1 << 20).read_old()]


@pytest.mark.parametrize(("writes", "then_bytes"), [(0, 0), (0, 10), (0, 20), (1, 0), (1, 3), (1, 11)])
def test_what_follows_a_record_that_the_disk_did_not_take_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, then_bytes: int
) -> None:
    """Wherever it failed: in the head of a new file, or amid a record."""
    spool = Spool(tmp_path, "b", 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail_after(writes, then_bytes))
        lost = spool.append(b"lost")
    after = [spool.append(b"after 1"), spool.append(b"after 2")]
    again = Spool(tmp_path, "c", 1 << 20)
    assert list(again.read_old()) == [Spooled("b", b"after 1"), Spooled("b", b"after 2")]
    for ticket in (lost, *after):
        spool.settle(ticket)
    spool.close()
    assert not files(tmp_path)


def test_after_a_failure_of_the_disk_too_nothing_that_is_acknowledged_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    tickets = [spool.append(b"before")]
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", fail)
        tickets.append(spool.append(b"lost"))
    for ticket in tickets:
        spool.settle(ticket)
    assert payloads(tmp_path) == []


@pytest.mark.parametrize("leave", [Spool.forget_old, Spool.set_old_aside])
def test_what_older_boots_left_is_settled_once(tmp_path: Path, leave: Callable[[Spool], None]) -> None:
    Spool(tmp_path, "a", 1 << 20).append(b"old")
    spool = Spool(tmp_path, "b", 1 << 20)
    leave(spool)
    with capture_logs() as logs:
        assert list(spool.read_old()) == []
    assert logs == []
    assert spool.size_bytes == 0


def test_a_boot_whose_name_is_no_text_keeps_nothing_from_being_read(tmp_path: Path) -> None:
    records = b"".join(struct.pack("<II", len(each), zlib.crc32(each)) + each for each in (b"\xff", b"good"))
    (tmp_path / "0000000001.spool").write_bytes(MAGIC + records)
    assert payloads(tmp_path) == [b"good"]


def test_a_disk_that_takes_a_few_bytes_at_a_time_gets_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def write_five(fd: int, data: bytes) -> int:
        return write(fd, data[:5])

    monkeypatch.setattr(os, "write", write_five)
    Spool(tmp_path, "b", 1 << 20).append(b"x" * 100)
    assert payloads(tmp_path) == [b"x" * 100]


def test_a_file_that_cannot_be_made_costs_no_older_boot_its_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(tmp_path, "a", 1 << 20).append(b"old")
    spool = Spool(tmp_path, "b", 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fail)
        ticket = spool.append(b"lost")
    spool.settle(ticket)
    assert list(spool.read_old()) == [Spooled("a", b"old")]


def test_a_file_that_cannot_be_emptied_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "b", 1 << 20)
    ticket = spool.append(b"done")
    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", fail)
        spool.settle(ticket)
    assert payloads(tmp_path) == []
    spool.append(b"open")
    assert payloads(tmp_path) == [b"open"]


def test_what_is_open_in_the_newest_file_stays_when_an_older_one_is_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 80_000)
    first = spool.append(b"x" * 20_000)
    spool.append(b"open")
    spool.settle(first)
    assert payloads(tmp_path) == [b"open"]
    assert len(files(tmp_path)) == 1


def test_a_file_emptied_again_and_again_is_used_for_long(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 80_000)
    names: set[str] = set()
    for _ in range(20):
        spool.settle(spool.append(b"x" * 5_000))
        names |= {path.name for path in files(tmp_path)}
    assert len(names) == 1


def test_after_any_number_of_files_no_more_than_one_is_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    spool = Spool(tmp_path, "b", 80_000)
    for _ in range(20):
        spool.append(b"x" * 10_000)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    spool.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(payloads(tmp_path)) == 20


def test_a_start_that_ends_at_once_leaves_what_older_ones_left(tmp_path: Path) -> None:
    Spool(tmp_path, "a", 1 << 20).append(b"old")
    Spool(tmp_path, "b", 1 << 20).close()
    assert payloads(tmp_path) == [b"old"]


def test_outcomes_are_for_the_user_of_the_node_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        Spool(tmp_path, "b", 1 << 20).append(b"x")
    finally:
        os.umask(mask)
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_folder_is_made_with_those_above_it_or_named_in_one_line(tmp_path: Path) -> None:
    Spool(tmp_path / "a" / "b", "b", 1 << 20).append(b"x")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/spool cannot be used: Not a directory"):
        Spool(tmp_path / "file" / "spool", "b", 1 << 20)


def test_what_was_set_aside_is_not_overwritten_by_what_is_set_aside_later(tmp_path: Path) -> None:
    for text in (b"first", b"second"):
        Spool(tmp_path, "a", 1 << 20).append(text)
        Spool(tmp_path, "b", 1 << 20).set_old_aside()
    assert len(list(tmp_path.glob("*.refused"))) == 2
    aside = b"".join(path.read_bytes() for path in tmp_path.glob("*.refused"))
    assert b"first" in aside
    assert b"second" in aside


def test_files_of_other_names_are_in_nobodys_way(tmp_path: Path) -> None:
    for text in (b"old", b"less old"):
        Spool(tmp_path, "a", 1 << 20).append(text)
    (tmp_path / "notes.spool").write_bytes(b"")
    (tmp_path / "notes.refused").write_bytes(b"")
    spool = Spool(tmp_path, "b", 1 << 20)
    spool.append(b"new")
    assert not spool.full
    assert payloads(tmp_path) == [b"old", b"less old", b"new"]


def test_zeros_in_place_of_records_are_cut_off(tmp_path: Path) -> None:
    """As a file may end where its machine has lost its power."""
    Spool(tmp_path, "b", 1 << 20).append(b"good")
    (path,) = files(tmp_path)
    size = path.stat().st_size
    os.truncate(path, size + 100_000)
    with capture_logs() as logs:
        assert payloads(tmp_path) == [b"good"]
    assert [entry["action"] for entry in logs] == ["spool_cut"]
    assert path.stat().st_size == size


def test_a_whole_file_is_read_without_a_word(tmp_path: Path) -> None:
    Spool(tmp_path, "b", 1 << 20).append(b"good")
    with capture_logs() as logs:
        assert payloads(tmp_path) == [b"good"]
    assert logs == []


def test_a_file_that_cannot_be_read_is_told_of_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "0000000001.spool").mkdir()
    Spool(tmp_path, "b", 1 << 20).append(b"good")
    with capture_logs() as logs:
        assert payloads(tmp_path) == [b"good"]
    assert [entry["action"] for entry in logs] == ["spool_failed"]


def test_the_largest_message_comes_back_and_a_length_beyond_it_reserves_no_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "b", 1 << 30)
    spool.append(b"x" * MESSAGE_BYTES_MAX)
    (path,) = files(tmp_path)
    with path.open("ab") as file:
        file.write(struct.pack("<II", 1 << 31, 0))
    tracemalloc.start()
    try:
        lengths = [len(payload) for payload in payloads(tmp_path)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lengths == [MESSAGE_BYTES_MAX]
    assert peak < 1 << 30
