"""Schedulers of the world: the real loop and engine on the model store, one after the other, sometimes two at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.broker import CLUSTER, SimDispatch
from tests.simulation.clock import Finding, Process
from tests.simulation.links import SimControl
from tests.simulation.truth import LEASE_S
from windrow.common.errors import EpochLost, InvariantBroken, StoreFailed
from windrow.common.messages import REQUESTS, NodeBye, NodeHello, Report
from windrow.common.words import Now
from windrow.scheduler.core.invariants import check_invariants
from windrow.scheduler.core.records import Record, Snapshot
from windrow.scheduler.core.state import CoreSettings
from windrow.scheduler.local import LocalDispatch
from windrow.scheduler.loop import SchedulerLoop

if TYPE_CHECKING:
    from tests.simulation.world import World

SCHEDULER = "scheduler"
"""The machine that all schedulers run on, one after the other."""
RESTART_S = 1.0


class StoreHandle:
    """The model store as one scheduler has it open; it fails when the world says so."""

    def __init__(self, world: World, epoch: int) -> None:
        self._world = world
        self.epoch = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)

    def load(self) -> Snapshot:
        if self._world.store_fails:
            raise StoreFailed("the disk of the world is full")
        return self._world.store.load()

    def commit(self, records: Sequence[Record]) -> None:
        world = self._world
        if world.store_fails:
            raise StoreFailed("the disk of the world is full")
        self.check_epoch()
        world.truth.before_commit(records)
        try:
            world.store.commit(records)
        except (AssertionError, KeyError) as error:
            raise world.clock.find(f"the store was asked to break a promise: {error!r}") from error
        if world.store_silent:
            world.store_silent = False
            raise StoreFailed("nobody knows whether this was written")

    def check_epoch(self) -> None:
        """As the real store does it in each transaction."""
        if self._world.store.epoch != self.epoch:
            raise EpochLost("another scheduler has taken the store over")

    def check_reign(self) -> None:
        self.check_epoch()

    def check(self) -> str:
        return "the disk of the world is full" if self._world.store_fails else ""

    def checkpoint(self) -> None:
        """There is no log to empty."""


class SchedulerHost:
    """One scheduler process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = world.store.begin_epoch()
        self.process = Process(world.clock, f"scheduler{self.epoch}", self)
        self.started = world.clock.now
        self.store: Any = StoreHandle(world, self.epoch)
        self.control: Any = SimControl(self.process, self._on_answer)
        self._checked = -1
        kept_s = world.scenario.kept_s
        core = CoreSettings(
            dispatch=world.scenario.dispatch, lease_s=LEASE_S,
            results_kept_s=kept_s, failures_kept_s=kept_s, nodes_kept_s=kept_s,
        )  # fmt: skip
        local = world.scenario.dispatch == "local"
        dispatch: Any = LocalDispatch() if local else SimDispatch(world.broker, self.process)
        world.truth.note(self.process.name, "starts")
        with self.process.running():
            self.loop = SchedulerLoop(core, self.store, dispatch, self.control, self.read_clocks)
            self._check()
            self._turn = self.loop.engine.turn
            self.loop.engine.turn = self._checked_turn  # type: ignore[method-assign]
            task = self.process.create_task(self.loop.start())
        task.add_done_callback(lambda done: self._on_started())

    def read_clocks(self) -> Now:
        return Now(self.world.clock.now, self.world.wall_s(SCHEDULER))

    def listened(self) -> float:
        """For how long it could hear."""
        return self.world.clock.now - self.started - self.process.frozen_in_all_s

    def _on_started(self) -> None:
        assert self.loop.ended is not None
        self.loop.ended.add_done_callback(lambda code: self.world.on_scheduler_end(self, code.result()))

    def _checked_turn(self, *args: Any) -> Any:
        done = self._turn(*args)
        self._check()
        return done

    def _check(self) -> None:
        """The invariants, whenever something may have changed."""
        commits = self.loop.engine.counts.commits
        if commits != self._checked:
            self._checked = commits
            try:
                check_invariants(self.loop.engine.state)
            except InvariantBroken as error:
                raise self.world.clock.find(f"invariant: {error}") from error

    def _on_answer(self, request: object, answer: object) -> None:
        self.world.truth.on_answered(request, answer)

    def receive(self, data: bytes, reply: Callable[[bytes], None]) -> None:
        """A message has reached the machine."""
        if not self.process.alive:
            return
        if self is self.world.schedulers[-1] and not self.process.frozen:
            self._hear(REQUESTS.decode(data))
        self.control.arrive(data, reply)

    def _hear(self, message: object) -> None:
        """A report renews the lease of a boot that has joined this scheduler; of another it says nothing."""
        truth = self.world.truth
        match message:
            case NodeHello(node=node, boot=boot, seq=seq):
                truth.on_heard(node, boot, seq)
            case Report(node=node, boot=boot, seq=seq):
                known = self.loop.engine.state.nodes.get(node)
                if known is not None and known.boot == boot:
                    truth.on_heard(node, boot, seq)
            case NodeBye(node=node):
                truth.on_away(node)
            case _:
                pass

    def kill(self) -> None:
        self.process.kill()
        if isinstance(self.loop._dispatch, SimDispatch):
            publishers = self.world.broker.publishers
            publishers[:] = [each for each in publishers if each.process is not self.process]


__all__ = ["CLUSTER", "Finding", "SchedulerHost", "StoreHandle"]
