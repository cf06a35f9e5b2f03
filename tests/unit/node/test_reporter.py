"""What a node says to its scheduler and when, with a link that the test answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from tests.node_bench import NotedSpool
from tests.waiting import until
from windrow.common.messages import (
    ChunkReport,
    Directives,
    NodeHello,
    NodeLoad,
    NodePoll,
    NodeWelcome,
    Report,
    Reported,
)
from windrow.common.words import Fence, JobId, NodeId
from windrow.node.identity import Identity
from windrow.node.reporter import Reporter
from windrow.node.settings import NodeSettings
from windrow.node.workbench import Workbench


class Link:
    """Keeps what is asked until the test answers."""

    epoch = 1

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.polls: list[NodePoll] = []
        self.answers: asyncio.Queue[Reported] = asyncio.Queue()
        self.directives: asyncio.Queue[Directives] = asyncio.Queue()

    async def hello(self, hello: NodeHello) -> NodeWelcome:
        return NodeWelcome(1, "c", 30.0, 60.0, "local", "", b"", 0)

    async def report(self, report: Report) -> Reported:
        self.reports.append(report)
        return await self.answers.get()

    async def poll(self, poll: NodePoll) -> Directives:
        self.polls.append(poll)
        return await self.directives.get()

    def follow_lease(self, lease_s: float) -> None:
        """Nothing is late here."""

    def interrupt_poll(self) -> None:
        """The test answers in its own time."""


class Intake:
    """All chunks come by the poll."""

    async def follow(self, welcome: NodeWelcome) -> None:
        pass

    async def watch(self, placed: int, *, free: bool) -> bool:
        return True

    def ack(self, tags: list[object]) -> None:
        assert not tags


def test_the_scheduler_is_asked_again_when_it_has_answered_the_word_on_a_fence_that_is_not_here() -> None:
    """Before that it would say the same at once."""

    async def body() -> None:
        link, settings = Link(), NodeSettings("tcp://x:1", Path(), 1, "n")
        reporter = Reporter(
            settings, Identity(NodeId("n"), "boot", -1), cast("Any", link), cast("Any", NotedSpool()), NodeLoad
        )
        bench = Workbench(settings, cast("Any", NotedSpool()), reporter.on_news, reporter.on_tasks)
        reporter.attach(bench, cast("Any", Intake()))
        await reporter.join()
        talking = [asyncio.create_task(each) for each in (reporter.report_until_left(), reporter.poll_for_ever())]
        try:
            await until(lambda: link.reports and link.polls, 5, "a report and a poll")
            link.directives.put_nowait(Directives(1, give_up=(Fence(1, 9),)))
            await until(lambda: bench.book.unreported, 5, "the directive is heard")
            link.answers.put_nowait(Reported(1))
            await until(lambda: len(link.reports) == 2, 5, "a report with the word")
            assert link.reports[1].chunks == (ChunkReport(Fence(1, 9), JobId("")),)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(link.polls) == 1
            link.answers.put_nowait(Reported(1))
            await until(lambda: len(link.polls) == 2, 5, "the next poll")
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)

    asyncio.run(body())
