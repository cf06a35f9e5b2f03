"""Polls that wait until there is something to say: directives and chunks for nodes, news of jobs for clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from windrow.common.limits import PAGE_BYTES_MAX, PARKED_SECONDS_MAX
from windrow.common.messages import ClientPoll, Directives, News, NodePoll, Polled, Watch
from windrow.common.words import TERMINAL_STATES, JobId, JobState, NodeId
from windrow.scheduler.control import Peer
from windrow.scheduler.core.info import directives
from windrow.scheduler.engine import Engine
from windrow.scheduler.ports import Dispatch, Store

_REPEAT_S = 1.0
"""Directives that have not been reached yet are said again so often."""


@dataclass(frozen=True, slots=True)
class ParkedNode:
    """A node's poll."""

    peer: Peer
    poll: NodePoll
    since: float


@dataclass(frozen=True, slots=True)
class ParkedClient:
    """A client's poll."""

    peer: Peer
    poll: ClientPoll
    since: float


Answered = tuple[Peer, Directives | Polled]


class ParkedNodes:
    """One poll for each node: a newer one takes the place of an older, which nobody reads any more."""

    def __init__(self, engine: Engine, dispatch: Dispatch) -> None:
        self._engine = engine
        self._dispatch = dispatch
        self._parked: dict[NodeId, ParkedNode] = {}
        self._said: dict[NodeId, tuple[Directives, float]] = {}

    def park(self, peer: Peer, poll: NodePoll, mono: float) -> None:
        self._parked[poll.node] = ParkedNode(peer, poll, mono)

    def answer(self, nodes: Iterable[NodeId] | None, mono: float) -> list[Answered]:
        """Answers for those of `nodes` (None: all) that have something to be told."""
        found: list[Answered] = []
        for node in list(self._parked if nodes is None else nodes):
            parked = self._parked.get(node)
            if parked is None:
                continue
            said = self._directives(parked, mono)
            if said is not None or mono - parked.since > PARKED_SECONDS_MAX:
                del self._parked[node]
                found.append((parked.peer, said or Directives(self._engine.state.epoch)))
        return found

    def _directives(self, parked: ParkedNode, mono: float) -> Directives | None:
        poll = parked.poll
        said = directives(self._engine.state, poll.node, poll.boot)
        chunks = tuple(self._dispatch.offered(poll.node, frozenset(poll.holds))) if not said.rejoin else ()
        if chunks:
            return dataclasses.replace(said, chunks=chunks)
        if not (said.rejoin or said.dead or said.give_up or said.drain != poll.draining):
            return None
        before, at = self._said.get(poll.node, (None, 0.0))
        if said == before and mono - at < _REPEAT_S:
            return None
        self._said[poll.node] = (said, mono)
        return said


class ParkedClients:
    """One poll for each client, and who watches which job."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store
        self._parked: dict[str, ParkedClient] = {}
        self._watchers: dict[JobId, set[str]] = {}

    def park(self, peer: Peer, poll: ClientPoll, mono: float) -> list[Answered]:
        """Answered at once where there is news already."""
        self._forget(poll.client)
        self._parked[poll.client] = ParkedClient(peer, poll, mono)
        for watch in poll.watches:
            self._watchers.setdefault(watch.job, set()).add(poll.client)
        return self._try(poll.client)

    def answer(self, jobs: Iterable[JobId]) -> list[Answered]:
        """Answers for the clients that watch one of these jobs."""
        clients = {client for job in jobs for client in self._watchers.get(job, ())}
        return [answer for client in clients for answer in self._try(client)]

    def answer_old(self, mono: float) -> list[Answered]:
        """Polls that have waited long enough are answered with nothing."""
        old = [name for name, parked in self._parked.items() if mono - parked.since > PARKED_SECONDS_MAX]
        found: list[Answered] = []
        for client in old:
            peer = self._parked[client].peer
            self._forget(client)
            found.append((peer, Polled(self._engine.state.epoch)))
        return found

    def _try(self, client: str) -> list[Answered]:
        parked = self._parked.get(client)
        if parked is None:
            return []
        news: list[News] = []
        unknown: list[JobId] = []
        bytes_left = PAGE_BYTES_MAX
        for watch in parked.poll.watches:
            if bytes_left <= 0:
                break  # A message has an end: the client's next poll is answered with the rest.
            state, reason = self._state_of(watch.job)
            if state is None:
                unknown.append(watch.job)
                continue
            found = self._news(watch, state, reason, bytes_left)
            if found is not None:
                news.append(found)
                bytes_left -= sum(len(run.block) for run in found.values)
                bytes_left -= sum(len(failure.message) + len(failure.traceback) for failure in found.failures)
        if not news and not unknown:
            return []
        self._forget(client)
        return [(parked.peer, Polled(self._engine.state.epoch, tuple(news), tuple(unknown)))]

    def _news(self, watch: Watch, state: JobState, reason: str, bytes_max: int) -> News | None:
        ended = state in TERMINAL_STATES
        if not watch.outcomes:
            return News(watch.job, watch.after, state, reason=reason) if ended else None
        page = self._store.read_news(watch.job, watch.after, bytes_max)
        if not ended and not page.values and not page.failures:
            return None
        return News(watch.job, page.next, state, page.values, page.failures, page.more, reason)

    def _state_of(self, job_id: JobId) -> tuple[JobState | None, str]:
        job = self._engine.state.jobs.get(job_id)
        if job is not None:
            return (JobState.RUNNING if job.winding_down else job.state), job.reason
        info = self._store.find_info(job_id)
        return (info.state, info.reason) if info is not None else (None, "")

    def _forget(self, client: str) -> None:
        parked = self._parked.pop(client, None)
        if parked is not None:
            for watch in parked.poll.watches:
                watchers = self._watchers.get(watch.job)
                if watchers is not None:
                    watchers.discard(client)
                    if not watchers:
                        del self._watchers[watch.job]
