"""Workers of the world: they execute items in virtual time, batch their outcomes as real ones do, and die with them."""

from __future__ import annotations

import asyncio
import functools
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.clock import Process
from tests.simulation.scenario import JobPlan
from tests.simulation.truth import Run
from windrow.common.blocks import block_entries, pack_block
from windrow.common.messages import ItemFailure, TaskInfo, ValueRun
from windrow.common.words import FailureKind, JobId
from windrow.node.shared_page import NOBODY, Executing
from windrow.node.worker_link import FROM_WORKER, TO_WORKER, Feed, FeedOutcomes, Ready, Setup
from windrow.node.worker_process import Ended

if TYPE_CHECKING:
    from tests.simulation.nodes import NodeHost

TASK = "sim:work"
BATCH_AGE_S = 0.05
FIRST_NUMBER, STEP = 7, 3
"""Item i of a job of numbers is FIRST_NUMBER + i * STEP."""


@functools.lru_cache(maxsize=200_000)
def fate_of(plan: JobPlan, seed: int, job: JobId, item: int) -> str:
    """What an item does: `fine`, `error`, `flaky`, `crash`, `hang` or `kill`; the same each time."""
    lot = random.Random(f"{seed} {job}/{item}").random() * 1000
    for name in ("errors", "flaky", "crashes", "hangs", "killers"):
        share: int = getattr(plan, name)
        if lot < share:
            return {"errors": "error", "crashes": "crash", "hangs": "hang", "killers": "kill"}.get(name, name)
        lot -= share
    return "fine"


class SimPage:
    """The page that daemon and worker share."""

    def __init__(self) -> None:
        self.feed = 0
        self.item = NOBODY
        self.since = 0.0
        self.stopped_through = 0
        self.cancelled: set[int] = set()

    def stop_through(self, feed: int) -> None:
        self.stopped_through = max(self.stopped_through, feed)

    def cancel(self, feed: int) -> None:
        self.cancelled.add(feed)

    def find_executing(self) -> Executing | None:
        return None if self.item == NOBODY else Executing(self.feed, self.item, self.since)


