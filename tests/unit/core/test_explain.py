"""What is said of a job or an item that is not done: each reason in its words, and in its place."""

from __future__ import annotations

import pytest

from tests.core_bench import JOB, NODE, TASK, Bench, failure_of, released_of, values_of
from windrow.common.messages import (
    Accepted,
    CancelJob,
    ChunkReport,
    DrainNode,
    ItemFailure,
    NodeHello,
    PauseJob,
    SourceError,
)
from windrow.common.options import Options
from windrow.common.words import COMMAND_TASK, FailureKind, JobId, NodeId
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.events import BrokerChanged
from windrow.scheduler.core.explain import explain_item, explain_job, seconds_left
from windrow.scheduler.core.state import ItemTime, Job

OTHER = NodeId("node-b")
NOBODY = "no node is alive; start one with `windrow node`"


def told(bench: Bench, job: JobId = JOB) -> tuple[str, ...]:
    return explain_job(bench.state, bench.job(job), bench.now)[0]


def told_of(bench: Bench, item: int) -> tuple[str, ...]:
    return explain_item(bench.state, bench.job(), item, bench.now)


def half_done(bench: Bench) -> Dispatch:
    """Of twenty items at NODE five are done, one has failed, five were given back, and nine run."""
    bench.know_item_time(0.0001)
    bench.join()
    bench.start(JOB, 20)
    order = bench.place_one()
    bench.lease(order)
    bench.report(values_of(order, 0, 5), failure_of(order, 7), released_of(order, (15, 20)), holds=(order.fence,))
    bench.drop_rest()
    return order


def drain(bench: Bench, node: NodeId) -> None:
    bench.ask_for(Accepted, DrainNode(node))
    bench.drop_rest()


def wait(bench: Bench, job: JobId, *others: JobId) -> Job:
    return bench.start(job, 1, after=others)


# ── A job ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_that_has_ended_says_how_and_has_no_time_left(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4)
    order = bench.place_one()
    bench.lease(order)
    bench.report(values_of(order, 0, 3), failure_of(order, 3))
    bench.drop_rest()
    assert explain_job(bench.state, bench.job(), bench.now) == (("the job is failed; 3 items done, 1 failed",), 0.0)


def test_a_job_that_was_cancelled_says_why(bench: Bench) -> None:
    bench.start(JOB, 4)
    bench.ask(CancelJob(JOB, "not needed"))
    bench.drop_rest()
    assert told(bench) == ("the job is cancelled: not needed; 0 items done, 0 failed",)


def test_a_job_that_winds_down_says_what_it_still_waits_for(bench: Bench) -> None:
    half_done(bench)
    bench.place_one()
    bench.ask(CancelJob(JOB, "not needed"))
    bench.drop_rest()
    assert told(bench) == (
        "the job is cancelling (not needed); 2 chunks are still at nodes",
        "9 items are running or next at their nodes, 5 are on the way there",
        f"1 item has failed; see `windrow failures {JOB}`",
    )


def test_a_job_that_is_half_done_says_where_its_items_are(bench: Bench) -> None:
    half_done(bench)
    bench.place_one()
    assert told(bench) == (
        "9 items are running or next at their nodes, 5 are on the way there",
        f"1 item has failed; see `windrow failures {JOB}`",
    )


def test_a_paused_job_says_how_it_goes_on(bench: Bench) -> None:
    bench.start(JOB, 4)
    bench.ask(PauseJob(JOB))
    bench.drop_rest()
    assert told(bench) == (f"the job is paused; `windrow resume {JOB}` lets it go on",)


def test_an_open_job_without_items_waits_for_whoever_started_it(bench: Bench) -> None:
    bench.start(JOB, 1, by_append=True).open = True
    assert told(bench) == (NOBODY, "the job is open: whoever started it may still add items")
    bench.job().pending.clear()
    assert told(bench) == ("the job is open: whoever started it may still add items",)


