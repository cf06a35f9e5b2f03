"""A Docker engine for tests: the one that answers, or one of our own in a network namespace of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from tests.rabbit_tree import CACHE, NoTree, make_tree
from tests.waiting import wait_until

CURE = "apt-get install -y --no-install-recommends docker.io iptables iproute2 debootstrap"
PROGRAMS = ("dockerd", "docker", "iptables", "ip", "nsenter", "setpriv")
START_S = 60.0
PULL_S = 300.0
ENTRY = "usr/local/bin/windrow-rabbitmq"
ENTRY_TEXT = """#!/bin/sh
set -e
cat >/etc/rabbitmq/rabbitmq.conf <<END
default_user = ${RABBITMQ_DEFAULT_USER:-guest}
default_pass = ${RABBITMQ_DEFAULT_PASS:-guest}
default_vhost = ${RABBITMQ_DEFAULT_VHOST:-/}
loopback_users = none
log.console = true
log.file = false
END
export HOME=/var/lib/rabbitmq
exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups /usr/lib/rabbitmq/bin/rabbitmq-server
"""


class NoEngine(Exception):
    """No Docker engine can be had on this machine; the message is one line."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One that answers."""

    own: bool
    """Ours: it reaches no registry, since its network is loopback only."""
    before: tuple[str, ...]
    """What is put before a command that is to reach its containers."""
    environment: dict[str, str]

    def docker(self, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", *words],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip


@contextlib.contextmanager
def running_engine() -> Generator[Engine]:
    """Ours is stopped at the end; NoEngine where none answers and none can be started."""
    environment = {**os.environ, "TESTCONTAINERS_RYUK_DISABLED": "true"}
    there = Engine(False, (), environment)
    if shutil.which("docker") is not None and _answers(there):
        yield there
        return
    _check_machine()
    CACHE.mkdir(exist_ok=True)
    with contextlib.ExitStack() as clearing:
        lock = clearing.enter_context((CACHE / "engine.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NoEngine("another run of the containers is under way in this checkout: wait for it") from None
        folder = Path(clearing.enter_context(tempfile.TemporaryDirectory(prefix="windrow-engine-")))
        namespace = clearing.enter_context(_namespace(f"windrow-{os.getpid()}"))
        environment["DOCKER_HOST"] = f"unix://{folder}/docker.sock"
        engine = Engine(True, ("nsenter", f"--net={namespace}"), environment)
        clearing.enter_context(_dockerd(engine, folder))
        yield engine


def _check_machine() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise NoEngine(f"no Docker engine answers, and to start one {', '.join(missing)} is missing: run `{CURE}`")
    if os.geteuid() != 0:
        raise NoEngine("no Docker engine answers, and only root can start one: start Docker, or run this as root")


def _answers(engine: Engine) -> bool:
    try:
        return engine.docker("info", timeout_s=5.0).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextlib.contextmanager
def _namespace(name: str) -> Generator[Path]:
    """A network of its own with nothing but loopback: bridges and firewall rules of the engine touch no other."""
    _must(["ip", "netns", "add", name], "no network namespace can be made for a Docker engine")
    try:
        _must(["ip", "-n", name, "link", "set", "lo", "up"], "no loopback in a network namespace")
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


@contextlib.contextmanager
def _dockerd(engine: Engine, folder: Path) -> Generator[None]:
    settings, log = folder / "daemon.json", folder / "log"
    settings.write_text("{}\n")  # not the machine's own, which may contradict
    command = [
        # Not `ip netns exec`, which mounts /sys anew: the engine would find no control groups.
        "setpriv", "--pdeathsig", "TERM", "--", *engine.before, "dockerd", "--config-file", str(settings),
        "--data-root", str(CACHE / "engine"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "pid"), "--host", engine.environment["DOCKER_HOST"],
    ]  # fmt: skip
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)
    try:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: process.poll() is not None or _answers(engine), START_S, "dockerd to answer", poll_s=0.2)
        if process.poll() is not None or not _answers(engine):
            lines = log.read_text(errors="replace").splitlines() or ["it says nothing"]
            raise NoEngine(f"no Docker engine answers, and dockerd does not start here: {lines[-1]}")
        left = engine.docker("ps", "--all", "--quiet").stdout.split()
        if left:  # of a run that was killed
            engine.docker("rm", "--force", *left)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_image(engine: Engine, version: str) -> str:
    """The name of an image with this version of RabbitMQ: the official one where a registry answers, else our own."""
    official, ours = f"rabbitmq:{version}", f"windrow-test/rabbitmq:{version}-{zlib.crc32(ENTRY_TEXT.encode()):x}"
    for name in (official, ours):
        if engine.docker("image", "inspect", name).returncode == 0:
            return name
    if not engine.own and _pulls(engine, official):
        return official
    try:
        tree = make_tree(version)
    except NoTree as error:
        raise NoEngine(f"no image of RabbitMQ {version}: no registry answers, and {error}") from None
    entry = tree / ENTRY
    entry.write_text(ENTRY_TEXT)
    entry.chmod(0o755)
    pack = ["tar", "--directory", str(tree), "--numeric-owner", "--exclude=./tmp/*", "--create", "."]
    changes = [f'ENTRYPOINT ["/{ENTRY}"]', "EXPOSE 5672", "ENV LANG=C.UTF-8"]
    load = ["docker", "import", *(word for change in changes for word in ("--change", change)), "-", ours]
    with subprocess.Popen(pack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as packing:
        loaded = subprocess.run(
            load, env=engine.environment, stdin=packing.stdout, capture_output=True, text=True, check=False
        )
    if loaded.returncode or packing.returncode:
        raise NoEngine(f"the image {ours} cannot be made: {(loaded.stderr or 'tar failed').strip().splitlines()[-1]}")
    return ours


def _pulls(engine: Engine, image: str) -> bool:
    try:
        return engine.docker("pull", "--quiet", image, timeout_s=PULL_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _must(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoEngine(f"{what}: {' '.join(command)}: {(done.stderr or done.stdout).strip()}")
