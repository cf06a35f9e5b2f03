"""Writes docs/state-machines.md from the core's transition tables: `python -m tests.state_diagrams`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from windrow.common.words import JobState
from windrow.scheduler.core.machines import (
    CHUNK_TRANSITIONS,
    JOB_TRANSITIONS,
    NODE_TRANSITIONS,
    ChunkState,
    NodeState,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "state-machines.md"

_HEAD = """\
# State machines

Made from the tables in `scheduler/core/machines.py` by `python -m tests.state_diagrams`; a test keeps both equal.
A pair of state and trigger that is not drawn does not exist: the core raises `InvariantBroken`.
"""

_MEANINGS: dict[StrEnum, str] = {
    JobState.PENDING: "Nothing of it was placed yet, or a retry has put items back.",
    JobState.RUNNING: "A chunk of it was placed.",
    JobState.CANCELLING: "It commits nothing more; live fences are being resolved. Users see `running`.",
    JobState.PAUSED: "Nothing more of it is placed, and what has not started is taken back.",
    JobState.STOPPING: "As cancelling, because more items have failed than `max_failures` allows.",
    JobState.DONE: "Every item has a value.",
    JobState.FAILED: "Every item is terminal, and at least one is in quarantine; or `max_failures` stopped it.",
    JobState.CANCELLED: "No fence is live, and what had no outcome is cancelled.",
    ChunkState.PLACED: "Committed; perhaps on its way.",
    ChunkState.SENT: "The broker has taken responsibility for the message.",
    ChunkState.LEASED: "The node has it.",
    ChunkState.CLOSED: "Dead: its range is accounted for elsewhere.",
    NodeState.EXPECTED: "It held chunks under an earlier epoch and has not said hello to this one yet.",
    NodeState.ALIVE: "It said hello and is heard.",
    NodeState.LOST: "It missed its heartbeats; what it held was given to others.",
    NodeState.GONE: "It said goodbye.",
}


def make_page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        _section("Job", JOB_TRANSITIONS, JobState.PENDING),
        _section("Chunk", CHUNK_TRANSITIONS, ChunkState.PLACED),
        _section("Node", NODE_TRANSITIONS, NodeState.EXPECTED),
    ]
    return "\n".join(parts)


def _section(title: str, table: Mapping[StrEnum, Mapping[StrEnum, StrEnum]], first: StrEnum) -> str:  # type: ignore[type-var]
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state, row in table.items():
        lines += [f"    {state} --> {then}: {trigger}" for trigger, then in row.items()]
        if not row:
            lines.append(f"    {state} --> [*]")
    lines += ["```", "", "| state | meaning |", "|---|---|"]
    lines += [f"| {state} | {_MEANINGS[state]} |" for state in table]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(make_page())
