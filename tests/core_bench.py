"""A bench for the core: events in, commands out, all accounted for, with the clock in the test's hand.

Each request and answer passes the real codec, each command reaches a store in memory, and the invariants are checked
after each event. What a test does not take out of `out` makes it fail at its end (see `expect_nothing`).
"""

from __future__ import annotations

from typing import TypeVar

from tests.simulation.model_store import ModelStore
from windrow.common.blocks import pack_block
from windrow.common.messages import (
    ANSWERS,
    REQUESTS,
    Append,
    ChunkReport,
    CloseJob,
    ItemFailure,
    NodeHello,
    NodeWelcome,
    NumberItems,
    Refused,
    Report,
    Reported,
    Started,
    StartJob,
    TaskInfo,
    ValueRun,
)
from windrow.common.options import Options
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Now, Range
from windrow.scheduler.core.commands import Answer, Command, Dispatch, Effect, OpenNode
from windrow.scheduler.core.events import (
    Asked,
    BrokerChanged,
    Change,
    DependencyKnown,
    Event,
    Recalled,
    Sent,
    Tick,
)
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.records import PutNode
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.state import Chunk, CoreSettings, ItemTime, Job, Node, State

C = TypeVar("C")
T = TypeVar("T")

TASK = "t:work"
NODE = NodeId("node-a")
JOB = JobId("job-a")
WALL_S = 1_700_000_000.0


class Bench:
    """One core on a store in memory, at a time that only the test moves."""

    def __init__(self, settings: CoreSettings | None = None, *, broker_up: bool = True) -> None:
        self.settings = settings or CoreSettings()
        self.mono = 100.0
        self.wall_offset_s = WALL_S
        self.store = ModelStore()
        self.store.begin_epoch()
        self.out: list[Command] = []
        self._seq = 0
        self._asks = 0
        self.state: State = rebuild(self.store.load(), self.settings, self.now)
        if broker_up:
            self.take(BrokerChanged(True, ""))

    # ── Time and events ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> Now:
        return Now(self.mono, self.wall_offset_s + self.mono)

    def take(self, event: Event) -> None:
        """One event; its commands are committed and then wait in `out`."""
        commands = apply(self.state, event, self.now)
        check_invariants(self.state)
        self.store.commit([command for command in commands if not isinstance(command, Effect)])  # type: ignore[misc]
        self.out += commands

    def tick(self, after_s: float = 0.0) -> None:
        self.mono += after_s
        self.take(Tick())

    def ask(self, change: Change) -> object:
        """A request as it comes over the wire, with what the rim looks up for it; returns the answer as it leaves."""
        change = REQUESTS.decode(REQUESTS.encode(change))  # type: ignore[assignment]  # reads are in the set as well
        self._recall_for(change)
        self._asks += 1
        self.take(Asked(self._asks, change))
        answer = self.out.pop()
        assert isinstance(answer, Answer)
        assert answer.ask == self._asks
        return ANSWERS.decode(ANSWERS.encode(answer.message))

    def ask_for(self, kind: type[T], change: Change) -> T:
        """As `ask`, for an answer of this kind."""
        answer = self.ask(change)
        assert isinstance(answer, kind), answer
        return answer

    def _recall_for(self, change: Change) -> None:
        for dependency in getattr(change, "after", ()):
            if dependency not in self.state.jobs:
                stored = self.store.find_job(dependency)
                self.take(DependencyKnown(dependency, stored.state if stored is not None else None))
        job = getattr(change, "job", None)
        stored = self.store.find_job(job) if job is not None and job not in self.state.jobs else None
        if stored is not None:
            self.take(Recalled(stored))

    # ── What came out ────────────────────────────────────────────────────────────────────────────────────────────

    def expect(self, *commands: Command) -> None:
        """These commands, in this order, and nothing else."""
        found, self.out = self.out, []
        assert found == list(commands)

    def expect_nothing(self) -> None:
        assert self.out == [], "commands that the test has not accounted for"

    def pick(self, kind: type[C]) -> list[C]:
        """Take the commands of one kind out; the others stay to be accounted for."""
        found = [command for command in self.out if isinstance(command, kind)]
        self.out = [command for command in self.out if not isinstance(command, kind)]
        return found

    def pick_one(self, kind: type[C]) -> C:
        (found,) = self.pick(kind)
        return found

    def drop_rest(self) -> None:
        """What came so far is not what this test is about."""
        self.out.clear()

    # ── Ways into a situation; each accounts for its own output ──────────────────────────────────────────────────

    def join(
        self,
        node: NodeId = NODE,
        *,
        slots: int = 1,
        boot: str = "boot-1",
        queues: tuple[str, ...] = ("default",),
        tasks: tuple[str, ...] = (TASK,),
        holds: tuple[Fence, ...] = (),
        host: str = "host",
    ) -> NodeWelcome:
        """A node says hello, and nothing but its row and its way comes of it (and what it freed, left in `out`)."""
        hello = NodeHello(node, boot, f"name of {node}", host, 1, slots, queues, tasks=named(*tasks), holds=holds)
        welcome = self.ask_for(NodeWelcome, hello)
        assert self.pick_one(PutNode).id == node
        assert self.pick(OpenNode) == [OpenNode(node)]
        return welcome

    def start(
        self,
        job: JobId = JOB,
        items: int = 10,
        *,
        options: Options = Options(),
        after: tuple[JobId, ...] = (),
        key: str | None = None,
        by_append: bool = False,
        task: str = TASK,
    ) -> Job:
        """A job of numbers, or of one append of such many items."""
        if by_append:
            self.ask_for(Started, StartJob(job, task, options=options, after=after, key=key))
            assert not isinstance(self.ask(append(job, 0, items)), Refused)
            assert not isinstance(self.ask(CloseJob(job, items)), Refused)
        else:
            numbers = NumberItems(0, items)
            self.ask_for(Started, StartJob(job, task, options=options, after=after, key=key, numbers=numbers))
        self.drop_rest()
        return self.state.jobs[job]

    def know_item_time(self, item_s: float, measured: int = 1_000_000, task: str = TASK) -> None:
        """As if so many items of the task had been measured."""
        self.state.times[task] = ItemTime(item_s, measured)

    def place(self, after_s: float = 0.0) -> list[Dispatch]:
        """Plan; what was placed, and nothing else is accounted for."""
        self.tick(after_s)
        placed = self.pick(Dispatch)
        self.drop_rest()
        return placed

    def place_one(self, after_s: float = 0.0) -> Dispatch:
        (placed,) = self.place(after_s)
        return placed

    def sent(self, order: Dispatch) -> None:
        self.take(Sent(order.fence))

    def lease(self, *orders: Dispatch, node: NodeId = NODE, boot: str = "boot-1") -> None:
        """The node says that it holds these and nothing else."""
        assert self.report(holds=tuple(order.fence for order in orders), node=node, boot=boot).dead == ()
        self.drop_rest()

    def report(
        self,
        *chunks: ChunkReport,
        holds: tuple[Fence, ...] = (),
        node: NodeId = NODE,
        boot: str = "boot-1",
        seq: int | None = None,
        leaving: bool = False,
    ) -> Reported:
        self._seq += 1
        number = self._seq if seq is None else seq
        return self.ask_for(Reported, Report(node, boot, number, holds, chunks, leaving=leaving))

    def finish(self, order: Dispatch, *, node: NodeId = NODE, boot: str = "boot-1") -> None:
        """The node reports a value for each item of the chunk, holds nothing more, and is told nothing."""
        said = self.report(values_of(order), node=node, boot=boot, holds=(order.fence,))
        assert said.dead == ()
        self.drop_rest()
        self.report(node=node, boot=boot)
        self.drop_rest()

    def restart(self) -> None:
        """The scheduler dies and another one takes over what is durable, under the next epoch."""
        self.store.begin_epoch()
        self.state = rebuild(self.store.load(), self.settings, self.now)
        check_invariants(self.state)
        self.take(BrokerChanged(True, ""))

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────

    def job(self, job: JobId = JOB) -> Job:
        return self.state.jobs[job]

    def job_state(self, job: JobId = JOB) -> JobState:
        """As of the store, where a job can be found when it has left the core too."""
        stored = self.store.find_job(job)
        assert stored is not None
        return stored.state

    def node(self, node: NodeId = NODE) -> Node:
        return self.state.nodes[node]

    def chunk(self, order: Dispatch) -> Chunk:
        return self.state.chunks[order.fence]


