"""Where the tests get their RabbitMQ from, and that they say how to get one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import broker, private_broker, rabbit_tree


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WINDROW_TEST_")]:
        monkeypatch.delenv(name)


def test_a_given_url_is_used_but_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_TEST_AMQP_URL", "amqp://guest:guest@elsewhere/")
    given = broker.make_broker(own=False)
    assert given.url == "amqp://guest:guest@elsewhere/"
    with pytest.raises(NotImplementedError):
        given.kill()


def test_without_any_rabbitmq_the_one_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_docker_answers", lambda: False)
    monkeypatch.setattr(private_broker, "_server_folder", lambda: None)
    with pytest.raises(broker.NoBroker, match="apt-get install -y --no-install-recommends rabbitmq-server"):
        broker.make_broker(own=False)


def test_an_image_that_is_asked_for_is_never_replaced_by_a_server_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WINDROW_TEST_RABBITMQ_IMAGE", "rabbitmq:4.0")
    monkeypatch.setattr(broker, "_docker_answers", lambda: False)
    with pytest.raises(
        broker.NoBroker, match=r"WINDROW_TEST_RABBITMQ_IMAGE is rabbitmq:4\.0, and no Docker engine answers"
    ):
        broker.make_broker(own=True)


def test_a_version_that_cannot_be_had_is_one_line_and_never_another_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WINDROW_TEST_RABBITMQ", "4.0")
    monkeypatch.setattr(rabbit_tree, "CACHE", tmp_path)
    monkeypatch.setattr(rabbit_tree.os, "geteuid", lambda: 1000)
    with pytest.raises(broker.NoBroker, match=r"RabbitMQ 4\.0 can only be made as root"):
        broker.make_broker(own=True)
    monkeypatch.setenv("WINDROW_TEST_RABBITMQ", "2.0")
    with pytest.raises(broker.NoBroker, match=r"no RabbitMQ 2\.0: there are 3\.10, 4\.0"):
        broker.make_broker(own=True)
