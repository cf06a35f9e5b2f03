"""A rabbitmq-server of our own, of this machine's version or out of a Debian tree, alone or in a cluster of several."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.rabbit_tree import make_tree
from tests.waiting import wait_until

START_S = 60.0
USERS = ("rabbitmq", "nobody")


class NoBroker(Exception):
    """There is no way to a RabbitMQ on this machine."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Installation:
    """Where a RabbitMQ lies, and as whom it runs: as root it would own files of the machine."""

    tree: Path
    """`/`, or a tree to `chroot` into."""
    programs: Path
    """The folder of rabbitmq-server and rabbitmqctl, as seen within the tree."""
    user: tuple[int, int] | None
    """Its numbers of user and group; None: whoever we are."""

    def command(self, *words: str) -> list[str]:
        there = [] if self.tree == Path("/") else ["chroot", str(self.tree)]
        if self.user is None:
            return [*there, *words]
        uid, gid = self.user
        return [*there, "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--", *words]

    def make_folder(self) -> Path:
        """For one server's files; as seen from outside."""
        if self.tree == Path("/"):
            return Path(tempfile.mkdtemp(prefix="windrow-rabbit-"))
        return Path(tempfile.mkdtemp(prefix="windrow-rabbit-", dir=self.tree / "tmp"))

    def within(self, path: Path) -> Path:
        """A path as the server sees it."""
        return Path("/") / path.relative_to(self.tree)

    def own(self, folder: Path) -> None:
        if self.user is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *self.user)


def find_installation() -> Installation | None:
    """What this machine has; Debian's wrappers in /usr/sbin insist on paths of their own."""
    folder = _server_folder()
    return None if folder is None else Installation(Path("/"), folder, _ordinary_user())


