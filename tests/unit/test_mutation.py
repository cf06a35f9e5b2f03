"""The mutants are what they say, keep their names when lines move, and one that nobody notices is told."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.known import Known, read_known
from tests.mutation.operators import Mutant, find_mutants, mutate

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''
"""A module."""

LIMIT = 5
TABLE = {"a": 1, "b": 2}


class Thing:
    """A class."""

    count: int = 0

    def is_over(self, most: int, strict: bool) -> bool:
        """A function."""
        if self.count > most and not strict:
            self.count -= 1
        for each in [one for one in range(most) if one != 3]:
            self.note(min(each, most))
        return self.count == 0
'''


def changes(source: str, function: str = "Thing.is_over") -> list[tuple[str, str]]:
    return [(each.before, each.after) for each in find_mutants("m.py", source) if each.function == function]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if self.count > most and (not strict)", "if self.count >= most and (not strict)"),
        ("if self.count > most and (not strict)", "if self.count > most"),
        ("if self.count > most and (not strict)", "if not strict"),
        ("if self.count > most and (not strict)", "if self.count > most and strict"),
        ("if self.count > most and (not strict)", "if True"),
        ("if self.count > most and (not strict)", "if False"),
        ("self.count -= 1", "self.count += 1"),
        ("self.count -= 1", "self.count -= 2"),
        ("self.note(min(each, most))", "self.note(max(each, most))"),
        ("self.note(min(each, most))", "pass"),
        ("for each in [one for one in range(most) if one != 3]", "for each in [one for one in range(most)]"),
        ("return self.count == 0", "return self.count != 0"),
        ("return self.count == 0", "return not self.count == 0"),
    ],
)
def test_each_kind_of_change_is_made(before: str, after: str) -> None:
    assert (before, after) in changes(SOURCE)


def test_tables_and_defaults_are_changed_and_numbers_with_a_name_are_not() -> None:
    assert ("TABLE = {'a': 1, 'b': 2}", "TABLE = {'b': 2}") in changes(SOURCE, "")
    assert ("count: int = 0", "count: int = 1") in changes(SOURCE, "Thing")
    assert not any("LIMIT" in before for before, _ in changes(SOURCE, ""))


def test_every_mutant_of_the_core_is_another_program_that_compiles_and_has_a_name_of_its_own() -> None:
    module = "scheduler/core/twins.py"
    source = (ROOT / module).read_text()
    mutants = find_mutants(module, source)
    before = ast.dump(ast.parse(source))
    for mutant in mutants[::7]:
        changed = mutate(source, mutant)
        compile(changed, module, "exec")
        assert ast.dump(changed) != before, mutant
    assert len({(each.function, each.before, each.after, each.nth) for each in mutants}) == len(mutants) > 50


def test_a_mutant_keeps_its_name_when_lines_move() -> None:
    names = [(each.function, each.before, each.after, each.nth) for each in find_mutants("m.py", SOURCE)]
    moved = find_mutants("m.py", "\n\n\n" + SOURCE.replace("        if self", "\n        # Why.\n        if self"))
    assert [(each.function, each.before, each.after, each.nth) for each in moved] == names


def test_an_entry_of_the_list_means_what_it_says_and_nothing_else() -> None:
    mutant = Mutant("m.py", "f", "a < b", "a <= b", 1, 0, (1, 1))
    assert Known("m.py", "f", "why").means(mutant)
    assert Known("m.py", "f", "why", "a < b").means(mutant)
    assert Known("m.py", "f", "why", "a < b", "a <= b", 1).means(mutant)
    assert not Known("m.py", "f", "why", "a < b", "a <= b", 0).means(mutant)
    assert not Known("m.py", "f", "why", "a < b", "a > b").means(mutant)
    assert not Known("m.py", "g", "why").means(mutant)


def test_every_survivor_of_the_list_is_a_mutant_of_today_and_has_its_reason() -> None:
    known = read_known()
    mutants = [
        mutant
        for module in {each.module for each in known}
        for mutant in find_mutants(module, (ROOT / module).read_text())
    ]
    for each in known:
        assert len(each.why) > 20
        assert any(each.means(mutant) for mutant in mutants), f"{each} is gone: take it out of known.toml"


@pytest.mark.system
@pytest.mark.parametrize(("tests", "code"), [("test_retries.py", 0), ("test_unfit.py", 1)])
def test_a_mutant_that_no_test_notices_is_told_and_fails_the_run(tests: str, code: int) -> None:
    """The tests of leaving nodes out know nothing of how long an item waits for its next attempt."""
    command = [sys.executable, "-m", "tests.mutation", "--quick", "--function", "backoff_s"]
    command += ["--tests", f"tests/unit/core/{tests}", "--", "scheduler/core/retries.py"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, "NOT NOTICED" in done.stdout) == (code, code == 1), done.stdout + done.stderr
