"""The core alone, simulated: what it costs in processor time to place a chunk and to take its outcomes in.

Nodes without processes: each has the chunks that the core gave it, says which it holds, and hands in some as done. A
turn is what the engine's is: the reports that wait, then one tick, which plans. Only the time inside `apply` counts;
there is no store, no socket and no broker, but their news (`Sent`) is taken in as from RabbitMQ.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterable
from functools import cache

from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.run import Run
from tests.simulation.model_store import ModelStore
from windrow.common.blocks import pack_block
from windrow.common.messages import ChunkReport, NodeHello, NumberItems, Report, StartJob, TaskInfo, ValueRun
from windrow.common.words import Fence, JobId, NodeId, Now
from windrow.scheduler.core.commands import Command, Dispatch
from windrow.scheduler.core.events import Asked, BrokerChanged, Change, Event, Sent, Tick
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.state import CoreSettings, ItemTime

TASK = "t:work"
SLOTS = 16
ITEM_S = 0.001
"""As measured before: so chunks have a thousand items."""
JOB_ITEMS = 1 << 40
DONE_A_REPORT = 4
NODES_A_TURN = 20
"""A turn finds the reports of one node in so many, and of one at least."""
BIG, SMALL = (1_000, 1_000), (10, 1)


@cache
def _block(items: int) -> bytes:
    return pack_block([b"\xc0"] * items)


class CoreAlone:
    """A core with such many nodes and jobs, all of them busy."""

    def __init__(self, nodes: int, jobs: int) -> None:
        self.mono = 100.0
        self.spent_ns = 0
        self.placed = 0
        self._asks = 0
        self._seq = 0
        store = ModelStore()
        store.begin_epoch()
        self._state = rebuild(store.load(), CoreSettings(dispatch="amqp"), self._now)
        self._state.times[TASK] = ItemTime(ITEM_S, 1_000_000)
        self._held: dict[NodeId, deque[Dispatch]] = {}
        self._order: deque[NodeId] = deque()
        self._take(BrokerChanged(True, ""))
        for number in range(jobs):
            self._ask(StartJob(JobId(f"job-{number}"), TASK, numbers=NumberItems(0, JOB_ITEMS)))
        for number in range(nodes):
            node = NodeId(f"node-{number}")
            self._held[node] = deque()
            self._order.append(node)
            self._ask(NodeHello(node, "boot", node, "host", 1, SLOTS, ("default",), tasks=(TaskInfo(TASK),)))
        self._take(Tick())

    @property
    def _now(self) -> Now:
        return Now(self.mono, 1.7e9 + self.mono)

    def _take(self, event: Event) -> None:
        began = time.process_time_ns()
        commands = apply(self._state, event, self._now)
        self.spent_ns += time.process_time_ns() - began
        self._carry_out(commands)

    def _ask(self, change: Change) -> None:
        self._asks += 1
        self._take(Asked(self._asks, change))

    def _carry_out(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, Dispatch):
                self.placed += 1
                self._held[command.node].append(command)
                self._take(Sent(command.fence))

    def turn(self, reports: int) -> None:
        """The reports of the next so many nodes, and a tick."""
        self.mono += 0.002
        for _ in range(reports):
            self._order.rotate(-1)
            self._report(self._order[0])
        self._take(Tick())

    def _report(self, node: NodeId) -> None:
        held = self._held[node]
        done = [held.popleft() for _ in range(min(DONE_A_REPORT, len(held)))]
        self._seq += 1
        holds: tuple[Fence, ...] = tuple(order.fence for order in held)
        chunks = tuple(
            ChunkReport(
                order.fence,
                order.job,
                (ValueRun(order.start, order.stop, _block(order.stop - order.start)),),
                busy_s=ITEM_S * (order.stop - order.start),
            )
            for order in done
        )
        self._ask(Report(node, "boot", self._seq, holds, chunks))


def chunk_us(nodes: int, jobs: int, chunks: int, reports: int | None = None) -> Figures:
    """Processor time a chunk, once as many chunks have gone by as the nodes hold."""
    core = CoreAlone(nodes, jobs)
    reports = reports or max(1, nodes // NODES_A_TURN)
    warm = core.placed + max(nodes * SLOTS, 1_000)
    while core.placed < warm:
        core.turn(reports)
    gc.collect()
    spent, placed = core.spent_ns, core.placed
    while core.placed < placed + chunks:
        core.turn(reports)
    return {"chunk_us": (core.spent_ns - spent) / 1e3 / (core.placed - placed)}


def core(run: Run) -> Row:
    """Many nodes and jobs against few."""
    chunks = run.size(40_000, 10_000)
    how = f"{SLOTS} slots a node; {DONE_A_REPORT} chunks done in a report"
    (many_nodes, many_jobs), (few_nodes, few_jobs) = BIG, SMALL
    many = f"a turn finds the reports of {many_nodes // NODES_A_TURN} nodes"
    return Row(
        "core",
        "the core alone, simulated: processor time a chunk",
        "chunk_us",
        True,
        (
            Contender(
                "Windrow", f"{many_nodes:,} nodes, {many_jobs:,} jobs; {how}; {many}", lambda _: chunk_us(*BIG, chunks)
            ),
            Contender(
                "10 nodes, 1 job",
                f"{few_nodes} nodes, {few_jobs} job; {how}; a turn finds one report",
                lambda _: chunk_us(*SMALL, chunks),
            ),
            Contender(
                "one report a turn",
                f"{many_nodes:,} nodes, {many_jobs:,} jobs; {how}; a turn finds one report: no load to share its cost",
                lambda _: chunk_us(*BIG, chunks // 4, 1),
            ),
        ),
        (
            Bar("Windrow", "chunk_us", 60, False, "µs"),
            Bar("Windrow", "chunk_us", 1.5, False, to="10 nodes, 1 job"),
        ),
    )


def core_costs(run: Run) -> Row:
    """For the plot."""
    chunks = run.size(10_000, 3_000)
    contenders = tuple(
        Contender(
            f"{nodes:,} nodes, {jobs:,} jobs",
            f"{SLOTS} slots a node",
            lambda _, nodes=nodes, jobs=jobs: {
                **chunk_us(nodes, jobs, chunks),
                "nodes": float(nodes),
                "jobs": float(jobs),
            },
        )
        for nodes in (1, 10, 100, 1_000)
        for jobs in (1, 10, 100, 1_000)
    )
    return Row(
        "core-costs", "the core alone: processor time a chunk, over nodes and jobs", "chunk_us", True, contenders
    )
