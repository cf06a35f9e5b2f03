"""The `task` decorator and the registry of tasks in this process."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar, overload

from windrow.common.errors import UnknownOption, UsageError
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.options import Options, make_options, over

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function that nodes can run by name; calling it runs it here, as ever."""

    def __init__(self, function: Callable[P, R], name: str, options: Options, call_options: Options) -> None:
        self.function = function
        self.name = name
        self.task_options = options
        """As given to the decorator."""
        self.call_options = call_options
        """As given to `.options(…)`; they beat task_options."""
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def options(self, **given: object) -> Task[P, R]:
        """This task with options for some calls, e.g. `add.options(priority=9, delay=60)`."""
        return Task(self.function, self.name, self.task_options, over(make_options(given), self.call_options))


_REGISTRY: dict[str, Task[..., object]] = {}


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(*, name: str | None = None, **options: object) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[P, R] | None = None, /, *, name: str | None = None, **options: object
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Register a function as a task: `@task`, or `@task(name=…, queue=…, retries=3, …)`.

    Its name is `module:qualname` unless given. UnknownOption for options that do not exist.
    """
    made = make_options(options)

    def register(wrapped: Callable[P, R]) -> Task[P, R]:
        label = name if name is not None else _default_name(wrapped)
        if not 0 < len(label) <= NAME_CHARS_MAX:
            raise UnknownOption(f"name={label!r}: a task's name has 1 to {NAME_CHARS_MAX} characters")
        known = Task(wrapped, label, made, Options())
        _REGISTRY[label] = known  # type: ignore[assignment]  # a Task of any shape is a Task[..., object] to read
        return known

    return register if function is None else register(function)


def registered_tasks() -> dict[str, Task[..., object]]:
    """Name → task, of all modules imported so far in this process."""
    return dict(_REGISTRY)


def _default_name(function: Callable[..., object]) -> str:
    module = function.__module__
    return f"{script_name() if module == '__main__' else module}:{function.__qualname__}"


def script_name() -> str:
    """What `__main__` is called on nodes: the script's file name without `.py`; refused where there is no script."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not str(file).endswith(".py"):
        raise UsageError(
            "a task defined in a notebook, in `python -c` or at the prompt cannot reach nodes: "
            "put it in a file, e.g. mytasks.py, import it, and start nodes with --tasks mytasks"
        )
    return Path(file).stem
