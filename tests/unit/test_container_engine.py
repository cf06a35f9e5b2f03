"""Where no Docker engine can be started, one line says why, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import container_engine, containers, rabbit_tree
from tests.container_engine import NoEngine, running_engine

NAMESPACES = 'printf "%s\\n" "$*" >> "${0%/*}/ip.log"'
DAEMON = 'echo "level=info starting"; echo "failed to start daemon: no control groups"; exit 1'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where no engine answers, and on which every program there is does nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(container_engine, "CACHE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in container_engine.PROGRAMS:
        write_program(folder, name, "exit 0")
    write_program(folder, "docker", "exit 1")
    write_program(folder, "ip", NAMESPACES)
    # As the real ones do: drop the own options, and become the program behind them.
    write_program(folder, "setpriv", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    write_program(folder, "nsenter", 'shift; exec "$@"')
    write_program(folder, "dockerd", DAEMON)
    return folder


def write_program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def refused() -> str:
    with pytest.raises(NoEngine) as caught, running_engine():
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_daemon_that_does_not_start_is_told_with_its_last_line_and_its_network_is_removed(programs: Path) -> None:
    assert refused() == (
        "no Docker engine answers, and dockerd does not start here: failed to start daemon: no control groups"
    )
    made, up, deleted = (programs / "ip.log").read_text().splitlines()
    name = made.split()[-1]
    assert (made, up, deleted) == (f"netns add {name}", f"-n {name} link set lo up", f"netns delete {name}")


def test_a_network_that_cannot_be_made_is_told(programs: Path) -> None:
    write_program(programs, "ip", "echo 'Operation not permitted' >&2; exit 1")
    assert refused().endswith("Operation not permitted")


def test_what_is_missing_is_told_with_the_command_that_mends_it(programs: Path) -> None:
    (programs / "dockerd").unlink()
    (programs / "iptables").unlink()
    assert "dockerd, iptables is missing: run `apt-get install" in refused()


def test_whoever_is_not_root_is_told_so(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "only root can start one" in refused()


def test_a_run_without_an_engine_fails_with_that_line(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["containers", "--versions", "4.0"])
    assert containers.main() == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("test-containers: no Docker engine answers, and dockerd does not start here: failed to")


def test_the_suite_is_all_that_uses_a_broker() -> None:
    suite = containers.find_suite()
    assert {"tests/integration/test_amqp.py", "tests/integration/test_cluster.py"} < set(suite)
    assert "tests/contract/test_dispatch.py" in suite
    assert "tests/contract/test_store.py" not in suite


def test_there_is_a_debian_for_both_versions() -> None:
    assert rabbit_tree.SUITES == {"3.10": "bookworm", "4.0": "trixie"}
