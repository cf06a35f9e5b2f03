"""A thousand random jobs through the core, with the invariants on: the final tiling is exact each time."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulation.model_store import ModelStore
from windrow.common.blocks import pack_block
from windrow.common.messages import (
    Append,
    ChunkReport,
    CloseJob,
    ItemFailure,
    NodeHello,
    NumberItems,
    Report,
    StartJob,
    TaskInfo,
    ValueRun,
)
from windrow.common.options import Options
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Now, Range
from windrow.scheduler.core.commands import Dispatch, Effect
from windrow.scheduler.core.events import Asked, BrokerChanged, Event, Tick
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.state import CoreSettings

JOBS_IN_ALL = 1_000
JOBS_EACH = 10
TASK = "t:work"


class Cluster:
    """The core and one obedient node that reports each chunk in pieces of random size, some of it as given back."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.store = ModelStore()
        self.store.begin_epoch()
        self.now = Now(0.0, 1e9)
        self.state = rebuild(self.store.load(), CoreSettings(), self.now)
        self.todo: list[Dispatch] = []
        self.failing: dict[JobId, dict[int, int]] = {}
        self.seq = 0
        self.take(BrokerChanged(True, ""))
        hello = NodeHello(NodeId("n"), "b", "n", "h", 1, 3, ("default",), tasks=(TaskInfo(TASK),))
        self.take(Asked(0, hello))

    def take(self, event: Event) -> None:
        commands = apply(self.state, event, self.now)
        check_invariants(self.state)
        self.store.commit([c for c in commands if not isinstance(c, Effect)])  # type: ignore[misc]
        self.todo += [c for c in commands if isinstance(c, Dispatch)]

    def start(self, job: JobId, items: int, failing: dict[int, int], retries: int, numbers: bool) -> None:
        self.failing[job] = failing
        options = Options(retries=retries, backoff_s=0.1)
        if numbers:
            self.take(Asked(0, StartJob(job, TASK, options=options, numbers=NumberItems(0, items))))
            return
        self.take(Asked(0, StartJob(job, TASK, options=options)))
        for first in range(0, items, 3_000):
            count = min(3_000, items - first)
            self.take(Asked(0, Append(job, first, count, pack_block([b"x"] * count))))
        self.take(Asked(0, CloseJob(job, items)))

    def run(self) -> None:
        for _ in range(100_000):
            if not self.state.jobs:
                return
            self.now = Now(self.now.mono + 0.3, self.now.wall + 0.3)
            self.take(Tick())
            todo, self.todo = self.todo, []
            reports = tuple(self.execute(order) for order in todo)
            self.seq += 1
            # Every fence is held until the answer, so the lease and the outcomes ride in one report.
            holds = tuple(order.fence for order in todo)
            self.take(Asked(0, Report(NodeId("n"), "b", self.seq, holds, reports)))
            self.seq += 1
            self.take(Asked(0, Report(NodeId("n"), "b", self.seq)))
        raise AssertionError("the jobs do not end")

    def execute(self, order: Dispatch) -> ChunkReport:
        stop = order.stop
        if order.stop - order.start > 1 and self.data.draw(st.integers(0, 9)) == 0:
            stop = self.data.draw(st.integers(order.start, order.stop))
        released = (Range(stop, order.stop),) if stop < order.stop else ()
        failures: list[ItemFailure] = []
        values: list[ValueRun] = []
        failing = self.failing[order.job]
        at = order.start
        for item in sorted(i for i in failing if order.start <= i < stop):
            used = next((n for s, e, n in order.attempts if s <= item < e), 0)
            if used < failing[item]:
                values += self.values(at, item)
                kind = FailureKind.CRASH if item % 7 == 0 else FailureKind.ERROR
                failures.append(ItemFailure(item, kind, "E", alone=order.alone))
                at = item + 1
        values += self.values(at, stop)
        return ChunkReport(order.fence, order.job, tuple(values), tuple(failures), released, busy_s=0.001)

    @staticmethod
    def values(start: int, stop: int) -> list[ValueRun]:
        return [ValueRun(start, stop, pack_block([b"v"] * (stop - start)))] if start < stop else []


@st.composite
def job_plans(draw: st.DrawFn) -> tuple[int, dict[int, int], int, bool]:
    items = draw(st.one_of(st.integers(0, 40), st.integers(0, 10_000)))
    failing = draw(st.dictionaries(st.integers(0, max(0, items - 1)), st.integers(1, 4), max_size=8)) if items else {}
    return items, failing, draw(st.integers(0, 3)), draw(st.booleans())


@settings(
    max_examples=JOBS_IN_ALL // JOBS_EACH,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(plans=st.lists(job_plans(), min_size=JOBS_EACH, max_size=JOBS_EACH), data=st.data())
def test_the_final_tiling_is_exact(plans: list[tuple[int, dict[int, int], int, bool]], data: st.DataObject) -> None:
    cluster = Cluster(data)
    for number, (items, failing, retries, numbers) in enumerate(plans):
        cluster.start(JobId(f"job{number}"), items, failing, retries, numbers)
    cluster.run()
    for number, (items, failing, retries, _) in enumerate(plans):
        job = cluster.store.jobs[number + 1]
        doomed = RangeSet((item, item + 1) for item, failures in failing.items() if failures > retries)
        assert job.failed == doomed
        expected = RangeSet([(0, items)])
        expected.subtract(doomed)
        assert job.values == expected
        assert job.last.state is (JobState.FAILED if doomed else JobState.DONE)


def test_a_fence_that_was_given_to_another_commits_nothing() -> None:
    """Invariant 4, at its smallest: the late report of a dead fence is answered politely and changes nothing."""
    store = ModelStore()
    store.begin_epoch()
    state = rebuild(store.load(), CoreSettings(), Now(0.0, 0.0))
    value = ValueRun(0, 1, pack_block([b"v"]))
    late = Report(NodeId("n"), "b", 1, (), (ChunkReport(Fence(1, 1), JobId("j"), (value,)),))
    commands = apply(state, Asked(1, late), Now(0.0, 0.0))
    assert [type(command).__name__ for command in commands] == ["Answer"]
    answer = commands[0]
    assert getattr(answer, "message").dead == (Fence(1, 1),)  # noqa: B009  (the union of answers has no common field)
