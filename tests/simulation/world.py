"""The whole world of one scenario: schedulers, broker, nodes and clients on one virtual clock, and what befalls them.

The core, the engine, the loop, the codec, the node daemon with all its parts but processes, and the streams of
clients are the real ones; sockets, worker processes, disks and the broker are models.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import structlog

import windrow.node.consumer
from tests.simulation.broker import Broker, SimConsumer
from tests.simulation.clients import AdminHost, ClientHost
from tests.simulation.clock import Clock, Finding, Process
from tests.simulation.links import SimLink
from tests.simulation.model_store import ModelStore
from tests.simulation.nodes import NodeHost, NoOomKills, SimMeter, SimSpool
from tests.simulation.scenario import Fault, FaultKind, NodePlan, Scenario
from tests.simulation.schedulers import RESTART_S, SCHEDULER, SchedulerHost
from tests.simulation.truth import Truth
from tests.simulation.workers import SimWorker, fate_of
from windrow.common.options import OnLost
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, JobState, NodeId
from windrow.node import daemon, intake, pool, reporter

LIMIT_S = 900.0
QUIET_S = 60.0
OUTLIVED_S = 20 * 86_400.0
SWEPT_S = 150.0
WALL_OFFSET_S = 1_700_000_000.0
WALL_JUMPS_S = (3600.0, -300.0, 30.0, -3 * 86_400.0, 3 * 86_400.0, -3600.0)


class World:
    """See the module."""

    def __init__(self, scenario: Scenario, *, noting: bool = False) -> None:
        self.scenario = scenario
        self.clock = Clock()
        self.outside = Process(self.clock, "world", self)
        self.store = ModelStore()
        self.truth = Truth(scenario, self.clock, self.store, noting=noting)
        self.broker = Broker(self)
        self.store_fails = False
        self.store_silent = False
        self.wall_jumps_s: Counter[str] = Counter()
        """By how much the wall clock of each machine is off."""
        self._dice = random.Random(f"{scenario.seed} world")
        self.schedulers: list[SchedulerHost] = []
        self.nodes: list[NodeHost] = []
        self.clients: list[ClientHost] = []
        self.admin = AdminHost(self)

    @property
    def faulty(self) -> bool:
        return self.clock.now < self.scenario.faults_until_s

    def pick_scheduler(self) -> SchedulerHost:
        """Whom a new connection reaches: where two overlap, either; the one that is gone where none is there."""
        alive = [each for each in self.schedulers if each.process.alive]
        return self._dice.choice(alive) if alive else self.schedulers[-1]

    # ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """To the end of all jobs, and to quiet; a Finding says what was wrong."""
        with self._in_place():
            try:
                self._build()
                if not self.clock.run(lambda: not self.faulty and all(each.content for each in self.clients), LIMIT_S):
                    raise self.clock.find(f"not at its end after {self.clock.now:.0f} s: {self._story()}")
                self._expect_exact_end()
                if not self.clock.run(self._is_quiet, self.clock.now + QUIET_S):
                    raise self.clock.find(f"all jobs have ended and there is no quiet: {self._story()}")
                self._outlive_all()
            finally:
                self.clock.close()

    def _build(self) -> None:
        self._start_scheduler()
        for number, plan in enumerate(self.scenario.nodes):
            self._add_node(f"node{number}", plan)
        for number, job in enumerate(self.scenario.jobs):
            self.clients.append(ClientHost(self, number, job))
            self.clients[-1].start()
        for fault in self.scenario.faults:
            self.outside.call_at(fault.at_s, self._befall, fault)
        self.outside.call_at(self.scenario.faults_until_s + 0.5, self._settle)

    def _add_node(self, name: str, plan: NodePlan) -> None:
        host = NodeHost(self, NodeId(name), plan)
        self.nodes.append(host)
        host.start()

    def _start_scheduler(self) -> None:
        if self.store_fails:
            self.outside.call_later(RESTART_S, self._start_scheduler)
            return
        host = SchedulerHost(self)
        self.schedulers.append(host)
        self.truth.on_reign(host.listened)

    def on_scheduler_end(self, host: SchedulerHost, code: int) -> None:
        self.truth.note(host.process.name, f"has ended with {code}")
        host.kill()
        if host is self.schedulers[-1]:
            raise self.clock.find(f"{host.process.name} has ended by itself, although none has taken over")

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """The models in the place of what they stand for."""
        time: Any = mock.Mock(spec_set=["monotonic"])
        time.monotonic = lambda: self.clock.now
        logging = {"wrapper_class": self._logger(), "processors": [], "cache_logger_on_first_use": False}
        before = structlog.get_config()
        with contextlib.ExitStack() as stack:
            for module, name, model in (
                (reporter, "time", time), (intake, "time", time), (reporter, "_version", lambda: "sim"),
                (daemon, "Spool", SimSpool), (daemon, "SchedulerLink", SimLink), (daemon, "LoadMeter", SimMeter),
                (pool, "WorkerProcess", SimWorker), (pool, "watch_own_group", NoOomKills),
                (windrow.node.consumer, "Consumer", SimConsumer),
            ):  # fmt: skip
                stack.enter_context(mock.patch.object(module, name, model))
            stack.enter_context(mock.patch("time.time", self._wall_of_caller))
            structlog.configure(**logging)
            try:
                yield
            finally:
                structlog.configure(**before)

    def wall_s(self, machine: str) -> float:
        """What the wall clock of a machine says."""
        return self.clock.now + WALL_OFFSET_S + self.wall_jumps_s[machine]

    def _wall_of_caller(self) -> float:
        process = asyncio._get_running_loop()
        host = process.host if isinstance(process, Process) else None
        match host:
            case SchedulerHost():
                return self.wall_s(SCHEDULER)
            case NodeHost():
                return self.wall_s(host.id)
            case ClientHost():
                return self.wall_s(host.process.name)
            case _:
                return self.wall_s("")

    def _logger(self) -> type:
        world = self

        class Logger:
            """What daemons log goes into the history; what they take for bugs of their own is a finding."""

            def __init__(self, logger: object, processors: object, context: object) -> None:
                pass

            def _note(self, event: str, **said: Any) -> None:
                process = asyncio._get_running_loop()
                name = process.name if isinstance(process, Process) else "world"
                action = said.get("action")
                if action in ("turn_broken", "invariant_broken", "bug") and not world.clock.over:
                    import sys

                    error = sys.exc_info()[1]
                    found = world.clock.find(f"{name} met a bug: {event} {said.get('detail', '')} {error!r}")
                    found.__cause__ = found.__cause__ or error
                if world.truth.notes is not None:
                    host = process.host if isinstance(process, Process) else None
                    node = host.id if isinstance(host, NodeHost) else ""
                    detail = said.get("detail", "")
                    text = f"logs: {event} {detail}"[:300]
                    world.truth.note(name, text, job=str(said.get("job", "")), fence=said.get("fence", ""), node=node)

            debug = info = warning = error = critical = exception = _note

        return Logger

    # ── What befalls it ──────────────────────────────────────────────────────────────────────────────────────────

    def _befall(self, fault: Fault) -> None:
        self.truth.note("world", f"{fault.kind} for {fault.for_s} s, who {fault.who}")
        later = self.outside.call_later
        scheduler = self.schedulers[-1]
        node = self.nodes[fault.who % len(self.nodes)]
        match fault.kind:
            case FaultKind.SCHEDULER_CRASH:
                if scheduler.process.alive:
                    scheduler.kill()
                    later(fault.for_s, self._start_scheduler)
            case FaultKind.SCHEDULER_FREEZE:
                self._freeze([scheduler.process], fault.for_s)
            case FaultKind.SCHEDULER_OVERLAP:
                if scheduler.process.alive and not scheduler.process.frozen and not self.store_fails:
                    asleep_s = (0.0, 0.0, fault.for_s)[fault.who % 3]
                    if asleep_s:
                        self._freeze([scheduler.process], asleep_s)
                    self._start_scheduler()
            case FaultKind.CLUSTER_FREEZE:
                everybody = [process for host in self.nodes for process in host.processes]
                self._freeze([scheduler.process, *everybody], fault.for_s)
            case FaultKind.NODE_CRASH:
                node.crash(back_after_s=fault.for_s)
            case FaultKind.NODE_WRECK:
                self._wreck(node, fault.for_s)
            case FaultKind.NODE_FREEZE:
                own = node.processes if fault.who % 2 else node.processes[:1]
                self._freeze(own, fault.for_s)
            case FaultKind.NODE_CUT:
                node.wire.cut = True
                later(fault.for_s, setattr, node.wire, "cut", False)
            case FaultKind.NODE_LEAVE:
                node.leave()
            case FaultKind.NODE_DRAIN:
                self.admin.drain(node.id, resume=False)
                later(fault.for_s, lambda: self.admin.drain(node.id, resume=True))
            case _:
                self._befall_others(fault, node)

    def _befall_others(self, fault: Fault, node: NodeHost) -> None:
        later = self.outside.call_later
        match fault.kind:
            case FaultKind.NODE_CUT_FROM_BROKER:
                node.cut_from_broker = True
                for consumer in [each for each in self.broker.consumers.values() if each.host is node]:
                    consumer.disconnect()
                later(fault.for_s, setattr, node, "cut_from_broker", False)
            case FaultKind.WORKER_KILL:
                node.kill_worker(fault.who // len(self.nodes))
            case FaultKind.BROKER_CRASH | FaultKind.BROKER_WIPE:
                if self.broker.up:
                    self.broker.crash(wiped=fault.kind is FaultKind.BROKER_WIPE)
                    later(fault.for_s / 2, self.broker.restart)
            case FaultKind.QUEUE_PURGE:
                self.broker.purge(fault.who)
            case FaultKind.STORE_FAIL:
                self.store_fails = True
                later(fault.for_s, setattr, self, "store_fails", False)
            case FaultKind.STORE_SILENT:
                self.store_silent = True
            case FaultKind.CLOCK_JUMP:
                others = (node.id, self.clients[fault.who % len(self.clients)].process.name)
                machine = (SCHEDULER, SCHEDULER, *others)[fault.who % 4]
                self.wall_jumps_s[machine] += WALL_JUMPS_S[fault.who // 4 % len(WALL_JUMPS_S)]
            case _:
                raise AssertionError(fault.kind)

    def _freeze(self, processes: list[Process], for_s: float) -> None:
        frozen = [process for process in processes if process.alive and not process.frozen]
        for process in frozen:
            process.freeze()
        self.outside.call_later(for_s, lambda: [process.thaw() for process in frozen])

    def _wreck(self, node: NodeHost, for_s: float) -> None:
        """Once in a run the machine never comes back, and another one joins instead."""
        for_good = not any(each.lost for each in self.nodes)
        node.crash(back_after_s=for_s, disk_too=True)
        if for_good and node.daemon is None:
            node.lost = True
            self.outside.call_later(for_s, self._add_node, f"spare{len(self.nodes)}", node.plan)

    def _settle(self) -> None:
        """What is left of the faults once they have stopped: late copies of a drain are overruled."""
        self.store_silent = False
        for node in self.nodes:
            self.admin.drain(node.id, resume=True)

    # ── The end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_quiet(self) -> bool:
        return not self.store.chunks and all(node.idle for node in self.nodes)

    def _outlive_all(self) -> None:
        """Once the time of all that has ended is over, nothing is left of it."""
        if self.scenario.kept_s is None:
            return
        self.wall_jumps_s[SCHEDULER] += OUTLIVED_S
        if not self.clock.run(self._is_swept, self.clock.now + SWEPT_S):
            left = [job.put.id for job in self.store.jobs.values()], list(self.store.nodes.values())
            raise self.clock.find(f"what is not kept any more is not removed: {left}, {self.store.leftovers}")

    def _is_swept(self) -> bool:
        """But for the newest job, and nodes that live or were drained by hand."""
        there = {host.id for host in self.nodes if host.daemon is not None}
        away = [node for node in self.store.nodes.values() if node.id not in there and not node.drained]
        return len(self.store.jobs) <= 1 and not self.store.leftovers and not away

    def _story(self) -> str:
        state = self.schedulers[-1].loop.engine.state
        jobs = [f"{j.id} {j.state} p{j.pending} {list(map(str, j.chunks))}" for j in state.jobs.values()]
        nodes = [f"{n.id}:{n.daemon and [str(f) for f in n.daemon._bench.book.holds]}" for n in self.nodes]
        clients = [f"{c.job} filled={c.filled} over={c.follower.over}" for c in self.clients if not c.content]
        return f"{jobs}; {nodes}; {clients}"

    def _expect_exact_end(self) -> None:
        """Outcomes tile each job, and are what the items do."""
        for job in self.truth.all_jobs():
            job_id, last, plan = job.put.id, job.last, self.truth.plan_of(job.put.id)
            client = next(each for each in self.clients if each.job == job_id)
            if last.state is JobState.CANCELLED or last.cancelled:
                if not plan.may_be_stopped:
                    raise self.clock.find(f"{job_id} has cancelled items, and nobody has cancelled any")
                continue
            if client.refused:
                continue
            if last.total != plan.items:
                raise self.clock.find(f"{job_id} has {last.total} items instead of {plan.items}")
            # Each of these was seen to be just when it was committed: time may run out for any item.
            given_up = (FailureKind.LOST, FailureKind.NODE, FailureKind.TIMEOUT, FailureKind.UNFIT)
            doomed = RangeSet((item, item + 1) for item in range(last.total) if self._is_doomed(client, item))
            doomed.update((item, item + 1) for item in _items(job.failed) if job.kinds[item] in given_up)
            doomed.update((item, item + 1) for item in _items(job.failed) if self._was_killed(client, job, item))
            if job.failed != doomed:
                raise self.clock.find(f"of {job_id} {job.failed} failed instead of {doomed}")
            if client.follower.missed:
                continue
            told = RangeSet((item, item + 1) for item in client.follower.got)
            if told != RangeSet([(0, last.total)]):
                raise self.clock.find(f"the client of {job_id} was told of {told} and not of all {last.total} items")

    def _is_doomed(self, client: ClientHost, item: int) -> bool:
        plan = client.plan
        fate = fate_of(plan, self.scenario.seed, client.job, item)
        return fate in ("error", "crash", "hang", "kill") or (fate == "flaky" and plan.retries < 2)

    def _was_killed(self, client: ClientHost, job: Any, item: int) -> bool:
        """Workers are killed by others too; on an item that ran alone, or must not run twice, that is blamed."""
        crashed = [run for run in self.truth.runs[client.job, item] if run.result == "crash"]
        alone = any(run.alone for run in crashed) or job.put.options.on_lost is OnLost.FAIL
        return job.kinds[item] is FailureKind.CRASH and bool(crashed) and alone


def _items(ranges: RangeSet) -> list[int]:
    return [item for part in ranges for item in range(*part)]


def run_scenario(scenario: Scenario, *, noting: bool = False) -> tuple[Finding | None, World]:
    """One run; what was found, if anything."""
    world = World(scenario, noting=noting)
    try:
        world.run()
    except Finding as finding:
        return finding, world
    return None, world
