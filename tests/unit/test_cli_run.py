"""`windrow run` against a stub client: what it asks for, what it prints, and what it refuses."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_cli_commands import Client, Status, client, made_call, windrow
from windrow.client.failures import task_failed
from windrow.common.messages import FailureInfo
from windrow.common.words import COMMAND_TASK, FailureKind
from windrow.run.spec import decode_spec

__all__ = ["client"]

URL = ("--url", "tcp://h:1")


def value(out: str | bytes = "", err: str = "", left_out: int = 0) -> dict[str, object]:
    return {"exit_code": 0, "stdout": out, "stderr": err, "stdout_left_out": left_out, "stderr_left_out": 0}


FAILED = task_failed(
    FailureInfo(1, FailureKind.ERROR, "windrow.common.errors.CommandFailed", "the command exited with code 3", "", "n1",
                1, 5.0, log="first\nlast")
)  # fmt: skip


def started(client: type[Client]) -> Any:
    return made_call(client, "start")


def test_the_job_has_an_item_for_each_line_and_all_options(client: type[Client], tmp_path: Path) -> None:
    client.job_there.outcomes = [value(), value()]
    flags = ["--queue", "q", "--priority", "3", "--retries", "2", "--name", "n", "--key", "k", "--timeout", "2.5"]
    more = ["--env", "A=1", "--max-failures", "4", "--output-bytes", "100"]
    windrow("run", "--each-line", "-", *flags, *more, *URL, "--", "cp", "-f", "{}", "x", stdin="a b\nc\n")
    _, task, items, name, key, options = started(client)
    assert (task, name, key) == (COMMAND_TASK, "n", "k")
    assert options == {"queue": "q", "priority": 3, "retries": 2, "max_failures": 4}
    assert [item for _, item in items] == ["a b", "c"]
    spec = decode_spec(items[0][0])
    assert spec.fill("a b") == ["cp", "-f", "a b", "x"]
    assert (spec.cwd, spec.env, spec.timeout_s, spec.output_bytes) == (str(tmp_path), {"A": "1"}, 2.5, 100)


def test_ranges_give_numbers_and_neither_gives_one_command(client: type[Client]) -> None:
    windrow("run", "--range", "1:9:3", "--cwd", "sub", *URL, "--", "echo", "{}")
    items = started(client)[2]
    assert [item for _, item in items] == ["1", "4", "7"]
    assert decode_spec(items[0][0]).cwd == str(Path.cwd() / "sub")
    windrow("run", *URL, "--", "echo", "{}", "--json")
    ((spec, item),) = started(client)[2]
    assert (decode_spec(spec).fill(""), item) == (["echo", "{}", "--json"], None)
    assert started(client)[3] == "echo {} --json"


def test_outputs_come_in_order_and_each_to_its_own_stream(client: type[Client]) -> None:
    client.job_there.outcomes = [value("one\n", "note\n"), value(b"\xff\n"), value("three")]
    result = windrow("run", "--range", "3", *URL, "--", "x")
    assert result.stdout_bytes == b"one\n\xff\nthree"
    assert "note\n" in result.stderr
    client.job_there.outcomes = [value("one\n"), value("two\n")]
    assert windrow("run", "--range", "2", "--unordered", *URL, "--", "x").stdout == "two\none\n"


def test_outputs_go_to_a_file_or_nowhere(client: type[Client], tmp_path: Path) -> None:
    client.job_there.outcomes = [value("one\n", "note\n")]
    assert windrow("run", "--output", "out.txt", *URL, "--", "x").stdout == ""
    assert (tmp_path / "out.txt").read_text() == "one\n"
    nothing = windrow("run", "--no-output", *URL, "--", "x")
    assert (nothing.stdout, "note" in nothing.stderr) == ("", False)


def test_failures_are_told_with_their_last_lines_and_make_exit_code_1(client: type[Client]) -> None:
    client.job_there.current = Status(state="failed", done=1, failed=1, total=2)
    client.job_there.outcomes = [value("one\n"), FAILED]
    result = windrow("run", "--range", "2", *URL, "--", "x", code=1)
    assert result.stdout == "one\n"
    assert "windrow: item 1 failed: the command exited with code 3\n  first\n  last\n" in result.stderr
    assert "windrow retry" in result.stderr


def test_json_has_a_line_for_each_item(client: type[Client]) -> None:
    client.job_there.current = Status(state="failed", done=1, failed=1, total=2)
    client.job_there.outcomes = [value("one\n"), FAILED]
    first, second = map(json.loads, windrow("run", "--json", *URL, "--", "x", code=1).stdout.splitlines())
    assert first == {"index": 0, "value": value("one\n")}
    assert (second["index"], second["error"]["log"], second["error"]["node"]) == (1, "first\nlast", "n1")


def test_outputs_that_lost_their_middle_are_counted(client: type[Client]) -> None:
    client.job_there.outcomes = [value("x", left_out=5), value("y")]
    assert "lost their middle: 1; --output-bytes" in windrow("run", "--range", "2", *URL, "--", "x").stderr


def test_detach_prints_the_id_alone(client: type[Client]) -> None:
    job = client.job_there.id
    assert windrow("run", "--detach", *URL, "--", "x").stdout == f"{job}\n"
    assert json.loads(windrow("run", "--detach", "--json", *URL, "--", "x").stdout) == {"id": job}


def test_ctrl_c_cancels_and_says_what_is_kept_and_how_to_start_again(client: type[Client]) -> None:
    client.job_there.outcomes = [value("one\n"), KeyboardInterrupt()]
    result = windrow("run", "--range", "2", *URL, "--", "x", code=130)
    assert result.stdout == "one\n"
    assert [call[0] for call in client.job_there.calls if isinstance(call, tuple)] == ["cancel"]
    assert f"windrow results --errors skip {client.job_there.id}" in result.stderr
    assert "start again with: windrow" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--range", "3"], "put -- before the command"),
        (["echo", "-n", "hi"], "put -- before the command"),
        (["echo", "--", "hi"], "unexpected extra argument (echo)"),
        (["--"], "there is no command"),
        (["--range", "3", "--each-line", "x", "--", "x"], "give one of them"),
        (["--range", "x", "--", "x"], "write A:B or A:B:STEP"),
        (["--each-line", "missing.txt", "--", "x"], "missing.txt: No such file"),
        (["--output", "a", "--no-output", "--", "x"], "--output and --no-output"),
        (["--key", "", "--", "x"], "at least one character"),
        (["--timeout", "-1", "--", "x"], "above 0"),
        (["--env", "A", "--", "x"], "NAME=VALUE"),
        (["--output-bytes", "900000000", "--", "x"], "--output-bytes"),
        (["--every-node", "--", "x"], "--every-node is not there yet"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_do(client: type[Client], arguments: list[str], message: str) -> None:
    assert message in windrow("run", *URL, *arguments, code=2).stderr
    assert not [call for made in client.made for call in made.calls]


def test_a_line_that_no_argument_can_hold_is_refused(client: type[Client]) -> None:
    result = windrow("run", "--each-line", "-", *URL, "--", "x", stdin="a\nb\0c\n", code=2)
    assert "line 2 has a character with the code 0" in result.stderr


def test_a_cluster_of_its_own_allows_commands_and_is_not_left_alone(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    @contextmanager
    def local(slots: int, allow_commands: bool = False) -> Iterator[Client]:
        asked.append(allow_commands)
        yield client("tcp://embedded:1")

    monkeypatch.setattr(importlib.import_module("windrow"), "local", local, raising=False)
    monkeypatch.setattr("windrow.cli.connect.something_listens", lambda _: False)
    assert "a cluster of my own" in windrow("run", "--", "x").stderr
    assert asked == [True]
    assert "start a cluster first: windrow up" in windrow("run", "--detach", "--", "x", code=2).stderr
