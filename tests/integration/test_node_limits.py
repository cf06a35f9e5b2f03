"""What a node does when items crash, run too long, take too much memory, are cancelled, or the node itself is hit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.node_harness import FakeScheduler, NodeProcess, children_of, is_alive, item_chunk, number_chunk, wait_for
from windrow.common.words import FailureKind, Range

pytestmark = pytest.mark.integration

TASKS = '''
import ctypes, logging, os, pathlib, signal, sys, time
import windrow
from windrow.common.errors import Retry, SoftTimeout
from windrow.common.tasks import task

class Mine(LookupError): pass

@task
def same(x): return x

@task
def pid(x): return os.getpid()

@task
def raises(x):
    if x == 0: raise Mine("mine")
    if x == 1: raise Retry("later", after=7.5)
    if x == 2: raise Retry()
    if x == 3: raise Retry("odd", after="soon")
    if x == 4: raise Retry("long ago", after=-5)
    return x

@task
def sleeps(x, s=0.0):
    pathlib.Path(f"ran-{x}").open("a").write("x")
    end = time.monotonic() + s
    while time.monotonic() < end: time.sleep(0.001)
    return x

@task
def holds_the_lock(x):
    """Item 5 keeps the interpreter's lock, so that no other thread of the worker runs."""
    pathlib.Path(f"ran-{x}").open("a").write("x")
    if x == 5: ctypes.PyDLL(None).usleep(900_000)
    else: time.sleep(0.01)
    return x

@task
def tidies(x):
    try:
        time.sleep(30 if x else 0)
    except SoftTimeout:
        return "tidied"
    return "in time"

@task
def is_stopped(x): time.sleep(30)

@task
async def is_stopped_later(x):
    import asyncio
    await asyncio.sleep(30)

@task
def prints_and_dies(x):
    if x == 3:
        for number in range(40): print(f"line {number}")
        print("to stderr", file=sys.stderr)
        sys.stdout.write("no end of line")
        sys.stdout.flush()
        os._exit(4)
    return x

@task
def prints_much(x):
    for number in range(3000): print("much")
    return x

@task
def segfaults(x): ctypes.string_at(0)

@task
def grows(x):
    if x == 3:
        kept = b"x" * (200 << 20)
        time.sleep(30)
    return x

KEPT = []

@task
def keeps(x):
    KEPT.append(b"x" * (20 << 20))
    return os.getpid()

@task
def dies_by_kill(x):
    if x == 3: os.kill(os.getpid(), signal.SIGKILL)
    return x

@task
def tells(x):
    item = windrow.current()
    item.logger.info("hello %s", "there")
    return [item.job, item.index, item.item_id, item.attempt, item.cancelled,
            None if item.deadline is None else item.deadline - time.monotonic()]

@task
def waits(x):
    pathlib.Path(f"started-{x}").touch()
    while not pathlib.Path(f"go-{x}").exists() and not pathlib.Path("go").exists(): time.sleep(0.005)
    return os.getpid()

@task
def counts_then_dies(x):
    with open(f"ran-{x}", "a") as file: file.write("x")
    if x == 60: os._exit(1)
    return x

@task
def ends_when_cancelled(x):
    pathlib.Path(f"started-{x}").touch()
    while not windrow.current().cancelled: time.sleep(0.005)
    pathlib.Path(f"cancelled-{x}").touch()
    if x == 1: time.sleep(60)
    return x
