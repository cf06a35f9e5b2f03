"""One worker process as the daemon sees it: its link, its shared page, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from windrow.common.errors import MalformedMessage
from windrow.node.shared_page import Executing, SharedPage
from windrow.node.worker_link import FROM_WORKER, TO_WORKER, FrameBuffer, frame
from windrow.node.worker_output import WorkerOutput

log = structlog.get_logger()

_LAST_WORDS_S = 0.5
"""After a worker's end, how long its link is still read where a process that it forked keeps it open."""
_EXIT_S = 5.0
"""How long a worker may take to exit after its link is closed."""


OnMessage = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker process has ended."""

    code: int
    """Of its exit; negative: the signal."""
    executing: Executing | None
    memory_bytes_peak: int
    """As the kernel counts it: what it had before it became a worker, as a copy of the daemon, is in it."""
    log: str
    """The last lines that it wrote."""
    nonsense: str = ""
    """What was wrong with what it sent, where it was killed for that."""


OnEnd = Callable[[Ended], None]


class WorkerProcess:
    """Starts at once. `on_message` gets each message; `on_end` comes once, after the last message."""

    def __init__(self, slot: int, url: str, on_message: OnMessage, on_end: OnEnd) -> None:
        self.page = SharedPage.create()
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process, reading = _start(url, theirs.fileno(), self.page.fd)
        self.pid = self._process.pid
        self._output = WorkerOutput(reading, slot)
        self._memory_bytes_peak = 0
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._ended = self._loop.create_future()
        self._link = _DaemonSide(self._on_frame, self._on_link_lost)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._closing = False
        self._link_lost = False
        self._nonsense = ""
        self._exited = False
        ours.setblocking(False)
        self._connecting = self._loop.create_task(self._connect(ours))

    async def _connect(self, sock: socket.socket) -> None:
        self._transport, _ = await self._loop.create_unix_connection(lambda: self._link, sock=sock)
        for data in self._unsent:
            self._transport.write(data)
        self._unsent.clear()
        if self._closing:
            self._transport.close()

    def send(self, message: object) -> None:
        """Put a message on its way; lost when the worker dies first."""
        data = frame(TO_WORKER.encode(message))
        if self._transport is None:
            self._unsent.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def kill(self) -> None:
        """End it now; `on_end` follows."""
        # Not by Popen, which might reap it on the way and its memory with it.
        if not self._exited:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Let it exit in its own time, but not too long."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
        if not self._exited:
            self._loop.call_later(_EXIT_S, self._kill_if_there)

    def retire(self, on_end: Callable[[], None]) -> None:
        """Close it; from now on only its end is told, and to somebody else."""

        def ended(_ended: Ended) -> None:
            on_end()

        self._on_message = _ignore
        self._on_end = ended
        self.close()

    async def wait_ended(self) -> None:
        """Return when it is reaped."""
        await asyncio.shield(self._ended)

    def _kill_if_there(self) -> None:
        if not self._exited:
            self.kill()

    def _on_frame(self, payload: bytes) -> None:
        try:
            message = FROM_WORKER.decode(payload)
        except MalformedMessage as error:
            self._on_nonsense(error)
            return
        self._on_message(message)

    def _on_nonsense(self, error: MalformedMessage) -> None:
        log.error("a worker sent nonsense and is killed", action="worker_malformed", pid=self.pid, detail=str(error))
        self._nonsense = str(error)
        # What it sends from now on comes behind something that nobody has understood.
        self._link.deaf = self._link_lost = True
        self.kill()

    def _on_link_lost(self, error: Exception | None) -> None:
        if isinstance(error, MalformedMessage):
            self._on_nonsense(error)
            return
        self._link_lost = True
        if self._exited:
            self._end()
        elif not self._closing:
            # A task closed every descriptor it found: the process is of no more use.
            self._loop.call_later(_LAST_WORDS_S, self._kill_if_there)

    def _on_exit(self) -> None:
        self._exited = True
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Before it is reaped its pid cannot be another's: take what it started along.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._memory_bytes_peak = usage.ru_maxrss * 1024
        if self._link_lost:
            self._end()
        else:
            # What it sent before its end is still in the link; the loop reads it, and then the end of the stream.
            self._loop.call_later(_LAST_WORDS_S, self._end)

    def _end(self) -> None:
        if self._ended.done():
            return
        self._ended.set_result(None)
        self._link.deaf = True
        if self._transport is not None:
            self._transport.abort()
        executing = self.page.find_executing()
        self.page.close()
        last_lines = self._output.finish()
        self._on_end(Ended(self._process.returncode, executing, self._memory_bytes_peak, last_lines, self._nonsense))


class _DaemonSide(asyncio.Protocol):
    """The daemon's end of the link."""

    def __init__(self, on_frame: Callable[[bytes], None], on_lost: Callable[[Exception | None], None]) -> None:
        self.deaf = False
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._frames = FrameBuffer()

    def data_received(self, data: bytes) -> None:
        try:
            payloads = self._frames.feed(data)
        except MalformedMessage as error:
            self._on_lost(error)
            return
        for payload in payloads:
            if not self.deaf:
                self._on_frame(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.deaf:
            self._on_lost(None)


def _start(url: str, link_fd: int, page_fd: int) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and where its output can be read."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        # -P: no file of the user's folder may take the place of a standard module before the worker is up.
        # A process group of its own: Ctrl-C and a signal to the daemon's group must not hit items at work.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "windrow.node.worker", str(link_fd), str(page_fd), str(os.getpid())],
            stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, pass_fds=(link_fd, page_fd),
            env={**os.environ, "WINDROW_URL": url}, process_group=0,
        )  # fmt: skip
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, reading


def _ignore(_message: object) -> None:
    """Nobody listens to a retired worker."""
