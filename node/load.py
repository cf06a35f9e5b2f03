"""How busy the machine and the slots are; the only file of the node that knows psutil."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from windrow.common.messages import NodeLoad, SlotState


@dataclass(frozen=True, slots=True)
class SlotSeen:
    """One slot as the pool sees it; pid 0 while no process is there."""

    pid: int
    state: str
    task: str


class LoadMeter:
    """Samples the load; each sample covers the time since the one before."""

    def __init__(self) -> None:
        self._cores = psutil.cpu_count() or 1
        psutil.cpu_percent(interval=None)

    def sample(
        self, slots: Iterable[SlotSeen], *, spool_bytes: int, deliveries_refused: int, workers_lost: int
    ) -> NodeLoad:
        """The load now."""
        memory = psutil.virtual_memory()
        load_1, load_5, load_15 = psutil.getloadavg()
        return NodeLoad(
            cpu_percent=psutil.cpu_percent(interval=None),
            cores=self._cores,
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
            load_1=load_1,
            load_5=load_5,
            load_15=load_15,
            slots=tuple(SlotState(slot.pid, slot.state, slot.task, memory_bytes(slot.pid)) for slot in slots),
            spool_bytes=spool_bytes,
            deliveries_refused=deliveries_refused,
            workers_lost=workers_lost,
        )


def memory_bytes(pid: int) -> int:
    """What the process has in memory now; 0 where there is none."""
    if not pid:
        return 0
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
