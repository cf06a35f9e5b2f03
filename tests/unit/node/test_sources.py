"""Loading tasks. Each case runs in a process of its own, as imports cannot be undone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CODE = """
import json, sys
from windrow.node.sources import load_sources
sources, allow, commands = json.loads(sys.argv[1])
loaded = load_sources(sources, allow, allow_commands=commands)
print(json.dumps({
    "tasks": {task.name: [task.version, task.options.retries] for task in loaded.tasks},
    "errors": [[error.source, error.error] for error in loaded.errors],
}))
"""
TASK = "from windrow.common.tasks import task\n@task\ndef f(x): return x\n"


def load(folder: Path, *sources: str, allow: tuple[str, ...] = (), commands: bool = False) -> Any:
    argument = json.dumps([sources, allow, commands])
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, argument], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_module_of_the_current_folder_with_decorator_options(tmp_path: Path) -> None:
    write(tmp_path, "mod.py", "from windrow.common.tasks import task\n@task(retries=3)\ndef f(x): return x\n")
    loaded = load(tmp_path, "mod")
    version, retries = loaded["tasks"]["mod:f"]
    assert (len(version), retries) == (12, 3)
    assert loaded["errors"] == []


def test_the_version_changes_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, "mod.py", TASK)
    before = load(tmp_path, "mod")["tasks"]["mod:f"]
    write(tmp_path, "mod.py", TASK + "# changed\n")
    assert load(tmp_path, "mod")["tasks"]["mod:f"] != before


def test_a_package_brings_its_tasks_submodules_and_no_others(tmp_path: Path) -> None:
    for name in ("__init__", "tasks", "sub/__init__", "sub/tasks", "deep/__init__", "deep/tasks/__init__"):
        write(tmp_path, f"pkg/{name}.py", TASK)
    write(tmp_path, "pkg/deep/tasks/mail.py", TASK)
    write(tmp_path, "pkg/other.py", "raise RuntimeError('not to be imported')")
    loaded = load(tmp_path, "pkg")
    assert loaded["errors"] == []
    assert {"pkg:f", "pkg.tasks:f", "pkg.sub.tasks:f", "pkg.deep.tasks.mail:f"} <= set(loaded["tasks"])


def test_a_file_is_named_after_itself_and_sees_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "jobs/my.py", "import neighbour\n" + TASK)
    write(tmp_path, "jobs/neighbour.py", "")
    loaded = load(tmp_path, "./jobs/my.py")
    assert loaded["errors"] == []
    assert "my:f" in loaded["tasks"]


def test_what_fails_is_told_in_one_line_and_the_rest_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, "good.py", TASK)
    write(tmp_path, "bad.py", "x = 1\n\nraise ValueError('one\\ntwo')\n")
    write(tmp_path, "leaves.py", "import sys\nsys.exit(3)\n")
    write(tmp_path, "typo.py", "def f(:\n")
    loaded = load(tmp_path, "bad", "leaves", "typo", "./missing.py", "good")
    assert "good:f" in loaded["tasks"]
    errors = dict(loaded["errors"])
    assert list(errors) == ["bad", "leaves", "typo", "./missing.py"]
    assert errors["bad"] == "ValueError: one two (bad.py, line 3)"
    assert errors["leaves"].startswith("SystemExit: 3")
    assert "typo.py, line 1" in errors["typo"]
    assert "there is no file" in errors["./missing.py"]


def test_a_file_that_would_hide_a_module_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "json.py", TASK)
    (error,) = load(tmp_path, "./json.py")["errors"]
    assert "rename" in error[1]


def test_allow_takes_the_public_functions_that_the_module_defines(tmp_path: Path) -> None:
    write(tmp_path, "plain.py", "from os.path import join\ndef f(): ...\ndef _g(): ...\nclass C: ...\nx = 1\n")
    loaded = load(tmp_path, allow=("plain", "math", "nowhere"))
    mine = {name for name in loaded["tasks"] if name.startswith("plain:")}
    assert mine == {"plain:f"}
    assert "math:sqrt" in loaded["tasks"]
    assert [error[0] for error in loaded["errors"]] == ["nowhere"]


def test_an_installed_module_has_its_distributions_version(tmp_path: Path) -> None:
    version, _ = load(tmp_path, allow=("msgpack",))["tasks"]["msgpack:packb"]
    assert version.startswith("msgpack ")


def test_commands_are_offered_only_where_they_are_allowed(tmp_path: Path) -> None:
    write(tmp_path, "mod.py", f"from windrow.run.tasks import command\n{TASK}")
    assert {"mod:f"} == {name for name in load(tmp_path, "mod")["tasks"] if "export" not in name}
    assert "windrow.run:command" not in load(tmp_path, "windrow")["tasks"]
    allowed = load(tmp_path, "mod", commands=True)
    assert {"mod:f", "windrow.run:command"} <= allowed["tasks"].keys()
    assert allowed["errors"] == []
