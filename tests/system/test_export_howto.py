"""Every command of docs/how-to/export.md is run as it stands, in order, on a real cluster, and prints what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from tests.broker import free_port
from tests.waiting import wait_until
from tests.web_servers import s3_settings, s3_store

pytestmark = pytest.mark.system

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
RUN_S = 120.0


@dataclass
class Shell:
    folder: Path
    environment: dict[str, str]

    def run(self, lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-eu", "-c", lines], cwd=self.folder, env=self.environment, timeout=RUN_S, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The variables that lead to a store with a bucket."""
    with s3_store() as gate:
        settings = s3_settings(gate)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("s3")
        fs.mkdir("bucket")
        yield settings
        fs.clear_instance_cache()


@pytest.fixture
def shell(tmp_path: Path, store: dict[str, str]) -> Iterator[Shell]:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "windrow").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m windrow.cli "$@"\n')
    (commands / "windrow").chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    port = free_port()
    environment = (
        {name: value for name, value in os.environ.items() if not name.startswith("WINDROW_")}
        | {
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "WINDROW_SCHEDULER__PORT": str(port),
            "WINDROW_SCHEDULER__HTTP_PORT": "off",
            "WINDROW_STATE_DIR": str(tmp_path / "state"),
        }
        | store
    )
    language, first = BLOCKS[0]
    assert (language, first) == ("sh", "windrow up --nodes 2 --slots 1 &\n")
    arguments = shlex.split(first.removesuffix(" &\n"))
    with (tmp_path / "up.out").open("w") as out:
        up = subprocess.Popen(arguments, executable=str(commands / "windrow"), cwd=here, env=environment, stdout=out)
    try:
        wait_until(lambda: "ready" in (tmp_path / "up.out").read_text(), 60.0, "`windrow up` to be ready")
        yield Shell(here, environment | {"WINDROW_URL": f"tcp://127.0.0.1:{port}"})
    finally:
        up.terminate()
        assert up.wait(40.0) == 0


def test_every_command_does_what_the_page_says(shell: Shell) -> None:
    pages = BLOCKS[1:]
    assert sum(language == "sh" for language, _ in pages) > 9
    for at, (language, text) in enumerate(pages):
        if language != "sh":
            continue
        done = shell.run(text)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if at + 1 < len(pages) and pages[at + 1][0] == "text":
            # What an export says of itself has times in it; what is printed of files stands on the page.
            lines = [
                line for line in done.stdout.splitlines() if not re.search(r" rows?.* in \S+ m?s|bad rows: ", line)
            ]
            assert "\n".join(lines) + "\n" == pages[at + 1][1]
    here = shell.folder
    assert pq.read_table(here / "typed.parquet").num_rows == 4
    assert not (here / "flights.parquet").exists()
    assert [str(kind) for kind in pq.read_schema(here / "typed.parquet").types][3] == "int32"
    assert len(list((here / "days").iterdir())) == 1
    assert pq.read_table(here / "detached.parquet").num_rows == 4
    assert (here / "from-task.csv").read_text().startswith("id,carrier,dep_delay,miles,note\n")
    assert not [path.name for path in here.iterdir() if "windrow-" in path.name]
