"""What really happened, as only the simulation knows it, and what must be true of it whatever went wrong.

The checks here are the general promises: committed under a live fence, once, with the right value; blame is just;
nothing that is answered or dropped is lost; nothing runs again while the node that has it is well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.clock import Clock
from tests.simulation.model_store import ModelJob, ModelStore
from tests.simulation.scenario import JobPlan, Scenario
from windrow.common.blocks import block_entries
from windrow.common.messages import Accepted, Append, Appended, ChunkReport, CloseJob, Started, StartJob
from windrow.common.words import TERMINAL_STATES, FailureKind, Fence, JobId, JobState, NodeId
from windrow.scheduler.core.losses import LOSSES_MAX
from windrow.scheduler.core.records import (
    DropChunk,
    LeaseChunk,
    PutChunk,
    PutFailure,
    PutJob,
    PutValues,
    Record,
    RemoveJob,
    SetJob,
)
from windrow.scheduler.core.retention import STEADY_SHARE

WINDING_DOWN = (JobState.CANCELLING, JobState.STOPPING)
LEASE_S = 6.0
RUNS_MAX = 40
"""No item needs to run so often, whatever goes wrong."""
HEARTBEATS_S = 3.0
"""A node that was heard since is there; the second before last may still be on its way."""
SILENT_S = LEASE_S - 1.0
"""A node that was not heard for so long may be given up."""


@dataclass(slots=True)
class Run:
    """One time that an item was executed."""

    item: int
    fence: Fence
    node: NodeId
    started: float
    generation: int
    ended: float | None = None
    result: str = ""
    """`value`, `error`, `unfit`, `timeout`, `crash`, `lost`: it left no trace outside its worker."""
    alone: bool = False


@dataclass(slots=True)
class FenceStory:
    """What became of one fence."""

    put: PutChunk
    at: float
    leased_at: float | None = None
    dropped_at: float | None = None


@dataclass(slots=True)
class Note:
    """One line of the history."""

    at: float
    who: str
    what: str
    job: str = ""
    fence: str = ""
    node: str = ""


class Truth:
    """See the module. `find` ends the run with what was found."""

    def __init__(self, scenario: Scenario, clock: Clock, store: ModelStore, *, noting: bool) -> None:
        self.scenario = scenario
        self.clock = clock
        self.store = store
        self.notes: list[Note] | None = [] if noting else None
        self.runs: dict[tuple[JobId, int], list[Run]] = defaultdict(list)
        self.job_ids: dict[int, JobId] = {}
        self.fences: dict[Fence, FenceStory] = {}
        self.fences_of: dict[JobId, list[FenceStory]] = defaultdict(list)
        self.away: dict[NodeId, list[float]] = defaultdict(list)
        """When a node died, left, or came back after it was not heard for long."""
        self.crashes: dict[NodeId, set[float]] = defaultdict(set)
        """Those of them when its daemon died and its disk did not."""
        self.heard: dict[NodeId, float] = {}
        """On the listening time of the scheduler that reigns."""
        self.heard_at: dict[NodeId, float] = {}
        """By whichever scheduler reigned."""
        self.listened: Callable[[], float] = lambda: 0.0
        self._seqs: dict[str, int] = {}
        self._ended: dict[int, float] = {}

    def note(self, who: str, what: str, *, job: str = "", fence: object = "", node: str = "") -> None:
        if self.notes is not None:
            self.notes.append(Note(self.clock.now, who, what, job, str(fence), node))

    def plan_of(self, job: JobId) -> JobPlan:
        return self.scenario.jobs[int(job.removeprefix("job"))]

    # ── Nodes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_heard(self, node: NodeId, boot: str, seq: int) -> None:
        """A message of the node has reached the scheduler that reigns; a copy that comes late says nothing of now."""
        if seq < self._seqs.get(boot, -1):
            return
        self._seqs[boot] = seq
        self.heard_at[node] = self.clock.now
        now = self.listened()
        if now - self.heard.get(node, 0.0) >= SILENT_S:
            self.away[node].append(self.clock.now)
        self.heard[node] = now

    def on_away(self, node: NodeId, *, crashed: bool = False) -> None:
        self.away[node].append(self.clock.now)
        if crashed:
            self.crashes[node].add(self.clock.now)

    def on_reign(self, listened: Callable[[], float]) -> None:
        """Another scheduler reigns: it has heard nobody yet, and whom the one before gave up stays given up."""
        for node in list(self.heard):
            if self.is_silent(node):
                self.on_away(node)
        self.heard.clear()
        self.listened = listened

    def is_silent(self, node: NodeId) -> bool:
        return self.listened() - self.heard.get(node, 0.0) >= SILENT_S

    def was_away(self, node: NodeId, since: float) -> bool:
        return self.is_silent(node) or bisect_left(self.away[node], since) < len(self.away[node])

    # ── Items ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_run(self, job: JobId, item: int, fence: Fence, node: NodeId, *, alone: bool) -> Run:
        """An item begins to be executed."""
        last = self.job_of(job).last
        run = Run(item, fence, node, self.clock.now, last.generation, alone=alone)
        before = self.runs[job, item]
        if len(before) >= RUNS_MAX:
            raise self.clock.find(f"item {item} of {job} ran {RUNS_MAX} times and comes to no end")
        for earlier in before:
            self._check_again(job, item, earlier, fence)
        # Where the task says itself that it cannot be done there, it has not been done.
        done = sum(earlier.result != "unfit" for earlier in before)
        if self.plan_of(job).once and done > last.generation:
            raise self.clock.find(f"item {item} of {job} ran {done + 1} times: it says that it must not")
        before.append(run)
        if self.notes is not None:
            self.note(node, f"runs item {item}{' alone' if alone else ''}", job=job, fence=fence, node=node)
        return run

    def _check_again(self, job: JobId, item: int, earlier: Run, fence: Fence) -> None:
        """Nobody runs an item while a node that is well has it, or has its value."""
        story = self.fences.get(earlier.fence)
        if earlier.result not in ("", "value") or story is None or story.leased_at is None:
            return
        same = earlier.fence == fence
        if self.plan_of(job).twins and not same:
            return  # That there are two live fences at most, the store asserts.
        if earlier.generation != self.job_of(job).last.generation or self.was_away(earlier.node, story.at):
            return
        now = self.fences.get(fence)
        if now is None or now.dropped_at is not None:
            return  # A message of a dead fence that came late: its node finds out with its next report.
        if not same or earlier.result == "":
            raise self.clock.find(
                f"item {item} of {job} runs again under {fence}, while node {earlier.node}, which has it under "
                f"{earlier.fence}, has been well all the time"
            )

    def on_run_ended(self, run: Run, job: JobId, result: str) -> None:
        run.ended, run.result = self.clock.now, result
        if self.notes is not None:
            self.note(run.node, f"item {run.item}: {result}", job=job, fence=run.fence, node=run.node)

    # ── The store ────────────────────────────────────────────────────────────────────────────────────────────────

    def find_job(self, job: JobId) -> ModelJob | None:
        """Also one that the store no longer has."""
        return next((each for each in self.all_jobs() if each.put.id == job), None)

    def job_of(self, job: JobId) -> ModelJob:
        return next(each for each in self.all_jobs() if each.put.id == job)

    def all_jobs(self) -> list[ModelJob]:
        return [*self.store.jobs.values(), *self.store.removed]

    def ended_at(self, job: JobId) -> float:
        return self._ended[self.job_of(job).put.no]

    def is_removed(self, job: JobId) -> bool:
        return any(each.put.id == job for each in self.store.removed)

    def before_commit(self, records: Sequence[Record]) -> None:
        """Whatever is committed now must be so."""
        for record in records:
            match record:
                case PutJob():
                    self.job_ids[record.no] = record.id
                case PutChunk():
                    story = FenceStory(record, self.clock.now)
                    self.fences[record.fence] = story
                    self.fences_of[self.job_ids[record.no]].append(story)
                case LeaseChunk(fence):
                    self.fences[fence].leased_at = self.clock.now
                case DropChunk(fence):
                    self.fences[fence].dropped_at = self.clock.now
                case PutValues():
                    self._check_values(record)
                case PutFailure():
                    self._check_failure(record)
                case SetJob(state=JobState.STOPPING, reason=reason) if reason.startswith("no node is left"):
                    self._check_no_node_is_left(self.job_ids[record.no])
                case SetJob(state=state) if state in TERMINAL_STATES:
                    self._ended[record.no] = self.clock.now
                case RemoveJob():
                    self._check_removal(record)
                case _:
                    pass
            if self.notes is not None:
                self._note_record(record)

    def _check_values(self, record: PutValues) -> None:
        job = self.job_ids[record.no]
        entries = list(block_entries(record.block))
        for part in record.slices:
            for item in range(*part):
                content, _, fence = entries[item - record.base].decode().rpartition("|")
                if content != expected_value(job, item):
                    raise self.clock.find(f"item {item} of {job} got the value {content!r}")
                story = self.fences.get(Fence(*map(int, fence.split("."))))
                if story is None or story.dropped_at is not None or not story.put.start <= item < story.put.stop:
                    raise self.clock.find(f"item {item} of {job} was committed with a value made under {fence}, dead")

    def _check_failure(self, record: PutFailure) -> None:
        """Blame is just: what is said of an attempt has happened, so often."""
        job = self.job_ids[record.no]
        runs = self.runs[job, record.item]
        kind, plan = record.kind, self.plan_of(job)
        if kind in (FailureKind.LOST, FailureKind.NODE):
            lost = [each for each in self.fences_of[job] if self._cost_a_node(each, record.item)]
            if len(lost) < (LOSSES_MAX if kind is FailureKind.NODE else 1):
                raise self.clock.find(f"item {record.item} of {job} is given up ({kind}) without its nodes being lost")
            return
        happened = sum(run.result == kind for run in runs)
        if kind is FailureKind.CRASH and record.final:
            happened = sum(run.result == "crash" and (run.alone or plan.once) for run in runs)
        if not happened:
            raise self.clock.find(f"item {record.item} of {job} is blamed ({kind}) for what it has not done")
        spent = ["error", "crash", "timeout"]
        if record.final and kind is FailureKind.UNFIT:
            self._check_no_node_is_left(job)
            spent.append("unfit")
        if record.final and sum(run.result in spent for run in runs) < record.attempt:
            raise self.clock.find(f"item {record.item} of {job} has {record.attempt} attempts on its account, too many")

    def _check_no_node_is_left(self, job: JobId) -> None:
        """A job is not given up while a node that could do it is well, whoever reigns."""
        for node, heard_at in self.heard_at.items():
            long_well = not any(at >= self.clock.now - 2 * LEASE_S for at in self.away[node])
            if node not in self.plan_of(job).unfit and long_well and self.clock.now - heard_at < HEARTBEATS_S:
                raise self.clock.find(f"{job} is given up for want of a node, while {node} has been well all the time")

    def _check_removal(self, record: RemoveJob) -> None:
        """Whatever the wall clock says, there is time to read what has come of a job."""
        kept_s = self.scenario.kept_s
        if kept_s is None or self.clock.now - self._ended[record.no] < kept_s * STEADY_SHARE:
            raise self.clock.find(f"{record.id} is removed, though it ended at {self._ended[record.no]:.1f} s")

    def _cost_a_node(self, story: FenceStory, item: int) -> bool:
        leased = story.leased_at is not None and story.put.start <= item < story.put.stop
        return leased and self.was_away(story.put.node, story.at)

    def _note_record(self, record: Record) -> None:
        no, fence = getattr(record, "no", None), getattr(record, "fence", None)
        if fence is not None and fence in self.fences:
            no = self.fences[fence].put.no
        job = self.job_ids[no] if no in self.job_ids else str(getattr(record, "id", ""))
        node = self.fences[fence].put.node if fence in self.fences else ""
        text = repr(record)
        if isinstance(record, PutValues):
            text = f"PutValues(slices={[tuple(part) for part in record.slices]})"
        self.note("store", text[:300], job=job, fence=fence or "", node=node)

    def is_durable(self, report: ChunkReport) -> bool:
        """Whether what this says is in the store, or its fence is dead, so that nobody wants it."""
        job = self.job_of(report.job)
        if report.fence not in self.store.chunks or job.last.state in WINDING_DOWN:
            return True
        return all(job.values.covers(run.start, run.stop) for run in report.values)

    # ── What is told ─────────────────────────────────────────────────────────────────────────────────────────────

    def on_spool_dropped(self, node: NodeId, report: ChunkReport) -> None:
        """The node forgets an outcome that it has kept on disk."""
        if not self.is_durable(report):
            raise self.clock.find(f"node {node} drops outcomes of {report.fence}, which is alive and lacks them")

    def on_old_spool_dropped(self, node: NodeId, report: ChunkReport) -> None:
        """As above, after a restart: what was finished before it counts unless the lease had ended meanwhile."""
        self.on_spool_dropped(node, report)
        story = self.fences.get(report.fence)
        job = self.job_of(report.job)
        if story is None or story.leased_at is None or job.last.generation:
            return
        if job.terminal or job.last.state in WINDING_DOWN:
            return
        silent = self.is_silent(node) or any(at >= story.at and at not in self.crashes[node] for at in self.away[node])
        for run in report.values:
            if not silent and not job.values.covers(run.start, run.stop) and job.put.options.max_failures is None:
                raise self.clock.find(
                    f"node {node} came back before its lease ended, and what it had finished of {report.fence} of "
                    f"{report.job} is thrown away: {run.start}:{run.stop}"
                )

    def on_answered(self, request: object, answer: object) -> None:
        """What a client is told is durable."""
        match request, answer:
            case StartJob(), Started(job=job):
                held = self.find_job(job) is not None
            case Append(), Appended(total=total):
                held = self.job_of(request.job).last.total >= total
            case CloseJob(), Accepted():
                held = not self.job_of(request.job).last.open
            case _:
                return
        if not held:
            raise self.clock.find(f"{str(request)[:80]} was answered with {str(answer)[:80]}, and is not in the store")


def expected_value(job: JobId, item: int) -> str:
    """What the task makes of an item, but for the fence."""
    return f"{job}/{item}"
