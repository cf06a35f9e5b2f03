"""What becomes of an item after one failed attempt: a pure decision, taken as a value."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from windrow.common.messages import ItemFailure
from windrow.common.options import JobOptions, OnLost
from windrow.common.words import FailureKind


@dataclass(frozen=True, slots=True)
class RunAgain:
    """After a delay, by itself if it is a suspect; `attempts` used from now on."""

    attempts: int
    delay_s: float
    alone: bool


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Its attempts are used up."""

    attempts: int


def decide_retry(options: JobOptions, failure: ItemFailure, attempts_before: int, job_no: int) -> RunAgain | Quarantine:
    """A crash in company makes a suspect and uses no attempt; what cannot get better is not tried again."""
    if failure.kind is FailureKind.CRASH and options.on_lost is OnLost.FAIL:
        return Quarantine(attempts_before + 1)  # It was running: it is not run twice.
    if failure.kind is FailureKind.CRASH and not failure.alone:
        return RunAgain(attempts_before, 0.0, alone=True)
    attempts = attempts_before + 1
    if attempts > options.retries or not _is_worth_it(options, failure):
        return Quarantine(attempts)
    delay_s = failure.after_s if failure.after_s is not None else backoff_s(options, attempts, job_no, failure.item)
    return RunAgain(attempts, delay_s, alone=failure.kind is FailureKind.CRASH)


def _is_worth_it(options: JobOptions, failure: ItemFailure) -> bool:
    if failure.kind in (FailureKind.RESULT, FailureKind.ITEM):
        return False
    if failure.after_s is not None:
        return True  # The task itself asked for it.
    kinds = {failure.type, *failure.bases}
    if kinds & set(options.never_retry_on):
        return False
    # The limits of this list are for what the task raises; a crash or a time-out has no type that a task could name.
    by_type = failure.kind is FailureKind.ERROR and options.retry_on
    return not by_type or bool(kinds & set(options.retry_on))


def backoff_s(options: JobOptions, attempts: int, job_no: int, item: int) -> float:
    """Exponential up to the cap, less up to a quarter by a jitter that is the same each time for the same attempt."""
    full = min(options.backoff_s * 2.0 ** min(attempts - 1, 60), options.backoff_max_s)
    dice = zlib.crc32(f"{job_no}/{item}/{attempts}".encode()) / 2**32
    return full * (1.0 - 0.25 * dice)
