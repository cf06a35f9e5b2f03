"""One chaos run from its beginning to its figures."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import counting
from tests.chaos.faults import Done, Saboteur
from tests.chaos.plan import MAY_COST_A_NODE, Dispatch, Fault, draw_plan
from tests.chaos.pulse import Pulse
from tests.chaos.site import Site
from tests.chaos.workload import Workload, read_ends
from windrow import Client, WindrowError

CLIENTS = 2
END_S_MAX = 180.0
"""When the faults have stopped everything must end within this; it is bounded for a machine that is busy otherwise."""
LEASE_S = 3.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is asked for."""

    seed: int
    seconds: float
    dispatch: Dispatch
    folder: Path
    nodes: int = 3
    slots: int = 2
    gap_s: tuple[float, float] = (1.0, 5.0)
    brokers: int = 1
    """On `amqp`: one with classic queues, or a cluster with quorum queues."""
    rabbitmq: str = ""
    """Its version; empty: what this machine has."""
    kinds: tuple[str, ...] = ()
    """Only these kinds of faults; empty: all."""

    @property
    def setup(self) -> str:
        """For people."""
        if self.dispatch == "local":
            return "local:"
        version = f" {self.rabbitmq}" if self.rabbitmq else ""
        return f"RabbitMQ{version}" if self.brokers == 1 else f"{self.brokers} clustered RabbitMQ{version}"


@dataclass(slots=True)
class Found:
    """All that a run has shown; it was clean when `findings` is empty."""

    asked: Asked
    findings: list[str] = dataclasses.field(default_factory=list[str])
    done: list[Done] = dataclasses.field(default_factory=list[Done])
    skipped: list[Fault] = dataclasses.field(default_factory=list[Fault])
    ended: list[str] = dataclasses.field(default_factory=list[str])
    recovery_s: list[tuple[str, float]] = dataclasses.field(default_factory=list[tuple[str, float]])
    works: list[counting.WorkFigures] = dataclasses.field(default_factory=list[counting.WorkFigures])
    end_s: float = 0.0
    """From the end of the last fault to the end of all work."""
    log: str = ""
    """The last lines of every daemon, where something was found."""

    def as_json(self) -> str:
        facts: dict[str, Any] = {
            **{
                name: getattr(self.asked, name)
                for name in (
                    "seed",
                    "seconds",
                    "dispatch",
                    "brokers",
                    "rabbitmq",
                    "nodes",
                    "slots",
                )
            },
            "findings": self.findings,
            "end_s": round(self.end_s, 2),
            "faults": [
                {**dataclasses.asdict(each.fault), "began_s": each.began_s, "ended_s": each.ended_s}
                for each in self.done
            ],
            "skipped": [str(fault) for fault in self.skipped],
            "ended_by_themselves": self.ended,
            "recovery": [dataclasses.asdict(row) for row in counting.recoveries_of(self.recovery_s)],
            "works": [dataclasses.asdict(row) for row in self.works],
        }
        return json.dumps(facts, indent=1) + "\n"


def run_chaos(asked: Asked, say: Callable[[str], None] = print) -> Found:
    """Run it; whatever goes wrong is told in what was found, and nothing is left running."""
    found = Found(asked)
    say(f"chaos: seed {asked.seed}, {asked.setup}, {asked.seconds:.0f} s of faults, folder {asked.folder}")
    site = Site(
        asked.folder, asked.dispatch, nodes=asked.nodes, slots=asked.slots, clients=CLIENTS, lease_s=LEASE_S,
        brokers=asked.brokers, rabbitmq=asked.rabbitmq,
    )  # fmt: skip
    try:
        _run(asked, site, found, say)
        if found.findings:
            found.log = site.last_lines()
        try:
            site.stop()
        except AssertionError as error:
            found.findings.append(f"at the end: {error}")
    finally:
        site.kill()
    return found


