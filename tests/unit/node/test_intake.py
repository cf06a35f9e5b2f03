"""Deliveries into the workbench, and the consumption watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from windrow.common.errors import BrokerUnreachable, MalformedMessage
from windrow.common.messages import Chunk, NodeWelcome, NumberItems
from windrow.common.words import Fence, JobId, NodeId
from windrow.node import intake as module
from windrow.node.chunks import Taken
from windrow.node.intake import REBUILDS_MAX, Intake
from windrow.node.ports import Delivery

CHUNK = Chunk("c", NodeId("n"), Fence(1, 1), JobId("j"), "t", 0, 5, numbers=NumberItems(0, 5))


@dataclass
class Given:
    tag: str
    redelivered: bool = False
    good: bool = True


class FakeConsumer:
    def __init__(self, on_delivery: Callable[[Delivery], None]) -> None:
        self.on_delivery = on_delivery
        self.told: list[tuple[str, object]] = []
        self.refused = 0

    async def start(self) -> None:
        self.told.append(("start", None))

    async def stop(self) -> None:
        self.told.append(("stop", None))

    async def rebuild(self) -> None:
        self.told.append(("rebuild", None))

    def ack(self, tag: object) -> None:
        self.told.append(("ack", tag))

    def reject(self, tag: object) -> None:
        self.told.append(("reject", tag))
        self.refused += 1


class Bench:
    """An intake with everything around it faked."""

    def __init__(self, url: str = "amqp://x") -> None:
        self.consumers: list[FakeConsumer] = []
        self.taken: list[tuple[object, bool]] = []
        self.answer = Taken.NEW
        self.keys: dict[int, bytes] = {}
        self.cluster = ""
        self.on_change: Callable[[bool, str], None]
        self.intake = Intake(url, NodeId("n"), self.take, self.open, self.check)

    def open(
        self,
        url: str,
        queue: str,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
        on_change: Callable[[bool, str], None],
    ) -> FakeConsumer:
        self.on_change = on_change
        self.consumers.append(FakeConsumer(on_delivery))
        return self.consumers[-1]

    def check(self, delivery: Delivery, cluster: str, node: NodeId, keys: Mapping[int, bytes]) -> Chunk:
        self.keys, self.cluster = dict(keys), cluster
        assert isinstance(delivery, Given)
        if not delivery.good:
            raise MalformedMessage("forged")
        return CHUNK

    def take(self, chunk: Chunk, tag: object, lease_first: bool) -> Taken:
        self.taken.append((tag, lease_first))
        return self.answer


def welcome(dispatch: str = "amqp", queue: str = "q", key_id: int = 1) -> NodeWelcome:
    return NodeWelcome(1, "c", 1.0, 6.0, dispatch, queue, b"key%d" % key_id, key_id)


def test_a_redelivered_chunk_is_leased_before_it_starts() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    (consumer,) = bench.consumers
    consumer.on_delivery(Given("a"))
    consumer.on_delivery(Given("b", redelivered=True))
    assert bench.taken == [("a", False), ("b", True)]
    assert consumer.told == [("start", None)], "nothing is acknowledged before its lease is durable"
    bench.intake.ack(["a"])
    assert consumer.told[-1] == ("ack", "a")


@pytest.mark.parametrize("answer", [Taken.OVER, Taken.LEASED])
def test_a_late_copy_is_acknowledged_at_once(answer: Taken) -> None:
    bench = Bench()
    bench.answer = answer
    asyncio.run(bench.intake.follow(welcome()))
    bench.consumers[0].on_delivery(Given("a"))
    assert bench.consumers[0].told[-1] == ("ack", "a")


def test_a_forged_message_is_rejected_and_counted() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    bench.consumers[0].on_delivery(Given("a", good=False))
    assert bench.consumers[0].told[-1] == ("reject", "a")
    assert bench.intake.refused == 1
    assert not bench.taken


def test_what_a_consumer_refuses_by_itself_is_counted_too_and_kept_when_it_is_replaced() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    bench.consumers[0].refused += 1  # a message too large to be looked at
    bench.consumers[0].on_delivery(Given("a", good=False))
    assert bench.intake.refused == 2
    asyncio.run(bench.intake.follow(welcome(queue="other")))
    assert bench.intake.refused == 2
    bench.consumers[1].refused += 1
    assert bench.intake.refused == 3


def test_the_key_before_stays_valid_while_keys_rotate() -> None:
    bench = Bench()
    for key_id in (1, 2, 3):
        asyncio.run(bench.intake.follow(welcome(key_id=key_id)))
    bench.consumers[0].on_delivery(Given("a"))
    assert set(bench.keys) == {2, 3}
    assert len(bench.consumers) == 1, "the same queue is not consumed anew"


def test_another_queue_or_way_replaces_the_consumer() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    asyncio.run(bench.intake.follow(welcome(queue="other")))
    assert bench.consumers[0].told[-1] == ("stop", None)
    asyncio.run(bench.intake.follow(welcome(dispatch="local")))
    assert bench.consumers[1].told[-1] == ("stop", None)


def test_without_a_broker_address_the_way_out_is_named() -> None:
    bench = Bench(url="")
    with pytest.raises(BrokerUnreachable, match="--amqp"):
        asyncio.run(bench.intake.follow(welcome()))


def test_the_watchdog_rebuilds_and_after_three_times_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    bench = Bench()
    watch = bench.intake.watch
    asyncio.run(bench.intake.follow(welcome()))
    assert asyncio.run(watch(5, free=False))
    now += 9
    assert asyncio.run(watch(5, free=True))
    assert ("rebuild", None) not in bench.consumers[0].told
    answers: list[bool] = []
    for _ in range(REBUILDS_MAX + 1):
        now += 11
        answers.append(asyncio.run(watch(5, free=True)))
    assert answers == [True] * REBUILDS_MAX + [False]
    assert bench.consumers[0].told.count(("rebuild", None)) == REBUILDS_MAX
    bench.consumers[0].on_delivery(Given("a"))
    now += 11
    assert asyncio.run(watch(5, free=True)), "a delivery starts the count anew"


def test_a_welcome_that_repeats_a_key_keeps_the_one_before_it() -> None:
    bench = Bench()
    for key_id in (1, 2, 2, 2):
        asyncio.run(bench.intake.follow(welcome(key_id=key_id)))
    bench.consumers[0].on_delivery(Given("a"))
    assert bench.keys == {1: b"key1", 2: b"key2"}


def test_the_key_before_is_the_one_that_was_given_before_whatever_its_number() -> None:
    """The numbers of a scheduler that has lost its store begin anew."""
    bench = Bench()
    for key_id in (9, 1, 2):
        asyncio.run(bench.intake.follow(welcome(key_id=key_id)))
    bench.consumers[0].on_delivery(Given("a"))
    assert set(bench.keys) == {1, 2}
    assert bench.cluster == "c"


def test_after_a_while_of_another_way_the_same_queue_is_consumed_anew() -> None:
    bench = Bench()
    for dispatch in ("amqp", "local", "amqp"):
        asyncio.run(bench.intake.follow(welcome(dispatch=dispatch)))
    assert [consumer.told for consumer in bench.consumers] == [[("start", None), ("stop", None)], [("start", None)]]


def test_when_no_chunks_come_by_the_broker_any_more_what_it_had_sent_is_let_be() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    bench.consumers[0].on_delivery(Given("a", good=False))
    asyncio.run(bench.intake.follow(welcome(dispatch="local")))
    bench.consumers[0].on_delivery(Given("late"))
    bench.intake.ack(["late"])
    assert bench.taken == []
    assert bench.consumers[0].told[-1] == ("stop", None)
    assert bench.intake.refused == 1
    assert asyncio.run(bench.intake.watch(5, free=True))


def test_a_node_whose_chunks_come_another_way_watches_for_nothing() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome(dispatch="local")))
    assert asyncio.run(bench.intake.watch(5, free=True))
    assert bench.consumers == []


class Clock:
    """Stands for time.monotonic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def watched(self, bench: Bench, after_s: float, *, placed: int = 5, free: bool = True) -> int:
        """How often a connection has been built anew, so much later."""
        self.now += after_s
        assert asyncio.run(bench.intake.watch(placed, free=free))
        return sum(consumer.told.count(("rebuild", None)) for consumer in bench.consumers)


