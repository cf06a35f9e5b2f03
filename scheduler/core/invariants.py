"""Checks, from both sides, that the state is whole; after every step in tests, and now and then in production."""

from __future__ import annotations

from windrow.common.errors import InvariantBroken
from windrow.common.ranges import RangeSet
from windrow.common.words import JobState
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.state import Chunk, Job, State


def check_invariants(state: State) -> None:
    """Raise InvariantBroken, naming what does not fit what."""
    for job in state.jobs.values():
        _check_tiling(job)
        _check_job(state, job)
    for chunk in state.chunks.values():
        _check_chunk(state, chunk)
        _check_twins(state, chunk)
    for node in state.nodes.values():
        for fence, chunk in node.chunks.items():
            _require(state.chunks.get(fence) is chunk, "node {} lists fence {}, which is not live", node.name, fence)
        _require(
            not node.chunks or node.state in (NodeState.ALIVE, NodeState.EXPECTED),
            "node {} is {} and has live fences",
            node.name,
            node.state,
        )
    for job_id in state.ready:
        _require(job_id in state.jobs, "job {} is listed as ready and unknown", job_id)


def _require(holds: bool, otherwise: str, *named: object) -> None:
    # The text is made only where it is needed: these checks also run in production.
    if not holds:
        raise InvariantBroken(otherwise.format(*named))


def _check_tiling(job: Job) -> None:
    """Every index of [0, total) is in exactly one place."""
    union = RangeSet()
    counted = 0
    live = [chunk.remaining for chunk in job.chunks.values() if chunk.counts]
    for part in (job.pending, job.done, job.quarantined, job.cancelled, *job.delayed.values(), *live):
        union.update(part)
        counted += len(part)
    whole = RangeSet([(0, job.total)])
    _require(union == whole, "job {}: the sets cover {}, not {}", job.id, union, whole)
    _require(counted == job.total, "job {}: {} indexes are in two places", job.id, counted - job.total)


def _check_job(state: State, job: Job) -> None:
    _require(state.job_by_no.get(job.no) == job.id, "job {} is not found by its number {}", job.id, job.no)
    _require(job.placeable == (job.id in state.ready), "job {}: ready is out of step with its state", job.id)
    if job.terminal:
        _require(
            not (job.pending or job.delayed or job.chunks or job.open),
            "job {} is {} and not at its end",
            job.id,
            job.state,
        )
        _require(job.id in state.leaving_jobs, "job {} is {} and would never leave the core", job.id, job.state)
        _require(
            job.state is not JobState.DONE or len(job.done) == job.total, "job {} is done and lacks values", job.id
        )
        _require(
            job.state is not JobState.FAILED or bool(job.quarantined), "job {} failed without a failed item", job.id
        )
    else:
        live = job.open or job.pending or job.delayed or job.chunks or job.waits_for
        _require(bool(live), "job {} is {} and nothing would ever end it", job.id, job.state)
    if job.winding_down:
        _require(not job.pending and not job.delayed, "job {} winds down and has something left to place", job.id)
    else:
        _require(job.terminal or not job.cancelled, "job {} is {} and has cancelled items", job.id, job.state)
    for number, items in job.attempts.items():
        _require(number > 0 and bool(items), "job {}: an empty set of attempts", job.id)
    for fence, chunk in job.chunks.items():
        _require(state.chunks.get(fence) is chunk, "job {} lists fence {}, which is not live", job.id, fence)
    for dependency in job.waits_for:
        waited = state.jobs.get(dependency)
        _require(waited is not None and not waited.terminal, "job {} waits for {}, which has ended", job.id, dependency)
        _require(
            job.id in state.dependents.get(dependency, ()), "job {} would not be told of {}'s end", job.id, dependency
        )


def _check_chunk(state: State, chunk: Chunk) -> None:
    _require(chunk.state is not ChunkState.CLOSED, "fence {} is closed and listed", chunk.fence)
    _require(bool(chunk.remaining), "fence {} has nothing left and is live", chunk.fence)
    _require(chunk.fence.epoch <= state.epoch, "fence {} is of a later epoch than {}", chunk.fence, state.epoch)
    if chunk.fence.epoch == state.epoch:
        _require(chunk.fence.counter <= state.counter, "fence {} was never given out", chunk.fence)
    _require(RangeSet([(chunk.start, chunk.stop)]).covers(*_hull(chunk)), "fence {} has outgrown itself", chunk.fence)
    _require(state.jobs[chunk.job].chunks.get(chunk.fence) is chunk, "fence {} is unknown to its job", chunk.fence)
    _require(state.nodes[chunk.node].chunks.get(chunk.fence) is chunk, "fence {} is unknown to its node", chunk.fence)


def _check_twins(state: State, chunk: Chunk) -> None:
    if chunk.twin is None:
        return
    _require(chunk.twin in state.chunks, "fence {} has a twin {} that is not live", chunk.fence, chunk.twin)
    twin = state.chunks[chunk.twin]
    _require(twin.twin == chunk.fence, "fence {} is not the twin of its twin {}", chunk.fence, chunk.twin)
    _require(twin.remaining is chunk.remaining, "fences {} and {} are twins and differ", chunk.fence, chunk.twin)
    apart = twin.job == chunk.job and twin.node != chunk.node
    _require(apart, "fences {} and {} are twins at one node or of two jobs", chunk.fence, twin.fence)
    _require(len(chunk.remaining) == 1, "fence {} has a twin and more than one item", chunk.fence)


def _hull(chunk: Chunk) -> tuple[int, int]:
    return chunk.remaining.first.start, chunk.remaining.last.stop
