"""How long ended jobs are kept: to the end of their time, and never shorter."""

from __future__ import annotations

import dataclasses

import pytest

from tests.core_bench import JOB, NODE, WALL_S, Bench, append, failure_of
from windrow.common.messages import Accepted, CloseJob, DrainNode, NodeBye, RetryJob, Started, StartJob
from windrow.common.options import Options
from windrow.common.words import JobId, JobState, NodeId, Now
from windrow.scheduler.core.commands import CloseNode
from windrow.scheduler.core.events import BrokerChanged, EndedSeen, Recalled
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.records import DropNode, EndedJob, PutNode, RemoveJob, SetJob, SweepRemoved
from windrow.scheduler.core.retention import (
    LOOK_EVERY_S,
    STEADY_S_MAX,
    STEP_JOBS,
    STEP_ROWS,
    STREAM_OPEN_S_MAX,
    STREAM_SILENT_S,
    WallWatch,
    kept_since,
    look_limit,
    wall_watch,
)
from windrow.scheduler.core.state import CoreSettings

DAY_S = 86_400.0
KEPT = CoreSettings(results_kept_s=7 * DAY_S, failures_kept_s=30 * DAY_S, nodes_kept_s=3 * DAY_S)
NEWER = JobId("job-newer")
STREAM = JobId("stream-a")


@pytest.fixture
def bench() -> Bench:
    """With one node at work, and with what it says of that taken out."""
    made = Bench(KEPT)
    made.join()
    return made


def look(bench: Bench, after_s: float = 0.0, *, steady: bool = True) -> list[RemoveJob]:
    """As the engine does it; what was removed. Whatever came of it otherwise waits in `out`."""
    bench.mono += after_s
    ended = bench.store.find_ended(kept_since(bench.settings, bench.now), look_limit(bench.state))
    bench.take(EndedSeen(ended, bench.store.has_leftovers(), steady))
    return bench.pick(RemoveJob)


def end(bench: Bench, job: JobId = JOB, **given: object) -> None:
    bench.start(job, 1, **given)  # type: ignore[arg-type]
    bench.finish(bench.place_one())
    bench.tick()
    bench.drop_rest()


def fail(bench: Bench, job: JobId = JOB) -> None:
    bench.start(job, 1)
    order = bench.place_one()
    bench.report(failure_of(order, 0))
    bench.tick()
    bench.drop_rest()
    assert bench.job_state(job) is JobState.FAILED


def no_of(bench: Bench, job: JobId) -> int:
    stored = bench.store.find_job(job)
    assert stored is not None
    return stored.no


def test_a_done_job_is_removed_when_its_time_is_over_and_not_before(bench: Bench) -> None:
    end(bench)
    no = no_of(bench, JOB)
    end(bench, NEWER)
    assert look(bench, 7 * DAY_S - 1.0) == []
    bench.expect_nothing()
    assert look(bench, 2.0) == [RemoveJob(no, JOB)]
    bench.expect(SweepRemoved(STEP_ROWS))
    assert bench.store.find_job(JOB) is None


def test_a_failed_job_is_kept_for_longer(bench: Bench) -> None:
    fail(bench)
    no = no_of(bench, JOB)
    end(bench, NEWER)
    assert look(bench, 29 * DAY_S) == []
    assert look(bench, DAY_S + 1.0) == [RemoveJob(no, JOB)]


def test_nothing_is_removed_where_all_is_kept_for_ever() -> None:
    bench = Bench(CoreSettings())
    bench.join()
    end(bench)
    fail(bench, NEWER)
    assert look(bench, 1000 * DAY_S) == []
    bench.expect_nothing()


def test_each_state_that_is_not_an_end_is_kept_for_ever() -> None:
    assert set(kept_since(KEPT, Now(0.0, WALL_S))) == {JobState.DONE, JobState.CANCELLED, JobState.FAILED}


def test_a_job_that_lives_is_never_removed(bench: Bench) -> None:
    bench.start(JOB, 1)
    bench.place_one()
    bench.start(NEWER, 1)
    assert look(bench, 1000 * DAY_S) == []
    # Even where the store says that it has ended: it was put back to work since.
    bench.take(EndedSeen((EndedJob(1, JOB, JobState.DONE, WALL_S),), False, True))
    bench.expect_nothing()


def test_a_job_that_is_retried_in_the_very_turn_stays(bench: Bench) -> None:
    fail(bench)
    end(bench, NEWER)
    bench.mono += 40 * DAY_S
    assert isinstance(bench.ask(RetryJob(JOB)), Accepted)
    bench.drop_rest()
    seen = EndedJob(1, JOB, JobState.FAILED, WALL_S)
    bench.take(EndedSeen((seen,), False, True))
    assert bench.pick(RemoveJob) == []


