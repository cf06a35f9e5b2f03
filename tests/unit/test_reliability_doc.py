"""docs/reliability.md has tests for each fault, each of them is there, and each was seen to fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_docs import REFERENCE, defined_in, read

DOCUMENT = "docs/reliability.md"
AREAS = {str(number) for number in range(1, 13)}
ROOT = Path(__file__).resolve().parents[2]


def rows(section: int = 0) -> list[list[str]]:
    """The cells of each fault (the first section), or of each protection that was switched off (the last, -1)."""
    lines = [line for line in read(DOCUMENT).split("\n## ")[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def named_tests(cell: str) -> set[tuple[str, str]]:
    """File and name of each test that the cell names, all of which are there."""
    found: set[tuple[str, str]] = set()
    for path, names in REFERENCE.findall(cell):
        assert path.startswith("tests/")
        assert (ROOT / path).exists()
        for name in names.split(", "):
            assert name.startswith("test_")
            assert name in defined_in(path), f"{path} has no {name}"
            found.add((path, name))
    return found


def test_every_area_of_the_issue_has_its_faults() -> None:
    assert {row[0].split()[0] for row in rows()} == AREAS


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", "-", row[1])[:60])
def test_every_fault_has_a_promise_and_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    assert named_tests(row[3])


def test_every_test_of_a_fault_was_seen_to_fail() -> None:
    named = {test for row in rows() for test in named_tests(row[3])}
    seen_to_fail = {test for row in rows(-1) for test in named_tests(row[1])}
    assert named - seen_to_fail == set()
