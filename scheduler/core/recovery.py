"""Rebuilds the core's state from the durable facts, at the start and when a terminal job is needed again."""

from __future__ import annotations

from windrow.common.ranges import RangeSet
from windrow.common.words import JobId, Now, Range
from windrow.scheduler.core.inputs import InputBlock
from windrow.scheduler.core.jobs import enter_job
from windrow.scheduler.core.losses import restore_losses
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.records import Snapshot, StoredChunk, StoredJob, StoredNode
from windrow.scheduler.core.state import Chunk, CoreSettings, Job, Node, State, add_chunk, delay, due_at, note_ready
from windrow.scheduler.core.twins import join_twins


def rebuild(snapshot: Snapshot, settings: CoreSettings, now: Now) -> State:
    """The state as of the snapshot. Live chunks stay live; every lease gets a fresh full period."""
    state = State(
        settings=settings,
        epoch=snapshot.epoch,
        cluster=snapshot.cluster,
        secret=snapshot.secret,
        last_job_no=snapshot.last_job_no,
    )
    for stored in snapshot.nodes:
        state.nodes[stored.id] = _node(stored, now)
    for job in snapshot.jobs:
        enter_job(state, _job_with_outcomes(job, now))
    single: dict[tuple[JobId, int], Chunk] = {}
    for stored_chunk in snapshot.chunks:
        chunk = _restore_chunk(state, stored_chunk, now)
        if len(chunk.remaining) == 1:
            # Two live fences over one item are twins.
            other = single.setdefault((chunk.job, chunk.remaining.first.start), chunk)
            if other is not chunk:
                join_twins(other, chunk)
    for job in snapshot.jobs:
        _restore_pending(state, state.jobs[job.id], job, now)
    for restored in state.jobs.values():
        _restore_dependencies(state, restored)
        note_ready(state, restored)
    return state


def recall_job(state: State, stored: StoredJob, now: Now) -> None:
    """Take a terminal job back in; it leaves again at the next tick unless something was put back to pending."""
    if stored.id in state.jobs:
        return
    job = _job_with_outcomes(stored, now)
    enter_job(state, job)
    _restore_pending(state, job, stored, now)
    state.leaving_jobs.append(job.id)


def _node(stored: StoredNode, now: Now) -> Node:
    return Node(
        id=stored.id,
        name=stored.name,
        host=stored.host,
        state=NodeState.GONE if stored.gone else NodeState.EXPECTED,
        heard_at=now.mono,
        seen_wall=stored.seen_wall,
        drained=stored.drained,
    )


def _job_with_outcomes(stored: StoredJob, now: Now) -> Job:
    job = Job(
        no=stored.no,
        id=stored.id,
        task=stored.task,
        name=stored.name,
        options=stored.options,
        stream=stored.stream,
        key=stored.key,
        after=stored.after,
        numbers=stored.numbers,
        total=stored.total,
        open=stored.open,
        state=stored.state,
        created_wall=stored.created_wall,
        appended_at=now.mono,
        generation=stored.generation,
        reason=stored.reason,
        retried=stored.retried,
        finished_wall=stored.finished_wall,
        done=RangeSet.from_bounds(stored.done),
        quarantined=RangeSet.from_bounds(stored.quarantined),
    )
    for each in stored.inputs:
        job.inputs.add(InputBlock(each.base, each.count, each.block_bytes, each.digest))
    for attempt in stored.attempts:
        if attempt.item in job.done or attempt.item in job.quarantined:
            continue
        if attempt.attempts:
            job.attempts.setdefault(attempt.attempts, RangeSet()).add(attempt.item, attempt.item + 1)
        if attempt.suspect:
            job.suspects.add(attempt.item, attempt.item + 1)
    for lost in sorted(stored.losses, key=lambda one: one.losses):
        restore_losses(job, lost.start, lost.stop, lost.losses)
    return job


def _restore_chunk(state: State, stored: StoredChunk, now: Now) -> Chunk:
    job = state.jobs[state.job_by_no[stored.no]]
    remaining = RangeSet.from_bounds(stored.bounds)
    # The row knows what left without an outcome; what left with one is known from the outcome rows.
    for terminal in (job.done, job.quarantined):
        for start, stop in list(remaining):
            remaining.subtract(terminal.intersection(start, stop))
    if stored.node not in state.nodes:
        state.nodes[stored.node] = Node(stored.node, str(stored.node), "", NodeState.EXPECTED, now.mono, now.wall)
    chunk = Chunk(
        fence=stored.fence,
        job=job.id,
        node=stored.node,
        start=stored.bounds[0],
        stop=stored.bounds[-1],
        remaining=remaining,
        # A placed chunk of an earlier reign is perhaps in the broker.
        state=ChunkState.LEASED if stored.leased else ChunkState.SENT,
        placed_at=now.mono,
        work_s=0.0,
        # They change when a fence ends, so those of its range are what they were when it was placed.
        losses=job.losses_of(remaining.first.start),
    )
    add_chunk(state, job, chunk)
    return chunk


def _restore_pending(state: State, job: Job, stored: StoredJob, now: Now) -> None:
    """Pending is what is nowhere else."""
    elsewhere = [job.done, job.quarantined, *(chunk.remaining for chunk in job.chunks.values())]
    rest = RangeSet([(0, job.total)])
    for each in elsewhere:
        rest.subtract(each)
    if job.winding_down or job.terminal:
        job.cancelled = rest
        return
    job.pending = rest
    if job.numbers is not None:
        delay_s = job.options.delay_s
        _delay_pending(state, job, Range(0, job.total), _left_s(job.created_wall + delay_s, delay_s, now), now)
    for block in stored.inputs:
        if block.due_wall is not None:
            items = Range(block.base, block.base + block.count)
            _delay_pending(state, job, items, _left_s(block.due_wall, block.wait_s, now), now)
    for attempt in stored.attempts:
        items = Range(attempt.item, attempt.item + 1)
        _delay_pending(state, job, items, _left_s(attempt.due_wall, attempt.wait_s, now), now)


def _left_s(due_wall: float, wait_s: float | None, now: Now) -> float:
    """How much longer to wait: the wall clock knows how long no scheduler ran, and may have been set back since."""
    left_s = due_wall - now.wall
    return left_s if wait_s is None else min(left_s, wait_s)


def _delay_pending(state: State, job: Job, items: Range, left_s: float, now: Now) -> None:
    if left_s <= 0:
        return
    due = due_at(now.mono, left_s)
    start, stop = items
    for part in job.pending.intersection(start, stop):
        job.pending.remove(part.start, part.stop)
        delay(state, job, part.start, part.stop, due)


def _restore_dependencies(state: State, job: Job) -> None:
    """A job ends and frees its dependents in one commit: one that is not live any more has succeeded.

    A job that winds down waits for none of them: it has live chunks, and was given them when all had ended.
    """
    for dependency in job.after:
        if dependency in state.jobs:
            job.waits_for.add(dependency)
            state.dependents.setdefault(dependency, []).append(job.id)
