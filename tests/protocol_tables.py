"""Writes the tables of docs/protocol.md from the dataclasses: `python -m tests.protocol_tables`."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Annotations are looked at as data here, so nearly everything is Any.

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
import typing
from enum import StrEnum
from pathlib import Path
from typing import Any

from windrow.common import messages, options, words
from windrow.common.codec import Between, Longest
from windrow.common.messages import ANSWERS, CHUNKS, REQUESTS

DOCUMENT = Path(__file__).parent.parent / "docs" / "protocol.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def tables() -> str:
    """Every message of both channels, then the records inside them, each with its fields."""
    parts: list[str] = []
    shown: list[type] = []
    for title, message_set in (
        ("Requests (peer → scheduler)", REQUESTS),
        ("Answers (scheduler → peer)", ANSWERS),
        ("Chunk message (scheduler → node)", CHUNKS),
    ):
        kinds = list(vars(message_set)["_kinds"].values())
        shown += kinds
        parts += [f"### {title}", *(_table(kind) for kind in kinds)]
    inner = [kind for kind in _inner(shown) if kind not in shown]
    parts += ["### Records inside messages", *(_table(kind) for kind in inner)]
    return "\n\n".join(parts) + "\n"


def text_with_tables(text: str) -> str:
    """The document with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def _table(kind: type) -> str:
    lines = [f"#### {kind.__name__}", "", " ".join((kind.__doc__ or "").split()), ""]
    fields = dataclasses.fields(kind)
    if not fields:
        return "\n".join([*lines, "No fields."])
    hints = typing.get_type_hints(kind, include_extras=True)
    notes = _field_notes(kind)
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        told = _describe(hints[field.name])
        lines.append(f"| `{field.name}` | {told} | {_default(field)} | {notes.get(field.name, '')} |")
    return "\n".join(lines)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "empty"
    if field.default is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(field.default) or field.default in ((), ""):
        return "empty"
    if field.default is None or isinstance(field.default, bool):
        return {None: "nil", True: "true", False: "false"}[field.default]
    return str(field.default)


def _describe(hint: Any) -> str:
    if hasattr(hint, "__supertype__"):
        return _describe(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        kinds = typing.get_args(arguments[0]) or ()
        many = any(typing.get_origin(kind) is tuple for kind in (arguments[0], *kinds))
        unit = "entries" if many else "characters"
        rules = ", ".join(_rule(rule, unit) for rule in arguments[1:])
        return f"{_describe(arguments[0])} ({rules})"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(each) for each in arguments)
    if origin is tuple:
        return f"array of {_describe(arguments[0])}"
    if origin is dict:
        return f"map of string to {_describe(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return " \\| ".join(f"`{each.value}`" for each in hint)
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")):
        return hint.__name__
    return {"str": "string", "NoneType": "nil"}.get(hint.__name__, str(hint.__name__))


def _rule(rule: object, unit: str) -> str:
    if isinstance(rule, Between):
        return f"{rule.low:.17g} to {rule.high:.17g}"
    assert isinstance(rule, Longest)
    return f"at most {rule.length} {unit}"


def _field_notes(kind: type) -> dict[str, str]:
    """The text below each field in the source."""
    tree = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(tree, ast.ClassDef)
    notes: dict[str, str] = {}
    field = ""
    for line in tree.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            field = line.target.id
        elif field and isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant):
            notes[field] = " ".join(str(line.value.value).split()).replace("|", "\\|")
            field = ""
    return notes


def _inner(kinds: list[type]) -> list[type]:
    """The records that these messages hold, in the order of the modules."""
    found: set[type] = set()

    def walk(hint: Any) -> None:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type) and hint not in found:
            found.add(hint)
            for below in typing.get_type_hints(hint, include_extras=True).values():
                walk(below)
        for argument in typing.get_args(hint):
            walk(argument)

    for kind in kinds:
        walk(kind)
    order = [each for module in (messages, options, words) for each in vars(module).values()]
    return [each for each in order if isinstance(each, type) and each in found and dataclasses.is_dataclass(each)]


if __name__ == "__main__":
    DOCUMENT.write_text(text_with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
