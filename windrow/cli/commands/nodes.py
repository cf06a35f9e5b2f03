"""`windrow nodes` and `drain`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import Column, count, duration, note, print_json, print_table, size
from windrow.common.messages import NodeInfo, NodeLoad

SERVING = frozenset({"alive", "draining"})


@windrow_command("nodes")
@click.option("--tasks", "with_tasks", is_flag=True, help="List the tasks of each node too.")
def nodes_command(common: Common, with_tasks: bool) -> None:
    """List nodes: state, slots, load, tasks, and what is wrong with them."""
    with connect(common) as client:
        nodes = list(client.nodes())
    warnings = list(find_version_differences(nodes))
    if common.json:
        print_json({"nodes": nodes, "warnings": warnings})
        return
    columns = [
        Column("name"),
        Column("id", keep=True),
        Column("state"),
        Column("slots", right=True),
        Column("cpu", right=True),
        Column("memory", right=True),
        Column("chunks", right=True),
        Column("tasks", right=True),
        Column("queues"),
        Column("heard", right=True),
    ]
    print_table(columns, map(_row, nodes), "no nodes: start one with windrow node, or all in one with windrow up")
    for node in nodes:
        if with_tasks:
            for task in node.tasks:
                click.echo(f"{node.name}: {task.name}{f' ({task.version})' if task.version else ''}")
        for error in node.errors:
            note(f"windrow: node {node.name} could not import {error.source}: {last_line(error.error)}")
    for warning in warnings:
        note(f"windrow: {warning}")


def _row(node: NodeInfo) -> Sequence[str]:
    return (
        node.name,
        str(node.id),
        node.state,
        _slots(node),
        f"{node.load.cpu_percent:.0f} %" if node.load else "?",
        _memory(node.load),
        count(node.chunks),
        f"{len(node.tasks)}{' !' if node.errors else ''}",
        ",".join(node.queues),
        f"{duration(node.heard_s_ago)} ago",
    )


def _slots(node: NodeInfo) -> str:
    if node.load is None:
        return str(node.slots)
    busy = sum(slot.state == "busy" for slot in node.load.slots)
    return f"{busy}/{node.slots}"


def _memory(load: NodeLoad | None) -> str:
    if load is None or not load.memory_total_bytes:
        return "?"
    return f"{size(load.memory_used_bytes)} of {size(load.memory_total_bytes)}"


def find_version_differences(nodes: Iterable[NodeInfo]) -> Iterable[str]:
    """A warning for each task that serving nodes offer in different code versions, and for nodes of other Windrows."""
    versions: dict[str, dict[str, list[str]]] = {}
    windrows: dict[str, list[str]] = {}
    for node in nodes:
        if node.state not in SERVING:
            continue
        windrows.setdefault(node.version, []).append(node.name)
        for task in node.tasks:
            versions.setdefault(task.name, {}).setdefault(task.version, []).append(node.name)
    for task_name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"nodes have different code of {task_name}: {_who_has_what(found)}; bring them to one version"
    if len(windrows) > 1:
        yield f"nodes run different versions of Windrow: {_who_has_what(windrows)}"


def _who_has_what(found: dict[str, list[str]]) -> str:
    return ", ".join(f"{version or 'none'} on {' and '.join(names[:3])}" for version, names in sorted(found.items()))


def last_line(text: str) -> str:
    """The last line of a traceback: what it comes to."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


@windrow_command("drain")
@click.argument("node")
def drain_command(common: Common, node: str) -> None:
    """Let NODE finish the items it runs, give back the rest and take nothing more. NODE is a name or an id."""
    with connect(common) as client:
        client.drain(node)
    if common.json:
        print_json({"node": node, "draining": True})
    else:
        click.echo(f"node {node} drains; windrow resume {node} undoes it")
