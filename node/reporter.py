"""Keeps up the talk with the scheduler: hello, reports, polls, and what is left of older boots."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from importlib import metadata

import structlog

from windrow.common.errors import MalformedMessage, Unreachable, WindrowError
from windrow.common.limits import REPORT_BYTES_MAX, RUNS_MAX
from windrow.common.messages import (
    CHUNKS,
    ChunkReport,
    Directives,
    NodeBye,
    NodeHello,
    NodeLoad,
    NodePoll,
    NodeWelcome,
    Report,
    Reported,
)
from windrow.common.words import Fence
from windrow.node.chunks import check_chunk
from windrow.node.identity import Identity
from windrow.node.intake import Intake
from windrow.node.scheduler_link import SchedulerLink
from windrow.node.settings import NodeSettings
from windrow.node.spool import Spool
from windrow.node.workbench import NEWS_MORE_S, NEWS_NOW_S, SPOOLED, Workbench

log = structlog.get_logger()

_LOAD_S = 1.0
_SPOOL_SEQ = 0
"""Of reports made from the spool: below all that the older boot has sent, for they tell of outcomes alone. What they
do not name was not dropped by a node that is alive: the hello that follows says so, and whom that may be blamed on."""
_REFUSED_PAUSE_S = 1.0
_POLL_PAUSE_S = 0.05
"""Between polls that are answered with nothing to do."""
_FOLLOWED_S = 1.0
"""How long the next poll waits for a directive to be followed."""


class Reporter:
    """Report socket and poll socket; one message under way on each."""

    def __init__(
        self, settings: NodeSettings, identity: Identity, link: SchedulerLink, spool: Spool,
        sample: Callable[[], NodeLoad],
    ) -> None:  # fmt: skip
        self.leaving = False
        self.refused_chunks = 0
        self._settings = settings
        self._identity = identity
        self._link = link
        self._spool = spool
        self._sample = sample
        self._bench: Workbench
        self._intake: Intake
        self._heartbeat_s = 1.0
        self._seq = 0
        self._due = 0.0
        self._news = asyncio.Event()
        self._answered = asyncio.Event()
        self._joined = asyncio.Event()
        self._hello_due = True
        self._load_due = 0.0

    def attach(self, bench: Workbench, intake: Intake) -> None:
        """What to report from, and what to acknowledge to."""
        self._bench = bench
        self._intake = intake

    # ── What makes a report due ──────────────────────────────────────────────────────────────────────────────────

    def on_news(self, delay_s: float = NEWS_NOW_S) -> None:
        """Something new is there; it is reported within `delay_s`."""
        due = time.monotonic() + delay_s
        if due < self._due:
            self._due = due
            self._news.set()

    def on_tasks(self) -> None:
        """The node offers other tasks than it said."""
        self._hello_due = True
        self.on_news()

    # ── Joining ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def send_spool(self) -> None:
        """Report what older boots left, under their names, before the hello frees their fences."""
        fences: dict[Fence, None] = {}
        for record in self._spool.read_old():
            report = _decode_spooled(record.payload)
            if report is not None:
                fences[report.fence] = None
        if not fences:
            self._spool.forget_old()
            return
        log.info("outcomes of an older start are reported first", action="spool_sent", chunks=len(fences))
        boot, size, reports = "", 0, list[ChunkReport]()
        try:
            for record in self._spool.read_old():
                report = _decode_spooled(record.payload)
                if report is None:
                    continue
                full = size + len(record.payload) > REPORT_BYTES_MAX or len(reports) >= RUNS_MAX // 8
                if reports and (full or record.boot != boot):
                    await self._send_spooled(boot, fences, reports)
                    size, reports = 0, []
                boot = record.boot
                size += len(record.payload)
                reports.append(report)
            if reports:
                await self._send_spooled(boot, fences, reports)
        except Unreachable:
            raise
        except WindrowError as error:
            log.error("the scheduler refused spooled outcomes; kept aside", action="spool_refused", detail=str(error))
            self._spool.set_old_aside()
            return
        self._spool.forget_old()

    async def _send_spooled(self, boot: str, fences: dict[Fence, None], reports: list[ChunkReport]) -> None:
        holds = tuple(fences)[:RUNS_MAX]
        report = Report(self._identity.node, boot, _SPOOL_SEQ, holds=holds, chunks=tuple(reports))
        await self._link.report(report)

    async def join(self) -> None:
        """Say hello and follow the welcome; raises what it was refused with."""
        self._hello_due = False
        settings, bench = self._settings, self._bench
        self._seq += 1
        welcome = await self._link.hello(
            NodeHello(
                node=self._identity.node, boot=self._identity.boot, name=settings.name, host=socket.gethostname(),
                pid=os.getpid(), slots=settings.slots, queues=settings.queues, labels=settings.labels,
                tasks=bench.tasks, errors=bench.errors, holds=bench.book.holds, version=_version(),
                seq=self._seq,
            )
        )  # fmt: skip
        await self._follow_welcome(welcome)
        self._link.interrupt_poll()
        self._joined.set()

    async def _follow_welcome(self, welcome: NodeWelcome) -> None:
        self._heartbeat_s = welcome.heartbeat_s
        self._link.follow_lease(welcome.lease_s)
        log.info(
            f"joined {welcome.cluster} as {self._settings.name}", action="joined", epoch=welcome.epoch,
            dispatch=welcome.dispatch, tasks=len(self._bench.tasks), node=self._identity.node,
        )  # fmt: skip
        await self._intake.follow(welcome)
        self._follow_drain(welcome.drained)

    # ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def report_until_left(self) -> None:
        """Report at once what is new, and at least once every heartbeat, until the node has left."""
        while not (self.leaving and self._bench.book.empty):
            await self._wait_due()
            if self._hello_due:
                await self.join()
            await self._report_once()
        await self._link.bye(NodeBye(self._identity.node, self._identity.boot))

    async def _wait_due(self) -> None:
        while (wait_s := self._due - time.monotonic()) > 0:
            self._news.clear()
            timer = asyncio.get_running_loop().call_later(wait_s, self._news.set)
            await self._news.wait()
            timer.cancel()

    async def _report_once(self) -> None:
        book = self._bench.book
        self._due = time.monotonic() + self._heartbeat_s
        holds, chunks = book.begin_report()
        cut = book.unreported
        self._seq += 1
        report = Report(
            self._identity.node, self._identity.boot, self._seq, holds=holds, chunks=chunks,
            load=self._find_load(), leaving=self.leaving,
        )  # fmt: skip
        epoch = self._link.epoch
        answer = await self._ask_patiently(report)
        if answer.epoch != epoch:
            self._link.interrupt_poll()  # It is parked at a scheduler that is gone.
        if answer.rejoin:
            self._hello_due = True
        self._intake.ack(self._bench.on_answered(answer.dead, leased=not answer.rejoin))
        self._answered.set()
        if cut or self._hello_due:
            self.on_news()
        elif book.unreported:
            self.on_news(NEWS_MORE_S)

    async def _ask_patiently(self, report: Report) -> Reported:
        """The answer; a refusal is no reason to drop outcomes, so the same report goes out again after a pause."""
        while True:
            try:
                return await self._link.report(report)
            except WindrowError as error:
                log.error("the scheduler refuses a report; trying again", action="report_refused", detail=str(error))
                await asyncio.sleep(_REFUSED_PAUSE_S)

    def _find_load(self) -> NodeLoad | None:
        now = time.monotonic()
        if now < self._load_due:
            return None
        self._load_due = now + _LOAD_S
        return self._sample()

    # ── Directives ───────────────────────────────────────────────────────────────────────────────────────────────

    async def poll_for_ever(self) -> int:
        """Follow the scheduler's directives; returns an exit code when there is no use in going on."""
        while True:
            await self._joined.wait()
            book = self._bench.book
            directives = await self._link.poll(
                NodePoll(self._identity.node, self._identity.boot, holds=book.holds, draining=book.draining)
            )
            if directives is None:
                continue
            if directives.rejoin:
                self._joined.clear()
                self._hello_due = True
                self.on_news()
                continue
            asked = directives.give_up + directives.dead
            self._follow(directives)
            free = any(view.outstanding == 0 for view in self._bench.pool.views())
            if not await self._intake.watch(directives.placed, free=free):
                return 1
            if asked:
                await self._wait_followed(asked)
            elif not directives.chunks:
                await asyncio.sleep(_POLL_PAUSE_S)

    def _follow(self, directives: Directives) -> None:
        self._intake.ack(self._bench.kill(directives.dead))
        self._bench.give_up(directives.give_up)
        self._follow_drain(directives.drain)
        for data in directives.chunks:
            try:
                chunk = CHUNKS.decode(data)
                check_chunk(chunk)
                if chunk.node != self._identity.node:
                    raise MalformedMessage(f"chunk {chunk.fence} is for node {chunk.node}")
            except MalformedMessage as error:
                self.refused_chunks += 1
                log.error("a chunk message is refused", action="delivery_refused", detail=str(error))
                continue
            self._bench.take(chunk)

    def _follow_drain(self, drain: bool) -> None:
        if drain and not self._bench.book.draining:
            log.info("draining: current items are finished, the rest is given back", action="draining")
            self._bench.drain()
        elif not drain and self._bench.book.draining and not self.leaving:
            log.info("working again", action="resumed")
            self._bench.resume()

    async def _wait_followed(self, fences: tuple[Fence, ...]) -> None:
        """Poll again only when the answer was heard, or the scheduler would say the same at once."""
        deadline = time.monotonic() + _FOLLOWED_S
        while self._bench.book.is_owed(fences) and (left_s := deadline - time.monotonic()) > 0:
            self._answered.clear()
            try:
                await asyncio.wait_for(self._answered.wait(), left_s)
            except TimeoutError:
                return


def _decode_spooled(payload: bytes) -> ChunkReport | None:
    try:
        return SPOOLED.decode(payload)
    except WindrowError as error:
        log.error("a spooled outcome cannot be read; its items run again", action="spool_malformed", detail=str(error))
        return None


def _version() -> str:
    try:
        return metadata.version("windrow-engine")
    except metadata.PackageNotFoundError:
        return "unknown"
