"""What happens in one run, as plain data: drawn from a seed, shrunk when it fails, kept as JSON when worth it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from enum import StrEnum

from windrow.common.codec import decoder_for, to_plain

KEPT_S = 960.0
"""Longer than runs, and less than most jumps of a clock: what is removed within a run is removed by a jump. A 24th of
it, which a clock must go evenly, is longer than a poll whose answer was lost takes to be asked anew."""


class FaultKind(StrEnum):
    """What may go wrong at an instant; most of it ends after `for_s`."""

    SCHEDULER_CRASH = "scheduler_crash"
    SCHEDULER_FREEZE = "scheduler_freeze"
    SCHEDULER_OVERLAP = "scheduler_overlap"
    """It falls asleep, another one takes over, and it wakes."""
    CLUSTER_FREEZE = "cluster_freeze"
    """Scheduler, nodes and clients stop for a while, as on a machine that is suspended."""
    NODE_CRASH = "node_crash"
    """The daemon is killed and its workers with it; its spool stays."""
    NODE_WRECK = "node_wreck"
    """The machine is lost with its disk; another one comes instead."""
    NODE_FREEZE = "node_freeze"
    NODE_CUT = "node_cut"
    """It reaches the broker and not the scheduler."""
    NODE_CUT_FROM_BROKER = "node_cut_from_broker"
    NODE_LEAVE = "node_leave"
    """SIGTERM."""
    NODE_DRAIN = "node_drain"
    WORKER_KILL = "worker_kill"
    """Somebody kills a worker, whatever it is at."""
    BROKER_CRASH = "broker_crash"
    BROKER_WIPE = "broker_wipe"
    QUEUE_PURGE = "queue_purge"
    STORE_FAIL = "store_fail"
    STORE_SILENT = "store_silent"
    """One commit is made and not answered."""
    CLOCK_JUMP = "clock_jump"
    """The wall clock of the scheduler's machine, of a node's or of a client's; by up to days, forward or back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; `who` picks one of several."""

    kind: FaultKind
    at_s: float
    for_s: float
    who: int = 0


