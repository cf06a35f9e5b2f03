"""`windrow run`: a shell command for each line of a file, or each number of a range, on all nodes."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from windrow.cli.command_output import CommandOutput, watching
from windrow.cli.connect import needs_own_cluster, open_client, open_own_cluster
from windrow.cli.flags import Common, windrow_command
from windrow.cli.follow import exit_code, summary
from windrow.cli.inputs import open_items
from windrow.cli.output import count, note, print_json
from windrow.cli.ports import ClientPort, JobPort
from windrow.common.config import Config
from windrow.common.errors import UsageError, WindrowError
from windrow.common.words import COMMAND_TASK
from windrow.run.spec import OUTPUT_BYTES, OUTPUT_BYTES_MAX, PLACE, encode_spec, make_spec

CANCEL_S = 15.0
"""How long a cancelled job may take to stand still before its state is told as it is then."""
NAME_CHARS = 40
"""Of the job, where no name is given: it stands before every line of progress."""
_BEHIND = "put -- before the command: windrow run [FLAGS] -- COMMAND {}"


class _RunCommand(click.Command):
    """What stands behind -- is the command, flags and all; it must be there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        before, command = args[:at], args[at + 1 :]
        if at == len(args) and not {"-h", "--help"} & set(args):
            raise click.UsageError(_BEHIND, ctx)
        rest = super().parse_args(ctx, before)
        ctx.params["command"] = tuple(command)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT]..."]


@dataclass(frozen=True, slots=True)
class _Showing:
    """What is to be done with the outputs."""

    file: str | None
    nothing: bool
    unordered: bool
    detach: bool


@windrow_command("run", _RunCommand)
@click.option("--each-line", metavar="FILE", help="Run the command once for each line; - is standard input.")
@click.option("--range", "span", metavar="A:B[:STEP]", help="Run the command once for each number of a range.")
@click.option("--every-node", is_flag=True, hidden=True, help="Refused: see the message.")
@click.option("--replace", "-I", "place", metavar="TEXT", default=PLACE, help="What the item replaces instead of {}.")
@click.option("--no-append", is_flag=True, help="Without {} in the command: do not put the item behind it.")
@click.option("--cwd", metavar="DIR", help="The folder to run in; without: this one, on nodes that have it.")
@click.option("--env", multiple=True, metavar="K=V", help="Set a variable for the command; repeat for more.")
@click.option("--timeout", type=float, metavar="S", help="Kill a command, and all it started, after so many seconds.")
@click.option("--output", metavar="FILE", help="Write the standard outputs into a file; it is written anew.")
@click.option("--no-output", is_flag=True, help="Do not show the outputs; windrow results and failures have them.")
@click.option("--unordered", is_flag=True, help="Show each output when its command has ended, not in order.")
@click.option(
    "--output-bytes",
    type=click.IntRange(2, OUTPUT_BYTES_MAX),
    default=OUTPUT_BYTES,
    metavar="N",
    help=f"Of each output keep so many bytes at most, and leave out the middle; {OUTPUT_BYTES} by default.",
)
@click.option("--detach", is_flag=True, help="Only start the job and print its id.")
@click.option("--key", metavar="KEY", help="The same key, command and items again find the job there is.")
@click.option("--name", metavar="NAME", help="A name that people see; without: the command.")
@click.option("--queue", metavar="NAME", help="The queue, `default` by default.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first; -1000 to 1000.")
@click.option("--retries", type=int, metavar="N", help="Extra attempts after a failure.")
@click.option("--backoff", type=float, metavar="S", help="Seconds before the first extra attempt; doubles each time.")
@click.option("--max-failures", type=int, metavar="N", help="Stop the job when more items than this have failed.")
def run_command(
    common: Common,
    /,
    command: tuple[str, ...],
    each_line: str | None,
    span: str | None,
    every_node: bool,
    place: str,
    no_append: bool,
    cwd: str | None,
    env: tuple[str, ...],
    timeout: float | None,
    output: str | None,
    no_output: bool,
    unordered: bool,
    output_bytes: int,
    detach: bool,
    key: str | None,
    name: str | None,
    **options: object,
) -> int:
    """Run COMMAND once, or once for each line or number, where nodes allow it (--allow-commands).

    {} in COMMAND is the line or the number; without {} it is put behind, as an argument more. Several words are
    executed as they are, without a shell. One word in quotes that is a line for the shell is run by sh -c, with {}
    quoted. Ctrl-C cancels.
    """
    if every_node:
        raise UsageError(
            "--every-node is not there yet: a job cannot say on which node an item runs; start nodes with a queue "
            "each (windrow node --queues NAME) and run the command once for each with --queue NAME"
        )
    if output is not None and no_output:
        raise UsageError("--output and --no-output: give one of them")
    if key == "":
        raise UsageError("--key: a key has at least one character")
    folder = os.path.abspath(cwd) if cwd is not None else os.getcwd()
    spec = make_spec(
        command, items=each_line is not None or span is not None, cwd=folder, env=env, place=place,
        append=not no_append, timeout_s=timeout, output_bytes=output_bytes,
    )  # fmt: skip
    showing = _Showing(output, no_output, unordered, detach)
    given = {option: value for option, value in options.items() if value is not None}
    config = common.config()
    own = needs_own_cluster(config)
    if own and detach:
        raise UsageError(f"--detach: nothing answers at {config.client.url}; start a cluster first: windrow up")
    with open_items(None, None, each_line, span) as lines:
        items = _items(encode_spec(spec), lines if each_line is not None or span is not None else None)
        with _open(config, own) as client:
            job = client.start(COMMAND_TASK, items, name=name or _name(command), key=key, **given)
            if warning := str(getattr(job, "note", "") or ""):
                note(f"windrow: {warning}")
            return _follow(common, job, showing, own)


