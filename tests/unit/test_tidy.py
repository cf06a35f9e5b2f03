"""House rules that no linter knows: sizes, docstrings, what the core imports, what must not be in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import windrow

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("common", "scheduler", "node", "monitoring", "windrow")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

LONG_MODULES = {
    "common/messages.py": "the whole vocabulary of the protocol, one dataclass after the other",
    "scheduler/dispatch.py": "the one file that knows pika",
    "node/chunks.py": "one book of chunks and its moves",
    "windrow/client/client.py": "the public face of one class",
    "windrow/client/link.py": "the one file of the client that knows pyzmq",
}
"""Modules over the limit, each with its reason."""
LONG_FUNCTIONS: dict[str, str] = {}

PURE = {
    "__future__", "bisect", "collections", "collections.abc", "dataclasses", "difflib", "enum", "hashlib", "heapq",
    "math", "typing", "zlib",
}  # fmt: skip
"""All of the standard library that the core may import: nothing with a clock, a die, a file or a thread."""


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


def product_files() -> list[Path]:
    return [
        path for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PRODUCT and path.exists()
    ]  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


FILES = product_files()
NAMED = pytest.mark.parametrize("path", FILES, ids=name_of)


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 60


@NAMED
def test_modules_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MODULE_LINES_MAX or name_of(path) in LONG_MODULES, f"{lines} lines"


@NAMED
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX or f"{name_of(path)}:{node.name}" in LONG_FUNCTIONS, (node.name, lines)


@NAMED
def test_every_module_begins_with_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    first = docstring.split("\n\n")[0].replace("\n", " ")
    assert re.match(r"^[`A-Z0-9].*[.:]$", first), first


@NAMED
def test_imports_are_absolute_and_never_of_a_bare_folder(path: Path) -> None:
    for module in imports_of(path):
        assert module.split(".")[0] not in {"common", "scheduler", "node", "monitoring", "tests", ""}, module


@NAMED
def test_no_code_travels_or_is_made_from_text(path: Path) -> None:
    """Invariant 7."""
    banned = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert not banned & {module.split(".")[0] for module in imports_of(path)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", [p for p in FILES if "scheduler/core" in name_of(p)], ids=name_of)
def test_time_ids_and_randomness_are_arguments_of_the_core(path: Path) -> None:
    """Invariant 8: the core imports nothing impure, and nothing of the rim."""
    for module in imports_of(path):
        ours = module.startswith(("windrow.common.", "windrow.scheduler.core."))
        assert ours or module in PURE, f"{name_of(path)} imports {module}"


def test_what_the_core_imports_from_common_is_pure_too() -> None:
    wanted = {
        module.rsplit(".", 1)[1]
        for path in FILES if "scheduler/core" in name_of(path)
        for module in imports_of(path) if module.startswith("windrow.common.")
    }  # fmt: skip
    allowed = PURE | {"hmac", "array", "itertools", "struct", "sys", "types", "msgpack"}
    for name in wanted:
        for module in imports_of(ROOT / "common" / f"{name}.py"):
            assert module.startswith("windrow.common.") or module in allowed, f"common/{name}.py imports {module}"


def test_every_folder_says_what_it_is() -> None:
    for folder in {path.parent for path in FILES}:
        if folder != ROOT:
            assert (folder / "__init__.py") in FILES, f"{name_of(folder)} has no __init__.py"


def test_exceptions_that_are_no_longer_needed_are_taken_out() -> None:
    for name in LONG_MODULES:
        assert len((ROOT / name).read_text().splitlines()) > MODULE_LINES_MAX, f"{name} is short again"


def test_no_path_of_a_machine_and_no_host_of_a_registry_is_in_the_repository() -> None:
    homes = "/ho" + r"me/[a-z]|/ro" + r"ot/|/wo" + r"rk/(?:main|wt|shared)|/tm" + r"p/bash_jobs|/Us" + r"ers/[a-z]"
    hosts = r"pypi\." + r"org|files\.python" + r"hosted|index-" + r"url|extra-" + r"index|registry\.npm" + r"js"
    banned = re.compile(f"{homes}|{hosts}")
    for path in tracked():
        if path.is_symlink() or not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found = banned.search(text)
        assert found is None, f"{name_of(path)}: {found and found.group()}"


def test_what_windrow_exports_exists_and_is_documented() -> None:
    assert sorted(windrow.__all__) == sorted(set(windrow.__all__))
    for name in windrow.__all__:
        found = getattr(windrow, name)
        assert name.startswith("__") or (getattr(found, "__doc__", "") or "").strip(), f"{name} says nothing"


def test_every_error_that_users_may_catch_is_exported_or_has_a_parent_that_is() -> None:
    for name in windrow.__all__:
        found = getattr(windrow, name)
        if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, Warning):
            assert issubclass(found, windrow.WindrowError), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        windrow.nothing  # noqa: B018
