"""What is to be run for every item, as it travels in each of them, and how an item gets into its arguments."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from windrow.common.errors import UsageError
from windrow.common.values import decode_value, encode_value

PLACE = "{}"
"""What stands for the item, unless another text is chosen."""
OUTPUT_BYTES = 64 << 10
"""How much is kept of each of the two outputs, unless more is asked for."""
OUTPUT_BYTES_MAX = 400 << 10
"""Both outputs must fit into one value (result_bytes_max)."""
SPEC_BYTES_MAX = 128 << 10
"""It travels with each item."""
TIMEOUT_S_MAX = 366 * 86400.0
_PLAIN_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_VARIABLES = ("WINDROW_ITEM", "WINDROW_INDEX")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command, for all items of a job."""

    arguments: tuple[str, ...]
    """The command and its arguments; for the shell one text."""
    shell: bool
    place: str
    """What the item replaces in the arguments; empty: nothing."""
    cwd: str
    env: dict[str, str]
    timeout_s: float | None
    output_bytes: int

    def fill(self, item: str) -> list[str]:
        """The arguments of one item, as they are executed."""
        if self.shell:
            text = self.arguments[0]
            return ["sh", "-c", text.replace(self.place, shlex.quote(item)) if self.place else text]
        if not self.place:
            return list(self.arguments)
        return [argument.replace(self.place, item) for argument in self.arguments]


def make_spec(
    command: Iterable[str],
    *,
    items: bool,
    cwd: str,
    env: Iterable[str] = (),
    place: str = PLACE,
    append: bool = True,
    timeout_s: float | None = None,
    output_bytes: int = OUTPUT_BYTES,
) -> CommandSpec:
    """Check the command and decide how it is run. UsageError says what cannot be.

    One argument that is not a plain word is for the shell, everything else is executed as it stands. Where there are
    items and nothing names them they are put behind the last argument, unless `append` says no.
    """
    arguments = tuple(command)
    if not arguments or not arguments[0]:
        raise UsageError("there is no command: put it behind --, e.g. windrow run --range 0:10 -- echo {}")
    if not place:
        raise UsageError("--replace: give at least one character that stands for the item")
    if timeout_s is not None and not (math.isfinite(timeout_s) and 0 < timeout_s <= TIMEOUT_S_MAX):
        raise UsageError(f"--timeout {timeout_s:g}: give seconds, above 0 and at most {TIMEOUT_S_MAX:g}")
    named = place in "\0".join(arguments)
    bare = arguments[0].replace(place, "x") if items else arguments[0]
    shell = len(arguments) == 1 and not _PLAIN_WORD.fullmatch(bare)
    if items and not named and append and not any(name in text for name in _VARIABLES for text in arguments):
        arguments = (f"{arguments[0]} {place}",) if shell else (*arguments, place)
        named = True
    spec = CommandSpec(
        arguments, shell, place if items and named else "", cwd, _checked_env(env), timeout_s, output_bytes
    )
    if any("\0" in text for text in (*arguments, cwd, *spec.env.values())):
        raise UsageError("the command has a character with the code 0, which no argument of a program can hold")
    try:
        size = len(encode_spec(spec))
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{error.object!r} in the command, its folder or --env is not UTF-8: rename it, or put it into a script"
        ) from None
    if size > SPEC_BYTES_MAX:
        raise UsageError(
            f"the command with its --env has {size} bytes, the limit is {SPEC_BYTES_MAX}: put it into a script"
        )
    return spec


def _checked_env(given: Iterable[str]) -> dict[str, str]:
    env: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"--env {pair}: write NAME=VALUE, e.g. --env LANG=C")
        env[name] = value
    return env


def encode_spec(spec: CommandSpec) -> bytes:
    """The spec as it travels: short, as it does so with every item."""
    return encode_value(
        [
            list(spec.arguments), spec.shell, spec.place, spec.cwd, spec.env, spec.timeout_s, spec.output_bytes,
        ]
    )  # fmt: skip


def decode_spec(data: bytes) -> CommandSpec:
    """What encode_spec has made; UsageError where somebody else has made it."""
    try:
        found: list[Any] = decode_value(data)
        if type(found[0]) is not list:  # A range without end could be asked for its members, too.
            raise TypeError("its arguments are no list")
        arguments, shell, place, cwd, env, timeout_s, output_bytes = found
        table: Mapping[str, str] = env
        return CommandSpec(
            tuple(map(str, arguments)), bool(shell), str(place), str(cwd),
            {str(name): str(value) for name, value in table.items()},
            None if timeout_s is None else float(timeout_s), min(int(output_bytes), OUTPUT_BYTES_MAX),
        )  # fmt: skip
    except (TypeError, ValueError, OverflowError, LookupError, AttributeError) as error:
        raise UsageError(f"this is no command of `windrow run`: {error}") from None
