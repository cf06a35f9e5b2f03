"""The scheduler's loop: take what waits, one turn of the engine, answer; and what to do when a commit fails."""

from __future__ import annotations

import asyncio
import dataclasses

import structlog

from windrow.common.errors import EpochLost, InvariantBroken, StoreError, StoreFailed, WindrowError
from windrow.common.messages import (
    Append,
    CancelJob,
    ClientPoll,
    CloseJob,
    DrainNode,
    ExplainJob,
    FindJob,
    Health,
    ListJobs,
    ListNodes,
    NodeBye,
    NodeHello,
    NodePoll,
    NodeWelcome,
    PauseJob,
    ReadFailures,
    ReadHistory,
    ReadResults,
    Refused,
    Report,
    RetryJob,
    StartJob,
)
from windrow.common.systemd import notify
from windrow.common.version import windrow_version
from windrow.scheduler.control import ControlSocket, Peer, Request
from windrow.scheduler.core.events import BrokerChanged, Change, ClockGap, Event, Sent
from windrow.scheduler.core.leases import nodes_to_look_at
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.engine import Clock, Engine, Turn, read_clocks
from windrow.scheduler.parking import Answered, ParkedClients, ParkedNodes
from windrow.scheduler.ports import Dispatch, DispatchEvent
from windrow.scheduler.reading import Question, Reader
from windrow.scheduler.store import SqlStore

log = structlog.get_logger()

TICK_S = 0.25
"""At least so often a turn is taken, for what only time brings."""
GAP_S = 1.0
"""A longer silence of the loop is taken out of every deadline."""
LOOK_EVERY_S = 1.5
"""How often the queues of nodes with overdue chunks are looked at."""
CHECK_EVERY_S = 10.0
"""How often the invariants are checked in production."""
RELOAD_BACKOFF_S = (0.1, 5.0)


