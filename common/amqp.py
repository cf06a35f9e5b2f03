"""One connection to RabbitMQ in the daemon's own asyncio loop, made again with back-off whenever it is lost."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportPrivateUsage=false
# pika has no complete types: connections and channels are Any here and in the two modules that use this one.

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import pika
import pika.exceptions
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection

from windrow.common.broker_urls import split_broker_urls
from windrow.common.errors import ConfigError

log = structlog.get_logger()

# pika tells each failed attempt several times over; what matters is told here in our own words.
logging.getLogger("pika").setLevel(logging.CRITICAL)

HEARTBEAT_S = 10
SOCKET_TIMEOUT_S = 3.0
STACK_TIMEOUT_S = 5.0
BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
CLOSE_TIMEOUT_S = 1.0
JOINED_BYTES_MAX = 1 << 16
"""Larger messages go out frame by frame: to copy them together would cost more than it saves."""


class LinkUser(Protocol):
    """Who lives on the link. Nothing of an older connection is told once a newer one is under way."""

    def on_open(self, connection: Any) -> None:
        """A new connection is open; build everything on it, then call `steady()`."""
        ...

    def on_lost(self, reason: str) -> None:
        """The connection is lost, or one more attempt has failed; the next one follows by itself."""
        ...

    def on_blocked(self, detail: str) -> None:
        """The broker takes no messages for now."""
        ...

    def on_unblocked(self) -> None: ...


def parameters_from_url(url: str, *, name: str) -> Any:
    """pika's parameters, with time limits of ours; ConfigError, which never shows the password."""
    try:
        parameters: Any = pika.URLParameters(url)
    except Exception:  # pika raises whatever urllib, ssl or int() raise
        parameters = None
    if parameters is None or not url.startswith(("amqp://", "amqps://")) or not parameters.host:
        raise ConfigError(
            "the AMQP URL cannot be read: write amqp://USER:PASSWORD@HOST:5672/VHOST, "
            "and one for each broker of a cluster with commas between them"
        ) from None
    if parameters.heartbeat is None:
        parameters.heartbeat = HEARTBEAT_S
    parameters.socket_timeout = SOCKET_TIMEOUT_S
    parameters.stack_timeout = STACK_TIMEOUT_S
    parameters.connection_attempts = 1
    # None on purpose: a blocked connection is kept, so that we hear when it is unblocked. Publishers have a deadline
    # of their own, and a broker that dies meanwhile is noticed by the heartbeat.
    parameters.blocked_connection_timeout = None
    parameters.client_properties = {"product": "Windrow", "connection_name": name}
    return parameters


_Connection: Any = AsyncioConnection


class PromptConnection(_Connection):  # type: ignore[misc]
    """Sends a message in one piece, and at once when it is told to.

    As it comes, pika sends each of a message's three frames by itself, once the loop has come round to it: a call
    waited for that, and the broker was woken three times.
    """

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        small = sum(map(len, marshaled_frames)) <= JOINED_BYTES_MAX
        super()._output_marshaled_frames([b"".join(marshaled_frames)] if small else marshaled_frames)

    def _on_connection_workflow_done(self, conn_or_exc: Any) -> None:
        # pika 1.4 hands over the class where a login was given up, and then asserts that it is an instance.
        super()._on_connection_workflow_done(conn_or_exc() if isinstance(conn_or_exc, type) else conn_or_exc)

    def send_now(self) -> None:
        """Send what was written, as far as the socket takes it; the loop sees to the rest."""
        transport: Any = self._transport
        # TLS reads and writes to send, and write to read: it keeps to the loop.
        if self.params.ssl_options is None and transport is not None and transport.get_write_buffer_size():
            transport._on_socket_writable()


