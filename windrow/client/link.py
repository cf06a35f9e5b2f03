"""The client's two REQ sockets and the one thread that owns them; the only module of the client that knows pyzmq."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from windrow.client.failures import ClientClosed
from windrow.client.watches import Watchlist
from windrow.common.errors import InvariantBroken, ProtocolError, SchedulerUnreachable, WindrowError, error_from_code
from windrow.common.limits import MESSAGE_BYTES_MAX, PARKED_SECONDS_MAX
from windrow.common.messages import ANSWERS, REQUESTS, Polled, Refused

log = logging.getLogger(__name__)

TRY_SECONDS = 2.0
"""Deadline of the first try of a request; it doubles with each miss."""
TRY_SECONDS_MAX = 15.0
POLL_TRY_SECONDS = PARKED_SECONDS_MAX + 5.0
BACK_OFF_SECONDS = 0.05
"""Pause after the first miss; it doubles with each further one."""
BACK_OFF_SECONDS_MAX = 1.0
PEER_SILENT_SECONDS = 15.0
"""A connection on which ZeroMQ's own heartbeats go unanswered for so long is given up."""
QUIET_POLL_SECONDS = 0.05
"""Pause after a poll that was answered and moved nothing on, so that no answer can make the thread spin."""

_NOT_NOW = frozenset({"store", "store_failed", "epoch_lost"})
"""Refusals that say nothing of the request: the scheduler is loading its store again, or another one takes over."""


class Exchange(ABC):
    """One request and what becomes of its answer. All methods run on the I/O thread and must not block."""

    give_up_at: float | None = None
    """Monotonic time after which the request has failed; none: it is tried until it is answered."""

    @abstractmethod
    def message(self) -> object | None:
        """What to ask, called once when the line is free; none where there is nothing to ask any more."""

    @abstractmethod
    def on_answer(self, answer: object) -> None:
        """The answer, never Refused. A ProtocolError that it raises is handed to on_error."""

    @abstractmethod
    def on_error(self, error: WindrowError) -> None:
        """It was refused, or could not be sent, or gave_up_at has passed."""


