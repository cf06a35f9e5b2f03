"""The scheduler's loop: what becomes of requests, above all while the store does not take anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import cast

import pytest

import windrow.scheduler.loop as loop_module
from tests.rim_bench import HandClock, Noted, RimControl, RimDispatch, RimStore
from tests.waiting import until
from windrow.common.errors import EpochLost, StoreDamaged, StoreFailed
from windrow.common.messages import (
    CancelJob,
    Directives,
    FindJob,
    Health,
    HealthInfo,
    NodeHello,
    NodePoll,
    NumberItems,
    Refused,
    Report,
    Reported,
    Started,
    StartJob,
    TaskInfo,
)
from windrow.common.words import Fence, JobId, NodeId
from windrow.scheduler.control import ControlSocket
from windrow.scheduler.core.events import BrokerChanged, Sent, Unsent
from windrow.scheduler.core.machines import ChunkState
from windrow.scheduler.core.records import Record
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.loop import RELOAD_BACKOFF_S, SchedulerLoop
from windrow.scheduler.store import SqlStore

NODE = NodeId("node-a")
JOB = JobId("job-a")
TASK = "t:work"


class Rig:
    """A loop on stand-ins, whose turns the test takes one by one."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.story: list[Noted] = []
        self.store = RimStore(self.story)
        self.dispatch = RimDispatch(self.story)
        self.control = RimControl(self.story)
        self.loop = SchedulerLoop(
            CoreSettings(), cast(SqlStore, self.store), self.dispatch, cast(ControlSocket, self.control), self.clock
        )

    async def start(self) -> None:
        await self.loop.start()
        self.dispatch.on_event(BrokerChanged(True, ""))
        self.ask("node", hello())
        self.control.take_said("node")

    def ask(self, name: str, message: object) -> list[object]:
        self.control.put(name, message)
        self.turn()
        return self.control.take_said(name)

    def turn(self) -> None:
        self.control.on_ready()

    def after(self, seconds: float) -> None:
        self.clock.mono += seconds

    def is_placed(self) -> bool:
        return bool(self.dispatch.messages)


Scene = Callable[[Rig], Coroutine[None, None, None]]


@pytest.fixture
def play() -> Callable[[Scene], None]:
    """Run a scene with a loop that has started; errors inside callbacks fail the test."""

    def run(scene: Scene) -> None:
        async def whole() -> None:
            troubles: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
            rig = Rig()
            await rig.start()
            await scene(rig)
            await rig.loop.stop()
            assert troubles == []

        asyncio.run(whole())

    return run


def hello(boot: str = "boot-1") -> NodeHello:
    return NodeHello(NODE, boot, "a", "host", 1, 1, ("default",), tasks=(TaskInfo(TASK),))


def start_job(job: JobId = JOB, items: int = 2) -> StartJob:
    return StartJob(job, TASK, numbers=NumberItems(0, items))


def break_store(rig: Rig) -> None:
    rig.store.fail_commit = StoreFailed("disk full")
    rig.store.trouble = "disk full"


def mend_store(rig: Rig) -> None:
    rig.store.fail_commit = None
    rig.store.trouble = ""
    rig.after(RELOAD_BACKOFF_S[1] + 1)


