"""A small world around the real core: virtual clock, lossy links, a broker, nodes and a scheduler that crash.

Every message passes through the real codec, the invariants are checked after every step, and one seed replays a run.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.model_store import ModelStore
from windrow.common.blocks import pack_block
from windrow.common.messages import (
    ANSWERS,
    REQUESTS,
    Append,
    CancelJob,
    ChunkReport,
    CloseJob,
    Directives,
    ItemFailure,
    NodeHello,
    NodeWelcome,
    NumberItems,
    PauseJob,
    Refused,
    Report,
    Reported,
    RetryJob,
    Started,
    StartJob,
    TaskInfo,
    ValueRun,
)
from windrow.common.options import OnLost, Options
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Now, Range
from windrow.scheduler.core.commands import Answer, Dispatch, Effect, EmptyNode
from windrow.scheduler.core.events import Asked, BrokerChanged, Event, QueueSeen, Recalled, Sent, Tick, Unsent
from windrow.scheduler.core.info import directives
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.leases import nodes_to_look_at
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.state import CoreSettings, State

WALL_OFFSET_S = 1_700_000_000.0
SETTINGS = CoreSettings(dispatch="amqp")
TASK = "sim:work"


@dataclass
class Faults:
    """Chances of what may go wrong, until `until_s`."""

    until_s: float = 60.0
    lose: float = 0.05
    repeat: float = 0.05
    delay_s: float = 0.2
    crash_every_s: float = 8.0
    wipe_broker: float = 0.2


class World:
    """The clock, the links and everybody on them."""

    def __init__(self, seed: int, faults: Faults, nodes: int = 3) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.store = ModelStore()
        self.broker = Broker(self)
        self.scheduler = Scheduler(self)
        self.nodes = [Node(self, NodeId(f"node{n}"), slots=self.dice.randint(1, 3)) for n in range(nodes)]
        self.clients: list[Client] = []
        self.executed: Counter[tuple[JobId, int]] = Counter()
        self.scheduler.start()
        for node in self.nodes:
            node.start()
        self.later(self._fault_gap(), self._crash_someone)

    def at(self, delay_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, act))

    later = at

    @property
    def faulty(self) -> bool:
        return self.now < self.faults.until_s

    def link(self, act: Callable[[], None]) -> None:
        """One message on a link: it may be lost, come twice, or late."""
        if self.faulty and self.dice.random() < self.faults.lose:
            return
        self.at(self._latency(), act)
        if self.faulty and self.dice.random() < self.faults.repeat:
            self.at(self._latency() * 5, act)

    def _latency(self) -> float:
        slow = self.faulty and self.dice.random() < 0.1
        return self.dice.uniform(0.0001, 0.002) + (self.dice.uniform(0, self.faults.delay_s) if slow else 0.0)

    def _fault_gap(self) -> float:
        return self.dice.expovariate(1 / self.faults.crash_every_s)

    def _crash_someone(self) -> None:
        if not self.faulty:
            return
        whom = self.dice.randrange(5)
        if whom == 0:
            self.scheduler.crash()
        elif whom == 1:
            self.broker.crash(wiped=self.dice.random() < self.faults.wipe_broker)
        else:
            self.dice.choice(self.nodes).crash()
        self.at(self._fault_gap(), self._crash_someone)

    def run(self, until_s: float) -> None:
        """Until every client is content, or the time is over: then the run has no liveness."""
        while self._queue:
            if self.clients and all(client.content for client in self.clients):
                return
            when, _, act = heapq.heappop(self._queue)
            assert when < until_s, f"seed {self.seed}: not at its end after {until_s} s: {self.story()}"
            self.now = when
            act()
        raise AssertionError(f"seed {self.seed}: the world stood still")

    def story(self) -> str:
        state = self.scheduler.state
        jobs = [] if state is None else [f"{j.id} {j.state} p{j.pending} {list(j.chunks)}" for j in state.jobs.values()]
        return f"{jobs}; {[(n.id, sorted(n.book)) for n in self.nodes]}"


class Scheduler:
    """The real core on the model store."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state: State | None = None
        self.life = 0
        self._answers: dict[int, Callable[[bytes], None]] = {}
        self._asks = 0

    def start(self) -> None:
        self.life += 1
        self.world.store.begin_epoch()
        self.state = rebuild(self.world.store.load(), SETTINGS, self._now())
        check_invariants(self.state)
        self.world.broker.tell()
        self._tick(self.life)

    def crash(self) -> None:
        if self.state is None:
            return
        self.state = None
        self._answers.clear()
        self.world.later(self.world.dice.uniform(0.1, 9.0), self.start)

    def _now(self) -> Now:
        return Now(self.world.now, self.world.now + WALL_OFFSET_S)

    def _tick(self, life: int) -> None:
        if self.state is None or life != self.life:
            return
        self.on_event(Tick())
        for node in nodes_to_look_at(self.state, self._now()):
            self.world.broker.look(node)
        self.world.later(0.05, lambda: self._tick(life))

    def request(self, data: bytes, answer: Callable[[bytes], None]) -> None:
        if self.state is None:
            return
        change = REQUESTS.decode(data)
        if isinstance(change, (CancelJob, RetryJob, StartJob, CloseJob, Append)) and change.job not in self.state.jobs:
            stored = self.world.store.find_job(change.job)
            if stored is not None:
                self.on_event(Recalled(stored))
        self._asks += 1
        self._answers[self._asks] = answer
        self.on_event(Asked(self._asks, change))  # type: ignore[arg-type]  # REQUESTS holds reads too; none is sent
        self.on_event(Tick())

    def poll(self, node: NodeId, boot: str, answer: Callable[[bytes], None]) -> None:
        if self.state is not None:
            answer(ANSWERS.encode(directives(self.state, node, boot)))

    def on_event(self, event: Event) -> None:
        if self.state is None:
            return
        commands = apply(self.state, event, self._now())
        if commands or not isinstance(event, Tick):
            check_invariants(self.state)
        self.world.store.commit([c for c in commands if not isinstance(c, Effect)])  # type: ignore[misc]
        for command in commands:
            match command:
                case Answer(ask, message):
                    self._answers.pop(ask)(ANSWERS.encode(message))
                case Dispatch():
                    self.world.broker.publish(command)
                case EmptyNode(node):
                    self.world.broker.empty(node)
                case _:
                    pass