def test_a_job_that_is_asked_for_by_its_key_in_the_very_turn_stays(bench: Bench) -> None:
    end(bench, key="nightly")
    end(bench, NEWER)
    bench.mono += 40 * DAY_S
    stored = bench.store.find_job(JOB)
    assert stored is not None
    bench.take(Recalled(stored))
    assert look(bench) == []


def test_a_job_is_kept_while_a_live_one_comes_after_it(bench: Bench) -> None:
    end(bench)
    no = no_of(bench, JOB)
    bench.start(NEWER, 1, after=(JOB,))
    order = bench.place_one()
    assert look(bench, 8 * DAY_S) == []
    bench.finish(order)
    bench.tick()
    bench.drop_rest()
    assert look(bench) == [RemoveJob(no, JOB)]


def test_however_many_jobs_a_live_one_comes_after_others_are_removed(bench: Bench) -> None:
    parts = tuple(JobId(f"part-{number:03d}") for number in range(STEP_JOBS + 10))
    for part in parts:
        end(bench, part)
    end(bench)
    no = no_of(bench, JOB)
    bench.start(NEWER, 1, after=parts)
    bench.lease(bench.place_one())
    assert look_limit(bench.state) == STEP_JOBS + len(parts) + 1
    assert look(bench, 8 * DAY_S) == [RemoveJob(no, JOB)]


def test_the_newest_job_stays_so_that_no_number_comes_twice(bench: Bench) -> None:
    end(bench)
    assert look(bench, 8 * DAY_S) == []
    bench.restart()
    bench.join(boot="boot-2")
    bench.drop_rest()
    assert bench.state.last_job_no == 1
    bench.start(NEWER, 2)
    assert bench.job(NEWER).no == 2


def test_of_many_jobs_a_few_are_removed_at_a_time_and_leftovers_are_swept_until_there_are_none(bench: Bench) -> None:
    for number in range(STEP_JOBS + 3):
        end(bench, JobId(f"job-{number:03d}"))
    assert len(look(bench, 8 * DAY_S)) == STEP_JOBS
    assert len(look(bench)) == 2
    steps = 0
    while bench.store.has_leftovers():
        bench.drop_rest()
        assert look(bench) == []
        bench.expect(SweepRemoved(STEP_ROWS))
        steps += 1
    assert steps
    assert look(bench) == []
    bench.expect_nothing()


def test_a_key_is_free_again_once_its_job_is_removed(bench: Bench) -> None:
    end(bench, key="nightly")
    end(bench, NEWER)
    look(bench, 8 * DAY_S)
    bench.drop_rest()
    again = JobId("job-again")
    started = bench.ask_for(Started, StartJob(again, "t:work", options=Options(), key="nightly"))
    bench.drop_rest()
    assert (started.job, started.existing) == (again, False)


# ── Streams that have lost their client ──────────────────────────────────────────────────────────────────────────


def open_stream(bench: Bench) -> None:
    bench.ask_for(Started, StartJob(STREAM, "t:work", stream=True))
    bench.ask(append(STREAM, 0, 1))
    bench.drop_rest()


def test_a_stream_that_was_left_open_is_closed_after_a_day_and_ends(bench: Bench) -> None:
    open_stream(bench)
    bench.finish(bench.place_one())
    look(bench, STREAM_OPEN_S_MAX - 10.0)
    bench.expect_nothing()
    look(bench, 20.0)
    last = bench.pick(SetJob)[-1]
    assert (last.state, last.open, last.done) == (JobState.DONE, False, 1)
    bench.drop_rest()


@pytest.mark.parametrize("left", ["pending", "delayed", "running"])
def test_a_stream_with_work_left_is_not_closed(bench: Bench, left: str) -> None:
    bench.ask_for(Started, StartJob(STREAM, "t:work", stream=True))
    bench.ask(append(STREAM, 0, 1, delay_s=20 * DAY_S if left == "delayed" else 0.0))
    bench.drop_rest()
    if left == "running":
        bench.lease(bench.place_one())
    look(bench, 10 * DAY_S)
    bench.expect_nothing()
    assert bench.job(STREAM).open


def test_a_stream_that_has_ended_in_the_very_turn_ends_once(bench: Bench) -> None:
    open_stream(bench)
    bench.finish(bench.place_one())
    bench.mono += 2 * DAY_S
    bench.ask_for(Accepted, CloseJob(STREAM, 1))
    bench.drop_rest()
    look(bench)
    bench.expect_nothing()


def test_a_stream_that_was_left_open_before_its_turn_came_stays_closed_over_a_restart(bench: Bench) -> None:
    """It waits for another job, and ends with that."""
    bench.start(JOB, 1)
    order = bench.place_one()
    bench.lease(order)
    bench.ask_for(Started, StartJob(STREAM, "t:work", stream=True, after=(JOB,)))
    bench.drop_rest()
    look(bench, 2 * DAY_S)
    bench.drop_rest()
    bench.restart()
    assert not bench.job(STREAM).open
    bench.join(holds=(order.fence,))
    bench.finish(order)
    assert bench.job_state(STREAM) is JobState.DONE


