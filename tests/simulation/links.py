"""Links that lose, repeat, delay and reorder messages; and the real request logic of peers on sockets made of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import Process
from windrow.common.blocks import block_entries, pack_block
from windrow.common.errors import MalformedMessage, ProtocolError
from windrow.common.messages import ANSWERS, REQUESTS, ChunkReport, Refused, Report, Reported, ValueRun
from windrow.common.words import Fence
from windrow.node import scheduler_link
from windrow.node.scheduler_link import SchedulerLink
from windrow.scheduler import control
from windrow.scheduler.control import Peer, Request

if TYPE_CHECKING:
    from tests.simulation.world import World


RECONNECT_S = 0.1


class Wire:
    """One way between two peers, with dice of its own."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._dice = random.Random(f"{world.scenario.seed} {name}")
        self.cut = False

    def carry(self, deliver: Callable[[], None]) -> None:
        """One message: it may be lost, come twice, or late."""
        world, dice = self._world, self._dice
        plan = world.scenario
        faulty = world.faulty
        lost, late, twice = dice.random() < plan.lose, dice.random() < plan.slow, dice.random() < plan.repeat
        delay_s = dice.uniform(0.0001, 0.002)
        late_s = dice.uniform(0, plan.late_s)
        if self.cut or (faulty and lost):
            return
        world.outside.call_later(delay_s + (late_s if late and faulty else 0.0), deliver)
        if faulty and twice:
            world.outside.call_later(delay_s + late_s, deliver)


class SimSocket:
    """A REQ socket with correlation: of all answers only that to the last request is read."""

    def __init__(self, world: World, wire: Wire, process: Process) -> None:
        self._world = world
        self._wire = wire
        self._process = process
        self._scheduler = world.pick_scheduler()
        self._number = 0
        self._answer: asyncio.Future[bytes] | None = None
        self._closed = False

    def ask(self, payload: bytes) -> asyncio.Future[bytes]:
        self._number += 1
        number = self._number
        self._answer = self._process.create_future()

        def reply(data: bytes) -> None:
            self._wire.carry(lambda: self._process.call_soon(self._on_answer, number, data))

        def deliver() -> None:
            scheduler = self._scheduler
            if scheduler.process.alive:
                self._wire.carry(lambda: scheduler.receive(payload, reply))
            elif not self._closed and number == self._number:
                # The socket connects again by itself and sends what it still has.
                self._scheduler = self._world.pick_scheduler()
                self._world.outside.call_later(RECONNECT_S, deliver)

        deliver()
        return self._answer

    def _on_answer(self, number: int, data: bytes) -> None:
        if number == self._number and not self._closed and self._answer is not None and not self._answer.done():
            self._answer.set_result(data)

    def close(self) -> None:
        self._closed = True


class SimLink(SchedulerLink):
    """The node's link as it is, but for the sockets; clients use it too. Its peer is the host of the process."""

    def __init__(self, url: str) -> None:
        process = asyncio.get_running_loop()
        assert isinstance(process, Process)
        self._process = process
        self.url = url
        self.epoch = 0
        self._report = scheduler_link._Requester(self, "report", scheduler_link.report_pace(scheduler_link.LEASE_S))
        self._poll = scheduler_link._Requester(self, "poll", scheduler_link.poll_pace(scheduler_link.LEASE_S))
        self._polling = None
        self._said: dict[Fence, dict[int, bytes]] = {}

    def open_socket(self, *, watched: bool) -> Any:
        host = self._process.host
        return SimSocket(host.world, host.wire, self._process)

    def close(self) -> None:
        self._report.close()
        self._poll.close()

    async def report(self, message: Report) -> Reported:
        if self._process.host.plan.repeats:
            message = self._say_again(message)
        return await super().report(message)

    def _say_again(self, message: Report) -> Report:
        """Everything that was ever said of the fences, in runs as long as can be."""
        chunks: list[ChunkReport] = []
        for said in message.chunks:
            known = self._said.setdefault(said.fence, {})
            for run in said.values:
                known.update(zip(range(run.start, run.stop), block_entries(run.block), strict=True))
            chunks.append(ChunkReport(said.fence, said.job, _runs(known), said.failures, said.released, said.busy_s))
        holds = frozenset(message.holds)
        self._said = {fence: known for fence, known in self._said.items() if fence in holds}
        fields = (message.node, message.boot, message.seq, message.holds, tuple(chunks), message.load, message.leaving)
        return Report(*fields)

    async def ask(self, message: object, kind: type[Any]) -> Any:
        """One request of a client and its answer."""
        return await self._report.ask(message, kind)

    async def ask_poll(self, message: object, kind: type[Any]) -> Any:
        return await self._poll.ask(message, kind)


def _runs(known: dict[int, bytes]) -> tuple[ValueRun, ...]:
    runs: list[ValueRun] = []
    entries: list[bytes] = []
    for item in sorted(known):
        entries.append(known[item])
        if item + 1 not in known:
            runs.append(ValueRun(item + 1 - len(entries), item + 1, pack_block(entries)))
            entries = []
    return tuple(runs)


class SimControl:
    """The scheduler's socket: what has arrived waits here, also while nobody reads."""

    def __init__(self, process: Process, on_answer: Callable[[object, object], None]) -> None:
        self.refused = 0
        self.received = 0
        self._process = process
        self._on_answer = on_answer
        self._waiting: list[tuple[Peer, bytes]] = []
        self._replies: dict[Peer, tuple[object, Callable[[bytes], None]]] = {}
        self._on_ready: Callable[[], None] | None = None
        self._woken = False

    def start(self, loop: object, on_ready: Callable[[], None]) -> None:
        self._on_ready = on_ready
        self._wake()

    def arrive(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        self.received += 1
        peer = Peer((b"%d" % self.received,))
        self._replies[peer] = (None, reply)
        self._waiting.append((peer, data))
        self._wake()

    def _wake(self) -> None:
        if self._on_ready is not None and not self._woken:
            self._woken = True
            self._process.call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._woken = False
        assert self._on_ready is not None
        self._on_ready()

    def receive(self) -> list[Request]:
        waiting, self._waiting = self._waiting, []
        found: list[Request] = []
        for peer, data in waiting:
            try:
                message = REQUESTS.decode(data)
                control._check(message)
            except (ProtocolError, MalformedMessage) as error:
                self.answer(peer, Refused(error.code, str(error)))
                continue
            self._replies[peer] = (message, self._replies[peer][1])
            found.append(Request(peer, message))
        return found

    def look_again(self) -> None:
        """Nothing is left behind by receive."""

    def answer(self, peer: Peer, message: object) -> None:
        request, reply = self._replies.pop(peer)
        self._on_answer(request, message)
        reply(ANSWERS.encode(message))

    def close(self) -> None:
        self._on_ready = None
