"""The documents say what is there: links, files, functions, commands, settings, pictures, examples."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import doc_tables
from windrow.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
FOLDERS = ("common", "scheduler", "node", "monitoring", "windrow", "deploy", "tests", "docs", "examples", "benchmarks")
REFERENCE = re.compile(r"`([\w./-]+\.py): ([\w., ]+)`")
"""`folder/module.py: name, Class.method`: a file and what is defined in it."""


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def prose(document: str) -> str:
    """The document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", read(document), flags=re.DOTALL | re.MULTILINE)


def links(document: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(document: str) -> set[str]:
    """The headings, as links to them are written."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def defined_in(path: str) -> frozenset[str]:
    """Functions, classes, their methods and the names assigned in a module, e.g. `Client.start` and `GAP_S`."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], above: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(above + node.name)
            elif isinstance(node, ast.ClassDef):
                found.add(above + node.name)
                walk(node.body, f"{above}{node.name}.")
            elif isinstance(node, ast.Assign):
                found.update(above + target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(above + node.target.id)

    walk(ast.parse(read(path)).body, "")
    return frozenset(found)


def test_the_documents_are_found() -> None:
    assert {"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/python.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        place = (ROOT / document).parent / path if path else ROOT / document
        assert place.exists(), f"{document} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(str(place.resolve().relative_to(ROOT))), f"{document} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_exists(document: str) -> None:
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", prose(document)):
        if name.split("/")[0] in FOLDERS and not name.startswith("docs/protocol-vectors"):
            assert (ROOT / name).exists(), f"{document} names {name}, which is not there"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_function_that_is_named_is_defined_there(document: str) -> None:
    for path, names in REFERENCE.findall(prose(document)):
        assert (ROOT / path).is_file(), f"{document} names {path}, which is not there"
        for name in names.split(", "):
            assert name in defined_in(path), f"{document} names {name} in {path}, which has no such thing"


def test_the_architecture_names_enough_to_be_held_to_it() -> None:
    assert len(REFERENCE.findall(read("ARCHITECTURE.md"))) > 60


def test_every_module_of_the_core_and_the_node_is_on_the_map() -> None:
    text = read("ARCHITECTURE.md")
    for folder in ("scheduler/core", "node", "common"):
        for path in sorted((ROOT / folder).glob("*.py")):
            small = path.name in {"__init__.py", "ports.py", "settings.py", "version.py"}
            assert small or f"`{folder}/{path.name}`" in text, f"ARCHITECTURE.md does not name {folder}/{path.name}"


def test_the_command_table_is_that_of_the_command_line() -> None:
    rows = re.findall(r"^\| `windrow ([a-z-]+)` \| (.+) \|$", read("README.md"), re.MULTILINE)
    assert rows == [(name, line) for name, (_, line) in COMMANDS.items()]


@pytest.mark.parametrize("path", doc_tables.DOCUMENTS, ids=lambda path: path.name)
def test_settings_and_flags_are_those_of_the_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    made = doc_tables.text_with_tables(text, doc_tables.DOCUMENTS[path]())
    assert made == text, "run: python -m tests.doc_tables"


def test_the_pictures_are_as_drawn() -> None:
    folder = ROOT / "docs" / "pictures"
    spec = importlib.util.spec_from_file_location("windrow_pictures", folder / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, draw in module.PICTURES.items():
        assert (folder / name).read_text(encoding="utf-8") == draw().svg(), "run: python docs/pictures/draw.py"


def test_the_example_files_are_those_of_the_readme() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    assert blocks == [read("examples/mytasks.py"), read("examples/squares.py")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nobody_is_sent_to_another_package_of_the_same_name(document: str) -> None:
    assert not re.search(r"pip install [^\n]*\bwindrow(?!-engine)\b", read(document).replace("/opt/windrow", ""))


def test_every_decision_is_listed_and_numbered() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    listed = re.findall(r"\[\d{4}\]\(([^)]+)\) \| (.+) \|", read("docs/adr/README.md"))
    titles = [read(f"docs/adr/{name}").partition("\n")[0].removeprefix("# ") for name in pages]
    assert listed == list(zip(pages, titles, strict=True))
