"""The transition tables say everything: each state has a row, terminal rows are empty, missing pairs raise.

The last tests take the pairs that are easily forgotten, which no other test of the core takes, by the events that do.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import state_diagrams
from tests.core_bench import JOB, NODE, Bench, failure_of, values_of
from windrow.common.errors import InvariantBroken
from windrow.common.messages import Accepted, CancelJob, ChunkReport, NodeBye, PauseJob
from windrow.common.options import Options
from windrow.common.words import TERMINAL_STATES, JobState
from windrow.scheduler.core import machines
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.machines import (
    CHUNK_TRANSITIONS,
    JOB_TRANSITIONS,
    NODE_TRANSITIONS,
    ChunkState,
    ChunkTrigger,
    JobTrigger,
    NodeState,
    NodeTrigger,
    next_chunk_state,
    next_job_state,
    next_node_state,
)

AFTER_THE_END = {JobState.FAILED: {JobTrigger.RETRY: JobState.PENDING}}
"""The one way back from an end: people put quarantined items back."""


def test_every_state_has_a_row() -> None:
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(CHUNK_TRANSITIONS) == set(ChunkState)
    assert set(NODE_TRANSITIONS) == set(NodeState)


def test_terminal_states_have_an_empty_row() -> None:
    for state in TERMINAL_STATES:
        assert JOB_TRANSITIONS[state] == AFTER_THE_END.get(state, {})
    assert CHUNK_TRANSITIONS[ChunkState.CLOSED] == {}


def test_every_state_but_the_first_can_be_reached_and_every_trigger_is_used() -> None:
    for table, first, triggers in (
        (JOB_TRANSITIONS, JobState.PENDING, JobTrigger),
        (CHUNK_TRANSITIONS, ChunkState.PLACED, ChunkTrigger),
        (NODE_TRANSITIONS, NodeState.EXPECTED, NodeTrigger),
    ):
        rows = list(table.values())
        assert {state for row in rows for state in row.values()} | {first} == set(table)  # type: ignore[attr-defined]
        assert {trigger for row in rows for trigger in row} == set(triggers)  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", sorted(JOB_TRANSITIONS))
@pytest.mark.parametrize("trigger", sorted(JobTrigger))
def test_a_job_moves_as_the_table_says_or_not_at_all(state: JobState, trigger: JobTrigger) -> None:
    if trigger in JOB_TRANSITIONS[state]:
        assert next_job_state(state, trigger) is JOB_TRANSITIONS[state][trigger]
    else:
        with pytest.raises(InvariantBroken, match=f"a job that is {state} cannot {trigger}"):
            next_job_state(state, trigger)


@pytest.mark.parametrize("state", sorted(ChunkState))
@pytest.mark.parametrize("trigger", sorted(ChunkTrigger))
def test_a_chunk_moves_as_the_table_says_or_not_at_all(state: ChunkState, trigger: ChunkTrigger) -> None:
    if trigger in CHUNK_TRANSITIONS[state]:
        assert next_chunk_state(state, trigger) is CHUNK_TRANSITIONS[state][trigger]
    else:
        with pytest.raises(InvariantBroken, match=f"a chunk that is {state} cannot {trigger}"):
            next_chunk_state(state, trigger)


@pytest.mark.parametrize("state", sorted(NodeState))
@pytest.mark.parametrize("trigger", sorted(NodeTrigger))
def test_a_node_moves_as_the_table_says_or_not_at_all(state: NodeState, trigger: NodeTrigger) -> None:
    if trigger in NODE_TRANSITIONS[state]:
        assert next_node_state(state, trigger) is NODE_TRANSITIONS[state][trigger]
    else:
        with pytest.raises(InvariantBroken, match=f"a node that is {state} cannot {trigger}"):
            next_node_state(state, trigger)


def test_a_paused_job_is_in_no_row() -> None:
    with pytest.raises(InvariantBroken, match="paused cannot place"):
        next_job_state(JobState.PAUSED, JobTrigger.PLACE)


def test_nothing_else_in_the_core_assigns_a_state_of_its_own_choice() -> None:
    """A state is assigned only what a `next_…_state` gave back."""
    for file in Path(machines.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Assign):
                targets = [t for t in node.targets if isinstance(t, ast.Attribute) and t.attr == "state"]
                for _ in targets:
                    assert "next_" in ast.unparse(node.value), f"{file.name}:{node.lineno}"


def test_the_diagrams_in_the_docs_are_those_of_the_tables() -> None:
    assert state_diagrams.PAGE.read_text() == state_diagrams.make_page(), "run `python -m tests.state_diagrams`"


def run_all(bench: Bench, options: Options = Options()) -> Dispatch:
    """A job of four items, all of which run in one chunk."""
    bench.know_item_time(0.001)
    bench.join()
    bench.start(JOB, 4, options=options)
    order = bench.place_one()
    bench.lease(order)
    return order


def pause(bench: Bench, *, resume: bool = False) -> None:
    bench.ask_for(Accepted, PauseJob(JOB, resume=resume))
    bench.drop_rest()


def end_with(bench: Bench, order: Dispatch, *, failed: int) -> None:
    """So many of the four items fail, and the others have values."""
    failures = tuple(failure for each in range(failed) for failure in failure_of(order, each).failures)
    values = values_of(order, failed, 4).values
    bench.report(ChunkReport(order.fence, JOB, values, failures, busy_s=0.001), holds=(order.fence,))
    bench.report()
    bench.drop_rest()


def interrupt(bench: Bench, state: JobState) -> None:
    """The job is paused while all of it runs, and resumed where that is asked for."""
    pause(bench)
    if state is not JobState.PAUSED:
        pause(bench, resume=True)
        # A job that was resumed while it ran was pending once; such rows may lie in a store.
        bench.job().state = state


INTERRUPTED = pytest.mark.parametrize("state", [JobState.PAUSED, JobState.RUNNING, JobState.PENDING])


@INTERRUPTED
@pytest.mark.parametrize(("failed", "end"), [(0, JobState.DONE), (1, JobState.FAILED)])
def test_what_ran_when_a_job_was_paused_may_be_the_last_of_it(
    bench: Bench, failed: int, end: JobState, state: JobState
) -> None:
    order = run_all(bench)
    interrupt(bench, state)
    end_with(bench, order, failed=failed)
    assert bench.job_state() is end


@INTERRUPTED
def test_what_ran_when_a_job_was_paused_may_fail_too_much(bench: Bench, state: JobState) -> None:
    order = run_all(bench, Options(max_failures=0))
    interrupt(bench, state)
    bench.report(failure_of(order, 1), holds=(order.fence,))
    bench.drop_rest()
    assert bench.job().state is JobState.STOPPING
    bench.report()
    bench.drop_rest()
    assert bench.job_state() is JobState.FAILED


def test_a_paused_job_can_be_cancelled(bench: Bench) -> None:
    bench.start(JOB, 4)
    pause(bench)
    bench.ask_for(Accepted, CancelJob(JOB))
    bench.drop_rest()
    assert bench.job_state() is JobState.CANCELLED


def test_a_job_that_stops_can_be_cancelled_and_ends_as_cancelled(bench: Bench) -> None:
    order = run_all(bench, Options(max_failures=0))
    bench.report(failure_of(order, 1), holds=(order.fence,))
    bench.ask_for(Accepted, CancelJob(JOB, "enough"))
    bench.drop_rest()
    assert (bench.job().state, bench.job().reason) == (JobState.CANCELLING, "enough")
    bench.report()
    bench.drop_rest()
    assert bench.job_state() is JobState.CANCELLED


def test_a_node_may_say_goodbye_twice(bench: Bench) -> None:
    bench.join()
    for _ in range(2):
        bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
        bench.drop_rest()
        assert bench.node().state is NodeState.GONE


def test_a_node_that_was_given_up_may_still_say_goodbye(bench: Bench) -> None:
    bench.join()
    bench.tick(60.0)
    assert bench.node().state is NodeState.LOST
    bench.ask_for(Accepted, NodeBye(NODE, "boot-1"))
    bench.drop_rest()
    assert bench.node().state is NodeState.GONE


def test_a_goodbye_without_a_boot_takes_a_node_away_that_was_not_heard_of_since_the_restart(bench: Bench) -> None:
    bench.join()
    bench.restart()
    assert bench.node().state is NodeState.EXPECTED
    bench.ask_for(Accepted, NodeBye(NODE, ""))
    bench.drop_rest()
    assert bench.node().state is NodeState.GONE
