"""`windrow export`: reads a data file with all nodes and writes one file, in order."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Mapping

import click

from windrow.cli.connect import begin_export, needs_own_cluster, open_client, open_own_cluster
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import count, duration, note, print_json, printable, size
from windrow.cli.ports import ClientPort, ExportProgressPort, ExportRunPort, ExportSummaryPort
from windrow.cli.progress import Progress, make_progress
from windrow.common.errors import UsageError, WindrowError

STEP_S = 0.3
PHASES = {
    "plan": "1/3 plan",
    "planning": "1/3 plan",
    "convert": "2/3 convert",
    "converting": "2/3 convert",
    "merge": "3/3 merge",
    "merging": "3/3 merge",
}
"""What the export calls a phase → what is shown."""


@windrow_command("export")
@click.argument("source")
@click.argument("dest")
@click.option("--columns", metavar="A,B:C", default="", help="Columns in order; A:B renames A to B. Without: all.")
@click.option("--where", metavar="EXPR", default="", help="Keep only rows for which this SQL condition holds.")
@click.option("--cast", multiple=True, metavar="COL:TYPE", help="Give a column a type; repeat for more.")
@click.option("--to", "format_", type=click.Choice(["csv", "parquet"]), help="Format; without: by the ending of DEST.")
@click.option("--delimiter", metavar="C", default="", help="Delimiter of SOURCE; without: found in its first line.")
@click.option("--force", is_flag=True, help="Replace DEST if it exists.")
@click.option("--segment-bytes", type=click.IntRange(1), metavar="N", help="Bytes of SOURCE for one item.", hidden=True)
def export_command(
    common: Common,
    source: str,
    dest: str,
    columns: str,
    where: str,
    cast: tuple[str, ...],
    format_: str | None,
    delimiter: str,
    force: bool,
    segment_bytes: int | None,
) -> int:
    """Export SOURCE (CSV) to DEST (CSV or Parquet) with all nodes, rows in their order.

    Ctrl-C cancels; DEST stays as it was until the whole export is done.
    """
    spec: dict[str, object] = {
        "source": source,
        "dest": dest,
        "columns": _split(columns),
        "where": where,
        "cast": cast,
        "format": format_ or "",
        "delimiter": delimiter,
        "force": force,
    }
    if segment_bytes is not None:
        spec["segment_bytes"] = segment_bytes
    config = common.config()
    with open_own_cluster(config) if needs_own_cluster(config) else open_client(config) as client:
        return _export(common, client, spec)


def _split(columns: str) -> tuple[str, ...]:
    """`a,b:c` as names; a name with a comma stands in double quotes."""
    try:
        rows = list(csv.reader([columns], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"--columns {columns}: {error}") from None
    return tuple(name.strip() for name in rows[0]) if rows else ()


def _export(common: Common, client: ClientPort, spec: Mapping[str, object]) -> int:
    try:
        run = begin_export(client, spec)
    except KeyboardInterrupt:
        note(f"windrow: cancelled before it began; start again with: {_again()}")
        return 130
    try:
        with make_progress("segments") as progress:
            summary = _follow(run, progress)
    except KeyboardInterrupt:
        note("windrow: cancelling")
        run.cancel()
        note(f"windrow: cancelled, {spec['dest']} is as it was; start again with: {_again()}")
        return 130
    except UsageError as error:
        # What was found wrong on the way (a value that has not its column's type) is no wrong usage: the job failed.
        note(f"windrow: {error.message}")
        return 1
    _print_summary(common, summary)
    return 0


def _again() -> str:
    return shlex.join(["windrow", *sys.argv[1:]])


def _follow(run: ExportRunPort, progress: Progress) -> ExportSummaryPort:
    while True:
        try:
            summary = run.wait(timeout=STEP_S)
        except TimeoutError as error:
            if isinstance(error, WindrowError):
                # A task's own TimeoutError is one too: the export has failed with it.
                raise
            _show(run.progress(), progress)
        else:
            _show(run.progress(), progress)
            return summary


def _show(now: ExportProgressPort, progress: Progress) -> None:
    label = PHASES.get(str(now.phase))
    if label is None:
        # Ended: the last phase stays on the screen as it was, the summary says the rest.
        return
    detail = f"{count(now.rows)} rows, {size(now.bytes_written)}" if now.rows or now.bytes_written else ""
    if label == PHASES["convert"]:
        progress.update(label, now.segments_done, now.segments_total, detail)
    else:
        # One item each: there is nothing to count on the way.
        progress.update(label, 0, None, detail)


def _print_summary(common: Common, summary: ExportSummaryPort) -> None:
    path = str(summary.path)
    if common.json:
        print_json(
            {
                "path": path,
                "rows": summary.rows,
                "bytes": summary.bytes,
                "sha256": summary.sha256,
                "seconds": summary.seconds,
            }
        )
        return
    rate = f", {count(round(summary.rows / summary.seconds))} rows/s" if summary.seconds > 0 else ""
    click.echo(
        printable(f"{path}: {count(summary.rows)} rows, {size(summary.bytes)} in {duration(summary.seconds)}{rate}")
    )
