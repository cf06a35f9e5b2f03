"""What becomes of items whose node was lost, of items given up, and of jobs that fail too much."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, Bench, failure_of, ranges, released_of, tombstone, values_of
from windrow.common.messages import (
    Accepted,
    CancelJob,
    ChunkReport,
    ItemFailure,
    NodeBye,
    NumberItems,
    PauseJob,
    Refused,
    RetryJob,
    Started,
    StartJob,
)
from windrow.common.options import OnLost, Options
from windrow.common.words import FailureKind, JobId, JobState, NodeId
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.explain import explain_item, explain_job
from windrow.scheduler.core.info import directives, job_info
from windrow.scheduler.core.losses import restore_losses
from windrow.scheduler.core.records import PutFailure, PutLosses

OTHER = NodeId("node-b")


def lose(bench: Bench, boot: str) -> None:
    """The node's machine dies and comes back."""
    bench.join(boot=boot)


def lose_with(bench: Bench, order: Dispatch, boot: str, next_boot: str) -> list[PutLosses]:
    bench.lease(order, boot=boot)
    lose(bench, next_boot)
    losses = bench.pick(PutLosses)
    bench.drop_rest()
    return losses


def test_a_range_that_was_lost_with_its_node_is_leased_before_it_starts(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8)
    order = bench.place_one()
    assert not order.lease_first
    assert lose_with(bench, order, "boot-1", "boot-2") == [PutLosses(1, order.start, order.stop, 1)]
    again = bench.place(0.1)
    assert again[0].lease_first


def test_what_was_only_on_its_way_to_a_lost_node_is_not_blamed(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8)
    bench.place_one()
    bench.tick(7.0)
    assert bench.pick(PutLosses) == []
    bench.drop_rest()
    assert bench.job().losses == {}


def test_a_node_that_says_goodbye_costs_nobody_anything(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8)
    bench.lease(bench.place_one())
    bench.ask(NodeBye(NODE, "boot-1"))
    assert bench.pick(PutLosses) == []
    bench.drop_rest()


def test_a_single_item_that_cost_three_nodes_is_quarantined_and_the_others_are_done(bench: Bench) -> None:
    """The item kills its machine each time; the fleet survives it, and the reason is told."""
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 100)
    boots = 1
    deaths = 0
    killer = 37
    todo: list[Dispatch] = []
    for _ in range(1_000):
        todo += bench.place(0.2)
        if not todo:
            break
        order = todo.pop(0)
        if order.fence not in bench.state.chunks:
            continue
        if order.start <= killer < order.stop:
            deaths += 1
            bench.lease(order, boot=f"boot-{boots}")
            boots += 1
            bench.join(boot=f"boot-{boots}")
            bench.drop_rest()
        else:
            bench.finish(order, boot=f"boot-{boots}")
    job = bench.store.jobs[1]
    assert job.kinds == {killer: FailureKind.NODE}
    assert len(job.values) == 99
    assert 3 <= deaths <= 5


def test_only_one_range_under_watch_goes_to_a_node(bench: Bench) -> None:
    """So that the next loss is blamed on the right one."""
    bench.know_item_time(0.5)
    bench.join(slots=4)
    bench.start(JOB, 2)
    job = bench.job()
    bench.place()
    bench.lease(*[Dispatch(f, NODE, JOB, c.start, c.stop, (), False) for f, c in job.chunks.items()])
    lose(bench, "boot-2")
    bench.drop_rest()
    bench.lease(*bench.place(0.1), boot="boot-2")
    lose(bench, "boot-3")
    bench.drop_rest()
    assert len(bench.place(0.1)) == 1


def test_losses_survive_a_restart_of_the_scheduler(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8)
    lose_with(bench, bench.place_one(), "boot-1", "boot-2")
    before = bench.job().losses
    bench.restart()
    assert bench.job().losses == before != {}