def named(*tasks: str) -> tuple[TaskInfo, ...]:
    return tuple(TaskInfo(task) for task in tasks)


def block_of(count: int, entry: bytes = b"v") -> bytes:
    return pack_block([entry] * count)


def append(job: JobId, first: int, count: int, entry: bytes = b"i", delay_s: float = 0.0) -> Append:
    return Append(job, first, count, block_of(count, entry), delay_s)


def values(start: int, stop: int) -> ValueRun:
    return ValueRun(start, stop, block_of(stop - start))


def values_of(order: Dispatch, start: int | None = None, stop: int | None = None) -> ChunkReport:
    """Values for the whole chunk, or for a part of it."""
    run = values(order.start if start is None else start, order.stop if stop is None else stop)
    return ChunkReport(order.fence, order.job, (run,), busy_s=0.001)


def failure_of(
    order: Dispatch, item: int, kind: FailureKind = FailureKind.ERROR, *, alone: bool = False
) -> ChunkReport:
    return ChunkReport(order.fence, order.job, failures=(ItemFailure(item, kind, "E", "why", "where", alone),))


def released_of(order: Dispatch, *parts: tuple[int, int]) -> ChunkReport:
    return ChunkReport(order.fence, order.job, released=tuple(Range(*part) for part in parts))


def tombstone(fence: Fence) -> ChunkReport:
    """The answer to `give_up` of a fence that the node does not have."""
    return ChunkReport(fence, JobId(""))


def ranges(*parts: tuple[int, int]) -> RangeSet:
    return RangeSet(parts)
