"""Waits for a job and shows its progress meanwhile; Ctrl-C stops the waiting, never the job."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from windrow.cli.output import count, duration, note
from windrow.cli.ports import JobPort, StatusPort
from windrow.cli.progress import Progress, make_progress
from windrow.common.errors import WindrowError

STEP_S = 0.5
DONE_STATE = "done"
PAUSED_STATE = "paused"


def follow(jobs: Sequence[JobPort], timeout_s: float | None = None) -> list[StatusPort]:
    """Wait until all jobs have ended; their last statuses. TimeoutError names what has not ended."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        with make_progress() as progress:
            return [_follow_one(job, deadline_s, timeout_s, progress) for job in jobs]
    except KeyboardInterrupt:
        ids = " ".join(job.id for job in jobs)
        note(f"windrow: stopped waiting, the work goes on; come back with: windrow wait {ids}")
        raise SystemExit(130) from None


def _follow_one(job: JobPort, deadline_s: float | None, timeout_s: float | None, progress: Progress) -> StatusPort:
    while True:
        left_s = STEP_S if deadline_s is None else min(STEP_S, deadline_s - time.monotonic())
        try:
            status = job.wait(timeout=max(left_s, 0.0))
        except TimeoutError as error:
            if isinstance(error, WindrowError):
                # What a task raised is its builtin type too; this is no end of the waiting.
                raise
            status = job.status()
            show_status(status, progress)
            if deadline_s is not None and time.monotonic() >= deadline_s:
                raise TimeoutError(
                    f"job {job.id} has not ended within {timeout_s:g} s ({ended(status)} of {count(status.total)} "
                    f"items have); it goes on: windrow wait {job.id}"
                ) from None
        else:
            show_status(status, progress)
            return status


def show_status(status: StatusPort, progress: Progress) -> None:
    """Show how the job stands."""
    detail = ", ".join(
        f"{count(number)} {word}"
        for number, word in ((status.failed, "failed"), (status.cancelled, "cancelled"))
        if number
    )
    if status.state == PAUSED_STATE:
        detail = f"paused{', ' if detail else ''}{detail} (windrow resume {status.id})"
    label = status.name or status.task
    progress.update(label, ended(status), None if status.open else status.total, detail)


def ended(status: StatusPort) -> int:
    """How many items have ended, one way or another."""
    return status.done + status.failed + status.cancelled


def summary(status: StatusPort) -> str:
    """One line on how a job ended."""
    parts = [f"{count(status.done)} done"]
    parts += [f"{count(status.failed)} failed"] if status.failed else []
    parts += [f"{count(status.cancelled)} cancelled"] if status.cancelled else []
    parts += [f"{count(status.retried)} attempts repeated"] if status.retried else []
    took = f" in {duration(status.finished_s - status.created_s)}" if status.finished_s and status.created_s else ""
    reason = f" ({status.reason})" if status.reason else ""
    return f"job {status.id} {status.state}{took}: {', '.join(parts)}{reason}"


def exit_code(statuses: Iterable[StatusPort]) -> int:
    """0 where every job is done, else 1."""
    return 0 if all(status.state == DONE_STATE for status in statuses) else 1
