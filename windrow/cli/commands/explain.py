"""`windrow explain`: why a job, or an item of it, is not done, and how long it may take."""

from __future__ import annotations

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.follow import ended
from windrow.cli.inputs import split_call_id
from windrow.cli.output import count, duration, numbered, print_json, printable
from windrow.cli.ports import ExplanationPort
from windrow.common.errors import UsageError


@windrow_command("explain")
@click.argument("job_id", metavar="ID")
@click.option("--item", type=click.IntRange(0), metavar="N", help="Only this item; ID may also be written JOB/N.")
def explain_command(common: Common, job_id: str, item: int | None) -> None:
    """Say why a job, or an item of it, is not done: the weightiest reason first, then the time left.

    With --json: {"id", "item", "state", "reasons", "left_s"}; left_s is null where nobody can say.
    """
    job_id, named = split_call_id(job_id)
    if item is not None and named is not None:
        raise UsageError(f"the item is named twice: {job_id}/{named} and --item {item}")
    item = named if item is None else item
    with connect(common) as client:
        told = client.job(job_id).explain(item)
    status = told.status
    if common.json:
        print_json(
            {"id": status.id, "item": item, "state": status.state, "reasons": told.reasons, "left_s": told.left_s}
        )
        return
    items = numbered(status.total, "item has", "items have")
    click.echo(f"job {status.id} is {status.state}: {count(ended(status))} of {items} ended")
    what = f"item {item}" if item is not None else "it"
    for reason in told.reasons or (f"nothing keeps {what} from going on",):
        click.echo(f"  {printable(reason)}")
    if not status.finished_s:
        click.echo(_time_left(told))


def _time_left(told: ExplanationPort) -> str:
    if told.left_s is None:
        return "time left: nobody can say yet"
    return f"time left: about {duration(told.left_s)}"
