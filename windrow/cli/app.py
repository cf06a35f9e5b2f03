"""The group of all commands: imports a command only when it is called, and turns every error into a line and a code."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO, cast

import click

from windrow.cli.flags import HELP_FLAGS
from windrow.common.errors import Unreachable, UsageError, WindrowError
from windrow.common.redact import redact_url

DONE, FAILED, WRONG_USAGE, OUT_OF_REACH, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Start a scheduler and nodes on this machine, in the foreground."),
    "scheduler": ("daemons", "Run the scheduler daemon."),
    "node": ("daemons", "Run a node daemon."),
    "submit": ("submit", "Start a job; prints its id."),
    "run": ("run", "Run a command for each line, or for each number of a range."),
    "export": ("export", "Export data with all nodes into one file or folder."),
    "jobs": ("jobs", "List jobs, newest first."),
    "job": ("jobs", "Show one job."),
    "wait": ("jobs", "Wait until jobs have ended."),
    "results": ("outcomes", "Print the results of a job, a line each."),
    "failures": ("outcomes", "Show what failed in a job, and why."),
    "explain": ("explain", "Say why a job or an item is not done."),
    "retry": ("jobs", "Run failed items of a job again."),
    "cancel": ("jobs", "Cancel what is not finished of a job."),
    "pause": ("pausing", "Start nothing more of a job until it is resumed."),
    "resume": ("pausing", "Go on with a paused job or a drained node."),
    "nodes": ("nodes", "List nodes: slots, load, tasks, errors."),
    "drain": ("nodes", "Let a node finish what it runs and take nothing more."),
    "doctor": ("doctor", "Check scheduler, store, broker, nodes and this machine."),
    "config": ("config", "Show every setting and where it comes from."),
}
"""Command → its module in windrow/cli/commands and its line in the help, which thus imports no command."""


class App(click.Group):
    """The command `windrow`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"windrow.cli.commands.{COMMANDS[cmd_name][0]}")
        return cast(click.Command, getattr(module, f"{cmd_name}_command"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]}?" if near else "windrow -h lists the commands"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and leave with its exit code, whatever it raises."""
        try:
            code: object = super().main(args, "windrow", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except Exception as error:
            if isinstance(error, BrokenPipeError) and not isinstance(error, WindrowError):
                # The reader has gone (`windrow results last | head`): leave as SIGPIPE would, without a word.
                _forget(sys.stdout)
                sys.exit(141)
            if os.environ.get("WINDROW_DEBUG") == "1" and not isinstance(error, click.exceptions.Abort):
                raise
            code = report(error)
        sys.exit(code if isinstance(code, int) else DONE)


def report(error: Exception) -> int:
    """Print one line about `error`; the exit code that it means."""
    code, text = explain(error)
    click.echo(f"windrow: {one_line(redact_url(text))}", err=True)
    return code


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and text for an error."""
    match error:
        case click.exceptions.Abort():
            return INTERRUPTED, "interrupted"
        case click.UsageError():
            where = error.ctx.command_path if error.ctx else "windrow"
            text = error.format_message().rstrip(".")
            return WRONG_USAGE, text if " -h " in text else f"{text}; {where} -h shows the usage"
        case click.ClickException():
            return WRONG_USAGE, error.format_message()
        case UsageError():
            return WRONG_USAGE, error.message
        case Unreachable():
            return OUT_OF_REACH, error.message
        case WindrowError():
            return FAILED, str(error)
        case TimeoutError():
            return TIMED_OUT, str(error) or "waiting timed out"
        case ImportError():
            return FAILED, f"{error}; this part of Windrow, or a package that it needs, is not installed"
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return FAILED, f"{place}{error.strerror or error}"
        case _:
            return FAILED, f"a fault in Windrow: {type(error).__name__}: {error} (WINDROW_DEBUG=1 shows where)"


def one_line(text: str) -> str:
    """`text` without line breaks and control characters."""
    joined = re.sub(r"\s*[\r\n]+\s*", "; ", text.strip())
    return "".join(sign if sign.isprintable() else " " for sign in joined)


def _forget(stream: TextIO) -> None:
    """Point a broken stream to nowhere, or Python complains about it at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a test's stream has no file descriptor
        return


@click.group("windrow", cls=App, context_settings=HELP_FLAGS, invoke_without_command=True)
@click.version_option(None, "-V", "--version", package_name="windrow-engine", message="windrow %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Windrow runs big jobs on many machines."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # Names of files and messages of tasks may hold what the terminal cannot show: never an error for that.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    app.main()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What the client warns of is for whoever typed the command, not for a developer."""
    click.echo(f"windrow: {one_line(redact_url(str(message)))}", err=True)
