"""docs/reliability.md has a test for each fault, and each test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_docs import REFERENCE, defined_in, read

DOCUMENT = "docs/reliability.md"
AREAS = {str(number) for number in range(1, 13)}
ROOT = Path(__file__).resolve().parents[2]


def rows() -> list[list[str]]:
    """The cells of each fault."""
    lines = [line for line in read(DOCUMENT).split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_area_of_the_issue_has_its_faults() -> None:
    assert {row[0].split()[0] for row in rows()} == AREAS


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", "-", row[1])[:60])
def test_every_fault_has_a_promise_and_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    assert all(row)
    found = REFERENCE.findall(row[3])
    assert found
    for path, names in found:
        assert path.startswith("tests/")
        assert (ROOT / path).exists()
        for name in names.split(", "):
            assert name.startswith("test_")
            assert name in defined_in(path), f"{path} has no {name}"
