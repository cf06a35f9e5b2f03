"""Thousands of columns cost what they hold, and not their number squared or a search for packages each."""

from __future__ import annotations

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.export_output import make_plan
from windrow.export import tasks
from windrow.export.model import Plan
from windrow.export.parts import file_names
from windrow.export.run import export


class Watcher(importlib.abc.MetaPathFinder):
    """Notes what is searched for."""

    def __init__(self) -> None:
        self.searched: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        self.searched.append(name)


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    made = Watcher()
    monkeypatch.setattr(sys, "meta_path", [made, *sys.meta_path])
    return made


def test_packages_that_are_not_there_are_searched_for_once(watcher: Watcher) -> None:
    name = "no_such_package_of_anybody"
    with tasks._no_search_for_absent((name,)):
        for _ in range(3):
            with pytest.raises(ImportError):
                importlib.import_module(name)
    assert watcher.searched == [name]
    # Whoever puts it there later finds it.
    assert name not in sys.modules


def test_packages_that_are_there_are_left_alone() -> None:
    with tasks._no_search_for_absent(("json", "colorsys")):
        assert importlib.import_module("json") is sys.modules["json"]
        assert importlib.import_module("colorsys").rgb_to_hsv


def test_an_export_of_many_columns_searches_for_no_package_at_each(
    cluster: Any, tmp_path: Path, watcher: Watcher
) -> None:
    def source(columns: int) -> str:
        return "".join(",".join(f"{row}{at}" for at in range(columns)) + "\n" for row in "cxy")

    searches: list[int] = []
    for columns in (5, 5, 200):
        (tmp_path / "in.csv").write_text(source(columns))
        before = len(watcher.searched)
        export(cluster, tmp_path / "in.csv", tmp_path / "out.csv", header=True, force=True).wait()
        searches.append(len(watcher.searched) - before)
    # The first export imports what all need.
    assert searches[2] <= searches[1] + 10


def test_the_names_are_made_once_for_all_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(tmp_path / "out.csv")
    names, calls = plan.names, [0]

    def counted(_: Plan) -> list[str]:
        calls[0] += 1
        return names

    monkeypatch.setattr(Plan, "names", property(counted))
    assert file_names(plan)[0] == names
    assert calls == [1]
