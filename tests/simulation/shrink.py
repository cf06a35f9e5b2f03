"""Makes a failing scenario small: whatever can be left out, while it still fails, is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.scenario import JobPlan, Scenario

TRIES_MAX = 400


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], tries_max: int = TRIES_MAX) -> Scenario:
    """The smallest scenario that was met, by steps that each keep it failing."""
    tries = 0
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(scenario):
            tries += 1
            if tries > tries_max:
                return scenario
            if fails(smaller):
                scenario, progress = smaller, True
                break
    return scenario


def _smaller(whole: Scenario) -> Iterator[Scenario]:
    """Ways to leave something out, the boldest first."""
    half = len(whole.faults) // 2
    if half:
        yield replace(whole, faults=whole.faults[half:])
        yield replace(whole, faults=whole.faults[:half])
    for at in range(len(whole.faults)):
        yield replace(whole, faults=whole.faults[:at] + whole.faults[at + 1 :])
    if len(whole.jobs) > 1 and all(job.after is None or job.after < len(whole.jobs) - 1 for job in whole.jobs):
        yield replace(whole, jobs=whole.jobs[:-1])
    for at, job in enumerate(whole.jobs):
        # The number of a job is part of its items' fates: in the middle it is emptied and not taken out.
        for less in _smaller_jobs(job):
            yield replace(whole, jobs=(*whole.jobs[:at], less, *whole.jobs[at + 1 :]))
    for name in ("lose", "repeat", "slow", "refuse"):
        if getattr(whole, name):
            yield replace(whole, **{name: 0.0})
    if len(whole.nodes) > 1:
        yield replace(whole, nodes=whole.nodes[:-1])
    for at, node in enumerate(whole.nodes):
        if node.slots > 1 or node.repeats:
            yield replace(
                whole, nodes=(*whole.nodes[:at], replace(node, slots=1, repeats=False), *whole.nodes[at + 1 :])
            )
    last = max((fault.at_s for fault in whole.faults), default=0.0) + 1.0
    if last < whole.faults_until_s - 1.0:
        yield replace(whole, faults_until_s=last)


def _smaller_jobs(job: JobPlan) -> Iterator[JobPlan]:
    plain = JobPlan(job.shape, job.items)
    if job.items > 1:
        yield replace(job, items=job.items // 2)
        yield replace(job, items=job.items - 1)
    for name in ("cancel_at_s", "after", "timeout_s", "max_failures", "delay_s", "errors", "flaky", "crashes", "hangs"):
        if getattr(job, name) != getattr(plain, name):
            yield replace(job, **{name: getattr(plain, name)})
    for name in ("killers", "retries", "once", "retry", "twins", "unfit"):
        if getattr(job, name) != getattr(plain, name):
            yield replace(job, **{name: getattr(plain, name)})
    if job.pause_at_s is not None:
        yield replace(job, pause_at_s=None, resume_at_s=None)
