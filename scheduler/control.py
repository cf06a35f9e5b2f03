"""The control channel's socket: a ROUTER that speaks REP to many REQ peers. Nothing else here knows pyzmq."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import zmq

from windrow.common.blocks import check_block
from windrow.common.errors import ConfigError, MalformedMessage, ProtocolError
from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.messages import ANSWERS, REQUESTS, Append, Refused, Report

log = structlog.get_logger()

_BATCH_MAX = 2_000
"""Messages taken in one turn, so that a flood cannot keep the loop from its timers."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where an answer goes: the frames before the payload, to be sent back as they came."""

    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One message that passed the codec."""

    peer: Peer
    message: object


class ControlSocket:
    """Bound once; `on_ready` is called in the loop whenever there is something to receive."""

    def __init__(self, host: str, port: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_ready: Callable[[], None] = lambda: None
        self.refused = 0
        self.received = 0
        try:
            self._socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConfigError(
                f"cannot listen on tcp://{host}:{port}: {error.strerror}; is a scheduler running there? see --port"
            ) from None
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        self.url = endpoint.rstrip(b"\0").decode().replace("0.0.0.0", "127.0.0.1")

    def start(self, loop: asyncio.AbstractEventLoop, on_ready: Callable[[], None]) -> None:
        self._loop = loop
        self._on_ready = on_ready
        loop.add_reader(self._socket.fileno(), on_ready)
        loop.call_soon(on_ready)

    def receive(self) -> list[Request]:
        """Everything that waits, but for what was refused at the door.

        The descriptor is edge-triggered: whoever stops before its end, or sends, must look again (see look_again).
        """
        found: list[Request] = []
        for _ in range(_BATCH_MAX):
            if not self._has_more():
                break
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self.received += 1
            request = self._admit(frames)
            if request is not None:
                found.append(request)
        return found

    def look_again(self) -> None:
        """After the turn's sends: an edge may have been swallowed meanwhile."""
        if self._loop is not None and self._has_more():
            self._loop.call_soon(self._on_ready)

    def _has_more(self) -> bool:
        # Asked first: to try in vain raises an error, which costs several times as much.
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def _admit(self, frames: list[bytes]) -> Request | None:
        peer = Peer(tuple(frames[:-1]))
        if len(frames) < 3 or frames[-2] != b"":
            self._count_refusal("a message without the empty delimiter frame of REQ")
            return None
        try:
            message = REQUESTS.decode(frames[-1])
            _check(message)
        except ProtocolError as error:
            self._count_refusal(str(error))
            self.answer(peer, Refused(error.code, str(error)))
            return None
        return Request(peer, message)

    def _count_refusal(self, why: str) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1) == 0:  # 1, 2, 4, 8 …: a flood of rubbish does not flood the log
            log.warning("a message was refused", action="message_refused", why=why, refused=self.refused)

    def answer(self, peer: Peer, message: object) -> None:
        """Send an answer; a peer that has gone, or does not read, loses it and will ask again."""
        try:
            self._socket.send_multipart((*peer.frames, ANSWERS.encode(message)), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("an answer could not be sent", action="answer_dropped", detail=str(error))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
        self._context.destroy(linger=200)


def _check(message: object) -> None:
    """What the types cannot say: blocks hold what they claim, ranges are not empty."""
    if isinstance(message, Append):
        check_block(message.block, message.count)
    elif isinstance(message, Report):
        for chunk in message.chunks:
            for run in chunk.values:
                check_block(run.block, run.stop - run.start)
            for part in chunk.released:
                if part.start >= part.stop:
                    raise MalformedMessage(f"released {part.start}:{part.stop} is no range")
