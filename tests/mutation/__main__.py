"""Judges the mutants of some modules: `python -m tests.mutation scheduler/core common/ranges.py`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.mutation.judge import ROOT, Judge, Verdict
from tests.mutation.known import Known, read_known
from tests.mutation.operators import Mutant, find_mutants

TESTS = ("tests/unit/core", "tests/unit/common/test_ranges.py")
SLOW_TESTS = ("tests/unit/test_core_property.py",)
JUDGED = (
    "common/blocks.py",
    "common/codec.py",
    "common/keys.py",
    "common/options.py",
    "common/ranges.py",
    "common/values.py",
    "node/chunks.py",
    "node/deliveries.py",
    "node/feeding.py",
    "node/intake.py",
    "node/limits.py",
    "node/outbox.py",
    "node/remembered.py",
    "node/spool.py",
    "node/task_failures.py",
    "node/workbench.py",
    "node/worker_link.py",
    "scheduler/core",
    "windrow/client/outcomes.py",
    "windrow/client/streams.py",
    "windrow/client/watches.py",
)
"""Where each survivor has been looked at."""
MORE_TESTS = {
    "common/blocks.py": ("tests/unit/common/test_blocks.py",),
    "common/codec.py": ("tests/unit/common/test_codec.py",),
    "common/keys.py": ("tests/unit/common/test_keys.py",),
    "common/options.py": ("tests/unit/common/test_options.py",),
    "common/values.py": ("tests/unit/common/test_values.py",),
    "node/chunks.py": ("tests/unit/node/test_chunks.py",),
    "node/deliveries.py": ("tests/unit/node/test_deliveries.py",),
    "node/feeding.py": ("tests/unit/node/test_feeding.py",),
    "node/intake.py": ("tests/unit/node/test_intake.py",),
    "node/limits.py": ("tests/unit/node/test_limits.py",),
    "node/outbox.py": ("tests/unit/node/test_outbox.py",),
    "node/remembered.py": ("tests/unit/node/test_remembered.py", "tests/unit/node/test_chunks.py"),
    "node/spool.py": ("tests/unit/node/test_spool.py",),
    "node/task_failures.py": ("tests/unit/node/test_task_failures.py",),
    "node/workbench.py": ("tests/unit/node/test_workbench.py",),
    "node/worker_link.py": ("tests/unit/node/test_worker_link.py",),
    "windrow/client/outcomes.py": ("tests/unit/client/test_outcomes.py",),
    "windrow/client/streams.py": ("tests/unit/client/test_streams.py",),
    "windrow/client/watches.py": ("tests/unit/client/test_watches.py", "tests/unit/client/test_lookups.py"),
}
"""Of modules that the core's tests hardly touch."""


def main() -> int:
    asked = _parse()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of ids have their order by it: without it the simulation would not be the same each time.
        with tempfile.TemporaryDirectory() as caches:
            own = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": caches}
            environment = {**os.environ, **own}
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            return subprocess.run([sys.executable, "-m", "tests.mutation", *sys.argv[1:]], env=environment).returncode
    mutants = [each for module in _modules(asked.modules) for each in find_mutants(module, (ROOT / module).read_text())]
    mutants = [each for each in mutants if asked.function in each.function]
    known = [each for each in read_known() if each.module in {mutant.module for mutant in mutants}]
    began = time.perf_counter()
    verdicts = _judge(mutants, known, asked)
    if len(verdicts) < len(mutants):
        return 2
    print(f"{len(mutants)} mutants in {time.perf_counter() - began:.0f} s")
    return _tell(verdicts, known, whole=not asked.function, every=asked.all)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", default=JUDGED, help="modules, or folders of them")
    parser.add_argument("--function", default="", help="only functions with this in their names")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tests", nargs="+", default=TESTS, help="the unit tests to ask first")
    parser.add_argument("--quick", action="store_true", help="ask neither the slow tests nor the simulation")
    parser.add_argument("--all", action="store_true", help="show explained survivors, and who noticed each other one")
    return parser.parse_args()


def _modules(named: list[str]) -> list[str]:
    found: list[Path] = []
    for each in named:
        path = ROOT / each
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [str(path.relative_to(ROOT)) for path in found]


def _judge(mutants: list[Mutant], known: list[Known], asked: argparse.Namespace) -> dict[Mutant, Verdict]:
    verdicts: dict[Mutant, Verdict] = {}

    def is_explained(mutant: Mutant) -> bool:
        return any(each.means(mutant) for each in known)

    def on_verdict(mutant: Mutant, verdict: Verdict) -> None:
        verdicts[mutant] = verdict
        if verdict is Verdict.NOBODY and not is_explained(mutant):
            print(f"{len(verdicts)}/{len(mutants)} {_line(mutant)}", file=sys.stderr, flush=True)

    tests = [
        *asked.tests,
        *(test for module in {each.module for each in mutants} for test in MORE_TESTS.get(module, ())),
    ]
    options = ["-q", "-s", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    options += [] if asked.quick else list(SLOW_TESTS)
    judge = Judge(mutants, on_verdict, explained=is_explained, processes=asked.processes, quick=asked.quick)
    pytest.main([*options, *tests], plugins=[judge])
    return verdicts


def _tell(verdicts: dict[Mutant, Verdict], known: list[Known], *, whole: bool, every: bool) -> int:
    """A row for each module, and what is to be done."""
    counts: dict[str, Counter[str]] = {}
    unexplained: list[Mutant] = []
    for mutant, verdict in verdicts.items():
        said = next((each for each in known if each.means(mutant)), None)
        open_ = verdict is Verdict.NOBODY and said is None
        counts.setdefault(mutant.module, Counter())["open" if open_ else verdict] += 1
        unexplained += [mutant] if open_ else []
        if every:
            print(f"{verdict}: {_line(mutant)}{'  # ' + said.why if said is not None else ''}")
    print(
        "| module | mutants | noticed by unit tests | by the simulation | explained | open |\n|---|---|---|---|---|---|"
    )
    for module, found in sorted(counts.items()):
        row = (found[Verdict.UNIT], found[Verdict.SIMULATION], found[Verdict.NOBODY], found["open"])
        print(f"| `{module}` | {sum(row)} | {' | '.join(map(str, row))} |")
    for mutant in unexplained:
        print(f"NOT NOTICED {_line(mutant)}")
    stale = [each for each in known if whole and not any(each.means(mutant) for mutant in verdicts)]
    for entry in stale:
        print(f"NO SUCH MUTANT {entry}: take it out of known.toml")
    for entry in known:
        meant = {verdict for mutant, verdict in verdicts.items() if entry.means(mutant)}
        if meant and Verdict.NOBODY not in meant:
            print(f"NOTICED NOW {entry}: it may be taken out of known.toml")
    return 1 if unexplained or stale else 0


def _line(mutant: Mutant) -> str:
    nth = f" (number {mutant.nth + 1} of these)" if mutant.nth else ""
    change = f"{json.dumps(mutant.before, ensure_ascii=False)} → {json.dumps(mutant.after, ensure_ascii=False)}"
    return f"{mutant.module}:{mutant.lines[0]} {mutant.function}: {change}{nth}"


if __name__ == "__main__":
    sys.exit(main())
