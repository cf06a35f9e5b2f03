"""Questions are answered from the core for what is live, and from the store for what has ended."""

from __future__ import annotations

import pytest

from tests.rim_bench import HandClock, Noted, RimDispatch, RimStore
from windrow.common.blocks import pack_block
from windrow.common.errors import StoreFailed
from windrow.common.messages import (
    ChunkReport,
    Explained,
    ExplainJob,
    FindJob,
    Health,
    HealthInfo,
    ItemFailure,
    JobInfo,
    Jobs,
    ListJobs,
    ListNodes,
    NodeHello,
    Nodes,
    NumberItems,
    Outcomes,
    ReadFailures,
    ReadResults,
    Refused,
    Report,
    StartJob,
    TaskInfo,
    ValueRun,
)
from windrow.common.words import FailureKind, JobId, JobState, NodeId
from windrow.scheduler.core.events import BrokerChanged, Change
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.engine import Engine
from windrow.scheduler.reading import Question, Reader, Reply

NODE = NodeId("node-a")
TASK = "t:work"


class Rig:
    def __init__(self) -> None:
        self.story: list[Noted] = []
        self.store = RimStore(self.story)
        self.clock = HandClock()
        self.engine = Engine(self.store, RimDispatch(self.story), CoreSettings(), self.clock)
        self.reader = Reader(self.engine, self.store, "1.2.3", self.clock.mono)
        self.engine.turn([], [BrokerChanged(True, "well")])

    def take(self, *changes: Change) -> None:
        self.engine.turn(list(enumerate(changes)), [])

    def start(self, job: str, items: int = 1) -> JobId:
        self.take(StartJob(JobId(job), TASK, numbers=NumberItems(0, items)))
        return JobId(job)

    def ask(self, question: Question) -> Reply:
        return self.reader.answer(question, self.clock())

    def refused(self, question: Question) -> Refused:
        answer = self.ask(question)
        assert isinstance(answer, Refused)
        return answer


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_job_is_found_by_id_prefix_or_as_the_last(rig: Rig) -> None:
    rig.start("abc1")
    rig.start("abd2", 0)
    for named, job in (("abc1", "abc1"), ("abc", "abc1"), ("abd2", "abd2"), ("last", "abd2")):
        found = rig.ask(FindJob(named))
        assert isinstance(found, JobInfo)
        assert found.id == job


def test_an_id_that_begins_another_is_found_all_the_same(rig: Rig) -> None:
    rig.start("job1")
    rig.start("job10")
    found = rig.ask(FindJob("job1"))
    assert isinstance(found, JobInfo)
    assert found.id == "job1"


def test_what_is_not_there_or_not_one_thing_is_refused_with_a_way_out(rig: Rig) -> None:
    assert "no job yet" in rig.refused(FindJob("last")).message
    rig.start("abc1")
    rig.start("abd2")
    assert "abc1, abd2; give more characters" in rig.refused(FindJob("ab")).message
    for named in ("", "zzz"):
        assert rig.refused(FindJob(named)).code == "not_found"
    assert rig.refused(FindJob("zzz")).message.endswith("see `windrow jobs`")


def test_lists_show_live_jobs_as_they_are_now(rig: Rig) -> None:
    rig.take(NodeHello(NODE, "b", "a", "h", 1, 1, ("default",), tasks=(TaskInfo(TASK),)))
    job = rig.start("abc1", 2)
    fence = next(iter(rig.engine.state.chunks))
    value = ValueRun(0, 1, pack_block([b"v"]))
    rig.take(Report(NODE, "b", 1, (fence,), (ChunkReport(fence, job, (value,)),)))
    listed = rig.ask(ListJobs())
    assert isinstance(listed, Jobs)
    assert [(info.id, info.done) for info in listed.jobs] == [("abc1", 1)]


def test_outcomes_come_with_the_job_and_the_newest_sequence(rig: Rig) -> None:
    rig.take(NodeHello(NODE, "b", "a", "h", 1, 1, ("default",), tasks=(TaskInfo(TASK),)))
    job = rig.start("abc1", 2)
    one, two = rig.engine.state.chunks
    value = ValueRun(0, 1, pack_block([b"v"]))
    failure = ItemFailure(1, FailureKind.ERROR, "E")
    reports = (ChunkReport(one, job, (value,)), ChunkReport(two, job, failures=(failure,)))
    rig.take(Report(NODE, "b", 1, (), reports))
    said = rig.ask(ReadResults(job))
    assert isinstance(said, Outcomes)
    assert (said.job.state, said.values, said.sequence) == (JobState.FAILED, (value,), 1)
    failures = rig.ask(ReadFailures(job))
    assert isinstance(failures, Outcomes)
    assert [each.item for each in failures.failures] == [1]


def test_an_item_of_an_ended_job_is_explained_by_its_outcome(rig: Rig) -> None:
    rig.take(NodeHello(NODE, "b", "a", "h", 1, 1, ("default",), tasks=(TaskInfo(TASK),)))
    job = rig.start("abc1", 2)
    one, two = rig.engine.state.chunks
    value = ValueRun(0, 1, pack_block([b"v"]))
    failure = ItemFailure(1, FailureKind.ERROR, "E")
    rig.take(
        Report(NODE, "b", 1, (), (ChunkReport(one, job, (value,)), ChunkReport(two, job, failures=(failure,)))),
    )
    for asked, item, words in ((job, 0, "item 0 is done"), (job, 1, "rests in quarantine"), (job, None, "1 failed")):
        said = rig.ask(ExplainJob(asked, item))
        assert isinstance(said, Explained)
        assert words in said.reasons[0]


def test_nodes_are_sorted_by_name(rig: Rig) -> None:
    for number, name in enumerate("ba"):
        rig.take(NodeHello(NodeId(f"n{number}"), "b", name, "h", 1, 1, ("default",)))
    said = rig.ask(ListNodes())
    assert isinstance(said, Nodes)
    assert [node.name for node in said.nodes] == ["a", "b"]


def test_health_says_what_is_the_matter(rig: Rig) -> None:
    rig.start("abc1")
    rig.clock.mono += 5
    well = rig.ask(Health())
    assert isinstance(well, HealthInfo)
    assert (well.broker, well.store, well.uptime_s, well.jobs, well.version) == ("ok", "ok", 5.0, 1, "1.2.3")
    rig.store.trouble = "disk full"
    rig.engine.turn([], [BrokerChanged(False, "refused")])
    ill = rig.ask(Health())
    assert isinstance(ill, HealthInfo)
    assert (ill.broker, ill.broker_detail, ill.store, ill.store_detail) == ("bad", "refused", "bad", "disk full")


def test_a_store_that_cannot_be_read_is_a_refusal_not_the_end(rig: Rig) -> None:
    rig.store.fail_reads = StoreFailed("disk gone")
    assert rig.refused(ListJobs()) == Refused("store_failed", "disk gone")
