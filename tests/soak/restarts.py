"""Which daemon a soak restarts when: scheduler, nodes and broker in turn, by SIGTERM and by SIGKILL."""

from __future__ import annotations

from tests.chaos.plan import Fault

GAP_S_MIN = 50.0
RESTARTS_MIN = 12
"""A long run has so many at least; a short one as many as the shortest gap lets it."""
AWAY_S = 1.0


def plan_restarts(seconds: float, nodes: int) -> list[Fault]:
    """The first after half a gap; of two restarts of the same daemon one is in order and one is not."""
    gap_s = max(GAP_S_MIN, seconds / RESTARTS_MIN)
    targets = ["scheduler", "node-0", "broker", *(f"node-{number}" for number in range(1, nodes))]
    plan: list[Fault] = []
    at_s = gap_s / 2
    while at_s < seconds - gap_s / 4:
        number = len(plan)
        target = targets[number % len(targets)]
        how = "stop" if (number // len(targets) + number) % 2 == 0 else "kill"
        plan.append(Fault(number, at_s, f"{how} {target.split('-')[0]}", target, AWAY_S, 0))
        at_s += gap_s
    return plan
