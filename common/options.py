"""What may be asked of a task, a job or a call: partial options, how they combine, and what they come to."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast

from windrow.common.codec import Between, Longest
from windrow.common.errors import UnknownOption
from windrow.common.limits import NAME_CHARS_MAX

_YEAR_S = 366 * 86400.0
_TYPES_MAX = 64


class OnLost(StrEnum):
    """What becomes of items that may have been running when their node was lost."""

    RERUN = "rerun"
    FAIL = "fail"
    """For mail and payments: they are quarantined as `lost`, never run twice."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options as given; None means not given. Call beats task beats settings."""

    queue: Annotated[str | None, Longest(NAME_CHARS_MAX)] = None
    priority: Annotated[int | None, Between(-1000, 1000)] = None
    retries: Annotated[int | None, Between(0, 1_000_000)] = None
    backoff_s: Annotated[float | None, Between(0, _YEAR_S)] = None
    backoff_max_s: Annotated[float | None, Between(0, _YEAR_S)] = None
    delay_s: Annotated[float | None, Between(0, _YEAR_S)] = None
    idempotent: bool | None = None
    retry_on: Annotated[tuple[Annotated[str, Longest(NAME_CHARS_MAX)], ...] | None, Longest(_TYPES_MAX)] = None
    never_retry_on: Annotated[tuple[Annotated[str, Longest(NAME_CHARS_MAX)], ...] | None, Longest(_TYPES_MAX)] = None
    timeout_s: Annotated[float | None, Between(0, _YEAR_S)] = None
    soft_timeout_s: Annotated[float | None, Between(0, _YEAR_S)] = None
    max_failures: Annotated[int | None, Between(0, 1 << 53)] = None
    on_lost: OnLost | None = None


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of one job, every one decided."""

    queue: str = "default"
    priority: int = 0
    retries: int = 0
    """Extra attempts after an exception or a crash of the item alone; a lost node is no attempt."""
    backoff_s: float = 1.0
    """Delay before the first retry; it doubles with each further one."""
    backoff_max_s: float = 600.0
    delay_s: float = 0.0
    """Between acceptance and the earliest start."""
    idempotent: bool = False
    """Permits a twin to run at the same time."""
    retry_on: tuple[str, ...] = ()
    """Names of exception types (`ValueError`, `package.module.Class`), their subclasses included; empty: any."""
    never_retry_on: tuple[str, ...] = ()
    """Beats retry_on."""
    timeout_s: float | None = None
    """An item that runs longer fails: its worker is killed and replaced."""
    soft_timeout_s: float | None = None
    """Then SoftTimeout is raised inside the task."""
    max_failures: int | None = None
    """The job is stopped when more items than this have failed."""
    on_lost: OnLost = OnLost.RERUN


OPTION_NAMES: dict[str, str] = {
    "queue": "queue",
    "priority": "priority",
    "retries": "retries",
    "backoff": "backoff_s",
    "backoff_max": "backoff_max_s",
    "delay": "delay_s",
    "idempotent": "idempotent",
    "retry_on": "retry_on",
    "never_retry_on": "never_retry_on",
    "timeout": "timeout_s",
    "soft_timeout": "soft_timeout_s",
    "max_failures": "max_failures",
    "on_lost": "on_lost",
}
"""Public Python and command-line name → field; public names say seconds without a unit, as concurrent.futures does."""

_NUMBERS: dict[str, tuple[type[int] | type[float], float, float]] = {
    "priority": (int, -1000, 1000),
    "retries": (int, 0, 1_000_000),
    "max_failures": (int, 0, 1 << 53),
    "backoff": (float, 0, _YEAR_S),
    "backoff_max": (float, 0, _YEAR_S),
    "delay": (float, 0, _YEAR_S),
    "timeout": (float, 0.001, _YEAR_S),
    "soft_timeout": (float, 0.001, _YEAR_S),
}
"""Kind, lowest and highest value."""


def make_options(given: dict[str, object]) -> Options:
    """Options from public names; UnknownOption names what does not exist or does not fit."""
    fields: dict[str, object] = {}
    for name, value in given.items():
        if name not in OPTION_NAMES:
            raise UnknownOption(f"no option {name!r}; there are {', '.join(OPTION_NAMES)}")
        if value is not None:
            fields[OPTION_NAMES[name]] = _checked(name, value)
    return Options(**fields)  # type: ignore[arg-type]


def _checked(name: str, value: object) -> object:
    if name in _NUMBERS:
        return _number(name, value)
    if name in ("retry_on", "never_retry_on"):
        return _type_names(name, value)
    if name == "on_lost":
        for each in OnLost:
            if value == each:
                return each
        raise UnknownOption(f"on_lost={value!r}: write {' or '.join(repr(each.value) for each in OnLost)}")
    if name == "idempotent":
        if not isinstance(value, bool):
            raise UnknownOption(f"{name}={value!r}: expected bool")
        return value
    if not isinstance(value, str):
        raise UnknownOption(f"{name}={value!r}: expected str")
    if not 0 < len(value) <= NAME_CHARS_MAX:
        raise UnknownOption(f"{name}={value!r}: 1 to {NAME_CHARS_MAX} characters")
    return str.__str__(value)  # Without the class of its own that an enum has.


def _number(name: str, value: object) -> int | float:
    kind, low, high = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and not isinstance(value, int)):
        raise UnknownOption(f"{name}={value!r}: expected {'int' if kind is int else 'int or float'}")
    if not low <= value <= high:
        raise UnknownOption(f"{name}={value!r}: must be between {low:g} and {high:g}")
    return kind(value)


def _type_names(name: str, value: object) -> tuple[str, ...]:
    """Exception classes, or their names, one or several."""
    several = tuple(cast("Iterable[object]", value)) if isinstance(value, (tuple, list)) else (value,)
    if len(several) > _TYPES_MAX:
        raise UnknownOption(f"{name}: {len(several)} types of exceptions; at most {_TYPES_MAX} may be given")
    return tuple([_type_name(name, each) for each in several])


def _type_name(name: str, given: object) -> str:
    called = given
    if isinstance(given, type) and issubclass(given, BaseException):
        called = type_name(given)
    if not isinstance(called, str) or not 0 < len(called) <= NAME_CHARS_MAX:
        raise UnknownOption(
            f"{name}={given!r}: give exception classes, or names such as 'package.module.Class', "
            f"of 1 to {NAME_CHARS_MAX} characters"
        )
    return str.__str__(called)


def type_name(kind: type) -> str:
    """How exception types are called on the wire: builtins by name, others with their module."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    module = kind.__module__
    if module == "__main__":
        # Nodes import the script under its file's name, as they do for its tasks.
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        module = str(file).rpartition("/")[2].removesuffix(".py") if file else module
    return f"{module}.{kind.__qualname__}"


def over(upper: Options, lower: Options) -> Options:
    """`upper` where it says something, else `lower`."""
    return dataclasses.replace(lower, **_given(upper))


def decide(options: Options) -> JobOptions:
    """Every option, with the default where none was given."""
    return JobOptions(**_given(options))


def _given(options: Options) -> dict[str, Any]:
    return {name: value for name in _FIELDS if (value := getattr(options, name)) is not None}


_FIELDS = tuple(field.name for field in dataclasses.fields(Options))