@pytest.mark.parametrize(("placed", "free"), [(0, True), (5, False)])
def test_the_watchdog_counts_from_when_chunks_are_placed_and_slots_free(
    monkeypatch: pytest.MonkeyPatch, placed: int, free: bool
) -> None:
    clock, bench = Clock(monkeypatch), Bench()
    asyncio.run(bench.intake.follow(welcome()))
    assert clock.watched(bench, 100, placed=placed, free=free) == 0
    assert clock.watched(bench, 9) == 0
    assert clock.watched(bench, 2) == 1


def test_the_watchdog_counts_from_the_last_delivery_and_the_last_rebuild(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bench = Clock(monkeypatch), Bench()
    asyncio.run(bench.intake.follow(welcome()))
    clock.now += 9
    bench.consumers[0].on_delivery(Given("a"))
    assert clock.watched(bench, 9) == 0
    with capture_logs() as logs:
        assert [clock.watched(bench, 11), clock.watched(bench, 9), clock.watched(bench, 2)] == [1, 1, 2]
    assert [entry["action"] for entry in logs] == ["consumption_stalled"] * 2


def test_a_consumer_that_has_just_begun_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bench = Clock(monkeypatch), Bench()
    clock.now += 100  # until the scheduler was there
    asyncio.run(bench.intake.follow(welcome()))
    assert clock.watched(bench, 1) == 0
    for _ in range(REBUILDS_MAX):
        clock.watched(bench, 11)
    clock.now += 100
    asyncio.run(bench.intake.follow(welcome(queue="other")))
    assert clock.watched(bench, 1) == REBUILDS_MAX
    assert clock.watched(bench, 11) == REBUILDS_MAX + 1, "nor does the old one's silence count"


def test_a_delivery_gives_the_watchdog_all_its_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bench = Clock(monkeypatch), Bench()
    asyncio.run(bench.intake.follow(welcome()))
    assert [clock.watched(bench, 11) for _ in range(REBUILDS_MAX)][-1] == REBUILDS_MAX
    bench.consumers[0].on_delivery(Given("a"))
    assert [clock.watched(bench, 11) for _ in range(REBUILDS_MAX)][-1] == 2 * REBUILDS_MAX
    clock.now += 11
    with capture_logs() as logs:
        assert not asyncio.run(bench.intake.watch(5, free=True))
    assert [entry["action"] for entry in logs] == ["consumption_dead"]


def test_whether_chunks_come_and_what_is_refused_is_told() -> None:
    bench = Bench()
    asyncio.run(bench.intake.follow(welcome()))
    with capture_logs() as logs:
        bench.on_change(True, "")
        bench.on_change(False, "it was killed")
        bench.consumers[0].on_delivery(Given("a", good=False))
    assert [entry["action"] for entry in logs] == ["broker_reached", "broker_lost", "delivery_refused"]
    assert [entry.get("detail") for entry in logs] == [None, "it was killed", "forged"]
