"""`windrow results` and `windrow failures`: what the items of a job came to."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import click

from windrow.cli.connect import connect
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import Column, count, note, numbered, print_json, print_table, printable, size, to_json, when
from windrow.cli.ports import JobPort
from windrow.common.errors import WindrowError
from windrow.common.messages import FailureInfo

GROUPS_MAX = 1000
"""Different errors told apart; the rest is counted together, so that a million different ones cannot fill memory."""
OTHERS = "other errors"


@windrow_command("results")
@click.argument("job_id", metavar="ID")
@click.option(
    "--errors",
    type=click.Choice(["raise", "skip", "return"]),
    default="raise",
    show_default=True,
    help="At a failed item: stop, leave it out, or print null in its place.",
)
def results_command(common: Common, job_id: str, errors: Literal["raise", "skip", "return"]) -> int:
    """Print the results of a job in item order, a JSON line each, as they are finished.

    With --json each line says its index: {"index": 0, "value": …} or {"index": 0, "error": {…}}.
    """
    with connect(common) as client:
        job = client.job(job_id)
        try:
            return _print_results(common, job, errors)
        except KeyboardInterrupt:
            note(f"windrow: stopped reading, the work goes on; come back with: windrow results {job.id}")
            return 130


def _print_results(common: Common, job: JobPort, errors: str) -> int:
    failed = 0
    for index, outcome in enumerate(job.results(errors="return")):
        if not isinstance(outcome, BaseException):
            print_json({"index": index, "value": outcome} if common.json else outcome)
            continue
        failed += 1
        if common.json:
            print_json({"index": index, "error": _error(outcome)})
        elif errors == "return":
            print_json(None)
        elif errors == "raise":
            raise WindrowError(
                f"item {index} has no result: {str(outcome) or type(outcome).__name__}; "
                f"--errors skip leaves such items out, windrow failures {job.id} lists them"
            )
    if failed:
        note(f"windrow: {numbered(failed, 'item has', 'items have')} no result; windrow failures {job.id}")
    return 1 if failed else 0


def _error(error: BaseException) -> dict[str, object]:
    return {
        "type": str(getattr(error, "type", "") or type(error).__name__),
        "message": str(getattr(error, "message", "") or error),
        "node": getattr(error, "node", ""),
        "attempts": getattr(error, "attempts", 0),
    }


@dataclass(slots=True)
class _Group:
    """Failures with the same error, but for numbers, addresses and ids in its text."""

    first: FailureInfo
    text: str
    number: int = 0
    items: list[int] = field(default_factory=list[int])
    """The first few."""
    nodes: set[str] = field(default_factory=set[str])


@windrow_command("failures")
@click.argument("job_id", metavar="ID")
@click.option("--each", is_flag=True, help="A line for each item instead of one for each error.")
@click.option("-v", "--verbose", is_flag=True, help="Tracebacks and last log lines; with --each the history too.")
def failures_command(common: Common, job_id: str, each: bool, verbose: bool) -> None:
    """Show what failed in a job: equal errors in one line with their number.

    Errors are equal when kind, type and text are, but for numbers, addresses and ids in the text. With --json: a line
    for each failed item, {"item", "kind", "type", "message", "traceback", "node", "attempts", "failed_s", "log",
    "memory_bytes_peak"}; with -v also "history", a list of the same.
    """
    with connect(common) as client:
        job = client.job(job_id)
        failures = job.failures()
        if common.json:
            for failure in failures:
                print_json({**to_json(failure), "history": job.history(failure.item)} if verbose else failure)
        elif each:
            _print_each(job, failures, verbose)
        else:
            _print_groups(_grouped(failures), verbose, job.id)


def _print_each(job: JobPort, failures: Iterator[FailureInfo], verbose: bool) -> None:
    # Not a table: it is printed as it is read, however many there are.
    seen = False
    for failure in failures:
        seen = True
        where = f"(node {failure.node or '?'}, attempt {failure.attempts})"
        click.echo(printable(f"{failure.item}  {_what(failure, failure.message)}  {where}"))
        if verbose:
            _print_details(failure)
            _print_history(list(job.history(failure.item)))
    if not seen:
        note(f"no failures in job {job.id}")


def _grouped(failures: Iterable[FailureInfo]) -> list[_Group]:
    groups: OrderedDict[tuple[str, str, str] | None, _Group] = OrderedDict()
    for failure in failures:
        folded = fold(failure.message)
        name = (failure.kind.value, failure.type, folded)
        if name in groups or len(groups) < GROUPS_MAX:
            group = groups.setdefault(name, _Group(failure, failure.message))
            if failure.message != group.first.message:
                group.text = folded
        else:
            group = groups.setdefault(None, _Group(dataclasses.replace(failure, type=OTHERS), ""))
        group.number += 1
        group.nodes.add(failure.node)
        if len(group.items) < 3:
            group.items.append(failure.item)
    return sorted(groups.values(), key=lambda group: -group.number)


def _print_groups(groups: list[_Group], verbose: bool, job_id: str) -> None:
    if verbose:
        for group in groups:
            click.echo(printable(f"{count(group.number)} x {_what(group.first, group.text)}  (items {_items(group)})"))
            _print_details(group.first)
        return
    columns = [Column("count", right=True), Column("kind"), Column("error"), Column("items"), Column("nodes")]
    rows = (
        [
            count(group.number),
            group.first.kind.value,
            _what(group.first, group.text),
            _items(group),
            _nodes(group),
        ]
        for group in groups
    )
    print_table(columns, rows, f"no failures in job {job_id}")


def fold(message: str) -> str:
    """`message` without what differs from one item to the next: numbers, addresses, ids."""
    return _VOLATILE.sub("…", message)


_VOLATILE = re.compile(
    r"""\b0x[0-9a-f]+\b                              # an address
    |\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b  # a UUID
    |\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b                 # a digest
    |[0-9]+(?:[.,:][0-9]+)*                          # a number, a time, an IP address with its port
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _what(failure: FailureInfo, message: str) -> str:
    short = message if len(message) <= 200 else message[:199] + "…"
    return f"{failure.type}: {short}" if short else failure.type


def _items(group: _Group) -> str:
    return ", ".join(map(str, group.items)) + (", …" if group.number > len(group.items) else "")


def _nodes(group: _Group) -> str:
    names = sorted(name for name in group.nodes if name)
    return ", ".join(names[:3]) + (f", … ({len(names)})" if len(names) > 3 else "")


def _print_details(failure: FailureInfo) -> None:
    parts = [f"kind {failure.kind.value}"]
    parts += [f"peak memory {size(failure.memory_bytes_peak)}"] if failure.memory_bytes_peak else []
    parts += [when(failure.failed_s)] if failure.failed_s else []
    click.echo(f"    {', '.join(parts)}")
    for line in failure.traceback.splitlines():
        click.echo(f"    {printable(line)}")
    if failure.log:
        click.echo("    last lines of the worker:")
    for line in failure.log.splitlines():
        click.echo(f"    | {printable(line)}")


def _print_history(attempts: list[FailureInfo]) -> None:
    if len(attempts) < 2:
        return
    click.echo("    failed attempts (of many the first and the last):")
    for one in attempts:
        line = f"{one.attempts}. {when(one.failed_s)} on node {one.node or '?'}: {_what(one, one.message)}"
        click.echo(f"    {printable(line)}")
