"""A RabbitMQ for tests: one that is given by URL, one in a container, or a private server process."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any, Protocol

from tests.private_broker import (
    START_S,
    BrokerCluster,
    Installation,
    NoBroker,
    PrivateBroker,
    find_installation,
    free_port,
    make_installation,
)
from tests.rabbit_tree import NoTree
from tests.waiting import wait_until

__all__ = ["Broker", "BrokerCluster", "NoBroker", "free_port", "make_broker", "make_broker_cluster"]

CURE = "apt-get install -y --no-install-recommends rabbitmq-server"
IMAGE_VARIABLE = "WINDROW_TEST_RABBITMQ_IMAGE"
VERSION_VARIABLE = "WINDROW_TEST_RABBITMQ"
ERLANG_FLAGS = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"


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


def make_broker(*, own: bool, version: str = "") -> Broker:
    """The first that can be had; `own`: not the one given by URL, since the test will break it."""
    version = version or os.environ.get(VERSION_VARIABLE, "")
    if version:
        return PrivateBroker(_install(version))
    image = os.environ.get(IMAGE_VARIABLE, "")
    if image:
        if not _docker_answers():
            raise NoBroker(f"{IMAGE_VARIABLE} is {image}, and no Docker engine answers: start one, or unset it")
        return ContainerBroker(image)
    given = os.environ.get("WINDROW_TEST_AMQP_URL", "")
    if given and not own:
        return GivenBroker(given)
    if _docker_answers():
        return ContainerBroker()
    return PrivateBroker(_install())


def make_broker_cluster(version: str = "") -> BrokerCluster:
    """Three private servers."""
    return BrokerCluster(_install(version or os.environ.get(VERSION_VARIABLE, "")))


def _install(version: str = "") -> Installation:
    if version:
        try:
            return make_installation(version)
        except NoTree as error:
            raise NoBroker(str(error)) from None
    installation = find_installation()
    if installation is None:
        raise NoBroker(f"no RabbitMQ for the tests: run `{CURE}`, start Docker, or set WINDROW_TEST_AMQP_URL")
    return installation


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

    def __init__(self, image: str = "rabbitmq:3.13-management") -> None:
        # Not the RabbitMqContainer of testcontainers: how it waits warns of its own end, and a warning fails a test.
        from testcontainers.core.container import DockerContainer

        # A fixed host port: Docker would draw another one at each start.
        self._port = free_port()
        self._container: Any = (
            DockerContainer(image)
            .with_bind_ports(5672, self._port)
            .with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG_FLAGS)
        )
        self._container.start()
        try:
            # Through loopback where that leads there: the links and proxies of the tests are on it.
            hosts: list[str] = ["127.0.0.1", self._container.get_container_host_ip()]
            wait_until(
                lambda: any(_answers(self._url_at(host)) for host in hosts),
                START_S, f"RabbitMQ of {image} to answer", poll_s=0.2,
            )  # fmt: skip
            # Looked at anew: it may have come up between the look at the first and the look at the second.
            self._host = next(host for host in hosts if _answers(self._url_at(host)))
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return self._url_at(self._host)

    def _url_at(self, host: str) -> str:
        return f"amqp://guest:guest@{host}:{self._port}/%2F"

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
        self._await_answer()

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        self.start()
        for words in (("stop_app",), ("reset",), ("start_app",)):
            self.ctl(*words)
        self._await_answer()

    def _await_answer(self) -> None:
        wait_until(lambda: _answers(self.url), START_S, "RabbitMQ in the container to answer", poll_s=0.2)

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