def _run(asked: Asked, site: Site, found: Found, say: Callable[[str], None]) -> None:
    plan = draw_plan(
        asked.seed, asked.seconds, asked.dispatch,
        nodes=asked.nodes, clients=CLIENTS, brokers=asked.brokers, lease_s=LEASE_S, gap_s=asked.gap_s,
        only=asked.kinds,
    )  # fmt: skip
    workload = Workload([site.url_for(f"client-{number}") for number in range(CLIENTS)], f"seed-{asked.seed}")
    began_at = time.monotonic()
    pulse = Pulse(site.cluster.http, began_at)
    saboteur = Saboteur(site, say)
    try:
        saboteur.run(plan, began_at)
        rest_s = began_at + asked.seconds - time.monotonic()
        time.sleep(max(0.0, rest_s))
        over_at = time.monotonic()
        late = workload.finish(over_at + END_S_MAX)
        found.end_s = time.monotonic() - over_at
        say(f"{time.monotonic() - began_at:7.1f} s  all faults are over, all work has ended {found.end_s:.1f} s later")
        found.done, found.skipped, found.ended = saboteur.done, saboteur.skipped, list(site.ended)
        found.findings += saboteur.failed + site.failed + workload.failed
        found.findings += [text for text in found.ended if text.startswith("scheduler")]
        if late:
            found.findings += [*late, *_explain(site, workload)]
        else:
            _count(site, workload, found)
    finally:
        pulse.stop()
        workload.close()
    found.recovery_s = recoveries(found.done, pulse.commits_s)


def recoveries(faults: Sequence[Done], commits_s: Sequence[float]) -> list[tuple[str, float]]:
    """Kind and seconds from the end of each fault to the next commit, of faults after which nothing else was broken
    meanwhile: what a second fault costs is not the first one's."""
    found: list[tuple[str, float]] = []
    for done in faults:
        next_s = next((at_s for at_s in commits_s if at_s > done.ended_s), None)
        others = [each for each in faults if each is not done]
        if next_s is not None and not any(each.began_s < next_s and each.ended_s > done.ended_s for each in others):
            found.append((done.fault.kind, next_s - done.ended_s))
    return found


def _count(site: Site, workload: Workload, found: Found) -> None:
    losses = sum(done.fault.kind in MAY_COST_A_NODE for done in found.done) + len(found.ended)
    runs = counting.read_runs(site.runs)
    calls = workload.calls()
    with Client(site.cluster.url) as client:
        ends = read_ends(client, workload.followed)
    for end in ends:
        found.findings += counting.find_faults_of(end, runs, losses=losses)
    found.findings += counting.find_faults_of_calls(calls, runs, losses=losses)
    found.works = counting.figures_of(ends, calls, runs)


def _explain(site: Site, workload: Workload) -> list[str]:
    """Why jobs are not done, as the scheduler sees it."""
    told: list[str] = []
    try:
        with Client(site.cluster.url) as client:
            for followed in workload.followed:
                told_of = client.job(followed.job_id).explain()
                if not told_of.status.finished:
                    told.append(f"job {followed.job_id} ({followed.work.name}): {told_of}")
    except WindrowError as error:
        told.append(f"the scheduler does not explain: {error}")
    return told


def show(found: Found) -> str:
    """The tables, and what was found."""
    lines = ["", f"{'work':12} {'jobs':>5} {'items':>8} {'values':>8} {'given up':>9} {'ran again':>10} {'most':>5}"]
    lines += [
        f"{row.work:12} {row.jobs:5} {row.items:8} {row.values:8} {row.given_up:9} {row.ran_again_items:10}"
        f" {row.runs_of_one_attempt_max:5}"
        for row in found.works
    ]
    lines += ["", f"{'fault':24} {'times':>5}  next commit after its end: {'median':>8} {'longest':>8}"]
    lines += [
        f"{row.kind:24} {row.times:5} {'':26} {row.median_s:7.2f}s {row.max_s:7.2f}s"
        for row in counting.recoveries_of(found.recovery_s)
    ]
    lines += ["", f"{len(found.done)} faults, {len(found.skipped)} skipped because their target was broken already"]
    lines += [text.splitlines()[0] for text in found.ended]
    if found.findings:
        asked = found.asked
        lines += ["", f"FOUND with seed {asked.seed}, {asked.setup}; everything is in {asked.folder}:"]
        lines += [*found.findings, "", "faults:"]
        lines += [f"{each.began_s:7.1f} to {each.ended_s:7.1f} s  {each.fault}" for each in found.done]
        lines += ["", found.log]
    else:
        lines += ["", "clean: every item was committed exactly once, none is missing, all values are right"]
    return "\n".join(lines)
