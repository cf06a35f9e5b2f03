"""A node daemon with real workers against a scripted scheduler."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_harness import (
    FakeScheduler,
    NodeProcess,
    children_of,
    is_alive,
    item_chunk,
    number_chunk,
    wait_for,
)
from windrow.common.blocks import pack_block
from windrow.common.messages import Chunk, InputSlice, Refused
from windrow.common.values import call, encode_item
from windrow.common.words import FailureKind, Fence, JobId, Range

pytestmark = pytest.mark.integration

TASKS = '''
import os, pathlib, signal, sys, time
from windrow.common.tasks import task

@task
def same(x): return x

@task
def add(x, y=1): return x + y

@task
def third_fails(x):
    if x == 3: raise ValueError("three " + "x" * 100_000)
    if x == 4: sys.exit(7)
    if x == 5: raise KeyboardInterrupt
    return x

@task
def big(x): return b"x" * (2_000_000 if x == 1 else 10)

@task
def odd(x): return object() if x == 1 else x

@task
def leaves(x):
    if x == 50: os._exit(3)
    return os.getpid()

@task
def segfault(x):
    if x == 20: os.kill(os.getpid(), signal.SIGSEGV)
    return x

@task
async def later(x): return x * 2

@task
def waits(x):
    """Says that it has started, and ends when it is let go."""
    pathlib.Path(f"started-{x}").touch()
    while not pathlib.Path(f"go-{x}").exists() and not pathlib.Path("go").exists(): time.sleep(0.005)
    return x

@task
def first_waits(x):
    return waits.function(x) if x == 200 else x

@task
def blob(x):
    if x == 0: waits.function(x)
    return b"x" * 1000

@task
def forks(x):
    """Leaves a child behind that keeps the worker's descriptors open, and dies."""
    if x == 3:
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        os._exit(1)
    return x

@task
def pid(x): return os.getpid()

