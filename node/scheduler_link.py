"""The node's two REQ sockets to the scheduler; the only file of the node that knows pyzmq.

`report` carries NodeHello, Report and NodeBye, `poll` carries NodePoll. A request has a deadline; after a miss its
socket is made anew and the same message goes out again: messages are idempotent.
"""

from __future__ import annotations

import asyncio
import time
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

REPORT_DEADLINE_S = 3.0
POLL_DEADLINE_S = PARKED_SECONDS_MAX + 5.0
_BACKOFF_S_MIN = 0.2
_BACKOFF_S_MAX = 5.0
_PING_MS = 2_000
_TIMEOUT_MS = 6_000

_ANSWERS: MessageSet[object] = ANSWERS
A = TypeVar("A")


class SchedulerLink:
    """Asks until it is answered; answers of an epoch below the highest seen are ignored."""

    def __init__(self, url: str, *, report_deadline_s: float = REPORT_DEADLINE_S) -> None:
        self.url = url
        self.epoch = 0
        self._context: zmq.asyncio.Context = zmq.asyncio.Context()
        self._report = _Requester(self, "report", report_deadline_s)
        self._poll = _Requester(self, "poll", POLL_DEADLINE_S)
        self._polling: asyncio.Task[Directives] | None = None

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

    def __init__(self, link: SchedulerLink, name: str, deadline_s: float) -> None:
        self._link = link
        self._name = name
        self._deadline_s = deadline_s
        self._sock: zmq.asyncio.Socket | None = None

    async def ask(self, message: object, kind: type[A]) -> A:
        """The answer of this kind, however long it takes."""
        payload = REQUESTS.encode(message)
        backoff_s = _BACKOFF_S_MIN
        missed_since = 0.0
        while True:
            answer, trouble = await self._ask_once(payload)
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
            backoff_s = min(_BACKOFF_S_MAX, backoff_s * 2)

    async def _ask_once(self, payload: bytes) -> tuple[object | None, str]:
        """An answer, or None and why there is none; the socket is gone then."""
        answered = False
        try:
            if self._sock is None:
                self._sock = self._link.open_socket()
            await self._sock.send(payload, copy=len(payload) < 1 << 16)
            data = await asyncio.wait_for(self._sock.recv(), self._deadline_s)
            answer = _ANSWERS.decode(data)
            epoch = getattr(answer, "epoch", self._link.epoch)
            if epoch < self._link.epoch:
                return None, f"an answer of epoch {epoch}, which is over (now {self._link.epoch})"
            self._link.epoch = epoch
            answered = True
            return answer, ""
        except TimeoutError:
            return None, f"nothing within {self._deadline_s:g} s"
        except (ProtocolError, zmq.ZMQError) as error:
            return None, str(error)
        finally:
            if not answered:
                self.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close(0)
            self._sock = None