class Broker:
    """A queue for each node; confirms; may die, with or without its messages."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.queues: dict[NodeId, list[tuple[Dispatch, bool]]] = {}

    def tell(self) -> None:
        self.world.scheduler.on_event(BrokerChanged(self.up, "" if self.up else "down"))

    def crash(self, *, wiped: bool) -> None:
        if not self.up:
            return
        self.up = False
        if wiped:
            self.queues.clear()
        for node in self.world.nodes:
            node.on_broker_lost()
        self.tell()
        self.world.later(self.world.dice.uniform(0.5, 5.0), self._restart)

    def _restart(self) -> None:
        self.up = True
        self.tell()
        for node in list(self.queues):
            self._deliver(node)

    def publish(self, message: Dispatch) -> None:
        if not self.up or self.world.dice.random() < (0.02 if self.world.faulty else 0.0):
            # Half of the refused ones have got through all the same.
            if self.up and self.world.dice.random() < 0.5:
                self._accept(message)
            self.world.at(0.001, lambda: self.world.scheduler.on_event(Unsent(message.fence, "not confirmed")))
            return
        self._accept(message)
        self.world.at(0.002, lambda: self.world.scheduler.on_event(Sent(message.fence)))

    def _accept(self, message: Dispatch) -> None:
        self.queues.setdefault(message.node, []).append((message, False))
        self.world.at(self.world.dice.uniform(0.0001, 0.01), lambda: self._deliver(message.node))

    def _deliver(self, node_id: NodeId) -> None:
        node = next(node for node in self.world.nodes if node.id == node_id)
        if self.up and node.alive:
            waiting, self.queues[node_id] = self.queues.get(node_id, []), []
            for message, redelivered in waiting:
                node.on_delivery(message, redelivered)

    def put_back(self, node_id: NodeId, messages: list[Dispatch]) -> None:
        self.queues.setdefault(node_id, [])[:0] = [(message, True) for message in messages]

    def empty(self, node: NodeId) -> None:
        if self.up:
            self.queues.pop(node, None)

    def look(self, node: NodeId) -> None:
        if self.up:
            ready = len(self.queues.get(node, ()))
            self.world.at(0.001, lambda: self.world.scheduler.on_event(QueueSeen(node, ready)))

    def on_node_up(self, node: NodeId) -> None:
        self._deliver(node)


@dataclass
class Holding:
    """One chunk at a node."""

    message: Dispatch
    unfed: RangeSet
    unreported: RangeSet
    values: list[ValueRun] = field(default_factory=list)
    failures: list[ItemFailure] = field(default_factory=list)
    released: list[Range] = field(default_factory=list)
    acked: bool = False
    startable: bool = True
    busy_s: float = 0.0


class Node:
    """A node as the protocol asks for it, with items that take virtual time."""

    def __init__(self, world: World, node_id: NodeId, slots: int) -> None:
        self.world = world
        self.id = node_id
        self.slots = slots
        self.alive = False
        self.boots = 0
        self.book: dict[Fence, Holding] = {}
        self.busy = 0
        self.joined = False
        self.seq = 0
        self.given_up: set[Fence] = set()
        self.disowned: set[Fence] = set()

    def start(self) -> None:
        self.alive, self.joined = True, False
        self.boots += 1
        self.book.clear()
        self.given_up.clear()
        self.disowned.clear()
        self.busy = 0
        self.world.broker.on_node_up(self.id)
        self._beat(self.boots)

    def crash(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self.on_broker_lost()
        self.world.later(self.world.dice.uniform(0.1, 15.0), self.start)

    def on_broker_lost(self) -> None:
        """Unacknowledged deliveries go back into the queue."""
        self.world.broker.put_back(self.id, [h.message for h in self.book.values() if not h.acked])

    def on_delivery(self, message: Dispatch, redelivered: bool) -> None:
        held = self.book.get(message.fence)
        if held is None and message.fence not in self.given_up:
            whole = [(message.start, message.stop)]
            startable = not (redelivered or message.lease_first)
            self.book[message.fence] = Holding(message, RangeSet(whole), RangeSet(whole), startable=startable)
            self._feed()
            self._report()

    def _beat(self, boot: int) -> None:
        if not self.alive or boot != self.boots:
            return
        if self.joined:
            self._report()
            self.world.link(
                lambda: self.world.scheduler.poll(self.id, str(boot), lambda d: self._on_directives(boot, d))
            )
        else:
            hello = NodeHello(
                self.id, str(boot), self.id, self.id, 1, self.slots, ("default",),
                tasks=(TaskInfo(TASK),), holds=tuple(self.book),
            )  # fmt: skip
            self._ask(REQUESTS.encode(hello), lambda data: self._on_welcome(boot, data))
        self.world.later(0.5, lambda: self._beat(boot))

    def _ask(self, data: bytes, on_answer: Callable[[bytes], None]) -> None:
        def answer(reply: bytes) -> None:
            self.world.link(lambda: on_answer(reply))

        self.world.link(lambda: self.world.scheduler.request(data, answer))

    def _on_welcome(self, boot: int, data: bytes) -> None:
        if self.alive and boot == self.boots:
            assert isinstance(ANSWERS.decode(data), NodeWelcome), ANSWERS.decode(data)
            self.joined = True

    def _on_directives(self, boot: int, data: bytes) -> None:
        said = ANSWERS.decode(data)
        assert isinstance(said, Directives)
        if not self.alive or boot != self.boots:
            return
        if said.rejoin:
            self.joined = False
        for fence in said.dead:
            self.book.pop(fence, None)
        for fence in said.give_up:
            held = self.book.get(fence)
            if held is None:
                self.given_up.add(fence)
                self.disowned.add(fence)
                continue
            held.released += list(held.unfed)
            held.unreported.subtract(held.unfed)
            held.unfed.clear()
        if said.give_up:
            self._report()

    def _report(self) -> None:
        """One report of everything that is new; what the answer settles is exactly what this report carried."""
        if not self.joined:
            return
        self.seq += 1
        boot = self.boots
        parts = {f: (len(h.values), len(h.failures), len(h.released)) for f, h in self.book.items()}
        chunks = tuple(
            ChunkReport(f, h.message.job, tuple(h.values), tuple(h.failures), tuple(h.released), busy_s=h.busy_s)
            for f, h in self.book.items()
            if h.values or h.failures or h.released
        ) + tuple(ChunkReport(fence, JobId("")) for fence in self.disowned)
        self.disowned.clear()
        report = Report(self.id, str(boot), self.seq, tuple(self.book), chunks)
        self._ask(REQUESTS.encode(report), lambda data: self._on_reported(boot, parts, data))

    def _on_reported(self, boot: int, parts: dict[Fence, tuple[int, int, int]], data: bytes) -> None:
        said = ANSWERS.decode(data)
        assert isinstance(said, Reported), said
        if not self.alive or boot != self.boots:
            return
        if said.rejoin:
            self.joined = False
        for fence in said.dead:
            self.book.pop(fence, None)
        for fence in parts:
            held = self.book.get(fence)
            if held is None or said.rejoin:
                continue
            held.acked = True
            held.startable = True
            if not held.unreported and parts[fence] == (len(held.values), len(held.failures), len(held.released)):
                del self.book[fence]
        self._feed()

    def _feed(self) -> None:
        for fence, held in self.book.items():
            while held.startable and held.unfed and self.busy < self.slots:
                start = held.unfed.first.start
                stop = min(held.unfed.first.stop, start + self.world.dice.randint(1, 50))
                held.unfed.remove(start, stop)
                self.busy += 1
                busy_s = (stop - start) * self.world.dice.choice((0.002, 0.02, 0.2)) * self.world.dice.random()
                self.world.later(busy_s, functools.partial(self._on_fed, self.boots, fence, start, stop, busy_s))

    def _on_fed(self, boot: int, fence: Fence, start: int, stop: int, busy_s: float) -> None:
        if not self.alive or boot != self.boots:
            return
        self.busy -= 1
        held = self.book.get(fence)
        if held is not None:
            run_start = start
            for item in range(start, stop):
                self.world.executed[held.message.job, item] += 1
                if kills_its_node(held.message.job, item):
                    self.crash()
                    return
                kind = self._fate(held.message, item)
                if kind is None:
                    continue
                if item > run_start:
                    self._value(held, run_start, item)
                run_start = item + 1
                held.failures.append(ItemFailure(item, kind, "Sim", alone=held.message.alone))
            if run_start < stop:
                self._value(held, run_start, stop)
            held.unreported.remove(start, stop)
            held.busy_s += busy_s
        self._feed()
        self._report()

    def _value(self, held: Holding, start: int, stop: int) -> None:
        held.values.append(ValueRun(start, stop, pack_block([b"%d" % item for item in range(start, stop)])))

    def _fate(self, message: Dispatch, item: int) -> FailureKind | None:
        used = next((number for s, e, number in message.attempts if s <= item < e), 0)
        return fate(message.job, item, used)


@functools.cache
def fate(job: JobId, item: int, attempts_used: int) -> FailureKind | None:
    """What becomes of an attempt: some items fail at first, some always, some crash their worker."""
    lot = random.Random(f"{job}/{item}").random()
    if lot < 0.01:
        return FailureKind.ERROR
    if lot < 0.03:
        return FailureKind.ERROR if attempts_used < 2 else None
    if lot < 0.035:
        return FailureKind.CRASH
    return None


@functools.cache
def kills_its_node(job: JobId, item: int) -> bool:
    """A few items take their machine with them, each time."""
    return random.Random(f"killer {job}/{item}").random() < (0.02 if job.startswith("killer") else 0.0)


class Client:
    """Starts one job, by numbers or by appends, sends again what is not answered, may cancel, waits for its end."""

    def __init__(
        self,
        world: World,
        job: JobId,
        items: int,
        *,
        by_append: bool,
        options: Options,
        cancel: bool = False,
        pause: bool = False,
    ) -> None:
        self.world = world
        self.job = job
        self.items = items
        self.by_append = by_append
        self.cancel = cancel
        self.pause = pause
        self.options = options
        self.content = False
        self._steps = self._script()
        self._current: object = None
        self._life = 0
        world.clients.append(self)
        self._next()

    def _script(self) -> list[object]:
        changes: list[object] = [PauseJob(self.job), PauseJob(self.job, resume=True)] if self.pause else []
        if not self.by_append:
            return [StartJob(self.job, TASK, options=self.options, numbers=NumberItems(0, self.items)), *changes]
        steps: list[object] = [StartJob(self.job, TASK, options=self.options), *changes]
        at = 0
        while at < self.items:
            count = min(self.items - at, self.world.dice.randint(1, 400))
            steps.append(Append(self.job, at, count, pack_block([b"x"] * count)))
            at += count
        if self.cancel:
            steps.insert(self.world.dice.randint(1, len(steps)), CancelJob(self.job, "because"))
        steps.append(CloseJob(self.job, self.items))
        return steps

    def _next(self) -> None:
        self._life += 1
        if self._steps:
            self._current = self._steps.pop(0)
            self._send(self._life)
        else:
            self._wait()

    def _send(self, life: int) -> None:
        if life != self._life:
            return
        data = REQUESTS.encode(self._current)
        answer = lambda reply: self.world.link(lambda: self._on_answer(life, reply))  # noqa: E731
        self.world.link(lambda: self.world.scheduler.request(data, answer))
        self.world.later(1.0, lambda: self._send(life))

    def _on_answer(self, life: int, data: bytes) -> None:
        if life != self._life:
            return
        said = ANSWERS.decode(data)
        if isinstance(said, Refused):
            # Whoever stops or finishes a job takes the ground from under what comes later.
            may_be = self.cancel or self.pause or self.options.max_failures is not None
            assert may_be, f"seed {self.world.seed}: {said}"
        if isinstance(said, Started):
            assert said.job == self.job
        self._next()

    def _wait(self) -> None:
        stored = self.world.store.find_job(self.job)
        assert stored is not None, "what was answered must be in the store"
        self.content = stored.state in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
        if stored.state is JobState.PAUSED:
            # A copy of the pause that came late was the last word: whoever waits looks, and resumes again.
            data = REQUESTS.encode(PauseJob(self.job, resume=True))
            self.world.link(lambda: self.world.scheduler.request(data, lambda reply: None))
        if not self.content:
            self.world.later(0.5, self._wait)


def expect_exact_end(world: World) -> None:
    """Outcomes tile each job, and are what the items' fates say."""
    for job in world.store.jobs.values():
        job_id, last = job.put.id, job.last
        options = job.put.options
        if options.on_lost is OnLost.FAIL:
            for item in range(last.total):
                runs = world.executed[job_id, item]
                assert runs <= 1, f"seed {world.seed}: item {item} of {job_id} ran {runs} times"
        if last.state is JobState.CANCELLED or last.cancelled:
            continue
        assert last.total == next(client.items for client in world.clients if client.job == job_id)
        retries = options.retries
        doomed = RangeSet()
        for item in range(last.total):
            if fate(job_id, item, retries) or kills_its_node(job_id, item):
                doomed.add(item, item + 1)
        # Machines die in droves here: an item may be taken for the cause, or be lost where on_lost forbids another run.
        lost = RangeSet((i, i + 1) for i, kind in job.kinds.items() if kind in (FailureKind.LOST, FailureKind.NODE))
        doomed.update(lost)
        assert job.failed == doomed, f"seed {world.seed}: {job.failed} failed instead of {doomed}"
        assert len(job.values) == last.total - len(doomed)
