"""Where the tests get their RabbitMQ from, and that they say how to get one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import broker


def test_a_given_url_is_used_but_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_TEST_AMQP_URL", "amqp://guest:guest@elsewhere/")
    given = broker.make_broker(own=False)
    assert given.url == "amqp://guest:guest@elsewhere/"
    with pytest.raises(NotImplementedError):
        given.kill()


def no_folder() -> Path | None:
    return None


def test_without_any_rabbitmq_the_one_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WINDROW_TEST_AMQP_URL", raising=False)
    monkeypatch.setattr(broker, "_docker_answers", lambda: False)
    monkeypatch.setattr(broker, "_server_folder", no_folder)
    with pytest.raises(broker.NoBroker, match="apt-get install -y --no-install-recommends rabbitmq-server"):
        broker.make_broker(own=False)