def test_items_that_wait_for_their_time_are_counted_with_the_time_of_the_next(bench: Bench) -> None:
    bench.start(JOB, 4, options=Options(delay_s=10.0))
    (due,) = bench.job().delayed
    bench.mono = due - 2.5
    assert told(bench) == ("4 items are delayed or back off; the next is due in 2.5 s",)
    bench.job().delayed[due + 60.0] = bench.job().delayed[due].copy()
    bench.mono = due + 1.0
    assert told(bench) == ("8 items are delayed or back off; the next is due in 0.0 s",)


def test_a_job_that_waits_for_others_names_all_of_them_before_anything_else(bench: Bench) -> None:
    first, second = JobId("a-first"), JobId("b-second")
    bench.start(first, 1)
    bench.start(second, 1)
    wait(bench, JOB, second, first)
    assert told(bench) == (f"it waits for job {first} to be done", f"it waits for job {second} to be done")


def test_pending_items_with_a_free_slot_say_so(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 4)
    assert told(bench) == ("4 items are pending and will be placed as soon as a slot is free",)


def test_a_broker_that_is_down_is_named_with_what_ails_it() -> None:
    bench = Bench(broker_up=False)
    bench.join()
    bench.start(JOB, 4)
    assert told(bench) == ("the broker is down: not connected yet",)
    bench.take(BrokerChanged(False, "host:5672 refused"))
    assert told(bench) == ("the broker is down: host:5672 refused",)


def test_an_item_that_two_nodes_are_at_is_counted_once(bench: Bench) -> None:
    bench.know_item_time(0.1)
    bench.join()
    bench.start(JOB, 1, options=Options(idempotent=True))
    order = bench.place_one()
    bench.lease(order)
    bench.join(OTHER)
    bench.place_one(2.0)
    assert told(bench) == ("1 item is running or next at its node, 0 are on the way there",)


# ── Why no node takes it ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_that_is_lost_is_not_alive(bench: Bench) -> None:
    bench.join()
    bench.tick(60.0)
    bench.drop_rest()
    bench.start(JOB, 4)
    assert told(bench) == (NOBODY,)


def test_a_queue_that_no_node_serves_is_named(bench: Bench) -> None:
    bench.join(queues=("other",))
    bench.start(JOB, 4)
    assert told(bench) == ("no live node serves the queue 'default'; start one with --queues default",)


def test_a_task_that_no_node_of_the_queue_offers_is_named(bench: Bench) -> None:
    bench.start(JOB, 4)
    bench.join(tasks=("t:else",))
    bench.join(OTHER, queues=("other",))
    assert told(bench) == (f"no node of queue 'default' offers the task '{TASK}'; start one with --tasks",)


def test_sources_of_tasks_that_could_not_be_imported_are_told(bench: Bench) -> None:
    bench.start(JOB, 4)
    for node, source in ((NODE, "jobs"), (OTHER, "more")):
        errors = (SourceError(source, "no module"),)
        bench.ask(NodeHello(node, "boot-1", f"name of {node}", "host", 1, 1, ("default",), errors=errors))
        bench.drop_rest()
    errors_told = "name of node-a: jobs: no module; name of node-b: more: no module"
    missing = f"no node of queue 'default' offers the task '{TASK}'; start one with --tasks"
    assert told(bench) == (f"{missing}; import errors: {errors_told}",)


def test_commands_need_a_node_that_allows_them(bench: Bench) -> None:
    bench.join(tasks=(COMMAND_TASK,))
    bench.start(JOB, 4, task=COMMAND_TASK)
    bench.node().tasks.clear()
    assert told(bench) == (
        "no node of queue 'default' runs commands; start one with --allow-commands, or set node.allow_commands",
    )


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (1, "name of n0"),
        (5, "name of n0, name of n1, name of n2, name of n3, name of n4"),
        (6, "name of n0, name of n1, name of n2, name of n3, name of n4 and 1 more"),
        (7, "name of n0, name of n1, name of n2, name of n3, name of n4 and 2 more"),
    ],
)
def test_draining_nodes_are_named_the_first_five_of_them(bench: Bench, count: int, named: str) -> None:
    for each in reversed(range(count)):
        bench.join(NodeId(f"n{each}"))
        drain(bench, NodeId(f"n{each}"))
    bench.start(JOB, 4)
    assert told(bench) == (f"every node that could run it is draining: {named}",)


