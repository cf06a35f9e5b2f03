"""The scheduler daemon: opens store, dispatch, control and HTTP in order, runs, and closes in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import structlog

from windrow.common.errors import WindrowError
from windrow.common.systemd import notify
from windrow.scheduler.control import ControlSocket
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.dispatch import AmqpDispatch
from windrow.scheduler.engine import read_clocks
from windrow.scheduler.http import HttpServer
from windrow.scheduler.local import LocalDispatch
from windrow.scheduler.loop import SchedulerLoop
from windrow.scheduler.picture import make_view
from windrow.scheduler.ports import Dispatch
from windrow.scheduler.settings import SchedulerSettings
from windrow.scheduler.store import SqlStore, open_store
from windrow.scheduler.view import ClusterView

log = structlog.get_logger()

RenderMetrics = Callable[[ClusterView], tuple[bytes, str]]
READY_FILE = "scheduler.json"


def run_scheduler(settings: SchedulerSettings, render_metrics: RenderMetrics | None = None) -> int:
    """Run a scheduler until SIGTERM or SIGINT; returns the exit code. What cannot start raises a WindrowError."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(settings.store_url, state_dir=settings.state_dir, clock=lambda: read_clocks().wall)
    try:
        return asyncio.run(_run(settings, store, render_metrics))
    finally:
        store.close()


async def _run(settings: SchedulerSettings, store: SqlStore, render_metrics: RenderMetrics | None) -> int:
    control = ControlSocket(settings.bind, settings.port)
    dispatch = _make_dispatch(settings, store)
    core = CoreSettings(
        dispatch=dispatch.kind,
        heartbeat_s=settings.heartbeat_s,
        lease_s=settings.lease_s,
        results_kept_s=_seconds(settings.results_kept_days),
        failures_kept_s=_seconds(settings.failures_kept_days),
        nodes_kept_s=_seconds(settings.nodes_kept_days),
    )
    work = SchedulerLoop(core, store, dispatch, control)
    http = _make_http(settings, work, store, render_metrics)
    http_port = await http.start() if http is not None else None
    await work.start()
    assert work.ended is not None
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, work.end, 0)
    ready_file = settings.state_dir / READY_FILE
    # What is loaded by now stays for good: walked by each full collection, it would hold up a turn for 100 ms or more.
    gc.collect()
    gc.freeze()
    _write_ready_file(ready_file, control.url, http_port)
    log.info("the scheduler takes work", action="scheduler_ready", url=control.url, epoch=store.epoch)
    notify("READY=1")
    try:
        code = await work.ended
    finally:
        notify("STOPPING=1")
        # New clients must not find us; then the last turn and its answers; then HTTP, which may be asked until the end.
        with contextlib.suppress(FileNotFoundError):
            ready_file.unlink()
        await work.stop()
        if http is not None:
            await http.stop()
    log.info("the scheduler has stopped", action="scheduler_stopped", exit_code=code)
    return code


def _seconds(days: float | None) -> float | None:
    return None if days is None else days * 86_400.0


def _make_dispatch(settings: SchedulerSettings, store: SqlStore) -> Dispatch:
    if not settings.amqp_url:
        return LocalDispatch()
    return AmqpDispatch(
        settings.amqp_url,
        cluster=store.cluster,
        queue_type=settings.queue_type,
        confirm_timeout_s=settings.confirm_timeout_s,
    )


def _make_http(
    settings: SchedulerSettings, work: SchedulerLoop, store: SqlStore, render_metrics: RenderMetrics | None
) -> HttpServer | None:
    if settings.http_port is None:
        return None

    def view() -> ClusterView:
        return make_view(work, store, read_clocks())

    def ready() -> tuple[bool, str]:
        try:
            trouble = work.failed or store.check()
        except WindrowError as error:
            trouble = str(error)
        return not trouble, trouble

    return HttpServer(settings.bind, settings.http_port, view=view, ready=ready, metrics=render_metrics)


def _write_ready_file(path: Path, url: str, http_port: int | None) -> None:
    http = f"http://127.0.0.1:{http_port}" if http_port is not None else None
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"url": url, "http": http, "pid": os.getpid()}) + "\n")
    temporary.replace(path)
