"""A RabbitMQ for tests: one that is given by URL, one in a container, or a private server process."""

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
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.waiting import wait_until

CURE = "apt-get install -y --no-install-recommends rabbitmq-server"
_START_S = 60.0


class Broker(Protocol):
    """What tests may do to a RabbitMQ."""

    @property
    def url(self) -> str: ...

    def stop(self) -> None:
        """In order; messages and queues stay on disk."""
        ...

    def kill(self) -> None:
        """SIGKILL, no warning."""
        ...

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nobody answers."""
        ...

    def thaw(self) -> None:
        """It goes on where it was frozen."""
        ...

    def start(self) -> None:
        """Again, on the same port with the same data."""
        ...

    def restart(self) -> None: ...

    def wipe(self) -> None:
        """Restart, or start where it was stopped, with nothing in it: no queue, no message."""
        ...

    def ctl(self, *args: str) -> str:
        """`rabbitmqctl ARGS…`; what it printed."""
        ...

    def memory_bytes(self) -> int | None:
        """What its process takes; None where that cannot be seen from here."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class NoBroker(Exception):
    """There is no way to a RabbitMQ on this machine."""


def make_broker(*, own: bool) -> Broker:
    """The first that can be had; `own`: not the one given by URL, since the test will break it."""
    given = os.environ.get("WINDROW_TEST_AMQP_URL", "")
    if given and not own:
        return GivenBroker(given)
    if _docker_answers():
        return ContainerBroker()
    folder = _server_folder()
    if folder is None:
        raise NoBroker(f"no RabbitMQ for the tests: run `{CURE}`, start Docker, or set WINDROW_TEST_AMQP_URL")
    return PrivateBroker(folder)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ── Given ────────────────────────────────────────────────────────────────────────────────────────────────────────


class GivenBroker:
    """Somebody else's server: used, never broken."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stop(self) -> None:
        raise NotImplementedError("the server of WINDROW_TEST_AMQP_URL is not ours to stop: use the fixture own_broker")

    kill = freeze = thaw = start = restart = wipe = stop

    def ctl(self, *args: str) -> str:
        raise NotImplementedError(f"no rabbitmqctl {' '.join(args)} on the server of WINDROW_TEST_AMQP_URL")

    def memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


# ── In a container ───────────────────────────────────────────────────────────────────────────────────────────────


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=3.0, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


class ContainerBroker:
    """A container by testcontainers, on a host port of its own that outlives restarts."""

    def __init__(self) -> None:
        from testcontainers.community.rabbitmq import RabbitMqContainer

        image = os.environ.get("WINDROW_TEST_RABBITMQ_IMAGE", "rabbitmq:3.13-management")
        # A fixed host port: Docker would draw another one at each start.
        self._port = free_port()
        self._container: Any = RabbitMqContainer(image).with_bind_ports(5672, self._port)
        self._container.start()
        self._host: str = self._container.get_container_host_ip()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self._host}:{self._port}/%2F"

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=30)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def freeze(self) -> None:
        self._container.get_wrapped_container().pause()

    def thaw(self) -> None:
        self._container.get_wrapped_container().unpause()

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        wait_until(lambda: _answers(self.url), _START_S, "RabbitMQ in the container to answer", poll_s=0.2)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        self.start()
        for words in (("stop_app",), ("reset",), ("start_app",)):
            self.ctl(*words)
        wait_until(lambda: _answers(self.url), _START_S, "RabbitMQ in the container to answer", poll_s=0.2)

    def ctl(self, *args: str) -> str:
        code, output = self._container.get_wrapped_container().exec_run(
            ["rabbitmqctl", "-q", *args], user="rabbitmq", environment={"HOME": "/var/lib/rabbitmq"}
        )
        if code:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: {output.decode(errors='replace')}")
        return str(output.decode())

    def memory_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        self._container.stop()


def _answers(url: str) -> bool:
    import pika
    import pika.exceptions

    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True


# ── A private process ────────────────────────────────────────────────────────────────────────────────────────────


def _server_folder() -> Path | None:
    """Where rabbitmq-server and rabbitmqctl lie; Debian's wrappers in /usr/sbin insist on paths of their own."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found else None


class PrivateBroker:
    """A rabbitmq-server of our own: own folder, ports, epmd and cookie, run as an ordinary user."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder
        self._user = _ordinary_user()
        self._server: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._base = Path(tempfile.mkdtemp(prefix="windrow-rabbit-"))
        for name in ("mnesia", "log"):
            (self._base / name).mkdir()
        cookie = self._base / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self._base / "enabled_plugins").write_text("[].\n")
        self._own_files()
        try:
            self._first_start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    def _first_start(self) -> None:
        for attempt in range(3):
            self._port, self._epmd_port, self._dist_port = free_port(), free_port(), free_port()
            (self._base / "rabbitmq.conf").write_text(
                f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
                "loopback_users = none\n"
                "vm_memory_high_watermark.absolute = 512MB\n"
                "disk_free_limit.absolute = 50MB\n"
            )
            self._own_files()
            try:
                self.start()
                return
            except RuntimeError:
                self.close_processes()
                if attempt == 2:  # somebody else may take a port between free_port() and the start: twice is enough
                    raise

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = self._spawn(["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"], "epmd.out")
        for log in (self._base / "log").glob("*.log"):
            log.unlink()
        self._pid_file.unlink(missing_ok=True)
        server = self._server = self._spawn([str(self._bin / "rabbitmq-server")], "server.out")
        wait_until(lambda: self._is_up() or server.poll() is not None, _START_S, "RabbitMQ to start", poll_s=0.05)
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
        self.kill()
        shutil.rmtree(self._base / "mnesia")
        (self._base / "mnesia").mkdir()
        self._own_files()
        self.start()

    def ctl(self, *args: str) -> str:
        done = subprocess.run(
            [*self._as_user(), str(self._bin / "rabbitmqctl"), "-q", *args],
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
            self._epmd.kill()
            self._epmd.wait()
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

    def _spawn(self, command: list[str], output: str) -> subprocess.Popen[bytes]:
        with (self._base / output).open("wb") as sink:
            return subprocess.Popen(
                [*self._as_user(), *command], env=self._environment(), cwd=self._base,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _as_user(self) -> list[str]:
        if self._user is None:
            return []
        uid, gid = str(self._user.pw_uid), str(self._user.pw_gid)
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--"]

    def _own_files(self) -> None:
        if self._user is not None:
            for path in (self._base, *self._base.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _environment(self) -> dict[str, str]:
        base = self._base
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(base),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "windrow@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self._pid_file),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none {loopback}",
        }


def _ordinary_user() -> pwd.struct_passwd | None:
    """Whom to run as where we are root: RabbitMQ as root would own files of the machine."""
    if os.geteuid() != 0:
        return None
    for name in ("rabbitmq", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoBroker("no ordinary user to run RabbitMQ as: neither `rabbitmq` nor `nobody` exists")
