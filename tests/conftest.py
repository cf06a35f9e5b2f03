"""Fixtures that more than one kind of test needs: a RabbitMQ for the session, and one to break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.broker import Broker, NoBroker, make_broker


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A RabbitMQ shared by all tests of this run: leave it as it was. Fails, never skips, where none can be had."""
    yield from _broker(own=False)


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A RabbitMQ of this test's own, to stop, kill and wipe; takes about 6 s."""
    yield from _broker(own=True)


@pytest.fixture
def amqp_url(broker: Broker) -> str:
    """URL of the shared RabbitMQ."""
    return broker.url


def _broker(*, own: bool) -> Iterator[Broker]:
    try:
        made = make_broker(own=own)
    except NoBroker as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield made
    finally:
        made.close()