class SimWorker:
    """Stands for WorkerProcess and the process behind it."""

    def __init__(
        self, slot: int, url: str, on_message: Callable[[object], None], on_end: Callable[[Ended], None]
    ) -> None:
        self.daemon: Any = asyncio.get_running_loop()
        self.host: NodeHost = self.daemon.host
        self.pid = self.host.next_pid()
        self.page = SimPage()
        self.process = Process(self.daemon.clock, f"{self.daemon.name}/w{self.pid}", self.host)
        self.host.workers.append(self)
        self._dice = random.Random(f"{self.host.world.scenario.seed} {self.process.name}")
        self._on_message = on_message
        self._on_end = on_end
        self._ended = self.daemon.create_future()
        self._feeds: deque[Feed] = deque()
        self._closing = False
        self._gone = False
        self._run: Run | None = None
        self._told: list[Run] = []
        """Runs with outcomes that have not left the worker."""
        self._entries: list[bytes] = []
        self._runs: list[ValueRun] = []
        self._failures: list[ItemFailure] = []
        self._next = self._first = 0
        self._began = self._sent_at = self._busy_s = 0.0
        self._contents: dict[int, str] = {}

    # ── The daemon's side ────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: object) -> None:
        message = TO_WORKER.decode(TO_WORKER.encode(message))
        self.process.call_later(0.0001, self._receive, message)

    def kill(self) -> None:
        self.die(-9)

    def close(self) -> None:
        self._closing = True
        self.process.call_later(0.01, self._exit_if_idle)
        self.daemon.call_later(5.0, self.kill)

    def retire(self, on_end: Callable[[], None]) -> None:
        self._on_message = lambda message: None
        self._on_end = lambda ended: on_end()
        self.close()

    async def wait_ended(self) -> None:
        await asyncio.shield(self._ended)

    # ── The worker's side ────────────────────────────────────────────────────────────────────────────────────────

    def die(self, code: int, *, silently: bool = False) -> None:
        """`silently`: the daemon dies with it."""
        if self._gone:
            return
        self._gone = True
        self.process.kill()
        truth = self.host.world.truth
        if self._run is not None and self._run.ended is None:
            assert self._job is not None
            late = self._timeout_s is not None and self.daemon.time() - self._run.started >= self._timeout_s
            result = "lost" if silently else "timeout" if late else "crash"
            truth.on_run_ended(self._run, self._job, result)
        for run in self._told:
            run.result = "lost" if run.result == "value" else run.result
        if not silently:
            self.daemon.call_later(0.01, self._tell_end, Ended(code, self.page.find_executing(), 1, ""))

    _job: JobId | None = None
    _timeout_s: float | None = None

    def _tell_end(self, ended: Ended) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
            self._on_end(ended)

    def _exit_if_idle(self) -> None:
        if self._closing and not self._feeds:
            self.die(0)

    def _say(self, message: object) -> None:
        payload = FROM_WORKER.encode(message)
        self.daemon.call_later(0.0002, self._hear, payload)

    def _hear(self, payload: bytes) -> None:
        if not self._ended.done():
            self._on_message(FROM_WORKER.decode(payload))

    def _receive(self, message: object) -> None:
        if isinstance(message, Setup):
            self.process.call_later(self._dice.uniform(0.02, 0.2), self._say, Ready((TaskInfo(TASK),), ()))
        elif isinstance(message, Feed):
            self._feeds.append(message)
            if len(self._feeds) == 1:
                self._begin()

    def _begin(self) -> None:
        feed = self._feeds[0]
        self._job, self._timeout_s = feed.job, feed.timeout_s
        self.page.feed, self.page.item = feed.number, NOBODY
        self._first = self._next = feed.start
        self._began = self._sent_at = self.process.time()
        self._busy_s = 0.0
        self._contents = _contents(feed)
        self._step(feed.start)

    def _step(self, item: int) -> None:
        """Begin an item, or end the feed."""
        feed = self._feeds[0]
        if item == feed.stop:
            self._end(item)
            return
        now = self.process.time()
        self.page.item, self.page.since = item, now
        if self.page.stopped_through >= feed.number:
            self._end(item)
            return
        world = self.host.world
        plan = world.truth.plan_of(feed.job)
        fate = fate_of(plan, world.scenario.seed, feed.job, item)
        self._run = world.truth.on_run(feed.job, item, feed.fence, self.host.id, alone=feed.alone)
        if fate == "hang":
            self._flush_later()
            return
        takes_s = plan.lengths_s[item] if plan.lengths_s else plan.item_s * self._dice.choice((0.2, 1.0, 1.0, 3.0))
        if fate == "kill":
            takes_s = plan.kill_after_s
        if takes_s > BATCH_AGE_S:
            self._flush_later()
        self.process.call_later(takes_s, self._done, item, fate, takes_s)

    def _flush_later(self) -> None:
        """The second thread sends what has grown old while an item is long at work."""
        self.process.call_later(BATCH_AGE_S, self._flush)

    def _done(self, item: int, fate: str, took_s: float) -> None:
        feed, run = self._feeds[0], self._run
        assert run is not None
        self._busy_s += took_s
        if fate == "kill":
            self.host.crash(back_after_s=self._dice.uniform(0.1, 8.0))
            return
        if fate == "crash":
            self.die(-11)
            return
        used = next((entry[2] for entry in feed.attempts if entry[0] <= item < entry[1]), 0)
        failed = FailureKind.ERROR if fate == "error" or (fate == "flaky" and used < 2) else None
        if self.host.id in self.host.world.truth.plan_of(feed.job).unfit:
            failed = FailureKind.UNFIT
        self.host.world.truth.on_run_ended(run, feed.job, "value" if failed is None else str(failed))
        self._told.append(run)
        if failed is not None:
            self._close_run()
            self._failures.append(ItemFailure(item, failed, "Sim", "sim", alone=feed.alone))
            self._next = item + 1
        else:
            self._entries.append(f"{self._contents[item]}|{feed.fence}".encode())
        if feed.one_by_one or self.process.time() - self._sent_at >= BATCH_AGE_S:
            self.page.item = NOBODY
            self._flush()
        self._step(item + 1)

    def _close_run(self) -> None:
        if self._entries:
            count = len(self._entries)
            self._runs.append(ValueRun(self._next, self._next + count, pack_block(self._entries)))
            self._next += count
            self._entries = []

    def _take(self) -> tuple[tuple[ValueRun, ...], tuple[ItemFailure, ...], float]:
        taken = (tuple(self._runs), tuple(self._failures), self._busy_s)
        self._runs, self._failures, self._busy_s = [], [], 0.0
        self._told.clear()
        self._sent_at = self.process.time()
        return taken

    def _flush(self) -> None:
        self._close_run()
        if (self._runs or self._failures) and self._feeds:
            self._say(FeedOutcomes(self._feeds[0].number, self._next, *self._take()))

    def _end(self, after: int) -> None:
        feed = self._feeds[0]
        self._close_run()
        values, failures, busy_s = self._take()
        self.page.item = NOBODY
        elapsed_s = self.process.time() - self._began
        executed = after - self._first
        self._say(FeedOutcomes(feed.number, after, values, failures, busy_s, elapsed_s, executed, ended=True))
        self._feeds.popleft()
        self._run = None
        if self._feeds:
            self._begin()
        elif self._closing:
            self._exit_if_idle()


def _contents(feed: Feed) -> dict[int, str]:
    """What the task makes of each item, from the items themselves."""
    if feed.numbers is not None:
        numbers = feed.numbers
        made = (numbers.start + item * numbers.step for item in range(feed.start, feed.stop))
        return {
            item: f"{feed.job}/{(number - FIRST_NUMBER) // STEP}"
            for item, number in zip(range(feed.start, feed.stop), made, strict=True)
        }
    found: dict[int, str] = {}
    for piece in feed.inputs:
        found.update(zip(range(piece.start, piece.stop), (e.decode() for e in block_entries(piece.block)), strict=True))
    return found
