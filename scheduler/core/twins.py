"""Places a second chunk over an item that takes its time, where the task allows it; the first outcome counts.

Only a single item that nothing waits behind gets a twin, on another node, while a slot idles. Both fences share one
`remaining`, so what is committed under one has left the other too. A fence that ends without a value leaves the item to
the other (`give_back_chunk`): it neither returns to pending nor uses an attempt.
"""

from __future__ import annotations

from windrow.common.messages import ChunkReport
from windrow.common.options import OnLost
from windrow.common.words import Fence, JobState, Now
from windrow.scheduler.core.commands import Dispatch, TellNode
from windrow.scheduler.core.machines import ChunkState
from windrow.scheduler.core.planning import is_able, known_time
from windrow.scheduler.core.records import PutChunk
from windrow.scheduler.core.state import Chunk, Job, Node, Out, State, add_chunk, close_chunk

TWIN_AFTER_S = 1.0
TWIN_AFTER_ITEM_TIMES = 2.0
"""An item that has taken so long, and so many times what items take, is a straggler."""
CANDIDATES_MAX = 64
"""Of a job, oldest first, at one look."""


def place_twins(state: State, idle: list[Node], now: Now, out: Out) -> None:
    """One for each idle node, as long as there are stragglers."""
    for job in state.jobs.values():
        if not idle:
            return
        if not _allows_twins(job):
            continue
        for chunk in list(job.chunks.values())[:CANDIDATES_MAX]:
            node = next((each for each in idle if each.id != chunk.node and is_able(each, job)), None)
            if node is not None and _is_straggler(state, job, chunk, now):
                _place(state, job, chunk, node, now, out)
                idle.remove(node)


def _allows_twins(job: Job) -> bool:
    options = job.options
    return (
        options.idempotent and options.on_lost is not OnLost.FAIL and job.state is JobState.RUNNING and not job.pending
    )


def _is_straggler(state: State, job: Job, chunk: Chunk, now: Now) -> bool:
    if chunk.state is not ChunkState.LEASED or chunk.had_twin or len(chunk.remaining) != 1:
        return False
    item = chunk.remaining.first.start
    if item in job.suspects or job.losses_of(item):
        return False  # What may have killed a worker or a node is not tried on two at once.
    patience_s = max(TWIN_AFTER_S, TWIN_AFTER_ITEM_TIMES * known_time(state, job).item_s)
    return now.mono - chunk.placed_at > patience_s


def _place(state: State, job: Job, chunk: Chunk, node: Node, now: Now, out: Out) -> None:
    item = chunk.remaining.first.start
    state.counter += 1
    fence = Fence(state.epoch, state.counter)
    twin = Chunk(
        fence=fence,
        job=job.id,
        node=node.id,
        start=item,
        stop=item + 1,
        remaining=chunk.remaining,
        state=ChunkState.PLACED,
        placed_at=now.mono,
        work_s=known_time(state, job).item_s,
    )
    join_twins(chunk, twin)
    add_chunk(state, job, twin)
    attempts = job.attempts_of(item)
    out.append(PutChunk(fence, job.no, item, item + 1, node.id))
    out.append(
        Dispatch(fence, node.id, job.id, item, item + 1, ((item, item + 1, attempts),) if attempts else (), alone=False)
    )


def join_twins(one: Chunk, other: Chunk) -> None:
    """From now on both are over the same item."""
    one.twin, other.twin = other.fence, one.fence
    one.had_twin = other.had_twin = True
    other.remaining = one.remaining


def close_twin(state: State, chunk: Chunk, out: Out) -> None:
    """The item has its outcome: whoever else is at it can stop."""
    if chunk.twin is not None:
        twin = state.chunks[chunk.twin]
        close_chunk(state, twin, out)
        out.append(TellNode(twin.node))


def ends_for_twin(job: Job, chunk: Chunk, said: ChunkReport) -> bool:
    """Whether the node is through with the item and has no value for it that counts: then it is left to the twin."""
    item = chunk.remaining.first.start
    if any(run.start <= item < run.stop for run in said.values):
        return job.winding_down
    failed = any(failure.item == item for failure in said.failures)
    return failed or any(part.start <= item < part.stop for part in said.released)
