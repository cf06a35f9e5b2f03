"""Clients of the world: the real stream and watch logic, which fill, close, steer and follow one job each."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.simulation.clock import Process
from tests.simulation.links import SimLink, Wire
from tests.simulation.scenario import JobPlan, Shape
from tests.simulation.truth import expected_value
from tests.simulation.workers import FIRST_NUMBER, STEP, TASK
from windrow.client.streams import Phase, Stream
from windrow.client.watches import Watchlist, is_over
from windrow.common.blocks import block_entries
from windrow.common.errors import NotFound, StoreFailed, UsageError, WindrowError
from windrow.common.messages import (
    Accepted,
    Appended,
    CancelJob,
    CloseJob,
    DrainNode,
    News,
    NumberItems,
    PauseJob,
    Polled,
    RetryJob,
    Started,
    StartJob,
)
from windrow.common.options import OnLost, Options
from windrow.common.words import TERMINAL_STATES, JobId, JobState

if TYPE_CHECKING:
    from tests.simulation.world import World

AGAIN_S = 0.3


class Follower:
    """Wants all outcomes of a job, each once, until its end."""

    outcomes = True

    def __init__(self, client: ClientHost) -> None:
        self.client = client
        self.job = client.job
        self.after = -1
        self.got: dict[int, str] = {}
        self.over = False
        self.was_over = False
        self.missed = False
        """The job was removed while nothing that was said reached this client."""

    def on_news(self, news: News) -> bool:
        find = self.client.world.clock.find
        for run in news.values:
            for item, entry in zip(range(run.start, run.stop), block_entries(run.block), strict=True):
                content = entry.decode().rpartition("|")[0]
                if content != expected_value(self.job, item):
                    raise find(f"the client of {self.job} was given {content!r} for item {item}")
                if self.got.get(item, "") == "value":
                    raise find(f"the client of {self.job} was given item {item} twice")
                self.got[item] = "value"
        for failure in news.failures:
            self.got[failure.item] = "failure"
        self.over = is_over(news)
        self.was_over = self.was_over or self.over
        return True

    def on_lost(self, error: WindrowError) -> None:
        truth = self.client.world.truth
        if truth.is_removed(self.job) and (self.was_over or self.client.heard_at < truth.ended_at(self.job)):
            self.over, self.missed = True, not self.was_over
            return
        raise self.client.world.clock.find(f"the client of {self.job} lost sight of it: {error}")


class ClientHost:
    """One client and its job."""

    def __init__(self, world: World, number: int, plan: JobPlan) -> None:
        self.world = world
        self.plan = plan
        self.job = JobId(f"job{number}")
        self.wire = Wire(world, f"wire of client {number}")
        self.process = Process(world.clock, f"client{number}", self)
        self.filled = False
        self.refused = False
        self.follower = Follower(self)
        self.watchlist = Watchlist(f"client{number}")
        self.heard_at = 0.0
        """When it was last answered what it waits for."""
        self.retried = not plan.retry
        self._dice = random.Random(f"{world.scenario.seed} client {number}")

    def start(self) -> None:
        with self.process.running():
            self.process.create_task(self._guard(self._fill()))

    async def _guard(self, doing: object) -> None:
        try:
            await doing  # type: ignore[misc]
        except Exception as error:
            import traceback

            where = "".join(traceback.format_exception(error)[-3:])
            raise self.world.clock.find(f"client of {self.job}: {error!r}\n{where}") from error

    @property
    def content(self) -> bool:
        """It has done all that it wanted, and the job has ended."""
        state = self._state()
        if state is None and self.refused:
            return True
        steered = self.retried or state is not JobState.FAILED
        return self.filled and state in TERMINAL_STATES and steered and self.follower.over

    def _state(self) -> JobState | None:
        """As it stands, or as it stood when it was removed."""
        found = self.world.truth.find_job(self.job)
        return None if found is None else found.shown

    def _note(self, what: str) -> None:
        self.world.truth.note(self.process.name, what, job=self.job)

    async def _ask(self, link: SimLink, message: object, kind: type[object]) -> object:
        while True:
            try:
                return await link.ask(message, kind)
            except StoreFailed:
                await self._sleep(AGAIN_S)

    async def _sleep(self, seconds: float) -> None:
        future = self.process.create_future()
        self.process.call_later(seconds, future.set_result, None)
        await future

    # ── Filling ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _options(self) -> Options:
        plan = self.plan
        return Options(
            retries=plan.retries,
            backoff_s=0.5,
            on_lost=OnLost.FAIL if plan.once else None,
            idempotent=plan.twins or None,
            timeout_s=plan.timeout_s,
            max_failures=plan.max_failures,
            delay_s=plan.delay_s or None,
        )

    async def _fill(self) -> None:
        link = SimLink("sim")
        plan = self.plan
        after = () if plan.after is None else (JobId(f"job{plan.after}"),)
        while plan.after is not None and self.world.truth.find_job(after[0]) is None:
            if self.world.clients[plan.after].refused:
                after = ()  # It was never started.
                break
            await self._sleep(AGAIN_S)
        numbers = plan.shape is Shape.NUMBERS
        span = NumberItems(FIRST_NUMBER, FIRST_NUMBER + plan.items * STEP, STEP) if numbers else None
        start = StartJob(
            self.job, TASK, options=self._options(), numbers=span, after=after, stream=plan.shape is Shape.CALLS
        )
        try:
            if numbers or not plan.items:
                await self._ask(link, start, Started)
                self._watch()
                if not numbers:
                    await self._ask(link, CloseJob(self.job, 0), Accepted)
            else:
                await self._stream(link, start)
        except UsageError as error:
            self._on_refused(error)
        self.filled = True
        self._note("has told all items")

    async def _stream(self, link: SimLink, start: StartJob) -> None:
        """As the client's own calls do it: what gathers while a message is under way travels in the next."""
        plan = self.plan
        stream = Stream(start, items_max=self._dice.choice((7, 50, 50_000)))
        calls = plan.shape is Shape.CALLS
        kinds = {"StartJob": Started, "Append": Appended, "CloseJob": Accepted}
        while True:
            if stream.total < plan.items:
                for _ in range(self._dice.randint(1, 5 if calls else 200)):
                    if stream.total < plan.items:
                        stream.add(expected_value(self.job, stream.total).encode())
            elif stream.phase is not Phase.CLOSED:
                stream.close()
            message = stream.next_message()
            if message is None:
                return
            kind = kinds[type(message).__name__]
            try:
                stream.on_answer(await self._ask(link, message, kind))
            except UsageError:
                stream.on_refused()
                raise
            if kind is Started:
                self._watch()
            if calls:
                await self._sleep(self._dice.choice((0.0, 0.02, 0.5)))

    def _on_refused(self, error: UsageError) -> None:
        """Whoever stops a job takes the ground from under what comes later; all else is a finding."""
        if not self.plan.may_be_stopped:
            raise self.world.clock.find(f"the client of {self.job} is refused: {error}")
        self.refused = True
        if self.world.truth.find_job(self.job) is None:
            self.follower.over = True
        self._note(f"is refused: {error}")

    # ── Following and steering ───────────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        self._note("has started the job")
        self.watchlist.add(self.follower)
        plan = self.plan
        self.process.create_task(self._guard(self._poll()))
        if plan.cancel_at_s is not None:
            self._later(plan.cancel_at_s, CancelJob(self.job, "because"))
        if plan.pause_at_s is not None and plan.resume_at_s is not None:
            self._later(plan.pause_at_s, PauseJob(self.job))
            self._later(plan.resume_at_s, PauseJob(self.job, resume=True))

    def _later(self, delay_s: float, message: object) -> None:
        async def steer() -> None:
            await self._sleep(delay_s)
            await self._steer(message)

        self.process.create_task(self._guard(steer()))

    async def _steer(self, message: object) -> None:
        self._note(f"asks {message}")
        try:
            await self._ask(SimLink("sim"), message, Accepted)
        except (UsageError, NotFound) as error:
            self._note(f"is refused: {error}")

    async def _poll(self) -> None:
        link = SimLink("sim")
        while True:
            poll = self.watchlist.next_poll()
            if poll is None:
                if not await self._go_on():
                    return
                continue
            try:
                polled = await link.ask_poll(poll, Polled)
            except StoreFailed:
                await self._sleep(AGAIN_S)
                continue
            moved = self.watchlist.on_polled(polled)
            self.heard_at = self.world.clock.now
            if not moved:
                await self._sleep(0.05)
            await self._unpause()

    async def _go_on(self) -> bool:
        """The job has ended: once, a retry may be wanted; afterwards whoever follows looks again now and then."""
        if self.world.truth.is_removed(self.job):
            return False
        if self._state() is JobState.FAILED and not self.retried and self.filled:
            await self._steer(RetryJob(self.job))
            self.retried = True
        elif self._state() in TERMINAL_STATES:
            await self._sleep(AGAIN_S)
            if self._state() in TERMINAL_STATES:
                return not self.filled or (not self.retried and self._state() is JobState.FAILED)
        self.follower.over = False
        self.watchlist.add(self.follower)
        return True

    async def _unpause(self) -> None:
        """A copy of the pause that came late may have been the last word: whoever waits resumes again."""
        if self._state() is JobState.PAUSED and not self.world.faulty:
            await self._steer(PauseJob(self.job, resume=True))


class AdminHost:
    """Drains nodes and lets them work again."""

    plan = None

    def __init__(self, world: World) -> None:
        self.world = world
        self.wire = Wire(world, "wire of the admin")
        self.process = Process(world.clock, "admin", self)

    def drain(self, node: str, *, resume: bool) -> None:
        self.process.create_task(self._ask(DrainNode(node, resume)))

    async def _ask(self, message: DrainNode) -> None:
        link = SimLink("sim")
        while True:
            try:
                await link.ask(message, Accepted)
            except StoreFailed:
                continue
            except UsageError:
                return
            return
