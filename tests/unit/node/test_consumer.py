"""What the consumer of the node queue does with deliveries, on connections made for the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from windrow.node.consumer import Consumer
from windrow.node.deliveries import Delivery


@dataclass
class Channel:
    """Consumes at once, as a broker would."""

    is_open: bool = True
    acked: list[int] = field(default_factory=list[int])
    rejected: list[int] = field(default_factory=list[int])
    on_message: Callable[..., None] = field(default=lambda *_: None)

    def add_on_close_callback(self, _: object) -> None: ...

    def add_on_cancel_callback(self, _: object) -> None: ...

    def basic_qos(self, prefetch_count: int, callback: Callable[[object], None]) -> None:
        callback(None)

    def basic_consume(self, _: str, on_message: Callable[..., None], callback: Callable[[object], None]) -> None:
        self.on_message = on_message
        callback(None)

    def basic_ack(self, number: int) -> None:
        self.acked.append(number)

    def basic_reject(self, number: int, requeue: bool) -> None:
        assert not requeue
        self.rejected.append(number)

    def deliver(self, number: int) -> None:
        self.on_message(
            self, SimpleNamespace(delivery_tag=number, redelivered=False), SimpleNamespace(headers=None), b""
        )


class Connection:
    is_open = True

    def __init__(self) -> None:
        self.channels: list[Channel] = []

    def channel(self, on_open_callback: Callable[[Channel], None]) -> None:
        self.channels.append(Channel())
        on_open_callback(self.channels[-1])


def consume(queue: str, delivered: list[Any]) -> tuple[Consumer, Channel]:
    def on_delivery(delivery: Delivery) -> None:
        delivered.append(delivery.tag)

    made = Consumer(
        "amqp://127.0.0.1:1/%2F", queue, prefetch=8, on_delivery=on_delivery, on_change=lambda _now, _why: None
    )
    connection = Connection()
    made.on_open(connection)
    return made, connection.channels[0]


def test_a_tag_of_a_consumer_that_was_replaced_means_nothing_to_the_next_one() -> None:
    tags: list[Any] = []
    _, before = consume("q1", tags)
    before.deliver(1)
    after, channel = consume("q2", tags)
    channel.deliver(1)
    old, new = tags
    after.ack(old)
    after.reject(old)
    assert (channel.acked, channel.rejected) == ([], [])
    after.ack(new)
    assert channel.acked == [1]
