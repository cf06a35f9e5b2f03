"""What is drawn from a seed: the same each time, all kinds in turn, and nothing of a broker where there is none."""

from __future__ import annotations

from itertools import pairwise

from tests.chaos.plan import EVERYWHERE, LONG_SHARE, WITH_A_BROKER, Dispatch, Fault, draw_plan, link_names

LEASE_S = 3.0
GAP_S = (1.0, 5.0)


def plan(seed: int, seconds: float = 600.0, dispatch: Dispatch = "amqp") -> list[Fault]:
    return draw_plan(seed, seconds, dispatch, nodes=3, clients=2, lease_s=LEASE_S, gap_s=GAP_S)


def test_one_seed_gives_one_plan_and_another_seed_another() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_every_kind_comes_before_any_comes_again() -> None:
    kinds = [fault.kind for fault in plan(1)]
    assert set(kinds[:16]) == {*EVERYWHERE, *WITH_A_BROKER}
    assert set(kinds[16:32]) == set(kinds[:16])


def test_without_a_broker_nothing_befalls_one() -> None:
    faults = plan(1, dispatch="local")
    assert {fault.kind for fault in faults} == {*EVERYWHERE}
    assert not [fault for fault in faults if "broker" in fault.target or fault.target == "queues"]


def test_only_the_kinds_that_are_asked_for_come() -> None:
    faults = draw_plan(1, 60.0, "local", nodes=3, clients=2, lease_s=LEASE_S, gap_s=GAP_S, only=["kill node"])
    assert len(faults) >= 60.0 / GAP_S[1] - 1
    assert {fault.kind for fault in faults} == {"kill node"}


def test_of_a_cluster_each_broker_is_broken_alone_and_all_are_wiped_together() -> None:
    faults = draw_plan(1, 600.0, "amqp", nodes=3, clients=2, brokers=3, lease_s=LEASE_S, gap_s=GAP_S)
    assert {fault.target for fault in faults if fault.kind == "kill broker"} == {"broker-0", "broker-1", "broker-2"}
    assert {fault.target for fault in faults if fault.kind == "wipe broker"} == {"brokers"}
    links = link_names("amqp", 3, 2, brokers=3)
    assert {"scheduler>broker-2", "node-0>broker-1"} < set(links)
    assert {fault.target for fault in faults if "link" in fault.kind} <= set(links)
    assert [fault.at_s for fault in faults][:3] == [fault.at_s for fault in plan(1)][:3], "seeds draw the same times"


def test_targets_are_what_there_is() -> None:
    nodes = {"node-0", "node-1", "node-2"}
    for fault in plan(3):
        if "link" in fault.kind:
            assert fault.target in link_names("amqp", 3, 2)
        elif fault.kind.endswith(("node", "worker", "workers")):
            assert fault.target in nodes
        else:
            assert fault.target == fault.kind.split()[1]


def test_faults_begin_within_the_time_and_some_outlast_the_lease() -> None:
    faults = plan(4)
    assert faults[0].at_s > 0
    assert faults[-1].at_s < 600.0
    gaps_s = [later.at_s - earlier.at_s for earlier, later in pairwise(faults)]
    assert GAP_S[0] <= min(gaps_s)
    assert max(gaps_s) <= GAP_S[1]
    long = [fault for fault in faults if fault.duration_s > LEASE_S]
    assert 0.5 * LONG_SHARE < len(long) / len(faults) < 1.5 * LONG_SHARE
