"""`pip install '.[export]'`, as README.md says, into a new environment: the command works without the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, timeout_s: float = 120.0) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("WINDROW_", "PYTHON", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_readme_installs_works_without_the_checkout(tmp_path: Path) -> None:
    (line,) = re.findall(r"^```sh\n(pip install .*)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert line == "pip install '.[export]'"
    checkout = tmp_path / "checkout"
    shutil.copytree(
        ROOT,
        checkout,
        symlinks=True,
        ignore=shutil.ignore_patterns(".venv", ".git", ".*_cache", "__pycache__", "build"),
    )
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ("-c", "constraints.txt")
    run(python, "-m", "pip", "install", "-q", *constraints, ".[export]", cwd=checkout, timeout_s=400.0)
    shutil.rmtree(checkout)

    assert run(tmp_path / "venv" / "bin" / "windrow", "--version", cwd=tmp_path).startswith("windrow 0.")
    source = tmp_path / "numbers.csv"
    source.write_text("n,square\n1,1\n2,4\n")
    script = tmp_path / "try.py"
    script.write_text(
        "import windrow\n"
        "from windrow.export import export\n"
        "with windrow.local(slots=1) as client:\n"
        "    print(export(client, 'numbers.csv', 'out.parquet', where='n > 1').wait(timeout=60).rows)\n"
    )
    assert run(python, script, cwd=tmp_path) == "1\n"
    assert (tmp_path / "out.parquet").stat().st_size > 0
