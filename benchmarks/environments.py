"""Makes an environment of its own for each neighbour, from its pinned requirements, under .bench/."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.model import Missing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".bench"
NEIGHBOURS = HERE / "neighbours"
INSTALL_S = 900.0


@cache
def environment(name: str) -> Path:
    """The folder with the programs of this neighbour; made when it is first wanted, and again when its pins change."""
    wanted = (HERE / "requirements" / f"{name}.txt").read_text()
    folder = CACHE / "env" / name
    ready = folder / "requirements.txt"
    if not (ready.exists() and ready.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        print(f"  installing {name} …", flush=True)
        _run([sys.executable, "-m", "venv", str(folder)], name)
        pins = HERE / "requirements" / f"{name}.txt"
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-r", str(pins)], name)
        ready.write_text(wanted)
    return folder / "bin"


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{name} could not be installed: {lines[-1][:200] if lines else 'no reason given'}")


def program(name: str, package: str) -> str:
    """The path of a program of this machine."""
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed: apt-get install -y --no-install-recommends {package}")
    return found


def pinned(name: str) -> dict[str, str]:
    """The versions of one neighbour's environment."""
    lines = (HERE / "requirements" / f"{name}.txt").read_text().split()
    return dict(line.split("==", 1) for line in lines)
