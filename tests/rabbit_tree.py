"""A Debian tree with RabbitMQ in it, made by debootstrap: for versions that this machine's packages do not have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".containers"
"""Everything that must outlive a run: trees, and what the engine keeps. `make clean` removes it."""
SUITES = {"3.10": "bookworm", "4.0": "trixie"}
"""Which Debian has which RabbitMQ."""
MIRROR = os.environ.get("WINDROW_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
CURE = "apt-get install -y --no-install-recommends debootstrap"

_NO_SERVICES = "#!/bin/sh\nexit 101\n"
_INSTALL = (
    "apt-get update -qq && apt-get install -y -qq --no-install-recommends rabbitmq-server && apt-get clean"
    " && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/*"
)


class NoTree(Exception):
    """It cannot be made on this machine; the message is one line."""


def make_tree(version: str) -> Path:
    """The tree of this version of RabbitMQ; made where it is not there yet, which takes a minute."""
    suite = SUITES.get(version)
    if suite is None:
        raise NoTree(f"no RabbitMQ {version}: there are {', '.join(SUITES)}")
    tree = CACHE / f"debian-{suite}"
    if tree.exists():
        return tree
    if os.geteuid() != 0:
        raise NoTree(
            f"a tree of Debian {suite} with RabbitMQ {version} can only be made as root: run this as root once"
        )
    if shutil.which("debootstrap") is None:
        raise NoTree(f"no debootstrap for a tree of Debian {suite} with RabbitMQ {version}: run `{CURE}`")
    CACHE.mkdir(exist_ok=True)
    part = CACHE / f"debian-{suite}.part"
    shutil.rmtree(part, ignore_errors=True)
    _run(suite, ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(part), MIRROR])
    no_services = part / "usr/sbin/policy-rc.d"
    no_services.write_text(_NO_SERVICES)
    no_services.chmod(0o755)
    _run(suite, ["chroot", str(part), "sh", "-c", _INSTALL])
    part.rename(tree)
    return tree


def _run(suite: str, command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = said[-1].strip() if said else f"exit code {done.returncode}"
        raise NoTree(f"a tree of Debian {suite} cannot be made from {MIRROR}: {command[0]} says: {last}")


if __name__ == "__main__":
    for asked in sys.argv[1:] or SUITES:
        print(asked, make_tree(asked), flush=True)
