"""What a chaos run counts at its end: each kind of wrong is found, and what is allowed is not."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import counting
from tests.chaos.counting import CallEnd, JobEnd, Runs
from tests.chaos.works import BY_NAME
from windrow import JobStatus, TaskFailed
from windrow.common.messages import FailureInfo
from windrow.common.words import FailureKind

JOB = "abc"


def ended(name: str, **changes: Any) -> JobEnd:
    """A job of this work in which everything went well."""
    work = BY_NAME[name]
    status = JobStatus(
        id=JOB, name=name, task="", state="done", open=False, total=work.total, done=work.total, failed=0,
        cancelled=0, running=0, pending=0, queue="", priority=0, reason="", created_s=0.0, finished_s=1.0, retried=0,
    )  # fmt: skip
    status = replace(status, **changes)
    return JobEnd(name, status, [work.value(x) for x in range(work.total)], Counter(range(work.total)))


def ran(end: JobEnd) -> Runs:
    runs = Runs()
    for index in range(BY_NAME[end.work].total):
        runs.add(f"{JOB}/{index}", 1)
    return runs


def failure(kind: FailureKind) -> TaskFailed:
    return TaskFailed(
        FailureInfo(item=3, kind=kind, type="Error", message="no", traceback="", node="n", attempts=1), JOB
    )


def find(end: JobEnd, runs: Runs | None = None, losses: int = 9) -> str:
    return "\n".join(counting.find_faults_of(end, runs or ran(end), losses=losses))


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "calls"])
def test_a_job_that_went_well_has_no_findings(name: str) -> None:
    assert find(ended(name)) == ""


def test_a_wrong_value_is_found() -> None:
    end = ended("flaky")
    end.outcomes[7] = -8
    assert "item 7 came to -8, not -7" in find(end)


def test_a_missing_item_is_found() -> None:
    end = ended("flaky")
    end.outcomes.pop()
    assert "has 300 items and 299 outcomes instead of 300" in find(end)


def test_counts_that_do_not_add_up_are_found() -> None:
    assert "do not add up" in find(ended("flaky", done=299))
    assert "do not add up" in find(ended("flaky", state="running"))


def test_counts_that_are_not_those_of_the_outcomes_are_found() -> None:
    assert "its counts 299 done" in find(ended("flaky", done=299, failed=1))


@pytest.mark.parametrize("times", [0, 2])
def test_an_outcome_that_was_told_never_or_twice_is_found(times: int) -> None:
    end = ended("flaky")
    end.seen[5] = times
    assert f"item 5 {times} times while it went on, instead of 1" in find(end)


def test_a_value_without_a_run_is_found() -> None:
    end = ended("flaky")
    runs = ran(end)
    del runs.items[f"{JOB}/9"]
    assert "a value without a run: item 9" in find(end, runs)


def test_a_second_run_is_found_only_where_there_must_be_none() -> None:
    for name in ("once", "flaky"):
        end = ended(name)
        runs = ran(end)
        runs.add(f"{JOB}/4", 1)
        assert ("item 4 ran 2 times" in find(end, runs)) == (name == "once")


def test_what_may_be_given_up_depends_on_the_work_and_on_the_nodes_that_were_lost() -> None:
    def given_up(name: str, kind: FailureKind, losses: int) -> bool:
        end = ended(name, done=BY_NAME[name].total - 1, failed=1, state="failed")
        end.outcomes[3] = failure(kind)
        return "item 3 failed" not in find(end, losses=losses)

    assert given_up("once", FailureKind.LOST, losses=1)
    assert not given_up("once", FailureKind.LOST, losses=0)
    assert not given_up("flaky", FailureKind.LOST, losses=9)
    assert given_up("flaky", FailureKind.NODE, losses=3)
    assert not given_up("flaky", FailureKind.NODE, losses=2)
    assert not given_up("flaky", FailureKind.ERROR, losses=9)


def test_a_cancelled_item_is_found_where_nobody_cancelled() -> None:
    for name in ("cancelled", "flaky"):
        end = ended(name, done=BY_NAME[name].total - 1, cancelled=1, state="cancelled")
        end.outcomes[3] = CancelledError()
        end.seen[3] = 0
        assert ("item 3 was cancelled" in find(end)) == (name == "flaky")


def test_many_findings_of_one_kind_are_cut_short() -> None:
    end = ended("flaky")
    end.outcomes[:] = [0] * 300
    assert "a wrong outcome: 294 more" in find(end)


def test_calls_are_judged_one_by_one() -> None:
    runs = Runs()
    runs.add("s/0", 1)
    ends = [CallEnd("s/0", 0, 1), CallEnd("s/1", 1, 3), CallEnd("s/0", 2, 6)]
    assert counting.find_faults_of_calls(ends, runs, losses=0) == [
        "call s/1: a value without a run",
        "call s/0: item 2 came to 6, not 5",
        "call s/0: two calls have this id",
    ]


def test_figures_say_what_ran_again_and_leave_retries_alone(tmp_path: Path) -> None:
    (tmp_path / "1.runs").write_text(f"{JOB}/0 1 1 0.0\n{JOB}/0 2 1 0.0\n{JOB}/1 1 1 0.0\n")
    (tmp_path / "2.runs").write_text(f"{JOB}/1 1 2 0.0\n{JOB}/1 1 2 0.0\n")
    figures = counting.figures_of([ended("flaky")], [], counting.read_runs(tmp_path))
    row = next(each for each in figures if each.work == "flaky")
    assert (row.ran_again_items, row.runs_again, row.runs_of_one_attempt_max) == (1, 2, 3)
    assert (row.jobs, row.items, row.values, row.given_up) == (1, 300, 300, 0)


def test_recoveries_are_told_by_kind() -> None:
    rows = counting.recoveries_of([("kill node", 1.0), ("cut link", 9.0), ("kill node", 3.0)])
    assert [(row.kind, row.times, row.median_s, row.max_s) for row in rows] == [
        ("cut link", 1, 9.0, 9.0),
        ("kill node", 2, 2.0, 3.0),
    ]