def test_on_lost_fail_never_runs_an_item_twice(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(on_lost=OnLost.FAIL))
    order = bench.place_one()
    assert order.lease_first
    bench.lease(order)
    bench.report(values_of(order, order.start, order.start + 1), holds=(order.fence,))
    bench.drop_rest()
    lose(bench, "boot-2")
    failures = bench.pick(PutFailure)
    bench.drop_rest()
    assert [(each.item, each.kind, each.final) for each in failures] == [
        (item, FailureKind.LOST, True) for item in range(1, 4)
    ]
    assert bench.place(0.1) == []
    assert bench.store.jobs[1].last.state is JobState.FAILED


def test_on_lost_fail_runs_again_what_was_never_leased(bench: Bench) -> None:
    """The node starts nothing of it before its lease is answered."""
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(on_lost=OnLost.FAIL))
    first = bench.place_one()
    bench.tick(7.0)
    bench.drop_rest()
    bench.join(boot="boot-2")
    bench.drop_rest()
    again = bench.place(0.1)
    assert [(order.start, order.stop) for order in again] == [(first.start, first.stop)]


def test_on_lost_fail_quarantines_what_was_running_when_its_worker_crashed(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 2, options=Options(on_lost=OnLost.FAIL, retries=5))
    order = bench.place(0.0)[0]
    bench.lease(order)
    bench.report(failure_of(order, order.start, FailureKind.CRASH), holds=(order.fence,))
    assert bench.pick_one(PutFailure).final
    bench.drop_rest()