class _Line:
    """One REQ socket with at most one request under way, tried again on a new socket until it is answered."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], poller: zmq.Poller, url: str, try_s: float) -> None:
        self._context = context
        self._poller = poller
        self._url = url
        self._try_s = try_s
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[bytes] | None = None
        self._payload: bytes | None = None
        self._misses = 0
        self._send_at: float | None = None
        self._miss_at: float | None = None

    @property
    def busy(self) -> bool:
        return self._payload is not None

    def ask(self, payload: bytes, now: float, pause_s: float = 0.0) -> None:
        """Send this, in place of what is under way."""
        self._payload = payload
        self._misses = 0
        self._send_at = now + pause_s
        self._miss_at = None
        self.tick(now)

    def tick(self, now: float) -> None:
        """Do what has fallen due."""
        if self._miss_at is not None and now >= self._miss_at:
            self.miss(now)
        if self._send_at is not None and now >= self._send_at and self._payload is not None:
            self._send_at = None
            self._send(self._payload, now)

    def due_at(self) -> float | None:
        """When tick is to be called next."""
        return self._send_at if self._send_at is not None else self._miss_at

    def miss(self, now: float) -> None:
        """No use waiting on this socket: try again on a new one, after a pause."""
        self._close_socket()
        if self._payload is not None:
            self._miss_at = None
            self._send_at = now + min(BACK_OFF_SECONDS * 2**self._misses, BACK_OFF_SECONDS_MAX)
            self._misses = min(self._misses + 1, 16)

    def on_readable(self) -> bytes | None:
        """The answer that has arrived; the line stays busy until `done`."""
        if self.socket is None:
            return None
        try:
            return self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def on_monitor(self, now: float) -> None:
        """Notice at once that the connection broke, instead of when the deadline passes: the request went with it."""
        broke = False
        while self.monitor is not None:
            try:
                event = recv_monitor_message(self.monitor, zmq.NOBLOCK)
            except zmq.Again:
                break
            broke |= event["event"] == zmq.Event.DISCONNECTED
        if broke and self._miss_at is not None:
            self.miss(now)

    def done(self) -> None:
        """The request under way was answered."""
        self._payload = None
        self._misses = 0
        self._send_at = None
        self._miss_at = None

    def drop(self) -> None:
        """Nobody waits for the answer any more."""
        self.done()
        self._close_socket()

    def _send(self, payload: bytes, now: float) -> None:
        line = self.socket or self._open_socket()
        try:
            line.send(payload, zmq.NOBLOCK)
        except zmq.Again:
            self.miss(now)
            return
        self._miss_at = now + min(self._try_s * 2**self._misses, max(TRY_SECONDS_MAX, self._try_s))

    def _open_socket(self) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.REQ_CORRELATE, 1)
        made.setsockopt(zmq.REQ_RELAXED, 1)
        made.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        made.setsockopt(zmq.RECONNECT_IVL, 100)
        made.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        made.setsockopt(zmq.HEARTBEAT_IVL, int(PEER_SILENT_SECONDS * 1000 / 3))
        made.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(PEER_SILENT_SECONDS * 1000))
        self.monitor = made.get_monitor_socket(zmq.Event.DISCONNECTED)
        made.connect(self._url)
        self._poller.register(made, zmq.POLLIN)
        self._poller.register(self.monitor, zmq.POLLIN)
        self.socket = made
        return made

    def _close_socket(self) -> None:
        if self.socket is None:
            return
        self._poller.unregister(self.socket)
        self.socket.disable_monitor()
        if self.monitor is not None:
            self._poller.unregister(self.monitor)
            self.monitor.close(0)
        self.socket.close(0)
        self.socket = self.monitor = None


class Link:
    """The way to one scheduler: exchanges one after the other, and a poll beside them while there are interests."""

    def __init__(self, url: str, watchlist: Watchlist, *, silent_s: float, on_thread: Callable[[int], None]) -> None:
        self.url = url
        self._watchlist = watchlist
        self._silent_s = silent_s
        self._on_thread = on_thread
        self._lock = threading.Lock()
        self._waiting: deque[Exchange] = deque()
        self._watches_changed = False
        self._stopping = False
        self._ended: WindrowError | None = None
        self._thread: threading.Thread | None = None
        self._awake = False
        self._wake_out: socket.socket
        self._wake_in: socket.socket
        self._current: Exchange | None = None
        self._epoch = 0
        self._waiting_since: float | None = None
        self._told = False
        self._poll_asked_at = 0.0
        self._not_now: Refused | None = None
        """How the scheduler has put off the request under way, which is asked again."""

    # ── Called from any thread ───────────────────────────────────────────────────────────────────────────────────

    def post(self, exchange: Exchange) -> None:
        """Ask when its turn comes."""
        with self._lock:
            ended = self._ended
            if ended is None:
                self._waiting.append(exchange)
                self._wake()
        if ended is not None:
            exchange.on_error(ended)

    def watch(self) -> None:
        """The watchlist has changed."""
        with self._lock:
            if self._ended is None:
                self._watches_changed = True
                self._wake()

    def stop(self, timeout_s: float) -> None:
        """End the thread; what is under way or waits fails with ClientClosed."""
        with self._lock:
            self._stopping = True
            thread = self._thread
            if thread is not None and self._ended is None:
                self._wake()
        if thread is None:
            self._end(ClientClosed("the client was closed"))
        elif thread is not threading.current_thread():
            thread.join(timeout_s)

    def silent_for(self, now: float) -> float:
        """How long the scheduler has owed an answer to a request, in seconds."""
        since = self._waiting_since
        return 0.0 if since is None else now - since

    def refusal(self) -> WindrowError | None:
        """Why the scheduler takes nothing at the moment, as it says itself; none where it does, or does not answer."""
        refused = self._not_now
        return None if refused is None else error_from_code(refused.code, refused.message)

    def no_answer(self) -> WindrowError:
        """The error for a request whose time is over."""
        return self.refusal() or SchedulerUnreachable(
            f"no scheduler answers at {self.url}: is it running? Start one with `windrow up`, "
            "or name another with --url or WINDROW_URL"
        )

    def _wake(self) -> None:
        if self._thread is None:
            self._wake_out, self._wake_in = socket.socketpair()
            self._wake_out.setblocking(False)
            self._wake_in.setblocking(False)
            self._thread = threading.Thread(target=self._run, name="windrow-io", daemon=True)
            self._thread.start()
        if not self._awake:
            self._awake = True
            self._wake_in.send(b"\0")

    # ── The I/O thread ───────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        self._on_thread(threading.get_ident())
        error: WindrowError = ClientClosed("the client was closed")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            poller = zmq.Poller()
            poller.register(self._wake_out.fileno(), zmq.POLLIN)
            requests = _Line(context, poller, self.url, TRY_SECONDS)
            polls = _Line(context, poller, self.url, POLL_TRY_SECONDS)
            try:
                while not self._stopping:
                    self._step(requests, polls, poller)
            finally:
                requests.drop()
                polls.drop()
        except Exception as caught:
            # Without this thread every future would hang for ever: tell them all what happened instead.
            log.exception("the client's I/O thread failed")
            error = InvariantBroken(f"the client's I/O thread failed: {caught!r}")
        finally:
            self._end(error)
            context.term()

    def _step(self, requests: _Line, polls: _Line, poller: zmq.Poller) -> None:
        now = time.monotonic()
        self._give_up(requests, now)
        requests.tick(now)
        polls.tick(now)
        if not requests.busy:
            self._ask_next(requests, now)
        if self._watches_changed:
            self._watches_changed = False
            self._ask_poll(polls, now)
        self._complain(now)
        ready = {found for found, _ in poller.poll(self._patience_ms(requests, polls))}
        if self._wake_out.fileno() in ready:
            self._fall_asleep()
        now = time.monotonic()
        if requests.socket in ready:
            self._on_answer(requests, now)
        if polls.socket in ready:
            self._on_polled(polls, now)
        for line in (requests, polls):
            if line.monitor in ready:
                line.on_monitor(now)

    def _fall_asleep(self) -> None:
        with self._lock:
            self._awake = False
            with contextlib.suppress(BlockingIOError):
                self._wake_out.recv(64)

    def _patience_ms(self, requests: _Line, polls: _Line) -> int | None:
        """How long nothing falls due; none: until something happens."""
        dues = [due for due in (requests.due_at(), polls.due_at()) if due is not None]
        if self._current is not None and self._current.give_up_at is not None:
            dues.append(self._current.give_up_at)
        dues.extend(one.give_up_at for one in self._waiting.copy() if one.give_up_at is not None)
        if self._waiting_since is not None and not self._told:
            dues.append(self._waiting_since + self._silent_s)
        if not dues:
            return None
        return max(0, int((min(dues) - time.monotonic()) * 1000) + 1)

    def _give_up(self, requests: _Line, now: float) -> None:
        current = self._current
        if current is not None and current.give_up_at is not None and now >= current.give_up_at:
            self._current = None
            requests.drop()
            current.on_error(self.no_answer())
        with self._lock:
            late = [one for one in self._waiting if one.give_up_at is not None and now >= one.give_up_at]
            for one in late:
                self._waiting.remove(one)
        for one in late:
            one.on_error(self.no_answer())

    def _ask_next(self, requests: _Line, now: float) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                exchange = self._waiting.popleft()
            message = exchange.message()
            if message is None:
                continue
            try:
                payload = REQUESTS.encode(message)
            except WindrowError as error:
                exchange.on_error(error)
                continue
            self._current = exchange
            self._not_now = None
            if self._waiting_since is None:
                self._waiting_since = now
            requests.ask(payload, now)
            return

    def _ask_poll(self, polls: _Line, now: float, pause_s: float = 0.0) -> None:
        message = self._watchlist.next_poll()
        if message is None:
            if polls.busy:
                polls.done()
            return
        self._poll_asked_at = now
        polls.ask(REQUESTS.encode(message), now, pause_s)

    def _on_answer(self, line: _Line, now: float) -> None:
        answer = self._read(line, now)
        exchange = self._current
        if answer is None or exchange is None:
            return
        line.done()
        self._current = None
        self._not_now = None
        self._waiting_since = None
        self._told = False
        if isinstance(answer, Refused):
            exchange.on_error(error_from_code(answer.code, answer.message))
            return
        try:
            exchange.on_answer(answer)
        except ProtocolError as error:
            exchange.on_error(error)

    def _on_polled(self, line: _Line, now: float) -> None:
        answer = self._read(line, now)
        if answer is None or not line.busy:
            return
        line.done()
        moved = False
        if isinstance(answer, Polled):
            moved = self._watchlist.on_polled(answer)
        elif isinstance(answer, Refused):
            self._watchlist.on_lost(error_from_code(answer.code, answer.message))
        quick = now - self._poll_asked_at < QUIET_POLL_SECONDS
        self._ask_poll(line, now, QUIET_POLL_SECONDS if quick and not moved else 0.0)

    def _read(self, line: _Line, now: float) -> object | None:
        """The answer that has arrived, unless it is to be ignored: then the same is asked again."""
        payload = line.on_readable()
        if payload is None or not line.busy:
            return None
        try:
            answer = ANSWERS.decode(payload)
        except ProtocolError as error:
            return Refused(error.code, f"the scheduler's answer cannot be read: {error}")
        epoch: object = getattr(answer, "epoch", None)
        if isinstance(epoch, int):
            if epoch < self._epoch:
                log.warning("ignored an answer of epoch %d after one of epoch %d", epoch, self._epoch)
                line.miss(now)
                return None
            self._epoch = epoch
        if isinstance(answer, Refused) and answer.code in _NOT_NOW:
            if self._current is not None:
                self._not_now = answer
            line.miss(now)
            return None
        return answer

    def _complain(self, now: float) -> None:
        """Say once that nobody answers: calls that wait go on trying without a word otherwise."""
        if not self._told and self.silent_for(now) >= self._silent_s:
            self._told = True
            if self._current is not None and self._current.give_up_at is None:
                log.warning("%s; still trying", self.no_answer())

    def _end(self, error: WindrowError) -> None:
        with self._lock:
            self._ended = error
            left = list(self._waiting)
            self._waiting.clear()
            if self._thread is not None:
                self._wake_in.close()
                self._wake_out.close()
        if self._current is not None:
            left.insert(0, self._current)
            self._current = None
        for exchange in left:
            exchange.on_error(error)
        self._watchlist.on_lost(error)
