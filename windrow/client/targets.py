"""What a call goes to: the name and the options of a task, a plain function, or a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from windrow.common.errors import UsageError
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.options import Options, over
from windrow.common.tasks import Task, script_name

Target = Task[..., Any] | Callable[..., Any] | str
"""What may be submitted or started: a task, a function that nodes are allowed to call, or a task's name."""


@dataclass(frozen=True, slots=True)
class Named:
    """A task as the scheduler knows it: by name, with the options that the client knows of."""

    task: str
    task_options: Options = Options()
    call_options: Options = Options()

    def options(self, upper: Options = Options()) -> Options:
        """`upper` over the call's over the task's."""
        return over(upper, over(self.call_options, self.task_options))


def name_target(target: Target) -> Named:
    """What `target` is called; UsageError where no node could find it by a name."""
    if isinstance(target, Task):
        return Named(target.name, target.task_options, target.call_options)
    name = target if isinstance(target, str) else _function_name(target)
    if not 0 < len(name) <= NAME_CHARS_MAX:
        raise UsageError(f"a task's name has 1 to {NAME_CHARS_MAX} characters, not {len(name)}")
    return Named(name)


def _function_name(function: Callable[..., Any]) -> str:
    module: object = getattr(function, "__module__", None)
    name: object = getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise UsageError(f"{function!r} has no name that nodes could find it by: wrap it in a function with @task")
    if "<" in name:
        raise UsageError(f"{module}:{name} lives inside a function or a lambda: move it to the top of a module")
    owner: object = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        raise UsageError(f"{module}:{name} is bound to an object, which cannot travel: use a function with @task")
    return f"{script_name() if module == '__main__' else module}:{name}"
