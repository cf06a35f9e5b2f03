"""The transition tables say everything: each state has a row, terminal rows are empty, missing pairs raise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import state_diagrams
from windrow.common.errors import InvariantBroken
from windrow.common.words import TERMINAL_STATES, JobState
from windrow.scheduler.core import machines
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
