"""`windrow export`: reads data files with all nodes and writes one clean file or folder, in order."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping

import click

from windrow.cli.connect import (
    begin_export,
    needs_own_cluster,
    open_client,
    open_own_cluster,
    preview_export,
    read_export_spec,
)
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import Column, count, duration, note, numbered, print_json, print_table, printable, size
from windrow.cli.ports import ClientPort, ExportProgressPort, ExportRunPort, ExportSummaryPort
from windrow.cli.progress import Progress, Rate, make_progress
from windrow.common.config import Config
from windrow.common.errors import UsageError, WindrowError

STEP_S = 0.3
PHASES = {"planning": "1/3 plan", "converting": "2/3 convert", "merging": "3/3 merge"}
"""What the export calls a phase → what is shown."""


@windrow_command("export")
@click.argument("source", required=False)
@click.argument("dest", required=False)
@click.option("--columns", metavar="A,B:C", help="Columns in order; A:B renames A to B. Without: all.")
@click.option("--where", metavar="EXPR", help="Keep only rows for which this SQL condition holds.")
@click.option("--cast", multiple=True, metavar="COL:TYPE", help="Give a column a type; repeat for more.")
@click.option("--to", type=click.Choice(["csv", "jsonl", "parquet"]), help="Format; without: by the ending of DEST.")
@click.option("--delimiter", metavar="C", help="Delimiter of SOURCE; without: found in its first line.")
@click.option("--quote", metavar="C", help="Quote of SOURCE, or none.  [default: a double quote]")
@click.option("--escape", metavar="C", help="Escape character of SOURCE; without: quotes are doubled.")
@click.option("--header/--no-header", default=None, help="SOURCE's first line has names; without: by the look of it.")
@click.option("--encoding", metavar="NAME", help="Encoding of SOURCE; without: found.")
@click.option("--infer", type=click.Choice(["sample", "full", "none"]), help="How types are found.  [default: sample]")
@click.option("--trim", is_flag=True, default=None, help="Take white space off both ends of text.")
@click.option("--empty-null", is_flag=True, default=None, help="Empty text becomes null.")
@click.option("--drop-null", metavar="COLS", help="Leave out rows with a null in one of these columns.")
@click.option("--dedupe-by", metavar="COLS", help="Of rows that are equal in these columns keep the first.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Write the first N rows that are left.")
@click.option("--max-errors", metavar="N|P%|all", help="So many bad rows go to a side file.  [default: 0]")
@click.option("--compression", metavar="NAME", help="gzip, zstd, none, for Parquet snappy; without: by the ending.")
@click.option("--to-encoding", metavar="NAME", help="Encoding of DEST.  [default: utf-8]")
@click.option("--to-delimiter", metavar="C", help="Delimiter of a CSV DEST.  [default: a comma]")
@click.option("--partition-by", metavar="COL", help="With DEST/: a folder for each value of this column.")
@click.option("--max-partitions", type=click.IntRange(1), metavar="N", help="So many folders at most.  [default: 1000]")
@click.option("--manifest", is_flag=True, default=None, help="Write DEST.manifest.json with the sums of all parts.")
@click.option(
    "--work-dir", metavar="DIR", help="For a DEST by URL: a folder of every node, for parts until the upload."
)
@click.option("--force", is_flag=True, default=None, help="Replace DEST if it exists.")
@click.option("--spec", metavar="FILE", help="Take source, dest and these options from a TOML file; flags beat it.")
@click.option("--detach", is_flag=True, help="Print the id when the export has begun, and leave it alone.")
@click.option("--dry-run", is_flag=True, help="Show schema, segments, five rows and an estimate; write nothing.")
@click.option("--segment-bytes", type=click.IntRange(1), metavar="N", help="Bytes of SOURCE for one item.", hidden=True)
def export_command(common: Common, /, spec: str | None, detach: bool, dry_run: bool, **flags: object) -> int:
    """Export SOURCE (a file, a pattern in quotes or a URL) to DEST with all nodes, rows in their order.

    SOURCE is CSV, JSON Lines or Parquet, plain, gzip, zip, bz2 or zstd. DEST ends in .csv, .tsv, .jsonl or .parquet,
    text also in .gz or .zst; with a slash at its end it is a folder. {date} in it is the day of the start (UTC).
    A URL like s3://bucket/out.parquet wants --work-dir.
    DEST stays as it was until the whole export is done. Ctrl-C cancels and keeps what is finished.
    """
    options = read_export_spec(spec) if spec else {}
    options |= {name: value for name, value in flags.items() if value is not None and value != ()}
    for name in ("source", "dest"):
        if not options.get(name):
            raise click.UsageError(f"Missing argument '{name.upper()}'.")
    config = common.config()
    if dry_run:
        return _preview(common, config, options)
    own = needs_own_cluster(config)
    if own and detach:
        raise UsageError(f"--detach: nothing answers at {config.client.url}; start a cluster first: windrow up")
    with open_own_cluster(config) if own else open_client(config) as client:
        return _export(common, client, options, detach=detach)


def _export(common: Common, client: ClientPort, options: Mapping[str, object], *, detach: bool) -> int:
    try:
        run = begin_export(client, options)
    except KeyboardInterrupt:
        note(f"windrow: cancelled before it began; start again with: {_again()}")
        return 130
    if detach:
        print_json({"id": run.id}) if common.json else click.echo(run.id)
        return 0
    try:
        with make_progress("segments") as progress:
            summary = _follow(run, progress)
    except KeyboardInterrupt:
        note("windrow: cancelling")
        run.cancel()
        kept = "the finished parts are kept; go on" if run.has_parts else "start again"
        note(f"windrow: cancelled, {printable(run.dest)} is as it was; {kept} with: {_again()}")
        return 130
    except UsageError as error:
        # What was found wrong on the way (a value that has not its column's type) is no wrong usage: the job failed.
        note(f"windrow: {error.message}")
        if run.has_parts:
            note("windrow: the finished parts are kept; the same command goes on with them")
        return 1
    _print_summary(common, summary)
    return 0


def _again() -> str:
    return shlex.join(["windrow", *sys.argv[1:]])


def _follow(run: ExportRunPort, progress: Progress) -> ExportSummaryPort:
    shown = _Shown(progress)
    while True:
        try:
            summary = run.wait(timeout=STEP_S)
        except TimeoutError as error:
            if isinstance(error, WindrowError):
                # A task's own TimeoutError is one too: the export has failed with it.
                raise
            shown.show(run.progress())
        else:
            shown.show(run.progress())
            return summary


class _Shown:
    """Shows progress, and each note of the plan once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rate = Rate()
        self._notes: set[str] = set()

    def show(self, now: ExportProgressPort) -> None:
        for line in now.notes:
            if line not in self._notes:
                self._notes.add(line)
                note(f"windrow: {line}")
        label = PHASES.get(str(now.phase))
        if label is None:
            # Ended: the last phase stays on the screen as it was, the summary says the rest.
            return
        self._rate.add(now.source_bytes_done, time.monotonic())
        if label == PHASES["converting"]:
            self._progress.update(label, now.segments_done, now.segments_total, self._detail(now))
        else:
            # One item each: there is nothing to count on the way.
            self._progress.update(label, 0, None, self._detail(now))

    def _detail(self, now: ExportProgressPort) -> str:
        parts = [
            numbered(now.rows, "row", "rows") if now.rows else "",
            size(now.bytes_written) if now.bytes_written else "",
            f"{size(self._rate.per_second)}/s read" if self._rate.per_second > 0 else "",
            numbered(now.bad_rows, "bad row", "bad rows") if now.bad_rows else "",
        ]
        return ", ".join(part for part in parts if part)