def test_a_job_stops_when_more_items_fail_than_it_allows(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    job = bench.start(JOB, 1_000, options=Options(max_failures=1))
    order = bench.place()[0]
    bench.lease(order)
    bench.report(failure_of(order, order.start), holds=(order.fence,))
    assert job.state is JobState.RUNNING
    said = bench.report(failure_of(order, order.start + 1), holds=(order.fence,))
    bench.drop_rest()
    assert said.dead == (order.fence,)
    assert job.state is JobState.STOPPING
    assert job_info(job).state is JobState.RUNNING
    bench.tick(7.0)
    bench.drop_rest()
    last = bench.store.jobs[1].last
    assert (last.state, last.failed, last.done + last.failed + last.cancelled) == (JobState.FAILED, 2, 1_000)
    assert last.reason == "2 items have failed, max_failures is 1"


def test_a_retry_of_a_stopped_job_runs_what_the_stop_kept_from_running(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 10, options=Options(max_failures=0))
    order = bench.place()[0]
    bench.report(failure_of(order, 0), holds=(order.fence,))
    bench.report()
    bench.drop_rest()
    assert bench.store.jobs[1].last.state is JobState.FAILED
    bench.ask_for(Accepted, RetryJob(JOB))
    bench.drop_rest()
    assert (len(bench.job().pending), bench.job().reason) == (10, "")
    while bench.state.jobs.get(JOB) and not bench.job().terminal:
        for again in bench.place(0.1):
            bench.finish(again)
    assert bench.store.jobs[1].last.state is JobState.DONE


def test_a_paused_job_gives_back_what_has_not_started_and_goes_on_when_resumed(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    job = bench.start(JOB, 2_000)
    held, on_its_way = bench.place()[:2]
    bench.lease(held)
    bench.ask_for(Accepted, PauseJob(JOB))
    bench.drop_rest()
    assert set(directives(bench.state, NODE, "boot-1").give_up) == {held.fence, on_its_way.fence}
    bench.report(
        values_of(held, 0, 1), released_of(held, (held.start + 1, held.stop)), tombstone(on_its_way.fence),
        holds=(held.fence,),
    )  # fmt: skip
    bench.drop_rest()
    assert bench.place(0.1) == []
    assert (len(job.done), job.chunks, job.state) == (1, {}, JobState.PAUSED)
    assert directives(bench.state, NODE, "boot-1").give_up == ()
    bench.ask_for(Accepted, PauseJob(JOB, resume=True))
    bench.drop_rest()
    assert bench.place(0.1)[0].start == 1


def test_a_pause_holds_over_a_restart(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 10)
    bench.ask_for(Accepted, PauseJob(JOB))
    bench.drop_rest()
    bench.restart()
    bench.join(boot="boot-2")
    bench.drop_rest()
    assert bench.place(0.1) == []
    assert bench.job().state is JobState.PAUSED


def test_a_job_that_has_ended_cannot_be_paused(bench: Bench) -> None:
    bench.join()
    bench.ask_for(Started, StartJob(JOB, "t:work", numbers=NumberItems(0, 0)))
    bench.drop_rest()
    assert bench.ask_for(Refused, PauseJob(JOB)).code == "usage"


def test_retries_go_by_the_type_of_the_exception(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    options = Options(retries=3, retry_on=("OSError",), never_retry_on=("PermissionError",))
    bench.start(JOB, 4, options=options)
    order = bench.place()[0]
    raised = (
        ItemFailure(0, FailureKind.ERROR, "ConnectionError", bases=("OSError", "Exception")),
        ItemFailure(1, FailureKind.ERROR, "ValueError", bases=("Exception",)),
        ItemFailure(2, FailureKind.ERROR, "PermissionError", bases=("OSError", "Exception")),
        ItemFailure(3, FailureKind.ERROR, "windrow.common.errors.Retry", after_s=30.0),
    )
    bench.report(ChunkReport(order.fence, JOB, failures=raised), holds=(order.fence,))
    final = {each.item: each.final for each in bench.pick(PutFailure)}
    bench.drop_rest()
    assert final == {0: False, 1: True, 2: True, 3: False}
    (due,) = (due for due, items in bench.job().delayed.items() if 3 in items)
    assert due >= bench.mono + 30.0


def test_the_reason_why_a_job_is_not_done_is_told(bench: Bench) -> None:
    def reasons() -> str:
        return " / ".join(explain_job(bench.state, bench.job(), bench.now)[0])

    bench.start(JOB, 10)
    assert "no node is alive" in reasons()
    bench.join(queues=("other",))
    assert "no live node serves the queue 'default'" in reasons()
    bench.join(OTHER, tasks=("t:else",))
    assert "offers the task 't:work'" in reasons()
    bench.node(OTHER).tasks = bench.node().tasks
    bench.node(OTHER).drained = True
    assert "draining" in reasons()
    bench.node(OTHER).drained = False
    bench.state.broker_up, bench.state.broker_detail = False, "RabbitMQ at host:5672: refused"
    assert "RabbitMQ at host:5672: refused" in reasons()
    bench.state.broker_up = True
    bench.place()
    assert "on the way there" in reasons()
    bench.ask_for(Accepted, PauseJob(JOB))
    bench.drop_rest()
    assert "paused" in reasons()
    assert "fence" in explain_item(bench.state, bench.job(), 0, bench.now)[0]


def test_full_slots_are_named_with_what_takes_them(bench: Bench) -> None:
    bench.join()
    bench.start(JobId("big"), 1_000)
    bench.place()
    bench.start(JOB, 10)
    (reason, *_), _ = explain_job(bench.state, bench.job(), bench.now)
    assert reason.startswith("all slots of name of node-a are taken by t:work")


def test_who_has_cost_nodes_is_looked_for_in_ever_smaller_company(bench: Bench) -> None:
    bench.know_item_time(0.0001)
    bench.join()
    sizes: list[int] = []
    for losses in (1, 2, 3, 4):
        bench.start(job := JobId(f"job-{losses}"), 500)
        restore_losses(bench.job(job), 0, 500, losses)
        order = bench.place()[0]
        sizes.append(order.stop - order.start)
        bench.ask(CancelJob(job))
        bench.report()
        bench.report(*(tombstone(fence) for fence in bench.state.chunks))
        bench.drop_rest()
    assert sizes[0] > 32
    assert sizes[1:] == [32, 4, 1]


@pytest.mark.parametrize("options", [Options(), Options(on_lost=OnLost.FAIL)], ids=["run again", "fail"])
def test_what_is_cancelled_is_neither_blamed_for_a_lost_node_nor_failed_by_it(bench: Bench, options: Options) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8, options=options)
    bench.lease(bench.place_one())
    bench.ask(CancelJob(JOB))
    lose(bench, "boot-2")
    assert (bench.pick(PutLosses), bench.pick(PutFailure)) == ([], [])
    bench.drop_rest()
    assert bench.job_state() is JobState.CANCELLED


def test_items_that_are_failed_for_a_lost_node_count_for_max_failures(bench: Bench) -> None:
    bench.know_item_time(10.0)
    bench.join()
    bench.join(OTHER)
    bench.start(JOB, 9, options=Options(on_lost=OnLost.FAIL, max_failures=0))
    here = next(order for order in bench.place() if order.node == NODE)
    bench.lease(here)
    lose(bench, "boot-2")
    assert bench.job().state is JobState.STOPPING
    assert "max_failures is 0" in bench.job().reason
    bench.drop_rest()


def test_an_item_alone_is_given_up_with_the_third_node_and_not_before(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1, options=Options(retries=5, backoff_s=0.0))
    order = bench.place_one()
    bench.report(failure_of(order, 0), holds=(order.fence,))
    bench.report()
    bench.drop_rest()
    for boot in (1, 2, 3):
        assert bench.job().state is JobState.RUNNING
        bench.lease(bench.place_one(0.1), boot=f"boot-{boot}")
        bench.join(boot=f"boot-{boot + 1}")
        failures = bench.pick(PutFailure)
        bench.drop_rest()
    (given_up,) = failures
    assert (given_up.kind, given_up.type, given_up.attempt, given_up.final) == (FailureKind.NODE, "NodeLost", 2, True)
    assert given_up.message.startswith("3 nodes were lost")


def test_what_is_failed_for_one_lost_node_says_that_it_must_not_run_twice(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1, options=Options(on_lost=OnLost.FAIL))
    bench.lease(bench.place_one())
    lose(bench, "boot-2")
    assert 'on_lost="fail" forbids another run' in bench.pick_one(PutFailure).message
    bench.drop_rest()


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_lost_once_and_is_done_is_not_held_against_anything_after_a_restart(bench: Bench, whole: bool) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 40)
    lost = bench.place()[0]
    lose_with(bench, lost, "boot-1", "boot-2")
    done = lost.stop if whole else 3
    while not bench.job().done.covers(0, done):
        for again in bench.place(0.1):
            if again.start < done:
                bench.report(values_of(again, stop=min(again.stop, done)), boot="boot-2")
                bench.drop_rest()
    held_against = {} if whole else {1: ranges((done, lost.stop))}
    assert bench.job().losses == held_against
    bench.restart()
    assert bench.job().losses == held_against


def test_an_item_that_fails_for_good_leaves_its_neighbours_their_history(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 8, options=Options(retries=2, backoff_s=0.0))
    lose_with(bench, bench.place_one(), "boot-1", "boot-2")
    order = bench.place_one(0.1)
    both = tuple(ItemFailure(item, FailureKind.ERROR, "E") for item in (0, 1))
    bench.report(ChunkReport(order.fence, JOB, failures=both), boot="boot-2")
    bench.report(released_of(order, (0, 8)), boot="boot-2")
    bench.drop_rest()
    order = bench.place_one(0.1)
    final = ItemFailure(0, FailureKind.RESULT, "E")
    bench.report(ChunkReport(order.fence, JOB, failures=(final,)), boot="boot-2", holds=(order.fence,))
    assert (bench.job().attempts, bench.job().losses) == ({1: ranges((1, 2))}, {1: ranges((1, 8))})
    bench.drop_rest()
