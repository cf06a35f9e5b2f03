"""`windrow submit`: starts a job from the command line."""

from __future__ import annotations

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.follow import exit_code, follow, summary
from windrow.cli.inputs import open_items
from windrow.cli.output import note, print_json
from windrow.common.errors import UsageError
from windrow.common.options import OnLost


@windrow_command("submit")
@click.argument("task")
@click.option("--args", metavar="JSON", help="One call: array = positional, object = keywords, scalar = the argument.")
@click.option("--items", metavar="FILE", help="A JSON value a line, read as in --args; - is standard input.")
@click.option("--each-line", metavar="FILE", help="Each line is the argument of a call; - is standard input.")
@click.option("--range", "span", metavar="A:B[:STEP]", help="The numbers of a range, each the argument of a call.")
@click.option("--wait", is_flag=True, help="Wait until the job has ended; exit code 1 when items failed.")
@click.option("--wait-timeout", type=click.FloatRange(0), metavar="S", help="With --wait: seconds to wait at most.")
@click.option("--key", metavar="KEY", help="The same key and items again find the job there is.")
@click.option("--name", metavar="NAME", help="A name that people see.")
@click.option("--queue", metavar="NAME", help="The queue, `default` by default.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first; -1000 to 1000.")
@click.option("--retries", type=int, metavar="N", help="Extra attempts after an error.")
@click.option("--backoff", type=float, metavar="S", help="Seconds before the first extra attempt; doubles each time.")
@click.option("--backoff-max", type=float, metavar="S", help="Seconds between attempts at most.")
@click.option("--delay", type=float, metavar="S", help="Seconds to wait before the earliest start.")
@click.option("--timeout", type=float, metavar="S", help="An item that runs longer fails; its worker is killed.")
@click.option("--soft-timeout", type=float, metavar="S", help="Then SoftTimeout is raised inside the task.")
@click.option("--max-failures", type=int, metavar="N", help="Stop the job when more items than this have failed.")
@click.option(
    "--on-lost",
    type=click.Choice([each.value for each in OnLost]),
    help="Items that may have run when their node was lost: run them again (the default), or count them as failed.",
)
@click.option("--retry-on", multiple=True, metavar="TYPE", help="Retry only after these errors; may be repeated.")
@click.option(
    "--never-retry-on", multiple=True, metavar="TYPE", help="Never retry after these errors; beats --retry-on."
)
@click.option(
    "--idempotent",
    is_flag=True,
    default=None,
    help="An item may run twice at the same time: a straggler gets a twin on another node.",
)
def submit_command(
    common: Common,
    /,
    task: str,
    args: str | None,
    items: str | None,
    each_line: str | None,
    span: str | None,
    wait: bool,
    wait_timeout: float | None,
    key: str | None,
    name: str | None,
    **options: object,
) -> int:
    """Start a job of TASK (module:function); prints its id."""
    if wait_timeout is not None and not wait:
        raise UsageError("--wait-timeout only goes with --wait")
    if key == "":
        raise UsageError("--key: a key has at least one character")
    given = {option: value for option, value in options.items() if value not in (None, ())}
    with open_items(args, items, each_line, span) as made, connect(common) as client:
        job = client.start(task, made, name=name or "", key=key, **given)
        if warning := str(getattr(job, "note", "") or ""):
            note(f"windrow: {warning}")
        if not wait:
            print_json({"id": job.id}) if common.json else click.echo(job.id)
            return 0
        note(f"job {job.id}")
        status = follow([job], wait_timeout)[0]
        if common.json:
            print_json(status)
        else:
            click.echo(summary(status))
        if status.failed and not common.json:
            note(f"windrow: see why with: windrow failures {job.id}")
        return exit_code([status])
