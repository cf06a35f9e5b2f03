"""What must never be, as ARCHITECTURE.md lists it: read from the source, or counted while it runs."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from windrow.common.blocks import pack_block
from windrow.common.messages import Append, ChunkReport, NodeHello, Report, StartJob, TaskInfo, ValueRun
from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, JobId, NodeId, Now
from windrow.scheduler.core.events import Asked, BrokerChanged, Event
from windrow.scheduler.core.machines import ChunkState
from windrow.scheduler.core.reactor import apply
from windrow.scheduler.core.records import Snapshot
from windrow.scheduler.core.recovery import rebuild
from windrow.scheduler.core.state import Chunk, CoreSettings, State, add_chunk

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("common", "scheduler", "node", "monitoring", "windrow")
PURE = frozenset(
    [
        "__future__",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "difflib",
        "enum",
        "hashlib",
        "heapq",
        "math",
        "typing",
        "zlib",
    ]
)
KNOWN_TO = {
    "pika": ("common/amqp.py", "scheduler/dispatch.py", "node/consumer.py"),
    "zmq": ("scheduler/control.py", "node/scheduler_link.py", "windrow/client/link.py"),
    "sqlalchemy": ("scheduler/store/",),
    "alembic": ("scheduler/store/",),
    "sqlite3": ("scheduler/store/sqlite.py",),
    "psutil": ("node/load.py",),
    "starlette": ("scheduler/http.py",),
    "uvicorn": ("scheduler/http.py",),
    "prometheus_client": ("monitoring/metrics.py",),
    "grafana_foundation_sdk": ("monitoring/dashboards/build.py",),
    "pydantic": ("common/settings_model.py", "common/config.py"),
    "pydantic_settings": ("common/settings_model.py", "common/config.py"),
    "msgpack": ("common/codec.py", "common/values.py"),
    "click": ("windrow/cli/",),
    "rich": ("windrow/cli/",),
    "pyarrow": ("windrow/export/",),
    "duckdb": ("windrow/export/",),
    "fsspec": ("windrow/export/drivers.py",),
}
"""Package → the files, or folders, that may import it."""


def sources() -> Iterator[str]:
    """Every module of the product, by its path; the symlinks in windrow/ are not followed."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(part.is_symlink() for part in path.parents if part != ROOT and ROOT in part.parents):
                yield str(path.relative_to(ROOT))


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@cache
def imports(path: str) -> frozenset[str]:
    """Everything the module imports, wherever in it; `from a.b import c` gives `a.b` and `a.b.c`."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def below(path: str, seen: set[str]) -> set[str]:
    """The module and all of Windrow's that it imports, directly or not."""
    if path not in seen:
        seen.add(path)
        for name in imports(path):
            inner = name.removeprefix("windrow.").replace(".", "/")
            for candidate in (f"{inner}.py", f"{inner}/__init__.py", f"windrow/{inner}.py"):
                if name.startswith("windrow.") and (ROOT / candidate).is_file():
                    below(candidate, seen)
    return seen


def test_the_sources_are_found() -> None:
    found = list(sources())
    assert "scheduler/core/planning.py" in found
    assert "windrow/client/client.py" in found
    assert not any(path.startswith("windrow/scheduler/") for path in found)


def test_the_core_imports_nothing_that_could_do_io_or_tell_the_time() -> None:
    for path in sources():
        if path.startswith("scheduler/core/"):
            for node in ast.walk(tree(path)):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for name in names:
                    pure = name in PURE or name.startswith(("windrow.common.", "windrow.scheduler.core."))
                    assert pure, f"{path} imports {name}"


