"""One turn: events in, one commit, then, and only then, effects."""

from __future__ import annotations

import pytest

from tests.rim_bench import HandClock, Noted, RimDispatch, RimStore
from windrow.common.blocks import block_entries, pack_block
from windrow.common.errors import EpochLost, StoreDamaged, StoreFailed
from windrow.common.keys import chunk_is_signed, node_key
from windrow.common.messages import (
    CHUNKS,
    Accepted,
    Append,
    Appended,
    CancelJob,
    ChunkReport,
    CloseJob,
    NodeHello,
    NumberItems,
    Refused,
    Report,
    RetryJob,
    Started,
    StartJob,
    TaskInfo,
    ValueRun,
)
from windrow.common.words import JobId, JobState, NodeId
from windrow.scheduler.core.events import BrokerChanged, Change
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.retention import LOOK_EVERY_S, STEP_EVERY_S, STEP_JOBS
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.engine import Engine, Turn

NODE = NodeId("node-a")
JOB = JobId("job-a")
OTHER = JobId("job-b")
TASK = "t:work"


class Rig:
    def __init__(self, settings: CoreSettings | None = None) -> None:
        self.story: list[Noted] = []
        self.store = RimStore(self.story)
        self.dispatch = RimDispatch(self.story)
        self.clock = HandClock()
        self.engine = Engine(self.store, self.dispatch, settings or CoreSettings(), self.clock)
        self.engine.turn([], [BrokerChanged(True, "")])

    def join(self) -> None:
        self.take(hello())
        self.story.clear()

    def take(self, *changes: Change) -> Turn:
        done = self.engine.turn(list(enumerate(changes)), [])
        check_invariants(self.engine.state)
        return done

    def look(self, times: int) -> None:
        """So many turns, each of which looks for jobs that ended long ago."""
        for _ in range(times):
            self.clock.mono += LOOK_EVERY_S + 1.0
            self.take()

    def finish(self) -> Turn:
        chunks = tuple(
            ChunkReport(
                c.fence, c.job, tuple(ValueRun(*part, pack_block([b"v"] * part.length)) for part in c.remaining)
            )
            for c in self.engine.state.chunks.values()
        )
        return self.take(Report(NODE, "boot-1", 1, (), chunks))


def hello() -> NodeHello:
    return NodeHello(NODE, "boot-1", "a", "host", 1, 1, ("default",), tasks=(TaskInfo(TASK),))


def start_job(job: JobId = JOB, items: int = 2, **given: object) -> StartJob:
    return StartJob(job, TASK, numbers=NumberItems(0, items), **given)  # type: ignore[arg-type]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ── Invariant 1: durable before visible ──────────────────────────────────────────────────────────────────────────


def test_a_turn_commits_once_before_anything_leaves(rig: Rig) -> None:
    """Invariant 1."""
    rig.join()
    done = rig.take(start_job(), start_job(OTHER))
    kinds = [each[0] for each in rig.story]
    assert kinds == ["commit", "dispatch", "dispatch"]
    assert [type(message) for _, message in done.answers] == [Started, Started]
    assert rig.engine.counts.commits == 2


@pytest.mark.parametrize("error", [StoreFailed("disk full"), StoreDamaged("torn page")])
def test_after_a_failed_commit_nobody_is_answered_and_nothing_is_sent(rig: Rig, error: StoreFailed) -> None:
    """Invariant 1."""
    rig.join()
    rig.store.fail_commit = error
    with pytest.raises(StoreFailed, match=error.message):
        rig.take(start_job(), hello())
    assert rig.story == []
    assert rig.engine.counts.commit_failures == 1


def test_a_lost_epoch_is_not_mistaken_for_a_failed_commit(rig: Rig) -> None:
    rig.store.fail_commit = EpochLost()
    with pytest.raises(EpochLost):
        rig.take(start_job())
    assert rig.story == []


def test_after_a_failed_commit_the_state_is_what_is_durable(rig: Rig) -> None:
    rig.join()
    rig.take(start_job())
    counter = rig.engine.state.counter
    rig.store.fail_commit = StoreFailed("disk full")
    with pytest.raises(StoreFailed):
        rig.take(start_job(OTHER), CancelJob(JOB))
    rig.store.fail_commit = None
    rig.engine.reload()
    check_invariants(rig.engine.state)
    assert list(rig.engine.state.jobs) == [JOB]
    assert rig.engine.state.jobs[JOB].state is JobState.RUNNING
    assert rig.engine.state.broker_up, "the broker has not gone because the store has"
    assert rig.engine.state.counter >= counter


