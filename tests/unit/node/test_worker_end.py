"""Who is blamed for the end of a worker, and in which words."""

from __future__ import annotations

import dataclasses

import pytest

from windrow.common.words import FailureKind
from windrow.node.shared_page import Executing
from windrow.node.worker_end import (
    WorkerEnd,
    describe_exit,
    explain_kill,
    find_failure,
    over_memory,
    over_time,
    show_bytes,
)

AT_WORK = Executing(feed=4, item=17, since=100.0)
CRASH = WorkerEnd(
    (4, 5), AT_WORK, "exited with code 3", "", wanted=False, memory_bytes_peak=9, log="last words"
)  # fmt: skip


def test_a_crash_is_the_executing_items() -> None:
    failure = find_failure(CRASH, 4, alone=True, once=False)
    assert failure is not None
    assert (failure.item, failure.kind, failure.type, failure.alone) == (17, FailureKind.CRASH, "WorkerCrashed", True)
    assert failure.message == "the worker process exited with code 3 while it executed this item"
    assert (failure.log, failure.memory_bytes_peak) == ("last words", 9)


def test_other_feeds_and_rest_are_not_blamed() -> None:
    assert find_failure(CRASH, 5, alone=False, once=True) is None
    assert find_failure(dataclasses.replace(CRASH, executing=None), 4, alone=False, once=True) is None


def test_a_wanted_end_is_nobodys_fault() -> None:
    assert find_failure(dataclasses.replace(CRASH, wanted=True), 4, alone=False, once=False) is None


def test_an_item_over_its_time_is_told_with_limit_and_time() -> None:
    verdict = over_time(AT_WORK, 2.0, 102.034)
    end = dataclasses.replace(CRASH, wanted=True, verdict=verdict)
    failure = find_failure(end, 4, alone=False, once=False)
    assert failure is not None
    assert (failure.item, failure.kind, failure.type) == (17, FailureKind.TIMEOUT, "TimeoutError")
    assert failure.message.startswith("the item ran for 2.03 s; its limit (timeout) is 2 s")
    assert failure.bases == tuple(kind.__name__ for kind in TimeoutError.__mro__[1:-1])


def test_an_item_that_ended_just_before_the_kill_is_not_told_and_the_one_behind_it_is_innocent() -> None:
    verdict = over_time(AT_WORK, 2.0, 102.0)
    end = dataclasses.replace(CRASH, wanted=True, verdict=verdict, executing=Executing(4, 18, 102.0))
    assert find_failure(end, 4, alone=False, once=False) is None
    once = find_failure(end, 4, alone=False, once=True)
    assert once is not None, "an item that may have begun must not run again unasked"
    assert (once.item, once.kind) == (18, FailureKind.CRASH)


def test_memory_over_the_limit_names_the_way_out() -> None:
    verdict = over_memory(AT_WORK, 3 << 30, 2 << 30)
    assert verdict.kind is FailureKind.CRASH
    assert "3 GiB of memory; the limit is 2 GiB (node.worker_memory_bytes_max): raise it" in verdict.message


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "exited with code 3"), (-11, "was killed by SIGSEGV"), (-63, "was killed by signal 63")],
)
def test_exits_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


@pytest.mark.parametrize(
    ("oom_kills", "words"),
    [
        (None, "that is what the kernel does when memory runs out; its memory had peaked at 1.5 GiB"),
        (2, "memory had run out: the kernel has counted 2 such kills just now"),
        (0, "somebody else has sent it"),
    ],
)
def test_a_kill_is_explained_by_what_the_kernel_tells(oom_kills: int | None, words: str) -> None:
    assert words in explain_kill(3 << 29, oom_kills)


def test_sizes_for_people() -> None:
    assert [show_bytes(size) for size in (0, 1023, 1 << 20, 150 << 20, 5 << 40)] == [
        "0 bytes", "1023 bytes", "1 MiB", "150 MiB", "5120 GiB",
    ]  # fmt: skip
