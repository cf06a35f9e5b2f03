"""Names, ids and addresses that users give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import windrow
from windrow import UsageError, task
from windrow.client.address import find_address
from windrow.client.ids import draw_id, parse_call_id
from windrow.client.targets import name_target
from windrow.common.errors import NotFound
from windrow.common.options import Options


@task(name="shop:add", retries=3, priority=1)
def add(x: int, y: int) -> int:
    return x + y


class Holder:
    """Has a method."""

    def method(self) -> None:
        pass


def test_what_the_call_says_beats_what_the_task_says() -> None:
    named = name_target(add.options(priority=9))
    assert named.task == "shop:add"
    assert named.options() == Options(priority=9, retries=3)
    assert named.options(Options(retries=0)) == Options(priority=9, retries=0)


def test_an_exception_class_of_a_script_is_named_as_nodes_will_know_it(tmp_path: Path) -> None:
    script = tmp_path / "myscript.py"
    script.write_text(
        "import windrow, windrow.common.errors as errors\n"
        "class Busy(Exception): pass\n"
        "@windrow.task(retry_on=(Busy, OSError), never_retry_on=errors.UsageError)\n"
        "def work(): pass\n"
        "print(work.name, work.task_options.retry_on, work.task_options.never_retry_on)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "myscript:work ('myscript.Busy', 'OSError') ('windrow.common.errors.UsageError',)"


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_functions_and_names_are_targets_too() -> None:
    assert name_target(json.dumps).task == "json:dumps"
    assert name_target("shop:add").task == "shop:add"


@pytest.mark.parametrize("target", [lambda: 1, Holder().method, partial(print, 1), "", "x" * 257])
def test_what_no_node_could_find_is_refused(target: object) -> None:
    with pytest.raises(UsageError):
        name_target(target)  # type: ignore[arg-type]


def test_ids_are_random_and_speakable() -> None:
    drawn = {draw_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(len(one) == 16 and not set(one) & set("ilou") and one == one.lower() for one in drawn)


def test_a_call_id_is_a_job_and_an_index() -> None:
    assert parse_call_id("abc/17") == ("abc", 17)
    for wrong in ("abc", "abc/", "/17", "abc/x", "abc/-1", "abc/²"):
        with pytest.raises(NotFound):
            parse_call_id(wrong)


def test_the_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_URL", "tcp://two:2")
    assert find_address("tcp://one:1") == "tcp://one:1"
    assert find_address(None) == "tcp://two:2"


@pytest.mark.parametrize("url", ["one:1", "http://one:1", "tcp://one", "tcp://one:0", "tcp://one:70000", "tcp://:1"])
def test_what_is_no_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(UsageError, match="looks like tcp://"):
        find_address(url)


def test_the_face_offers_exactly_what_it_says() -> None:
    assert list(windrow.__all__) == sorted(windrow.__all__)
    for name in windrow.__all__:
        assert getattr(windrow, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        windrow.nonsense  # noqa: B018


def test_what_tasks_raise_needs_nothing_but_the_face() -> None:
    assert windrow.Retry("later", after=5).after == 5
    assert issubclass(windrow.SoftTimeout, TimeoutError)
    code = (
        "import sys; from windrow import Retry, SoftTimeout; print([m for m in sys.modules if 'windrow.client' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "[]"


def test_importing_the_face_brings_nothing_heavy() -> None:
    code = "import sys, windrow; print([m for m in %r if m in sys.modules])"
    heavy = ["zmq", "pika", "pyarrow", "duckdb", "uvicorn", "sqlalchemy", "pydantic", "structlog", "rich"]
    done = subprocess.run([sys.executable, "-c", code % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
