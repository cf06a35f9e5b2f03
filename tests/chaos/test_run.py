"""What a chaos run makes of what it has seen."""

from __future__ import annotations

from tests.chaos.faults import Done
from tests.chaos.plan import Fault
from tests.chaos.run import recoveries


def done(kind: str, began_s: float, ended_s: float) -> Done:
    return Done(Fault(0, began_s, kind, "node-0", ended_s - began_s, 0), began_s, ended_s)


def test_recovery_is_the_time_to_the_next_commit() -> None:
    faults = [done("kill node", 1.0, 2.0), done("cut link", 5.0, 6.0)]
    assert recoveries(faults, [1.5, 2.5, 6.25]) == [("kill node", 0.5), ("cut link", 0.25)]


def test_a_recovery_in_which_something_else_is_broken_is_left_out() -> None:
    faults = [done("kill node", 1.0, 2.0), done("cut link", 2.5, 6.0), done("kill worker", 1.0, 6.5)]
    assert recoveries(faults, [3.0, 7.0]) == [("kill worker", 0.5)]


def test_a_fault_after_which_nothing_is_committed_has_no_recovery() -> None:
    assert recoveries([done("kill node", 1.0, 2.0)], [0.5]) == []
