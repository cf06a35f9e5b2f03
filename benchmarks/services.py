"""The servers that contenders share: one RabbitMQ, a Redis as it comes, and a Redis that syncs each write."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import CACHE, program
from benchmarks.model import Missing
from benchmarks.processes import running
from tests.broker import Broker, NoBroker, free_port, make_broker

REDIS_AS_IT_COMES = "Redis as it comes (no fsync)"
REDIS_SAFE = "Redis with appendonly yes, appendfsync always"


@dataclass(slots=True)
class Services:
    """Started when first asked for; all ended by `close`."""

    folder: Path
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _broker: Broker | None = None
    _redis: dict[bool, str] = field(default_factory=dict[bool, str])

    def amqp_url(self) -> str:
        """The RabbitMQ."""
        if self._broker is None:
            try:
                self._broker = make_broker(own=False)
            except NoBroker as error:
                raise Missing(str(error)) from None
            self._stack.callback(self._broker.close)
        return self._broker.url

    def redis_url(self, *, safe: bool) -> str:
        """A Redis, by how safely it keeps what it is told."""
        if safe not in self._redis:
            server, port = program("redis-server", "redis-server"), free_port()
            home = self.folder / f"redis-{'safe' if safe else 'plain'}"
            home.mkdir(parents=True)
            command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
            if safe:
                command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
            self._stack.enter_context(running(command, log=home / "log", cwd=home))
            _await_port(port)
            self._redis[safe] = f"redis://127.0.0.1:{port}/0"
        return self._redis[safe]

    def close(self) -> None:
        self._stack.close()


def _await_port(port: int) -> None:
    until = time.monotonic() + 20.0
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        if time.monotonic() > until:
            raise RuntimeError("the Redis does not answer")
        time.sleep(0.02)


@contextlib.contextmanager
def services() -> Generator[Services]:
    """For one run; its folder is on a real disk, as the checkout is, and goes at the end."""
    (CACHE / "run").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "run", ignore_cleanup_errors=True) as folder:
        made = Services(Path(folder))
        try:
            yield made
        finally:
            made.close()
