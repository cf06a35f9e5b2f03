"""A TCP link for tests of processes: a proxy with a thread and loop of its own, to be cut, held, slowed and healed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future

from tests.proxy import Proxy, Way

ANSWER_S = 10.0


class _Severable(Proxy):
    """Takes no new connections either while it is severed."""

    severed = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.severed:
            writer.close()
        else:
            await super().serve(reader, writer)


class Link:
    """What a test does to its link; every call returns when it is done."""

    def __init__(self, target_port: int) -> None:
        self._proxy = _Severable(target_port)
        self.port = self._proxy.port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        opening = asyncio.start_server(self._proxy.serve, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(ANSWER_S)

    def cut(self) -> None:
        """Break what is open, and let nothing through until it is healed."""
        self._proxy.severed = True
        self._do(self._proxy.cut)

    def hold(self, *ways: Way) -> None:
        """Hand on nothing in one way, or (none named) in both, with connections left open."""
        self._do(lambda: self._proxy.hold(*ways))

    def delay(self, delay_s: float) -> None:
        """Keep everything for so long before it is handed on."""
        self._proxy.delay_s = delay_s

    def heal(self) -> None:
        """As at first; what was held arrives now."""
        self._proxy.severed = False
        self._proxy.delay_s = 0.0
        self._do(self._proxy.release)

    def close(self) -> None:
        self._do(self._server.close)
        asyncio.run_coroutine_threadsafe(self._proxy.close(), self._loop).result(ANSWER_S)
        self._do(self._loop.stop)
        self._thread.join(ANSWER_S)
        self._loop.close()

    def _do(self, what: Callable[[], object]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            what()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(ANSWER_S)


@contextlib.contextmanager
def open_link(target_port: int) -> Generator[Link]:
    link = Link(target_port)
    try:
        yield link
    finally:
        link.close()