@task
def url(x): return os.environ["WINDROW_URL"]
'''


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
def node(scheduler: FakeScheduler, folder: Path) -> Iterator[NodeProcess]:
    made = NodeProcess(scheduler.url, folder)
    try:
        scheduler.wait_hello()
        yield made
    finally:
        made.close()
        print(made.log())


def started(folder: Path, *items: int) -> bool:
    return all((folder / f"started-{item}").exists() for item in items)


@pytest.mark.usefixtures("node")
def test_hello_carries_tasks_with_versions_and_options(scheduler: FakeScheduler) -> None:
    hello = scheduler.wait_hello()
    names = {task.name: task for task in hello.tasks}
    assert {"mytasks:same", "mytasks:later", "mytasks:waits"} <= set(names)
    assert len(names["mytasks:same"].version) == 12
    assert (hello.slots, hello.name, hello.errors) == (2, "n1", ())


@pytest.mark.usefixtures("node")
def test_ten_thousand_numbers_come_back_as_blocks_in_order(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:same", 100, 10_100)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert found.values == {index: index for index in range(100, 10_100)}
    runs = [run for report in scheduler.reports for part in report.chunks for run in part.values]
    assert len(runs) < 200, "values travel in blocks, not one by one"
    scheduler.wait_not_held(chunk.fence)
    assert found.busy_s > 0


@pytest.mark.usefixtures("node")
def test_encoded_items_with_keywords_in_several_blocks(scheduler: FakeScheduler) -> None:
    items: list[object] = [(index, 10) if index % 2 else call(index, y=100) for index in range(1000)]
    chunk = item_chunk("mytasks:add", items, start=5, pieces=7)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert found.values == {5 + index: index + (10 if index % 2 else 100) for index in range(1000)}


@pytest.mark.usefixtures("node")
def test_a_coroutine_function_is_run(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:later", 0, 20)
    scheduler.put(chunk)
    assert scheduler.wait_accounted(chunk).values == {index: 2 * index for index in range(20)}


@pytest.mark.usefixtures("node")
def test_failures_do_not_stop_the_job_and_say_what_happened(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:third_fails", 0, 100)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {3, 4, 5}
    failure = found.failures[3]
    assert (failure.kind, failure.type) == (FailureKind.ERROR, "ValueError")
    assert failure.message.startswith("three x")
    assert "characters left out" in failure.message
    assert len(failure.message) <= 16_384
    assert "third_fails" in failure.traceback
    assert "worker.py" not in failure.traceback
    assert [found.failures[index].type for index in (4, 5)] == ["SystemExit", "KeyboardInterrupt"]
    assert len(found.values) == 97


@pytest.mark.usefixtures("node")
def test_values_too_large_or_not_data_fail_with_the_way_out(scheduler: FakeScheduler) -> None:
    big = number_chunk("mytasks:big", 0, 3)
    odd = number_chunk("mytasks:odd", 0, 3)
    scheduler.put(big, odd)
    failure = scheduler.wait_accounted(big).failures[1]
    assert failure.kind is FailureKind.RESULT
    assert "result_bytes_max" in failure.message
    assert "path" in failure.message
    failure = scheduler.wait_accounted(odd).failures[1]
    assert failure.kind is FailureKind.RESULT
    assert "object" in failure.message


@pytest.mark.parametrize(
    ("task", "item", "how"),
    [("mytasks:leaves", 50, "exited with code 3"), ("mytasks:segfault", 20, "killed by SIGSEGV")],
)
@pytest.mark.usefixtures("node")
def test_a_crash_blames_the_executing_item_only(scheduler: FakeScheduler, task: str, item: int, how: str) -> None:
    chunk = number_chunk(task, 0, 200)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {item}
    failure = found.failures[item]
    assert (failure.kind, failure.type, failure.alone) == (FailureKind.CRASH, "WorkerCrashed", False)
    assert how in failure.message
    assert len(found.values) == 199
    wait_for(lambda: [r for r in scheduler.reports if r.load and r.load.workers_lost == 1], "the loss to be told")


def test_slots_that_idle_while_a_suspects_fresh_worker_starts_keep_theirs(
    node: NodeProcess, scheduler: FakeScheduler, folder: Path
) -> None:
    def occupy(first: int) -> Chunk:
        chunk = number_chunk("mytasks:waits", first, first + 2)
        scheduler.put(chunk)
        wait_for(lambda: all((folder / f"started-{x}").exists() for x in (first, first + 1)), "both slots at work")
        return chunk

    busy = occupy(10)
    before = set(children_of(node.process.pid))
    alone = number_chunk("mytasks:pid", 50, 51, alone=True)
    scheduler.put(alone)
    wait_for(lambda: alone.fence in scheduler.reports[-1].holds, "the suspect to be held")
    for x in (10, 11):
        (folder / f"go-{x}").touch()
    scheduler.wait_accounted(busy)
    scheduler.wait_accounted(alone)
    occupy(20)
    wait_for(lambda: not before <= set(children_of(node.process.pid)), "a worker to be replaced")
    assert before & set(children_of(node.process.pid))


def test_a_worker_that_cannot_import_a_task_any_more_fails_none_of_its_items(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    """The file is changed, perhaps halfway, while a job runs, and then a worker is replaced."""
    chunk = number_chunk("mytasks:waits", 0, 100)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    (folder / "mytasks.py").write_text("def half_written(")
    os.kill(children_of(node.process.pid)[0], signal.SIGKILL)
    assert scheduler.wait_hello(2).errors
    (folder / "go").touch()
    found = scheduler.wait_accounted(chunk)
    assert [failure.kind for failure in found.failures.values()] == [FailureKind.CRASH]
    assert len(found.values) == 99


@pytest.mark.usefixtures("node")
def test_a_suspect_runs_alone_in_a_fresh_worker_which_is_replaced(scheduler: FakeScheduler) -> None:
    before, alone, after = (
        number_chunk("mytasks:pid", 0, 50),
        number_chunk("mytasks:pid", 50, 51, alone=True),
        number_chunk("mytasks:pid", 51, 100),
    )
    scheduler.put(before, alone, after)
    used = set(scheduler.wait_accounted(before).values.values())
    (suspect,) = scheduler.wait_accounted(alone).values.values()
    used |= set(scheduler.wait_accounted(after).values.values())
    assert suspect not in used
    crash = number_chunk("mytasks:segfault", 20, 21, alone=True)
    scheduler.put(crash)
    assert scheduler.wait_accounted(crash).failures[20].alone


def test_a_long_item_does_not_keep_back_those_behind_it(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    warm = number_chunk("mytasks:first_waits", 1000, 3000)
    scheduler.put(warm)
    scheduler.wait_accounted(warm)
    chunk = number_chunk("mytasks:first_waits", 0, 2000)
    scheduler.put(chunk)
    wait_for(lambda: scheduler.accounted(chunk.fence).count == 1999, "all but the one that waits")
    assert 200 not in scheduler.accounted(chunk.fence).values
    (folder / "go").touch()
    assert scheduler.wait_accounted(chunk).values[200] == 200


def test_drain_finishes_current_items_and_gives_back_the_rest(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.drain = True
    wait_for(lambda: len(scheduler.accounted(chunk.fence).released) == 8, "the rest, while two are still at work")
    late = number_chunk("mytasks:same", 0, 5)
    scheduler.put(late)
    assert list(scheduler.wait_accounted(late).released) == [Range(0, 5)]
    (folder / "go").touch()
    assert scheduler.wait_accounted(chunk).values == {0: 0, 1: 1}
    scheduler.wait_not_held(chunk.fence)
    scheduler.drain = False
    again = number_chunk("mytasks:same", 0, 5)
    wait_for(lambda: not scheduler.polls[-1].draining, "work to be resumed")
    scheduler.put(again)
    assert len(scheduler.wait_accounted(again).values) == 5
    assert node.process.poll() is None


def test_sigterm_leaves_in_order(scheduler: FakeScheduler, node: NodeProcess, folder: Path) -> None:
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    workers = children_of(node.process.pid)
    node.terminate()
    wait_for(lambda: scheduler.reports[-1].leaving, "a report that says so")
    (folder / "go").touch()
    assert node.wait() == 0
    found = scheduler.wait_accounted(chunk)
    assert set(found.values) == {0, 1}
    assert scheduler.order[-1] == "NodeBye"
    assert scheduler.byes[0].boot == scheduler.hellos[0].boot
    assert workers
    assert not any(is_alive(pid) for pid in workers)
    assert not list((folder / "state" / "spool").glob("*.spool"))


def test_a_second_signal_ends_it_at_once(scheduler: FakeScheduler, node: NodeProcess, folder: Path) -> None:
    scheduler.put(number_chunk("mytasks:waits", 0, 10))
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    node.terminate()
    wait_for(lambda: scheduler.reports[-1].leaving, "a report that says so")
    node.terminate()
    assert node.wait() == 0
    assert scheduler.order[-1] == "NodeBye"


def test_ctrl_c_at_the_group_does_not_hit_items_at_work(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    chunk = number_chunk("mytasks:waits", 0, 2)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    for pid in [*children_of(node.process.pid), node.process.pid]:
        os.kill(pid, signal.SIGINT)
    wait_for(lambda: scheduler.reports[-1].leaving, "a report that says so")
    (folder / "go").touch()
    assert node.wait() == 0
    assert scheduler.wait_accounted(chunk).values == {0: 0, 1: 1}


def test_a_dead_fence_stops_and_is_reported_no_more(scheduler: FakeScheduler, node: NodeProcess, folder: Path) -> None:
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.dead.add(chunk.fence)
    scheduler.wait_not_held(chunk.fence)  # After 5 s the workers are killed.
    assert scheduler.accounted(chunk.fence).count == 0
    assert not started(folder, 2)
    after = number_chunk("mytasks:same", 0, 10)
    scheduler.put(after)
    assert len(scheduler.wait_accounted(after).values) == 10


def test_give_up_returns_what_has_not_started(scheduler: FakeScheduler, node: NodeProcess, folder: Path) -> None:
    chunk = number_chunk("mytasks:waits", 0, 10)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.give_up.add(chunk.fence)
    wait_for(lambda: list(scheduler.accounted(chunk.fence).released) == [Range(2, 10)], "the rest")
    unknown = number_chunk("mytasks:same", 0, 10)
    scheduler.give_up.add(unknown.fence)
    wait_for(lambda: unknown.fence not in scheduler.give_up, "a word on a fence that is not here")
    said = [part for report in scheduler.reports for part in report.chunks if part.fence == unknown.fence]
    assert (said[0].job, said[0].released) == (JobId(""), ())
    scheduler.put(unknown)
    (folder / "go").touch()
    scheduler.wait_accounted(chunk)
    last = number_chunk("mytasks:same", 0, 1)
    scheduler.put(last)
    scheduler.wait_accounted(last)
    assert scheduler.accounted(unknown.fence).count == 0, "a fence given up before it came is not started"


@pytest.mark.usefixtures("node")
def test_a_chunk_for_an_unknown_task_is_given_back(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:nothing", 0, 10)
    scheduler.put(chunk)
    assert list(scheduler.wait_accounted(chunk).released) == [Range(0, 10)]
    scheduler.wait_not_held(chunk.fence)


def test_rejoin_says_hello_with_the_same_boot_and_what_is_held(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    chunk = number_chunk("mytasks:waits", 0, 2)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    scheduler.rejoin = True
    hello = scheduler.wait_hello(2)
    assert hello.boot == scheduler.hellos[0].boot
    assert hello.holds == (chunk.fence,)
    (folder / "go").touch()
    assert len(scheduler.wait_accounted(chunk).values) == 2


def test_a_scheduler_that_comes_back_on_the_same_port_gets_everything(folder: Path) -> None:
    first = FakeScheduler()
    port = int(first.url.rpartition(":")[2])
    node = NodeProcess(first.url, folder)
    try:
        first.wait_hello()
        chunk = number_chunk("mytasks:waits", 0, 2)
        first.put(chunk)
        wait_for(lambda: started(folder, 0, 1), "two items at work")
        first.close()
        (folder / "go").touch()
        second = FakeScheduler(port=port, epoch=2)
        try:
            second.rejoin = True
            assert len(second.wait_accounted(chunk).values) == 2
            assert second.wait_hello().boot == first.hellos[0].boot
            after = number_chunk("mytasks:same", 0, 3)
            second.put(after)
            assert len(second.wait_accounted(after).values) == 3
        finally:
            second.close()
    finally:
        node.close()


HEAD_BYTES_MAX = 60
"""Of a spool file without outcomes."""


def spooled_bytes(spool: Path) -> int:
    size = 0
    for path in spool.glob("*.spool"):
        # The node may take one away between the two looks.
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def test_outcomes_survive_a_killed_daemon_and_go_first(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    chunk = number_chunk("mytasks:waits", 0, 2)
    scheduler.put(chunk)
    wait_for(lambda: started(folder, 0, 1), "two items at work")
    workers = children_of(node.process.pid)
    scheduler.deaf = True
    (folder / "go-0").touch()
    spool = folder / "state" / "spool"
    wait_for(lambda: spooled_bytes(spool) > HEAD_BYTES_MAX, "the outcome in the spool")
    node.process.kill()
    node.process.wait(10)
    wait_for(lambda: not any(is_alive(pid) for pid in workers), "the workers to die with their daemon")
    old = scheduler.hellos[0]
    scheduler.deaf = False
    seen = len(scheduler.order)
    again = NodeProcess(scheduler.url, folder)
    try:
        hello = scheduler.wait_hello(2)
        assert hello.node == old.node
        assert hello.boot != old.boot
        assert hello.holds == ()
        assert scheduler.order[seen : seen + 2] == ["Report", "NodeHello"]
        assert scheduler.accounted(chunk.fence).values == {0: 0}
        spooled = next(r for r in scheduler.reports if r.chunks and r.chunks[0].fence == chunk.fence)
        assert spooled.boot == old.boot
        wait_for(lambda: spooled_bytes(spool) < HEAD_BYTES_MAX, "the spool to be empty")
    finally:
        again.close()


def test_a_second_daemon_on_the_same_folder_is_refused(
    scheduler: FakeScheduler, node: NodeProcess, folder: Path
) -> None:
    second = NodeProcess(scheduler.url, folder)
    assert second.wait() == 2
    assert f"another node daemon (pid {node.process.pid})" in second.log()
    assert "Traceback" not in second.log()


def test_a_broken_source_is_shown_and_the_rest_served(scheduler: FakeScheduler, folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\nimport nowhere_to_be_found\n")
    node = NodeProcess(scheduler.url, folder, tasks=("./mytasks.py", "broken", "no_such_module"), allow=("math",))
    try:
        hello = scheduler.wait_hello()
        assert [error.source for error in hello.errors] == ["broken", "no_such_module"]
        assert "nowhere_to_be_found" in hello.errors[0].error
        assert "broken.py, line 2" in hello.errors[0].error
        chunk = number_chunk("math:sqrt", 0, 10)
        scheduler.put(chunk)
        assert scheduler.wait_accounted(chunk).values[4] == 2.0
    finally:
        node.close()


def test_a_worker_that_dies_at_import_is_shown(scheduler: FakeScheduler, folder: Path) -> None:
    (folder / "deadly.py").write_text("import os\nos._exit(9)\n")
    node = NodeProcess(scheduler.url, folder, tasks=("deadly",))
    try:
        hello = scheduler.wait_hello()
        assert "exited with code 9" in hello.errors[0].error
        (folder / "deadly.py").write_text("from windrow.common.tasks import task\n@task\ndef ok(x): return x\n")
        wait_for(lambda: "deadly:ok" in {task.name for task in scheduler.hellos[-1].tasks}, "a hello with the task")
    finally:
        node.close()


def test_a_refused_hello_ends_the_daemon_with_one_line(scheduler: FakeScheduler, folder: Path) -> None:
    scheduler.refusal = Refused("config", "a node named n1 is alive already")
    node = NodeProcess(scheduler.url, folder)
    assert node.wait() == 2
    assert "a node named n1 is alive already" in node.log()
    assert "Traceback" not in node.log()


def test_a_stop_while_the_scheduler_is_out_of_reach_does_not_wait_for_it(folder: Path) -> None:
    node = NodeProcess("tcp://127.0.0.1:9", folder)
    wait_for(lambda: "no answer from the scheduler at tcp://127.0.0.1:9" in node.log(), "the first miss")
    node.terminate()
    assert node.wait(15) == 0


@pytest.mark.usefixtures("node")
def test_a_chunk_that_comes_twice_runs_once(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:same", 0, 100)
    scheduler.put(chunk, chunk)
    scheduler.wait_accounted(chunk)
    scheduler.wait_not_held(chunk.fence)
    scheduler.put(chunk)
    last = number_chunk("mytasks:same", 0, 1)
    scheduler.put(last)
    scheduler.wait_accounted(last)
    assert not scheduler.accounted(chunk.fence).twice


@pytest.mark.usefixtures("node")
def test_tasks_find_the_scheduler_in_their_environment(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:url", 0, 1)
    scheduler.put(chunk)
    assert scheduler.wait_accounted(chunk).values == {0: scheduler.url}


def test_heartbeats_carry_load(scheduler: FakeScheduler, node: NodeProcess) -> None:
    load = wait_for(lambda: next((r.load for r in scheduler.reports if r.load), None), "a load")
    assert load is not None
    assert load.memory_total_bytes > load.memory_used_bytes > 0
    assert sorted(slot.pid for slot in load.slots) == sorted(children_of(node.process.pid))


def test_malformed_chunks_are_refused_and_the_node_goes_on(scheduler: FakeScheduler, node: NodeProcess) -> None:
    bad = Chunk("test", scheduler.node, Fence(1, 1 << 40), JobId("J"), "mytasks:same", 0, 10)
    good = number_chunk("mytasks:same", 0, 10)
    scheduler.put(bad, good)
    scheduler.wait_accounted(good)
    assert "do not tile" in node.log() or "inputs end at" in node.log()
    assert scheduler.accounted(bad.fence).count == 0


@pytest.mark.usefixtures("node")
def test_items_that_cannot_be_read_fail_and_their_neighbours_run(scheduler: FakeScheduler) -> None:
    chunk = item_chunk("mytasks:same", list(range(10)))
    good = [encode_item(index) for index in range(10)]
    good[4] = b"\x91\xc7\x01\x04\xff"  # A date that is none.
    good[7] = b"\xc1"
    chunk = dataclasses.replace(chunk, inputs=(InputSlice(0, 10, pack_block(good)),))
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert {index: failure.kind for index, failure in found.failures.items()} == {
        4: FailureKind.ITEM,
        7: FailureKind.ITEM,
    }
    assert found.values == {index: index for index in range(10) if index not in (4, 7)}


@pytest.mark.usefixtures("node")
def test_a_crash_is_seen_although_a_forked_child_keeps_the_link_open(scheduler: FakeScheduler) -> None:
    chunk = number_chunk("mytasks:forks", 0, 10)
    scheduler.put(chunk)
    found = scheduler.wait_accounted(chunk)
    assert set(found.failures) == {3}


def test_a_full_spool_holds_work_back_and_drops_nothing(scheduler: FakeScheduler, folder: Path) -> None:
    node = NodeProcess(scheduler.url, folder, slots=1, spool_bytes_max=40_000)
    spool = folder / "state" / "spool"
    try:
        scheduler.wait_hello()
        chunk = number_chunk("mytasks:blob", 0, 2_000)
        scheduler.put(chunk)
        wait_for(lambda: started(folder, 0), "the first item")
        scheduler.deaf = True
        (folder / "go").touch()
        wait_for(lambda: "the spool is full" in node.log(), "work to be held back")
        size = spooled_bytes(spool)
        assert size < 1_000_000, "half of the chunk at most"
        scheduler.deaf = False
        assert len(scheduler.wait_accounted(chunk).values) == 2_000
        wait_for(lambda: spooled_bytes(spool) < HEAD_BYTES_MAX, "the spool to be empty")
    finally:
        node.close()
