"""HTTP on loopback for exports: files with and without ranges, and a store of the S3 kind behind a gate."""

from __future__ import annotations

import contextlib
import html
import http.client
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.broker import free_port
from tests.waiting import wait_until

START_S = 60.0
_BYTES_RANGE = re.compile(r"bytes=(\d+)-(\d+)?")


@dataclass
class FileServer:
    """What the server of a folder does, and what it was asked for."""

    folder: Path
    url: str = ""
    ranges: bool = True
    status: int = 0
    """Given: it answers everything so."""
    requests: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """(method, path, range)"""
    sent_bytes: int = 0

    def count(self, method: str, name: str) -> int:
        return sum(one[0] == method and one[1].partition("?")[0] == f"/{name}" for one in self.requests)

    def reset(self) -> None:
        self.requests.clear()
        self.sent_bytes = 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks may hang up at any time: that is what some of these tests are about."""


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str, None, None]:
    with _Server(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving_files(folder: Path) -> Generator[FileServer, None, None]:
    """A server of the files in a folder, that lists them at /."""
    about = FileServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, body: bool) -> None:
            wanted = self.headers.get("Range", "")
            about.requests.append((self.command, self.path, wanted))
            if about.status:
                self._send(about.status, b"no", {}, body)
                return
            path = folder / unquote(urlsplit(self.path).path).strip("/")
            if path.is_dir():
                links = "".join(f'<a href="{html.escape(name)}">x</a>' for name in sorted(os.listdir(path)))
                self._send(200, links.encode(), {"Content-Type": "text/html"}, body)
                return
            if not path.is_file():
                self._send(404, b"none", {}, body)
                return
            data = path.read_bytes()
            headers = {"ETag": f'"{path.stat().st_mtime_ns}"'}
            found = _BYTES_RANGE.fullmatch(wanted)
            if not found or not about.ranges:
                self._send(200, data, headers, body)
                return
            start = int(found[1])
            stop = min(len(data), int(found[2]) + 1 if found[2] else len(data))
            if start >= len(data):
                self._send(416, b"", headers, body)
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            self._send(206, data[start:stop], headers, body)

        def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                for at in range(0, len(data) if body else 0, 1 << 16):
                    self.wfile.write(data[at : at + (1 << 16)])
                    about.sent_bytes += len(data[at : at + (1 << 16)])

    with _serving(Handler) as url:
        about.url = url
        yield about


@dataclass
class Gate:
    """What passes to the store and back, and what may be held or refused on the way."""

    url: str = ""
    requests: list[str] = field(default_factory=list[str])
    """Method and path with query."""
    hold: re.Pattern[str] | None = None
    """Requests that wait until they are let go."""
    go: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    refuse: int = 0
    """A status for everything."""
    fail: int = 0
    """So many requests that write are answered with 503."""

    def count(self, pattern: str) -> int:
        return sum(re.search(pattern, one) is not None for one in self.requests)


def s3_settings(gate: Gate) -> dict[str, str]:
    """The variables by which every client finds the store."""
    return {
        "AWS_ENDPOINT_URL": gate.url, "AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "geheim-4711",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@contextlib.contextmanager
def s3_store() -> Iterator[Gate]:
    """A store of the S3 kind, in a process of its own, and a gate before it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip

    def answers() -> bool:
        assert server.poll() is None, "moto has ended by itself"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, START_S, "moto to answer")
        with _gate(port) as gate:
            yield gate
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def _gate(port: int) -> Generator[Gate, None, None]:
    gate = Gate()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            line = f"{self.command} {self.path}"
            gate.requests.append(line)
            if gate.hold is not None and gate.hold.search(line) and not gate.go.is_set():
                gate.held.set()
                gate.go.wait(60.0)
            status = gate.refuse
            if not status and gate.fail and self.command in ("PUT", "POST"):
                gate.fail -= 1
                status = 503
            if status:
                code = {403: "AccessDenied", 503: "SlowDown"}[status]
                self._send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), [])
                return
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            with contextlib.closing(link):
                link.request(self.command, self.path, data, dict(self.headers.items()))
                answer = link.getresponse()
                self._send(answer.status, answer.read(), answer.getheaders())

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815

        def _send(self, status: int, data: bytes, headers: list[tuple[str, str]]) -> None:
            with contextlib.suppress(ConnectionError):
                self.send_response_only(status)
                length = str(len(data))
                for name, value in headers:
                    if name.lower() in ("content-length", "connection", "transfer-encoding"):
                        length = value if self.command == "HEAD" and name.lower() == "content-length" else length
                    else:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with _serving(Handler) as url:
        gate.url = url
        yield gate
