"""The task that runs a command; workers import it only where their node was started with --allow-commands."""

from __future__ import annotations

import functools
import os

from windrow.common.current import current
from windrow.common.errors import CommandFailed, CommandTimeout, NodeUnfit
from windrow.common.tasks import task
from windrow.common.words import COMMAND_TASK
from windrow.node.worker_end import describe_exit
from windrow.run.process import CommandRunner, Ended, Kept, Stopped
from windrow.run.spec import CommandSpec, decode_spec

LOG_LINES = 30
LOG_CHARS_MAX = 4_096
_KEPT_VARIABLE = "WINDROW_URL"


@task(name=COMMAND_TASK)
def command(data: bytes, item: str | None) -> dict[str, object]:
    """Run the command with this item; its outputs where it exits with 0, else CommandFailed."""
    spec = _read_spec(data)
    at = current()
    env = {
        **_base_environment(),
        **spec.env,
        "WINDROW_ITEM": item or "",
        "WINDROW_INDEX": str(at.index),
        "WINDROW_JOB": at.job,
    }
    arguments = spec.fill(item or "")
    try:
        ended = _runner().run(
            arguments, cwd=spec.cwd, env=env, timeout_s=spec.timeout_s, output_bytes=spec.output_bytes,
            is_cancelled=lambda: at.cancelled,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise _start_error(error, arguments[0], spec) from None
    if ended.stopped is not None or ended.code != 0:
        raise _end_error(ended, spec)
    return {
        "exit_code": ended.code,
        "stdout": _text(ended.stdout),
        "stderr": _text(ended.stderr),
        "stdout_left_out": ended.stdout.left_out,
        "stderr_left_out": ended.stderr.left_out,
    }


@functools.lru_cache(maxsize=16)
def _read_spec(data: bytes) -> CommandSpec:
    return decode_spec(data)


@functools.cache
def _runner() -> CommandRunner:
    return CommandRunner()


@functools.cache
def _base_environment() -> dict[str, str]:
    """The node's, without its own settings: the address of the broker holds a password."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WINDROW_") or name == _KEPT_VARIABLE
    }  # fmt: skip


def _start_error(error: OSError | ValueError, program: str, spec: CommandSpec) -> Exception:
    if not os.path.isdir(spec.cwd):
        # Another node may have it: the job leaves this one out.
        return NodeUnfit(f"there is no folder {spec.cwd} to run the command in; choose another with --cwd")
    if isinstance(error, FileNotFoundError) and os.path.exists(os.path.join(spec.cwd, program)) and "/" in program:
        return CommandFailed(f"{program} cannot be executed: the program that its first line names does not exist")
    if isinstance(error, FileNotFoundError):
        return CommandFailed(
            f"there is no command {program!r} here: it is not on PATH; give its path, or the whole line in quotes "
            "for the shell"
        )
    if isinstance(error, PermissionError):
        return CommandFailed(f"{program!r} may not be executed: check that it is a program (chmod +x)")
    why = getattr(error, "strerror", None) or str(error)
    return CommandFailed(f"{program!r} cannot be executed: {why}")


def _end_error(ended: Ended, spec: CommandSpec) -> CommandFailed:
    log = last_lines(ended.stderr.content()) or last_lines(ended.stdout.content())
    if ended.stopped is Stopped.TIMEOUT:
        return CommandTimeout(f"the command ran for longer than {spec.timeout_s:g} s and was killed", log)
    if ended.stopped is Stopped.CANCELLED:
        return CommandFailed("the command was cancelled and killed", log)
    last = log.rpartition("\n")[2]
    return CommandFailed(f"the command {describe_exit(ended.code)}{': ' if last else ''}{last}", log)


def last_lines(output: bytes) -> str:
    """The end of an output, for people."""
    lines = output.decode(errors="replace").rstrip().splitlines()[-LOG_LINES:]
    return "\n".join(lines)[-LOG_CHARS_MAX:]


def _text(output: Kept) -> str | bytes:
    """Text where it is text, so that `windrow results` can show it; else the bytes as they are."""
    content = output.content()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