def test_slots_that_are_taken_are_named_with_the_jobs_that_take_most(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join(slots=10)
    for name, items in (("four", 4), ("seven", 7), ("three", 3), ("six", 6)):
        bench.start(JobId(name), items)
        bench.job(JobId(name)).name = name
        assert len(bench.place()) == items
    bench.start(JOB, 4)
    taken = "seven (7 chunks), six (6 chunks), four (4 chunks)"
    assert told(bench) == (f"all slots of name of node-a are taken by {taken}",)
    bench.join(OTHER)
    assert told(bench) == ("4 items are pending and will be placed as soon as a slot is free",)


def test_nodes_that_are_left_out_come_after_the_reason_that_the_others_do_not_take_it(bench: Bench) -> None:
    bench.know_item_time(10.0)
    bench.join()
    bench.join(OTHER)
    bench.start(JOB, 40)
    bench.place()
    bench.job().unfit[NODE] = "no disk"
    left_out = "node name of node-a is left out, because the task cannot be done there: no disk"
    assert told(bench)[:2] == (f"all slots of name of node-b are taken by {TASK} (2 chunks)", left_out)
    drain(bench, OTHER)
    assert told(bench)[:2] == ("every node that could run it is draining: name of node-b", left_out)
    assert told(bench).count(left_out) == 1


def test_a_job_that_leaves_every_node_out_names_the_first_five_of_them(bench: Bench) -> None:
    nodes = [NodeId(f"n{each}") for each in range(7)]
    for node in reversed(nodes):
        bench.join(node)
    bench.start(JOB, 4)
    bench.job().unfit.update(dict.fromkeys(nodes, "no disk") | {NodeId("forgotten"): "no disk"})
    assert told(bench) == tuple(
        f"node name of {node} is left out, because the task cannot be done there: no disk" for node in nodes[:5]
    )


def test_what_several_jobs_on_the_way_leave_out_is_told_once_and_each_job_is_looked_at_once(bench: Bench) -> None:
    class Counting(dict[JobId, Job]):
        looks = 0

        def get(self, key: JobId, default: Job | None = None) -> Job | None:  # type: ignore[override]
            Counting.looks += 1
            return super().get(key, default)

    bench.join()
    below: tuple[JobId, ...] = ()
    for rung in range(8):
        pair = JobId(f"left-{rung}"), JobId(f"right-{rung}")
        for each in pair:
            wait(bench, each, *below).unfit[NODE] = "no disk"
        below = pair
    wait(bench, JOB, *below)
    bench.state.jobs = Counting(bench.state.jobs)
    assert told(bench)[2:] == ("node name of node-a is left out, because the task cannot be done there: no disk",)
    assert Counting.looks == 17


def test_a_job_that_is_waited_for_and_has_left_the_core_is_passed_over(bench: Bench) -> None:
    bench.join()
    wait(bench, JOB).waits_for.add(JobId("gone"))
    assert told(bench) == ("it waits for job gone to be done",)


# ── An item ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_item_says_where_it_is(bench: Bench) -> None:
    order = half_done(bench)
    sent = bench.place_one()
    assert told_of(bench, 4) == (f"item 4 is done; see `windrow results {JOB}`",)
    assert told_of(bench, 7) == (f"item 7 has failed and rests in quarantine; `windrow retry {JOB}/7` runs it again",)
    assert told_of(bench, 8) == (f"item 8 is at node name of node-a (fence {order.fence}), running or next in line",)
    assert told_of(bench, 16) == (f"item 16 is on its way to node name of node-a (fence {sent.fence})",)


def test_an_item_that_was_cancelled_says_why(bench: Bench) -> None:
    bench.start(JOB, 4)
    bench.ask(CancelJob(JOB, "not needed"))
    bench.drop_rest()
    assert told_of(bench, 3) == ("item 3 was cancelled: not needed",)


def test_a_pending_item_says_what_keeps_it(bench: Bench) -> None:
    bench.start(JOB, 4)
    assert told_of(bench, 3) == ("item 3 is pending.", NOBODY)


def test_an_item_that_backs_off_says_after_how_many_attempts_and_for_how_long(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(retries=2, backoff_s=8.0, backoff_max_s=8.0))
    order = bench.place_one()
    bench.lease(order)
    bench.report(failure_of(order, 2), holds=(order.fence,))
    bench.drop_rest()
    (due,) = bench.job().delayed
    bench.mono = due - 1.5
    assert told_of(bench, 2) == ("item 2 is delayed after 1 failed attempts: due in 1.5 s",)
    bench.mono = due + 1.5
    assert told_of(bench, 2) == ("item 2 is delayed after 1 failed attempts: due in 0.0 s",)


def test_of_items_that_wait_for_different_times_each_says_its_own(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(retries=1))
    order = bench.place_one()
    bench.lease(order)
    later, sooner = (
        ItemFailure(item, FailureKind.ERROR, "Retry", after_s=after) for item, after in ((1, 64.0), (2, 8.0))
    )
    bench.report(
        ChunkReport(order.fence, JOB, failures=(later, sooner)), released_of(order, (3, 4)), holds=(order.fence,)
    )
    bench.drop_rest()
    last, first = bench.job().delayed
    bench.mono = 101.0
    assert told_of(bench, 1) == (f"item 1 is delayed after 1 failed attempts: due in {last - 101.0:.1f} s",)
    assert told_of(bench, 2) == (f"item 2 is delayed after 1 failed attempts: due in {first - 101.0:.1f} s",)
    assert told_of(bench, 3) == ("item 3 is pending.",)


def test_a_delayed_item_without_an_attempt_says_nothing_of_attempts(bench: Bench) -> None:
    bench.start(JOB, 4, options=Options(delay_s=10.0))
    (due,) = bench.job().delayed
    bench.mono = due - 3.0
    assert told_of(bench, 2) == ("item 2 is delayed: due in 3.0 s",)


def test_a_suspect_says_that_it_will_run_alone(bench: Bench) -> None:
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=Options(retries=1))
    order = bench.place_one()
    bench.lease(order)
    crash = ItemFailure(2, FailureKind.CRASH, "crash", "killed")
    bench.report(ChunkReport(order.fence, JOB, failures=(crash,)), released_of(order, (0, 2), (3, 4)))
    bench.drop_rest()
    assert told_of(bench, 2) == ("item 2 is pending. It was running when a worker crashed, so it will run alone.",)
    assert told_of(bench, 1) == ("item 1 is pending.",)


# ── How long it will take ────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_job_that_nothing_is_known_of_no_time_is_told(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 10)
    assert explain_job(bench.state, bench.job(), bench.now)[1] is None


def test_the_time_left_is_that_of_the_items_left_over_all_slots_that_can_run_it(bench: Bench) -> None:
    half_done(bench)
    bench.join(OTHER, slots=2)
    bench.join(NodeId("draining"), slots=4)
    drain(bench, NodeId("draining"))
    bench.join(NodeId("elsewhere"), slots=8, queues=("other",))
    bench.job().time = ItemTime(6.0, measured=1)
    bench.job().cancelled.add(15, 17)
    assert seconds_left(bench.state, bench.job()) == 6.0 * 12 / 3
    assert explain_job(bench.state, bench.job(), bench.now)[1] == 24.0


def test_items_that_take_no_time_still_take_what_any_item_costs(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1_000_000)
    bench.job().time = ItemTime(1e-9, measured=1)
    assert seconds_left(bench.state, bench.job()) == 0.5


def test_without_a_slot_no_time_is_told(bench: Bench) -> None:
    bench.start(JOB, 10)
    bench.job().time = ItemTime(6.0, measured=1)
    assert seconds_left(bench.state, bench.job()) is None
