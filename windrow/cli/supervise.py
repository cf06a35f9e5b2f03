"""Keeps the scheduler and the nodes of `windrow up` running: start in order, restart with back-off, stop in order."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import cast

import structlog

from windrow.cli.child import Child
from windrow.common.errors import WindrowError

log = structlog.get_logger()

TICK_S = 0.1
READY_WITHIN_S = 60.0
SCHEDULER_STOP_S = 15.0
NODE_SLACK_S = 10.0
"""Beyond the grace time: for the last report and the end of the workers."""


class ChildFailed(WindrowError):
    """A daemon ended before the cluster was ready."""

    code = "child_failed"

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Ready:
    """What the scheduler's ready file says."""

    url: str
    http: str | None
    pid: int


def find_ready(path: Path) -> Ready | None:
    """The content of a ready file; None where there is none, or none that can be read."""
    try:
        data: object = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict):
        return None
    fields = cast("dict[str, object]", data)
    url, http, pid = fields.get("url"), fields.get("http"), fields.get("pid")
    if not isinstance(url, str) or not isinstance(pid, int):
        return None
    return Ready(url, http if isinstance(http, str) else None, pid)


def write_ready(path: Path, ready: Ready) -> None:
    """Write a ready file in one step, so that nobody reads half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"url": ready.url, "http": ready.http, "pid": ready.pid}) + "\n")
    part.replace(path)


class Signals:
    """Counts Ctrl-C, SIGTERM and SIGHUP: the first asks to drain, the second to kill."""

    def __init__(self) -> None:
        self.count = 0
        self._woken = threading.Event()

    def install(self) -> None:
        """Take the signals over from Python."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._woken.set()

    def pause(self) -> None:
        """Wait for a tick, less when a signal comes."""
        if self._woken.wait(TICK_S):
            self._woken.clear()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `up` has been asked to run."""

    scheduler: Child
    ready_file: Path
    make_nodes: Callable[[str], Sequence[Child]]
    """Given the scheduler's address, which is known only when it takes work (port 0)."""
    pin_ports: Callable[[Ready], None]
    """Lets a later start of the scheduler take the same ports: the nodes know no others."""
    count_alive: Callable[[str], int]
    """How many of its nodes the scheduler at that address sees alive."""
    grace_s: float


class Supervisor:
    """Runs a plan; one thread, ticking."""

    def __init__(self, plan: Plan, signals: Signals, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._signals = signals
        self._clock = clock
        self._nodes: list[Child] = []

    def bring_up(self) -> Ready | None:
        """Start everything; returns when all nodes are alive, None when asked to stop before. ChildFailed: why not."""
        self._plan.scheduler.start(self._clock())
        ready = self._await_scheduler()
        if ready is None:
            return None
        self._plan.pin_ports(ready)
        self._nodes = list(self._plan.make_nodes(ready.url))
        for node in self._nodes:
            node.start(self._clock())
        deadline_s = self._clock() + READY_WITHIN_S
        while (alive := self._plan.count_alive(ready.url)) < len(self._nodes):
            if self._signals.count:
                return None
            self._check_early(deadline_s, f"{alive} of {len(self._nodes)} nodes are alive")
            self._signals.pause()
        return ready

    def _await_scheduler(self) -> Ready | None:
        deadline_s = self._clock() + READY_WITHIN_S
        while not self._signals.count:
            ready = find_ready(self._plan.ready_file)
            # A file with another pid is left over from a scheduler that was killed.
            if ready is not None and ready.pid == self._plan.scheduler.pid:
                return ready
            self._check_early(deadline_s, "the scheduler does not take work yet")
            self._signals.pause()
        return None

    def _check_early(self, deadline_s: float, missing: str) -> None:
        for child in self._children():
            end = child.find_end()
            if end is not None:
                raise ChildFailed(
                    f"{child.name} {end} before the cluster was ready: {child.last_words}", child.exit_code
                )
        if self._clock() >= deadline_s:
            raise ChildFailed(f"not ready after {READY_WITHIN_S:g} s: {missing}; the log lines above say more", 1)

    def keep_up(self) -> None:
        """Start again what ends, until somebody asks to stop."""
        while not self._signals.count:
            now_s = self._clock()
            for child in self._children():
                if child.restart_is_due(now_s):
                    child.start(now_s)
                elif not child.restart_planned and (end := child.find_end()) is not None:
                    delay_s = child.plan_restart(now_s)
                    log.warning(
                        f"{child.name} {end}; it starts again in {delay_s:g} s",
                        action="child_ended",
                        child=child.name,
                        last_line=child.last_words,
                    )
            self._signals.pause()

    def stop(self) -> bool:
        """Nodes first, so that their last outcomes find a scheduler; True where nothing had to be killed."""
        signals_before = self._signals.count
        within = self._stop_all(self._nodes, self._plan.grace_s + NODE_SLACK_S, signals_before)
        return self._stop_all([self._plan.scheduler], SCHEDULER_STOP_S, signals_before) and within

    def _stop_all(self, children: Sequence[Child], within_s: float, signals_before: int) -> bool:
        for child in children:
            child.send(signal.SIGTERM)
        deadline_s = self._clock() + within_s
        while any(child.running for child in children):
            if self._clock() >= deadline_s or self._signals.count > signals_before:
                self._kill(children)
                return False
            self._signals.pause()
        return True

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.running:
                log.warning(f"{child.name} is killed", action="child_killed", child=child.name)
                child.send(signal.SIGKILL)
        while any(child.running for child in children):
            self._signals.pause()

    def _children(self) -> list[Child]:
        return [self._plan.scheduler, *self._nodes]
