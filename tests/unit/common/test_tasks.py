"""A task stays an ordinary function, and has a name and options."""

from __future__ import annotations

import sys
import types

import pytest

from windrow.common.errors import UnknownOption, UsageError
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.options import Options
from windrow.common.tasks import Task, registered_tasks, script_name, task


@task
def add(x: int, y: int = 1) -> int:
    """Adds."""
    return x + y


@task(name="tests.mul", retries=3, queue="q")
def mul(x: int, y: int) -> int:
    return x * y


def test_a_task_is_called_as_before() -> None:
    assert (add(2), add(2, y=5), mul(3, 4)) == (3, 7, 12)
    assert (add.__doc__, add.__name__) == ("Adds.", "add")


def test_a_task_is_named_after_its_module_and_registered() -> None:
    assert add.name == f"{__name__}:add"
    assert registered_tasks()[add.name] is add
    assert repr(mul) == "<task tests.mul>"


def test_what_registered_tasks_gives_is_a_copy() -> None:
    registered_tasks().clear()
    assert add.name in registered_tasks()


def test_options_of_a_call_lie_over_those_of_the_task() -> None:
    assert mul.task_options == Options(queue="q", retries=3)
    once = mul.options(priority=9, delay=60)
    twice = once.options(priority=1)
    assert isinstance(once, Task)
    assert once.call_options == Options(priority=9, delay_s=60.0)
    assert twice.call_options == Options(priority=1, delay_s=60.0)
    assert mul.call_options == Options(), "the task itself is as it was"
    assert (once.name, once(2, 3)) == ("tests.mul", 6)


def test_an_option_that_does_not_exist_is_refused_where_it_is_written() -> None:
    with pytest.raises(UnknownOption, match="no option 'retry'"):
        task(retry=3)
    with pytest.raises(UnknownOption, match="no option 'prio'"):
        add.options(prio=3)


@pytest.mark.parametrize("name", ["", "n" * (NAME_CHARS_MAX + 1)])
def test_a_name_has_bounds(name: str) -> None:
    with pytest.raises(UnknownOption, match="1 to 256"):
        task(name=name)(lambda: None)


def test_a_task_of_a_script_is_named_after_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = "/some/where/my.py"
    monkeypatch.setitem(sys.modules, "__main__", main)

    def work() -> None: ...

    work.__module__, work.__qualname__ = "__main__", "work"
    assert task(work).name == "my:work"


@pytest.mark.parametrize("file", [None, "<stdin>", ""])
def test_a_task_without_a_file_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch, file: str | None) -> None:
    main = types.ModuleType("__main__")
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(UsageError, match="put it in a file"):
        script_name()
