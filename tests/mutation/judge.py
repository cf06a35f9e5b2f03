"""Tells which mutants no test notices: each in a process of its own, with the tests that run its lines alone.

Tests are collected once. Then, for each mutant, a copy of this process (fork) puts the changed code into the function
and runs them; a change outside of functions (tables, defaults) needs an interpreter of its own. What the unit tests let
through is shown to the slow ones among them, and to some seeds of the simulation. What nobody has noticed then, and
nobody has explained, is looked at once more in an interpreter of its own, with every test that touches the module: what
is found out once and kept, or made on import, hides its lines from all tests but the first.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.operators import Mutant, mutate

ROOT = Path(__file__).resolve().parents[2]
CPU_S_MAX = 120
"""Of processor time, for all tests of one mutant. (A busy machine is no endless loop.)"""
LOOP_S, LOOP_TIMES = 2.0, 10
"""A test is in an endless loop, which counts as noticed, after so much processor time and so many times what it took on
the code as it is."""
MEMORY_BYTES_MAX = 3 << 30
SEEDS = 12
SIMULATION = "simulation"
"""Stands among the tests for the kept scenarios and the first SEEDS seeds."""


class Verdict(StrEnum):
    """Who has noticed."""

    UNIT = "unit tests"
    SIMULATION = "simulation"
    NOBODY = "nobody"


@dataclass(slots=True)
class Runs:
    """Which tests run which lines, as seen once on the code as it is; the simulation is one of them."""

    took_s: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict[str, dict[int, list[str]]])
    """Module → line → tests. What runs when the module is imported is not in it."""

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that may notice."""
        lines, (first, last) = self.lines.get(mutant.module, {}), mutant.lines
        return self.ordered({name for line in range(first, last + 1) for name in lines.get(line, ())})

    def of_module(self, module: str) -> list[str]:
        """The tests that run anything of it."""
        return self.ordered({name for names in self.lines.get(module, {}).values() for name in names})

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Quick ones first, the simulation last."""
        return sorted(names, key=lambda name: (name == SIMULATION, self.took_s[name], name))


def dotted(module: str) -> str:
    return ".".join(("windrow", *_in_package(module).removesuffix(".py").split("/")))


def _in_package(module: str) -> str:
    """Most folders of the package lie beside it and are linked into it."""
    return module.removeprefix("windrow/")


def _path(module: str) -> str:
    """As an import finds it."""
    return str(ROOT / "windrow" / _in_package(module))


class Judge:
    """A plugin of pytest that judges in place of running the tests."""

    def __init__(
        self,
        mutants: list[Mutant],
        on_verdict: Callable[[Mutant, Verdict], None],
        *,
        explained: Callable[[Mutant], bool],
        processes: int,
        quick: bool,
    ) -> None:
        self._mutants, self._on_verdict, self._processes, self._quick = mutants, on_verdict, processes, quick
        self._explained = explained
        self._items: dict[str, pytest.Item] = {}
        # Once, for whoever reads the survivors may begin to mend the code.
        self._sources = {module: (ROOT / module).read_text() for module in {each.module for each in mutants}}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        runs = self._look()
        live: dict[int, Mutant] = {}
        todo = iter(self._mutants)
        while True:
            while len(live) < self._processes and (mutant := next(todo, None)) is not None:
                live[_fork(lambda mutant=mutant: self._try(mutant, runs))] = mutant
            if not live:
                return True
            pid, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            verdicts = {0: Verdict.NOBODY, 3: Verdict.SIMULATION}
            self._on_verdict(live.pop(pid), verdicts.get(code, Verdict.UNIT))

    def _look(self) -> Runs:
        """Run everything once on the code as it is; what fails then could tell nothing."""
        paths = {str(ROOT / each.module): each.module for each in self._mutants}
        reading, writing = os.pipe()
        pid = _fork(lambda: self._trace(paths, writing), cpu_s_max=600)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        if os.waitpid(pid, 0)[1]:
            raise pytest.UsageError(f"it fails on the code as it is and could tell nothing: {told}")
        found = json.loads(told)
        lines = {name: {int(line): tests for line, tests in each.items()} for name, each in found["lines"].items()}
        return Runs(found["took_s"], lines)

    def _trace(self, paths: dict[str, str], writing: int) -> int:
        runs = Runs()
        seen: set[tuple[str, int]] = set()
        known: dict[str, str | None] = {}

        def on_line(frame: FrameType, event: str, _: object) -> object:
            seen.add((known[frame.f_code.co_filename] or "", frame.f_lineno))
            return on_line

        def on_call(frame: FrameType, event: str, _: object) -> object:
            name = frame.f_code.co_filename
            if name not in known:
                known[name] = paths.get(os.path.realpath(name))
            return on_line if known[name] else None

        for name in (*self._items, *(() if self._quick else (SIMULATION,))):
            seen.clear()
            began = time.process_time()
            threading.settrace(on_call)  # Of threads that the test starts.
            sys.settrace(on_call)
            passed = self._run(name)
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            if not passed:
                os.write(writing, name.encode())
                return 1
            runs.took_s[name] = time.process_time() - began
            for module, line in seen:
                runs.lines.setdefault(module, {}).setdefault(line, []).append(name)
        with os.fdopen(writing, "w") as pipe:
            json.dump({"took_s": runs.took_s, "lines": runs.lines}, pipe)
        return 0

    def _try(self, mutant: Mutant, runs: Runs) -> int:
        """In a process of its own: 1, a unit test notices; 3, the simulation; 0, nobody."""
        function = _find_function(mutant)
        source = self._sources[mutant.module]
        code = _changed_code(source, mutant, function) if function is not None else None
        if function is None or code is None:
            return _try_anew(source, mutant, runs.of(mutant) or runs.ordered(runs.took_s))
        function.__code__ = code
        for name in runs.of(mutant):
            signal.setitimer(signal.ITIMER_PROF, LOOP_S + LOOP_TIMES * runs.took_s[name])
            if not self._run(name):
                return 3 if name == SIMULATION else 1
        signal.setitimer(signal.ITIMER_PROF, 0)
        touching = runs.of_module(mutant.module)
        return _try_anew(source, mutant, touching) if touching and not self._explained(mutant) else 0

    def _run(self, name: str) -> bool:
        """Whether the test passes."""
        if name == SIMULATION:
            return simulate()
        reports = runtestprotocol(self._items[name], log=False, nextitem=None)
        return all(report.passed for report in reports)


def simulate() -> bool:
    """Some seeds, and what was found once."""
    # Not before the finder of a mutant is in place: these import what it changes.
    from tests.simulation.scenario import draw_scenario, from_json
    from tests.simulation.world import run_scenario

    kept = sorted((ROOT / "tests/simulation/kept").glob("*.json"))
    scenarios = [from_json(json.dumps(json.loads(path.read_text())["scenario"])) for path in kept]
    try:
        return all(run_scenario(each)[0] is None for each in (*scenarios, *map(draw_scenario, range(SEEDS))))
    except Exception:
        return False


def _fork(run: Callable[[], int], cpu_s_max: int = CPU_S_MAX) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s_max, cpu_s_max))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        code = run()
    finally:
        os._exit(code)


# ── A change inside of a function ────────────────────────────────────────────────────────────────────────────────


def _find_function(mutant: Mutant) -> FunctionType | None:
    found: object = importlib.import_module(dotted(mutant.module))
    for name in mutant.function.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    if isinstance(found, property):
        found = found.fget
    found = getattr(found, "__func__", found)
    return found if isinstance(found, FunctionType) else None


def _changed_code(source: str, mutant: Mutant, function: FunctionType) -> CodeType | None:
    """None where the change is not in the code of the function, but in its defaults."""
    before = function.__code__
    for code in _all_codes(_compile(source, mutant)):
        if code.co_qualname == before.co_qualname and code.co_firstlineno == before.co_firstlineno:
            return code if code != before and code.co_freevars == before.co_freevars else None
    return None


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _all_codes(each)


def _compile(source: str, mutant: Mutant) -> CodeType:
    return compile(mutate(source, mutant), _path(mutant.module), "exec")


# ── A change that an import makes ────────────────────────────────────────────────────────────────────────────────


class _Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports the module with its change."""

    def __init__(self, source: str, mutant: Mutant) -> None:
        super().__init__(dotted(mutant.module), _path(mutant.module))
        self._source, self._mutant = source, mutant

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self.path)

    def get_code(self, fullname: str) -> CodeType:
        return _compile(self._source, self._mutant)


def _try_anew(source: str, mutant: Mutant, names: list[str]) -> int:
    said = [getattr(mutant, each) for each in Mutant.__dataclass_fields__]
    asked = {"source": source, "mutant": said, "names": names}
    command = [sys.executable, "-m", "tests.mutation.judge"]
    return subprocess.run(command, cwd=ROOT, input=json.dumps(asked), text=True).returncode


def _judge_anew() -> int:
    asked = json.load(sys.stdin)
    *rest, lines = asked["mutant"]
    sys.meta_path.insert(0, _Changed(asked["source"], Mutant(*rest, lines=tuple(lines))))
    names = [name for name in asked["names"] if name != SIMULATION]
    if names and pytest.main(["-x", "-q", "-p", "no:cacheprovider", *names]) != pytest.ExitCode.OK:
        return 1
    return 3 if SIMULATION in asked["names"] and not simulate() else 0


if __name__ == "__main__":
    sys.exit(_judge_anew())