class Shape(StrEnum):
    """How the items of a job come."""

    NUMBERS = "numbers"
    APPENDS = "appends"
    CALLS = "calls"
    """A stream of single calls, with pauses between them."""


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job and what its client does with it. Shares are of 1,000 items."""

    shape: Shape
    items: int
    retries: int = 0
    once: bool = False
    """on_lost="fail"."""
    item_s: float = 0.004
    lengths_s: tuple[float, ...] = ()
    """Of each item; empty: about `item_s`."""
    timeout_s: float | None = None
    max_failures: int | None = None
    delay_s: float = 0.0
    after: int | None = None
    """Number of an earlier job that it waits for."""
    errors: int = 0
    flaky: int = 0
    """Fail twice, then succeed."""
    crashes: int = 0
    """Kill their worker, each time."""
    hangs: int = 0
    killers: int = 0
    """Kill their node, each time."""
    kill_after_s: float = 0.0
    cancel_at_s: float | None = None
    pause_at_s: float | None = None
    resume_at_s: float | None = None
    retry: bool = False
    """Quarantined items are put back once."""
    twins: bool = False
    """idempotent=True: a straggler may run on two nodes at once."""
    unfit: tuple[str, ...] = ()
    """Nodes on which the task says that they cannot do it."""

    @property
    def may_be_stopped(self) -> bool:
        """Whether it may end without all of its items: somebody cancels it, or what it needs fails."""
        asked = (self.cancel_at_s, self.max_failures, self.after)
        return any(each is not None for each in asked) or bool(self.unfit)


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node; `repeats`: it says everything of a fence again in each report, as a node written elsewhere may."""

    slots: int
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. `seed` gives the dice of links and processes; all else is said here."""

    seed: int
    dispatch: str
    faults_until_s: float
    lose: float
    repeat: float
    slow: float
    """Share of messages that are late by up to `late_s`, so that others overtake them."""
    late_s: float
    refuse: float
    """Share of publishes that are not confirmed; half of them arrive all the same."""
    nodes: tuple[NodePlan, ...]
    jobs: tuple[JobPlan, ...]
    faults: tuple[Fault, ...]
    kept_s: float | None = None
    """Ended jobs and nodes that are gone are kept for so long by the scheduler's wall clock; None: for ever."""


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed."""
    dice = random.Random(f"scenario {seed}")
    until_s = dice.uniform(4, 25)
    lossy = dice.random() < 0.7
    jobs: list[JobPlan] = []
    for number in range(dice.randint(1, 4)):
        jobs.append(_draw_job(dice, number, until_s))
    faults: list[Fault] = []
    gap_s = dice.uniform(1.5, 8)
    at = dice.expovariate(1 / gap_s)
    while at < until_s:
        faults.append(_draw_fault(dice, at))
        at += dice.expovariate(1 / gap_s)
    drawn = Scenario(
        seed=seed,
        dispatch=dice.choice(("amqp", "amqp", "local")),
        faults_until_s=until_s,
        lose=dice.choice((0.01, 0.05)) if lossy else 0.0,
        repeat=dice.choice((0.02, 0.1)) if lossy else 0.0,
        slow=0.1 if lossy else 0.0,
        late_s=dice.choice((0.2, 2.0)),
        refuse=0.02 if lossy else 0.0,
        nodes=tuple(NodePlan(dice.randint(1, 3), dice.random() < 0.2) for _ in range(3)),
        jobs=_draw_unfit(seed, jobs),
        faults=tuple(sorted([*faults, *_draw_clock_jumps(seed, until_s)], key=lambda fault: fault.at_s)),
    )
    return _draw_kept(drawn)


def _draw_kept(drawn: Scenario) -> Scenario:
    """Of one world in three the scheduler's clock is set ahead early on, and it lasts until what ended is removed; in
    some of them a job that comes after the first one is paused meanwhile."""
    dice = random.Random(f"kept {drawn.seed}")
    if dice.random() > 0.35:
        return drawn
    ahead = Fault(FaultKind.CLOCK_JUMP, round(dice.uniform(1.0, 15.0), 3), 0.0)
    faults = sorted([*drawn.faults, ahead], key=lambda fault: fault.at_s)
    until_s = drawn.faults_until_s + dice.choice((0.0, 40.0, 70.0))
    jobs = drawn.jobs
    if len(jobs) > 1 and dice.random() < 0.5:
        waiting = replace(jobs[-1], after=0, pause_at_s=dice.uniform(0.0, 10.0), resume_at_s=until_s - 5.0)
        jobs = (*jobs[:-1], waiting)
    return replace(drawn, kept_s=KEPT_S, faults=tuple(faults), faults_until_s=until_s, jobs=jobs)


def _draw_unfit(seed: int, jobs: list[JobPlan]) -> tuple[JobPlan, ...]:
    """Nodes on which a job cannot be done, one or two of the three; by dice of their own, too.

    Not of single calls: the next one may have nothing to do with it, and so no node is left out for them.
    """
    dice = random.Random(f"unfit {seed}")
    drawn = [dice.sample(("node0", "node1", "node2"), dice.choice((1, 2))) for _ in jobs]
    return tuple(
        replace(job, unfit=tuple(sorted(names))) if dice.random() < 0.2 and job.shape is not Shape.CALLS else job
        for job, names in zip(jobs, drawn, strict=True)
    )


def _draw_clock_jumps(seed: int, until_s: float) -> list[Fault]:
    """Wall clocks go wrong more often than the table of faults has it; with dice of their own, so that nothing else
    of a seed changes."""
    dice = random.Random(f"clocks {seed}")
    count = dice.choice((0, 0, 1, 3))
    return [
        Fault(FaultKind.CLOCK_JUMP, round(dice.uniform(0, until_s), 3), 0.0, dice.randrange(1000)) for _ in range(count)
    ]


_FAULTS = {
    FaultKind.SCHEDULER_CRASH: 3, FaultKind.SCHEDULER_FREEZE: 1, FaultKind.SCHEDULER_OVERLAP: 2,
    FaultKind.CLUSTER_FREEZE: 1, FaultKind.NODE_CRASH: 4, FaultKind.NODE_WRECK: 2, FaultKind.NODE_FREEZE: 2,
    FaultKind.NODE_CUT: 2, FaultKind.NODE_CUT_FROM_BROKER: 1, FaultKind.NODE_LEAVE: 1, FaultKind.NODE_DRAIN: 2,
    FaultKind.WORKER_KILL: 3, FaultKind.BROKER_CRASH: 2, FaultKind.BROKER_WIPE: 2, FaultKind.QUEUE_PURGE: 2,
    FaultKind.STORE_FAIL: 2, FaultKind.STORE_SILENT: 2, FaultKind.CLOCK_JUMP: 1,
}  # fmt: skip


def _draw_fault(dice: random.Random, at_s: float) -> Fault:
    kind = dice.choices(list(_FAULTS), list(_FAULTS.values()))[0]
    longest_s = 2.0 if kind is FaultKind.STORE_FAIL else 12.0
    return Fault(kind, round(at_s, 3), round(dice.uniform(0.2, longest_s), 3), dice.randrange(1000))


def _draw_job(dice: random.Random, number: int, until_s: float) -> JobPlan:
    shape = dice.choice((Shape.NUMBERS, Shape.NUMBERS, Shape.APPENDS, Shape.CALLS))
    kind = dice.choices(("plain", "killer", "once", "hanging"), (8, 2, 3, 1))[0]
    items = int(dice.choice((1, 10, 200, 600)) * dice.random()) + dice.randint(0, 1)
    plan = JobPlan(
        shape=shape,
        items=min(items, 150) if shape is Shape.CALLS or kind != "plain" else items,
        retries=0 if kind == "once" else dice.choice((0, 1, 3)),
        once=kind == "once",
        item_s=dice.choice((0.0005, 0.004, 0.03)) if items > 100 else dice.choice((0.004, 0.1, 0.5)),
        delay_s=dice.choice((0.5, 3.0)) if dice.random() < 0.1 else 0.0,
        after=dice.randrange(number) if number and dice.random() < 0.15 else None,
        errors=dice.choice((0, 10)),
        flaky=dice.choice((0, 20)),
        crashes=dice.choice((0, 0, 5, 20)),
        max_failures=dice.randint(0, 5) if dice.random() < 0.1 else None,
        retry=dice.random() < 0.15,
    )
    if kind == "killer":
        plan = replace(plan, killers=20, kill_after_s=dice.choice((0.0, 0.0, 0.003, 0.5)), items=max(10, plan.items))
    if kind == "hanging":
        plan = replace(plan, hangs=20, timeout_s=dice.uniform(0.5, 2.0), item_s=min(plan.item_s, 0.1))
    if kind == "plain" and dice.random() < 0.25:
        plan = replace(plan, twins=True, items=min(plan.items, 12), item_s=dice.choice((0.5, 1.5, 4.0)))
    if dice.random() < 0.12:
        plan = replace(plan, cancel_at_s=dice.uniform(0, until_s))
    if dice.random() < 0.2:
        pause_at_s = dice.uniform(0, until_s / 2)
        plan = replace(plan, pause_at_s=pause_at_s, resume_at_s=pause_at_s + dice.uniform(0.1, 5))
    return plan


_decode = decoder_for(Scenario)


def to_json(scenario: Scenario) -> str:
    return json.dumps(to_plain(scenario))


def from_json(text: str) -> Scenario:
    return _decode(json.loads(text))
