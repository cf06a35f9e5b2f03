"""Checks and evaluates --where in DuckDB, shut off from everything outside; the only module that knows DuckDB."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from windrow.common.errors import ExportError

MEMORY_LIMIT = "256MB"

_CLASSES = frozenset(
    {
        "BETWEEN",
        "CASE",
        "CAST",
        "COLLATE",
        "COLUMN_REF",
        "COMPARISON",
        "CONJUNCTION",
        "CONSTANT",
        "FUNCTION",
        "OPERATOR",
        "TYPE",
    }
)
"""Parts a condition may be made of. Not among them: subqueries, window functions, lambdas, parameters, * and #1."""

_MACROS = frozenset({"split_part", "nullif", "fdiv", "fmod", "date_add", "days_in_month", "if"})
"""DuckDB's own macros that only compute; others read the catalog, the clock or the session."""


def find_condition_columns(where: str, names: Sequence[str]) -> tuple[int, ...]:
    """The columns that the condition uses, by index; ExportError where it does not parse or may not be asked."""
    with _closed_duckdb() as connection:
        tree = _parse(connection, where)
        used: set[int] = set()
        functions: set[str] = set()
        for part in _expressions(tree):
            kind = str(part["class"])
            if kind not in _CLASSES:
                raise ExportError(f"--where may not use {_described(kind)}: compare columns of the row with values")
            if kind == "COLUMN_REF":
                used.add(_find_column(part["column_names"], names))
            elif kind == "FUNCTION":
                functions.add(str(part["function_name"]).lower())
        _check_functions(connection, functions)
    folded = [names[index].casefold() for index in used]
    if len(set(folded)) < len(folded):
        raise ExportError(
            "--where uses columns whose names differ only in upper and lower case: SQL cannot tell them apart"
        )
    return tuple(sorted(used))


def check_condition(where: str, columns: dict[str, Any]) -> None:
    """ExportError unless the condition gives true or false for columns of these Arrow types."""
    empty = pa.table({name: pa.array([], kind) for name, kind in columns.items()} or {"": pa.array([], pa.bool_())})
    with _closed_duckdb() as connection:
        try:
            kind = _evaluate(connection, where, empty).type
        except duckdb.Error as error:
            shown = ", ".join(f"{name} {_shown_type(kind)}" for name, kind in columns.items())
            hint = f" (the columns are {shown}; --cast gives another type)" if columns else ""
            raise ExportError(f"--where: {_first_line(error)}{hint}") from None
    if not pa.types.is_boolean(kind):
        raise ExportError(f"--where gives {_shown_type(kind)} values, not true or false: compare with something")


def keep_rows(where: str, columns: dict[str, Any], count: int) -> Any:
    """For each row true, false or null, in order; ExportError where the condition cannot be computed."""
    table = pa.table(columns or {"": pa.nulls(count, pa.bool_())})
    with _closed_duckdb() as connection:
        try:
            kept = _evaluate(connection, where, table)
        except duckdb.Error as error:
            raise ExportError(f"--where: {_first_line(error)}") from None
    if len(kept) != count:
        raise ExportError(f"--where gave {len(kept)} answers for {count} rows")
    return kept


def _evaluate(connection: Any, where: str, table: Any) -> Any:
    connection.register("source", table)
    # The line end closes a comment at the end of the condition.
    result: Any = connection.sql(f"SELECT ({where}\n) AS keep FROM source").to_arrow_table()
    return result.column(0).combine_chunks()


@contextlib.contextmanager
def _closed_duckdb() -> Generator[Any, None, None]:
    connection = _database().cursor()
    try:
        yield connection
    finally:
        connection.close()


@functools.cache
def _database() -> Any:
    """One for the process: opening it takes longer than most conditions. Cursors share nothing but the settings."""
    # One thread, because the slot is one; UTC, because the answer must not depend on the node.
    connection: Any = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY_LIMIT})
    for setting in (
        "enable_external_access = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "GLOBAL TimeZone = 'UTC'",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}").fetchall()
    return connection


def _parse(connection: Any, where: str) -> Any:
    """The condition's syntax tree."""
    asked = f"SELECT 1 FROM source WHERE ({where}\n)"
    answer: dict[str, Any] = json.loads(connection.execute("SELECT json_serialize_sql(?)", [asked]).fetchall()[0][0])
    if answer["error"]:
        raise ExportError(f"--where {where!r} does not parse: {answer.get('error_message', 'not a condition')}")
    node: dict[str, Any] = answer["statements"][0]["node"]
    # A bracket too many could turn the condition into the rest of a query; only the plain form may remain.
    plain = (
        len(answer["statements"]) == 1
        and node["type"] == "SELECT_NODE"
        and node["from_table"]["type"] == "BASE_TABLE"
        and not any(node.get(part) for part in ("modifiers", "group_expressions", "having", "qualify", "sample"))
    )
    if not plain or node.get("where_clause") is None:
        raise ExportError(f"--where {where!r} is not one condition: check the brackets")
    return node["where_clause"]


def _expressions(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression in the tree, from the root down; nothing below one that is refused matters."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for part in tree.values():
            yield from _expressions(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from _expressions(part)


def _described(kind: str) -> str:
    shown = {
        "SUBQUERY": "a subquery",
        "WINDOW": "a window function",
        "LAMBDA": "a lambda",
        "STAR": "*",
        "PARAMETER": "a parameter",
        "POSITIONAL_REFERENCE": "a column's number",
    }
    return shown.get(kind, kind.lower())


def _find_column(path: list[str], names: Sequence[str]) -> int:
    name = path[-1]
    same = [index for index, known in enumerate(names) if known == name]
    alike = same or [index for index, known in enumerate(names) if known.casefold() == name.casefold()]
    if len(path) != 1 or not alike:
        raise ExportError(f"--where names column {'.'.join(path)!r}; the source has {shown_names(names)}")
    if len(alike) > 1:
        raise ExportError(f"--where names column {name!r}, which stands {len(alike)} times in the header")
    return alike[0]


def shown_names(names: Sequence[str], most: int = 40) -> str:
    """Column names for a message, the rest counted."""
    shown = ", ".join(names[:most]) or "no columns"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _check_functions(connection: Any, functions: set[str]) -> None:
    for name in sorted(functions):
        rows: list[tuple[str, str | None]] = connection.execute(
            "SELECT function_type, stability FROM duckdb_functions() WHERE lower(function_name) = ?", [name]
        ).fetchall()
        kinds = {kind for kind, _ in rows}
        if not rows:
            raise ExportError(f"--where: there is no function {name}")
        if "aggregate" in kinds or "window" in kinds:
            raise ExportError(f"--where may not use {name}, which looks at many rows: a condition sees one row")
        if "scalar" in kinds:
            if any(stability != "CONSISTENT" for kind, stability in rows if kind == "scalar"):
                raise ExportError(f"--where may not use {name}, which gives another answer each time")
        elif name not in _MACROS:
            raise ExportError(f"--where may not use {name}, which reads from outside the row")


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0]
    head, colon, rest = text.partition(": ")
    return rest if colon and head.endswith("Error") else text


def _shown_type(kind: Any) -> str:
    known = {"double": "float64", "float": "float32", "date32[day]": "date", "timestamp[us]": "timestamp"}
    return known.get(str(kind), "timestamptz" if str(kind).startswith("timestamp") else str(kind))
