"""The node daemon: wires identity, spool, workers, consumer and scheduler link, and ends them in order."""

from __future__ import annotations

import asyncio
import signal
import threading

import structlog

from windrow.common.errors import BrokerUnreachable, ConfigError, Unreachable, WindrowError
from windrow.common.messages import Chunk, NodeBye, NodeLoad
from windrow.common.systemd import find_watchdog_s, notify
from windrow.node.chunks import Taken
from windrow.node.heap import trim_for_ever
from windrow.node.identity import Identity, lock_identity
from windrow.node.intake import Intake
from windrow.node.load import LoadMeter
from windrow.node.reporter import Reporter
from windrow.node.scheduler_link import SchedulerLink
from windrow.node.settings import NodeSettings
from windrow.node.spool import Spool
from windrow.node.workbench import WATCH_S, Workbench

log = structlog.get_logger()

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2
_LEAVING_STEP_S = 0.1
_LAST_WORDS_S = 2.0
"""How long a node that must go tries to tell the scheduler."""


def run_node(settings: NodeSettings) -> int:
    """Run a node until it is told to stop; the exit code."""
    try:
        identity = lock_identity(settings.state_dir)
    except ConfigError as error:
        log.error(str(error), action="state_folder_refused")
        return EXIT_REFUSED
    try:
        return asyncio.run(_run(settings, identity))
    except (ConfigError, BrokerUnreachable) as error:
        log.error(str(error), action="node_refused")
        return EXIT_REFUSED
    finally:
        identity.release()


async def _run(settings: NodeSettings, identity: Identity) -> int:
    trimming = asyncio.create_task(trim_for_ever())
    try:
        return await NodeDaemon(settings, identity).run()
    finally:
        trimming.cancel()


class NodeDaemon:
    """One node for one run.

    Order of the end, with reasons:
    1. items: finish the current ones, give back the rest. First, because everything else carries them away;
    2. reports, until all that is held was answered: outcomes and releases leave by them;
    3. bye: what is not answered by then goes back at once instead of after the lease;
    4. consumer: after the reports, because their answers acknowledge deliveries on its connection;
    5. workers: they are idle now, and were needed for 1;
    6. sockets, then spool, which takes outcomes as long as a worker lives;
    7. the lock, last: a second daemon must not read a spool that this one still writes.
    """

    def __init__(self, settings: NodeSettings, identity: Identity) -> None:
        self._settings = settings
        self._identity = identity
        self._spool = Spool(settings.state_dir / "spool", identity.boot, settings.spool_bytes_max)
        self._link = SchedulerLink(settings.url)
        self._meter = LoadMeter()
        self._loaded = asyncio.Event()
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._exit_code = EXIT_DONE
        self._reporter = Reporter(settings, identity, self._link, self._spool, self._sample)
        self._bench = Workbench(settings, self._spool, self._reporter.on_news, self._on_tasks)
        self._intake = Intake(settings.amqp_url, identity.node, self._take)
        self._reporter.attach(self._bench, self._intake)

    async def run(self) -> int:
        """Serve until stopped; the exit code."""
        self._catch_signals()
        self._bench.pool.start()
        asyncio.get_running_loop().set_exception_handler(self._on_bug)
        pinging = asyncio.create_task(self._ping_systemd())
        watching = asyncio.create_task(self._watch())
        serving = asyncio.create_task(self._serve())
        leaving = asyncio.create_task(self._leave_when_told())
        try:
            await asyncio.wait({serving, leaving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return serving.result()
            if watching.done():
                watching.result()
            await _end(serving)
            await self._go_now()
            return self._exit_code
        finally:
            notify("STOPPING=1")
            for task in (serving, leaving, watching, pinging):
                await _end(task)
            await self._intake.stop()
            await self._bench.pool.stop(kill=self._kill.is_set())
            self._link.close()
            self._spool.close()
            log.info("stopped", action="stopped")

    async def _serve(self) -> int:
        await self._loaded.wait()
        try:
            await self._reporter.send_spool()
            await self._reporter.join()
        except Unreachable:
            raise
        except WindrowError as error:
            log.error(f"the scheduler at {self._settings.url} refuses this node: {error}", action="hello_refused")
            return EXIT_REFUSED
        notify("READY=1")
        reporting = asyncio.create_task(self._reporter.report_until_left())
        polling = asyncio.create_task(self._reporter.poll_for_ever())
        try:
            await asyncio.wait({reporting, polling}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                return polling.result()
            reporting.result()
            return EXIT_DONE
        except Unreachable:
            raise
        except WindrowError as error:
            log.error(f"the scheduler at {self._settings.url} refuses this node: {error}", action="hello_refused")
            return EXIT_REFUSED
        finally:
            await _end(reporting)
            await _end(polling)

    async def _leave_when_told(self) -> None:
        """After the first signal leave in order; return when it must end now: second signal, or no time left."""
        await self._stop.wait()
        log.info(
            "stopping: current items are finished, the rest is given back", action="stopping",
            grace_s=self._settings.grace_s,
        )  # fmt: skip
        notify("STOPPING=1")
        self._reporter.leaving = True
        self._bench.drain()
        self._reporter.on_news()
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.grace_s
        idle_since = now()
        while not self._kill.is_set() and now() < deadline:
            try:
                await asyncio.wait_for(self._kill.wait(), _LEAVING_STEP_S)
            except TimeoutError:
                if self._bench.book.holds:
                    idle_since = now()
                elif now() - idle_since > _LAST_WORDS_S:
                    break  # Nothing is held: a scheduler that does not answer is no reason to stay.
        else:
            log.warning("work is cut off: second signal, or the grace time is over", action="grace_over")
        self._kill.set()

    async def _go_now(self) -> None:
        """Kill the workers, and try for a moment to tell: outcomes that are not answered stay in the spool."""
        await self._bench.pool.stop(kill=True)
        bye = NodeBye(self._identity.node, self._identity.boot)
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._link.bye(bye)
        except (TimeoutError, WindrowError) as error:
            log.warning("left without a word to the scheduler", action="left_unheard", detail=str(error))

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def stop(self) -> None:
        """Leave in order; the second call ends it at once."""
        if self._stop.is_set():
            self._kill.set()
        self._stop.set()

    def _on_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something failed in a callback: what is in memory cannot be trusted, what is in the spool can."""
        error = context.get("exception")
        log.error(
            "the node has met a bug and stops", action="bug", detail=str(context.get("message")),
            exc_info=error if isinstance(error, BaseException) else None,
        )  # fmt: skip
        self._exit_code = EXIT_FAILED
        self._stop.set()
        self._kill.set()

    def _on_tasks(self) -> None:
        self._loaded.set()
        self._reporter.on_tasks()

    def _take(self, chunk: Chunk, tag: object, lease_first: bool) -> Taken:
        return self._bench.take(chunk, tag, lease_first=lease_first)

    def _sample(self) -> NodeLoad:
        return self._meter.sample(
            self._bench.pool.seen(),
            spool_bytes=self._spool.size_bytes,
            deliveries_refused=self._intake.refused + self._reporter.refused_chunks,
            workers_lost=self._bench.pool.workers_lost,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self._bench.watch()

    async def _ping_systemd(self) -> None:
        every_s = find_watchdog_s()
        while every_s is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(every_s)


async def _end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait for it; what it raised is told by whoever waited for its result."""
    task.cancel()
    await asyncio.wait({task})
