"""Leaves a node out of a job once the task has said there that this node cannot do it (`windrow.NodeUnfit`).

Kept in memory alone: after a restart of the scheduler the node is tried again, and says so again.
"""

from __future__ import annotations

from dataclasses import replace

from windrow.common.messages import ItemFailure
from windrow.common.words import JobState, Now
from windrow.scheduler.core.jobs import wind_down
from windrow.scheduler.core.losses import failure_record, quarantine
from windrow.scheduler.core.machines import JobTrigger, NodeState
from windrow.scheduler.core.planning import is_able
from windrow.scheduler.core.state import Chunk, Job, Node, Out, State, return_to_pending

SAID_MAX = 3
"""Different reasons in one message."""
SAID_CHARS_MAX = 1000
"""Of each of them."""
_GOES_ON = (JobState.PENDING, JobState.RUNNING, JobState.PAUSED)


def _is_node_left(state: State, job: Job) -> bool:
    """Whether a node offers the task and is not left out: one that lives (it may be draining), or that is expected."""
    return any(_may_be_able(node, job) for node in state.nodes.values())


def _may_be_able(node: Node, job: Job) -> bool:
    if node.state is NodeState.EXPECTED:
        # Nodes report before they say hello: after a restart the first one to speak is not the only one.
        return node.id not in job.unfit
    return node.state is NodeState.ALIVE and is_able(node, job)


def on_unfit(state: State, job: Job, chunk: Chunk, failure: ItemFailure, now: Now, out: Out) -> bool:
    """The item goes elsewhere and has used no attempt; with no node left it fails. True: it left its fence."""
    node = state.nodes[chunk.node]
    job.unfit[node.id] = failure.message
    attempts = job.attempts_of(failure.item)
    if not _is_node_left(state, job):
        quarantine(state, job, replace(failure, message=_said(job)), attempts + 1, node.name, now, out)
        return False
    out.append(failure_record(job, failure, attempts + 1, node.name, now, final=False))
    return_to_pending(state, job, [(failure.item, failure.item + 1)])
    return True


def _said(job: Job) -> str:
    """What the nodes that are left out have said, each thing once, the last ones of many."""
    return "; ".join([said[:SAID_CHARS_MAX] for said in dict.fromkeys(job.unfit.values())][-SAID_MAX:])


def stop_if_no_node_is_left(state: State, job: Job, now: Now, out: Out) -> None:
    """What has not run cannot run anywhere."""
    if job.unfit and job.state in _GOES_ON and not _is_node_left(state, job):
        reason = f"no node is left that can do it ({len(job.unfit)} said that they cannot): {_said(job)}"
        wind_down(state, job, JobTrigger.STOP, reason, now, out)


def on_expected_node_gone(state: State, now: Now, out: Out) -> None:
    """Jobs may have counted on it."""
    for job in state.jobs.values():
        stop_if_no_node_is_left(state, job, now, out)
