"""What the outbox of `local:` offers, and how much at once."""

from __future__ import annotations

from tests.chunks import make_message
from windrow.common.messages import CHUNKS, Chunk, InputSlice
from windrow.common.words import Fence, NodeId
from windrow.scheduler.local import OFFER_BYTES_MAX, LocalDispatch
from windrow.scheduler.ports import ChunkMessage

NODE = NodeId("n1")


def message(counter: int, size: int) -> ChunkMessage:
    return ChunkMessage(Fence(1, counter), NODE, make_message("c", NODE, 1).job, "t", bytes([counter]) * size, "", 1)


def chunk_message(counter: int, size: int = 10) -> ChunkMessage:
    fence, job = Fence(1, counter), make_message("c", NODE, 1).job
    body = CHUNKS.encode(Chunk("c", NODE, fence, job, "t", 0, 1, inputs=(InputSlice(0, 1, bytes(size)),)))
    return ChunkMessage(fence, NODE, job, "t", body, "", 1)


def counters(bodies: list[bytes]) -> list[int]:
    return [CHUNKS.decode(body).fence.counter for body in bodies]


def test_one_offer_is_bounded_and_the_rest_comes_once_the_first_are_held() -> None:
    outbox = LocalDispatch()
    for counter in range(1, 6):
        outbox.dispatch(chunk_message(counter, OFFER_BYTES_MAX // 2 - 500))
    assert counters(outbox.offered(NODE, frozenset())) == [1, 2]
    assert counters(outbox.offered(NODE, frozenset({Fence(1, 1), Fence(1, 2)}))) == [3, 4]
    outbox.settle(Fence(1, 1), NODE)
    assert counters(outbox.offered(NODE, frozenset())) == [2, 3]


def test_a_chunk_is_offered_until_it_is_held_or_settled() -> None:
    outbox = LocalDispatch()
    outbox.dispatch(chunk_message(1))
    assert counters(outbox.offered(NODE, frozenset())) == counters(outbox.offered(NODE, frozenset())) == [1]
    assert outbox.offered(NODE, frozenset({Fence(1, 1)})) == []
    outbox.settle(Fence(1, 1), NODE)
    outbox.settle(Fence(1, 1), NODE)
    assert outbox.offered(NODE, frozenset()) == []


def test_what_is_offered_again_is_leased_before_it_starts() -> None:
    """It may have started, and have taken its node with it: nobody could be blamed before it was leased."""
    outbox = LocalDispatch()
    outbox.dispatch(chunk_message(1))
    offers = [CHUNKS.decode(outbox.offered(NODE, frozenset())[0]).lease_first for _ in range(3)]
    assert offers == [False, True, True]


def test_after_a_reload_only_what_is_live_is_offered() -> None:
    outbox = LocalDispatch()
    for counter in (1, 2):
        outbox.dispatch(chunk_message(counter))
    outbox.settle_others(frozenset({Fence(1, 2)}))
    assert counters(outbox.offered(NODE, frozenset())) == [2]


def test_a_later_smaller_chunk_does_not_overtake_one_that_has_no_room() -> None:
    outbox = LocalDispatch()
    for counter, size in ((1, OFFER_BYTES_MAX - 5), (2, 10), (3, 1)):
        outbox.dispatch(message(counter, size))
    assert [body[0] for body in outbox.offered(NODE, frozenset())] == [1]