def _open(config: Config, own: bool) -> AbstractContextManager[ClientPort]:
    return open_own_cluster(config, allow_commands=True) if own else open_client(config)


def _name(command: tuple[str, ...]) -> str:
    line = " ".join(" ".join(command).split())
    return line if len(line) <= NAME_CHARS else line[: NAME_CHARS - 1] + "…"


def _items(spec: bytes, lines: Iterable[object] | None) -> Iterator[object]:
    if lines is None:
        yield (spec, None)
        return
    for number, line in enumerate(lines, 1):
        text = str(line)
        if "\0" in text:
            raise UsageError(f"--each-line: line {number} has a character with the code 0, which no argument can hold")
        yield (spec, text)


def _follow(common: Common, job: JobPort, showing: _Showing, own: bool) -> int:
    if showing.detach:
        print_json({"id": job.id}) if common.json else click.echo(job.id)
        return 0
    with contextlib.ExitStack() as files:
        stream = _open_stream(showing, files)
        # A bar and outputs on the same terminal would spoil each other.
        shown = stream is None or showing.file is not None or not sys.stdout.isatty()
        try:
            with watching(job, shown) as say:
                output = CommandOutput(stream, say, as_json=common.json)
                outcomes = job.as_completed() if showing.unordered else enumerate(job.results(errors="return"))
                for index, outcome in outcomes:
                    output.show(index, outcome)
            status = job.wait()
        except KeyboardInterrupt:
            return _cancel(job, own)
        except BrokenPipeError as error:
            if not isinstance(error, WindrowError):
                # Nobody reads the outputs any more (windrow run … | head): nobody waits for the rest.
                job.cancel("the reader of the outputs has gone")
            raise
    note(summary(status))
    if output.cut:
        note(
            f"windrow: outputs that were too long and lost their middle: {count(output.cut)}; --output-bytes keeps "
            "more, or let the command write into a file"
        )
    if status.failed and not own:
        note(f"windrow: see why with: windrow failures {job.id}; run them again with: windrow retry {job.id}")
    return exit_code([status])


def _open_stream(showing: _Showing, files: contextlib.ExitStack) -> BinaryIO | None:
    if showing.nothing:
        return None
    if showing.file is None:
        return sys.stdout.buffer
    return files.enter_context(Path(showing.file).open("wb"))


def _cancel(job: JobPort, own: bool) -> int:
    note("windrow: cancelling")
    job.cancel("Ctrl-C in windrow run")
    with contextlib.suppress(TimeoutError):
        job.wait(timeout=CANCEL_S)
    again = shlex.join(["windrow", *sys.argv[1:]])
    status = job.status()
    kept = "" if own else f"; what is finished is kept: windrow results --errors skip {job.id}"
    note(
        f"windrow: cancelled, {count(status.done)} of {count(status.total)} were done{kept}; start again with: {again}"
    )
    return 130
