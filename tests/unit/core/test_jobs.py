"""Jobs: started, filled, closed, cancelled, retried; how they end and free those that wait for them."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, TASK, Bench, append, block_of, failure_of, ranges, released_of, tombstone, values_of
from windrow.common.limits import APPEND_BYTES_MAX, APPEND_ITEMS_MAX, ITEM_BYTES_MAX, JOB_ITEMS_MAX
from windrow.common.messages import (
    Accepted,
    Append,
    Appended,
    CancelJob,
    CloseJob,
    NumberItems,
    PauseJob,
    Refused,
    RetryJob,
    Started,
    StartJob,
)
from windrow.common.options import JobOptions, Options
from windrow.common.words import COMMAND_TASK, JobId, JobState, NodeId, Range
from windrow.scheduler.core.commands import Dispatch, JobEnded
from windrow.scheduler.core.jobs import on_append
from windrow.scheduler.core.records import DropAttempts, PutInput, PutJob, ReopenItems, SetJob, ShortenChunk

OTHER = JobId("job-b")
THIRD = JobId("job-c")

# ── Those that wait for others ───────────────────────────────────────────────────────────────────────────────────


def test_a_job_does_not_wait_for_one_that_ended_in_the_same_turn(bench: Bench) -> None:
    bench.start(JOB, 0)  # done at once, but still in the core until the next tick
    assert bench.job().state is JobState.DONE
    bench.start(OTHER, 3, after=(JOB,))
    assert bench.job(OTHER).waits_for == set()
    bench.know_item_time(0.001)
    bench.join()
    assert bench.place_one().job == OTHER


def test_a_job_without_items_ends_at_once_whatever_its_delay(bench: Bench) -> None:
    bench.start(JOB, 0, options=Options(delay_s=3.0))
    assert bench.job().state is JobState.DONE


# ── Retry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def quarantine(bench: Bench, order: Dispatch, *items: int) -> None:
    """Each of these items of the chunk fails for good; the chunk lives on."""
    for item in items:
        assert bench.report(failure_of(order, item), holds=(order.fence,)).dead == ()
    bench.drop_rest()


def test_overlapping_ranges_to_retry_count_once(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 5)
    order = bench.place_one()
    quarantine(bench, order, 0, 1, 2, 3, 4)
    said = bench.ask_for(Accepted, RetryJob(JOB, (Range(0, 3), Range(2, 4), Range(2, 3))))
    assert said.note == "4 items will run again"
    assert bench.pick_one(ReopenItems).ranges == (Range(0, 4),)
    bench.drop_rest()


def test_an_item_retried_under_a_live_chunk_does_not_return_to_it_at_a_restart(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join(slots=4)
    bench.start(JOB, 8)
    first = bench.place_one()
    assert (first.start, first.stop) == (0, 8)
    quarantine(bench, first, 2)
    bench.ask_for(Accepted, RetryJob(JOB))
    assert bench.pick(ShortenChunk) == [ShortenChunk(first.fence, (0, 2, 3, 8))]
    bench.drop_rest()
    again = bench.place_one()
    assert (again.start, again.stop) == (2, 3)
    bench.restart()
    assert bench.chunk(first).remaining == ranges((0, 2), (3, 8))
    assert bench.chunk(again).remaining == ranges((2, 3))


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "numbers",
    [
        NumberItems(-(2**63), 2**63),
        NumberItems(2**63, -(2**63), -1),
        NumberItems(0, JOB_ITEMS_MAX + 1),
        NumberItems(0, 10, 0),
    ],
)
def test_too_many_numbers_are_refused(bench: Bench, numbers: NumberItems) -> None:
    assert bench.ask_for(Refused, StartJob(JOB, TASK, numbers=numbers)).code == "usage"


@pytest.mark.parametrize(
    ("numbers", "total"),
    [
        (NumberItems(0, 10), 10),
        (NumberItems(0, 10, 3), 4),
        (NumberItems(10, 0, -3), 4),
        (NumberItems(5, 5), 0),
        (NumberItems(5, 0), 0),
        (NumberItems(0, JOB_ITEMS_MAX), JOB_ITEMS_MAX),
    ],
)
def test_numbers_are_counted_as_python_counts_them(bench: Bench, numbers: NumberItems, total: int) -> None:
    said = bench.ask_for(Started, StartJob(JOB, TASK, numbers=numbers))
    assert said.total == total == len(range(numbers.start, numbers.stop, numbers.step))
    bench.drop_rest()


def test_an_append_that_no_chunk_message_could_carry_is_refused(bench: Bench) -> None:
    bench.ask_for(Started, StartJob(JOB, TASK))
    bench.drop_rest()
    large = b"i" * (APPEND_BYTES_MAX // 2 + 1)
    refused = bench.ask_for(Refused, Append(JOB, 0, 2, block_of(2, large)))
    assert refused.code == "item_refused"
    assert "2 items" in refused.message
    assert bench.ask_for(Refused, append(JOB, 0, 1, b"i" * (ITEM_BYTES_MAX + 1))).code == "item_refused"
    assert bench.ask_for(Refused, append(JOB, 0, APPEND_ITEMS_MAX + 1, b"")).code == "item_refused"
    assert bench.ask_for(Appended, append(JOB, 0, 1, b"i" * ITEM_BYTES_MAX)).total == 1
    bench.drop_rest()


# ── Start ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_started_job_is_one_row_and_one_answer(bench: Bench) -> None:
    asked = StartJob(JOB, TASK, options=Options(priority=3), numbers=NumberItems(0, 10), key="k")
    said = bench.ask_for(Started, asked)
    assert said == Started(1, JOB, existing=False, total=10, note=said.note)
    assert "no live node serves the queue 'default'" in said.note
    options = JobOptions(priority=3)
    created = bench.now.wall
    bench.expect(
        PutJob(1, JOB, TASK, TASK, options, False, "k", (), NumberItems(0, 10), 10, False, JobState.PENDING, created)
    )


def test_the_same_start_again_finds_the_job_and_changes_nothing(bench: Bench) -> None:
    asked = StartJob(JOB, TASK, numbers=NumberItems(0, 10), key="k")
    bench.ask(asked)
    bench.drop_rest()
    assert bench.ask(asked) == Started(1, JOB, existing=True, total=10)
    other_id = StartJob(OTHER, TASK, numbers=NumberItems(0, 10), key="k")
    assert bench.ask(other_id) == Started(1, JOB, existing=True, total=10)


def test_the_same_start_after_the_end_finds_the_job(bench: Bench) -> None:
    asked = StartJob(JOB, TASK, numbers=NumberItems(0, 0))
    bench.ask(asked)
    bench.tick()
    bench.drop_rest()
    assert bench.state.jobs == {}
    assert bench.ask(asked) == Started(1, JOB, existing=True, total=0)
    bench.tick()
    assert bench.state.jobs == {}


@pytest.mark.parametrize(
    "other",
    [
        StartJob(OTHER, TASK, numbers=NumberItems(0, 11), key="k"),
        StartJob(OTHER, "t:other", numbers=NumberItems(0, 10), key="k"),
        StartJob(OTHER, TASK, key="k"),
        StartJob(OTHER, TASK, numbers=NumberItems(0, 10), key="k", stream=True),
    ],
)
def test_a_key_with_other_content_is_a_conflict(bench: Bench, other: StartJob) -> None:
    bench.start(JOB, 10, key="k")
    assert bench.ask_for(Refused, other).code == "key_conflict"
    assert list(bench.state.jobs) == [JOB]


def test_an_id_in_use_by_another_job_is_refused(bench: Bench) -> None:
    bench.start(JOB, 10)
    assert bench.ask_for(Refused, StartJob(JOB, TASK, numbers=NumberItems(0, 11))).code == "usage"


@pytest.mark.parametrize("asked", [StartJob(JobId(""), TASK), StartJob(JOB, "")])
def test_a_job_needs_an_id_and_a_task(bench: Bench, asked: StartJob) -> None:
    assert bench.ask_for(Refused, asked).code == "usage"


def test_a_task_that_no_node_of_the_queue_offers_is_refused_with_the_nearest_name(bench: Bench) -> None:
    bench.join(tasks=("mytasks:work", "else:where"))
    refused = bench.ask_for(Refused, StartJob(JOB, "mytask:work"))
    assert refused.code == "unknown_task"
    assert "did you mean mytasks:work?" in refused.message
    assert "windrow nodes" in bench.ask_for(Refused, StartJob(JOB, "zzz")).message
    bench.ask_for(Started, StartJob(JOB, "zzz", options=Options(queue="unserved")))
    bench.drop_rest()


def test_what_nodes_say_of_the_task_lies_under_what_the_client_asks(bench: Bench) -> None:
    bench.join()
    task = bench.node().tasks[TASK]
    bench.node().tasks[TASK] = type(task)(TASK, options=Options(priority=7, retries=4))
    job = bench.start(JOB, 1, options=Options(retries=1))
    assert (job.options.priority, job.options.retries) == (7, 1)


def test_a_job_of_no_items_is_done_at_once(bench: Bench) -> None:
    said = bench.ask_for(Started, StartJob(JOB, TASK, numbers=NumberItems(3, 3)))
    assert said.total == 0
    put, ended, drop, effect = bench.out
    assert (type(put), type(drop), effect) == (PutJob, DropAttempts, JobEnded(JOB))
    assert isinstance(ended, SetJob)
    assert (ended.state, ended.finished_wall) == (JobState.DONE, bench.now.wall)
    bench.drop_rest()
    bench.tick()
    assert (bench.state.jobs, bench.state.keys, bench.state.job_by_no) == ({}, {}, {})


# ── Append and close ─────────────────────────────────────────────────────────────────────────────────────────────


def open_job(bench: Bench, items: int = 0, key: str | None = None, *, stream: bool = False) -> None:
    bench.ask_for(Started, StartJob(JOB, TASK, key=key, stream=stream))
    if items:
        bench.ask_for(Appended, append(JOB, 0, items))
    bench.drop_rest()


def test_an_append_is_an_input_row_and_a_new_total(bench: Bench) -> None:
    open_job(bench)
    assert bench.ask(append(JOB, 0, 3)) == Appended(1, 3)
    put, changed = bench.out
    assert isinstance(put, PutInput)
    assert (put.base, put.count, put.block, put.due_wall) == (0, 3, block_of(3, b"i"), None)
    assert isinstance(changed, SetJob)
    assert (changed.total, changed.open, changed.state) == (3, True, JobState.PENDING)
    bench.drop_rest()
    assert bench.job().pending == ranges((0, 3))


def test_an_append_sent_again_is_answered_and_changes_nothing(bench: Bench) -> None:
    open_job(bench, 3)
    assert bench.ask(append(JOB, 3, 2)) == Appended(1, 5)
    bench.drop_rest()
    assert bench.ask(append(JOB, 0, 3)) == Appended(1, 5)
    assert bench.ask(append(JOB, 3, 2)) == Appended(1, 5)
    bench.expect_nothing()


@pytest.mark.parametrize(("key", "code"), [(None, "usage"), ("k", "key_conflict")], ids=["without a key", "with a key"])
def test_an_append_of_other_items_where_some_are_is_refused(bench: Bench, key: str | None, code: str) -> None:
    open_job(bench, 3, key)
    assert bench.ask_for(Refused, append(JOB, 0, 3, b"other")).code == code
    assert bench.ask_for(Refused, append(JOB, 1, 2)).code == code, "other boundaries"
    assert bench.job().total == 3


def test_an_append_that_leaves_a_gap_or_straddles_the_end_is_refused_with_the_total(bench: Bench) -> None:
    open_job(bench, 3)
    for asked in (append(JOB, 4, 1), append(JOB, 2, 2)):
        refused = bench.ask_for(Refused, asked)
        assert (refused.code, "has 3 items" in refused.message) == ("usage", True)
        assert bench.job().total == 3


def test_a_closed_job_takes_no_more_but_confirms_what_it_has(bench: Bench) -> None:
    open_job(bench, 3)
    assert bench.ask_for(Accepted, CloseJob(JOB, 3))
    bench.drop_rest()
    assert "is closed" in bench.ask_for(Refused, append(JOB, 3, 1)).message
    assert bench.ask(append(JOB, 0, 3)) == Appended(1, 3)
    assert bench.ask_for(Accepted, CloseJob(JOB, 3))
    bench.expect_nothing()


def test_an_append_or_a_close_after_the_end_is_still_confirmed(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    open_job(bench, 3, "k")
    assert bench.ask_for(Accepted, CloseJob(JOB, 3))
    bench.finish(bench.place(0)[0])
    bench.tick()
    assert bench.state.jobs == {}
    assert bench.ask(append(JOB, 0, 3)) == Appended(1, 3)
    assert bench.ask_for(Accepted, CloseJob(JOB, 3))
    assert bench.ask_for(Refused, append(JOB, 3, 1)).code == "key_conflict"
    bench.tick()
    assert bench.state.jobs == {}
    bench.drop_rest()


def test_a_close_with_another_total_is_refused(bench: Bench) -> None:
    open_job(bench, 3)
    assert "has 3 items, not 4" in bench.ask_for(Refused, CloseJob(JOB, 4)).message
    assert bench.job().open


def test_a_job_of_numbers_takes_no_appends(bench: Bench) -> None:
    bench.start(JOB, 3)
    assert bench.ask_for(Refused, append(JOB, 3, 1)).code == "usage"
    assert bench.ask_for(Refused, append(JOB, 0, 3)).code == "usage"


@pytest.mark.parametrize("asked", [append(JOB, 0, 1), CloseJob(JOB, 0), CancelJob(JOB), RetryJob(JOB), PauseJob(JOB)])
def test_what_is_asked_of_no_job_is_refused(
    bench: Bench, asked: Append | CloseJob | CancelJob | RetryJob | PauseJob
) -> None:
    assert bench.ask_for(Refused, asked).code == "not_found"


def test_an_open_job_is_not_done_before_it_is_closed(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    open_job(bench, 3)
    bench.finish(bench.place_one())
    assert bench.job().state is JobState.RUNNING
    assert bench.ask_for(Accepted, CloseJob(JOB, 3))
    assert bench.job().state is JobState.DONE
    bench.drop_rest()


@pytest.mark.parametrize(
    ("stream", "first_done", "forgets"),
    [(True, 0, True), (True, 1, False), (False, 0, False)],
    ids=["stream", "stream whose first item is not done", "job"],
)
def test_a_stream_with_very_many_appends_that_are_done_remembers_the_last_of_them(
    bench: Bench, stream: bool, first_done: int, forgets: bool
) -> None:
    bench.know_item_time(0.00001)
    bench.join()
    open_job(bench, stream=stream)
    for first in range(4200):
        bench.state.jobs[JOB].pending.clear()
        bench.state.jobs[JOB].done.add(first_done, first)
        bench.state.jobs[JOB].pending.add(0, min(first, first_done))
        bench.state.ready.clear()
        bench.ask_for(Appended, append(JOB, first, 1))
    bench.drop_rest()
    assert (len(bench.job().inputs) < 4200) == forgets
    assert bench.ask_for(Appended, append(JOB, 4199, 1)).total == 4200
    bench.drop_rest()


# ── Delay ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_delayed_item_is_never_placed_before_it_is_due(bench: Bench) -> None:
    """Invariant 9."""
    bench.join()
    open_job(bench)
    bench.ask_for(Appended, append(JOB, 0, 2, delay_s=10.0))
    due_wall = bench.pick_one(PutInput).due_wall
    assert due_wall is not None
    assert bench.now.wall + 10 <= due_wall < bench.now.wall + 10.7
    bench.drop_rest()
    for _ in range(9):
        bench.report()
        assert bench.place(1.0) == []
    bench.report()
    assert len(bench.place(1.7)) == 2


def test_neighbours_in_time_share_a_bucket(bench: Bench) -> None:
    open_job(bench)
    for first in range(100):
        bench.ask_for(Appended, append(JOB, first, 1, delay_s=100.0))
        bench.mono += 0.01
    assert len(bench.job().delayed) <= 2
    bench.drop_rest()


# ── Cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_with_nothing_live_is_cancelled_at_once(bench: Bench) -> None:
    bench.start(JOB, 5)
    assert bench.ask_for(Accepted, CancelJob(JOB)).note == ""
    first, last = bench.pick(SetJob)
    assert (first.state, last.state) == (JobState.CANCELLING, JobState.CANCELLED)
    assert (last.cancelled, last.reason) == (5, "cancelled by hand")
    assert bench.pick(JobEnded) == [JobEnded(JOB)]
    bench.drop_rest()
    bench.tick()
    assert "has ended already: it is cancelled" in bench.ask_for(Accepted, CancelJob(JOB)).note


def test_delayed_and_open_jobs_can_be_cancelled(bench: Bench) -> None:
    open_job(bench)
    bench.ask_for(Appended, append(JOB, 0, 2, delay_s=10.0))
    bench.ask_for(Accepted, CancelJob(JOB, "enough"))
    last = bench.pick(SetJob)[-1]
    assert (last.state, last.open, last.cancelled, last.reason) == (JobState.CANCELLED, False, 2, "enough")
    bench.drop_rest()
    bench.tick(11)
    bench.expect_nothing()


def cancelled_while(bench: Bench, how: str) -> Dispatch:
    bench.know_item_time(0.3)
    bench.join()
    bench.start(JOB, 8)
    order = bench.place(0)[0]
    if how != "placed":
        bench.sent(order)
    if how == "leased":
        bench.lease(order)
    bench.ask_for(Accepted, CancelJob(JOB))
    bench.drop_rest()
    assert bench.job().state is JobState.CANCELLING
    assert bench.place() == [], "nothing more of it is placed"
    return order


@pytest.mark.parametrize("how", ["placed", "sent"])
def test_cancelled_chunks_that_never_arrived_are_given_up(bench: Bench, how: str) -> None:
    cancelled_while(bench, how)
    for fence in list(bench.state.chunks):
        assert bench.report(tombstone(fence)).dead == ()
    assert bench.job().state is JobState.CANCELLED
    assert len(bench.job().cancelled) == 8
    bench.drop_rest()


def test_a_cancelled_chunk_at_a_node_commits_nothing_more(bench: Bench) -> None:
    order = cancelled_while(bench, "leased")
    assert bench.report(values_of(order, stop=order.start + 1), holds=(order.fence,)).dead == (order.fence,)
    bench.expect_nothing()
    others = [fence for fence in bench.state.chunks if fence != order.fence]
    said = bench.report(*(tombstone(fence) for fence in others))
    assert said.dead == ()
    assert bench.job().state is JobState.CANCELLED
    last = bench.pick(SetJob)[-1]
    assert (last.done, last.cancelled) == (0, 8)
    bench.drop_rest()


@pytest.mark.parametrize("how", ["placed", "sent", "leased"])
def test_cancelled_chunks_of_a_lost_node_end_with_its_lease(bench: Bench, how: str) -> None:
    cancelled_while(bench, how)
    bench.tick(bench.settings.lease_s + 0.1)
    assert bench.job_state() is JobState.CANCELLED
    bench.drop_rest()


def test_a_cancelled_job_reaches_its_end_after_a_restart_too(bench: Bench) -> None:
    order = cancelled_while(bench, "leased")
    bench.restart()
    assert bench.job().state is JobState.CANCELLING
    bench.join(holds=(order.fence,))
    bench.drop_rest()
    assert bench.report(holds=(order.fence,)).dead == (order.fence,)
    bench.report()
    assert bench.job_state() is JobState.CANCELLED
    bench.drop_rest()


# ── Dependents ───────────────────────────────────────────────────────────────────────────────────────────────────


def chain(bench: Bench, *, items: int = 3) -> None:
    bench.know_item_time(0.001)
    bench.start(JOB, items)
    bench.start(OTHER, items, after=(JOB,))
    bench.start(THIRD, 0, after=(OTHER,))


def test_a_chain_of_three_runs_in_order_and_the_empty_last_one_ends_with_the_second(bench: Bench) -> None:
    chain(bench)
    bench.join()
    first = bench.place_one()
    assert first.job == JOB
    bench.report(values_of(first))
    assert bench.pick(JobEnded) == [JobEnded(JOB)]
    second = bench.place_one()
    assert second.job == OTHER
    bench.report(values_of(second))
    assert bench.pick(JobEnded) == [JobEnded(OTHER), JobEnded(THIRD)]
    assert [job.state for job in bench.state.jobs.values()] == [JobState.DONE, JobState.DONE]
    bench.drop_rest()
    bench.tick()
    assert (bench.state.jobs, bench.state.dependents) == ({}, {})


def test_when_the_first_of_three_fails_the_others_are_cancelled_with_a_reason(bench: Bench) -> None:
    chain(bench, items=1)
    bench.join()
    order = bench.place_one()
    bench.report(failure_of(order, 0))
    ends = {record.no: record for record in bench.pick(SetJob) if record.finished_wall is not None}
    assert [ends[no].state for no in (1, 2, 3)] == [JobState.FAILED, JobState.CANCELLED, JobState.CANCELLED]
    assert (ends[2].cancelled, ends[2].reason) == (1, f"job {JOB} ({TASK}), which it waits for, has failed")
    assert ends[3].reason == f"job {OTHER} ({TASK}), which it waits for, has cancelled"
    assert {ended.job for ended in bench.pick(JobEnded)} == {JOB, OTHER, THIRD}
    bench.drop_rest()


def test_when_the_middle_of_three_is_cancelled_the_first_goes_on(bench: Bench) -> None:
    chain(bench)
    bench.ask_for(Accepted, CancelJob(OTHER))
    assert (bench.job_state(OTHER), bench.job_state(THIRD)) == (JobState.CANCELLED, JobState.CANCELLED)
    bench.drop_rest()
    bench.join()
    bench.finish(bench.place_one())
    assert bench.job_state(JOB) is JobState.DONE


def test_a_job_that_waits_for_two_waits_for_both(bench: Bench) -> None:
    bench.start(JOB, 1)
    bench.start(OTHER, 1)
    bench.start(THIRD, 1, after=(JOB, OTHER, JOB))
    bench.join(slots=4)
    one, two = bench.place()
    bench.finish(one)
    assert bench.place() == []
    bench.finish(two)
    assert bench.place_one().job == THIRD


def test_waiting_goes_on_after_a_restart(bench: Bench) -> None:
    chain(bench)
    bench.restart()
    bench.know_item_time(0.001)
    bench.join()
    first = bench.place_one()
    bench.finish(first)
    bench.tick()
    bench.drop_rest()
    bench.restart()
    bench.know_item_time(0.001)
    bench.join()
    assert bench.place_one().job == OTHER


def test_a_job_may_wait_for_one_that_ended_long_ago(bench: Bench) -> None:
    bench.start(JOB, 0)
    bench.tick()
    assert not bench.start(OTHER, 3, after=(JOB,)).waits_for


def test_a_job_cannot_wait_for_what_failed_or_is_not_there(bench: Bench) -> None:
    bench.start(JOB, 3)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    for _ in range(2):
        refused = bench.ask_for(Refused, StartJob(OTHER, TASK, after=(JOB,)))
        assert "has cancelled" in refused.message
        bench.tick()  # the second time the job has left the core
    assert bench.ask_for(Refused, StartJob(OTHER, TASK, after=(THIRD,))).code == "not_found"
    assert bench.ask_for(Refused, StartJob(OTHER, TASK, after=(OTHER,))).code == "not_found", "itself"


# ── Retry, once more ─────────────────────────────────────────────────────────────────────────────────────────────


def failed_job(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4)
    order = bench.place_one()
    quarantine(bench, order, 1, 2)
    bench.report(values_of(order))
    assert bench.job().state is JobState.FAILED
    bench.drop_rest()


@pytest.mark.parametrize("evicted", [False, True], ids=["in the core", "evicted"])
def test_a_failed_job_runs_its_failed_items_again_in_a_new_generation(bench: Bench, evicted: bool) -> None:
    failed_job(bench)
    if evicted:
        bench.tick()
        assert bench.state.jobs == {}
    bench.ask_for(Accepted, RetryJob(JOB))
    assert bench.pick(ReopenItems) == [ReopenItems(1, (Range(1, 3),))]
    changed = bench.pick_one(SetJob)
    assert (changed.state, changed.generation, changed.finished_wall, changed.failed) == (JobState.PENDING, 1, None, 0)
    order = bench.place_one()
    assert (order.start, order.stop, order.attempts) == (1, 3, ())
    bench.finish(order)
    assert bench.job_state() is JobState.DONE
    bench.tick()
    assert bench.state.jobs == {}


def test_named_items_alone_are_retried(bench: Bench) -> None:
    failed_job(bench)
    bench.ask_for(Accepted, RetryJob(JOB, (Range(0, 2),)))
    bench.drop_rest()
    assert (bench.job().pending, bench.job().quarantined) == (ranges((1, 2)), ranges((2, 3)))
    bench.finish(bench.place_one())
    assert bench.job_state() is JobState.FAILED


def test_there_is_nothing_to_retry_in_a_job_without_failed_items(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 2)
    order = bench.place_one()
    bench.finish(order)
    for _ in range(2):
        refused = bench.ask_for(Refused, RetryJob(JOB))
        assert (refused.code, "has no failed items to retry" in refused.message) == ("usage", True)
        bench.tick()
    assert bench.state.jobs == {}, "it was recalled, and has left again"
    assert "among these" in bench.ask_for(Refused, RetryJob(JOB, (Range(0, 2),))).message


def test_a_cancelled_job_is_not_retried(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8)
    order = bench.place_one()
    quarantine(bench, order, 1)
    bench.ask(CancelJob(JOB))
    refused = bench.ask_for(Refused, RetryJob(JOB))
    assert (refused.code, "was cancelled" in refused.message) == ("usage", True)
    bench.report(released_of(order, (0, 8)))
    assert "was cancelled" in bench.ask_for(Refused, RetryJob(JOB)).message
    bench.drop_rest()


def test_the_delay_of_a_job_is_that_of_its_appends_unless_they_have_their_own(bench: Bench) -> None:
    bench.ask(StartJob(JOB, TASK, options=Options(delay_s=10.0)))
    bench.ask(append(JOB, 0, 1))
    bench.ask(append(JOB, 1, 1, delay_s=1.0))
    bench.drop_rest()
    bench.tick(1.3)
    assert bench.job().pending == ranges((1, 2))
    bench.tick(9.5)
    assert bench.job().pending == ranges((0, 2))


def test_how_a_dependency_ended_is_not_remembered_beyond_the_start_that_asked(bench: Bench) -> None:
    bench.start(JOB, 0)
    bench.tick()
    bench.start(OTHER, 1, after=(JOB,))
    assert bench.state.ends_known == {}


# ── Start, once more ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_has_the_name_it_was_given(bench: Bench) -> None:
    bench.ask(StartJob(JOB, TASK, name="squares"))
    assert bench.pick_one(PutJob).name == "squares"
    bench.drop_rest()


def test_a_start_is_found_by_its_id_before_its_key(bench: Bench) -> None:
    bench.start(JOB, 10, key="k")
    bench.start(OTHER, 10)
    assert bench.ask_for(Started, StartJob(OTHER, TASK, numbers=NumberItems(0, 10), key="k")).job == OTHER


def test_an_id_in_use_is_no_conflict_of_keys_unless_the_key_is_its_own(bench: Bench) -> None:
    bench.start(JOB, 10)
    assert bench.ask_for(Refused, StartJob(JOB, TASK, numbers=NumberItems(0, 11), key="k")).code == "usage"


def test_to_wait_for_what_has_failed_is_a_mistake_of_the_asker(bench: Bench) -> None:
    bench.start(JOB, 3)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    assert bench.ask_for(Refused, StartJob(OTHER, TASK, after=(JOB,))).code == "usage"


def test_a_task_is_known_where_one_of_the_nodes_offers_it(bench: Bench) -> None:
    bench.join(tasks=("t:other",))
    bench.join(NodeId("node-b"))
    assert bench.ask_for(Started, StartJob(JOB, TASK)).note == ""
    bench.drop_rest()


def test_the_bare_name_of_a_function_is_near_enough_to_name_its_task(bench: Bench) -> None:
    bench.join(tasks=("mytasks:work", "else:where"))
    assert "did you mean mytasks:work?" in bench.ask_for(Refused, StartJob(JOB, "work")).message


def test_commands_are_refused_with_how_to_allow_them_where_no_node_runs_them(bench: Bench) -> None:
    bench.join()
    refused = bench.ask_for(Refused, StartJob(JOB, COMMAND_TASK))
    assert (refused.code, "--allow-commands" in refused.message) == ("unknown_task", True)


def test_a_lost_node_neither_knows_a_task_nor_keeps_one_from_being_started(bench: Bench) -> None:
    bench.join(tasks=("t:other",))
    bench.tick(bench.settings.lease_s + 0.3)
    bench.drop_rest()
    assert "no live node serves the queue" in bench.ask_for(Started, StartJob(JOB, TASK)).note
    bench.drop_rest()


def test_nodes_of_other_queues_are_not_what_a_job_waits_for(bench: Bench) -> None:
    bench.join(queues=("other",))
    assert "no live node serves the queue 'default'" in bench.ask_for(Started, StartJob(JOB, TASK)).note
    bench.drop_rest()


# ── Append and close, once more ──────────────────────────────────────────────────────────────────────────────────


def test_a_job_has_at_most_so_many_items_and_not_one_more(bench: Bench) -> None:
    """Invariant 6."""
    open_job(bench)
    bench.job().total = JOB_ITEMS_MAX - 1
    assert isinstance(on_append(bench.state, append(JOB, JOB_ITEMS_MAX - 1, 1), bench.now, []), Appended)
    refused = on_append(bench.state, append(JOB, JOB_ITEMS_MAX, 1), bench.now, [])
    assert isinstance(refused, Refused)
    assert refused.code == "usage"


@pytest.mark.parametrize(("key", "code"), [(None, "usage"), ("k", "key_conflict")], ids=["without a key", "with a key"])
def test_who_goes_on_with_a_job_that_has_other_items_is_told_whether_its_key_is_to_blame(
    bench: Bench, key: str | None, code: str
) -> None:
    open_job(bench, 3, key)
    refused = bench.ask_for(Refused, append(JOB, 0, 3, b"other"))
    assert f"items 0:3 of job {JOB}" in refused.message
    assert ("(key 'k')" in refused.message, "None" in refused.message) == (key is not None, False)
    assert bench.ask_for(Refused, CloseJob(JOB, 4)).code == code


def test_a_close_holds_over_a_restart(bench: Bench) -> None:
    open_job(bench, 3)
    bench.ask(CloseJob(JOB, 3))
    bench.drop_rest()
    bench.restart()
    assert not bench.job().open


@pytest.mark.parametrize("stream", [False, True])
def test_who_closes_a_job_is_told_that_it_waits_for_a_node_and_who_closes_a_stream_is_not(
    bench: Bench, stream: bool
) -> None:
    open_job(bench, 3, stream=stream)
    said = bench.ask_for(Accepted, CloseJob(JOB, 3))
    assert ("no live node" in said.note) == (not stream)
    bench.drop_rest()


# ── Pause, and retry under live chunks ───────────────────────────────────────────────────────────────────────────


def test_to_pause_or_to_resume_twice_changes_nothing_more(bench: Bench) -> None:
    bench.start(JOB, 3)
    for resume, state in ((True, JobState.PENDING), (False, JobState.PAUSED), (False, JobState.PAUSED)):
        assert bench.ask_for(Accepted, PauseJob(JOB, resume=resume)).note == f"job {JOB} is {state}"
    assert len(bench.pick(SetJob)) == 1
    bench.expect_nothing()


@pytest.mark.parametrize("runs", [True, False])
def test_a_job_that_is_resumed_is_running_where_items_of_it_run(bench: Bench, runs: bool) -> None:
    bench.start(JOB, 1)
    if runs:
        bench.join()
        bench.drop_rest()
        bench.lease(bench.place_one())
    state = JobState.RUNNING if runs else JobState.PENDING
    bench.ask_for(Accepted, PauseJob(JOB))
    assert bench.ask_for(Accepted, PauseJob(JOB, resume=True)).note == f"job {JOB} is {state}"
    assert [record.state for record in bench.pick(SetJob)] == [JobState.PAUSED, state]


@pytest.mark.parametrize(("resume", "what"), [(False, "nothing to pause"), (True, "nothing to resume")])
def test_a_job_that_is_being_cancelled_is_neither_paused_nor_resumed(bench: Bench, resume: bool, what: str) -> None:
    cancelled_while(bench, "leased")
    refused = bench.ask_for(Refused, PauseJob(JOB, resume=resume))
    assert (refused.code, what in refused.message) == ("usage", True)


@pytest.mark.parametrize("failed", ["last of the first", "first of the second", "both"])
def test_of_live_chunks_those_alone_whose_items_are_retried_are_shortened(bench: Bench, failed: str) -> None:
    bench.know_item_time(0.1)
    bench.join(slots=2)
    bench.start(JOB, 12)
    first, second = bench.place()[:2]
    assert first.stop == second.start
    bench.lease(first, second)
    touched = {"last of the first": (first,), "first of the second": (second,), "both": (first, second)}[failed]
    # Ranges that touch are one: where both chunks are concerned, two that are apart.
    failing = {first.fence: first.stop - 1, second.fence: second.stop - 1 if failed == "both" else second.start}
    for order in touched:
        bench.report(failure_of(order, failing[order.fence]), holds=tuple(bench.job().chunks))
    bench.drop_rest()
    bench.ask_for(Accepted, RetryJob(JOB))
    assert {record.fence for record in bench.pick(ShortenChunk)} == {order.fence for order in touched}
    bench.drop_rest()


@pytest.mark.parametrize("kind", ["named twice", "open", "delayed"])
def test_whatever_waits_for_a_job_that_does_not_succeed_is_cancelled_with_all_it_has(bench: Bench, kind: str) -> None:
    bench.start(JOB, 1)
    if kind == "open":
        bench.ask_for(Started, StartJob(OTHER, TASK, after=(JOB,)))
        bench.ask_for(Appended, append(OTHER, 0, 3))
    else:
        after = (JOB, JOB) if kind == "named twice" else (JOB,)
        bench.start(OTHER, 3, after=after, options=Options(delay_s=9.0 if kind == "delayed" else 0.0))
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    last = bench.store.jobs[2].last
    assert (last.state, last.cancelled, last.open) == (JobState.CANCELLED, 3, False)
    assert not bench.job(OTHER).delayed


def test_a_key_is_free_in_the_core_when_its_job_has_left(bench: Bench) -> None:
    """Whether it was used is then asked of the store."""
    bench.start(JOB, 0, key="k")
    bench.tick()
    assert (bench.state.jobs, bench.state.keys) == ({}, {})


def test_an_append_may_have_as_many_items_as_the_limit_says(bench: Bench) -> None:
    open_job(bench)
    assert bench.ask_for(Appended, append(JOB, 0, APPEND_ITEMS_MAX, b"")).total == APPEND_ITEMS_MAX
    bench.drop_rest()


def test_a_short_delay_is_a_delay(bench: Bench) -> None:
    bench.start(JOB, 1, options=Options(delay_s=0.5))
    assert not bench.job().pending


def test_to_cancel_twice_changes_nothing_more(bench: Bench) -> None:
    cancelled_while(bench, "leased")
    assert bench.ask_for(Accepted, CancelJob(JOB, "again"))
    bench.expect_nothing()
    assert bench.job().reason == "cancelled by hand"
