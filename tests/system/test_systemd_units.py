"""The systemd units: systemd finds no fault with them, they are closed down, and their times fit the settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from windrow.node.settings import NodeSettings

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EXPOSURE_MAX = {"windrow-scheduler.service": 1.5, "windrow-node.service": 2.5}
"""As `systemd-analyze security` counts, from 0 (closed) to 10."""
KILL_AFTER_GRACE_S = 5
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program is not None, "this test needs systemd-analyze: apt-get install -y systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def installed(unit: Path, folder: Path) -> Path:
    """The unit with a program in place of Windrow's that is there on every machine."""
    text, changed = re.subn(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    assert changed == 1
    copy = folder / unit.name
    copy.write_text(text)
    return copy


def test_there_are_the_two_units() -> None:
    assert {unit.name for unit in UNITS} == set(EXPOSURE_MAX)


@each_unit
def test_systemd_finds_no_fault(unit: Path, tmp_path: Path) -> None:
    # Its exit code is 0 for settings that it does not know, too: what it prints is the answer.
    checked = analyze("verify", "--man=no", str(installed(unit, tmp_path)))
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, "", "")


@each_unit
def test_the_service_is_closed_down(unit: Path, tmp_path: Path) -> None:
    threshold = round(EXPOSURE_MAX[unit.name] * 10)
    checked = analyze("security", "--offline=true", f"--threshold={threshold}", str(installed(unit, tmp_path)))
    assert checked.returncode == 0, checked.stdout


@each_unit
def test_it_runs_our_command_as_a_watched_service_with_state(unit: Path) -> None:
    found = settings(unit)
    role = unit.stem.removeprefix("windrow-")
    assert found["ExecStart"] == [f"/opt/windrow/bin/windrow {role}"]
    assert found["EnvironmentFile"] == [f"-/etc/windrow/{role}.env"]
    assert found["Type"] == ["notify"]
    assert int(found["WatchdogSec"][0]) >= 10
    assert found["KillMode"] == ["mixed"]
    assert found["Restart"] == ["on-failure"]
    assert found["User"] == ["windrow"]
    assert found["StateDirectory"][0].split("/")[0] == "windrow"


def test_the_two_daemons_share_no_state_folder() -> None:
    folders = [settings(unit)["StateDirectory"][0] for unit in UNITS]
    assert len(set(folders)) == len(folders)


def test_systemd_waits_longer_than_the_nodes_grace() -> None:
    stop_s = int(settings(DEPLOY / "systemd" / "windrow-node.service")["TimeoutStopSec"][0])
    grace_s = NodeSettings(url="", state_dir=Path(), slots=1, name="").grace_s
    assert stop_s > grace_s + KILL_AFTER_GRACE_S


def test_a_worker_killed_for_its_memory_does_not_stop_the_node() -> None:
    assert settings(DEPLOY / "systemd" / "windrow-node.service")["OOMPolicy"] == ["continue"]


def test_the_account_of_the_units_can_be_made() -> None:
    program = shutil.which("systemd-sysusers")
    assert program is not None, "this test needs systemd-sysusers: apt-get install -y systemd"
    conf = DEPLOY / "systemd" / "windrow-sysusers.conf"
    checked = subprocess.run([program, "--dry-run", str(conf)], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    users = {user for unit in UNITS for user in settings(unit)["User"]}
    assert users == set(re.findall(r"^u (\w+)", conf.read_text(), re.MULTILINE))