class AmqpLink:
    """The state machine of one connection: connecting, open, waiting for the next attempt, stopped.

    Of a cluster of brokers one is used at a time; the one after it is next when that one is lost or given up.
    """

    def __init__(self, url: str, user: LinkUser, *, name: str, draw: Callable[[], float] = random.random) -> None:
        self._brokers = [parameters_from_url(each, name=name) for each in split_broker_urls(url)]
        self._at = 0
        """Which of the brokers it is now."""
        self._user = user
        self._draw = draw
        self._connection: Any = None
        self._closing: set[Any] = set()
        """Connections given up whose sockets are not closed yet."""
        self._generation = 0
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    @property
    def address(self) -> str:
        """Host and port of the broker that it is now, for people; never the password."""
        return f"{self._parameters.host}:{self._parameters.port}"

    @property
    def _parameters(self) -> Any:
        return self._brokers[self._at]

    def start(self) -> None:
        self._running = True
        self._connect()

    def steady(self) -> None:
        """Everything stands on the new connection: the next loss is tried again quickly."""
        self._failures = 0

    def rebuild(self, reason: str) -> None:
        """Give the present connection up, broken or not, and make a new one."""
        if self._connection is not None:
            self._lost(self._generation, reason)

    async def stop(self) -> None:
        """Close in order, but never wait long: a blocked broker would let a close hang for ever."""
        self._running = False
        self._generation += 1
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._closing.add(connection)
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()
        await self._wait_closed()
        for left in tuple(self._closing):
            _abort(left)
        await self._wait_closed()

    async def _wait_closed(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_TIMEOUT_S
        while self._closing and loop.time() < deadline:
            await asyncio.sleep(0.005)

    # ── What pika tells ──────────────────────────────────────────────────────────────────────────────────────────

    def _connect(self) -> None:
        self._timer = None
        self._generation += 1
        generation = self._generation
        try:
            self._connection = PromptConnection(
                parameters=self._parameters,
                on_open_callback=partial(self._on_open, generation),
                on_open_error_callback=partial(self._on_closed, generation),
                on_close_callback=partial(self._on_closed, generation),
                custom_ioloop=asyncio.get_running_loop(),
            )
        except (pika.exceptions.AMQPError, OSError) as error:
            self._lost(generation, self._explain(error))

    def _on_open(self, generation: int, connection: Any) -> None:
        if generation != self._generation:
            _abort(connection)
            return
        connection.add_on_connection_blocked_callback(partial(self._on_blocked, generation))
        connection.add_on_connection_unblocked_callback(partial(self._on_unblocked, generation))
        self._user.on_open(connection)

    def _on_closed(self, generation: int, connection: Any, error: BaseException) -> None:
        self._closing.discard(connection)
        if generation == self._generation:
            self._connection = None
            self._lost(generation, self._explain(error))

    def _on_blocked(self, generation: int, _connection: Any, method: Any) -> None:
        if generation == self._generation:
            self._user.on_blocked(str(method.method.reason or "no reason given"))

    def _on_unblocked(self, generation: int, _connection: Any, _method: Any) -> None:
        if generation == self._generation:
            self._user.on_unblocked()

    def _lost(self, generation: int, reason: str) -> None:
        if generation != self._generation or not self._running:
            return
        self._generation += 1  # whatever the old connection still says is no longer heard
        connection, self._connection = self._connection, None
        if connection is not None:
            self._closing.add(connection)
            _abort(connection)
        rounds = min(self._failures // len(self._brokers), 16)
        delay_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0**rounds) * (0.5 + self._draw() / 2)
        self._failures += 1
        self._at = (self._at + 1) % len(self._brokers)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._connect)
        self._user.on_lost(reason)

    def _explain(self, error: BaseException) -> str:
        cause = _innermost(error)
        text = str(cause) or type(cause).__name__
        if isinstance(cause, pika.exceptions.ProbableAuthenticationError):
            return f"RabbitMQ at {self.address} refused the login: check user and password in the AMQP URL"
        if isinstance(cause, pika.exceptions.ProbableAccessDeniedError):
            vhost = self._parameters.virtual_host
            return f"RabbitMQ at {self.address} refused the virtual host {vhost!r}: check that it exists: {text[:200]}"
        return f"RabbitMQ at {self.address}: {text[:200]}"


def _abort(connection: Any) -> None:
    """Close the socket now. pika has no public way: its `close()` waits for the broker, which may never answer."""
    with contextlib.suppress(pika.exceptions.AMQPError, AssertionError, AttributeError):
        if connection._opened:
            connection._terminate_stream(pika.exceptions.AMQPConnectionError("given up"))
        elif not connection.is_closing:
            connection.close()


def _innermost(error: BaseException) -> BaseException:
    """What lies at the bottom of pika's wrappers: the refusal of the socket or of the broker."""
    for _ in range(8):
        nested = getattr(error, "exceptions", None) or getattr(error, "exception", None) or error.args
        inner = nested[-1] if isinstance(nested, (list, tuple)) and nested else nested
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error
