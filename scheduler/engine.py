"""One turn of the scheduler: events into the core, records into the store, then, and only then, effects."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from windrow.common.errors import EpochLost, InvariantBroken, StoreError, StoreFailed
from windrow.common.keys import node_key, sign_chunk
from windrow.common.messages import CHUNKS, Append, CancelJob, Chunk, CloseJob, InputSlice, PauseJob, RetryJob, StartJob
from windrow.common.words import JobId, JobState, NodeId, Now
from windrow.scheduler.core.commands import (
    Answer,
    ChangeAnswer,
    CloseNode,
    Command,
    Dispatch,
    EmptyNode,
    JobEnded,
    OpenNode,
    PlainEffect,
    Settle,
    TellNode,
)
from windrow.scheduler.core.events import Asked, Change, DependencyKnown, EndedSeen, Event, Recalled, Tick
from windrow.scheduler.core.machines import ChunkState
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.records import (
    DropNode,
    PutFailure,
    PutInput,
    PutValues,
    Record,
    RemoveJob,
    SetJob,
    SweepRemoved,
)
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.reports import KEY_ID
from windrow.scheduler.core.retention import LOOK_EVERY_S, STEP_EVERY_S, kept_since, look_limit, wall_watch
from windrow.scheduler.core.state import CoreSettings, State
from windrow.scheduler.input_cache import InputCache
from windrow.scheduler.ports import ChunkMessage, Store
from windrow.scheduler.ports import Dispatch as DispatchPort

log = structlog.get_logger()

Clock = Callable[[], Now]


def read_clocks() -> Now:
    return Now(time.monotonic(), time.time())


_TOLD_TO_NODES = (JobState.CANCELLING, JobState.STOPPING, JobState.PAUSED)


@dataclass(slots=True)
class Counts:
    """What the engine has done, for the metrics."""

    commits: int = 0
    commit_s_sum: float = 0.0
    commit_failures: int = 0
    records: int = 0
    turns: int = 0
    turn_s_sum: float = 0.0


@dataclass(slots=True)
class Turn:
    """What came of one turn; all of it is durable."""

    answers: list[tuple[int, ChangeAnswer]] = field(default_factory=list[tuple[int, ChangeAnswer]])
    jobs: set[JobId] = field(default_factory=set[JobId])
    """Jobs with news: outcomes, or another state."""
    nodes: set[NodeId] = field(default_factory=set[NodeId])
    """Nodes that may have directives."""
    all_nodes: bool = False


class Engine:
    """Holds the core, and is the only one to commit."""

    def __init__(
        self, store: Store, dispatch: DispatchPort, settings: CoreSettings, clock: Clock = read_clocks
    ) -> None:
        self._store = store
        self._dispatch = dispatch
        self._settings = settings
        self._clock = clock
        self._inputs = InputCache()
        self.counts = Counts()
        self._retention_at = 0.0
        self._wall = wall_watch(settings)
        self.state: State = rebuild(store.load(), settings, clock())

    def turn(self, changes: Sequence[tuple[int, Change]], news: Sequence[Event]) -> Turn:
        """Take everything in, commit once, carry out the effects.

        StoreFailed: nothing was committed, nobody may be answered, and the state must be loaded anew (see `reload`).
        """
        began = time.perf_counter()
        now = self._clock()
        # In each turn, for in each a job may end: that the clock was wrong for a moment would else go unseen.
        steady = self._wall.is_steady(now)
        commands: list[Command] = []
        for event in news:
            commands += apply(self.state, event, now)
        for ask, change in changes:
            self._recall_for(change, now)
            commands += apply(self.state, Asked(ask, change), now)
        if now.mono >= self._retention_at:
            # After the changes and before the tick: what was just recalled for one of them is in the core, and stays.
            commands += self._look_for_ended(now, steady=steady)
        commands += apply(self.state, Tick(), now)
        done = self._carry_out(commands)
        self.counts.turns += 1
        self.counts.turn_s_sum += time.perf_counter() - began
        return done

    def reload(self) -> None:
        """Begin again from what is durable, after a commit that failed or a bug that showed."""
        before = self.state
        self.state = rebuild(self._store.load(), self._settings, self._clock())
        self.state.broker_up, self.state.broker_detail = before.broker_up, before.broker_detail
        # Fences of this epoch that were never committed may be on their way: their numbers are not used again.
        self.state.counter = before.counter
        # A commit that was made and not answered has not told the dispatch what it settled.
        waiting = [fence for fence, chunk in self.state.chunks.items() if chunk.state is not ChunkState.LEASED]
        self._dispatch.settle_others(frozenset(waiting))

    def _look_for_ended(self, now: Now, *, steady: bool) -> list[Command]:
        """One step of letting go what is not kept any more."""
        before = kept_since(self._settings, now) if steady else {}
        ended = self._store.find_ended(before, look_limit(self.state))
        seen = EndedSeen(ended, self._store.has_leftovers(), steady)
        commands = apply(self.state, seen, now)
        removed = sum(isinstance(command, RemoveJob) for command in commands)
        if removed:
            log.info("ended jobs are not kept any more", action="jobs_removed", jobs=removed)
        for command in commands:
            if isinstance(command, DropNode):
                log.info("a node was away for so long that it is forgotten", action="node_forgotten", node=command.id)
        busy = any(isinstance(command, SweepRemoved) for command in commands)
        self._retention_at = now.mono + (STEP_EVERY_S if busy else LOOK_EVERY_S)
        return commands

    def _recall_for(self, change: Change, now: Now) -> None:
        """Fetch what the change speaks of and the core no longer has."""
        match change:
            case StartJob():
                self._recall(change.job, now)
                if change.key is not None and change.key not in self.state.keys:
                    known = self._store.find_job_by_key(change.key)
                    if known is not None:
                        self._recall(known, now)
                for dependency in change.after:
                    if dependency not in self.state.jobs:
                        info = self._store.find_info(dependency)
                        end = info.state if info is not None else None
                        apply(self.state, DependencyKnown(dependency, end), now)
            case Append() | CloseJob() | CancelJob() | PauseJob() | RetryJob():
                self._recall(change.job, now)
            case _:
                pass

    def _recall(self, job: JobId, now: Now) -> None:
        if job not in self.state.jobs:
            stored = self._store.find_job(job)
            if stored is not None:
                apply(self.state, Recalled(stored), now)

    def _carry_out(self, commands: list[Command]) -> Turn:
        done = Turn()
        records: list[Record] = []
        dispatches: list[Dispatch] = []
        effects: list[PlainEffect] = []
        for command in commands:
            match command:
                case Dispatch():
                    dispatches.append(command)
                case Answer() | Settle() | OpenNode() | CloseNode() | EmptyNode() | TellNode() | JobEnded():
                    effects.append(command)
                case _:
                    records.append(command)
                    self._note_news(command, done)
        self._commit(records)
        for effect in effects:
            self._effect(effect, done)
        for dispatch in dispatches:
            self._send(dispatch, done)
        if dispatches:
            self._dispatch.flush()
        return done

    def _note_news(self, record: Record, done: Turn) -> None:
        match record:
            case PutValues(no) | SetJob(no) | PutFailure(no):
                # A job that ended in this very turn has left the core's table already; JobEnded names it.
                job = self.state.job_by_no.get(no)
                if job is not None:
                    done.jobs.add(job)
                if isinstance(record, SetJob):
                    # Cancelled, stopped or paused: whoever has chunks of it is told.
                    done.all_nodes = done.all_nodes or record.state in _TOLD_TO_NODES
            case PutInput():
                self._inputs.put(record)
            case _:
                pass

    def _commit(self, records: Sequence[Record]) -> None:
        if not records:
            return
        began = time.perf_counter()
        try:
            self._store.commit(records)
        except EpochLost:
            raise
        except StoreError as error:
            self.counts.commit_failures += 1
            raise StoreFailed(str(error)) from error
        self.counts.commits += 1
        self.counts.records += len(records)
        self.counts.commit_s_sum += time.perf_counter() - began

    def _effect(self, effect: PlainEffect, done: Turn) -> None:
        match effect:
            case Answer(ask, message):
                done.answers.append((ask, message))
            case Settle(fence, node):
                self._dispatch.settle(fence, node)
            case OpenNode(node):
                self._dispatch.open_node(node)
                done.nodes.add(node)
            case CloseNode(node):
                self._dispatch.close_node(node)
            case EmptyNode(node):
                self._dispatch.empty_node(node)
            case TellNode(node):
                done.nodes.add(node)
            case JobEnded(job):
                done.jobs.add(job)

    def _send(self, order: Dispatch, done: Turn) -> None:
        state = self.state
        job = state.jobs.get(order.job)
        if job is None or order.fence not in state.chunks:
            return
        inputs: tuple[InputSlice, ...] = ()
        if job.numbers is None:
            covering = job.inputs.covering(order.start, order.stop)
            cached = self._inputs.find(job.no, covering, order.start, order.stop)
            inputs = cached if cached is not None else self._store.read_inputs(job.id, order.start, order.stop)
        chunk = Chunk(
            cluster=state.cluster,
            node=order.node,
            fence=order.fence,
            job=job.id,
            task=job.task,
            start=order.start,
            stop=order.stop,
            numbers=job.numbers,
            inputs=inputs,
            attempts=order.attempts,
            alone=order.alone,
            lease_first=order.lease_first,
            timeout_s=job.options.timeout_s,
            soft_timeout_s=job.options.soft_timeout_s,
        )
        body = CHUNKS.encode(chunk)
        signature = sign_chunk(node_key(state.secret, order.node), state.cluster, order.node, order.fence, body)
        self._dispatch.dispatch(ChunkMessage(order.fence, order.node, job.id, job.task, body, signature, KEY_ID))
        done.nodes.add(order.node)

    def check(self) -> None:
        """The invariants, in production: a breach is logged and mended by beginning again from the store."""
        from windrow.scheduler.core.invariants import check_invariants

        try:
            check_invariants(self.state)
        except InvariantBroken as error:
            log.error(
                "an invariant does not hold: loading the state anew", action="invariant_broken", detail=str(error)
            )
            self.reload()
