"""The node's two REQ sockets to the scheduler; the only file of the node that knows pyzmq.

`report` carries NodeHello, Report and NodeBye, `poll` carries NodePoll. A request has a deadline; after a miss its
socket is made anew and the same message goes out again: messages are idempotent. How long a try and the pause after
it last goes by the lease, so that a request that is lost, with its scheduler perhaps, costs no lease. A poll may be
parked for long, so that it is missed as soon as its connection breaks: the answer would have come by that.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TypeVar

import structlog
import zmq
import zmq.asyncio

from windrow.common.codec import MessageSet
from windrow.common.errors import ConfigError, ProtocolError, error_from_code
from windrow.common.limits import MESSAGE_BYTES_MAX, PARKED_SECONDS_MAX
from windrow.common.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    Directives,
    NodeBye,
    NodeHello,
    NodePoll,
    NodeWelcome,
    Refused,
    Report,
    Reported,
)

log = structlog.get_logger()

LEASE_S = 6.0
"""What the tries go by until a welcome tells the true one."""
REPORT_DEADLINE_S_MAX = 3.0
POLL_DEADLINE_S = PARKED_SECONDS_MAX + 5.0
_BACKOFF_S_MIN = 0.2
_BACKOFF_S_MAX = 5.0
_PING_MS = 2_000
_TIMEOUT_MS = 6_000

_ANSWERS: MessageSet[object] = ANSWERS
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Pace:
    """How a request is tried: each miss doubles the time of the next try and the pause before it, up to the most."""

    deadline_s: float
    deadline_s_max: float
    backoff_s: float
    backoff_s_max: float

    def after_misses(self, misses: int) -> tuple[float, float]:
        """Deadline of the next try, and the pause after it if that is missed too."""
        factor = 2.0 ** min(misses, 16)
        return min(self.deadline_s * factor, self.deadline_s_max), min(self.backoff_s * factor, self.backoff_s_max)


def report_pace(lease_s: float) -> Pace:
    """Three tries begin within one lease, and with a heartbeat of half a lease the second one is still in time. Later
    tries are longer: a scheduler that is slow must get its answer through some time."""
    deadline_s = min(lease_s / 4, REPORT_DEADLINE_S_MAX)
    return Pace(deadline_s, REPORT_DEADLINE_S_MAX, *_backoff(lease_s))


def poll_pace(lease_s: float) -> Pace:
    """Nothing hangs on a poll but the time until the node hears what to do. Its deadline is for what no broken
    connection tells of."""
    return Pace(POLL_DEADLINE_S, POLL_DEADLINE_S, *_backoff(lease_s))


def _backoff(lease_s: float) -> tuple[float, float]:
    """A scheduler that comes back in the midst of the longest pause still hears of the node in time."""
    return min(lease_s / 16, _BACKOFF_S_MIN), min(lease_s / 4, _BACKOFF_S_MAX)


class SchedulerLink:
    """Asks until it is answered; answers of an epoch below the highest seen are ignored."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.epoch = 0
        self._context: zmq.asyncio.Context = zmq.asyncio.Context()
        self._report = _Requester(self, "report", report_pace(LEASE_S))
        self._poll = _Requester(self, "poll", poll_pace(LEASE_S), watched=True)
        self._polling: asyncio.Task[Directives] | None = None

    def follow_lease(self, lease_s: float) -> None:
        """Try as the scheduler's lease asks for, from the next try on."""
        self._report.pace = report_pace(lease_s)
        self._poll.pace = poll_pace(lease_s)

    async def hello(self, message: NodeHello) -> NodeWelcome:
        """Raises what the scheduler refused it with."""
        return await self._report.ask(message, NodeWelcome)

    async def report(self, message: Report) -> Reported:
        """Raises what the scheduler refused it with."""
        return await self._report.ask(message, Reported)

    async def bye(self, message: NodeBye) -> None:
        """Raises what the scheduler refused it with."""
        await self._report.ask(message, Accepted)

    async def poll(self, message: NodePoll) -> Directives | None:
        """What there is to do; None where the poll was interrupted."""
        polling = self._polling = asyncio.ensure_future(self._poll.ask(message, Directives))
        try:
            await asyncio.wait({polling})
        finally:
            self._polling = None
            if not polling.done():
                polling.cancel()
        if polling.cancelled():
            return None
        return polling.result()

    def interrupt_poll(self) -> None:
        """Give up a parked poll: what it said of this node is out of date, or its scheduler has gone."""
        if self._polling is not None:
            self._polling.cancel()

    def open_socket(self) -> zmq.asyncio.Socket:
        """A connected REQ socket; ConfigError for a URL that cannot be one."""
        sock = self._context.socket(zmq.REQ)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.REQ_CORRELATE, 1)
        sock.setsockopt(zmq.REQ_RELAXED, 1)
        sock.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        sock.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _TIMEOUT_MS)
        try:
            sock.connect(self.url)
        except zmq.ZMQError as error:
            sock.close()
            raise ConfigError(f"{self.url} is no address of a scheduler: {error}; e.g. tcp://127.0.0.1:7600") from None
        return sock

    def close(self) -> None:
        self._report.close()
        self._poll.close()
        self._context.term()


