"""A TCP proxy in the test's own loop that can fall silent, slow down or cut, as a network does to a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

from tests.broker import free_port

Way = Literal["there", "back"]
"""From whoever connects to the target, or from the target."""


class Proxy:
    """Forwards loopback connections to a port; `hold()` makes it silent, `cut()` breaks what is open."""

    delay_s = 0.0
    """How long it keeps what it reads before it hands it on."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._flows: dict[Way, asyncio.Event] = {"there": asyncio.Event(), "back": asyncio.Event()}
        self.release()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self, *ways: Way) -> None:
        """Take everything, hand on nothing: a silent partition, in one way or (none named) in both."""
        for way in ways or self._flows:
            self._flows[way].clear()

    def release(self) -> None:
        """What was held goes on its way, late."""
        for flow in self._flows.values():
            flow.set()

    def cut(self) -> None:
        """Close every connection; new ones are taken."""
        for writer in tuple(self._writers):
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await self._open_far()
        except OSError:
            writer.close()
            self._tasks.discard(task)
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer, "there"), self._pump(far_reader, writer, "back"))
        finally:
            for each in (writer, far_writer):
                self._writers.discard(each)
                each.close()
            self._tasks.discard(task)

    async def _open_far(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
            # Nobody listens, and the kernel has happened to choose that very port for this end: it speaks with itself,
            # and keeps the port from whoever is to listen there again.
            writer.transport.abort()
            raise ConnectionRefusedError("nobody listens")
        return reader, writer

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._flows[way].wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        self.release()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_proxy(target_port: int) -> AsyncGenerator[Proxy]:
    proxy = Proxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", proxy.port)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
