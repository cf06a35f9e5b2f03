"""The slots of the node: each keeps one worker process, replaces it when it ends, and says what became of its feeds."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from windrow.node.feeding import SlotView
from windrow.node.load import SlotSeen
from windrow.node.oom import watch_own_group
from windrow.node.shared_page import Executing
from windrow.node.worker_end import Verdict, WorkerEnd, describe_exit, explain_kill
from windrow.node.worker_link import Feed, FeedOutcomes, Ready, Setup
from windrow.node.worker_process import Ended, WorkerProcess

log = structlog.get_logger()

_RETRY_S_MIN = 0.5
_RETRY_S_MAX = 30.0
_START_S_MAX = 30.0
"""A worker that takes longer to import its tasks is not waited for where another could be started."""


class PoolListener(Protocol):
    """Who is told what happens in the slots."""

    def on_ready(self, ready: Ready) -> None: ...

    def on_outcomes(self, slot: int, outcomes: FeedOutcomes) -> None: ...

    def on_worker_end(self, end: WorkerEnd) -> None: ...


@dataclass(slots=True)
class _Slot:
    number: int
    worker: WorkerProcess | None = None
    ready: bool = False
    tasks: frozenset[str] = frozenset()
    """What its worker has imported, by name."""
    fresh: bool = True
    alone: bool = False
    """It has been given a suspect item: nothing may be put in line behind that."""
    worn: bool = False
    """It gets no more feeds and is replaced after those that it has."""
    executed: int = 0
    killed: bool = False
    verdict: Verdict | None = None
    stopping: bool = False
    since: float = 0.0
    """When its worker was started."""
    feeds: list[int] = field(default_factory=list[int])
    task: str = ""
    retry_s: float = _RETRY_S_MIN

    @property
    def state(self) -> str:
        if self.stopping or self.killed:
            return "stopping"
        if not self.ready:
            return "starting"
        return "busy" if self.feeds else "idle"


class WorkerPool:
    """See the module; all of it runs in the daemon's loop."""

    def __init__(self, slots: int, url: str, setup: Setup, listener: PoolListener) -> None:
        self._url = url
        self._setup = setup
        self._listener = listener
        self._slots = [_Slot(number) for number in range(slots)]
        self._retired: set[WorkerProcess] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._stopped = False
        self.workers_lost = 0
        self.oom_kills = watch_own_group()

    def start(self) -> None:
        for slot in self._slots:
            self._spawn(slot)

    @property
    def slots(self) -> range:
        """The numbers of the slots."""
        return range(len(self._slots))

    def views(self) -> list[SlotView]:
        """The slots that take feeds now."""
        return [
            SlotView(slot.number, len(slot.feeds), slot.fresh)
            for slot in self._slots
            if slot.ready and not (slot.killed or slot.stopping or slot.alone or slot.worn)
        ]

    @property
    def starting(self) -> int:
        """How many workers will be ready soon; where one cannot be started, the slot has none."""
        late = asyncio.get_running_loop().time() - _START_S_MAX
        return sum(slot.worker is not None and slot.state == "starting" and slot.since > late for slot in self._slots)

    def tasks_of(self, slot_number: int) -> frozenset[str]:
        """Names of the tasks that the slot's worker can run; none before it has said so."""
        slot = self._slots[slot_number]
        return slot.tasks if slot.ready else frozenset()

    def seen(self) -> Iterator[SlotSeen]:
        """The slots for people to look at."""
        for slot in self._slots:
            yield SlotSeen(0 if slot.worker is None else slot.worker.pid, slot.state, slot.task if slot.feeds else "")

    def send(self, slot_number: int, feed: Feed) -> None:
        """Give the slot a feed."""
        slot = self._slots[slot_number]
        assert slot.worker is not None
        slot.fresh = False
        slot.alone = feed.alone
        slot.feeds.append(feed.number)
        slot.task = feed.task
        slot.worker.send(feed)

    def replace(self, slot_number: int) -> None:
        """Put a fresh worker into an idle slot."""
        slot = self._slots[slot_number]
        assert not slot.feeds, "only an idle worker is replaced"
        self._retire(slot)
        self._spawn(slot)

    def stop_through(self, feed_number: int) -> int | None:
        """Ask the worker that has this feed to leave it, and those it got before, after its current item. Its slot."""
        for slot in self._slots:
            if feed_number in slot.feeds and slot.worker is not None:
                slot.worker.page.stop_through(feed_number)
                return slot.number
        return None

    def cancel(self, feed_number: int) -> None:
        """Tell the item at work in this feed that nobody wants it any more."""
        for slot in self._slots:
            if feed_number in slot.feeds and slot.worker is not None:
                slot.worker.page.cancel(feed_number)

    def outstanding(self, slot_number: int) -> tuple[int, ...]:
        return tuple(self._slots[slot_number].feeds)

    def busy(self) -> Iterator[tuple[int, Executing]]:
        """Slots that execute an item, and which."""
        for slot in self._slots:
            executing = self.find_executing(slot.number)
            if executing is not None:
                yield slot.number, executing

    def find_executing(self, slot_number: int) -> Executing | None:
        slot = self._slots[slot_number]
        if slot.worker is None or not slot.feeds:
            return None
        return slot.worker.page.find_executing()

    def find_pid(self, slot_number: int) -> int:
        """Of the slot's worker, once that has imported its tasks; else 0."""
        slot = self._slots[slot_number]
        return slot.worker.pid if slot.worker is not None and slot.ready else 0

    def executed(self, slot_number: int) -> int:
        """How many items the slot's worker has executed."""
        return self._slots[slot_number].executed

    def wear_out(self, slot_number: int) -> bool:
        """Give the slot's worker nothing more; False for a fresh one, whose like would come in its place."""
        slot = self._slots[slot_number]
        slot.worn = slot.ready and not slot.fresh
        return slot.worn

    def is_worn(self, slot_number: int) -> bool:
        return self._slots[slot_number].worn

    def recover(self, slot_number: int) -> None:
        """The slot's worker may go on."""
        self._slots[slot_number].worn = False

    def kill(self, slot_number: int, verdict: Verdict | None = None) -> None:
        """End the slot's worker on purpose: nobody but the item of the verdict is blamed, a fresh one follows."""
        slot = self._slots[slot_number]
        if slot.worker is not None and not slot.killed:
            slot.killed = True
            slot.verdict = verdict
            slot.worker.kill()

    async def stop(self, *, kill: bool) -> None:
        """End all workers and wait for it; idle ones exit by themselves unless killed."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        workers = list(self._retired)
        for slot in self._slots:
            slot.stopping = True
            if slot.worker is not None:
                workers.append(slot.worker)
                slot.worker.close()
        for worker in workers:
            if kill:
                worker.kill()
            await worker.wait_ended()

    def _spawn(self, slot: _Slot) -> None:
        if self._stopped:
            return
        slot.ready = slot.killed = slot.alone = slot.worn = False
        slot.verdict = None
        slot.executed = 0
        slot.fresh = True
        slot.feeds = []
        slot.since = asyncio.get_running_loop().time()
        made: WorkerProcess | None = None
        try:
            made = WorkerProcess(slot.number, self._url, partial(self._on_message, slot), partial(self._on_end, slot))
        except OSError as error:
            log.error("a worker cannot be started; trying again", action="worker_failed", detail=str(error))
            self._later(slot)
        slot.worker = made
        if made is not None:
            made.send(self._setup)

    def _retire(self, slot: _Slot) -> None:
        worker = slot.worker
        slot.worker = None
        if worker is None:
            return
        self._retired.add(worker)
        worker.retire(partial(self._retired.discard, worker))

    def _later(self, slot: _Slot) -> None:
        """Start the slot's worker after a pause that doubles from one failure to the next."""
        self._timers[slot.number] = asyncio.get_running_loop().call_later(slot.retry_s, self._spawn, slot)
        slot.retry_s = min(_RETRY_S_MAX, slot.retry_s * 2)

    def _on_message(self, slot: _Slot, message: object) -> None:
        if isinstance(message, Ready):
            slot.ready = True
            slot.tasks = frozenset(task.name for task in message.tasks)
            slot.retry_s = _RETRY_S_MIN
            self._listener.on_ready(message)
        elif isinstance(message, FeedOutcomes) and message.feed in slot.feeds:
            if message.ended:
                slot.feeds.remove(message.feed)
                slot.alone = False
                slot.executed += message.executed
            self._listener.on_outcomes(slot.number, message)

    def _on_end(self, slot: _Slot, ended: Ended) -> None:
        at_start = not slot.ready
        wanted = slot.killed or self._stopped
        executing, peak = ended.executing, ended.memory_bytes_peak
        how, why = describe_exit(ended.code), ""
        if ended.nonsense:
            how = f"sent what is no message and was killed ({ended.nonsense})"
        elif ended.code == -signal.SIGKILL and not wanted:
            why = explain_kill(peak, self.oom_kills.find_recent(asyncio.get_running_loop().time()))
        end = WorkerEnd(
            tuple(slot.feeds),
            executing,
            how,
            why,
            wanted,
            slot.verdict,
            peak,
            ended.log,
            bool(ended.nonsense),
        )
        slot.worker = None
        slot.ready = False
        slot.feeds = []
        if not wanted:
            self.workers_lost += 1
            log.warning(
                f"a worker was lost: it {end.how}{end.why}", action="worker_lost", slot=slot.number, at_start=at_start,
                item=None if executing is None else executing.item,
            )  # fmt: skip
        if at_start and not wanted:
            self._later(slot)
        else:
            self._spawn(slot)
        self._listener.on_worker_end(end)
