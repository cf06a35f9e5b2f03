"""Hello, reports, goodbye: leases, outcomes, and what late or odd reports may not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core_bench import (
    JOB,
    NODE,
    TASK,
    Bench,
    block_of,
    failure_of,
    named,
    ranges,
    released_of,
    tombstone,
    values,
    values_of,
)
from windrow.common.keys import node_key
from windrow.common.messages import (
    Accepted,
    CancelJob,
    ChunkReport,
    DrainNode,
    ItemFailure,
    NodeBye,
    NodeHello,
    NodeLoad,
    NodeWelcome,
    Refused,
    Report,
)
from windrow.common.options import Options
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Range
from windrow.scheduler.core.commands import Dispatch, EmptyNode, JobEnded, Settle
from windrow.scheduler.core.events import Sent, Unsent
from windrow.scheduler.core.info import directives
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.records import (
    DropChunk,
    LeaseChunk,
    PutAttempt,
    PutFailure,
    PutLosses,
    PutNode,
    PutValues,
    SetJob,
    ShortenChunk,
)
from windrow.scheduler.core.reports import FORMER_BOOTS_MAX
from windrow.scheduler.core.state import CoreSettings

OTHER_NODE = NodeId("node-b")


def placed(bench: Bench, items: int = 10, *, options: Options = Options(), slots: int = 1) -> Dispatch:
    """One chunk of the whole job at the node, on its way."""
    bench.know_item_time(0.0001)
    bench.join(slots=slots)
    bench.start(JOB, items, options=options)
    order = bench.place_one()
    assert (order.start, order.stop) == (0, items)
    return order


# ── Leases ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_report_leases_what_it_holds_once(bench: Bench) -> None:
    order = placed(bench)
    assert bench.report(holds=(order.fence,)).dead == ()
    bench.expect(LeaseChunk(order.fence), Settle(order.fence, NODE))
    bench.report(holds=(order.fence,))
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.LEASED


def test_a_short_chunk_is_leased_and_done_in_one_report(bench: Bench) -> None:
    order = placed(bench)
    said = bench.report(values_of(order), holds=(order.fence,))
    assert said.dead == (), "it is not dead, it is done"
    put, drop, settle, ended, *rest = bench.out
    assert put == PutValues(1, 0, 10, block_of(10), (Range(0, 10),))
    assert (drop, settle) == (DropChunk(order.fence), Settle(order.fence, NODE))
    assert isinstance(ended, SetJob)
    assert (ended.state, ended.done) == (JobState.DONE, 10)
    assert rest[-1] == JobEnded(JOB)
    bench.drop_rest()


def test_a_leased_chunk_that_the_node_no_longer_names_goes_back(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.report()
    bench.expect(DropChunk(order.fence), Settle(order.fence, NODE))
    assert bench.job().pending == ranges((0, 10))


def test_a_sent_chunk_that_the_node_does_not_name_yet_stays(bench: Bench) -> None:
    order = placed(bench)
    bench.sent(order)
    bench.report()
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.SENT


def test_a_fence_nobody_gave_out_is_dead(bench: Bench) -> None:
    bench.join()
    assert bench.report(holds=(Fence(1, 77),)).dead == (Fence(1, 77),)


def test_a_confirm_after_the_lease_changes_nothing(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.take(Sent(order.fence))
    bench.take(Unsent(order.fence, "not confirmed"))
    assert bench.chunk(order).state is ChunkState.LEASED
    bench.expect_nothing()


def test_a_node_whose_chunk_the_broker_refused_is_given_the_next_one_after_a_pause(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1)
    order = bench.place_one()
    bench.take(Unsent(order.fence, "the broker refused it"))
    bench.drop_rest()
    assert bench.place(0.1) == []
    again = bench.place_one(0.15)
    assert (again.start, again.stop) == (order.start, order.stop)


def test_a_chunk_that_the_broker_refused_goes_to_another_node_at_once(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1)
    order = bench.place_one()
    bench.join(NodeId("node-b"))
    bench.drop_rest()
    bench.take(Unsent(order.fence, "the broker refused it"))
    bench.drop_rest()
    assert bench.place_one().node == NodeId("node-b")


def test_unsent_after_sent_goes_back(bench: Bench) -> None:
    order = placed(bench)
    bench.sent(order)
    bench.sent(order)
    bench.take(Unsent(order.fence, "returned"))
    bench.expect(DropChunk(order.fence), Settle(order.fence, NODE))
    bench.take(Unsent(order.fence, "returned"))
    bench.take(Sent(order.fence))
    bench.expect_nothing()
    again = bench.place_one(0.3)
    assert again.fence > order.fence
    assert bench.report(holds=(order.fence, again.fence)).dead == (order.fence,), "it had arrived all the same"
    bench.drop_rest()


# ── Outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_reported_in_pieces_is_committed_in_pieces(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.report(values_of(order, 3, 6), holds=(order.fence,))
    assert bench.pick_one(PutValues).slices == (Range(3, 6),)
    bench.expect_nothing()
    assert bench.chunk(order).remaining == ranges((0, 3), (6, 10))
    bench.report(values_of(order), holds=(order.fence,))
    put = bench.pick_one(PutValues)
    assert (put.base, put.count, put.slices) == (0, 10, (Range(0, 3), Range(6, 10)))
    bench.drop_rest()


def test_overlapping_runs_of_one_report_count_once(bench: Bench) -> None:
    order = placed(bench)
    runs = (values(0, 6), values(4, 10), values(0, 10))
    said = ChunkReport(order.fence, JOB, runs, failures=(ItemFailure(5, FailureKind.ERROR, "E"),))
    bench.report(said, holds=(order.fence,))
    assert [put.slices for put in bench.pick(PutValues)] == [(Range(0, 6),), (Range(6, 10),)]
    assert bench.pick(PutFailure) == []
    assert bench.job().state is JobState.DONE
    bench.drop_rest()


def test_an_item_that_fails_twice_in_one_report_fails_once(bench: Bench) -> None:
    order = placed(bench)
    failure = ItemFailure(4, FailureKind.ERROR, "E")
    bench.report(ChunkReport(order.fence, JOB, failures=(failure, failure)), holds=(order.fence,))
    assert len(bench.pick(PutFailure)) == 1
    bench.drop_rest()


def test_what_lies_outside_the_chunk_is_ignored(bench: Bench) -> None:
    order = placed(bench)
    said = ChunkReport(
        order.fence, JOB, (values(8, 12),), (ItemFailure(11, FailureKind.ERROR, "E"),), (Range(-3, 0), Range(10, 99))
    )
    bench.report(said, holds=(order.fence,))
    assert bench.pick_one(PutValues).slices == (Range(8, 10),)
    assert bench.chunk(order).remaining == ranges((0, 8))
    assert not bench.job().pending
    bench.drop_rest()


def test_a_report_sent_again_changes_nothing(bench: Bench) -> None:
    """Invariant 2: executed at least once, committed exactly once."""
    order = placed(bench)
    for _ in range(2):
        bench.report(values_of(order, 0, 5), holds=(order.fence,), seq=7)
    assert len(bench.pick(PutValues)) == 1
    assert bench.job().time.measured == 5
    bench.report(values_of(order), holds=(order.fence,), seq=8)
    bench.report(values_of(order), holds=(order.fence,), seq=8)
    assert len(bench.pick(PutValues)) == 1
    assert bench.store.jobs[1].values == ranges((0, 10))
    assert bench.state.tally(TASK).items_done == 10
    bench.drop_rest()


@pytest.mark.parametrize("case", ["given to another", "wrong node", "wrong job", "unknown fence"])
def test_a_late_or_foreign_report_is_answered_and_changes_nothing(bench: Bench, case: str) -> None:
    """Invariant 4."""
    order = placed(bench)
    node, said = NODE, values_of(order)
    if case == "given to another":
        bench.take(Unsent(order.fence, "returned"))
        bench.place_one(0.3)
    elif case == "wrong node":
        bench.join(OTHER_NODE)
        node = OTHER_NODE
    elif case == "wrong job":
        said = ChunkReport(order.fence, JobId("other"), (values(0, 10),))
    else:
        said = ChunkReport(Fence(1, 50), JOB, (values(0, 10),))
    bench.drop_rest()
    assert bench.report(said, node=node).dead == (said.fence,)
    bench.expect_nothing()
    assert not bench.job().done


def test_outcomes_of_an_old_boot_commit_but_its_leases_do_not(bench: Bench) -> None:
    order = placed(bench)
    said = bench.report(values_of(order, 0, 4), holds=(order.fence,), boot="boot-0")
    assert said.rejoin
    assert bench.pick_one(PutValues).slices == (Range(0, 4),)
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.PLACED


def test_an_older_report_says_nothing_of_what_the_node_holds_now(bench: Bench) -> None:
    order = placed(bench)
    bench.report(holds=(order.fence,), seq=10)
    bench.drop_rest()
    heard = bench.node().heard_at
    bench.mono += 1
    bench.report(seq=9)
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.LEASED
    assert bench.node().heard_at == heard
    bench.report(values_of(order, 0, 2), seq=9)
    assert bench.pick_one(PutValues).slices == (Range(0, 2),), "but its outcomes count"


def test_a_report_names_dead_and_live_fences_apart(bench: Bench) -> None:
    order = placed(bench)
    dead = Fence(1, 60)
    said = bench.report(values_of(order, 0, 5), ChunkReport(dead, JOB, (values(5, 10),)), holds=(order.fence, dead))
    assert said.dead == (dead,), "named once"
    assert bench.chunk(order).remaining == ranges((5, 10))
    bench.drop_rest()


# ── Released ranges ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_released_range_returns_to_pending_and_shortens_the_fence_in_one_commit(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.report(released_of(order, (6, 10)), holds=(order.fence,))
    bench.expect(ShortenChunk(order.fence, (0, 6)))
    assert bench.job().pending == ranges((6, 10))


def test_what_was_never_held_or_is_given_back_twice_returns_once(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    for _ in range(2):
        bench.report(released_of(order, (8, 20), (6, 9)), holds=(order.fence,))
    assert bench.pick(ShortenChunk)[-1] == ShortenChunk(order.fence, (0, 6))
    assert bench.job().pending == ranges((6, 10))
    bench.drop_rest()


def test_a_chunk_wholly_given_back_is_closed(bench: Bench) -> None:
    order = placed(bench)
    bench.report(released_of(order, (0, 10)), holds=(order.fence,))
    bench.expect(DropChunk(order.fence), Settle(order.fence, NODE))


def test_the_answer_to_give_up_frees_a_chunk_that_never_arrived(bench: Bench) -> None:
    order = placed(bench)
    bench.sent(order)
    bench.ask_for(Accepted, DrainNode("name of node-a"))
    bench.drop_rest()
    assert directives(bench.state, NODE, "boot-1").give_up == (order.fence,)
    assert bench.report(tombstone(order.fence)).dead == ()
    bench.expect(DropChunk(order.fence), Settle(order.fence, NODE))
    assert bench.report(tombstone(order.fence)).dead == (order.fence,)
    assert bench.place() == []
    bench.ask_for(Accepted, DrainNode(NODE, resume=True))
    assert bench.place_one().start == 0


def test_a_tombstone_frees_nothing_that_the_node_holds(bench: Bench) -> None:
    order = placed(bench)
    bench.report(tombstone(order.fence), holds=(order.fence,))
    assert bench.chunk(order).state is ChunkState.LEASED
    bench.drop_rest()
    bench.report(tombstone(order.fence), seq=0)
    assert order.fence in bench.state.chunks, "nor what is leased, by an older report"
    bench.drop_rest()


# ── Failures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_final_failure_is_an_outcome_and_the_job_goes_on(bench: Bench) -> None:
    order = placed(bench)
    bench.report(failure_of(order, 3), holds=(order.fence,))
    put = bench.pick_one(PutFailure)
    assert (put.item, put.attempt, put.final, put.node) == (3, 1, True, "name of node-a")
    assert bench.pick(ShortenChunk) == [], "its outcome row says that it has left"
    bench.drop_rest()
    assert bench.job().quarantined == ranges((3, 4))
    bench.report(values_of(order), holds=(order.fence,))
    assert bench.job().state is JobState.FAILED
    bench.drop_rest()


def test_a_failure_with_retries_left_waits_and_runs_again_with_its_count(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=1, backoff_s=8.0))
    bench.report(failure_of(order, 3), holds=(order.fence,))
    assert not bench.pick_one(PutFailure).final
    assert bench.pick_one(ShortenChunk).bounds == (0, 3, 4, 10)
    attempt = bench.pick_one(PutAttempt)
    assert (attempt.item, attempt.attempts, attempt.suspect) == (3, 1, False)
    assert bench.now.wall + 6 <= attempt.due_wall <= bench.now.wall + 8.6
    bench.drop_rest()
    bench.report(values_of(order), holds=(order.fence,))
    bench.drop_rest()
    assert bench.place(3) == []
    bench.report()
    again = bench.place_one(5.9)
    assert (again.start, again.stop, again.attempts, again.alone) == (3, 4, ((3, 4, 1),), False)
    bench.report(failure_of(again, 3), holds=(again.fence,))
    assert (bench.pick_one(PutFailure).attempt, bench.job().state) == (2, JobState.FAILED)
    assert bench.job().retried == 1
    assert bench.job().attempts == {}
    bench.drop_rest()


def test_a_suspect_that_fails_in_an_ordinary_way_is_suspected_no_longer(bench: Bench) -> None:
    bench.join()
    bench.start(JOB, 1, options=Options(retries=1, backoff_s=0.0))
    order = bench.place_one()
    bench.report(failure_of(order, 0, FailureKind.CRASH), holds=(order.fence,))
    alone = bench.place_one(0.1)
    assert alone.alone
    bench.report(failure_of(alone, 0), holds=(alone.fence,))
    bench.drop_rest()
    again = bench.place_one(0.1)
    assert (again.alone, again.attempts) == (False, ((0, 1, 1),))


def test_a_crash_makes_the_executing_item_a_suspect_and_nobody_else(bench: Bench) -> None:
    """Invariant 5: the innocents of the same worker are given back and blamed for nothing."""
    order = placed(bench)
    crash = ItemFailure(4, FailureKind.CRASH, "WorkerCrashed")
    bench.report(ChunkReport(order.fence, JOB, (values(0, 4),), (crash,), (Range(5, 10),)), holds=(order.fence,))
    assert bench.pick(PutAttempt)[0].suspect
    bench.drop_rest()
    assert (bench.job().suspects, bench.job().attempts) == (ranges((4, 5)), {})
    alone, others = bench.place()
    assert (alone.start, alone.stop, alone.alone) == (4, 5, True)
    assert (others.start, others.stop, others.alone, others.attempts) == (5, 10, False, ())
    bench.report(failure_of(alone, 4, FailureKind.CRASH, alone=True), holds=(alone.fence, others.fence))
    assert bench.pick_one(PutFailure).final
    assert bench.job().quarantined == ranges((4, 5))
    bench.drop_rest()


@pytest.mark.parametrize("how", ["drain", "lost", "bye", "cancelled neighbour", "unsent"])
def test_what_is_nobodys_fault_counts_against_nobody(bench: Bench, how: str) -> None:
    """Invariant 5."""
    order = placed(bench)
    if how == "unsent":
        bench.take(Unsent(order.fence, "returned"))
    else:
        bench.lease(order)
    if how == "drain":
        bench.ask_for(Accepted, DrainNode(NODE))
        bench.report(released_of(order, (0, 10)), holds=(order.fence,))
    elif how == "lost":
        bench.tick(bench.settings.lease_s + 1)
    elif how == "bye":
        bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    elif how == "cancelled neighbour":
        bench.report(released_of(order, (0, 10)))
    bench.drop_rest()
    assert bench.job().pending == ranges((0, 10))
    assert (bench.job().attempts, len(bench.job().suspects), bench.job().retried) == ({}, 0, 0)


# ── Hello and goodbye ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_welcome_says_what_a_node_needs(bench: Bench) -> None:
    welcome = bench.join()
    assert (welcome.epoch, welcome.cluster, welcome.dispatch, welcome.drained) == (1, "sim", "local", False)
    assert welcome.key == node_key(b"s" * 32, NODE)


def test_what_a_spool_does_not_name_is_blamed_on_by_the_hello_that_follows(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join()
    bench.start(JOB, 10)
    spooled, killer = bench.place()
    bench.lease(spooled, killer)
    bench.report(values_of(spooled), holds=(spooled.fence,), seq=0)  # as node/reporter.py numbers it
    bench.drop_rest()
    bench.join(boot="boot-2")
    assert bench.pick(PutLosses) == [PutLosses(1, killer.start, killer.stop, 1)]
    bench.drop_rest()


def test_a_new_boot_keeps_the_spooled_fences_and_frees_the_others(bench: Bench) -> None:
    bench.know_item_time(1.0)
    bench.join()
    bench.start(JOB, 10)
    spooled, lost = bench.place()
    bench.lease(spooled, lost)
    bench.join(boot="boot-2", holds=(spooled.fence,))
    bench.expect(PutLosses(1, lost.start, lost.stop, 1), DropChunk(lost.fence), Settle(lost.fence, NODE))
    assert bench.report(values_of(spooled), holds=(spooled.fence,), boot="boot-2", seq=0).dead == ()
    assert bench.pick_one(PutValues).slices == (Range(spooled.start, spooled.stop),)
    bench.drop_rest()


def test_a_hello_that_comes_late_frees_nothing_that_was_leased_since(bench: Bench) -> None:
    order = placed(bench)
    early = NodeHello(NODE, "boot-1", f"name of {NODE}", "host", 1, 1, ("default",), tasks=named(TASK), seq=1)
    bench.report(holds=(order.fence,), seq=2)
    bench.drop_rest()
    assert isinstance(bench.ask(early), NodeWelcome)
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.LEASED


def test_a_late_hello_of_a_boot_that_was_succeeded_changes_nothing(bench: Bench) -> None:
    order = placed(bench)
    bench.report(seq=7)
    bench.join(boot="boot-2", holds=(order.fence,))
    bench.lease(order, boot="boot-2")
    old = NodeHello(NODE, "boot-1", f"name of {NODE}", "host", 1, 1, ("default",), tasks=named(TASK), seq=7)
    assert isinstance(bench.ask(old), NodeWelcome)
    bench.expect_nothing()
    assert (bench.node().boot, bench.chunk(order).state) == ("boot-2", ChunkState.LEASED)


def test_a_boot_that_was_succeeded_and_still_lives_is_let_in_again(bench: Bench) -> None:
    """As after a state folder was copied: whoever speaks last has the identity, unless the other is refused."""
    bench.join()
    bench.report(seq=7)
    bench.join(boot="boot-2")
    back = NodeHello(NODE, "boot-1", f"name of {NODE}", "host", 1, 1, ("default",), tasks=named(TASK), seq=8)
    assert isinstance(bench.ask(back), NodeWelcome)
    assert bench.node().boot == "boot-1"
    bench.drop_rest()


def test_a_new_boot_does_not_free_what_is_still_on_its_way(bench: Bench) -> None:
    order = placed(bench)
    bench.sent(order)
    bench.join(boot="boot-2")
    bench.expect_nothing()
    assert bench.report(holds=(order.fence,), boot="boot-2", seq=0).dead == ()
    bench.drop_rest()


def test_after_a_restart_what_the_node_does_not_have_is_free_and_its_queue_is_emptied(bench: Bench) -> None:
    order = placed(bench)
    bench.sent(order)
    bench.restart()
    bench.join()
    bench.expect(DropChunk(order.fence), Settle(order.fence, NODE), EmptyNode(NODE))


def test_a_second_live_daemon_with_one_identity_is_refused(bench: Bench) -> None:
    bench.join(host="one")
    hello = NodeHello(NODE, "boot-2", "a", "two", 1, 1, ("default",), tasks=named(TASK))
    assert "two daemons share" in bench.ask_for(Refused, hello).message
    bench.join(boot="boot-2", host="one")
    bench.mono += 3
    bench.join(boot="boot-3", host="two")


def test_goodbye_gives_everything_back_at_once(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    assert bench.ask_for(Accepted, NodeBye(NODE, "boot-0"))
    bench.expect_nothing()
    assert bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    assert bench.pick_one(PutNode).gone
    bench.expect(Settle(order.fence, NODE), EmptyNode(NODE))
    assert bench.node().state is NodeState.GONE
    assert bench.place() == []
    assert bench.report().rejoin


def test_a_node_that_leaves_gets_nothing_more(bench: Bench) -> None:
    bench.join()
    bench.report(leaving=True)
    bench.start(JOB, 3)
    assert bench.place() == []
    bench.join()
    assert bench.place()


def test_a_report_of_an_unknown_node_is_told_to_join(bench: Bench) -> None:
    said = bench.ask(Report(NodeId("stranger"), "b", 1, (Fence(1, 1),)))
    assert getattr(said, "rejoin")  # noqa: B009  (answers have no common field)


def test_a_value_makes_earlier_attempts_history(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=3, backoff_s=0.0))
    bench.report(failure_of(order, 3), released_of(order, (8, 10)), holds=(order.fence,))
    bench.drop_rest()
    assert bench.job().attempts == {1: ranges((3, 4))}
    again, _ = bench.place()
    bench.report(values_of(again), holds=(order.fence, again.fence))
    assert (bench.job().attempts, bench.job().state) == ({}, JobState.RUNNING)
    bench.drop_rest()


def test_a_new_boot_counts_its_reports_anew(bench: Bench) -> None:
    order = placed(bench)
    bench.report(seq=1_000)
    bench.join(boot="boot-2")
    assert bench.report(holds=(order.fence,), boot="boot-2", seq=1).dead == ()
    assert bench.chunk(order).state is ChunkState.LEASED
    bench.drop_rest()


# ── Copies, boots and machines ───────────────────────────────────────────────────────────────────────────────────


def hello_of(boot: str = "boot-1", *, seq: int = 0, host: str = "host", holds: tuple[Fence, ...] = ()) -> NodeHello:
    return NodeHello(
        NODE, boot, f"name of {NODE}", host, 1, 1, ("default",), tasks=named(TASK), seq=seq, holds=holds
    )  # fmt: skip


def test_a_hello_that_is_counted_outdates_the_reports_before_it(bench: Bench) -> None:
    order = placed(bench)
    bench.report(holds=(order.fence,), seq=4)
    bench.ask(hello_of(seq=6, holds=(order.fence,)))
    bench.drop_rest()
    bench.report(seq=5)
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.LEASED


def test_a_hello_that_is_not_counted_leaves_the_count_as_it_is(bench: Bench) -> None:
    order = placed(bench)
    bench.report(holds=(order.fence,), seq=6)
    bench.ask(hello_of(holds=(order.fence,)))
    bench.drop_rest()
    bench.report(seq=5)
    bench.expect_nothing()
    assert bench.chunk(order).state is ChunkState.LEASED


def test_the_very_hello_that_let_a_node_in_lets_it_in_again_when_it_was_given_up_since(bench: Bench) -> None:
    bench.ask(hello_of(seq=3))
    bench.tick(bench.settings.lease_s + 0.3)
    assert bench.node().state is NodeState.LOST
    bench.ask(hello_of(seq=3))
    assert bench.node().state is NodeState.ALIVE
    bench.drop_rest()


def test_the_first_hello_of_a_new_boot_is_no_late_one(bench: Bench) -> None:
    bench.join()
    bench.ask(hello_of("boot-2", seq=1))
    assert bench.node().boot == "boot-2"
    bench.drop_rest()


def test_a_late_hello_is_known_by_the_first_number_of_its_boot_already(bench: Bench) -> None:
    bench.ask(hello_of(seq=1))
    bench.ask(hello_of("boot-2", seq=1))
    bench.ask(hello_of(seq=1))
    assert bench.node().boot == "boot-2"
    bench.drop_rest()


def test_the_last_few_boots_of_a_node_are_remembered_and_no_more(bench: Bench) -> None:
    """Invariant 6: bounded everything."""
    boots = [f"boot-{number}" for number in range(FORMER_BOOTS_MAX + 2)]
    for boot in boots[:-1]:
        for seq in (1, 2):
            bench.ask(hello_of(boot, seq=seq))
    bench.ask(hello_of(boots[0], seq=2))
    assert bench.node().boot == boots[-2], "all that were succeeded are known"
    bench.ask(hello_of(boots[-1], seq=1))
    assert len(bench.node().former_boots) == FORMER_BOOTS_MAX
    bench.ask(hello_of(boots[1], seq=2))
    assert bench.node().boot == boots[-1]
    bench.drop_rest()


def test_what_a_hello_has_named_and_the_report_after_it_does_not_goes_back(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.restart()
    bench.join(holds=(order.fence,))
    bench.report()
    assert bench.pick(DropChunk) == [DropChunk(order.fence)]
    bench.drop_rest()


def test_a_report_that_is_sent_again_is_a_heartbeat_too(bench: Bench) -> None:
    order = placed(bench)
    bench.report(holds=(order.fence,), seq=5)
    bench.mono += 0.9 * bench.settings.lease_s
    bench.report(holds=(order.fence,), seq=5)
    bench.drop_rest()
    bench.tick(0.9 * bench.settings.lease_s)
    bench.expect_nothing()
    assert bench.node().state is NodeState.ALIVE


def test_a_node_that_has_left_may_come_back_from_another_machine_at_once(bench: Bench) -> None:
    bench.join(host="one")
    bench.ask(NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    bench.join(boot="boot-2", host="two")


def test_a_daemon_whose_machine_was_renamed_is_no_double_of_itself(bench: Bench) -> None:
    bench.join(host="one")
    bench.join(host="two")


def test_a_double_is_one_that_was_heard_within_a_few_of_its_own_heartbeats() -> None:
    bench = Bench(CoreSettings(heartbeat_s=4.0, lease_s=30.0))
    bench.join(host="one")
    bench.mono += 9.0
    assert bench.ask_for(Refused, hello_of("boot-2", host="two")).code == "usage"
    bench.mono += 2.0
    bench.join(boot="boot-2", host="two")


def test_the_goodbye_of_a_node_that_nobody_knows_is_answered(bench: Bench) -> None:
    assert bench.ask_for(Accepted, NodeBye(NodeId("stranger"), "b"))


def test_a_queue_is_emptied_when_anything_in_it_may_be_of_an_earlier_reign(bench: Bench) -> None:
    bench.know_item_time(10.0)
    bench.join()
    bench.start(JOB, 2)
    older = bench.place()[0]
    bench.report(holds=(older.fence,))
    bench.restart()
    bench.join(holds=(older.fence,))
    bench.know_item_time(10.0)
    bench.start(JobId("job-b"), 1)
    (newer, *_) = bench.place()
    bench.lease(older, newer)
    bench.join(boot="boot-2")
    assert bench.pick(EmptyNode) == [EmptyNode(NODE)]
    bench.drop_rest()


def test_the_load_of_a_node_is_what_it_last_said_of_it(bench: Bench) -> None:
    bench.join()
    load = NodeLoad(cpu_percent=50.0)
    bench.ask(Report(NODE, "boot-1", 1, load=load))
    bench.ask(Report(NODE, "boot-1", 2))
    assert bench.node().load == load


# ── What a report does not mean ──────────────────────────────────────────────────────────────────────────────────


def test_outcomes_of_a_chunk_that_is_not_named_as_held_do_not_free_its_rest(bench: Bench) -> None:
    order = placed(bench)
    bench.report(values_of(order, 0, 4))
    bench.drop_rest()
    assert bench.chunk(order).remaining == ranges((4, 10))


def test_ranges_that_the_chunk_does_not_have_are_given_back_for_nothing(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.report(released_of(order, (90, 99)), holds=(order.fence,))
    bench.expect_nothing()


def test_a_retry_before_a_final_failure_leaves_the_fence_durably_all_the_same(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=1, never_retry_on=("Never",), backoff_s=60.0))
    failures = (ItemFailure(3, FailureKind.ERROR, "E"), ItemFailure(5, FailureKind.ERROR, "Never"))
    bench.report(ChunkReport(order.fence, JOB, failures=failures), holds=(order.fence,))
    assert bench.pick_one(ShortenChunk).bounds == (0, 3, 4, 5, 6, 10)
    bench.drop_rest()


def test_a_cancelled_job_counts_as_cancelled_what_failed_or_was_given_back_and_ends(bench: Bench) -> None:
    order = placed(bench)
    bench.lease(order)
    bench.ask(CancelJob(JOB))
    bench.drop_rest()
    bench.report(failure_of(order, 3), holds=(order.fence,))
    assert bench.job().cancelled == ranges((3, 4))
    bench.report(released_of(order, (0, 3), (4, 10)), holds=(order.fence,))
    bench.drop_rest()
    last = bench.store.jobs[1].last
    assert (last.state, last.cancelled, last.failed) == (JobState.CANCELLED, 10, 0)


def test_neighbours_that_fail_together_each_have_attempts_of_their_own(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=3, backoff_s=0.0))
    for attempts in (1, 2):
        failures = tuple(ItemFailure(item, FailureKind.ERROR, "E") for item in (3, 4))
        bench.report(ChunkReport(order.fence, JOB, failures=failures), holds=(order.fence,))
        assert bench.job().attempts == {attempts: ranges((3, 5))}
        bench.report(released_of(order, (0, 10)), holds=(order.fence,))
        bench.drop_rest()
        order = next(again for again in bench.place() if again.start <= 3 < again.stop)
        assert order.start <= 4 < order.stop


def test_a_short_pause_before_a_retry_is_a_pause(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=1, backoff_s=0.8))
    bench.report(failure_of(order, 3), values_of(order, 0, 3), values_of(order, 4, 10))
    bench.drop_rest()
    assert bench.place() == []
    assert bench.place_one(1.1).start == 3


def test_the_first_crash_is_told_as_the_first_attempt(bench: Bench) -> None:
    order = placed(bench)
    bench.report(failure_of(order, 4, FailureKind.CRASH), holds=(order.fence,))
    assert [(put.attempt, put.final) for put in bench.pick(PutFailure)] == [(1, False)]
    bench.drop_rest()


def test_what_became_of_items_and_chunks_is_counted_for_their_task(bench: Bench) -> None:
    order = placed(bench, options=Options(retries=1, backoff_s=0.0))
    bench.mono += 2.0
    bench.report(replace(values_of(order, 0, 3), busy_s=0.5), holds=(order.fence,))
    bench.report(replace(failure_of(order, 3), busy_s=0.25), holds=(order.fence,))
    assert (bench.job().time.measured, bench.state.times[TASK].measured) == (4, 1_000_004)
    final = ChunkReport(order.fence, JOB, failures=(ItemFailure(4, FailureKind.RESULT, "E"),))
    bench.report(values_of(order, 5, 10), final, holds=(order.fence,))
    tally = bench.state.tally(TASK)
    assert (tally.items_done, tally.items_failed, tally.items_retried) == (8, 1, 1)
    assert (tally.chunks_done, tally.chunks_lost, tally.chunk_s_sum) == (1, 0, pytest.approx(2.0))
    assert tally.busy_s == pytest.approx(0.75, abs=0.01)
    bench.drop_rest()


def test_items_that_fail_are_measured_as_those_that_do_not(bench: Bench) -> None:
    order = placed(bench)
    bench.report(values_of(order, 0, 1), failure_of(order, 1), holds=(order.fence,))
    one = ChunkReport(order.fence, JOB, (values(2, 3),), (ItemFailure(3, FailureKind.ERROR, "E"),), busy_s=0.1)
    bench.report(one, holds=(order.fence,))
    assert bench.job().time.measured == 4
    bench.drop_rest()
