"""Counts at the end of a chaos run: what is missing, wrong, or was committed or run too often."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.works import BY_NAME, Work
from windrow import JobStatus, TaskFailed

SHOWN_MAX = 5
LOSSES_NEEDED = {"lost": 1, "node": 3}


@dataclass(frozen=True, slots=True)
class JobEnd:
    """All that clients were told of one job."""

    work: str
    status: JobStatus
    outcomes: list[Any]
    """In item order, read when all was over: values, TaskFailed, CancelledError."""
    seen: Counter[int]
    """Index → how often its outcome came while the faults went on."""


@dataclass(frozen=True, slots=True)
class CallEnd:
    """What came of one single call."""

    id: str
    number: int
    outcome: Any


@dataclass(slots=True)
class Runs:
    """How often each item has run: (item id, attempt) → lines."""

    lines: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    items: Counter[str] = field(default_factory=Counter[str])

    def add(self, item_id: str, attempt: int) -> None:
        self.lines[item_id, attempt] += 1
        self.items[item_id] += 1


def read_runs(folder: Path) -> Runs:
    """All lines that tasks have left."""
    runs = Runs()
    for path in folder.glob("*.runs"):
        for line in path.read_text().splitlines():
            item_id, attempt, _pid, _at = line.split()
            runs.add(item_id, int(attempt))
    return runs


def find_faults_of(end: JobEnd, runs: Runs | None, *, losses: int, works: Mapping[str, Work] = BY_NAME) -> list[str]:
    """What is wrong with a job that has ended; `losses`: faults that may have cost a node; `runs` None: unknown."""
    work, status, job = works[end.work], end.status, end.status.id
    wrong: list[str] = []
    if status.total != work.total or len(end.outcomes) != work.total:
        wrong.append(f"has {status.total} items and {len(end.outcomes)} outcomes instead of {work.total}")
    if status.done + status.failed + status.cancelled != status.total or not status.finished:
        wrong.append(f"its counts do not add up: {status}")
    told = Counter(_kind(outcome) for outcome in end.outcomes)
    if (told["value"], told["cancelled"]) != (status.done, status.cancelled):
        wrong.append(f"its outcomes are {dict(told)}, its counts {status.done} done, {status.cancelled} cancelled")
    wrong += _listed("a wrong outcome", (_judge(work, x, outcome, losses) for x, outcome in enumerate(end.outcomes)))
    wrong += _listed("told", (_judge_telling(x, outcome, end.seen[x]) for x, outcome in enumerate(end.outcomes)))
    if runs is not None:
        wrong += _find_faults_of_runs(work, job, end.outcomes, runs)
    return [f"job {job} ({end.work}): {each}" for each in wrong]


def _find_faults_of_runs(work: Work, job: str, outcomes: list[Any], runs: Runs) -> list[str]:
    ran = {x: runs.items[f"{job}/{x}"] for x in range(work.total)}
    unrun = (x for x, outcome in enumerate(outcomes) if _kind(outcome) == "value" and not ran.get(x))
    wrong = _listed("a value without a run", (f"item {x}" for x in unrun))
    if work.once:
        wrong += _listed("ran twice", (f"item {x} ran {times} times" for x, times in ran.items() if times > 1))
    return wrong


def find_faults_of_calls(ends: Iterable[CallEnd], runs: Runs, *, losses: int) -> list[str]:
    """What is wrong with the single calls."""
    found: list[str] = []
    ids: set[str] = set()
    work = BY_NAME["calls"]
    for end in ends:
        fault = _judge(work, end.number, end.outcome, losses)
        if fault:
            found.append(f"call {end.id}: {fault}")
        if end.id in ids:
            found.append(f"call {end.id}: two calls have this id")
        if not fault and _kind(end.outcome) == "value" and not runs.items[end.id]:
            found.append(f"call {end.id}: a value without a run")
        ids.add(end.id)
    return found


def _kind(outcome: object) -> str:
    if isinstance(outcome, TaskFailed):
        return "failed"
    return "cancelled" if isinstance(outcome, CancelledError) else "value"


def _judge(work: Work, number: int, outcome: object, losses: int) -> str:
    if isinstance(outcome, CancelledError):
        return "" if work.cancelled else f"item {number} was cancelled"
    if isinstance(outcome, TaskFailed):
        # To be given up with its nodes an item must have been at three that were lost.
        allowed = outcome.kind in work.may_fail and losses >= LOSSES_NEEDED.get(outcome.kind, 0)
        return (
            ""
            if allowed or (work.must_fail(number) and outcome.kind == "error")
            else f"item {number} failed: {outcome.kind}, {outcome.type}: {outcome}"
        )
    if work.must_fail(number):
        return f"item {number} came to {outcome!r:.80} and had to fail"
    wanted = work.value(number)
    return "" if outcome == wanted else f"item {number} came to {outcome!r:.80}, not {wanted!r:.80}"


def _judge_telling(number: int, outcome: object, times: int) -> str:
    wanted = 0 if isinstance(outcome, CancelledError) else 1
    return "" if times == wanted else f"item {number} {times} times while it went on, instead of {wanted}"


def _listed(what: str, each: Iterable[str]) -> list[str]:
    found = [text for text in each if text]
    more = [f"{what}: {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    return [f"{what}: {text}" for text in found[:SHOWN_MAX]] + more


# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class WorkFigures:
    """How one kind of work fared."""

    work: str
    jobs: int
    items: int
    values: int
    given_up: int
    ran_again_items: int
    """Items of which one attempt ran more than once."""
    runs_again: int
    """Runs beyond one for each attempt."""
    runs_of_one_attempt_max: int


def figures_of(ends: Iterable[JobEnd], calls: Iterable[CallEnd], runs: Runs) -> list[WorkFigures]:
    """A row for each kind of work."""
    outcomes: dict[str, dict[str, Any]] = {}
    jobs: Counter[str] = Counter()
    for end in ends:
        jobs[end.work] += 1
        of_work = outcomes.setdefault(end.work, {})
        of_work.update((f"{end.status.id}/{x}", outcome) for x, outcome in enumerate(end.outcomes))
    outcomes["calls"] = {call.id: call.outcome for call in calls}
    return [_figures(work, jobs[work], found, runs.lines) for work, found in outcomes.items()]


def _figures(work: str, jobs: int, outcomes: Mapping[str, Any], lines: Mapping[tuple[str, int], int]) -> WorkFigures:
    again = {key: times for key, times in lines.items() if key[0] in outcomes and times > 1}
    kinds = Counter(_kind(outcome) for outcome in outcomes.values())
    return WorkFigures(
        work, jobs, len(outcomes), kinds["value"], kinds["failed"], len({item for item, _ in again}),
        sum(again.values()) - len(again), max(again.values(), default=1),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long after faults of one kind the next commit came."""

    kind: str
    times: int
    median_s: float
    max_s: float


def recoveries_of(seen: Iterable[tuple[str, float]]) -> list[Recovery]:
    """A row for each kind of fault, of (kind, seconds)."""
    by_kind: dict[str, list[float]] = {}
    for kind, seconds in seen:
        by_kind.setdefault(kind, []).append(seconds)
    return [Recovery(kind, len(all_s), statistics.median(all_s), max(all_s)) for kind, all_s in sorted(by_kind.items())]
