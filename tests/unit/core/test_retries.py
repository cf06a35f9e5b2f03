"""What becomes of an item after a failed attempt."""

from __future__ import annotations

import pytest

from windrow.common.messages import ItemFailure
from windrow.common.options import JobOptions, OnLost
from windrow.common.words import FailureKind
from windrow.scheduler.core.retries import Quarantine, RunAgain, backoff_s, decide_retry


def decide(kind: FailureKind, *, retries: int = 0, before: int = 0, alone: bool = False) -> RunAgain | Quarantine:
    options = JobOptions(retries=retries, backoff_s=1.0)
    return decide_retry(options, ItemFailure(7, kind, "E", alone=alone), before, 3)


def test_without_retries_the_first_error_is_the_last() -> None:
    assert decide(FailureKind.ERROR) == Quarantine(1)


def test_retries_counts_extra_attempts() -> None:
    again = decide(FailureKind.ERROR, retries=2, before=1)
    assert isinstance(again, RunAgain)
    assert (again.attempts, again.alone) == (2, False)
    assert decide(FailureKind.ERROR, retries=2, before=2) == Quarantine(3)


@pytest.mark.parametrize("kind", [FailureKind.RESULT, FailureKind.ITEM])
def test_what_cannot_get_better_is_not_tried_again(kind: FailureKind) -> None:
    assert decide(kind, retries=9) == Quarantine(1)


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_crash_in_company_uses_no_attempt_and_makes_a_suspect(before: int) -> None:
    """Invariant 5: blame is just."""
    assert decide(FailureKind.CRASH, before=before) == RunAgain(before, 0.0, alone=True)


def test_a_crash_alone_uses_an_attempt_and_runs_alone_again() -> None:
    assert decide(FailureKind.CRASH, alone=True) == Quarantine(1)
    again = decide(FailureKind.CRASH, retries=1, alone=True)
    assert isinstance(again, RunAgain)
    assert (again.attempts, again.alone) == (1, True)
    assert again.delay_s > 0


def test_the_delay_doubles_up_to_its_cap_less_a_quarter_at_most() -> None:
    options = JobOptions(backoff_s=2.0, backoff_max_s=20.0)
    for attempts, full in ((1, 2.0), (2, 4.0), (3, 8.0), (4, 16.0), (5, 20.0), (90, 20.0), (5_000, 20.0)):
        delays = [backoff_s(options, attempts, 1, item) for item in range(200)]
        assert full * 0.75 <= min(delays) < full * 0.80
        assert full * 0.95 < max(delays) <= full


def test_the_same_attempt_is_delayed_the_same_each_time() -> None:
    options = JobOptions()
    assert backoff_s(options, 1, 1, 5) == backoff_s(options, 1, 1, 5)
    assert backoff_s(options, 1, 1, 5) != backoff_s(options, 1, 2, 5)


def test_a_crash_with_on_lost_fail_is_final_and_an_error_is_tried_again_as_ever() -> None:
    """It was running when its worker died, so it must not run twice; one that raised is known to have ended."""
    options = JobOptions(retries=9, on_lost=OnLost.FAIL)
    for alone in (False, True):
        crash = ItemFailure(7, FailureKind.CRASH, "E", alone=alone)
        assert decide_retry(options, crash, 1, 3) == Quarantine(2)
    assert isinstance(decide_retry(options, ItemFailure(7, FailureKind.ERROR, "E"), 1, 3), RunAgain)


@pytest.mark.parametrize("kind", [FailureKind.CRASH, FailureKind.TIMEOUT])
def test_what_has_no_type_is_tried_again_whatever_types_the_task_names(kind: FailureKind) -> None:
    options = JobOptions(retries=1, retry_on=("OSError",))
    assert isinstance(decide_retry(options, ItemFailure(7, kind, "E", alone=True), 0, 3), RunAgain)