def test_states_change_only_by_the_tables() -> None:
    moved = 0
    for path in sources():
        if not path.startswith("scheduler/core/"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                if node.targets[0].attr != "state":
                    continue
                call = node.value
                assert isinstance(call, ast.Call), f"{path}:{node.lineno} assigns a state by hand"
                assert isinstance(call.func, ast.Name), f"{path}:{node.lineno} assigns a state by hand"
                assert call.func.id.startswith("next_"), f"{path}:{node.lineno} assigns a state by hand"
                moved += 1
    assert moved >= 5


def test_only_the_engine_commits() -> None:
    calls = [
        (path, node.func.value.attr)
        for path in sources()
        if path.startswith("scheduler/") and not path.startswith("scheduler/store/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
        and isinstance(node.func.value, ast.Attribute)
    ]  # fmt: skip
    assert calls == [("scheduler/engine.py", "_store")]


def test_the_scheduler_never_decodes_items_or_values() -> None:
    banned = {"windrow.common.values", "windrow.common.blocks.block_entries", "windrow.common.blocks.block_payload"}
    for path in sources():
        if path.startswith("scheduler/"):
            assert not imports(path) & banned, path


def test_only_worker_processes_load_code_of_users() -> None:
    users = [path for path in sources() if "windrow.node.sources" in imports(path)]
    assert users == ["node/worker.py"]
    for daemon in ("scheduler/service.py", "node/daemon.py"):
        reached = below(daemon, set())
        assert len(reached) > 20
        assert not reached & {"node/worker.py", "node/sources.py"}, daemon


def test_workers_touch_neither_pika_nor_zmq() -> None:
    for path in below("node/worker.py", set()):
        assert not {name.split(".")[0] for name in imports(path)} & {"pika", "zmq"}, path


def test_there_is_no_pickle_and_no_eval() -> None:
    for path in sources():
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}, path
        calls = {
            node.func.id
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}, path


def test_only_the_scheduler_and_what_people_see_go_by_a_wall_clock() -> None:
    """So one that is wrong on the machine of a node or a client changes nothing."""
    clocks = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now", "date.today"}
    reading = {
        path
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in clocks
    }
    # The core's clocks; a property of messages that nobody reads; ages in a table; {date} in a destination's name.
    assert reading == {
        "scheduler/engine.py", "scheduler/dispatch.py", "windrow/cli/commands/jobs.py", "windrow/export/starting.py"
    }  # fmt: skip


def test_nothing_forks() -> None:
    for path in sources():
        assert not {name.split(".")[0] for name in imports(path)} & {"multiprocessing"}, path
        calls = [ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        assert not {"os.fork", "os.forkpty"} & set(calls), path
        assert "preexec_fn" not in ast.unparse(tree(path)), path


@pytest.mark.parametrize("package", KNOWN_TO)
def test_each_outside_thing_is_known_where_it_should_be_and_nowhere_else(package: str) -> None:
    knowing = [path for path in sources() if package in {name.split(".")[0] for name in imports(path)}]
    assert knowing, f"nothing imports {package} any more: take it out of this test and of ARCHITECTURE.md"
    for path in knowing:
        assert path.startswith(KNOWN_TO[package]), f"{path} imports {package}"


# ── No loop over items in the core ───────────────────────────────────────────────────────────────────────────────

NODE = NodeId("n")
JOB = JobId("j")
NOW = Now(1.0, 1e9)


def count_steps(act: Callable[[], object]) -> int:
    """How many bytecodes of Python `act` takes: a loop over items cannot hide from this."""
    steps = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    before = sys.gettrace()
    # Else the finalisers of what other tests have left would be counted, whenever the collector happens to run.
    gc.collect()
    gc.disable()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
        gc.enable()
    return steps


def new_state() -> State:
    state = rebuild(Snapshot(1, "c", b"s", 0, (), (), ()), CoreSettings(), NOW)
    take(state, BrokerChanged(True, ""))
    take(state, Asked(0, NodeHello(NODE, "b", "n", "h", 1, 2, ("default",), tasks=(TaskInfo("t"),))))
    take(state, Asked(0, StartJob(JOB, "t")))
    return state


def take(state: State, event: Event) -> None:
    apply(state, event, NOW)


def steps_of_an_append(items: int) -> int:
    state = new_state()
    append = Append(JOB, 0, items, pack_block([b"x"] * items))
    steps = count_steps(lambda: take(state, Asked(0, append)))
    assert len(state.jobs[JOB].pending) == items
    return steps


def steps_of_a_report(items: int) -> int:
    state = new_state()
    take(state, Asked(0, Append(JOB, 0, items, pack_block([b"x"] * items))))
    job = state.jobs[JOB]
    job.pending.remove(0, items)
    fence = Fence(1, 1)
    add_chunk(state, job, Chunk(fence, JOB, NODE, 0, items, RangeSet([(0, items)]), ChunkState.SENT, 0.5, 1.0))
    values = ValueRun(0, items, pack_block([b"v"] * items))
    report = Report(NODE, "b", 1, (fence,), (ChunkReport(fence, JOB, (values,)),))
    steps = count_steps(lambda: take(state, Asked(0, report)))
    assert len(job.done) == items
    return steps


@pytest.mark.parametrize("steps_of", [steps_of_an_append, steps_of_a_report])
def test_the_core_does_as_much_for_fifty_thousand_items_as_for_ten(steps_of: Callable[[int], int]) -> None:
    few, many = steps_of(10), steps_of(50_000)
    assert few > 100
    assert many == few