def test_a_stream_that_was_written_to_of_late_is_not_closed_however_old_it_is(bench: Bench) -> None:
    open_stream(bench)
    bench.finish(bench.place_one())
    bench.mono += STREAM_OPEN_S_MAX
    bench.join()
    bench.ask(append(STREAM, 1, 1))
    bench.drop_rest()
    bench.finish(bench.place_one())
    look(bench, STREAM_SILENT_S - 10.0)
    assert bench.job(STREAM).open
    look(bench, 20.0)
    assert not bench.job(STREAM).open
    bench.drop_rest()


def test_a_stream_that_is_written_to_is_not_closed_however_the_wall_clock_jumps(bench: Bench) -> None:
    open_stream(bench)
    bench.finish(bench.place_one())
    job = bench.job(STREAM)
    job.created_wall -= 10 * DAY_S
    look(bench, STREAM_SILENT_S - 10.0)
    assert job.open
    look(bench, 20.0)
    assert not job.open
    bench.drop_rest()


def test_a_job_that_its_starter_has_left_open_is_not_closed(bench: Bench) -> None:
    bench.ask_for(Started, StartJob(JOB, "t:work"))
    bench.drop_rest()
    look(bench, 10 * DAY_S)
    bench.expect_nothing()
    said = bench.ask(CloseJob(JOB, 0))
    assert isinstance(said, Accepted)
    bench.drop_rest()


def test_settings_without_one_of_the_two_keep_that_for_ever() -> None:
    now = Now(0.0, WALL_S)
    assert set(kept_since(dataclasses.replace(KEPT, results_kept_s=None), now)) == {JobState.FAILED}
    assert set(kept_since(dataclasses.replace(KEPT, failures_kept_s=None), now)) == {JobState.DONE, JobState.CANCELLED}


@pytest.mark.parametrize("early_s", [0.0, 1.0])
def test_what_the_store_names_too_early_is_kept_all_the_same(bench: Bench, early_s: float) -> None:
    """At the very instant its time is not over yet."""
    end(bench)
    end(bench, NEWER)
    seen = EndedJob(no_of(bench, JOB), JOB, JobState.DONE, bench.now.wall - 7 * DAY_S + early_s)
    bench.take(EndedSeen((seen,), False, True))
    bench.expect_nothing()


def test_what_is_kept_for_ever_stays_though_the_store_names_it() -> None:
    bench = Bench(dataclasses.replace(KEPT, failures_kept_s=None))
    bench.join()
    fail(bench)
    end(bench, NEWER)
    bench.take(EndedSeen((EndedJob(no_of(bench, JOB), JOB, JobState.FAILED, WALL_S - 1000 * DAY_S),), False, True))
    bench.expect_nothing()


# ── A wall clock that is not to be believed ──────────────────────────────────────────────────────────────────────


def test_while_the_wall_clock_is_not_steady_nothing_is_removed_and_what_was_removed_is_swept(bench: Bench) -> None:
    end(bench)
    end(bench, NEWER)
    bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    assert look(bench, 8 * DAY_S, steady=False) == []
    bench.expect_nothing()
    bench.store.leftovers.add(7)
    assert look(bench, steady=False) == []
    bench.expect(SweepRemoved(STEP_ROWS))
    assert len(look(bench)) == 1
    bench.drop_rest()


def asked(watch: WallWatch, from_s: float, to_s: float, jump_s: float = 0.0) -> list[bool]:
    """What it says from time to time, as the engine asks it; the wall clock is ahead by `jump_s`."""
    said: list[bool] = []
    while from_s < to_s:
        said.append(watch.is_steady(Now(from_s, WALL_S + from_s + jump_s)))
        from_s += LOOK_EVERY_S
    return [*said, watch.is_steady(Now(to_s, WALL_S + to_s + jump_s))]


@pytest.mark.parametrize(
    ("settings", "steady_s"),
    [
        (KEPT, STEADY_S_MAX),
        (CoreSettings(results_kept_s=48.0, failures_kept_s=DAY_S), 2.0),
        (CoreSettings(failures_kept_s=72.0), 3.0),
        (CoreSettings(nodes_kept_s=24.0), 1.0),
        (CoreSettings(), STEADY_S_MAX),
    ],
)
def test_the_wall_clock_is_believed_once_it_has_gone_evenly_for_a_share_of_what_is_kept(
    settings: CoreSettings, steady_s: float
) -> None:
    watch = wall_watch(settings)
    assert not any(asked(watch, 0.0, steady_s - 0.5))
    assert watch.is_steady(Now(steady_s, WALL_S + steady_s))


