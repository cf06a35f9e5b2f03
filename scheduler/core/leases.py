"""What time does: leases end, delayed items come due, sent chunks turn out lost."""

from __future__ import annotations

import heapq

from windrow.common.words import Fence, NodeId, Now
from windrow.scheduler.core.jobs import finish_if_complete, forget_job
from windrow.scheduler.core.machines import ChunkState, ChunkTrigger, NodeState, NodeTrigger, next_chunk_state
from windrow.scheduler.core.reports import part_with_node
from windrow.scheduler.core.state import Out, State, give_back_chunk, note_ready

EXPIRY_INTERVAL_S = 0.25
UNSENT_PAUSE_S = 0.2


def on_time(state: State, now: Now, out: Out) -> None:
    """Whatever is due by now."""
    _release_due(state, now)
    if state.plan_at is not None and now.mono >= state.plan_at:
        state.plan_at = None
        state.plan_wanted = True
    if now.mono >= state.expiry_at:
        state.expiry_at = now.mono + EXPIRY_INTERVAL_S
        _expire(state, now, out)
        _reconcile(state, now, out)
    _part_with_ended_jobs(state)


def _release_due(state: State, now: Now) -> None:
    while state.due and state.due[0][0] <= now.mono:
        due, job_id = heapq.heappop(state.due)
        job = state.jobs.get(job_id)
        items = job.delayed.pop(due, None) if job is not None else None
        if job is not None and items is not None:
            job.pending.update(items)
            note_ready(state, job)
        else:
            state.due_stale -= 1


def _expire(state: State, now: Now, out: Out) -> None:
    """A lease ends by missed heartbeats of its node, never by the age of the work."""
    for node in state.nodes.values():
        watched = node.state in (NodeState.ALIVE, NodeState.EXPECTED)
        if watched and now.mono - node.heard_at > state.settings.lease_s:
            part_with_node(state, node, NodeTrigger.LOSE, now, out)


def on_clock_gap(state: State, gap_s: float) -> None:
    """The scheduler did not read its sockets: what it could not hear is held against nobody."""
    for node in state.nodes.values():
        node.heard_at += gap_s
        if node.queue_empty_since is not None:
            node.queue_empty_since += gap_s


def on_queue_seen(state: State, node_id: NodeId, ready: int, now: Now) -> None:
    node = state.nodes.get(node_id)
    if node is None:
        return
    node.queue_empty_at = now.mono
    if ready:
        node.queue_empty_since = None
    elif node.queue_empty_since is None:
        node.queue_empty_since = now.mono


def nodes_to_look_at(state: State, now: Now) -> list[NodeId]:
    """Nodes with chunks that were sent a while ago and have not arrived: their queues are worth a look."""
    return [
        node.id
        for node in state.nodes.values()
        if node.state is NodeState.ALIVE
        and any(_is_overdue(chunk.state, chunk.placed_at, now) for chunk in node.chunks.values())
    ]


def _is_overdue(chunk_state: ChunkState, placed_at: float, now: Now) -> bool:
    return chunk_state is ChunkState.SENT and now.mono - placed_at > 1.0


def _reconcile(state: State, now: Now, out: Out) -> None:
    """A sent chunk that its node does not hold, while the node queue was seen empty twice, is lost in the pipe."""
    for node in state.nodes.values():
        since = node.queue_empty_since
        if node.state is not NodeState.ALIVE or since is None:
            continue
        if node.queue_empty_at - since < state.settings.lost_after_s:
            continue
        # The next chunk needs two looks of its own: seen from then on, not since ever.
        node.queue_empty_since = None
        for chunk in list(node.chunks.values()):
            if chunk.state is ChunkState.SENT and chunk.placed_at < since:
                job = state.jobs[chunk.job]
                give_back_chunk(state, chunk, out)
                finish_if_complete(state, job, now, out)


def on_sent(state: State, fence: Fence) -> None:
    chunk = state.chunks.get(fence)
    if chunk is not None and chunk.state is not ChunkState.SENT:
        chunk.state = next_chunk_state(chunk.state, ChunkTrigger.SEND)


def on_unsent(state: State, fence: Fence, now: Now, out: Out) -> None:
    """Returned, refused or unconfirmed: back to pending, unless the node has got it all the same."""
    chunk = state.chunks.get(fence)
    if chunk is not None and chunk.state is not ChunkState.LEASED:
        job = state.jobs[chunk.job]
        # Placed again at once it would be refused again at once, with a commit each time round.
        state.nodes[chunk.node].unsent_until = now.mono + UNSENT_PAUSE_S
        give_back_chunk(state, chunk, out)
        finish_if_complete(state, job, now, out)


def _part_with_ended_jobs(state: State) -> None:
    leaving, state.leaving_jobs = state.leaving_jobs, []
    for job_id in leaving:
        job = state.jobs.get(job_id)
        if job is not None and job.terminal:
            forget_job(state, job)
