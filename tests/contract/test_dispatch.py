"""What both ways of dispatch promise, over RabbitMQ (classic and quorum queues) and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.chunks import make_message
from tests.dispatching import Bench, amqp_bench, delete_queues, local_bench
from tests.waiting import until
from windrow.common.limits import CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX
from windrow.common.messages import CHUNKS
from windrow.common.words import Fence, NodeId
from windrow.scheduler.core.events import Unsent
from windrow.scheduler.ports import ChunkMessage

NODE = NodeId("n1")
OTHER = NodeId("n2")
Play = Callable[[Callable[[Bench], Awaitable[None]]], None]


@pytest.fixture(params=["local", "classic", "quorum"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Runs a scene with one way of dispatch that is up."""
    queues: list[tuple[str, str]] = []

    def make() -> AbstractAsyncContextManager[Bench]:
        if request.param == "local":
            return local_bench()
        return amqp_bench(request.getfixturevalue("amqp_url"), queue_type=request.param)

    def run(scene: Callable[[Bench], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with make() as bench:
                queues.extend((bench.url, bench.dispatch.queue_name(node)) for node in (NODE, OTHER) if bench.url)
                await scene(bench)

        asyncio.run(whole())

    yield run
    for url, name in queues:
        delete_queues(url, name)


def fences(bodies: list[bytes]) -> list[int]:
    return [CHUNKS.decode(body).fence.counter for body in bodies]


async def grown(count: Callable[[], int], beyond: int, what: str) -> None:
    await until(lambda: count() > beyond, 20.0, f"more than {beyond} {what}")


def numbers(found: list[Fence]) -> list[int]:
    return [fence.counter for fence in found]


def test_chunks_arrive_in_order_and_each_is_told_as_sent_once(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        receiver = bench.receiver(NODE)
        await receiver.start()
        for counter in range(100):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
        await until(lambda: len(receiver.got) >= 100, 10.0, "100 chunks")
        await until(lambda: len(bench.ended()) >= 100, 10.0, "100 ends")
        assert fences(receiver.got) == list(range(100))
        assert sorted(numbers(bench.sent())) == list(range(100))
        assert bench.unsent() == []

    play(scene)


def test_a_body_arrives_as_it_was(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        receiver = bench.receiver(NODE)
        await receiver.start()
        message = make_message(bench.cluster, NODE, 7)
        bench.dispatch.dispatch(message)
        await until(lambda: receiver.got, 10.0, "the chunk")
        assert receiver.got == [message.body]

    play(scene)


def test_nothing_is_told_from_inside_the_call(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        before = len(bench.events)
        bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
        bench.dispatch.dispatch(make_message(bench.cluster, OTHER, 2))
        assert len(bench.events) == before
        await until(lambda: len(bench.ended()) == 2, 10.0, "both ends")

    play(scene)


def test_what_is_not_settled_comes_again_to_the_next_boot_of_the_node(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        first = bench.receiver(NODE)
        await first.start()
        for counter in range(6):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
        await until(lambda: len(first.got) == 6, 10.0, "6 chunks")
        first.settle(Fence(1, 1))
        first.settle(Fence(1, 4))
        await first.stop()
        second = bench.receiver(NODE)
        await second.start()
        await until(lambda: len(second.got) >= 4, 10.0, "the 4 unsettled chunks")
        for counter in (0, 2, 3, 5):
            second.settle(Fence(1, counter))
        await second.stop()
        assert fences(second.got) == [0, 2, 3, 5]
        bench.dispatch.watch_queues([NODE])
        await until(lambda: bench.ready(NODE), 10.0, "a look at the queue")
        assert bench.ready(NODE) == [0]

    play(scene)


def test_chunks_sent_before_the_node_receives_are_kept_for_it(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
        await until(lambda: bench.sent(), 10.0, "the end of the dispatch")
        receiver = bench.receiver(NODE)
        await receiver.start()
        await until(lambda: receiver.got, 10.0, "the chunk")

    play(scene)


def test_each_node_gets_its_own(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        receivers = {node: bench.receiver(node) for node in (NODE, OTHER)}
        for node, receiver in receivers.items():
            bench.dispatch.open_node(node)
            await receiver.start()
        for counter in range(20):
            bench.dispatch.dispatch(make_message(bench.cluster, OTHER if counter % 2 else NODE, counter))
        await until(lambda: sum(len(each.got) for each in receivers.values()) >= 20, 10.0, "20 chunks")
        assert fences(receivers[NODE].got) == list(range(0, 20, 2))
        assert fences(receivers[OTHER].got) == list(range(1, 20, 2))

    play(scene)


def test_an_unknown_node_is_unsent_or_kept_until_it_comes(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.dispatch(make_message(bench.cluster, OTHER, 1))
        await until(lambda: bench.ended(), 10.0, "the end of the dispatch")
        if bench.dispatch.kind == "local":
            assert numbers(bench.sent()) == [1]
            receiver = bench.receiver(OTHER)
            await receiver.start()
            await until(lambda: receiver.got, 10.0, "the chunk")
        else:
            assert numbers(bench.unsent()) == [1]
            assert bench.sent() == []

    play(scene)


def test_emptying_a_node_drops_what_came_before_and_nothing_that_comes_after(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        for counter in range(5):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
        await until(lambda: len(bench.sent()) == 5, 10.0, "5 ends")
        bench.dispatch.empty_node(NODE)
        bench.dispatch.dispatch(make_message(bench.cluster, NODE, 5))
        await until(lambda: len(bench.sent()) == 6, 10.0, "6 ends")
        receiver = bench.receiver(NODE)
        await receiver.start()
        await until(lambda: receiver.got, 10.0, "the chunk that came after")
        assert fences(receiver.got) == [5]

    play(scene)


def test_a_closed_way_loses_what_was_on_it_and_can_be_opened_again(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        bench.dispatch.dispatch(make_message(bench.cluster, NODE, 1))
        await until(lambda: len(bench.sent()) == 1, 10.0, "1 end")
        bench.dispatch.close_node(NODE)
        bench.dispatch.open_node(NODE)
        bench.dispatch.dispatch(make_message(bench.cluster, NODE, 2))
        await until(lambda: len(bench.sent()) == 2, 10.0, "2 ends")
        receiver = bench.receiver(NODE)
        await receiver.start()
        await until(lambda: receiver.got, 10.0, "the chunk that came after")
        assert fences(receiver.got) == [2]

    play(scene)


def test_a_look_at_a_queue_says_how_much_waits_in_it(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        for counter in range(3):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
        await until(lambda: len(bench.sent()) == 3, 10.0, "3 ends")
        bench.dispatch.watch_queues([NODE, OTHER])
        await until(lambda: bench.ready(NODE) and bench.ready(OTHER), 10.0, "a look at both queues")
        assert bench.ready(OTHER) == [0]
        # A queue reports a message as ready a moment after it has confirmed it.
        looks = 1
        while bench.ready(NODE)[-1] != 3 and looks < 100:
            looks += 1
            bench.dispatch.watch_queues([NODE])
            await grown(lambda: len(bench.ready(NODE)), looks - 1, "looks")
        assert bench.ready(NODE)[-1] == 3

    play(scene)


def test_big_chunks_pass_and_too_big_ones_are_unsent(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        receiver = bench.receiver(NODE)
        await receiver.start()
        messages = [make_message(bench.cluster, NODE, each, item_bytes=CHUNK_BYTES_MAX - 64) for each in range(5)]
        for message in messages:
            bench.dispatch.dispatch(message)
        for _ in range(5):
            await until(lambda: receiver.got, 20.0, "a big chunk")
            body = receiver.got.pop(0)
            assert body == messages.pop(0).body
            receiver.settle(CHUNKS.decode(body).fence)
        huge = ChunkMessage(
            Fence(1, 99), NODE, make_message("c", NODE, 1).job, "t", bytes(MESSAGE_BYTES_MAX + 1), "", 1
        )
        bench.dispatch.dispatch(huge)
        await until(lambda: len(bench.ended()) == 6, 10.0, "6 ends")
        assert numbers(bench.unsent()) == [99]
        assert "at most" in next(event.reason for event in bench.events if isinstance(event, Unsent))
        assert bench.up

    play(scene)


def test_thousands_are_pipelined_and_all_accounted_for(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        receiver = bench.receiver(NODE)
        await receiver.start()
        total, settled = 5_000, 0
        for counter in range(total):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
            if counter % 50 == 0:
                await asyncio.sleep(0)
        while settled < total:
            await grown(lambda: len(receiver.got), settled, "chunks")
            for body in receiver.got[settled:]:
                receiver.settle(CHUNKS.decode(body).fence)
                settled += 1
        await until(lambda: len(bench.ended()) == total, 20.0, "all ends")
        assert fences(receiver.got) == list(range(total))
        assert len(set(bench.sent())) == total

    play(scene)


def test_after_the_stop_everything_has_ended(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        bench.dispatch.open_node(NODE)
        for counter in range(50):
            bench.dispatch.dispatch(make_message(bench.cluster, NODE, counter))
        await bench.dispatch.stop()
        assert sorted(numbers(bench.ended())) == list(range(50))

    play(scene)
