"""The HTTP server on a real port: what each route answers, and that it neither leaks nor takes over the process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from http.client import HTTPConnection, HTTPMessage
from typing import NamedTuple, TypeVar

import pytest
from structlog.testing import capture_logs

from tests.sample_view import sample_view
from windrow.common.errors import ConfigError
from windrow.scheduler.http import HttpServer
from windrow.scheduler.view import ClusterView

T = TypeVar("T")


class Got(NamedTuple):
    status: int
    headers: HTTPMessage
    text: str


def request(port: int, path: str, method: str = "GET") -> Got:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return Got(answer.status, answer.headers, answer.read().decode())
    finally:
        connection.close()


def render(view: ClusterView) -> tuple[bytes, str]:
    return f"epoch {view.epoch}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


def make_server(
    *,
    view: Callable[[], ClusterView] = sample_view,
    ready: Callable[[], tuple[bool, str]] = lambda: (True, ""),
    metrics: Callable[[ClusterView], tuple[bytes, str]] | None = render,
) -> HttpServer:
    return HttpServer("127.0.0.1", 0, view=view, ready=ready, metrics=metrics)


def get(server: HttpServer, path: str, method: str = "GET") -> Got:
    """What a started server answers to one request."""

    async def ask(port: int) -> Got:
        return await asyncio.to_thread(request, port, path, method)

    return serve(server, ask)


def serve(server: HttpServer, use: Callable[[int], Awaitable[T]]) -> T:
    async def run() -> T:
        port = await server.start()
        try:
            return await use(port)
        finally:
            await server.stop()

    return asyncio.run(run())


def test_metrics_are_rendered_from_the_view_with_their_content_type() -> None:
    got = get(make_server(), "/metrics")
    assert (got.status, got.text) == (200, "epoch 3\n")
    assert got.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_without_a_renderer_there_are_no_metrics() -> None:
    assert get(make_server(metrics=None), "/metrics").status == 404


def test_healthz_is_ok_even_when_not_ready() -> None:
    got = get(make_server(ready=lambda: (False, "the store is locked")), "/healthz")
    assert (got.status, got.text) == (200, "ok\n")


def test_readyz_says_ready() -> None:
    got = get(make_server(ready=lambda: (True, "")), "/readyz")
    assert (got.status, got.text) == (200, "ready\n")


def test_readyz_says_why_not() -> None:
    got = get(make_server(ready=lambda: (False, "the store fails: disk full")), "/readyz")
    assert (got.status, got.text) == (503, "not ready: the store fails: disk full\n")


def test_sd_is_a_list_that_prometheus_can_read() -> None:
    got = get(make_server(), "/sd")
    assert got.headers["Content-Type"] == "application/json"
    assert json.loads(got.text) == []


def test_the_page_names_version_state_and_links_and_escapes_what_it_shows() -> None:
    view = replace(sample_view(), broker_up=False, broker_detail="<script>alert(1)</script>")
    got = get(make_server(view=lambda: view), "/")
    assert got.headers["Content-Type"].startswith("text/html")
    for expected in ("Windrow", "0.1.0", "ready", 'href="/metrics"', 'href="/readyz"', "2 of 3"):
        assert expected in got.text
    assert "<script>" not in got.text
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("path", "method", "status"), [("/nothing", "GET", 404), ("/readyz", "POST", 405)])
def test_what_is_not_there_is_a_plain_line(path: str, method: str, status: int) -> None:
    got = get(make_server(), path, method)
    assert got.status == status
    assert got.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_an_error_is_logged_and_not_told(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> ClusterView:
        raise RuntimeError("secret inside")

    with capture_logs() as logs:
        got = get(make_server(view=fail), path)
    assert (got.status, got.text) == (500, "internal error: see the log of the scheduler\n")
    assert [(entry["action"], entry["path"]) for entry in logs] == [("http_request_failed", path)]
    assert capfd.readouterr() == ("", "")


def test_a_malformed_request_is_refused_and_the_server_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def send_garbage(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"\x00\x01 garbage\r\n\r\n")
            return client.recv(1000)

    async def use(port: int) -> tuple[bytes, Got]:
        garbage = await asyncio.to_thread(send_garbage, port)
        return garbage, await asyncio.to_thread(request, port, "/healthz")

    garbage, got = serve(make_server(), use)
    assert garbage.startswith(b"HTTP/1.1 400")
    assert got.status == 200
    assert caplog.text == ""


def test_a_taken_port_is_one_clear_line_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer("127.0.0.1", port, view=sample_view, ready=lambda: (True, ""), metrics=render)
        with pytest.raises(ConfigError) as caught:
            asyncio.run(server.start())
    assert f"127.0.0.1:{port}: Address already in use" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("no such host", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_had_is_a_config_error(host: str, port: int) -> None:
    server = HttpServer(host, port, view=sample_view, ready=lambda: (True, ""), metrics=render)
    with pytest.raises(ConfigError, match=f"cannot serve HTTP on {host}:{port}: "):
        asyncio.run(server.start())


def test_signal_handlers_stay_as_they_were() -> None:
    async def use(_: int) -> list[object]:
        return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]

    before: list[object] = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert serve(make_server(), use) == before


def test_stop_closes_the_port_and_kept_connections_and_may_be_called_again() -> None:
    async def run() -> None:
        server = make_server()
        port = await server.start()
        kept = HTTPConnection("127.0.0.1", port, timeout=10)
        await asyncio.to_thread(kept.request, "GET", "/healthz")
        answer = await asyncio.to_thread(kept.getresponse)
        await asyncio.to_thread(answer.read)
        async with asyncio.timeout(5):
            await server.stop()
            await server.stop()
        kept.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(request, port, "/healthz")

    asyncio.run(run())


def test_the_loop_turns_while_metrics_are_rendered() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        turned = asyncio.Event()

        def render_slowly(view: ClusterView) -> tuple[bytes, str]:
            # Ends only once the loop has done something else meanwhile.
            asyncio.run_coroutine_threadsafe(turned.wait(), loop).result(10)
            return render(view)

        server = make_server(metrics=render_slowly)
        port = await server.start()
        scrape = asyncio.create_task(asyncio.to_thread(request, port, "/metrics"))
        assert (await asyncio.to_thread(request, port, "/healthz")).status == 200
        turned.set()
        assert (await scrape).status == 200
        await server.stop()

    asyncio.run(run())
