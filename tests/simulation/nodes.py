"""Machines of the world with the real node daemon on them; the disk with the spool outlives the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import Process
from tests.simulation.links import Wire
from tests.simulation.scenario import NodePlan
from tests.simulation.workers import SimWorker
from windrow.common.errors import WindrowError
from windrow.common.messages import NodeLoad
from windrow.common.words import NodeId
from windrow.node.daemon import NodeDaemon
from windrow.node.identity import Identity
from windrow.node.settings import NodeSettings
from windrow.node.spool import Spooled
from windrow.node.workbench import SPOOLED

if TYPE_CHECKING:
    from tests.simulation.world import World

SEGMENT_RECORDS = 8
RESTART_S = 1.0
"""What stands for systemd waits so long."""


class SimSpool:
    """The spool on the machine's disk, in segments that go when all in them is settled."""

    def __init__(self, folder: Path, boot: str, bytes_max: int) -> None:
        process: Any = asyncio.get_running_loop()
        self._host: NodeHost = process.host
        self._boot = boot
        self._bytes_max = bytes_max
        self._disk = self._host.disk
        self._old = sorted(self._disk)
        self._segment = max(self._old, default=0)
        self._open: dict[int, int] = {}

    @property
    def size_bytes(self) -> int:
        return sum(len(record.payload) for segment in self._disk.values() for record in segment)

    @property
    def full(self) -> bool:
        return self.size_bytes >= self._bytes_max

    def read_old(self) -> Iterator[Spooled]:
        for segment in self._old:
            yield from self._disk[segment]

    def forget_old(self) -> None:
        for record in self.read_old():
            self._host.world.truth.on_old_spool_dropped(self._host.id, SPOOLED.decode(record.payload))
        self.set_old_aside()

    def set_old_aside(self) -> None:
        for segment in self._old:
            del self._disk[segment]
        self._old = []

    def append(self, payload: bytes) -> int:
        if self._segment not in self._open or len(self._disk[self._segment]) >= SEGMENT_RECORDS:
            self._segment += 1
            self._disk[self._segment] = []
        self._disk[self._segment].append(Spooled(self._boot, payload))
        self._open[self._segment] = self._open.get(self._segment, 0) + 1
        return self._segment

    def settle(self, segment: int) -> None:
        self._open[segment] -= 1
        if self._open[segment]:
            return
        del self._open[segment]
        for record in self._disk.pop(segment):
            self._host.world.truth.on_spool_dropped(self._host.id, SPOOLED.decode(record.payload))

    def close(self) -> None:
        """The disk stays."""


class SimMeter:
    """The load of a machine of the world is nobody's concern."""

    def sample(self, slots: object, **counts: int) -> NodeLoad:
        return NodeLoad()


class NoOomKills:
    """The kernel of the world kills nobody."""

    def look(self, now: float) -> None:
        """Nothing to see."""

    def find_recent(self, now: float) -> int | None:
        return None


class NodeHost:
    """One machine: the daemon is started again whenever it has ended, unless the machine is lost."""

    def __init__(self, world: World, node: NodeId, plan: NodePlan) -> None:
        self.world = world
        self.id = node
        self.plan = plan
        self.wire = Wire(world, f"wire of {node}")
        self.cut_from_broker = False
        self.disk: dict[int, list[Spooled]] = {}
        self.workers: list[SimWorker] = []
        self.daemon: NodeDaemon | None = None
        self.process: Process | None = None
        self.boots = 0
        self.lost = False
        self._pids = 0

    def next_pid(self) -> int:
        self._pids += 1
        return self._pids

    def start(self) -> None:
        if self.lost or self.daemon is not None:
            return
        self.boots += 1
        self.workers.clear()
        boot = f"{self.id}-boot{self.boots}"
        process = self.process = Process(self.world.clock, boot, self)
        settings = NodeSettings(
            url="sim", state_dir=Path(self.id), slots=self.plan.slots, name=self.id, amqp_url="sim",
            tasks=("sim",), grace_s=5.0, cancel_grace_s=1.0,
        )  # fmt: skip
        self.world.truth.note(self.id, f"starts as {boot}", node=self.id)
        with process.running():
            daemon = self.daemon = NodeDaemon(settings, Identity(self.id, boot, -1))
            task = process.create_task(daemon.run())
        task.add_done_callback(lambda done: self._on_end(daemon, done))

    def _on_end(self, daemon: NodeDaemon, task: asyncio.Task[int]) -> None:
        if self.daemon is not daemon:
            return
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, WindrowError):
            raise error
        self.world.truth.on_away(self.id)
        self.world.truth.note(self.id, f"has ended: {error or task.result()}", node=self.id)
        self._down()
        self.world.outside.call_later(RESTART_S, self.start)

    def crash(self, *, back_after_s: float, disk_too: bool = False) -> None:
        """Daemon and workers are gone at once."""
        if self.daemon is None or self.lost:
            return
        self.world.truth.note(self.id, "crashes" + (" with its disk" if disk_too else ""), node=self.id)
        self.world.truth.on_away(self.id, crashed=not disk_too)
        if disk_too:
            self.disk = {}
        for worker in list(self.workers):
            worker.die(-9, silently=True)
        self._down()
        self.world.outside.call_later(back_after_s, self.start)

    def _down(self) -> None:
        if self.process is not None:
            self.process.kill()
        for worker in self.workers:
            worker.process.kill()
        for consumer in list(self.world.broker.consumers.values()):
            if consumer.host is self:
                consumer.disconnect()
        self.daemon = None

    def leave(self) -> None:
        if self.daemon is not None and self.process is not None:
            self.process.call_soon(self.daemon.stop)

    def kill_worker(self, who: int) -> None:
        alive = [worker for worker in self.workers if worker.process.alive]
        if alive:
            alive[who % len(alive)].die(-9)

    @property
    def processes(self) -> list[Process]:
        own = [] if self.process is None or self.daemon is None else [self.process]
        return own + [worker.process for worker in self.workers if worker.process.alive]

    @property
    def idle(self) -> bool:
        """Nothing is held and nothing is owed."""
        if self.daemon is None:
            return self.lost
        return self.daemon._bench.book.empty and not self.disk
