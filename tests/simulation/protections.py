"""Switches the protections of the real code off, one at a time, to see that the simulation would tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from tests.simulation.schedulers import StoreHandle
from windrow.common.messages import Append, ChunkReport, PauseJob, Report, RetryJob, ValueRun
from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, JobId, JobState, Now, Range
from windrow.node.intake import Intake
from windrow.node.reporter import Reporter
from windrow.scheduler.core import jobs, leases, planning, reactor, recovery, reports, retention, unfit
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.records import PutValues, Record, SetJob
from windrow.scheduler.core.state import Chunk, Job, Out, State, give_back_chunk
from windrow.scheduler.engine import Engine

Patches = list[tuple[object, str, object]]


def _fence_check() -> Patches:
    """What a report says of a dead fence counts for whoever has the items now."""
    real = reports._on_chunk_report

    def trusting(
        state: State, report: Report, said: ChunkReport, now: Now, out: Out, dead: list[Fence], ended: set[Fence]
    ) -> None:
        job = state.jobs.get(said.job)
        spans = [(run.start, run.stop) for run in said.values] + [(each.item, each.item + 1) for each in said.failures]
        if said.fence not in state.chunks and job is not None:
            for chunk in job.chunks.values():
                if any(chunk.remaining.intersection(*span) for span in spans):
                    said, report = replace(said, fence=chunk.fence), replace(report, node=chunk.node)
                    break
        real(state, report, said, now, out, dead, ended)

    return [(reports, "_on_chunk_report", trusting)]


def _epoch_check() -> Patches:
    """A scheduler that was succeeded goes on writing."""
    return [(StoreHandle, "check_epoch", lambda self: None)]


def _durable_before_visible() -> Patches:
    """What a turn decides is written with the next turn, after it was told."""
    real = Engine._commit

    def late(self: Any, records: Sequence[Record]) -> None:
        due = self.__dict__.get("behind", [])
        self.behind = list(records)
        real(self, due)

    return [(Engine, "_commit", late)]


def _lease_expiry() -> Patches:
    return [(leases, "_expire", lambda state, now, out: None)]


def _expiry_clock_pause() -> Patches:
    return [(reactor, "on_clock_gap", lambda state, gap_s: None)]


def _idempotent_append() -> Patches:
    """Items that come again are new items."""
    real = jobs.on_append

    def anew(state: State, asked: Append, now: Now, out: Out) -> Any:
        job = state.jobs.get(asked.job)
        if job is not None and asked.first < job.total:
            asked = replace(asked, first=job.total)
        return real(state, asked, now, out)

    return [(reactor, "on_append", anew)]


def _reconciler() -> Patches:
    return [(leases, "_reconcile", lambda state, now, out: None)]


def _ack_after_lease() -> Patches:
    """A delivery is acknowledged when it comes."""
    real = Intake._on_delivery

    def at_once(self: Any, delivery: Any) -> None:
        consumer = self._consumer
        real(self, delivery)
        if consumer is not None:
            consumer.ack(delivery.tag)

    return [(Intake, "_on_delivery", at_once)]


def _spool_before_free() -> Patches:
    """A node that comes back says hello first, and then what it had finished."""
    real = Reporter.send_spool

    async def after_hello(self: Reporter) -> None:
        await self.join()
        await real(self)

    return [(Reporter, "send_spool", after_hello)]


def _suspects_alone() -> Patches:
    """Suspects run in company again."""
    real = planning._carve

    def in_company(job: Job, items: int) -> Any:
        suspects, job.suspects = job.suspects, RangeSet()
        try:
            return real(job, items)
        finally:
            job.suspects = suspects

    return [(planning, "_carve", in_company)]


def _release_handshake() -> Patches:
    """The chunks of a paused job are taken back without asking their nodes."""
    real = jobs.on_pause_job

    def unasked(state: State, asked: PauseJob, out: Out) -> Any:
        answer = real(state, asked, out)
        job = state.jobs.get(asked.job)
        if job is not None and job.state is JobState.PAUSED:
            for chunk in list(job.chunks.values()):
                give_back_chunk(state, chunk, out)
        return answer

    return [(reactor, "on_pause_job", unasked)]


def _generation_of_finalising() -> Patches:
    """A retry opens no new generation."""
    real = jobs.on_retry_job

    def same(state: State, asked: RetryJob, now: Now, out: Out) -> Any:
        job = state.jobs.get(asked.job)
        before = 0 if job is None else job.generation
        answer = real(state, asked, now, out)
        if job is not None:
            job.generation = before
            out[:] = [replace(each, generation=before) if isinstance(each, SetJob) else each for each in out]
        return answer

    return [(reactor, "on_retry_job", same)]


def _slice_arithmetic() -> Patches:
    """A run of values is taken whole where any of it remains."""

    def whole(job: Job, chunk: Chunk, run: ValueRun, out: Out) -> int:
        part = Range(run.start, run.stop)
        if not chunk.remaining.intersection(*part):
            return 0
        chunk.remaining.remove(*part)
        job.done.add(*part)
        job.forget_attempts(*part)
        job.forget_losses(*part)
        out.append(PutValues(job.no, run.start, part.length, run.block, (part,)))
        return part.length

    return [(reports, "_commit_values", whole)]


def _bounded_wait() -> Patches:
    """What is delayed waits until the wall clock says so, however far that was set back."""
    return [(recovery, "_left_s", lambda due_wall, wait_s, now: due_wall - now.wall)]


def _expected_nodes() -> Patches:
    """After a restart only nodes that have said hello again count as able to do a job."""
    return [(unfit, "_may_be_able", lambda node, job: node.state is NodeState.ALIVE and planning.is_able(node, job))]


def _steady_clock() -> Patches:
    """What has ended long ago by the wall clock is removed, whatever that clock did."""
    return [(retention.WallWatch, "is_steady", lambda self, now: True)]


def _awaited_is_kept() -> Patches:
    """What ended long ago is removed, also where a live job comes after it."""
    return [(retention, "_needed", lambda state: set[JobId]())]


ALL: dict[str, Callable[[], Patches]] = {
    "fence_check": _fence_check,
    "epoch_check": _epoch_check,
    "durable_before_visible": _durable_before_visible,
    "lease_expiry": _lease_expiry,
    "expiry_clock_pause": _expiry_clock_pause,
    "idempotent_append": _idempotent_append,
    "reconciler": _reconciler,
    "ack_after_lease": _ack_after_lease,
    "spool_before_free": _spool_before_free,
    "suspects_alone": _suspects_alone,
    "release_handshake": _release_handshake,
    "generation_of_finalising": _generation_of_finalising,
    "slice_arithmetic": _slice_arithmetic,
    "bounded_wait": _bounded_wait,
    "expected_nodes": _expected_nodes,
    "steady_clock": _steady_clock,
    "awaited_is_kept": _awaited_is_kept,
}


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """As if this protection had never been written."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, weaker in ALL[name]():
            stack.enter_context(mock.patch.object(owner, attribute, weaker))
        yield
