"""What is said of the state to those who ask: jobs and nodes as users see them, directives for nodes, depths."""

from __future__ import annotations

from collections import Counter

from windrow.common.messages import Directives, JobInfo, NodeInfo
from windrow.common.words import Fence, JobState, NodeId, Now
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.state import Job, Node, State


def job_info(job: Job) -> JobInfo:
    """The job as users see it; the counts add up to the total."""
    running = sum(
        len(chunk.remaining) for chunk in job.chunks.values() if chunk.counts and chunk.state is ChunkState.LEASED
    )
    done, failed, cancelled = len(job.done), len(job.quarantined), len(job.cancelled)
    return JobInfo(
        id=job.id,
        name=job.name,
        task=job.task,
        state=JobState.RUNNING if job.winding_down else job.state,
        open=job.open,
        total=job.total,
        done=done,
        failed=failed,
        cancelled=cancelled,
        running=running,
        pending=job.total - done - failed - cancelled - running,
        queue=job.options.queue,
        priority=job.options.priority,
        stream=job.stream,
        reason=job.reason,
        created_s=job.created_wall,
        finished_s=job.finished_wall,
        retried=job.retried,
        after=job.after,
        generation=job.generation,
    )


def node_info(node: Node, now: Now) -> NodeInfo:
    """The node as users see it."""
    state = node.state.value
    if node.state is NodeState.ALIVE and (node.drained or node.leaving):
        state = "draining"
    return NodeInfo(
        id=node.id,
        name=node.name,
        host=node.host,
        state=state,
        slots=node.slots,
        queues=tuple(sorted(node.queues)),
        labels=node.labels,
        tasks=tuple(node.tasks[name] for name in sorted(node.tasks)),
        errors=node.errors,
        chunks=len(node.chunks),
        load=node.load,
        heard_s_ago=max(0.0, now.mono - node.heard_at),
        version=node.version,
    )


def directives(state: State, node_id: NodeId, boot: str) -> Directives:
    """What the node should reach, but for the chunks, which the way of dispatch adds."""
    node = state.nodes.get(node_id)
    if node is None or node.boot != boot or node.state is not NodeState.ALIVE:
        return Directives(state.epoch, rejoin=True)
    dead: list[Fence] = []
    give_up: list[Fence] = []
    placed = 0
    for chunk in node.chunks.values():
        job = state.jobs[chunk.job]
        unwanted = chunk.wanted_back or job.state is JobState.PAUSED or node.id in job.unfit
        if chunk.state is not ChunkState.LEASED:
            placed += 1
            if job.winding_down or unwanted or node.drained:
                give_up.append(chunk.fence)
        elif job.winding_down:
            dead.append(chunk.fence)
        elif unwanted:
            give_up.append(chunk.fence)
    return Directives(state.epoch, drain=node.drained, give_up=tuple(give_up), dead=tuple(dead), placed=placed)


def depths(state: State) -> Counter[tuple[str, str]]:
    """(queue, where) → items of live jobs that are pending, delayed, placed or leased."""
    found: Counter[tuple[str, str]] = Counter()
    for job in state.jobs.values():
        queue = job.options.queue
        found[queue, "pending"] += len(job.pending)
        found[queue, "delayed"] += sum(len(items) for items in job.delayed.values())
        for chunk in job.chunks.values():
            where = "leased" if chunk.state is ChunkState.LEASED else "placed"
            found[queue, where] += len(chunk.remaining) if chunk.counts else 0
    return found