@pytest.mark.parametrize("jump_s", [2 * STEADY_S_MAX, -2 * STEADY_S_MAX])
def test_a_wall_clock_that_has_jumped_is_believed_after_an_hour_again(jump_s: float) -> None:
    watch = wall_watch(KEPT)
    assert asked(watch, 0.0, STEADY_S_MAX)[-1]
    at_s = STEADY_S_MAX + 5.0
    assert not any(asked(watch, at_s, at_s + STEADY_S_MAX - 1.0, jump_s))
    at_s += STEADY_S_MAX
    assert watch.is_steady(Now(at_s, WALL_S + at_s + jump_s))


def test_a_wall_clock_that_is_led_back_slowly_is_believed() -> None:
    watch = wall_watch(KEPT)
    told = [watch.is_steady(Now(at_s, WALL_S + 2.0 * at_s)) for at_s in range(0, 10_000, 5)]
    assert all(told[int(STEADY_S_MAX) // 5 :])


def test_a_step_of_the_wall_clock_that_is_small_beside_what_is_kept_is_none() -> None:
    watch = wall_watch(KEPT)
    asked(watch, 0.0, STEADY_S_MAX)
    assert watch.is_steady(Now(STEADY_S_MAX + 5.0, WALL_S + 5.0 + 2 * STEADY_S_MAX))


def test_time_in_which_the_scheduler_was_stopped_does_not_count() -> None:
    """Nobody could read then what will be removed."""
    watch = wall_watch(KEPT)
    asked(watch, 0.0, STEADY_S_MAX / 2)
    woken_s = 2 * STEADY_S_MAX
    assert not any(asked(watch, woken_s, woken_s + STEADY_S_MAX / 2 - 3 * LOOK_EVERY_S))
    assert asked(watch, woken_s + STEADY_S_MAX / 2 - 2 * LOOK_EVERY_S, woken_s + STEADY_S_MAX / 2)[-1]


# ── Nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def look_for_nodes(bench: Bench, after_s: float = 0.0) -> list[NodeId]:
    """Who was forgotten, with row and queue."""
    look(bench, after_s)
    dropped = [each.id for each in bench.pick(DropNode)]
    assert [each.node for each in bench.pick(CloseNode)] == dropped
    return dropped


@pytest.fixture
def left(bench: Bench) -> Bench:
    """Its node said goodbye."""
    bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    return bench


def test_a_node_that_has_left_is_forgotten_when_its_time_is_over_and_not_before(left: Bench) -> None:
    assert look_for_nodes(left, 3 * DAY_S - 1.0) == []
    assert look_for_nodes(left, 2.0) == [NODE]
    assert left.state.nodes == {}
    left.restart()
    assert left.state.nodes == {}


def test_a_lost_node_is_forgotten_and_joins_as_a_new_one_when_it_comes_back(bench: Bench) -> None:
    bench.tick(10.0)
    bench.drop_rest()
    assert bench.node().state is NodeState.LOST
    assert look_for_nodes(bench, 4 * DAY_S) == [NODE]
    assert bench.report().rejoin
    bench.join()
    bench.start(JOB, 1)
    assert bench.place_one().node == NODE


def test_a_node_that_lives_is_kept_however_long_ago_it_joined(bench: Bench) -> None:
    for _ in range(5):
        bench.mono += DAY_S
        bench.report()
        assert bench.pick_one(PutNode).seen_wall == bench.now.wall, "so that a restart knows"
        assert look_for_nodes(bench) == []
    bench.report()
    bench.expect_nothing()


def test_a_node_that_is_awaited_after_a_restart_is_not_forgotten_before_it_is_lost(bench: Bench) -> None:
    bench.mono += 4 * DAY_S
    bench.restart()
    assert look_for_nodes(bench) == []
    bench.tick(10.0)
    bench.drop_rest()
    assert look_for_nodes(bench) == [NODE]


def test_a_drained_node_stays_drained_however_long_it_is_away(left: Bench) -> None:
    left.ask_for(Accepted, DrainNode(NODE))
    left.drop_rest()
    assert look_for_nodes(left, 1000 * DAY_S) == []


def test_no_node_is_forgotten_while_its_queue_cannot_be_deleted(left: Bench) -> None:
    left.take(BrokerChanged(False, "gone"))
    assert look_for_nodes(left, 4 * DAY_S) == []
    left.take(BrokerChanged(True, ""))
    assert look_for_nodes(left) == [NODE]


def test_nodes_may_be_kept_for_ever() -> None:
    bench = Bench(dataclasses.replace(KEPT, nodes_kept_s=None))
    bench.join()
    bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    assert look_for_nodes(bench, 1000 * DAY_S) == []
