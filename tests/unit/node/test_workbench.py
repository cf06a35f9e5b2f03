"""How a node's chunks become outcomes: book, slots, feeding and spool together, without processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import pytest
from structlog.testing import capture_logs

from tests.node_bench import TASK, NodeBench, PlayedWorker, chunk, node_bench
from windrow.common.messages import Chunk, ChunkReport, SourceError
from windrow.common.words import FailureKind, Fence, JobId, Range
from windrow.node import chunks
from windrow.node.chunks import Taken
from windrow.node.shared_page import SETTLE_S
from windrow.node.workbench import NEWS_LEASE_S, NEWS_MORE_S, NEWS_NOW_S, WATCH_S
from windrow.node.worker_link import Feed

GRACE_S = 5.0


def warm(node: NodeBench, item_s: float = 0.001) -> None:
    """Items of job "j" are measured: feeds of up to 16 of them are given from now on."""
    node.bench.take(chunk(90, 1))
    (worker,) = (each for each in node.workers if each.feeds)
    worker.end(worker.feeds.pop(), item_s=item_s)
    node.report()
    node.news.clear()


def at_work(node: NodeBench, one: Chunk, told: int) -> PlayedWorker:
    """The worker of the only slot, at work on this chunk, with so many of its items told of."""
    warm(node)
    node.bench.take(one)
    node.report()
    (worker,) = node.workers
    worker.tell(worker.feeds[0], told)
    return worker


def released(reports: tuple[ChunkReport, ...]) -> dict[int, tuple[Range, ...]]:
    return {report.fence.counter: report.released for report in reports}


def values(reports: tuple[ChunkReport, ...]) -> list[tuple[int, int]]:
    """Counter of the fence and item, of each value."""
    return [(report.fence.counter, run.start) for report in reports for run in report.values]


def actions(logs: Sequence[Mapping[str, Any]]) -> list[object]:
    return [entry["action"] for entry in logs]


# ── Chunks come ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_starts_at_once_and_its_lease_waits_a_moment_for_outcomes() -> None:
    with node_bench() as node:
        assert node.bench.take(chunk(), "tag") is Taken.NEW
        assert [worker.cut for worker in node.workers] == [[(1, 0, 1)], [(1, 1, 2)]]
        assert node.take_news() == [NEWS_LEASE_S]
        assert node.report() == ()
        assert node.acks == ["tag"]


@pytest.mark.parametrize(("lease_first", "of_chunk"), [(True, False), (False, True)])
def test_a_chunk_that_is_leased_first_starts_when_the_report_that_holds_it_is_answered(
    lease_first: bool, of_chunk: bool
) -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(lease_first=of_chunk), lease_first=lease_first)
        assert node.workers[0].cut == []
        assert node.take_news() == [NEWS_NOW_S]
        node.report()
        assert node.workers[0].cut == [(1, 0, 1)]


def test_a_chunk_of_a_task_that_the_node_does_not_have_is_given_back_at_once() -> None:
    with node_bench() as node, capture_logs() as logs:
        assert node.bench.take(chunk(1, task="other")) is Taken.NEW
        assert node.take_news() == [NEWS_NOW_S]
        assert released(node.report()) == {1: (Range(0, 10),)}
        assert node.workers[0].cut == []
        node.bench.take(chunk(2))
        assert actions(logs) == ["chunk_released"]


def test_a_copy_of_a_chunk_that_is_here_is_no_news() -> None:
    with node_bench() as node, capture_logs() as logs:
        node.bench.take(chunk())
        node.take_news()
        assert node.bench.take(chunk()) is Taken.HELD
        assert node.take_news() == []
        assert logs == []


def test_a_chunk_beyond_what_a_node_may_hold_is_left() -> None:
    with node_bench() as node, mock.patch.object(chunks, "HELD_MAX", 1), capture_logs() as logs:
        node.bench.take(chunk(1))
        node.take_news()
        assert node.bench.take(chunk(2)) is Taken.REFUSED
        assert node.take_news() == []
        assert actions(logs) == ["chunk_refused"]


# ── Draining, and work that is asked back ────────────────────────────────────────────────────────────────────────


def test_a_draining_node_finishes_the_items_at_work_and_gives_back_the_rest() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1, 20))
        node.report()
        (worker,) = node.workers
        assert worker.cut == [(1, 0, 16), (1, 16, 20)]
        worker.tell(worker.feeds[0], 3)
        worker.work_at(worker.feeds[0], 5)
        node.take_news()
        node.bench.drain()
        assert node.take_news() == [NEWS_NOW_S]
        assert worker.page.stopped_through == worker.feeds[1].number
        node.pass_s(SETTLE_S / 2)
        assert released(node.report()) == {1: ()}, "the worker may still begin the next item"
        node.pass_s(SETTLE_S)
        assert node.take_news() == [NEWS_NOW_S]
        assert released(node.report()) == {1: (Range(6, 20),)}
        worker.end(worker.feeds[0], 6)
        worker.end(worker.feeds[1], 16)
        assert values(node.report()) == [(1, 3), (1, 4), (1, 5)]
        assert node.book.empty


def test_a_draining_node_gives_back_chunks_that_still_come_and_takes_them_again_when_it_is_resumed() -> None:
    with node_bench(1) as node:
        node.bench.drain()
        node.take_news()
        node.bench.drain()
        assert node.take_news() == []
        node.bench.take(chunk(1))
        assert node.take_news() == [NEWS_NOW_S]
        assert released(node.report()) == {1: (Range(0, 10),)}
        node.bench.resume()
        node.bench.take(chunk(2))
        assert node.workers[0].cut == [(2, 0, 1)]


def test_a_worker_that_says_itself_where_it_stopped_is_believed() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk())
        (worker,) = node.workers
        worker.work_at(worker.feeds[0], 5)
        node.bench.drain()
        worker.end(worker.feeds[0], 7)
        node.take_news()
        node.pass_s(SETTLE_S)
        assert node.take_news() == []
        assert released(node.report()) == {1: (Range(7, 10),)}


def test_what_a_worker_got_after_the_stop_word_is_not_taken_from_it() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1))
        (worker,) = node.workers
        worker.work_at(worker.feeds[0], 5)
        node.bench.give_up([Fence(1, 1)])
        worker.end(worker.feeds[0], 6)
        node.bench.take(chunk(2))
        worker.work_at(worker.feeds[1], 0)
        node.pass_s(SETTLE_S)
        assert not node.book.has_ready
        assert node.book.find_feed_range(worker.feeds[1].number) == Range(0, 10)


def test_a_feed_that_a_worker_has_not_begun_is_left_to_it_by_the_one_before() -> None:
    """The page shows the feed that it is at, and the end of the one before it is still on its way."""
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1, 20))
        node.report()
        (worker,) = node.workers
        worker.work_at(worker.feeds[1], 17)
        node.bench.drain()
        node.pass_s(SETTLE_S)
        assert released(node.report()) == {1: (Range(18, 20),)}
        worker.end(worker.feeds[0])
        worker.end(worker.feeds[1], 18)
        assert len(values(node.report())) == 18
        assert node.book.empty


def test_a_fence_that_is_asked_back_is_left_by_the_slot_that_has_it_and_by_no_other() -> None:
    with node_bench(2) as node:
        warm(node)
        node.bench.take(chunk(1, 20, job="a"))
        node.bench.take(chunk(2, 20))
        first, second = node.workers
        assert first.cut == [(1, 0, 1), (2, 0, 16)]
        assert second.cut == [(1, 1, 2), (2, 16, 20)]
        first.end(first.feeds.pop(0))
        second.end(second.feeds.pop(0))
        node.take_news()
        node.bench.give_up([])
        assert node.take_news() == []
        node.bench.give_up([Fence(1, 3)])
        assert node.take_news() == [NEWS_NOW_S]
        assert (first.page.stopped_through, second.page.stopped_through) == (0, 0)
        assert released(node.report())[3] == ()


def test_a_fence_that_is_asked_back_is_left_where_others_are_at_work_before_it() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1))
        node.bench.take(chunk(2, 4))
        (worker,) = node.workers
        assert worker.cut == [(1, 0, 10), (2, 0, 4)]
        worker.work_at(worker.feeds[0], 5)
        node.bench.give_up([Fence(1, 2)])
        node.pass_s(SETTLE_S)
        assert released(node.report()) == {2: (Range(0, 4),)}
        worker.end(worker.feeds[0], 6)
        worker.end(worker.feeds[1], 0)
        assert worker.cut[2:] == [(1, 6, 10)]


def test_a_page_that_still_shows_a_feed_that_has_ended_holds_nothing_up() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1))
        node.bench.take(chunk(2, 4))
        (worker,) = node.workers
        node.bench.drain()
        worker.end(worker.feeds[0], 6)
        worker.work_at(worker.feeds[0], 6)
        node.pass_s(SETTLE_S)
        assert released(node.report()) == {1: (Range(6, 10),), 2: (Range(0, 4),)}
        worker.end(worker.feeds[1], 0)
        node.report()
        assert node.book.empty


def test_items_of_a_fence_that_is_asked_back_come_back_from_behind_the_item_at_work() -> None:
    with node_bench(2) as node:
        warm(node)
        node.bench.take(chunk(1, 2, job="j"))
        node.bench.take(chunk(2, 8, job="k"))
        first, second = node.workers
        assert (first.cut, second.cut) == ([(1, 0, 2)], [(2, 0, 1)])
        first.work_at(first.feeds[0], 0)
        second.work_at(second.feeds[0], 0)
        node.bench.give_up([Fence(1, 1), Fence(1, 9)])
        assert (first.page.stopped_through, second.page.stopped_through) == (first.feeds[0].number, 0)
        node.pass_s(SETTLE_S)
        assert released(node.report()) == {9: (), 1: (Range(1, 2),)}


# ── Dead fences ──────────────────────────────────────────────────────────────────────────────────────────────────


def dying(node: NodeBench) -> Feed:
    """A fence is dead while its item 4 is at work; three outcomes are in the spool."""
    warm(node)
    node.bench.take(chunk(), "tag")
    (worker,) = node.workers
    (feed,) = worker.feeds
    worker.tell(feed, 3)
    worker.work_at(feed, 4)
    node.take_news()
    assert node.spool.kept
    assert node.bench.kill([Fence(1, 8), feed.fence]) == ["tag"]
    return feed


def test_a_dead_fence_is_stopped_and_its_outcomes_leave_the_spool() -> None:
    with node_bench(1) as node:
        feed = dying(node)
        assert node.take_news() == [NEWS_NOW_S]
        assert not node.spool.kept
        assert node.workers[0].page.cancelled == {feed.number}
        assert node.workers[0].page.stopped_through == feed.number
        assert node.bench.kill([feed.fence]) == []
        assert node.take_news() == []


def test_an_item_of_a_dead_fence_that_does_not_end_in_its_time_is_killed_and_nobody_is_blamed() -> None:
    with node_bench(1, cancel_grace_s=GRACE_S) as node, capture_logs() as logs:
        dying(node)
        worker = node.workers[0]
        node.pass_s(GRACE_S - 0.1)
        assert not worker.killed
        node.pass_s(0.2)
        assert worker.killed
        assert actions(logs) == ["worker_killed"]
        assert node.report() == ()
        assert node.book.empty
        assert not node.spool.kept


def test_a_worker_that_has_left_a_dead_fence_is_not_killed() -> None:
    with node_bench(1, cancel_grace_s=GRACE_S) as node:
        feed = dying(node)
        worker = node.workers[0]
        worker.end(feed, 5)
        node.bench.take(chunk(2))
        worker.work_at(worker.feeds[1], 0)
        node.pass_s(2 * GRACE_S)
        assert not worker.killed
        node.report()
        assert not node.spool.kept


def test_a_worker_whose_page_still_shows_a_dead_feed_that_it_has_ended_is_not_killed() -> None:
    with node_bench(1, cancel_grace_s=GRACE_S) as node:
        feed = dying(node)
        worker = node.workers[0]
        node.bench.take(chunk(2))
        node.bench.feed()
        assert len(worker.feeds) == 2
        worker.end(feed, 5)
        worker.work_at(feed, 4)
        node.pass_s(2 * GRACE_S)
        assert not worker.killed


def test_a_slot_at_work_for_others_is_not_killed_for_a_dead_fence_behind_that() -> None:
    with node_bench(1, cancel_grace_s=GRACE_S) as node:
        warm(node)
        node.bench.take(chunk(1))
        node.bench.take(chunk(2))
        (worker,) = node.workers
        assert worker.cut == [(1, 0, 10), (2, 0, 10)]
        worker.work_at(worker.feeds[0], 0)
        assert node.report([Fence(1, 2)]) == ()
        assert worker.page.cancelled == {worker.feeds[1].number}
        node.pass_s(2 * GRACE_S)
        assert not worker.killed


# ── Feeding ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_that_starts_with_a_full_spool_says_so() -> None:
    with NodeBench(1).running() as node, capture_logs() as logs:
        node.spool.full = True
        node.ready()
        assert actions(logs) == ["spool_full"]


def test_nothing_new_starts_while_the_spool_is_full_and_that_is_said_once() -> None:
    with node_bench(1) as node, capture_logs() as logs:
        node.spool.full = True
        node.bench.take(chunk(1))
        node.bench.take(chunk(2))
        assert node.workers[0].cut == []
        assert actions(logs) == ["spool_full"]
        node.spool.full = False
        node.report()
        assert node.workers[0].cut == [(1, 0, 1)]
        node.spool.full = True
        node.workers[0].end(node.workers[0].feeds[0])
        assert actions(logs) == ["spool_full"] * 2


def test_feeds_grow_with_what_items_turn_out_to_take() -> None:
    with node_bench(1, feed_s=0.1) as node:
        node.bench.take(chunk(1, 1000))
        (worker,) = node.workers
        worker.end(worker.feeds[0], item_s=0.02)
        worker.end(worker.feeds[1], item_s=0.02)
        assert [stop - start for _, start, stop in worker.cut[:3]] == [1, 5, 5]


def test_a_worker_is_worn_out_after_its_feeds_and_not_before() -> None:
    with node_bench(1, recycle_items=1) as node:
        node.bench.take(chunk(1, 2))
        (worker,) = node.workers
        worker.end(worker.feeds[0])
        assert node.former == [worker]
        node.workers[0].ready(TASK)
        assert node.workers[0].cut == [(1, 1, 2)]


def test_an_item_is_killed_when_its_time_is_over() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 1, timeout_s=2.0))
        (worker,) = node.workers
        worker.work_at(worker.feeds[0], 0)
        node.pass_s(2.1)
        assert worker.killed
        (report,) = node.report()
        assert [(failure.item, failure.kind) for failure in report.failures] == [(0, FailureKind.TIMEOUT)]


def test_a_suspect_gets_a_fresh_worker_and_nobody_gets_that_worker_after_it() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 1))
        (worn,) = node.workers
        node.bench.take(chunk(2, 1, alone=True))
        worn.end(worn.feeds[0])
        (fresh,) = node.workers
        assert fresh is not worn
        assert worn.closed
        fresh.ready(TASK)
        assert fresh.cut == [(2, 0, 1)]
        fresh.end(fresh.feeds[0])
        assert fresh.closed
        assert node.workers[0] is not fresh


# ── Items that wait behind a long one ────────────────────────────────────────────────────────────────────────────


def stalled(node: NodeBench, item: int, items: int = 20) -> PlayedWorker:
    """One slot is at this item of a feed of 16 items, and the others follow in a second one; the other slot idles."""
    worker, other = node.workers
    worker.ready(TASK)
    warm(node)
    node.bench.take(chunk(1, items))
    node.report()
    assert worker.cut == [(1, 0, 16), (1, 16, items)][: len(worker.cut)]
    other.ready(TASK)
    worker.work_at(worker.feeds[0], item)
    return worker


def watch_for_s(node: NodeBench, seconds: float) -> None:
    for _ in range(round(seconds / WATCH_S)):
        node.pass_s(WATCH_S)
        node.bench.watch()


def test_items_behind_a_long_one_go_to_a_slot_that_idles() -> None:
    with NodeBench(2).running() as node:
        worker = stalled(node, 2)
        node.take_news()
        watch_for_s(node, 0.2)
        assert worker.page.stopped_through == 0, "it is not long yet"
        watch_for_s(node, 0.2)
        assert node.workers[1].cut == [(1, 3, 19)]
        assert node.take_news() == [], "nothing is to be reported of that"
        worker.end(worker.feeds[0], 3)
        worker.end(worker.feeds[1], 16)
        node.workers[1].end(node.workers[1].feeds[0])
        assert len(values(node.report())) == 19


@pytest.mark.parametrize(("item", "items", "taken"), [(14, 16, (15, 16)), (15, 17, (16, 17))])
def test_one_item_behind_a_long_one_is_enough(item: int, items: int, taken: tuple[int, int]) -> None:
    with NodeBench(2).running() as node:
        stalled(node, item, items)
        watch_for_s(node, 0.4)
        assert node.workers[1].cut == [(1, *taken)]


def test_items_of_another_chunk_behind_a_long_one_go_to_a_slot_that_idles() -> None:
    with NodeBench(2).running() as node:
        worker, other = node.workers
        worker.ready(TASK)
        warm(node)
        node.bench.take(chunk(1))
        node.bench.take(chunk(2, 4))
        assert worker.cut == [(1, 0, 10), (2, 0, 4)]
        worker.work_at(worker.feeds[0], 9)
        other.ready(TASK)
        watch_for_s(node, 0.4)
        assert other.cut == [(2, 0, 4)]


def test_items_in_the_feed_behind_that_of_a_long_one_go_to_a_slot_that_idles() -> None:
    with NodeBench(2).running() as node:
        stalled(node, 15)
        watch_for_s(node, 0.4)
        assert node.workers[1].cut == [(1, 16, 20)]


def test_a_long_item_with_nothing_behind_it_is_left_alone() -> None:
    with NodeBench(2).running() as node:
        worker = stalled(node, 15, items=16)
        watch_for_s(node, 0.4)
        assert worker.page.stopped_through == 0


def test_items_behind_a_long_one_stay_there_while_no_slot_idles() -> None:
    with NodeBench(2).running() as node:
        worker = stalled(node, 2)
        node.bench.take(chunk(2, 1, job="k"))
        assert node.workers[1].cut == [(2, 0, 1)]
        watch_for_s(node, 0.4)
        assert worker.page.stopped_through == 0
        node.workers[1].end(node.workers[1].feeds[0])
        watch_for_s(node, 0.2)
        assert node.workers[1].cut == [(2, 0, 1), (1, 3, 19)]


def test_workers_over_their_memory_are_looked_for() -> None:
    with node_bench(1, worker_memory_bytes_max=1) as node:
        node.bench.take(chunk(1, 1))
        (worker,) = node.workers
        worker.pid = os.getpid()
        worker.work_at(worker.feeds[0], 0)
        node.bench.watch()
        assert worker.killed


# ── What workers say ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tasks_are_told_once_and_again_when_they_are_others() -> None:
    with NodeBench(2).running() as node, capture_logs() as logs:
        assert not node.bench.loaded
        node.bench.take(chunk(1))
        assert released(node.report()) == {1: (Range(0, 10),)}
        node.ready()
        assert (node.bench.loaded, node.tasks_told) == (True, 1)
        assert ([task.name for task in node.bench.tasks], node.bench.errors) == ([TASK], ())
        node.bench.take(chunk(2))
        assert node.workers[0].cut == [(2, 0, 1)]
        error = SourceError("./mytasks.py", "SyntaxError")
        node.workers[1].ready(TASK, errors=(error,))
        assert (node.tasks_told, node.bench.errors) == (2, (error,))
        node.workers[1].ready("other", errors=(error,))
        assert node.tasks_told == 3
        assert actions(logs).count("source_failed") == 2


def test_a_node_whose_tasks_cannot_be_imported_has_none_and_says_why() -> None:
    with NodeBench(1).running() as node:
        error = SourceError("./mytasks.py", "SyntaxError")
        node.workers[0].ready(errors=(error,))
        assert (node.bench.loaded, node.tasks_told, node.bench.errors) == (True, 1, (error,))
    with NodeBench(1).running() as node:
        node.workers[0].ready()
        assert (node.bench.loaded, node.tasks_told) == (True, 1), "it offers nothing, and is ready"


def test_a_worker_that_dies_of_its_imports_is_told_until_one_has_come_up() -> None:
    with NodeBench(1).running() as node:
        node.workers[0].die()
        assert node.tasks_told == 1
        assert "SIGSEGV" in node.bench.errors[0].error
        assert node.bench.errors[0].source == "--tasks"
        assert not node.bench.loaded
        node.pass_s(1)
        node.ready()
        assert (node.bench.loaded, node.tasks_told, node.bench.errors) == (True, 2, ())
        node.workers[0].die()
        node.workers[0].die()
        assert (node.tasks_told, node.bench.errors) == (2, ()), "there is one that came up"


def test_a_worker_that_is_killed_while_it_imports_says_nothing_of_the_tasks() -> None:
    with NodeBench(1).running() as node:
        node.bench.pool.kill(0)
        node.pass_s(0.1)
        assert (node.tasks_told, node.bench.errors) == (0, ())


def test_a_worker_that_could_not_import_a_task_gets_no_items_of_it_and_others_go_on() -> None:
    with node_bench(2) as node:
        node.bench.take(chunk(1, 4))
        healthy, broken = node.workers
        assert (healthy.cut, broken.cut) == ([(1, 0, 1)], [(1, 1, 2)])
        broken.die()
        node.take_news()
        broken = node.workers[1]
        with capture_logs() as logs:
            broken.ready(errors=(SourceError("./mytasks.py", "SyntaxError"),))
        assert actions(logs) == ["source_failed"]
        assert node.take_news() == []
        told: list[ChunkReport] = []
        for feed in iter(
            lambda: next((each for each in healthy.feeds if node.book.find_chunk(each.number)), None), None
        ):
            healthy.end(feed)
            told += node.report()
        assert sorted(values(tuple(told))) == [(1, 0), (1, 1), (1, 2), (1, 3)]
        assert broken.cut == []


def test_chunks_that_no_worker_can_run_any_more_are_given_back() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1))
        node.report()
        node.workers[0].die()
        node.take_news()
        with capture_logs() as logs:
            node.workers[0].ready("other")
        assert actions(logs) == ["chunks_released"]
        assert node.take_news() == [NEWS_NOW_S]
        assert node.workers[0].cut == []
        assert released(node.report()) == {1: (Range(0, 10),)}
        assert node.book.empty


def test_what_comes_back_of_a_task_that_no_worker_has_any_more_is_given_back() -> None:
    with node_bench(2) as node:
        node.bench.take(chunk(1, 2))
        first, second = node.workers
        first.end(first.feeds[0])
        second.die()
        node.workers[1].ready("other")
        assert first.cut == [(1, 0, 1), (1, 1, 2)]
        first.die()
        node.workers[0].ready("other")
        assert released(node.report()) == {1: (Range(1, 2),)}


def test_a_task_that_is_new_in_a_worker_is_run_by_that_one() -> None:
    with node_bench(2) as node:
        old, new = node.workers
        new.ready(TASK, "new")
        node.bench.take(chunk(1, 4, task="new"))
        assert (old.cut, new.cut) == ([], [(1, 0, 1)])
        node.bench.take(chunk(2, 4, job="k"))
        assert old.cut == [(2, 0, 1)]


def test_outcomes_wait_for_more_while_their_chunk_goes_on_and_its_last_ones_for_nothing() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 2))
        (worker,) = node.workers
        node.take_news()
        worker.end(worker.feeds[0])
        assert node.take_news() == [NEWS_MORE_S]
        worker.end(worker.feeds[1])
        assert node.take_news() == [NEWS_NOW_S]
        assert values(node.report()) == [(1, 0), (1, 1)]
        assert not node.spool.kept


def test_outcomes_of_items_that_may_not_run_twice_wait_for_nothing() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 2, lease_first=True))
        node.report()
        (worker,) = node.workers
        node.take_news()
        worker.end(worker.feeds[0])
        assert node.take_news() == [NEWS_NOW_S]


def test_outcomes_lie_in_the_spool_until_the_report_with_them_was_answered() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1, 4))
        (worker,) = node.workers
        worker.tell(worker.feeds[0], 2, failed=[1], busy_s=0.25)
        worker.tell(worker.feeds[0], 3, failed=[2], busy_s=-0.5)
        worker.tell(worker.feeds[0], 3)
        kept = list(node.spool.kept.values())
        assert [(len(each.values), len(each.failures), each.busy_s) for each in kept] == [(1, 1, 0.25), (0, 1, 0.0)]
        assert {(each.fence, each.job) for each in kept} == {(Fence(1, 1), JobId("j"))}
        node.book.begin_report()
        assert list(node.spool.kept.values()) == kept
        node.bench.on_answered((), leased=True)
        assert not node.spool.kept


def test_what_a_worker_sends_and_nobody_understands_is_told_of_the_first_item_that_it_had_not_told_of() -> None:
    """Though it is at no item by then: or the next worker would send the same, and the one after it."""
    with node_bench(1) as node:
        at_work(node, chunk(1, 20), 3).talk_nonsense()
        (report,) = node.report()
        assert [(failure.item, failure.kind, failure.alone) for failure in report.failures] == [
            (3, FailureKind.CRASH, False)
        ]
        assert "not msgpack" in report.failures[0].message
        node.workers[0].ready(TASK)
        node.bench.feed()
        assert node.workers[0].cut == [(1, 4, 20)]


def test_after_nonsense_nothing_that_may_have_run_runs_again_where_it_must_not() -> None:
    with node_bench(1) as node:
        worker = at_work(node, chunk(1, 5, lease_first=True), 1)
        worker.work_at(worker.feeds[0], 2)
        worker.talk_nonsense()
        (report,) = node.report()
        assert [failure.item for failure in report.failures] == [1, 2]


def test_a_worker_that_says_nonsense_once_all_was_told_is_blamed_on_nobody() -> None:
    with node_bench(1) as node:
        at_work(node, chunk(1, 5), 5).talk_nonsense()
        (report,) = node.report()
        assert not report.failures
        assert [run.start for run in report.values] == [0, 1, 2, 3, 4]


def test_a_crash_is_told_of_the_item_at_work_and_the_others_run_elsewhere() -> None:
    with node_bench(1) as node:
        worker = at_work(node, chunk(1, 20), 3)
        worker.work_at(worker.feeds[0], 5)
        node.take_news()
        worker.die()
        assert node.take_news() == [NEWS_NOW_S]
        assert len(node.spool.kept) == 2
        (report,) = node.report()
        assert [(failure.item, failure.kind, failure.alone) for failure in report.failures] == [
            (5, FailureKind.CRASH, False)
        ]
        assert [run.start for run in report.values] == [0, 1, 2]
        node.workers[0].ready(TASK)
        node.bench.feed()
        assert node.workers[0].cut == [(1, 3, 5), (1, 6, 20)]


def test_what_a_worker_leaves_behind_goes_to_a_slot_that_idles_at_once() -> None:
    with NodeBench(2).running() as node:
        worker, other = node.workers
        worker.ready(TASK)
        warm(node)
        node.bench.take(chunk(1))
        other.ready(TASK)
        worker.die()
        assert other.cut == [(1, 0, 10)]


def test_a_crash_between_two_items_is_nobodys() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1))
        node.workers[0].tell(node.workers[0].feeds[0], 4)
        node.report()
        node.workers[0].die()
        assert node.report() == ()
        node.workers[0].ready(TASK)
        assert node.workers[0].cut == [(1, 4, 10)]


def test_a_crash_of_an_item_that_was_told_of_before_is_not_told_again() -> None:
    with node_bench(1) as node:
        warm(node)
        node.bench.take(chunk(1))
        (worker,) = node.workers
        worker.work_at(worker.feeds[0], 3)
        worker.tell(worker.feeds[0], 4)
        worker.die()
        (report,) = node.report()
        assert not report.failures


def test_the_crash_of_a_suspect_counts_and_a_worker_that_dies_idle_is_no_news() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 1, alone=True))
        node.workers[0].work_at(node.workers[0].feeds[0], 0)
        node.workers[0].die()
        assert node.report()[0].failures[0].alone
        node.workers[0].ready(TASK)
        node.take_news()
        node.workers[0].die()
        assert node.take_news() == []


def test_what_a_killed_worker_was_at_is_told_where_items_may_not_run_twice() -> None:
    with node_bench(1) as node:
        node.bench.take(chunk(1, 1, lease_first=True))
        node.report()
        node.workers[0].work_at(node.workers[0].feeds[0], 0)
        node.bench.pool.kill(0)
        node.pass_s(0.1)
        assert [failure.kind for failure in node.report()[0].failures] == [FailureKind.CRASH]
