"""The scheduler's HTTP side: metrics, health and a first page; the only module that knows Starlette and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from html import escape
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from windrow.common.errors import ConfigError
from windrow.scheduler.view import ClusterView

RenderMetrics = Callable[[ClusterView], tuple[bytes, str]]
"""Body and content type of /metrics."""

CONNECTIONS_MAX: Final = 256
"""Beyond it a request is answered with 503."""

KEEP_ALIVE_S: Final = 75
"""Longer than the usual scrape intervals, so that Prometheus keeps its connection."""

STOP_S_MAX: Final = 2
"""How long stop waits for requests under way."""

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

log = structlog.get_logger()


class HttpServer:
    """Serves in the running event loop; asks `view` and `ready` there, and renders metrics in a thread beside it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        view: Callable[[], ClusterView],
        ready: Callable[[], tuple[bool, str]],
        metrics: RenderMetrics | None = None,
    ) -> None:
        """`ready`: whether the scheduler takes work, and one line about it. Without `metrics` there is no /metrics."""
        self._host = host
        self._port = port
        self._app = _application(view, ready, metrics)
        self._serving: _Serving | None = None

    async def start(self) -> int:
        """Listen and serve; returns the port. ConfigError where the address cannot be had."""
        listener = _listen(self._host, self._port)
        port = int(listener.getsockname()[1])
        server = _Server(_config(self._app))
        task = asyncio.create_task(server.serve(sockets=[listener]), name="windrow http")
        self._serving = _Serving(server, task)
        while not server.started and not task.done():
            await asyncio.sleep(0.001)
        if task.done():
            await task
        return port

    async def stop(self) -> None:
        """Finish the requests under way and close; harmless where nothing is served."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.server.should_exit = True
            await serving.task


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@dataclass(frozen=True, slots=True)
class _Serving:
    server: _Server
    task: asyncio.Task[None]


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        # What goes wrong in our own code is logged by _guarded; uvicorn's lines would only tell of bad clients.
        log_level=logging.CRITICAL,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S_MAX,
    )


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"cannot serve HTTP on {host}:{port}: a port is a number from 0 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"cannot serve HTTP on {host}:{port}: {reason}; choose another address with --bind or --http-port, "
            "or stop what listens there"
        ) from None
    return listener


# ── Routes ───────────────────────────────────────────────────────────────────────────────────────────────────────

Endpoint = Callable[[Request], Awaitable[Response]]


def _application(
    view: Callable[[], ClusterView], ready: Callable[[], tuple[bool, str]], metrics: RenderMetrics | None
) -> Starlette:
    async def show_page(_: Request) -> Response:
        takes_work, line = ready()
        return HTMLResponse(_page(view(), takes_work, line), headers=_PAGE_HEADERS)

    async def show_alive(_: Request) -> Response:
        # The loop that answers here is the one that does the work: an answer at all is the good news.
        return PlainTextResponse("ok\n")

    async def show_ready(_: Request) -> Response:
        takes_work, line = ready()
        word = "ready" if takes_work else "not ready"
        return PlainTextResponse(f"{word}: {line}\n" if line else f"{word}\n", 200 if takes_work else 503)

    async def show_targets(_: Request) -> Response:
        # Prometheus finds the metrics of nodes here. They have none of their own yet: what they report is in /metrics
        # of the scheduler, which is not listed, or whoever scrapes it already would count everything twice.
        return JSONResponse([])

    endpoints: dict[str, Endpoint] = {
        "/": show_page,
        "/healthz": show_alive,
        "/readyz": show_ready,
        "/sd": show_targets,
    }
    if metrics is not None:
        render = metrics

        async def show_metrics(_: Request) -> Response:
            # The view is taken in the loop, where it is of one piece; to write it out can take a while.
            body, content_type = await asyncio.to_thread(render, view())
            return Response(body, headers={"Content-Type": content_type})

        endpoints["/metrics"] = show_metrics
    return Starlette(routes=[Route(path, _guarded(endpoint)) for path, endpoint in endpoints.items()])


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception:
            log.exception("an HTTP request failed", action="http_request_failed", path=request.url.path)
            return PlainTextResponse("internal error: see the log of the scheduler\n", 500)

    return answer


def _page(view: ClusterView, takes_work: bool, line: str) -> str:
    state = ("ready" if takes_work else "not ready") + (f": {line}" if line else "")
    up = sum(node.state in ("alive", "draining") for node in view.nodes)
    rows = {
        "state": state,
        "version": view.version,
        "cluster": view.cluster,
        "epoch": str(view.epoch),
        "dispatch": view.dispatch,
        "broker": "ok" if view.broker_up else f"bad: {view.broker_detail}",
        "store": "ok" if view.store_ok else f"bad: {view.store_detail}",
        "jobs not finished": str(sum(view.jobs.values())),
        "nodes up": f"{up} of {len(view.nodes)}",
    }
    table = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    links = " · ".join(f'<a href="{path}">{path}</a>' for path in ("/metrics", "/healthz", "/readyz", "/sd"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Windrow</title>
<style>body {{ font-family: sans-serif; margin: 2em }} th {{ text-align: left; padding-right: 1.5em }}</style>
</head>
<body>
<h1>Windrow</h1>
<table>
{table}
</table>
<p>{links}</p>
</body>
</html>
"""
