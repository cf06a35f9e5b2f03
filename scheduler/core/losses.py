"""What becomes of items whose node was lost, of items that are given up, and of jobs that fail too much."""

from __future__ import annotations

from windrow.common.messages import ItemFailure
from windrow.common.options import OnLost
from windrow.common.ranges import RangeSet
from windrow.common.texts import counted
from windrow.common.words import FailureKind, JobState, Now
from windrow.scheduler.core.jobs import finish_if_complete, wind_down
from windrow.scheduler.core.machines import ChunkState, JobTrigger
from windrow.scheduler.core.records import PutFailure, PutLosses
from windrow.scheduler.core.state import Chunk, Job, Out, State, give_back_chunk

LOSSES_MAX = 3
"""An item by itself, lost with so many nodes, is quarantined."""
LOST_CHUNK_ITEMS_MAX = {2: 32, 3: 4}
"""Losses → items in a chunk: who has cost two nodes is looked for in ever smaller company; from 4 on alone."""
FAIL_CHUNK_ITEMS_MAX = 100
"""Items in a chunk with on_lost="fail": at most so many are given up when a node is lost."""


def lose_chunk(state: State, chunk: Chunk, now: Now, out: Out, *, blame: bool) -> None:
    """The node lost the chunk, or was lost with it. Only what was leased can have been running."""
    job = state.jobs[chunk.job]
    if chunk.state is ChunkState.LEASED and not job.winding_down and chunk.twin is None:
        if job.options.on_lost is OnLost.FAIL:
            _give_up(state, job, chunk, FailureKind.LOST, now, out)
        elif blame:
            _count_loss(state, job, chunk, now, out)
    give_back_chunk(state, chunk, out)
    finish_if_complete(state, job, now, out)
    stop_if_hopeless(state, job, now, out)


def _count_loss(state: State, job: Job, chunk: Chunk, now: Now, out: Out) -> None:
    """Raise the losses of what remains; a single item that has cost too many nodes is quarantined."""
    for span in list(chunk.remaining):
        for start, stop, losses in raise_losses(job, span.start, span.stop):
            out.append(PutLosses(job.no, start, stop, losses))
    alone = chunk.stop - chunk.start == 1
    if alone and job.losses_of(chunk.start) >= LOSSES_MAX:
        _give_up(state, job, chunk, FailureKind.NODE, now, out)


def raise_losses(job: Job, start: int, stop: int) -> list[tuple[int, int, int]]:
    """One more loss for [start, stop): parts with their new number."""
    fresh = RangeSet([(start, stop)])
    raised: list[tuple[int, int, int]] = []
    for number in sorted(job.losses):
        for part in job.losses[number].intersection(start, stop):
            raised.append((part.start, part.stop, number + 1))
            fresh.remove(part.start, part.stop)
    raised += [(part.start, part.stop, 1) for part in fresh]
    for low, high, losses in raised:
        restore_losses(job, low, high, losses)
    return raised


def restore_losses(job: Job, start: int, stop: int, losses: int) -> None:
    """[start, stop) has been lost so often, whatever was known before; terminal items do not count."""
    job.forget_losses(start, stop)
    for low, high in RangeSet([(start, stop)]):
        entered = job.losses.setdefault(losses, RangeSet())
        entered.add(low, high)
        for terminal in (job.done, job.quarantined):
            entered.subtract(terminal.intersection(low, high))
        if not entered:
            del job.losses[losses]


def _give_up(state: State, job: Job, chunk: Chunk, kind: FailureKind, now: Now, out: Out) -> None:
    """Quarantine all that remains of the chunk: one item, or at most FAIL_CHUNK_ITEMS_MAX."""
    node = state.nodes[chunk.node].name
    if kind is FailureKind.LOST:
        message = (
            f'node {node} was lost while it may have been running this item, and on_lost="fail" forbids another run'
        )
    else:
        message = f"{LOSSES_MAX} nodes were lost while they were running this item alone; the last one was {node}"
    for span in list(chunk.remaining):
        for item in range(span.start, span.stop):
            failure = ItemFailure(item, kind, "NodeLost", message)
            quarantine(state, job, failure, job.attempts_of(item) + 1, node, now, out)
    chunk.remaining.clear()


def quarantine(state: State, job: Job, failure: ItemFailure, attempts: int, node: str, now: Now, out: Out) -> None:
    """The failure is the item's outcome."""
    item = failure.item
    out.append(failure_record(job, failure, attempts, node, now, final=True))
    job.forget_attempts(item, item + 1)
    job.forget_losses(item, item + 1)
    job.quarantined.add(item, item + 1)
    state.tally(job.task).items_failed += 1


def failure_record(job: Job, failure: ItemFailure, attempt: int, node: str, now: Now, *, final: bool) -> PutFailure:
    return PutFailure(
        no=job.no,
        item=failure.item,
        attempt=attempt,
        kind=failure.kind,
        type=failure.type,
        message=failure.message,
        traceback=failure.traceback,
        node=node,
        failed_wall=now.wall,
        final=final,
        log=failure.log,
        memory_bytes_peak=failure.memory_bytes_peak,
    )


def stop_if_hopeless(state: State, job: Job, now: Now, out: Out) -> None:
    """More items have failed than `max_failures` allows: what has not run is not worth running."""
    allowed = job.options.max_failures
    if allowed is None or len(job.quarantined) <= allowed:
        return
    if job.state in (JobState.PENDING, JobState.RUNNING, JobState.PAUSED):
        failed = counted(len(job.quarantined), "item has", "items have")
        reason = f"{failed} failed, max_failures is {allowed}"
        wind_down(state, job, JobTrigger.STOP, reason, now, out)
