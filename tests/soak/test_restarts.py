"""When a soak restarts what."""

from __future__ import annotations

import itertools

import pytest

from tests.soak.restarts import plan_restarts


@pytest.mark.parametrize("minutes", [5, 15, 60, 600])
def test_scheduler_nodes_and_broker_are_ended_both_ways_in_any_run(minutes: int) -> None:
    plan = plan_restarts(minutes * 60.0, 2)
    if minutes >= 10:
        assert {(fault.kind, fault.target) for fault in plan} == {
            (f"{how} {what}", target)
            for how in ("stop", "kill")
            for what, target in (
                ("scheduler", "scheduler"), ("broker", "broker"), ("node", "node-0"), ("node", "node-1"),
            )
        }  # fmt: skip
    assert {fault.target for fault in plan} == {"scheduler", "broker", "node-0", "node-1"}


@pytest.mark.parametrize("minutes", [5, 60])
def test_the_daemons_live_long_enough_for_growth_to_be_seen(minutes: int) -> None:
    plan = plan_restarts(minutes * 60.0, 2)
    assert all(50.0 <= later.at_s - sooner.at_s <= 300.0 for sooner, later in itertools.pairwise(plan))
    times_s = [fault.at_s for fault in plan if fault.target == "scheduler"]
    assert all(later - sooner >= 200.0 for sooner, later in itertools.pairwise(times_s))