def test_after_a_reload_the_dispatch_is_told_what_alone_is_on_its_way(rig: Rig) -> None:
    """What a commit settled that was made and not answered would be offered for ever."""
    rig.join()
    rig.take(start_job())
    rig.story.clear()
    rig.engine.reload()
    waiting = tuple(sorted(rig.engine.state.chunks))
    assert waiting
    assert rig.story == [("settle others", waiting)]


def test_the_numbers_of_fences_that_were_never_committed_are_not_used_again(rig: Rig) -> None:
    rig.join()
    rig.store.fail_commit = StoreFailed("disk full")
    with pytest.raises(StoreFailed):
        rig.take(start_job())
    counter = rig.engine.state.counter
    assert counter > 0
    rig.store.fail_commit = None
    rig.engine.reload()
    rig.take(hello(), start_job())
    assert min(fence.counter for fence in rig.engine.state.chunks) > counter


def test_a_turn_that_changes_nothing_durable_does_not_commit(rig: Rig) -> None:
    rig.take()
    rig.take(Report(NODE, "boot-1", 1))
    assert rig.story == []
    assert rig.engine.counts.commits == 0


# ── Effects ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_message_says_everything_and_is_signed(rig: Rig) -> None:
    rig.join()
    rig.take(start_job(items=1))
    (message,) = rig.dispatch.messages
    chunk = CHUNKS.decode(message.body)
    assert (chunk.node, chunk.job, chunk.task, chunk.start, chunk.stop) == (NODE, JOB, TASK, 0, 1)
    assert (chunk.fence, chunk.cluster, chunk.numbers) == (message.fence, "sim", NumberItems(0, 1))
    key = node_key(b"s" * 32, NODE)
    assert chunk_is_signed(key, "sim", NODE, message.fence, message.body, message.signature)


@pytest.mark.parametrize("forgotten", [False, True], ids=["from the cache", "from the store"])
def test_a_chunk_message_brings_its_items(rig: Rig, forgotten: bool) -> None:
    rig.take(StartJob(JOB, TASK), Append(JOB, 0, 2, pack_block([b"a", b"b"])), Append(JOB, 2, 1, pack_block([b"c"])))
    if forgotten:
        rig.engine.reload()
    else:
        rig.store.fail_reads = StoreFailed("fresh items need no read")
    rig.engine.state.times.clear()
    rig.take(hello())
    chunks = [CHUNKS.decode(message.body) for message in rig.dispatch.messages]
    rig.store.fail_reads = None
    assert [(c.start, c.stop, [list(block_entries(i.block)) for i in c.inputs]) for c in chunks] == [
        (0, 1, [[b"a"]]),
        (1, 2, [[b"b"]]),
    ]


def test_jobs_with_news_are_named_also_those_that_end(rig: Rig) -> None:
    rig.join()
    rig.take(start_job(items=1), start_job(OTHER, 0))
    done = rig.finish()
    assert done.jobs == {JOB}
    assert rig.engine.state.jobs == {}
    assert rig.take(CancelJob(JOB)).answers[0][1] == Accepted(1, f"job {JOB} has ended already: it is done")


def test_after_a_cancel_every_node_may_have_directives(rig: Rig) -> None:
    rig.join()
    assert not rig.take(start_job()).all_nodes
    assert rig.take(CancelJob(JOB)).all_nodes


# ── Recall ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_change_speaks_of_is_fetched_from_the_store(rig: Rig) -> None:
    rig.take(start_job(items=0, key="k"))
    assert rig.engine.state.jobs == {}
    done = rig.take(
        start_job(items=0, key="k"),
        start_job(OTHER, 0, key="k"),
        CloseJob(JOB, 0),
        CancelJob(JOB),
        RetryJob(JOB),
        start_job(JobId("job-c"), 0, after=(JOB,)),
    )
    answers = [message for _, message in done.answers]
    assert answers[0] == answers[1] == Started(1, JOB, existing=True, total=0)
    assert isinstance(answers[2], Accepted)
    assert isinstance(answers[3], Accepted)
    assert isinstance(answers[4], Refused)
    assert isinstance(answers[5], Started)
    assert rig.engine.state.jobs == {}, "all have left again"


def test_a_dependency_that_is_nowhere_is_refused(rig: Rig) -> None:
    ((_, refused),) = rig.take(start_job(after=(OTHER,))).answers
    assert isinstance(refused, Refused)
    assert refused.code == "not_found"


