"""`windrow pause` and `resume`: a job that is to stand still for a while; resume is for drained nodes too."""

from __future__ import annotations

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import note, numbered, print_json
from windrow.cli.ports import ClientPort, JobPort
from windrow.common.errors import NotFound, UsageError
from windrow.common.messages import NodeInfo

NEWEST = "last"


@windrow_command("pause")
@click.argument("job_id", metavar="ID")
def pause_command(common: Common, job_id: str) -> None:
    """Start nothing more of a job until it is resumed; items that run are finished."""
    with connect(common) as client:
        job = client.job(job_id)
        job.pause()
        status = job.status()
    if common.json:
        print_json(status)
        return
    click.echo(f"job {status.id} is paused; windrow resume {status.id} goes on with it")
    if status.running:
        note(f"{numbered(status.running, 'item is running and is', 'items are running and are')} finished")


@windrow_command("resume")
@click.argument("name", metavar="ID|NODE")
def resume_command(common: Common, name: str) -> None:
    """Go on with a paused job, or let a drained node work again. NODE is a name or an id."""
    with connect(common) as client:
        job = find_job_or_node(client, name)
        if job is None:
            client.resume(name)
            print_json({"node": name, "draining": False}) if common.json else click.echo(f"node {name} works again")
            return
        job.resume()
        status = job.status()
    if common.json:
        print_json(status)
    else:
        click.echo(f"job {status.id} goes on: {numbered(status.pending, 'item waits', 'items wait')}")


def find_job_or_node(client: ClientPort, name: str) -> JobPort | None:
    """The job that `name` stands for; none where it is a node's. UsageError where it could be either, or is neither."""
    missing = ""
    job: JobPort | None = None
    try:
        job = client.job(name)
    except NotFound as error:
        missing = error.message
    if job is not None and name in (job.id, NEWEST):
        return job
    nodes = [node for node in client.nodes() if _is_called(node, name)]
    if job is None and not nodes:
        raise NotFound(f"no node is called {name!r}, and {missing}")
    if job is not None and nodes:
        raise UsageError(
            f"{name!r} could be job {job.id} or node {nodes[0].name} (id {nodes[0].id}): write one of these ids in full"
        )
    return job


def _is_called(node: NodeInfo, name: str) -> bool:
    return name == node.name or node.id.startswith(name)