def test_work_that_comes_while_the_store_cannot_be_mended_is_refused(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        break_store(rig)
        put_off(rig.ask("client", start_job()))
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        # The time to try again has come, the store is still bad, and a request waits in the same turn.
        (refused,) = rig.ask("client", start_job())
        assert isinstance(refused, Refused)
        assert refused.code == "store_failed"
        assert "disk full" in refused.message
        mend_store(rig)
        (started,) = rig.ask("client", start_job())
        assert isinstance(started, Started)

    play(scene)


def put_off(said: list[object]) -> str:
    """Why the one request was put off until later."""
    (refused,) = said
    assert isinstance(refused, Refused)
    assert refused.code == "store_failed"
    return refused.message


def test_a_client_whose_change_fails_with_its_turn_is_told_that_nobody_knows_and_to_ask_again(
    play: Callable[[Scene], None],
) -> None:
    """Nor is it told that nothing was accepted: a commit that failed may have reached the disk."""

    async def scene(rig: Rig) -> None:
        break_store(rig)
        rig.control.put("node", hello("boot-2"))
        rig.control.put("asker", FindJob(JOB))
        why = put_off(rig.ask("client", start_job()))
        assert "disk full" in why
        assert "sending it again is safe" in why
        assert "nothing was accepted" not in why
        assert "nothing is told of jobs" in put_off(rig.control.take_said("asker"))
        assert rig.control.take_said("node") == [], "a node keeps what it has and asks again by itself"
        mend_store(rig)
        (started,) = rig.ask("client", start_job())
        assert isinstance(started, Started)

    play(scene)


def test_a_change_that_was_durable_although_its_turn_failed_is_found_when_it_is_asked_for_again(
    play: Callable[[Scene], None],
) -> None:
    async def scene(rig: Rig) -> None:
        commit = rig.store.model.commit

        def commit_and_fail(records: Sequence[Record]) -> None:
            commit(records)
            raise StoreFailed("the disk went away after the write")

        rig.store.model.commit = commit_and_fail  # type: ignore[method-assign]
        assert "sending it again is safe" in put_off(rig.ask("client", start_job()))
        rig.store.model.commit = commit  # type: ignore[method-assign]
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        (started,) = rig.ask("client", start_job())
        assert isinstance(started, Started)
        assert started.existing

    play(scene)


def test_questions_that_come_while_the_store_cannot_be_written_are_answered_with_the_reason(
    play: Callable[[Scene], None],
) -> None:
    async def scene(rig: Rig) -> None:
        break_store(rig)
        put_off(rig.ask("client", start_job()))
        # What the core says of jobs was perhaps never committed; how the store is can be told.
        (refused,) = rig.ask("client", FindJob(JOB))
        assert isinstance(refused, Refused)
        assert (refused.code, "disk full" in refused.message) == ("store_failed", True)
        (health,) = rig.ask("client", Health())
        assert isinstance(health, HealthInfo)
        assert (health.store, health.store_detail) == ("bad", "disk full")
        mend_store(rig)
        (refused,) = rig.ask("client", FindJob(JOB))
        assert isinstance(refused, Refused)
        assert refused.code == "not_found"

    play(scene)


def test_a_poll_that_comes_while_the_store_cannot_be_written_is_answered_once_it_can(
    play: Callable[[Scene], None],
) -> None:
    async def scene(rig: Rig) -> None:
        break_store(rig)
        # One comes in the turn that fails, one while the store is known to be bad.
        rig.control.put("first", NodePoll(NODE, "another-boot"))
        put_off(rig.ask("client", start_job()))
        assert rig.ask("second", NodePoll(NodeId("node-b"), "boot-1")) == []
        mend_store(rig)
        rig.turn()
        for name in ("first", "second"):
            (told,) = rig.control.take_said(name)
            assert isinstance(told, Directives)
            assert told.rejoin

    play(scene)


def test_a_turn_is_taken_for_a_change_and_for_news_of_the_broker_and_for_nothing_else(
    play: Callable[[Scene], None],
) -> None:
    async def scene(rig: Rig) -> None:
        turns = rig.loop.engine.counts.turns
        rig.turn()
        assert rig.ask("client", FindJob(JOB)) != []
        assert rig.ask("node", NodePoll(NODE, "another-boot")) != []
        rig.dispatch.on_event(Sent(Fence(1, 1)))
        rig.turn()
        assert rig.loop.engine.counts.turns == turns
        rig.ask("client", start_job())
        assert rig.loop.engine.counts.turns == turns + 1
        rig.dispatch.on_event(Unsent(rig.dispatch.messages[-1].fence, "returned"))
        rig.turn()
        assert rig.loop.engine.counts.turns == turns + 2

    play(scene)


def test_the_chunks_of_a_turn_do_not_wait_for_others_to_be_sent(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        rig.ask("client", start_job())
        assert rig.dispatch.flushed_after == len(rig.dispatch.messages) == 2

    play(scene)


def test_a_confirmed_chunk_is_known_as_sent_by_the_next_turn(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        rig.ask("client", start_job())
        chunk = next(iter(rig.loop.engine.state.chunks.values()))
        rig.dispatch.on_event(Sent(chunk.fence))
        assert chunk.state is ChunkState.PLACED
        rig.ask("client", start_job(JobId("job-b")))
        assert chunk.state is ChunkState.SENT

    play(scene)


def test_a_broker_that_comes_up_while_the_store_is_down_is_not_forgotten(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        rig.dispatch.on_event(BrokerChanged(False, "gone"))
        rig.turn()
        break_store(rig)
        put_off(rig.ask("client", start_job()))
        rig.dispatch.on_event(BrokerChanged(True, ""))
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        rig.turn()
        mend_store(rig)
        rig.turn()
        assert rig.loop.engine.state.broker_up
        rig.ask("node", hello())
        rig.ask("client", start_job())
        assert rig.is_placed()

    play(scene)


def test_an_error_that_nobody_foresaw_counts_as_a_failed_turn(
    play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the turn had changed before it broke was never committed: going on with it would lose outcomes."""

    async def scene(rig: Rig) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(rig.store, "find_job_by_key", broken)
            rig.control.put("first", start_job())
            keyed = StartJob(JobId("job-b"), TASK, key="k", numbers=NumberItems(0, 1))
            assert "a bug" in put_off(rig.ask("second", keyed))
        assert "sending it again is safe" in put_off(rig.control.take_said("first"))
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        rig.turn()
        assert JOB not in rig.loop.engine.state.jobs
        assert isinstance(rig.ask("first", start_job())[0], Started)

    play(scene)


@pytest.mark.parametrize("error", [StoreFailed("cannot read"), StoreDamaged("cannot read")])
def test_a_store_that_cannot_be_read_in_a_turn_fails_the_turn(
    play: Callable[[Scene], None], error: StoreFailed
) -> None:
    async def scene(rig: Rig) -> None:
        rig.store.fail_reads = error
        assert "cannot read" in put_off(rig.ask("client", StartJob(JOB, TASK, key="k", numbers=NumberItems(0, 2))))
        assert rig.loop.failed == "cannot read"
        rig.store.fail_reads = None
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        assert isinstance(rig.ask("client", start_job())[0], Started)

    play(scene)


def test_nobody_is_told_of_what_a_failed_turn_has_left_behind(play: Callable[[Scene], None]) -> None:
    """Invariant 1: a cancel that was never durable must not reach a node that polls."""

    async def scene(rig: Rig) -> None:
        rig.ask("client", start_job())
        fences = tuple(message.fence for message in rig.dispatch.messages)
        assert isinstance(rig.ask("node", Report(NODE, "boot-1", 1, fences))[0], Reported)
        assert rig.ask("poll", NodePoll(NODE, "boot-1", fences)) == []
        break_store(rig)
        put_off(rig.ask("client", CancelJob(JOB)))
        rig.loop._on_timer()
        assert rig.control.take_said("poll") == []
        mend_store(rig)
        rig.turn()
        assert rig.loop.engine.state.jobs[JOB].reason == ""

    play(scene)


def test_a_scheduler_that_writes_nothing_notices_that_another_reigns(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        rig.store.fail_commit = EpochLost("taken over")
        rig.after(loop_module.CHECK_EVERY_S + 1)
        rig.loop._on_timer()
        assert rig.loop.ended is not None
        assert rig.loop.ended.result() == 1

    play(scene)


def test_the_timer_goes_on_whatever_happens_in_it(play: Callable[[Scene], None]) -> None:
    async def scene(rig: Rig) -> None:
        rig.store.fail_load = StoreFailed("cannot load")
        job = rig.ask("client", start_job())
        assert isinstance(job[0], Started)
        rig.loop.engine.state.jobs[JOB].done.add(0, 1)  # an invariant is broken, and the reload fails
        rig.after(loop_module.CHECK_EVERY_S + 1)
        rig.loop._on_timer()
        assert rig.loop.failed == "cannot load"
        rig.store.fail_load = None
        rig.after(RELOAD_BACKOFF_S[1] + 1)
        await until(lambda: rig.loop.failed == "", 2.0, "the timer's next turn mends the state")
        assert not rig.loop.engine.state.jobs[JOB].done

    play(scene)