class _Requester:
    """One REQ socket."""

    def __init__(self, link: SchedulerLink, name: str, pace: Pace, *, watched: bool = False) -> None:
        """`watched`: a broken connection is a miss, without waiting for the deadline."""
        self._watched = watched
        self._link = link
        self._name = name
        self.pace = pace
        self._sock: zmq.asyncio.Socket | None = None
        self._monitor: zmq.asyncio.Socket | None = None

    async def ask(self, message: object, kind: type[A]) -> A:
        """The answer of this kind, however long it takes."""
        payload = REQUESTS.encode(message)
        misses = 0
        missed_since = 0.0
        while True:
            deadline_s, backoff_s = self.pace.after_misses(misses)
            answer, trouble = await self._ask_once(payload, deadline_s)
            if isinstance(answer, Refused):
                raise error_from_code(answer.code, answer.message)
            if isinstance(answer, kind):
                if missed_since:
                    log.info(
                        f"the scheduler at {self._link.url} answers again", action="scheduler_found",
                        socket=self._name, after_s=round(time.monotonic() - missed_since, 1),
                    )  # fmt: skip
                return answer
            missed_since = missed_since or time.monotonic()
            log.warning(
                f"no answer from the scheduler at {self._link.url}; trying again", action="scheduler_lost",
                socket=self._name, detail=trouble or f"a {type(answer).__name__} is no answer", wait_s=backoff_s,
            )  # fmt: skip
            await asyncio.sleep(backoff_s)
            misses += 1

    async def _ask_once(self, payload: bytes, deadline_s: float) -> tuple[object | None, str]:
        """An answer, or None and why there is none; the socket is gone then."""
        answered = False
        try:
            if self._sock is None:
                self._sock = self._link.open_socket()
            if self._watched and self._monitor is None:
                self._monitor = self._sock.get_monitor_socket(zmq.Event.DISCONNECTED)
            await self._sock.send(payload, copy=len(payload) < 1 << 16)
            data = await asyncio.wait_for(self._receive(self._sock), deadline_s)
            answer = _ANSWERS.decode(data)
            epoch = getattr(answer, "epoch", self._link.epoch)
            if epoch < self._link.epoch:
                return None, f"an answer of epoch {epoch}, which is over (now {self._link.epoch})"
            self._link.epoch = epoch
            answered = True
            return answer, ""
        except TimeoutError:
            return None, f"nothing within {deadline_s:g} s"
        except (ProtocolError, zmq.ZMQError, ConnectionError) as error:
            return None, str(error)
        finally:
            if not answered:
                self.close()

    async def _receive(self, sock: zmq.asyncio.Socket) -> bytes:
        """The next message; ConnectionError where the connection breaks that it would come by."""
        if self._monitor is None:
            return await sock.recv()
        receiving = asyncio.ensure_future(sock.recv())
        breaking = asyncio.ensure_future(self._monitor.recv_multipart())
        try:
            await asyncio.wait({receiving, breaking}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                raise ConnectionError("the connection broke")
            return receiving.result()
        finally:
            receiving.cancel()
            breaking.cancel()

    def close(self) -> None:
        if self._monitor is not None and self._sock is not None:
            self._sock.disable_monitor()
            self._monitor.close(0)
            self._monitor = None
        if self._sock is not None:
            self._sock.close(0)
            self._sock = None
