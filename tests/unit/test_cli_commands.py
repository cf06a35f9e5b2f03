"""Every command against a stub client: right and wrong input, exit codes, JSON keys; an error is a line."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from windrow.cli.app import COMMANDS, app
from windrow.common import config as config_module
from windrow.common.errors import (
    ExportError,
    MalformedMessage,
    NotFound,
    ProtocolMismatch,
    SchedulerUnreachable,
    UnknownTask,
    WindrowError,
)
from windrow.common.messages import FailureInfo, HealthInfo, NodeInfo, NodeLoad, SlotState, SourceError, TaskInfo
from windrow.common.options import OnLost, Options, make_options
from windrow.common.values import Call
from windrow.common.words import FailureKind, NodeId

JOB = "01ABCDEFGHJKMNPQ"


@dataclass(frozen=True)
class Status:
    """As windrow.JobStatus."""

    id: str = JOB
    name: str = "nightly"
    task: str = "mytasks:add"
    state: str = "done"
    open: bool = False
    total: int = 3
    done: int = 3
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    pending: int = 0
    queue: str = "default"
    priority: int = 0
    reason: str = ""
    created_s: float = 1000.0
    finished_s: float | None = 1002.5
    retried: int = 0


@dataclass(frozen=True)
class Explanation:
    """As windrow.Explanation."""

    reasons: tuple[str, ...]
    left_s: float | None
    status: Status


class BuiltinToo(WindrowError, TimeoutError):
    """As the TaskFailed of a task that raised TimeoutError."""

    type = "TimeoutError"
    node = "n1"
    attempts = 2


@dataclass
class Job:
    """As windrow.Job; `waits` are what wait() does, one after the other."""

    id: str = JOB
    current: Status = field(default_factory=Status)
    waits: list[Exception | type[BaseException]] = field(default_factory=list)
    outcomes: list[object] = field(default_factory=list)
    failed: list[FailureInfo] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    note: str = ""
    attempts: list[FailureInfo] = field(default_factory=list)
    reasons: tuple[str, ...] = ()
    left_s: float | None = None

    def status(self) -> Status:
        return self.current

    def wait(self, timeout: float | None = None) -> Status:
        if self.waits:
            raise self.waits.pop(0)
        return self.current

    def results(self, errors: str = "raise") -> Iterator[object]:
        for outcome in self.outcomes:
            if isinstance(outcome, KeyboardInterrupt):
                raise outcome
            yield outcome

    def as_completed(self) -> Iterator[tuple[int, object]]:
        yield from reversed(list(enumerate(self.outcomes)))

    def failures(self) -> Iterator[FailureInfo]:
        return iter(self.failed)

    def history(self, item: int) -> list[FailureInfo]:
        return [one for one in self.attempts if one.item == item]

    def retry_failed(self, items: Iterable[int] | None = None, *, error_type: str = "") -> int:
        self.calls.append(("retry", None if items is None else list(items), error_type))
        return self.current.failed

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def explain(self, item: int | None = None) -> Explanation:
        self.calls.append(("explain", item))
        return Explanation(self.reasons, self.left_s, self.current)

    def cancel(self, reason: str = "") -> None:
        self.calls.append(("cancel", reason))


class Client:
    """As windrow.Client; what it answers and what it was asked are the test's."""

    made: list[Client]
    job_there: Job
    raises: Exception | None
    node_list: list[NodeInfo]
    health_info: HealthInfo

    def __init__(self, url: str | None = None, *, timeout: float = 10.0) -> None:
        self.url, self.timeout = url, timeout
        self.calls: list[object] = []
        self.made.append(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _answer(self, *call: object) -> None:
        self.calls.append(call)
        if self.raises is not None:
            raise self.raises

    def start(
        self, task: str, items: Iterable[object], *, name: str = "", key: str | None = None, **options: object
    ) -> Job:
        self._answer("start", task, list(items), name, key, options)
        return self.job_there

    def job(self, job_id: str) -> Job:
        self._answer("job", job_id)
        if not (JOB.startswith(job_id) or job_id in ("last", "x", "a", "b")):
            raise NotFound(f"there is no job {job_id!r}; see `windrow jobs`")
        return self.job_there

    def jobs(self, limit: int = 100, state: str = "", streams: bool = False) -> list[Status]:
        self._answer("jobs", limit, state, streams)
        return [self.job_there.current] if self.job_there.id else []

    def nodes(self) -> list[NodeInfo]:
        self._answer("nodes")
        return self.node_list

    def drain(self, node: str) -> None:
        self._answer("drain", node)

    def resume(self, node: str) -> None:
        self._answer("resume", node)

    def health(self) -> HealthInfo:
        self._answer("health")
        return self.health_info


def node(name: str = "n1", **changes: Any) -> NodeInfo:
    made = NodeInfo(
        id=NodeId(f"id-{name}"),
        name=name,
        host="h",
        state="alive",
        slots=2,
        queues=("default",),
        labels={},
        tasks=(TaskInfo("mytasks:add", "1"),),
        errors=(),
        chunks=1,
        load=NodeLoad(12.0, 2, 10**9, 4 * 10**9, slots=(SlotState(1, "busy"), SlotState(2, "idle"))),
        heard_s_ago=0.4,
        version="0.1.0",
    )
    return dataclasses.replace(made, **changes)


HEALTH = HealthInfo(
    epoch=3,
    cluster="c",
    version="0.1.0",
    dispatch="local",
    broker="unknown",
    broker_detail="",
    store="ok",
    store_detail="",
    uptime_s=5.0,
    jobs=1,
    chunks=2,
    messages_refused=0,
)


def failure(item: int = 0, message: str = "boom", **changes: Any) -> FailureInfo:
    made = FailureInfo(item, FailureKind.ERROR, "ValueError", message, "Traceback\n  line\n", "n1", 2, 5.0)
    return dataclasses.replace(made, **changes)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    """The class that stands for windrow.Client, on a machine with no settings of its own."""
    for name in [name for name in os.environ if name.startswith("WINDROW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(config_module, "SYSTEM_FILE", tmp_path / "etc.toml")
    monkeypatch.chdir(tmp_path)
    stub = type(
        "Client",
        (Client,),
        {"made": [], "job_there": Job(), "raises": None, "node_list": [node()], "health_info": HEALTH},
    )
    monkeypatch.setattr(importlib.import_module("windrow"), "Client", stub, raising=False)
    monkeypatch.setattr("windrow.cli.commands.doctor.check_clock", _clock_is_right)
    return stub


def _clock_is_right() -> object:
    from windrow.cli.commands.doctor import Check

    return Check("clock", "ok", "synchronised")


def windrow(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    """Run a command; what holds for every one: the exit code, no traceback, one line for an error."""
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    assert result.exit_code == code, f"{result.output!r} {result.exception!r}"
    assert "Traceback (most" not in result.output
    if code in {2, 3, 4} and "doctor" not in arguments:
        lines = [line for line in result.stderr.splitlines() if line.startswith("windrow: ")]
        assert len(lines) == 1, result.stderr
    return result


def made_call(client: type[Client], name: str) -> Any:
    return next(call for call in client.made[-1].calls if isinstance(call, tuple) and call[0] == name)


# ── What holds for all commands ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_flags_and_its_help_line_is_its_own(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    flags = {option for parameter in command.params for option in parameter.opts}
    assert {"--url", "--config", "--json"} <= flags
    assert "Usage: windrow" in windrow(name, "-h").stdout


def test_help_and_version_need_no_command_module() -> None:
    result = windrow("--help")
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    assert windrow("-h").stdout == windrow().stdout == result.stdout


READING = [
    ["jobs"],
    ["job", "last"],
    ["wait", "x"],
    ["results", "x"],
    ["failures", "x"],
    ["retry", "x"],
    ["explain", "x"],
]
ASKING = [*READING, ["cancel", "x"], ["nodes"], ["drain", "n"], ["pause", "x"], ["resume", "n1"], ["submit", "m:t"]]


@pytest.mark.parametrize("arguments", ASKING, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SchedulerUnreachable("tcp://h:1 does not answer"), 3, "windrow: tcp://h:1 does not answer"),
        (NotFound("there is no such job\nat all"), 2, "windrow: there is no such job; at all"),
        (MalformedMessage("odd"), 1, "windrow: odd"),
        (RuntimeError("amqp://u:hunter2@h"), 1, "windrow: a fault in Windrow: RuntimeError: amqp://***@h"),
    ],
)
def test_errors_of_the_client_become_a_line_and_a_code(
    client: type[Client], arguments: list[str], error: Exception, code: int, text: str
) -> None:
    client.raises = error
    result = windrow(*arguments, code=code)
    assert result.stderr.strip().splitlines()[-1].startswith(text)
    assert result.stdout == ""


def test_debug_shows_the_traceback(client: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_DEBUG", "1")
    client.raises = RuntimeError("bug")
    result = CliRunner().invoke(app, ["jobs"])
    assert result.exception is client.raises


@pytest.mark.parametrize("arguments", ASKING, ids=lambda arguments: arguments[0])
def test_a_wrong_setting_stops_every_command_with_one_line(client: type[Client], arguments: list[str]) -> None:
    Path("bad.toml").write_text("[client]\nurll = 1\n")
    result = windrow(*arguments, "--config", "bad.toml", code=2)
    assert "bad.toml: there is no setting client.urll (did you mean url?)" in result.stderr
    assert not client.made


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["job"], "Missing argument 'ID'; windrow job -h shows the usage"),
        (["jbo", "x"], "there is no command 'jbo'; did you mean job?"),
        (["zzz"], "windrow -h lists the commands"),
        (["jobs", "--bogus"], "No such option"),
        (["--bogus"], "No such option"),
        (["jobs", "--limit", "0"], "Invalid value for '--limit'"),
        (["jobs", "--state", "odd"], "Invalid value for '--state'"),
        (["wait"], "Missing argument"),
        (["wait", "x", "--timeout", "-1"], "--timeout"),
        (["results", "x", "--errors", "odd"], "--errors"),
        (["retry", "x", "--items", "5:2"], "--items 5:2: write A:B"),
        (["submit"], "Missing argument 'TASK'"),
        (["submit", "t", "--args", "{"], "--args: not JSON"),
        (["submit", "t", "--range", "x"], "--range x: write A:B"),
        (["submit", "t", "--items", "nowhere.jsonl"], "--items nowhere.jsonl: No such file or directory"),
        (["submit", "t", "--items", "a", "--range", "1"], "--items and --range: give one of them"),
        (["submit", "t", "--wait-timeout", "1"], "--wait-timeout only goes with --wait"),
        (["submit", "t", "--timeout", "long"], "--timeout"),
        (["submit", "t", "--on-lost", "odd"], "--on-lost"),
        (["submit", "t", "--max-failures", "1.5"], "--max-failures"),
        (["explain", "x/y"], "x/y: write JOB or JOB/INDEX"),
        (["explain", "x/1", "--item", "2"], "the item is named twice: x/1 and --item 2"),
        (["explain", "x", "--item", "-1"], "--item"),
        (["retry", "x/1", "--items", "2"], "the items are named twice: x/1 and --items 2"),
        (["pause"], "Missing argument 'ID'"),
        (["pause", "nowhere"], "there is no job 'nowhere'"),
        (["resume", "nowhere"], "no node is called 'nowhere', and there is no job 'nowhere'"),
        (["submit", "t", "--priority", "high"], "--priority"),
        (
            ["jobs", "--url", "localhost"],
            "--url: client.url = 'localhost': must be the scheduler's address: tcp://host:port",
        ),
        (["jobs", "--config", "nowhere.toml"], "--config nowhere.toml: there is no such file"),
        (["up", "--url", "tcp://h:1"], "choose its address with --port"),
        (["up", "--nodes", "0"], "--nodes"),
        (["up", "--port", "x"], "--port: scheduler.port = 'x': must be a port, 0 to 65535"),
        (["scheduler", "--bind", "0.0.0.0"], "--bind: scheduler.bind = '0.0.0.0': everything binds to loopback until"),
        (["scheduler", "--amqp", "rabbit"], "--amqp: scheduler.amqp_url = 'rabbit': must be the address of a RabbitMQ"),
        (["node", "--slots", "none"], "--slots: node.slots = 'none': must be a number of worker processes"),
        (["node", "--labels", "a"], "--labels: node.labels = 'a': labels are name=value"),
        (["node", "--log-level", "loud"], "--log-level: log.level = 'loud': must be debug, info, warning or error"),
        (["export", "a.csv"], "Missing argument 'DEST'"),
        (["export", "a.csv", "b.csv", "--to", "xls"], "--to"),
        (["export", "--spec", "none.toml"], "--spec none.toml cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line_and_exit_code_2(client: type[Client], arguments: list[str], text: str) -> None:
    assert text in windrow(*arguments, code=2).stderr


def test_the_client_gets_the_address_and_the_time(client: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_CLIENT__TIMEOUT_S", "3")
    windrow("jobs", "--url", "tcp://far:1")
    assert (client.made[-1].url, client.made[-1].timeout) == ("tcp://far:1", 3.0)


# ── submit and wait ──────────────────────────────────────────────────────────────────────────────────────────────


def test_submit_prints_the_id(client: type[Client]) -> None:
    assert windrow("submit", "mytasks:add", "--args", "[1, 2]").stdout == f"{JOB}\n"
    assert made_call(client, "start") == ("start", "mytasks:add", [(1, 2)], "", None, {})
    assert json.loads(windrow("submit", "t", "--json").stdout) == {"id": JOB}


def test_submit_passes_items_options_key_and_name(client: type[Client]) -> None:
    Path("items.jsonl").write_text('[1, 2]\n{"x": 3}\n"y"\n')
    options = ["--queue", "q", "--priority", "-2", "--retries", "3", "--backoff", "0.5", "--delay", "1", "--idempotent"]
    windrow("submit", "t", "--items", "items.jsonl", "--key", "k", "--name", "n", *options)
    expected = {"queue": "q", "priority": -2, "retries": 3, "backoff": 0.5, "delay": 1.0, "idempotent": True}
    assert made_call(client, "start") == ("start", "t", [(1, 2), Call((), {"x": 3}), "y"], "n", "k", expected)


def test_submit_passes_what_is_to_happen_when_items_fail(client: type[Client]) -> None:
    limits = ["--timeout", "30", "--soft-timeout", "2.5", "--max-failures", "0", "--on-lost", "fail"]
    errors = ["--retry-on", "ValueError", "--retry-on", "shop.Busy", "--never-retry-on", "KeyError"]
    windrow("submit", "t", *limits, *errors)
    given = made_call(client, "start")[-1]
    assert given == {
        "timeout": 30.0,
        "soft_timeout": 2.5,
        "max_failures": 0,
        "on_lost": "fail",
        "retry_on": ("ValueError", "shop.Busy"),
        "never_retry_on": ("KeyError",),
    }
    assert make_options(given) == Options(
        retry_on=("ValueError", "shop.Busy"), never_retry_on=("KeyError",), timeout_s=30.0, soft_timeout_s=2.5,
        max_failures=0, on_lost=OnLost.FAIL,
    )  # fmt: skip


def test_submit_reads_lines_from_standard_input(client: type[Client]) -> None:
    windrow("submit", "t", "--each-line", "-", stdin="a\nb\n")
    assert made_call(client, "start")[2] == ["a", "b"]


def test_submit_says_what_the_client_warns_of(client: type[Client]) -> None:
    client.job_there.note = "no live node offers t"
    assert windrow("submit", "t").stderr == "windrow: no live node offers t\n"


def test_submit_of_a_refused_task_is_exit_code_2(client: type[Client]) -> None:
    client.raises = UnknownTask("no node offers t; did you mean tt?")
    assert windrow("submit", "t", code=2).stderr == "windrow: no node offers t; did you mean tt?\n"


def test_submit_wait_shows_progress_and_the_end(client: type[Client]) -> None:
    client.job_there.waits = [TimeoutError(), TimeoutError()]
    result = windrow("submit", "t", "--range", "3", "--wait")
    assert result.stdout == f"job {JOB} done in 2.5 s: 3 done\n"
    assert "nightly: 3 of 3 items (100 %)" in result.stderr


def test_submit_wait_is_exit_code_1_when_items_failed(client: type[Client]) -> None:
    client.job_there.current = Status(state="failed", done=1, failed=2, retried=4)
    result = windrow("submit", "t", "--wait", code=1)
    assert result.stdout == f"job {JOB} failed in 2.5 s: 1 done, 2 failed, 4 attempts repeated\n"
    assert f"windrow failures {JOB}" in result.stderr
    document = json.loads(windrow("submit", "t", "--wait", "--json", code=1).stdout)
    assert document == {
        field.name: getattr(client.job_there.current, field.name) for field in dataclasses.fields(Status)
    }


@pytest.mark.parametrize("arguments", [["submit", "t", "--wait"], ["wait", "last"]], ids=["submit", "wait"])
def test_ctrl_c_stops_the_waiting_and_says_how_to_come_back(client: type[Client], arguments: list[str]) -> None:
    client.job_there.waits = [KeyboardInterrupt]
    result = windrow(*arguments, code=130)
    assert result.stderr.splitlines()[-1].endswith(f"the work goes on; come back with: windrow wait {JOB}")
    assert not client.job_there.calls, "nothing may be cancelled"


def test_wait_is_exit_code_4_when_the_time_is_over(client: type[Client]) -> None:
    client.job_there.current = Status(state="running", done=1, running=2, finished_s=None)
    client.job_there.waits = [TimeoutError()] * 3
    result = windrow("wait", "last", "--timeout", "0", code=4)
    assert f"windrow: job {JOB} has not ended within 0 s (1 of 3 items have)" in result.stderr


def test_wait_takes_several_jobs_and_is_1_unless_all_are_done(client: type[Client]) -> None:
    assert windrow("wait", "a", "b").stdout.count("done") == 4
    client.job_there.current = Status(state="cancelled", done=1, cancelled=2, reason="enough")
    result = windrow("wait", "a", code=1)
    assert result.stdout == f"job {JOB} cancelled in 2.5 s: 1 done, 2 cancelled (enough)\n"
    assert [job["state"] for job in json.loads(windrow("wait", "a", "--json", code=1).stdout)["jobs"]] == ["cancelled"]


# ── jobs and their outcomes ──────────────────────────────────────────────────────────────────────────────────────


def test_jobs_lists_and_filters(client: type[Client]) -> None:
    result = windrow("jobs", "--state", "done", "--limit", "5", "--streams")
    assert made_call(client, "jobs") == ("jobs", 5, "done", True)
    header, row = result.stdout.splitlines()
    assert header.split() == ["id", "name", "state", "total", "done", "failed", "running", "pending", "age"]
    assert row.split()[:3] == [JOB, "nightly", "done"]
    (job,) = json.loads(windrow("jobs", "--json").stdout)["jobs"]
    assert job["id"] == JOB
    assert {"id", "name", "task", "state", "open", "total", "done", "failed", "cancelled", "running", "pending"} <= set(
        job
    )


def test_no_jobs_is_no_error(client: type[Client]) -> None:
    client.job_there.id = ""
    assert windrow("jobs").stderr == "no jobs\n"
    assert json.loads(windrow("jobs", "--json").stdout) == {"jobs": []}


def test_job_shows_one(client: type[Client]) -> None:
    client.job_there.current = Status(state="failed", failed=1, done=2, reason="max", retried=2)
    lines = dict(line.split(maxsplit=1) for line in windrow("job", "last").stdout.splitlines())
    assert (lines["id"], lines["state"], lines["reason"], lines["repeated"]) == (JOB, "failed", "max", "2 attempts")
    assert json.loads(windrow("job", "last", "--json").stdout)["failed"] == 1


def test_a_paused_job_says_how_it_goes_on(client: type[Client]) -> None:
    client.job_there.current = Status(state="paused", done=1, pending=2, finished_s=None)
    assert f"state      paused (windrow resume {JOB} goes on with it)" in windrow("job", "last").stdout
    client.job_there.waits = [TimeoutError()] * 3
    result = windrow("wait", "last", "--timeout", "0", code=4)
    assert f"paused (windrow resume {JOB})" in result.stderr


@pytest.mark.parametrize(
    ("state", "reason"), [("failed", "more than 5 items failed (max_failures)"), ("cancelled", "enough")]
)
def test_a_stopped_or_cancelled_job_says_why(client: type[Client], state: str, reason: str) -> None:
    client.job_there.current = Status(state=state, done=1, failed=2, reason=reason)
    assert f"reason     {reason}\n" in windrow("job", "last").stdout
    assert windrow("wait", "last", code=1).stdout.endswith(f" ({reason})\n")


def test_explain_says_the_reasons_and_the_time_left(client: type[Client]) -> None:
    job = client.job_there
    job.current = Status(state="running", done=1, running=1, pending=1, finished_s=None)
    job.reasons, job.left_s = ("no live node offers mytasks:add", "1 item waits for amqp://u:hunter2@h"), 3725.0
    assert windrow("explain", "last").stdout.splitlines() == [
        f"job {JOB} is running: 1 of 3 items have ended",
        "  no live node offers mytasks:add",
        "  1 item waits for amqp://***@h",
        "time left: about 1 h 02 min",
    ]
    document = json.loads(windrow("explain", "last/17", "--json").stdout)
    assert document == {
        "id": JOB, "item": 17, "state": "running", "reasons": list(job.reasons), "left_s": 3725.0,
    }  # fmt: skip
    windrow("explain", "last", "--item", "4")
    assert job.calls == [("explain", None), ("explain", 17), ("explain", 4)]
    assert made_call(client, "job") == ("job", "last")


def test_explain_says_so_when_there_is_nothing_to_say(client: type[Client]) -> None:
    client.job_there.current = Status(state="running", done=1, running=2, finished_s=None)
    lines = windrow("explain", "last", "--item", "2").stdout.splitlines()
    assert lines[1:] == ["  nothing keeps item 2 from going on", "time left: nobody can say yet"]
    assert json.loads(windrow("explain", "last", "--json").stdout)["left_s"] is None
    client.job_there.current, client.job_there.reasons = Status(), ("every item is done",)
    assert windrow("explain", "last").stdout.splitlines()[1:] == ["  every item is done"]


def test_results_are_json_lines_in_order(client: type[Client]) -> None:
    client.job_there.outcomes = [1, "zwei", {"a": b"\xff"}, None]
    lines = windrow("results", "last").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [1, "zwei", {"a": "b'\\xff'"}, None]
    lines = windrow("results", "last", "--json").stdout.splitlines()
    assert json.loads(lines[1]) == {"index": 1, "value": "zwei"}


def test_results_stop_skip_or_hold_the_place_at_a_failed_item(client: type[Client]) -> None:
    client.job_there.outcomes = [1, BuiltinToo("slow"), 3]
    stopped = windrow("results", "last", code=1)
    assert stopped.stdout == "1\n"
    assert stopped.stderr.startswith("windrow: item 1 has no result: slow; --errors skip")
    assert windrow("results", "last", "--errors", "skip", code=1).stdout == "1\n3\n"
    assert windrow("results", "last", "--errors", "return", code=1).stdout == "1\nnull\n3\n"
    lines = windrow("results", "last", "--json", code=1).stdout.splitlines()
    error = {"type": "TimeoutError", "message": "slow", "node": "n1", "attempts": 2}
    assert [json.loads(line) for line in lines] == [
        {"index": 0, "value": 1},
        {"index": 1, "error": error},
        {"index": 2, "value": 3},
    ]


def test_ctrl_c_in_results_says_how_to_come_back(client: type[Client]) -> None:
    client.job_there.outcomes = [1, KeyboardInterrupt()]
    assert f"windrow results {JOB}" in windrow("results", "last", code=130).stderr


def test_equal_failures_are_one_line_with_their_number(client: type[Client]) -> None:
    client.job_there.failed = [failure(9, "rare"), *(failure(item) for item in range(5))]
    lines = windrow("failures", "last").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["count", "5", "1"]
    assert "ValueError: boom" in lines[1]
    assert "0, 1, 2, …" in lines[1]
    verbose = windrow("failures", "last", "-v").stdout
    assert verbose.count("    Traceback") == 2


def test_errors_that_differ_in_numbers_addresses_and_ids_are_one_line(client: type[Client]) -> None:
    texts = [
        "line 5 of <Row at 0x7f3a5c00> took 0.5 s, 10.0.0.1:5432, id 6fa459ea-ee8a-3ca4-894e-db77e160355e, 9e107d9d",
        "line 17 of <Row at 0x7f3a5d00> took 12 s, 10.0.0.22:5, id 16fd2706-8baf-433b-82eb-8c7fada847da, 0f343b09",
    ]
    client.job_there.failed = [failure(item, texts[item % 2]) for item in range(4)]
    client.job_there.failed += [failure(4, texts[0], kind=FailureKind.TIMEOUT), failure(5, texts[0], type="KeyError")]
    client.job_there.failed += [failure(6, "deadbeef is no digest"), failure(7, "decade is no digest")]
    rows = [line.split(maxsplit=2) for line in windrow("failures", "last").stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["4", "error"], ["1", "timeout"], *[["1", "error"]] * 3]
    assert rows[0][2].startswith("ValueError: line … of <Row at …> took … s, …, id …, … ")
    assert texts[0] in rows[1][2], "one alone is shown as it is"


def test_errors_beyond_those_that_are_told_apart_are_counted_together(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("windrow.cli.commands.outcomes.GROUPS_MAX", 2)
    client.job_there.failed = [failure(item, text) for item, text in enumerate("abcdab")]
    rows = [line.split()[:4] for line in windrow("failures", "last").stdout.splitlines()[1:]]
    assert rows[:2] == [["2", "error", "ValueError:", "a"], ["2", "error", "ValueError:", "b"]]
    assert rows[2][:1] + rows[2][2:] == ["2", "other", "errors"]


def test_each_failure_shows_all_that_is_known_of_it(client: type[Client]) -> None:
    crash = failure(
        7, "signal 9", kind=FailureKind.CRASH, type="WorkerCrashed", traceback="", log="one\n\x1b[2Jtwo\n",
        memory_bytes_peak=3 * 10**9, attempts=3,
    )  # fmt: skip
    client.job_there.failed = [crash, failure(8)]
    client.job_there.attempts = [failure(7, "first", attempts=1, failed_s=4.0), crash, failure(8)]
    lines = windrow("failures", "last", "--each", "-v").stdout.splitlines()
    second = lines.index("8  ValueError: boom  (node n1, attempt 2)")
    assert lines[0] == "7  WorkerCrashed: signal 9  (node n1, attempt 3)"
    assert lines[1].startswith("    kind crash, peak memory 3.0 GB, 1970-")
    assert lines[2:5] == ["    last lines of the worker:", "    | one", "    | \\x1b[2Jtwo"]
    assert lines[5].startswith("    failed attempts")
    assert lines[6].startswith("    1. 1970-")
    assert lines[6].endswith(" on node n1: ValueError: first")
    assert lines[7].startswith("    3. 1970-")
    assert lines[second + 1 : second + 3] == [lines[second + 1], "    Traceback"]
    assert not any("failed attempts" in line for line in lines[second:]), "one attempt is no history"
    documents = [json.loads(line) for line in windrow("failures", "last", "--json", "-v").stdout.splitlines()]
    assert [[one["attempts"] for one in document["history"]] for document in documents] == [[1, 3], [2]]
    assert documents[0]["log"] == "one\n\x1b[2Jtwo\n"


def test_failures_can_be_listed_each_or_as_json_lines(client: type[Client]) -> None:
    client.job_there.failed = [failure(item) for item in range(2)]
    lines = windrow("failures", "last", "--each").stdout.splitlines()
    assert lines[1] == "1  ValueError: boom  (node n1, attempt 2)"
    lines = windrow("failures", "last", "--json").stdout.splitlines()
    keys = {"item", "kind", "type", "message", "traceback", "node", "attempts", "failed_s", "log"}
    keys |= {"memory_bytes_peak"}
    assert [set(json.loads(line)) for line in lines] == [keys, keys]


def test_no_failures_is_no_error(client: type[Client]) -> None:
    assert windrow("failures", "last").stderr == f"no failures in job {JOB}\n"
    assert windrow("failures", "last", "--each").stdout == ""
    assert windrow("failures", "last", "--json").stdout == ""


def test_retry_takes_all_or_some(client: type[Client]) -> None:
    client.job_there.current = Status(failed=2)
    assert windrow("retry", "last").stdout.startswith(f"2 items of job {JOB} run again")
    assert json.loads(windrow("retry", "last", "--items", "0:2,7", "--json").stdout) == {"id": JOB, "retried": 2}
    windrow("retry", "last", "--type", "shop.Busy", "--items", "3")
    windrow("retry", f"{JOB}/17")
    assert made_call(client, "job") == ("job", JOB)
    assert client.job_there.calls == [
        ("retry", None, ""),
        ("retry", [0, 1, 7], ""),
        ("retry", [3], "shop.Busy"),
        ("retry", [17], ""),
    ]
    client.job_there.current = Status()
    assert "nothing to run again" in windrow("retry", "last").stdout
    assert "no failed items of type KeyError in job" in windrow("retry", "last", "--type", "KeyError").stdout


def test_cancel_passes_the_reason(client: type[Client]) -> None:
    client.job_there.current = Status(state="running", running=2, finished_s=None)
    result = windrow("cancel", "last", "--reason", "enough")
    assert client.job_there.calls == [("cancel", "enough")]
    assert "cancelling what is not finished" in result.stdout
    assert json.loads(windrow("cancel", "last", "--json").stdout)["state"] == "running"


# ── nodes, doctor, config ────────────────────────────────────────────────────────────────────────────────────────


def test_nodes_shows_load_errors_and_version_differences(client: type[Client]) -> None:
    other = node("n2", tasks=(TaskInfo("mytasks:add", "2"),), errors=(SourceError("bad", "Trace\nImportError: no x"),))
    gone = node("n3", state="gone", tasks=(TaskInfo("mytasks:add", "0"),), load=None)
    client.node_list = [node(), other, gone]
    result = windrow("nodes", "--tasks")
    assert "1/2" in result.stdout
    assert "12 %" in result.stdout
    assert "n1: mytasks:add (1)" in result.stdout
    assert "windrow: node n2 could not import bad: ImportError: no x" in result.stderr
    assert "nodes have different code of mytasks:add: 1 on n1, 2 on n2" in result.stderr
    document = json.loads(windrow("nodes", "--json").stdout)
    assert [entry["state"] for entry in document["nodes"]] == ["alive", "alive", "gone"]
    assert len(document["warnings"]) == 1


def test_no_nodes_says_how_to_start_one(client: type[Client]) -> None:
    client.node_list = []
    assert "windrow up" in windrow("nodes").stderr


def test_drain_and_resume_pass_the_node(client: type[Client]) -> None:
    assert windrow("drain", "n1").stdout == "node n1 drains; windrow resume n1 undoes it\n"
    assert made_call(client, "drain") == ("drain", "n1")
    assert json.loads(windrow("resume", "n1", "--json").stdout) == {"node": "n1", "draining": False}


def test_a_drained_node_works_again(client: type[Client]) -> None:
    assert windrow("resume", "n1").stdout == "node n1 works again\n"
    assert made_call(client, "resume") == ("resume", "n1")
    assert client.job_there.calls == []


def test_a_job_is_paused_and_resumed(client: type[Client]) -> None:
    client.job_there.current = Status(state="paused", done=0, running=1, pending=2, finished_s=None)
    result = windrow("pause", "last")
    assert result.stdout == f"job {JOB} is paused; windrow resume {JOB} goes on with it\n"
    assert "1 item is running" in result.stderr
    assert json.loads(windrow("pause", "last", "--json").stdout)["state"] == "paused"
    for name in ("last", JOB[:4], JOB):
        assert windrow("resume", name).stdout == f"job {JOB} goes on: 2 items wait\n"
        assert not any(call[0] == "resume" for call in client.made[-1].calls if isinstance(call, tuple))
    assert json.loads(windrow("resume", "last", "--json").stdout)["id"] == JOB
    assert client.job_there.calls == ["pause"] * 2 + ["resume"] * 4


def test_a_name_that_could_be_a_jobs_or_a_nodes_is_not_guessed(client: type[Client]) -> None:
    client.node_list = [node(JOB[:4]), node("other")]
    result = windrow("resume", JOB[:4], code=2)
    assert f"'{JOB[:4]}' could be job {JOB} or node {JOB[:4]} (id id-{JOB[:4]})" in result.stderr
    assert client.job_there.calls == []
    assert windrow("resume", JOB).stdout.startswith(f"job {JOB} goes on")


def doctor(code: int) -> dict[str, str]:
    document = json.loads(windrow("doctor", "--json", code=code).stdout)
    assert document["ok"] == all(check["state"] != "bad" for check in document["checks"])
    return {check["name"]: check["state"] for check in document["checks"]}


def test_doctor_finds_all_well(client: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windrow.cli.commands.doctor.own_version", lambda: "0.1.0")
    names = ["scheduler", "version", "store", "broker", "nodes", "tasks", "disk", "clock"]
    assert doctor(0) == dict.fromkeys(names, "ok")
    assert windrow("doctor").stdout.splitlines()[1].split()[:2] == ["ok", "scheduler"]


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        (lambda c: setattr(c, "node_list", []), "nodes"),
        (lambda c: setattr(c, "node_list", [node(), node("n2", state="lost")]), "nodes"),
        (lambda c: setattr(c, "node_list", [node(errors=(SourceError("m", "E"),))]), "tasks"),
        (lambda c: setattr(c, "health_info", dataclasses.replace(HEALTH, store="bad")), "store"),
        (lambda c: setattr(c, "health_info", dataclasses.replace(HEALTH, dispatch="amqp", broker="bad")), "broker"),
    ],
)
def test_doctor_is_exit_code_1_when_something_is_bad(
    client: type[Client], change: Callable[[type[Client]], None], bad: str
) -> None:
    change(client)
    assert [name for name, state in doctor(1).items() if state == "bad"] == [bad]


@pytest.mark.parametrize(
    ("error", "code"), [(SchedulerUnreachable("no"), 3), (ProtocolMismatch("version 9"), 1), (WindrowError("odd"), 1)]
)
def test_doctor_without_a_scheduler_still_looks_at_this_machine(
    client: type[Client], error: Exception, code: int
) -> None:
    client.raises = error
    states = doctor(code)
    assert (states["scheduler"], states["store"], states["disk"]) == ("bad", "unknown", "ok")


def test_config_shows_values_and_sources_without_passwords(
    client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDROW_AMQP_URL", "amqp://u:hunter2@h/v")
    Path("windrow.toml").write_text("[node]\nslots = 7\n")
    result = windrow("config", "--url", "tcp://h:1")
    assert "hunter2" not in result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["client.url"] == ["tcp://h:1", "flag", "--url"]
    assert rows["node.slots"] == ["7", "file", "windrow.toml"]
    document = json.loads(windrow("config", "--json").stdout)
    expected = {"value": "amqp://***@h/v", "source": "env", "place": "WINDROW_AMQP_URL"}
    assert document["settings"]["scheduler.amqp_url"] == expected
    assert document["file"] == "windrow.toml"


# ── daemons and export ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [(["scheduler", "--state", "s", "--port", "0"], "windrow.scheduler.service", "run_scheduler"),
     (["node", "--state", "s", "--tasks", "m", "--tasks", "./n.py"], "windrow.node.daemon", "run_node")],
)  # fmt: skip
def test_daemons_get_their_settings_and_give_their_exit_code(
    client: type[Client], monkeypatch: pytest.MonkeyPatch, arguments: list[str], module: str, function: str
) -> None:
    seen: list[Any] = []

    def run(settings: object, *_: object) -> int:
        seen.append(settings)
        return 7

    monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{function: run}))
    monkeypatch.setattr("windrow.common.logs.setup_logs", lambda *_: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    windrow(*arguments, code=7)
    assert seen[0].state_dir == Path("s").absolute()
    if function == "run_node":
        assert seen[0].tasks == ("m", "./n.py")
        assert str(Path.cwd()) in sys.path


@dataclass
class Run:
    """As windrow.export.ExportRun."""

    waits: list[Exception | type[BaseException]] = field(default_factory=list)
    cancelled: bool = False
    has_parts: bool = False
    id: str = JOB
    dest: str = "/there/b.csv"

    def progress(self) -> object:
        return types.SimpleNamespace(
            phase="converting", segments_done=1, segments_total=4, rows=10, bytes_written=2000, bad_rows=3,
            source_bytes_done=5000, notes=("one thing to know",),
        )  # fmt: skip

    def wait(self, timeout: float | None = None) -> object:
        if self.waits:
            raise self.waits.pop(0)
        return types.SimpleNamespace(
            path="out.csv", rows=40, rows_in=50, bad_rows=3, side_file="out.csv.errors.csv", bytes=8000, files=1,
            segments=4, sha256="ab", seconds=2.0, notes=("one thing to know",),
        )  # fmt: skip

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def exporting(client: type[Client], monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stands for windrow.export; `run` is what it starts, `specs` what it was asked for."""
    stub = types.SimpleNamespace(run=Run(), specs=[], embedded=[])

    def start_export(client: object, spec: object) -> Run:
        stub.specs.append((client, spec))
        if isinstance(stub.run, Exception):
            raise stub.run
        return stub.run

    @contextmanager
    def local(slots: int = 1) -> Iterator[Client]:
        stub.embedded.append(slots)
        yield client("tcp://embedded:1")

    from windrow.export.spec import read_spec_file

    def preview(url: str, _: object, spec: object) -> object:
        stub.previews.append((url, spec))
        return types.SimpleNamespace(
            about="in → out", schema=[("a", "int64")], rows=[("1",), ("2",)], segments=3, rows_estimate=1000,
            bytes_estimate=2000, slot_seconds=4.0, notes=("a note",), to_dict=lambda: {"segments": 3},
        )  # fmt: skip

    stub.previews = []
    stub.start_export, stub.spec_from_options, stub.read_spec_file, stub.preview = (
        start_export, dict, read_spec_file, preview,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "windrow.export", stub)
    monkeypatch.setattr(importlib.import_module("windrow"), "local", local, raising=False)
    monkeypatch.setattr("windrow.cli.connect.something_listens", lambda _: False)
    return stub


def test_export_passes_what_was_asked_and_sums_up(exporting: types.SimpleNamespace) -> None:
    exporting.run.waits = [TimeoutError()]
    flags = [
        "--columns",
        'a, b:c,"x,y"',
        "--where",
        "a > 1",
        "--cast",
        "a:int64",
        "--cast",
        "b:decimal(9,2)",
        "--force",
    ]
    result = windrow("export", "in.csv", "out.csv", *flags, "--to", "csv", "--delimiter", ";", "--url", "tcp://h:1")
    client, spec = exporting.specs[0]
    assert client.url == "tcp://h:1"
    assert spec == {
        "source": "in.csv", "dest": "out.csv", "columns": 'a, b:c,"x,y"', "where": "a > 1",
        "cast": ("a:int64", "b:decimal(9,2)"), "to": "csv", "delimiter": ";", "force": True,
    }  # fmt: skip
    assert result.stdout == (
        "out.csv: 40 rows of 50 read, 8.0 kB in 2.0 s, 20 rows/s\n3 bad rows: out.csv.errors.csv\n"
    )
    assert "2/3 convert: 1 of 4 segments (25 %), 10 rows, 2.0 kB, 3 bad rows" in result.stderr
    assert result.stderr.count("windrow: one thing to know\n") == 1


def test_every_flag_of_export_reaches_it_and_beats_the_file(exporting: types.SimpleNamespace) -> None:
    Path("e.toml").write_text('source = "a.csv"\ndest = "b.csv"\nlimit = 3\ntrim = true\nquote = "none"\n')
    flags = {
        "--quote": "'", "--escape": "!", "--encoding": "gbk", "--infer": "full", "--drop-null": "a",
        "--dedupe-by": "b,c", "--limit": "7", "--max-errors": "1%", "--compression": "gzip",
        "--to-encoding": "big5", "--to-delimiter": "tab",
        "--partition-by": "k", "--segment-bytes": "99",
    }  # fmt: skip
    alone = ["--no-header", "--empty-null", "--manifest"]
    windrow(
        "export", "--spec", "e.toml", *[part for flag in flags.items() for part in flag], *alone, "--url", "tcp://h:1"
    )
    (_, spec) = exporting.specs[-1]
    expected = {flag.removeprefix("--").replace("-", "_"): value for flag, value in flags.items()}
    assert spec == {
        **expected, "limit": 7, "segment_bytes": 99, "header": False, "empty_null": True, "manifest": True,
        "trim": True, "source": "a.csv", "dest": "b.csv",
    }  # fmt: skip


def test_export_detached_prints_the_id_and_needs_a_cluster_that_stays(exporting: types.SimpleNamespace) -> None:
    assert windrow("export", "a.csv", "b.csv", "--detach", "--url", "tcp://h:1").stdout == f"{JOB}\n"
    assert "start a cluster first: windrow up" in windrow("export", "a.csv", "b.csv", "--detach", code=2).stderr
    assert exporting.embedded == []


def test_a_dry_run_starts_nothing(exporting: types.SimpleNamespace) -> None:
    result = windrow("export", "a.csv", "b.csv", "--dry-run")
    assert exporting.specs == exporting.embedded == []
    assert exporting.previews[0][1] == {"source": "a.csv", "dest": "b.csv"}
    assert "a       int64" in result.stdout
    assert "about 3 segments, 1,000 rows and 2.0 kB to write; about 4.0 s of one slot's time" in result.stdout
    assert "windrow: a note" in result.stderr
    assert json.loads(windrow("export", "a.csv", "b.csv", "--dry-run", "--json").stdout) == {"segments": 3}


def test_export_as_json(exporting: types.SimpleNamespace) -> None:
    document = json.loads(windrow("export", "a.csv", "b.csv", "--json", "--url", "tcp://h:1").stdout)
    assert document == {
        "path": "out.csv", "rows": 40, "rows_in": 50, "bad_rows": 3, "side_file": "out.csv.errors.csv", "bytes": 8000,
        "files": 1, "segments": 4, "sha256": "ab", "seconds": 2.0, "notes": ["one thing to know"],
    }  # fmt: skip


def test_export_starts_a_cluster_of_its_own_only_where_none_was_named(
    exporting: types.SimpleNamespace, client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = windrow("export", "a.csv", "b.csv")
    assert len(exporting.embedded) == 1
    assert [line for line in result.stderr.splitlines() if "a cluster of my own" in line]
    monkeypatch.setattr("windrow.cli.connect.something_listens", lambda _: True)
    windrow("export", "a.csv", "b.csv")
    monkeypatch.setattr("windrow.cli.connect.something_listens", lambda _: False)
    monkeypatch.setenv("WINDROW_URL", "tcp://named:1")
    windrow("export", "a.csv", "b.csv")
    assert len(exporting.embedded) == 1
    assert client.made[-1].url == "tcp://named:1"


def test_export_that_is_refused_is_2_and_that_fails_on_the_way_is_1(exporting: types.SimpleNamespace) -> None:
    named = ("--url", "tcp://h:1")
    exporting.run = ExportError("b.csv exists: --force replaces it")
    assert windrow("export", "a.csv", "b.csv", *named, code=2).stderr == "windrow: b.csv exists: --force replaces it\n"
    for error in (ExportError("line 7: no number"), BuiltinToo("line 7: no number")):
        exporting.run = Run(waits=[error])
        assert "line 7: no number" in windrow("export", "a.csv", "b.csv", code=1).stderr


def test_ctrl_c_in_export_cancels_and_says_how_to_start_again(exporting: types.SimpleNamespace) -> None:
    exporting.run.waits = [KeyboardInterrupt]
    assert "start again with: windrow" in windrow("export", "a.csv", "b.csv", code=130).stderr
    assert exporting.run.cancelled
    exporting.run = Run(waits=[KeyboardInterrupt], has_parts=True)
    assert "the finished parts are kept; go on with: windrow" in windrow("export", "a.csv", "b.csv", code=130).stderr
