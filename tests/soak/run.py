"""One soak from its beginning to its verdicts."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import tasks as chaos_tasks
from tests.chaos.faults import Done, Saboteur
from tests.chaos.site import Site
from tests.soak import tasks
from tests.soak.figures import all_figures
from tests.soak.judging import Verdict, judge_all, rates, table, undisturbed, windows
from tests.soak.restarts import plan_restarts
from tests.soak.sampling import Sampler, Series
from tests.soak.workload import Load
from windrow.client import flows

NODES = 2
SLOTS = 3
LEASE_S = 3.0
END_S_MAX = 180.0
KEPT_S = 30.0
"""Ended jobs are kept, and streams are open, for so long: then the store is full, and must be flat."""
AFTERMATH_S = 4.0
"""For so long after a restart calls may still wait for their turn."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a soak is asked for."""

    seconds: float
    folder: Path

    @property
    def warm_up_s(self) -> float:
        return max(3 * KEPT_S, self.seconds / 10)

    @property
    def window_s(self) -> float:
        """Latencies and throughput are told for each so long."""
        return min(60.0, self.seconds / 15)

    @property
    def sample_s(self) -> float:
        return min(5.0, self.seconds / 150)


@dataclass(slots=True)
class Found:
    """All that a soak has shown; it is well when nothing is wrong and every figure is flat."""

    asked: Asked
    wrong: list[str] = field(default_factory=list[str])
    series: Series = field(default_factory=Series)
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    restarts: list[Done] = field(default_factory=list[Done])
    counts: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def well(self) -> bool:
        return not self.wrong and all(verdict.flat for verdict in self.verdicts)

    def as_json(self) -> str:
        facts: dict[str, Any] = {
            "seconds": self.asked.seconds,
            "warm_up_s": self.asked.warm_up_s,
            "wrong": self.wrong,
            "counts": self.counts,
            "verdicts": [{**dataclasses.asdict(each), "flat": each.flat} for each in self.verdicts],
            "restarts": [
                {"kind": each.fault.kind, "target": each.fault.target, "began_s": each.began_s, "ended_s": each.ended_s}
                for each in self.restarts
            ],
            "series": {
                name: [[round(point.at_s, 2), point.value, point.life] for point in points]
                for name, points in self.series.items()
            },
        }
        return json.dumps(facts, indent=1) + "\n"


def run_soak(asked: Asked, say: Callable[[str], None] = print) -> Found:
    """Run it; nothing is left running."""
    found = Found(asked)
    site = Site(
        asked.folder, "amqp", nodes=NODES, slots=SLOTS, clients=0, lease_s=LEASE_S, linked=False, note_runs=False,
        tasks=(chaos_tasks.__name__, tasks.__name__), settings=kept_settings(KEPT_S),
    )  # fmt: skip
    try:
        _run(asked, site, found, say)
        try:
            site.stop()
        except AssertionError as error:
            found.wrong.append(f"at the end: {error}")
    finally:
        site.kill()
    return found


def kept_settings(kept_s: float) -> dict[str, str]:
    """The environment of a scheduler that keeps ended jobs for so long."""
    days = str(kept_s / 86_400)
    return {"WINDROW_SCHEDULER__RESULTS_KEPT_DAYS": days, "WINDROW_SCHEDULER__FAILURES_KEPT_DAYS": days}


def _run(asked: Asked, site: Site, found: Found, say: Callable[[str], None]) -> None:
    began_at = time.monotonic()
    flows.STREAM_SECONDS_MAX = KEPT_S
    load = Load(site.cluster.url, asked.folder, f"soak-{began_at}", began_at)
    sampler = Sampler(site, began_at, asked.sample_s)
    saboteur = Saboteur(site, say)
    try:
        saboteur.run(plan_restarts(asked.seconds, NODES), began_at)
        time.sleep(max(0.0, began_at + asked.seconds - time.monotonic()))
        sampler.stop()
        say(f"{time.monotonic() - began_at:7.1f} s  the end: waiting for what is under way")
        found.wrong += load.finish(time.monotonic() + END_S_MAX)
    finally:
        sampler.stop()
        load.close()
    found.wrong += load.wrong + saboteur.failed + site.failed + site.ended
    found.restarts = saboteur.done
    found.series = {**sampler.series, **_of_load(asked, load, saboteur.done)}
    figures = all_figures([node.name for node in site.cluster.nodes])
    found.verdicts = judge_all(figures, found.series, asked.warm_up_s)
    found.counts = {
        "items": sum(count for _, count in load.ended),
        "jobs": load.jobs,
        "calls one at a time": len(load.calls),
        "exports": load.exports,
        "restarts": len(saboteur.done),
    }


def _of_load(asked: Asked, load: Load, restarts: list[Done]) -> Series:
    calls = undisturbed(load.calls, [(each.began_s, each.ended_s + AFTERMATH_S) for each in restarts])
    return {
        "call.p50": windows(calls, asked.window_s, 0.50),
        "call.p99": windows(calls, asked.window_s, 0.99),
        "items": rates(load.ended, asked.window_s, asked.seconds),
    }


def show(found: Found) -> str:
    """The table, and what was wrong."""
    counted = ", ".join(f"{value:,.0f} {name}" for name, value in found.counts.items())
    lines = ["", table(found.verdicts), "", f"{found.asked.seconds / 60:.0f} minutes: {counted}"]
    if found.wrong:
        lines += ["", f"WRONG ({len(found.wrong)}):", *found.wrong[:20]]
    rising = [verdict.figure for verdict in found.verdicts if not verdict.flat]
    if rising:
        lines += ["", f"NOT FLAT: {'; '.join(rising)}"]
    if found.well:
        lines += ["", "clean: every item came to one right outcome, and every figure is flat"]
    return "\n".join(lines)
