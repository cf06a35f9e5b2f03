"""`windrow jobs`, `job`, `wait`, `retry` and `cancel`."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.follow import exit_code, follow, summary
from windrow.cli.inputs import parse_indexes, split_call_id
from windrow.cli.output import (
    Column,
    count,
    duration,
    note,
    numbered,
    print_json,
    print_pairs,
    print_table,
    printable,
    to_json,
    when,
)
from windrow.cli.ports import StatusPort
from windrow.common.errors import UsageError
from windrow.common.words import JobState

STATES = [state.value for state in JobState if state not in (JobState.CANCELLING, JobState.STOPPING)]


@windrow_command("jobs")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most.")
@click.option("--streams", is_flag=True, help="Streams of single calls too.")
def jobs_command(common: Common, state: str | None, limit: int, streams: bool) -> None:
    """List jobs, newest first."""
    with connect(common) as client:
        statuses = list(client.jobs(limit=limit, state=state or "", streams=streams))
    if common.json:
        print_json({"jobs": statuses})
        return
    columns = [
        Column("id", keep=True),
        Column("name"),
        Column("state"),
        Column("total", right=True),
        Column("done", right=True),
        Column("failed", right=True),
        Column("running", right=True),
        Column("pending", right=True),
        Column("age", right=True),
    ]
    now_s = time.time()
    print_table(columns, (_row(status, now_s) for status in statuses), "no jobs")


def _row(status: StatusPort, now_s: float) -> list[str]:
    return [
        status.id,
        status.name or status.task,
        f"{status.state}, open" if status.open else str(status.state),
        count(status.total),
        count(status.done),
        count(status.failed),
        count(status.running),
        count(status.pending),
        duration(now_s - status.created_s) if status.created_s else "",
    ]


@windrow_command("job")
@click.argument("job_id", metavar="ID")
def job_command(common: Common, job_id: str) -> None:
    """Show one job. An id is any unique prefix, or `last`."""
    with connect(common) as client:
        status = client.job(job_id).status()
    if common.json:
        print_json(status)
        return
    finished = (
        f"{when(status.finished_s)}, after {duration(status.finished_s - status.created_s)}"
        if status.finished_s
        else ""
    )
    pairs = {
        "id": status.id,
        "name": status.name,
        "task": status.task,
        "state": _state(status),
        "reason": status.reason,
        "total": count(status.total),
        "done": count(status.done),
        "failed": count(status.failed),
        "cancelled": count(status.cancelled),
        "running": count(status.running),
        "pending": count(status.pending),
        "repeated": f"{count(status.retried)} attempts" if status.retried else "",
        "queue": f"{status.queue}, priority {status.priority}",
        "created": when(status.created_s),
        "finished": finished,
    }
    print_pairs({name: value for name, value in pairs.items() if value})


def _state(status: StatusPort) -> str:
    more = ["open: items may be added"] if status.open else []
    more += [f"windrow resume {status.id} goes on with it"] if status.state == JobState.PAUSED.value else []
    return f"{status.state} ({'; '.join(more)})" if more else str(status.state)


@windrow_command("wait")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Seconds to wait at most.")
def wait_command(common: Common, job_ids: tuple[str, ...], timeout: float | None) -> int:
    """Wait until jobs have ended; exit code 1 when one failed or was cancelled, 4 when the time is over."""
    with connect(common) as client:
        jobs = [client.job(job_id) for job_id in job_ids]
        statuses = follow(jobs, timeout)
    _print_ended(common, statuses)
    return exit_code(statuses)


def _print_ended(common: Common, statuses: Iterable[StatusPort]) -> None:
    if common.json:
        print_json({"jobs": [to_json(status) for status in statuses]})
        return
    for status in statuses:
        click.echo(summary(status))


@windrow_command("retry")
@click.argument("job_id", metavar="ID")
@click.option("--items", metavar="A:B", help="Only these indexes (B not included); commas between several.")
@click.option("--type", "error_type", metavar="TYPE", default="", help="Only items that failed with this error.")
def retry_command(common: Common, job_id: str, items: str | None, error_type: str) -> None:
    """Run the failed items of a job again: all, some, or one (ID may be written JOB/17).

    TYPE is the name of an exception class, with or without its module. With --json: {"id", "retried"}.
    """
    job_id, item = split_call_id(job_id)
    if items is not None and item is not None:
        raise UsageError(f"the items are named twice: {job_id}/{item} and --items {items}")
    indexes = parse_indexes(items) if items is not None else None if item is None else iter((item,))
    with connect(common) as client:
        job = client.job(job_id)
        again = job.retry_failed(indexes, error_type=error_type)
    if common.json:
        print_json({"id": job.id, "retried": again})
    elif again:
        items, run = numbered(again, "item", "items"), "runs" if again == 1 else "run"
        click.echo(f"{items} of job {job.id} {run} again; windrow wait {job.id}")
    else:
        which = " there" if indexes is not None else ""
        of = f" of type {error_type}" if error_type else ""
        click.echo(printable(f"no failed items{of}{which} in job {job.id}: nothing to run again"))


@windrow_command("cancel")
@click.argument("job_id", metavar="ID")
@click.option("--reason", metavar="TEXT", default="", help="Why; people see it with the job.")
def cancel_command(common: Common, job_id: str, reason: str) -> None:
    """Cancel what is not finished of a job; what is finished stays."""
    if len(reason) > 4096:
        raise UsageError("--reason: at most 4096 characters")
    with connect(common) as client:
        job = client.job(job_id)
        job.cancel(reason)
        status = job.status()
    if common.json:
        print_json(status)
        return
    click.echo(summary(status) if status.finished_s else f"job {status.id}: cancelling what is not finished")
    if status.running:
        note(f"{numbered(status.running, 'item is running and stops', 'items are running and stop')} soon")
