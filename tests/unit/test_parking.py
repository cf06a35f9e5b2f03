"""Polls wait until there is something to say, and are answered once."""

from __future__ import annotations

import pytest

from tests.rim_bench import HandClock, Noted, RimDispatch, RimStore, peer
from windrow.common.blocks import pack_block
from windrow.common.limits import MESSAGE_BYTES_MAX, PAGE_BYTES_MAX, PARKED_SECONDS_MAX
from windrow.common.messages import (
    ANSWERS,
    CancelJob,
    ChunkReport,
    ClientPoll,
    Directives,
    DrainNode,
    NodeHello,
    NodePoll,
    NumberItems,
    Polled,
    Report,
    StartJob,
    TaskInfo,
    ValueRun,
    Watch,
)
from windrow.common.words import Fence, JobId, JobState, NodeId
from windrow.scheduler.core.events import BrokerChanged, Change
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.engine import Engine, Turn
from windrow.scheduler.parking import ParkedClients, ParkedNodes

NODE = NodeId("node-a")
JOB = JobId("job-a")
TASK = "t:work"


class Rig:
    def __init__(self) -> None:
        self.story: list[Noted] = []
        self.store = RimStore(self.story)
        self.dispatch = RimDispatch(self.story)
        self.clock = HandClock()
        self.engine = Engine(self.store, self.dispatch, CoreSettings(), self.clock)
        self.nodes = ParkedNodes(self.engine, self.dispatch)
        self.clients = ParkedClients(self.engine, self.store)
        self.seq = 0
        self.engine.turn([], [BrokerChanged(True, "")])
        self.take(NodeHello(NODE, "boot-1", "a", "host", 1, 4, ("default",), tasks=(TaskInfo(TASK),)))

    def take(self, change: Change) -> Turn:
        return self.engine.turn([(1, change)], [])

    def start(self, job: JobId = JOB, items: int = 2) -> None:
        self.take(StartJob(job, TASK, numbers=NumberItems(0, items)))

    def live(self) -> tuple[Fence, ...]:
        return tuple(self.engine.state.chunks)

    def report(self, *chunks: ChunkReport, holds: tuple[Fence, ...] = ()) -> Turn:
        self.seq += 1
        return self.take(Report(NODE, "boot-1", self.seq, holds, chunks))

    def finish(self, entry: bytes = b"v") -> Turn:
        """Every live item gets a value."""
        chunks = tuple(
            ChunkReport(chunk.fence, chunk.job, tuple(
                ValueRun(*part, pack_block([entry] * part.length)) for part in chunk.remaining
            ))
            for chunk in self.engine.state.chunks.values()
        )  # fmt: skip
        return self.report(*chunks)

    def poll_node(self, **given: object) -> list[object]:
        self.nodes.park(peer("node"), NodePoll(NODE, "boot-1", **given), self.clock.mono)  # type: ignore[arg-type]
        return self.told_node()

    def told_node(self) -> list[object]:
        return [message for _, message in self.nodes.answer(None, self.clock.mono)]

    def poll_client(self, *watches: Watch, name: str = "client") -> list[Polled]:
        found = self.clients.park(peer(name), ClientPoll(name, watches), self.clock.mono)
        return [message for _, message in found if isinstance(message, Polled)]

    def told_clients(self, turn: Turn) -> list[Polled]:
        return [message for _, message in self.clients.answer(turn.jobs) if isinstance(message, Polled)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ── Nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_with_nothing_to_be_told_waits_and_is_answered_with_nothing_in_the_end(rig: Rig) -> None:
    assert rig.poll_node() == []
    rig.clock.mono += PARKED_SECONDS_MAX + 1
    assert rig.told_node() == [Directives(1)]
    assert rig.told_node() == []


def test_an_unknown_boot_is_told_to_join_again_at_once(rig: Rig) -> None:
    rig.nodes.park(peer("node"), NodePoll(NODE, "boot-0"), rig.clock.mono)
    assert rig.told_node() == [Directives(1, rejoin=True)]


def test_a_drain_is_told_until_the_node_has_reached_it(rig: Rig) -> None:
    assert rig.poll_node() == []
    rig.take(DrainNode("a"))
    assert rig.told_node() == [Directives(1, drain=True)]
    assert rig.poll_node() == [], "not again at once"
    rig.clock.mono += 1.1
    assert rig.told_node() == [Directives(1, drain=True)]
    assert rig.poll_node(draining=True) == []
    rig.clock.mono += 1.1
    assert rig.told_node() == []
    rig.take(DrainNode("a", resume=True))
    assert rig.told_node() == [Directives(1, drain=False)]


def test_dead_fences_are_told_as_soon_as_their_job_is_cancelled(rig: Rig) -> None:
    rig.start()
    fences = rig.live()
    rig.report(holds=fences)
    assert rig.poll_node(holds=fences) == []
    rig.take(CancelJob(JOB))
    assert rig.told_node() == [Directives(1, dead=fences)]


def test_a_chunk_on_offer_is_told_at_once_and_not_to_a_node_that_holds_it(rig: Rig) -> None:
    rig.dispatch.offers[NODE] = {Fence(1, 7): b"chunk"}
    assert rig.poll_node(holds=(Fence(1, 7),)) == []
    assert rig.poll_node() == [Directives(1, chunks=(b"chunk",))]


def test_a_newer_poll_of_a_node_takes_the_place_of_the_older(rig: Rig) -> None:
    rig.nodes.park(peer("old"), NodePoll(NODE, "boot-1"), rig.clock.mono)
    rig.nodes.park(peer("new"), NodePoll(NODE, "boot-1"), rig.clock.mono)
    rig.take(DrainNode("a"))
    assert [who for who, _ in rig.nodes.answer([NODE], rig.clock.mono)] == [peer("new")]
    assert rig.nodes.answer([NODE], rig.clock.mono) == []


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_watched_job_tells_its_outcomes_as_they_are_committed(rig: Rig) -> None:
    rig.start()
    assert rig.poll_client(Watch(JOB)) == []
    (told,) = rig.told_clients(rig.finish())
    (news,) = told.news
    assert {(run.start, run.stop) for run in news.values} == {(0, 1), (1, 2)}
    assert news.state is JobState.DONE
    assert rig.poll_client(Watch(JOB, news.next))[0].news[0].values == ()


def test_who_watches_only_for_the_end_is_not_told_of_outcomes(rig: Rig) -> None:
    rig.start(items=3)
    assert rig.poll_client(Watch(JOB, outcomes=False)) == []
    (first, *_) = rig.engine.state.chunks.values()
    half = ChunkReport(first.fence, JOB, (ValueRun(first.start, first.stop, pack_block([b"v"])),))
    assert rig.told_clients(rig.report(half, holds=rig.live())) == []
    (told,) = rig.told_clients(rig.finish())
    assert (told.news[0].state, told.news[0].values) == (JobState.DONE, ())


def test_a_job_that_is_not_there_is_named_as_unknown(rig: Rig) -> None:
    assert rig.poll_client(Watch(JobId("nowhere"))) == [Polled(1, unknown=(JobId("nowhere"),))]


def test_a_cancelling_job_is_shown_as_running(rig: Rig) -> None:
    rig.start()
    rig.report(holds=rig.live())
    (first, *_) = rig.engine.state.chunks.values()
    half = ChunkReport(first.fence, JOB, (ValueRun(first.start, first.stop, pack_block([b"v"])),))
    rig.report(half, holds=rig.live())
    rig.take(CancelJob(JOB, "enough"))
    (told,) = rig.poll_client(Watch(JOB))
    assert (told.news[0].state, told.news[0].reason) == (JobState.RUNNING, "enough")


def test_a_newer_poll_of_a_client_replaces_the_older_with_its_watches(rig: Rig) -> None:
    rig.start()
    assert rig.poll_client(Watch(JOB)) == []
    assert rig.poll_client() == []
    assert rig.told_clients(rig.finish()) == []
    rig.clock.mono += PARKED_SECONDS_MAX + 1
    assert [message for _, message in rig.clients.answer_old(rig.clock.mono)] == [Polled(1)]


def test_two_clients_that_watch_one_job_are_both_told(rig: Rig) -> None:
    rig.start()
    assert rig.poll_client(Watch(JOB), name="one") == []
    assert rig.poll_client(Watch(JOB), name="two") == []
    assert len(rig.told_clients(rig.finish())) == 2


def test_news_of_many_jobs_stays_within_one_message(rig: Rig) -> None:
    """Invariant 6: each watched job has one large value; what does not fit waits for the next poll."""
    jobs = [JobId(f"job-{number}") for number in range(20)]
    for job in jobs:
        rig.start(job, 1)
    while rig.live():
        rig.finish(b"v" * (1 << 20))
    seen: set[JobId] = set()
    polls = 0
    while len(seen) < len(jobs):
        (told,) = rig.poll_client(*(Watch(job) for job in jobs if job not in seen))
        assert len(ANSWERS.encode(told)) <= MESSAGE_BYTES_MAX // 2
        assert sum(len(run.block) for news in told.news for run in news.values) <= PAGE_BYTES_MAX + (1 << 20) + 100
        seen |= {news.job for news in told.news}
        polls += 1
        assert polls <= len(jobs)
