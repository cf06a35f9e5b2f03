"""Fixtures that more than one kind of test needs: a RabbitMQ for the session, and one to break."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.broker import Broker, NoBroker, make_broker

# The same examples each time, and no clock: what lands must not hang on dice or on how busy the machine is. To look for
# new examples set HYPOTHESIS_PROFILE=search, or run `make fuzz`.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


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