def make_installation(version: str) -> Installation:
    """This version, whatever the machine has; `rabbit_tree.NoTree` where it cannot be had."""
    tree = make_tree(version)
    numbers: dict[str, tuple[int, int]] = {}
    for line in (tree / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        numbers[name] = (int(uid), int(gid))
    return Installation(tree, Path("/usr/lib/rabbitmq/bin"), numbers[USERS[0]])


def _server_folder() -> Path | None:
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found else None


def _ordinary_user() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    for name in USERS:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise NoBroker("no ordinary user to run RabbitMQ as: neither `rabbitmq` nor `nobody` exists")


@dataclass(frozen=True, slots=True)
class Group:
    """What the servers of one cluster share."""

    names: tuple[str, ...]
    epmd_port: int
    cookie: str

    @property
    def settings(self) -> str:
        """They find each other at every start from nothing, in whatever order they start."""
        lines = ["cluster_formation.peer_discovery_backend = classic_config"]
        lines += [
            f"cluster_formation.classic_config.nodes.{number} = {name}@localhost"
            for number, name in enumerate(self.names, 1)
        ]
        return "\n".join(lines) + "\n"


class PrivateBroker:
    """A rabbitmq-server of our own: own folder, ports, epmd and cookie, run as an ordinary user.

    In a group it shares epmd and cookie with the others; whoever makes the group runs the epmd, and starts it.
    """

    def __init__(self, installation: Installation, name: str = "windrow", group: Group | None = None) -> None:
        self._installation = installation
        self._name = name
        self._group = group
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: Epmd | None = None
        self._base = installation.make_folder()
        for each in ("mnesia", "log"):
            (self._base / each).mkdir()
        cookie = self._base / ".erlang.cookie"
        cookie.write_text(group.cookie if group else secrets.token_hex(16))
        cookie.chmod(0o400)
        (self._base / "enabled_plugins").write_text("[].\n")
        installation.own(self._base)
        if group is None:
            try:
                self.first_start()
            except BaseException:
                self.close()
                raise

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    def first_start(self) -> None:
        """On ports that it finds."""
        for attempt in range(3):
            self._port, self._dist_port = free_port(), free_port()
            self._epmd_port = self._group.epmd_port if self._group else free_port()
            (self._base / "rabbitmq.conf").write_text(
                f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
                "loopback_users = none\n"
                "vm_memory_high_watermark.absolute = 512MB\n"
                "disk_free_limit.absolute = 50MB\n" + (self._group.settings if self._group else "")
            )
            self._installation.own(self._base)
            try:
                self.start()
                return
            except RuntimeError:
                self.close_processes()
                if attempt == 2:  # somebody else may take a port between free_port() and the start: twice is enough
                    raise

    def start(self) -> None:
        if self._epmd is None and self._group is None:
            self._epmd = Epmd(self._installation, self._epmd_port)
        for log in (self._base / "log").glob("*.log"):
            log.unlink()
        self._pid_file.unlink(missing_ok=True)
        with (self._base / "server.out").open("wb") as sink:
            server = self._server = subprocess.Popen(
                self._command("rabbitmq-server"), env=self._environment(), cwd=self._base,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: self._is_up() or server.poll() is not None, START_S, "RabbitMQ to start", poll_s=0.05)
        if server.poll() is not None:
            raise RuntimeError(f"rabbitmq-server ended at once:\n{(self._base / 'server.out').read_text()[-4000:]}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(int(self._pid_file.read_text()), signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(int(self._pid_file.read_text()), signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        self.forget()
        self.start()

    def forget(self) -> None:
        """Kill it, and take all that it has."""
        self.kill()
        shutil.rmtree(self._base / "mnesia")
        (self._base / "mnesia").mkdir()
        self._installation.own(self._base)

    def ctl(self, *args: str) -> str:
        done = subprocess.run(
            self._command("rabbitmqctl", "-q", *args),
            env=self._environment(), cwd=self._base, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: {done.stderr or done.stdout}")
        return done.stdout

    def memory_bytes(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            return int(psutil.Process(int(self._pid_file.read_text())).memory_info().rss)
        return None

    def close(self) -> None:
        self.close_processes()
        shutil.rmtree(self._base, ignore_errors=True)

    def close_processes(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.close()
            self._epmd = None

    @property
    def _pid_file(self) -> Path:
        return self._base / "pid"

    def _is_up(self) -> bool:
        logs = (self._base / "log").glob("*.log")
        return any("Server startup complete" in log.read_text(errors="replace") for log in logs)

    def _end(self, signum: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(self._pid_file.read_text()), signum)
        if signum == signal.SIGTERM:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=30.0)
        # The session is ours alone: this takes the helpers of the Erlang machine, and all of it after a SIGKILL.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()

    def _command(self, program: str, *args: str) -> list[str]:
        return self._installation.command(str(self._installation.programs / program), *args)

    def _environment(self) -> dict[str, str]:
        base = self._installation.within(self._base)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(base),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{self._name}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(base / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none {loopback}",
        }


class Epmd:
    """Erlang's register of names, on a port of its own."""

    def __init__(self, installation: Installation, port: int) -> None:
        self._process = subprocess.Popen(
            installation.command("epmd", "-port", str(port), "-address", "127.0.0.1"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class BrokerCluster:
    """Several servers that know each other; `members` are brokers like any other."""

    def __init__(self, installation: Installation, size: int = 3) -> None:
        group = Group(tuple(f"windrow{number}" for number in range(size)), free_port(), secrets.token_hex(16))
        self._epmd = Epmd(installation, group.epmd_port)
        self.members = [PrivateBroker(installation, name, group) for name in group.names]
        try:
            _all_at_once([member.first_start for member in self.members])
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of every member."""
        return ",".join(member.url for member in self.members)

    def wipe(self) -> None:
        """All of them, for what one has lost it would get from the others."""
        _all_at_once([member.forget for member in self.members])
        _all_at_once([member.start for member in self.members])

    def close(self) -> None:
        for member in self.members:
            member.close()
        self._epmd.close()


def _all_at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Not one by one: a member is not complete before it has met the others."""
    with ThreadPoolExecutor(len(calls)) as threads:
        for each in [threads.submit(call) for call in calls]:
            each.result()
