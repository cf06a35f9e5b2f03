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
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
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

    def open_socket(self, *, watched: bool) -> ReqSocket:
        """A connected REQ socket; ConfigError for a URL that cannot be one."""
        return ReqSocket(self._context, self.url, watched=watched)

    def close(self) -> None:
        self._report.close()
        self._poll.close()
        self._context.term()


class ReqSocket:
    """One REQ socket in the daemon's loop, with a future for the answer that is waited for.

    On pyzmq's own asyncio sockets a request and its answer cost a tenth of a millisecond more.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], url: str, *, watched: bool) -> None:
        """`watched`: the answer fails as soon as the connection breaks that it would come by."""
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bytes] | None = None
        self._broken = False
        self._sock = sock = context.socket(zmq.REQ)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.REQ_CORRELATE, 1)
        sock.setsockopt(zmq.REQ_RELAXED, 1)
        sock.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        sock.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _TIMEOUT_MS)
        try:
            sock.connect(url)
        except zmq.ZMQError as error:
            sock.close()
            raise ConfigError(f"{url} is no address of a scheduler: {error}; e.g. tcp://127.0.0.1:7600") from None
        self._loop.add_reader(sock.fileno(), self._look)
        self._monitor: zmq.Socket[bytes] | None = None
        if watched:
            self._monitor = sock.get_monitor_socket(zmq.Event.DISCONNECTED)
            self._loop.add_reader(self._monitor.fileno(), self._look_for_breaks)
            self._look_for_breaks()  # A socket that was never read from wakes nobody.

    def ask(self, payload: bytes) -> asyncio.Future[bytes]:
        """Send a request; its answer. ConnectionError where the connection is known to have broken."""
        if self._broken:
            raise ConnectionError("the connection broke")
        self._sock.send(payload, zmq.NOBLOCK, copy=len(payload) < 1 << 16)
        answer = self._answer = self._loop.create_future()
        self._look()
        return answer

    def _look(self) -> None:
        """Take the answer if it is there. Sending may have used up what wakes the loop, so that looks here too."""
        if self._answer is None or self._answer.done():
            self._sock.getsockopt(zmq.EVENTS)  # Otherwise the loop is woken again at once.
            return
        try:
            data = self._sock.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
        self._answer.set_result(data)

    def _look_for_breaks(self) -> None:
        assert self._monitor is not None
        try:
            while True:
                self._monitor.recv_multipart(zmq.NOBLOCK)
                self._broken = True
        except zmq.Again:
            pass
        if self._broken and self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the connection broke"))

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor.fileno())
            self._sock.disable_monitor()
            self._monitor.close(0)
        self._sock.close(0)


class _Requester:
    """One REQ socket."""

    def __init__(self, link: SchedulerLink, name: str, pace: Pace, *, watched: bool = False) -> None:
        """`watched`: a broken connection is a miss, without waiting for the deadline."""
        self._watched = watched
        self._link = link
        self._name = name
        self.pace = pace
        self._sock: ReqSocket | None = None

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
        timer: asyncio.TimerHandle | None = None
        try:
            if self._sock is None:
                self._sock = self._link.open_socket(watched=self._watched)
            waiting = self._sock.ask(payload)
            timer = asyncio.get_running_loop().call_later(deadline_s, _miss, waiting)
            answer = _ANSWERS.decode(await waiting)
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
            if timer is not None:
                timer.cancel()
            if not answered:
                self.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _miss(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