def _print_summary(common: Common, summary: ExportSummaryPort) -> None:
    path = str(summary.path)
    if common.json:
        print_json(
            {
                "path": path, "rows": summary.rows, "bytes": summary.bytes, "files": summary.files,
                "rows_in": summary.rows_in, "bad_rows": summary.bad_rows, "side_file": summary.side_file,
                "segments": summary.segments, "sha256": summary.sha256, "seconds": summary.seconds,
                "notes": list(summary.notes),
            }
        )  # fmt: skip
        return
    rows = numbered(summary.rows, "row", "rows")
    rate = f", {count(round(summary.rows / summary.seconds))} rows/s" if summary.seconds > 0 else ""
    left_out = summary.rows_in - summary.rows - summary.bad_rows
    more = f" of {count(summary.rows_in)} read" if left_out > 0 else ""
    click.echo(printable(f"{path}: {rows}{more}, {size(summary.bytes)} in {duration(summary.seconds)}{rate}"))
    if summary.bad_rows:
        click.echo(printable(f"{numbered(summary.bad_rows, 'bad row', 'bad rows')}: {summary.side_file}"))


def _preview(common: Common, config: Config, options: Mapping[str, object]) -> int:
    found = preview_export(config, options)
    if common.json:
        print_json(found.to_dict())
        return 0
    for line in found.notes:
        note(f"windrow: {line}")
    click.echo(printable(found.about))
    print_table([Column("column"), Column("type")], found.schema, "no columns")
    click.echo()
    print_table([Column(name) for name, _ in found.schema], found.rows, "no rows")
    click.echo()
    click.echo(
        f"about {numbered(found.segments, 'segment', 'segments')}, {numbered(found.rows_estimate, 'row', 'rows')} "
        f"and {size(found.bytes_estimate)} to write; about {duration(found.slot_seconds)} of one slot's time"
    )
    return 0