'''

StartNode = Callable[..., NodeProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mytasks.py").write_text(TASKS)
    return tmp_path


@pytest.fixture
def scheduler() -> Iterator[FakeScheduler]:
    made = FakeScheduler()
    yield made
    made.close()


@pytest.fixture
def start_node(scheduler: FakeScheduler, folder: Path) -> Iterator[StartNode]:
    made: list[NodeProcess] = []

    def start(**settings: object) -> NodeProcess:
        made.append(NodeProcess(scheduler.url, folder, **cast("dict[str, Any]", settings)))
        scheduler.wait_hello()
        return made[-1]

    yield start
    for node in made:
        node.close()
        print(node.log())


def started(folder: Path, *items: int) -> bool:
    return all((folder / f"started-{item}").exists() for item in items)


def runs_of(folder: Path, item: int) -> int:
    path = folder / f"ran-{item}"
    return len(path.read_text()) if path.exists() else 0


# ── Exceptions ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failure_names_the_bases_and_when_the_task_wants_to_be_tried_again(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    start_node()
    chunk = number_chunk("mytasks:raises", 0, 6)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    mine = found.failures[0]
    assert mine.type.endswith(".Mine")
    assert mine.bases == ("LookupError", "Exception", "BaseException")
    retry = found.failures[1]
    assert (retry.kind, retry.type, retry.after_s) == (FailureKind.ERROR, "windrow.common.errors.Retry", 7.5)
    assert [found.failures[item].after_s for item in (0, 2, 3, 4)] == [None, None, None, 0.0]


# ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_item_over_its_time_is_killed_and_nothing_else_is_lost(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node()
    chunk = item_chunk("mytasks:sleeps", [(item, 30.0 if item == 7 else 0.01) for item in range(40)], timeout_s=0.6)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {7}
    failure = found.failures[7]
    assert (failure.kind, failure.type, failure.alone) == (FailureKind.TIMEOUT, "TimeoutError", False)
    assert "Exception" in failure.bases
    assert "limit (timeout) is 0.6 s" in failure.message
    ran_s = float(failure.message.partition("ran for ")[2].split()[0])
    assert 0.6 <= ran_s < 0.75
    assert [runs_of(folder, item) for item in range(40)] == [1] * 40
    after = number_chunk("mytasks:same", 0, 100)
    scheduler.put(after)
    scheduler.wait_accounted(after)
    wait_for(lambda: len(children_of(node.process.pid)) == 2, "the worker to be replaced")
    assert scheduler.reports[-1].load is None or scheduler.reports[-1].load.workers_lost == 0


def test_items_finished_before_one_that_blocks_the_whole_worker_stay_finished(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    start_node(slots=1, feed_s=1.0)
    warm = number_chunk("mytasks:holds_the_lock", 1000, 1020)
    scheduler.put(warm)
    scheduler.wait_accounted(warm)
    chunk = number_chunk("mytasks:holds_the_lock", 0, 10, timeout_s=0.3)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {5}
    assert [runs_of(folder, item) for item in range(10)] == [1] * 10


def test_many_short_items_under_a_limit_are_left_alone(scheduler: FakeScheduler, start_node: StartNode) -> None:
    start_node()
    chunk = number_chunk("mytasks:same", 0, 50_000, timeout_s=0.25, soft_timeout_s=0.2)
    scheduler.put(chunk)
    assert len(scheduler.wait_accounted(chunk).values) == 50_000


def test_a_soft_limit_is_raised_inside_the_task(scheduler: FakeScheduler, start_node: StartNode) -> None:
    start_node()
    tidies = number_chunk("mytasks:tidies", 0, 2, soft_timeout_s=0.2)
    scheduler.put(tidies)
    assert scheduler.wait_accounted(tidies).values == {0: "in time", 1: "tidied"}
    for name in ("is_stopped", "is_stopped_later"):
        stopped = number_chunk(f"mytasks:{name}", 0, 1, soft_timeout_s=0.2)
        scheduler.put(stopped)
        failure = scheduler.wait_accounted(stopped).failures[0]
        assert (failure.kind, failure.type) == (FailureKind.TIMEOUT, "windrow.common.errors.SoftTimeout")
        assert "TimeoutError" in failure.bases
        assert "0.2 s" in failure.message
        assert "worker.py" not in failure.traceback
    same = number_chunk("mytasks:same", 0, 10)
    scheduler.put(same)
    assert len(scheduler.wait_accounted(same).values) == 10


# ── Crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_crash_is_reported_with_the_last_lines_and_the_peak_of_memory(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    node = start_node()
    chunk = number_chunk("mytasks:prints_and_dies", 0, 10)
    scheduler.put(chunk)
    failure = scheduler.wait_accounted(chunk).failures[3]
    lines = failure.log.splitlines()
    assert len(lines) == 30
    assert lines[-3:] == ["line 39", "to stderr", "no end of line"]
    assert 10 << 20 < failure.memory_bytes_peak < 10 << 30
    assert failure.message == "the worker process exited with code 4 while it executed this item"
    assert "line 0" in node.log()
    assert "slot=" in next(line for line in node.log().splitlines() if "line 39" in line)


def test_a_segmentation_fault_leaves_its_stack(scheduler: FakeScheduler, start_node: StartNode) -> None:
    start_node()
    chunk = number_chunk("mytasks:segfaults", 0, 1)
    scheduler.put(chunk)
    failure = scheduler.wait_accounted(chunk).failures[0]
    assert "SIGSEGV" in failure.message
    assert "Fatal Python error" in failure.log
    assert "segfaults" in failure.log


def test_a_kill_that_the_node_has_not_sent_says_how_much_memory_there_was(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    start_node()
    chunk = number_chunk("mytasks:dies_by_kill", 0, 10)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {3}
    assert found.failures[3].kind is FailureKind.CRASH
    assert "was killed by SIGKILL while it executed this item; " in found.failures[3].message
    assert "its memory had peaked at " in found.failures[3].message
    assert "MiB" in found.failures[3].message


def test_a_worker_that_prints_much_neither_blocks_nor_fills_the_log(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    node = start_node(slots=1)
    chunk = number_chunk("mytasks:prints_much", 0, 20)
    scheduler.put(chunk)
    assert len(scheduler.wait_accounted(chunk).values) == 20
    node.terminate()
    assert node.wait() == 0
    assert "lines of a worker's output are not shown" in node.log()
    assert node.log().count("much") < 30_000


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_over_its_memory_is_killed_and_only_its_item_fails(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    start_node(worker_memory_bytes_max=150 << 20)
    chunk = number_chunk("mytasks:grows", 0, 20)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {3}
    failure = found.failures[3]
    assert (failure.kind, failure.type) == (FailureKind.CRASH, "WorkerCrashed")
    assert "the limit is 150 MiB (node.worker_memory_bytes_max): raise it" in failure.message
    assert failure.memory_bytes_peak > 150 << 20


def test_a_worker_is_replaced_after_so_many_items_without_loss(scheduler: FakeScheduler, start_node: StartNode) -> None:
    start_node(slots=1, recycle_items=100, feed_s=0.001)
    chunk = number_chunk("mytasks:pid", 0, 1_000)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert not found.failures
    assert len(found.values) == 1_000
    assert len(set(found.values.values())) >= 5
    wait_for(lambda: [r for r in scheduler.reports if r.load], "a load")
    assert all(r.load.workers_lost == 0 for r in scheduler.reports if r.load)


def test_a_worker_that_keeps_too_much_memory_is_replaced_without_loss(
    scheduler: FakeScheduler, start_node: StartNode
) -> None:
    node = start_node(slots=1, recycle_bytes=150 << 20)
    chunk = number_chunk("mytasks:keeps", 0, 8)
    scheduler.put(chunk)
    (first,) = set(scheduler.wait_accounted(chunk).values.values())
    wait_for(lambda: not is_alive(cast("int", first)), "the heavy worker to be replaced")
    again = number_chunk("mytasks:pid", 0, 1)
    scheduler.put(again)
    assert scheduler.wait_accounted(again).values[0] != first
    assert "worker_recycled" in node.log()


# ── Lease first ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_of_a_chunk_that_is_leased_first_starts_before_its_lease_is_answered(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node()
    careful = number_chunk("mytasks:sleeps", 0, 5, lease_first=True)
    at_once = number_chunk("mytasks:waits", 100, 101)
    scheduler.mute_reports = True
    scheduler.put(careful, at_once)
    wait_for(lambda: started(folder, 100), "the other chunk to start at once")
    wait_for(lambda: "no answer" in node.log(), "a report to be missed")
    assert runs_of(folder, 0) == 0
    scheduler.mute_reports = False
    (folder / "go").touch()
    assert len(scheduler.wait_accounted(careful).values) == 5


def test_an_answer_that_asks_for_a_hello_is_no_lease(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    start_node()
    scheduler.always_rejoin = True
    careful = number_chunk("mytasks:sleeps", 0, 5, lease_first=True)
    scheduler.put(careful)
    wait_for(lambda: [r for r in scheduler.reports if careful.fence in r.holds][3:], "four answers")
    assert runs_of(folder, 0) == 0
    scheduler.always_rejoin = False
    assert len(scheduler.wait_accounted(careful).values) == 5


def test_items_leased_first_never_run_twice_though_the_worker_crashes_behind_them(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    start_node(slots=1)
    warm = number_chunk("mytasks:counts_then_dies", 1000, 3000)
    scheduler.put(warm)
    scheduler.wait_accounted(warm)
    chunk = number_chunk("mytasks:counts_then_dies", 0, 100, lease_first=True)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {60}
    assert [runs_of(folder, item) for item in range(100)] == [1] * 100


def test_nothing_stands_in_line_behind_a_suspect(scheduler: FakeScheduler, start_node: StartNode, folder: Path) -> None:
    node = start_node(slots=2)
    warm = number_chunk("mytasks:same", 0, 5000)
    scheduler.put(warm)
    scheduler.wait_accounted(warm)
    suspect = number_chunk("mytasks:waits", 0, 1, alone=True)
    scheduler.put(suspect)
    wait_for(lambda: started(folder, 0), "the suspect at work")
    rest = number_chunk("mytasks:same", 5000, 60_000)
    scheduler.put(rest)
    assert len(scheduler.wait_accounted(rest).values) == 55_000
    (folder / "go").touch()
    scheduler.wait_accounted(suspect)
    after = number_chunk("mytasks:same", 0, 10)
    scheduler.put(after)
    scheduler.wait_accounted(after)
    assert node.process.poll() is None


# ── windrow.current() ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_knows_its_item(scheduler: FakeScheduler, start_node: StartNode) -> None:
    node = start_node()
    chunk = number_chunk("mytasks:tells", 10, 20, attempts=((12, 14, 3),), timeout_s=60.0, soft_timeout_s=30.0)
    scheduler.put(chunk)
    found = cast("dict[int, list[Any]]", scheduler.wait_accounted(chunk).values)
    job = chunk.job
    for index, (said_job, said_index, item_id, attempt, cancelled, left_s) in found.items():
        assert (said_job, said_index, item_id, cancelled) == (job, index, f"{job}/{index}", False)
        assert attempt == (4 if index in (12, 13) else 1)
        assert 25 < left_s <= 30
    plain = number_chunk("mytasks:tells", 0, 1)
    scheduler.put(plain)
    assert cast("list[Any]", scheduler.wait_accounted(plain).values[0])[5] is None
    wait_for(lambda: f"INFO [{job}/12] hello there" in node.log(), "the line in the node's log")


# ── Cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cancelled_item_is_told_at_once_and_killed_after_the_grace(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node(cancel_grace_s=0.7)
    other = number_chunk("mytasks:same", 0, 1)
    scheduler.put(other)
    scheduler.wait_accounted(other)
    workers = set(children_of(node.process.pid))
    chunk = number_chunk("mytasks:ends_when_cancelled", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.dead.add(chunk.fence)
    wait_for(lambda: (folder / "cancelled-0").exists() and (folder / "cancelled-1").exists(), "both to be told", 0.6)
    scheduler.wait_not_held(chunk.fence)
    wait_for(lambda: len(set(children_of(node.process.pid)) - workers) == 1, "the one that did not end to be killed")
    assert scheduler.accounted(chunk.fence).count == 0
    assert not started(folder, 2)


# ── The node's own end, freeze and return ────────────────────────────────────────────────────────────────────────


def test_the_grace_time_ends_what_runs_and_nothing_counts_as_failure(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node(grace_s=0.5)
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    workers = children_of(node.process.pid)
    node.terminate()
    assert node.wait(10) == 0
    found = scheduler.accounted(chunk.fence)
    assert not found.failures
    assert list(found.released) == [Range(2, 10)]
    assert scheduler.order[-1] == "NodeBye"
    assert not any(is_alive(pid) for pid in workers)
    assert "grace_over" in node.log()


def test_a_second_sigterm_kills_what_runs_and_nothing_counts_as_failure(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node(grace_s=600.0)
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    workers = children_of(node.process.pid)
    node.terminate()
    wait_for(lambda: scheduler.reports[-1].leaving, "a report that says so")
    node.terminate()
    assert node.wait(10) == 0
    assert not scheduler.accounted(chunk.fence).failures
    assert scheduler.order[-1] == "NodeBye"
    assert not any(is_alive(pid) for pid in workers)
    start_node()
    scheduler.wait_hello(2)
    assert not scheduler.accounted(chunk.fence).failures, "nor does the spool remember one"


def test_a_node_that_was_frozen_finds_out_and_goes_on(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node(cancel_grace_s=0.3)
    lost = number_chunk("mytasks:waits", 0, 2)
    kept = number_chunk("mytasks:waits", 10, 20)
    for item in range(10, 20):
        (folder / f"go-{item}").touch()
    scheduler.put(lost)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.put(kept)
    wait_for(lambda: scheduler.reports[-1].holds == (lost.fence, kept.fence), "both to be held")
    os.kill(node.process.pid, signal.SIGSTOP)
    # What the scheduler does when the lease is over: the fence is dead, and the node has to join again.
    scheduler.dead.add(lost.fence)
    scheduler.rejoin = True
    os.kill(node.process.pid, signal.SIGCONT)
    assert scheduler.wait_hello(2).boot == scheduler.hellos[0].boot
    assert len(scheduler.wait_accounted(kept).values) == 10, "the slots of the dead chunk are free again"
    scheduler.wait_not_held(lost.fence)
    assert scheduler.accounted(lost.fence).count == 0
    assert node.process.poll() is None


def test_an_item_that_ended_while_the_daemon_was_frozen_is_not_over_its_time(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node()
    chunk = number_chunk("mytasks:waits", 0, 2, timeout_s=1.0)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    os.kill(node.process.pid, signal.SIGSTOP)
    (folder / "go").touch()
    since = time.monotonic()
    wait_for(lambda: time.monotonic() - since > 1.5, "a freeze that is longer than the limit")
    os.kill(node.process.pid, signal.SIGCONT)
    found = scheduler.wait_accounted(chunk)
    assert not found.failures
    assert len(found.values) == 2


def test_a_full_spool_holds_work_back_until_the_scheduler_has_taken_it(
    scheduler: FakeScheduler, start_node: StartNode, folder: Path
) -> None:
    node = start_node(slots=1, spool_bytes_max=20_000)
    chunk = item_chunk("mytasks:sleeps", [(item, 0.0) for item in range(30_000)])
    late = number_chunk("mytasks:waits", 0, 1)
    scheduler.mute_reports = True
    scheduler.put(chunk)
    wait_for(lambda: "spool_full" in node.log(), "work to be held back")
    scheduler.put(late)
    wait_for(lambda: scheduler.polls[-1].holds == (chunk.fence, late.fence), "the late chunk to be there")
    assert not started(folder, 0), "a full spool starts nothing"
    assert runs_of(folder, 29_999) == 0
    scheduler.mute_reports = False
    (folder / "go").touch()
    assert len(scheduler.wait_accounted(chunk).values) == 30_000
    assert len(scheduler.wait_accounted(late).values) == 1
    assert [runs_of(folder, item) for item in range(0, 30_000, 970)] == [1] * 31
