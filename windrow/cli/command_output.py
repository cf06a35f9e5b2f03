"""Shows what commands have printed, and meanwhile how far their job is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping
from typing import BinaryIO, cast

import click

from windrow.cli.follow import show_status
from windrow.cli.output import printable, to_json
from windrow.cli.ports import JobPort
from windrow.cli.progress import make_progress
from windrow.common.errors import WindrowError

STEP_S = 0.5

Say = Callable[[str], None]


@contextlib.contextmanager
def watching(job: JobPort, shown: bool) -> Generator[Say]:
    """Shows the job's progress from a thread of its own, for whoever reads outcomes waits for the slowest of them.

    Gives a function that prints a line on standard error beside it.
    """
    if not shown:
        yield _say_plain
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(STEP_S):
            # A scheduler that is away is the reader's to complain about.
            with contextlib.suppress(WindrowError, TimeoutError):
                show_status(job.status(), progress)

    with make_progress("commands") as progress:
        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield progress.say
        finally:
            ended.set()
            thread.join(STEP_S)


def _say_plain(line: str) -> None:
    click.echo(line, err=True)


class CommandOutput:
    """Writes what commands printed: standard output to `stream` (None: nowhere), standard error to standard error."""

    def __init__(self, stream: BinaryIO | None, say: Say, *, as_json: bool) -> None:
        self._stream = stream
        self._say = say
        self._as_json = as_json
        self.cut = 0
        """Outputs that had more than was kept."""

    def show(self, index: int, outcome: object) -> None:
        """The outcome of one item: the task's value, or the error that it ended with."""
        if isinstance(outcome, BaseException):
            self._show_error(index, outcome)
        elif self._as_json:
            self._count_cut(cast("Mapping[str, object]", outcome))
            self._write(_json_line({"index": index, "value": outcome}))
        else:
            value = cast("Mapping[str, object]", outcome)
            self._count_cut(value)
            self._write(_bytes(value.get("stdout")))
            errors = _bytes(value.get("stderr")).decode(errors="backslashreplace")
            if errors and self._stream is not None:
                self._say(errors.removesuffix("\n"))

    def _show_error(self, index: int, error: BaseException) -> None:
        name = str(getattr(error, "type", "") or type(error).__name__)
        message = str(getattr(error, "message", "") or error)
        log = str(getattr(error, "log", ""))
        if self._as_json:
            facts = {"type": name, "message": message, "log": log, "node": getattr(error, "node", ""),
                     "attempts": getattr(error, "attempts", 0)}  # fmt: skip
            self._write(_json_line({"index": index, "error": facts}))
        elif self._stream is not None and hasattr(error, "node"):
            # Not for items that were cancelled: there may be millions, and the last line counts them.
            self._say(f"windrow: item {index} failed: {printable(message)}")
            for line in log.splitlines():
                self._say(f"  {printable(line)}")

    def _count_cut(self, value: Mapping[str, object]) -> None:
        self.cut += sum(bool(value.get(name)) for name in ("stdout_left_out", "stderr_left_out"))

    def _write(self, data: bytes) -> None:
        if data and self._stream is not None:
            self._stream.write(data)
            self._stream.flush()


def _bytes(output: object) -> bytes:
    return output if isinstance(output, bytes) else str(output or "").encode(errors="surrogateescape")


def _json_line(value: object) -> bytes:
    import json

    return json.dumps(to_json(value), ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