def test_start_append_and_close_in_one_turn(rig: Rig) -> None:
    done = rig.take(StartJob(JOB, TASK), Append(JOB, 0, 1, pack_block([b"x"])), CloseJob(JOB, 1))
    assert [type(message) for _, message in done.answers] == [Started, Appended, Accepted]


# ── In production ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_broken_invariant_is_mended_from_the_store(rig: Rig) -> None:
    rig.join()
    rig.take(start_job())
    rig.engine.check()
    before = rig.engine.state
    before.jobs[JOB].done.add(0, 1)
    rig.engine.check()
    assert rig.engine.state is not before
    check_invariants(rig.engine.state)


# ── What is not kept any more ────────────────────────────────────────────────────────────────────────────────────


def test_ended_jobs_go_in_steps_with_a_pause_between_them_and_looks_are_rare() -> None:
    rig = Rig(CoreSettings(results_kept_s=100.0))
    rig.join()
    for number in range(STEP_JOBS + 10):
        rig.take(start_job(JobId(f"job-{number:03d}"), items=0))
    rig.clock.mono += 200.0
    rig.join()
    assert len(rig.store.model.jobs) == 10
    rig.take()
    assert len(rig.store.model.jobs) == 10, "the next step came without a pause"
    rig.clock.mono += STEP_EVERY_S
    rig.take()
    # The newest stays.
    assert len(rig.store.model.jobs) == 1
    while rig.store.has_leftovers():
        rig.clock.mono += STEP_EVERY_S
        rig.take()
    rig.clock.mono += STEP_EVERY_S
    rig.take()
    rig.take(start_job(OTHER, items=0))
    rig.clock.mono += LOOK_EVERY_S / 2
    rig.take()
    assert len(rig.store.model.jobs) == 2, "it has looked again at once although there was nothing"
    rig.clock.mono += LOOK_EVERY_S
    rig.take()
    assert len(rig.store.model.jobs) == 1


@pytest.mark.parametrize("change", [RetryJob(JOB), start_job(), start_job(JobId("job-c"), key="k")])
def test_a_job_that_is_asked_for_in_the_turn_that_would_remove_it_stays(change: Change) -> None:
    rig = Rig(CoreSettings(results_kept_s=100.0))
    rig.join()
    rig.take(start_job(key="k", items=0))
    rig.take(start_job(OTHER, items=0))
    rig.clock.mono += 200.0
    rig.take(change)
    assert rig.store.find_job(JOB) is not None


def test_a_wall_clock_that_jumps_ahead_and_is_set_right_again_costs_no_results() -> None:
    rig = Rig(CoreSettings(results_kept_s=7 * 86_400.0))
    rig.join()
    rig.take(start_job(items=0))
    rig.take(start_job(OTHER, items=0))
    rig.look(1000)
    rig.clock.wall_jump_s = 365 * 86_400.0
    rig.look(500)
    rig.clock.wall_jump_s = 0.0
    rig.look(1000)
    assert rig.store.find_job(JOB) is not None


def test_a_job_that_ends_while_the_clock_is_wrong_for_a_moment_is_kept() -> None:
    rig = Rig(CoreSettings(results_kept_s=7 * 86_400.0))
    rig.join()
    rig.look(1000)
    rig.clock.mono += LOOK_EVERY_S / 4
    rig.clock.wall_jump_s = -365 * 86_400.0
    rig.take(start_job(items=0))
    rig.clock.wall_jump_s = 0.0
    rig.take(start_job(OTHER, items=0))
    rig.look(500)
    assert rig.store.find_job(JOB) is not None


def test_a_scheduler_that_starts_under_a_wrong_clock_keeps_its_results_for_an_hour() -> None:
    rig = Rig(CoreSettings(results_kept_s=7 * 86_400.0))
    rig.join()
    rig.take(start_job(items=0))
    rig.take(start_job(OTHER, items=0))
    rig.clock.wall_jump_s = 365 * 86_400.0
    rig.engine = Engine(rig.store, rig.dispatch, CoreSettings(results_kept_s=7 * 86_400.0), rig.clock)
    rig.look(500)
    assert rig.store.find_job(JOB) is not None
    rig.look(200)
    assert rig.store.find_job(JOB) is None


def test_a_store_that_cannot_say_what_has_ended_fails_the_turn(rig: Rig) -> None:
    rig.join()
    rig.clock.mono += 2 * LOOK_EVERY_S
    rig.store.fail_reads = StoreFailed("no")
    with pytest.raises(StoreFailed):
        rig.take()