class SchedulerLoop:
    """One scheduler at work: `start`, wait for `ended`, `stop`."""

    def __init__(
        self,
        core: CoreSettings,
        store: SqlStore,
        dispatch: Dispatch,
        control: ControlSocket,
        clock: Clock = read_clocks,
    ) -> None:
        self._store = store
        self._dispatch = dispatch
        self._control = control
        self._clock = clock
        self.engine = Engine(store, dispatch, core, clock)
        self.started_mono = started = clock().mono
        self.reader = Reader(self.engine, store, windrow_version(), started)
        self._nodes = ParkedNodes(self.engine, dispatch)
        self._clients = ParkedClients(self.engine, store)
        self._news: list[Event] = []
        self._asks: dict[int, tuple[Peer, Change]] = {}
        self._asked = 0
        self._kept: dict[str, tuple[Peer, NodePoll | ClientPoll]] = {}
        """The last poll of each node and client that no turn has answered or parked yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turn_due = False
        """With the next look at the socket there is a turn, even if nobody has asked for anything."""
        self._last_turn = started
        self._looked = self._checked = started
        self._failures = 0
        self._resume_at = 0.0
        self.failed = ""
        """What the store said when the last commit failed; empty while all is well."""
        self.ended: asyncio.Future[int] | None = None
        self._checkpointing: asyncio.Future[None] | None = None

    @property
    def messages(self) -> int:
        return self._control.received

    @property
    def messages_refused(self) -> int:
        return self._control.refused

    async def start(self) -> None:
        """Begin to take work."""
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        await self._dispatch.start(self._on_dispatch_event)
        for node in self.engine.state.nodes.values():
            if node.chunks:
                self._dispatch.open_node(node.id)
        # Every lease gets its full period from here: the sockets are open now, and nothing was heard before.
        self._last_turn = self._clock().mono
        self._control.start(self._loop, self._on_ready)
        self._arm()

    async def stop(self) -> None:
        """No more turns; then the broker; then the socket, so that last answers leave; the store is the caller's."""
        if self._timer is not None:
            self._timer.cancel()
        self._turn_due = True
        self._turn([])
        self._loop = None
        if self._checkpointing is not None:
            await self._checkpointing
        await self._dispatch.stop()
        self._control.close()

    def _on_dispatch_event(self, event: DispatchEvent) -> None:
        self._news.append(event)
        # That the broker has a chunk changes nothing for anybody now: the next turn takes it in.
        if not isinstance(event, Sent) and not self._turn_due:
            self._turn_due = True
            if self._loop is not None:
                self._loop.call_soon(self._on_ready)

    def _on_ready(self) -> None:
        if self._loop is not None:
            requests = self._control.receive()
            # The socket wakes the loop for reasons of its own too, and with nothing to take in there is no turn.
            if requests or self._turn_due or self.failed:
                self._turn(requests)
            self._control.look_again()

    def _arm(self) -> None:
        if self._loop is not None:
            due = self.engine.state.due
            wait = TICK_S if not due else min(TICK_S, max(0.001, due[0][0] - self._clock().mono))
            self._timer = self._loop.call_later(wait, self._on_timer)

    def _on_timer(self) -> None:
        try:
            self._on_time()
        finally:
            # Without its timer the loop would stand still until a message comes, and never try the store again.
            self._arm()

    def _on_time(self) -> None:
        now = self._clock()
        if now.mono - self._looked > LOOK_EVERY_S:
            self._looked = now.mono
            self._dispatch.watch_queues(nodes_to_look_at(self.engine.state, now))
        if now.mono - self._checked > CHECK_EVERY_S:
            self._checked = now.mono
            self._check()
            self._checkpoint()
        notify("WATCHDOG=1")
        self._turn_due = True
        self._on_ready()
        now = self._clock()
        if not self.failed:
            # After a failed turn the core says what was never committed, until it is loaded anew.
            self._answer_all(self._nodes.answer(None, now.mono))
        self._answer_all(self._clients.answer_old(now.mono))

    def _check(self) -> None:
        try:
            if not self.failed:
                self._store.check_reign()
            self.engine.check()
        except EpochLost as error:
            self._on_epoch_lost(error)
        except StoreError as error:
            self._on_failed_turn(error, [])

    def _checkpoint(self) -> None:
        """Empty the write-ahead log from another connection, in a thread, so that commits do not wait for it."""
        if self._loop is None or (self._checkpointing is not None and not self._checkpointing.done()):
            return

        def checkpoint() -> None:
            try:
                self._store.checkpoint()
            except StoreError as error:
                log.warning("the store's log could not be emptied", action="checkpoint_failed", detail=str(error))

        self._checkpointing = self._loop.run_in_executor(None, checkpoint)

    def _turn(self, requests: list[Request]) -> None:
        now = self._clock()
        if now.mono - self._last_turn > GAP_S:
            self._news.insert(0, ClockGap(now.mono - self._last_turn))
            self._turn_due = True
        self._last_turn = now.mono
        changes, questions, polls = self._sort(requests)
        # Polls are asked again only after their long wait: one that is dropped is missed until then.
        self._keep(polls)
        if self.failed and not self._try_again(changes):
            self._answer_in_trouble(questions)
            return
        if not changes and not self._turn_due:
            # Polls and questions are answered from what is there.
            self._answer_turn(Turn(), questions, self._take_polls())
            return
        self._turn_due = False
        news, self._news = self._news, []
        try:
            done = self.engine.turn(changes, news)
        except EpochLost as error:
            self._on_epoch_lost(error)
            return
        except (StoreError, InvariantBroken) as error:
            self._on_failed_turn(error, news)
            self._answer_in_trouble(questions)
            return
        except Exception as error:
            # Half a turn has changed the core and nothing of it is committed: to go on from there would lose outcomes.
            log.exception("a bug in Windrow broke a turn", action="turn_broken")
            self._on_failed_turn(InvariantBroken(f"{type(error).__name__}: {error}"), news)
            self._answer_in_trouble(questions)
            return
        self._failures = 0
        self._answer_turn(done, questions, self._take_polls())

    def _keep(self, polls: list[tuple[Peer, NodePoll | ClientPoll]]) -> None:
        for peer, poll in polls:
            self._kept[poll.node if isinstance(poll, NodePoll) else poll.client] = (peer, poll)

    def _take_polls(self) -> list[tuple[Peer, NodePoll | ClientPoll]]:
        polls, self._kept = list(self._kept.values()), {}
        return polls

    def _sort(
        self, requests: list[Request]
    ) -> tuple[list[tuple[int, Change]], list[tuple[Peer, Question]], list[tuple[Peer, NodePoll | ClientPoll]]]:
        changes: list[tuple[int, Change]] = []
        questions: list[tuple[Peer, Question]] = []
        polls: list[tuple[Peer, NodePoll | ClientPoll]] = []
        for request in requests:
            match request.message:
                case (
                    NodeHello() | Report() | NodeBye() | StartJob() | Append() | CloseJob() | CancelJob() | PauseJob()
                    | RetryJob() | DrainNode()
                ) as change:  # fmt: skip
                    self._asked += 1
                    self._asks[self._asked] = (request.peer, change)
                    changes.append((self._asked, change))
                case NodePoll() | ClientPoll() as poll:
                    polls.append((request.peer, poll))
                case (
                    FindJob() | ListJobs() | ReadResults() | ReadFailures() | ReadHistory() | ExplainJob() | ListNodes()
                    | Health()
                ) as question:  # fmt: skip
                    questions.append((request.peer, question))
                case _:
                    self._control.answer(request.peer, Refused("protocol", "this message is not a request"))
        return changes, questions, polls

    def _answer_turn(
        self,
        done: Turn,
        questions: list[tuple[Peer, Question]],
        polls: list[tuple[Peer, NodePoll | ClientPoll]],
    ) -> None:
        # Whoever waits for an outcome goes first: a call is as long as the way to here, and the node can wait.
        self._tell_clients(done)
        for ask, message in done.answers:
            peer, change = self._asks.pop(ask)
            if isinstance(message, NodeWelcome) and isinstance(change, NodeHello):
                message = dataclasses.replace(message, queue=self._dispatch.queue_name(change.node))
            self._control.answer(peer, message)
        now = self._clock()
        self.reader.messages_refused = self._control.refused
        for peer, question in questions:
            self._control.answer(peer, self.reader.answer(question, now))
        touched = set(done.nodes)
        try:
            for peer, poll in polls:
                if isinstance(poll, NodePoll):
                    self._nodes.park(peer, poll, now.mono)
                    touched.add(poll.node)
                else:
                    self._answer_all(self._clients.park(peer, poll, now.mono))
            self._answer_all(self._nodes.answer(None if done.all_nodes else touched, now.mono))
        except StoreError as error:
            _log_unread(error)

    def _tell_clients(self, done: Turn) -> None:
        try:
            self._answer_all(self._clients.answer(done.jobs))
        except StoreError as error:
            _log_unread(error)

    def _answer_all(self, answers: list[Answered]) -> None:
        for peer, message in answers:
            self._control.answer(peer, message)

    def _on_epoch_lost(self, error: EpochLost) -> None:
        log.critical("another scheduler reigns over this store: stopping", action="epoch_lost", detail=str(error))
        self.end(1)

    def _on_failed_turn(self, error: WindrowError, news: list[Event]) -> None:
        """Nobody of this turn is told what came of it: they ask again. The core is loaded anew from what is durable.

        Clients are told that much, so that none takes the scheduler for dead; not that nothing was accepted, for a
        commit may fail and yet have reached the disk. Nodes keep what they have and ask again by themselves.
        """
        asks, self._asks = self._asks, {}
        why = f"the store cannot confirm whether this was taken ({error}): ask again, sending it again is safe"
        for peer, change in asks.values():
            self._put_off(peer, change, why)
        # What became of single messages is found out anew; that the broker is there is said only once.
        self._news = [event for event in (*news, *self._news) if isinstance(event, BrokerChanged)]
        self._back_off(error)

    def _back_off(self, error: WindrowError) -> None:
        self._failures += 1
        low, high = RELOAD_BACKOFF_S
        wait = min(high, low * 2.0 ** min(self._failures, 10))
        self._resume_at = self._clock().mono + wait
        self.failed = str(error)
        log.error(
            "a commit failed: refusing new work, trying again", action="commit_failed", detail=str(error), wait_s=wait
        )

    def _try_again(self, changes: list[tuple[int, Change]]) -> bool:
        """While commits fail: refuse new work, keep silent to nodes (they keep their outcomes), reload when due."""
        if self._clock().mono >= self._resume_at:
            try:
                trouble = self._store.check()
                if trouble:
                    raise StoreFailed(trouble)
                self.engine.reload()
            except WindrowError as error:
                self._back_off(error)
            else:
                log.info("the state was loaded anew", action="reloaded")
                # Every lease has a fresh full period: no gap is to be added to it.
                self._news = [event for event in self._news if not isinstance(event, ClockGap)]
                self.failed = ""
                self._turn_due = True
                return True
        for ask, change in changes:
            peer, _ = self._asks.pop(ask)
            why = f"the store cannot be written ({self.failed}): nothing was accepted, try again later"
            self._put_off(peer, change, why)
        return False

    def _put_off(self, peer: Peer, change: Change, why: str) -> None:
        if not isinstance(change, NodeHello | Report | NodeBye):
            self._control.answer(peer, Refused("store_failed", why))

    def _answer_in_trouble(self, questions: list[tuple[Peer, Question]]) -> None:
        """The core may hold what was never committed: how the store is can be told, and nothing of jobs and nodes."""
        now = self._clock()
        why = f"the store cannot be written ({self.failed}): nothing is told of jobs until it can, try again later"
        for peer, question in questions:
            known = isinstance(question, Health)
            self._control.answer(peer, self.reader.answer(question, now) if known else Refused("store_failed", why))

    def end(self, code: int) -> None:
        """Ask for the end; `ended` says with which exit code."""
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(code)
        self._loop = None


def _log_unread(error: StoreError) -> None:
    # Only reads failed here: whoever waits will ask again.
    log.error("the store cannot be read", action="store_read_failed", detail=str(error))
