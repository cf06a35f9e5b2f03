"""What the outbox of `local:` offers, and how much at once."""

from __future__ import annotations

from tests.chunks import make_message
from windrow.common.words import Fence, NodeId
from windrow.scheduler.local import OFFER_BYTES_MAX, LocalDispatch
from windrow.scheduler.ports import ChunkMessage

NODE = NodeId("n1")


def message(counter: int, size: int) -> ChunkMessage:
    return ChunkMessage(Fence(1, counter), NODE, make_message("c", NODE, 1).job, "t", bytes([counter]) * size, "", 1)


def test_one_offer_is_bounded_and_the_rest_comes_once_the_first_are_held() -> None:
    outbox = LocalDispatch()
    for counter in range(1, 6):
        outbox.dispatch(message(counter, OFFER_BYTES_MAX // 2))
    assert [body[0] for body in outbox.offered(NODE, frozenset())] == [1, 2]
    assert [body[0] for body in outbox.offered(NODE, frozenset({Fence(1, 1), Fence(1, 2)}))] == [3, 4]
    outbox.settle(Fence(1, 1), NODE)
    assert [body[0] for body in outbox.offered(NODE, frozenset())] == [2, 3]


def test_a_chunk_is_offered_until_it_is_held_or_settled() -> None:
    outbox = LocalDispatch()
    outbox.dispatch(message(1, 10))
    assert outbox.offered(NODE, frozenset()) == outbox.offered(NODE, frozenset()) != []
    assert outbox.offered(NODE, frozenset({Fence(1, 1)})) == []
    outbox.settle(Fence(1, 1), NODE)
    outbox.settle(Fence(1, 1), NODE)
    assert outbox.offered(NODE, frozenset()) == []


def test_a_later_smaller_chunk_does_not_overtake_one_that_has_no_room() -> None:
    outbox = LocalDispatch()
    for counter, size in ((1, OFFER_BYTES_MAX - 5), (2, 10), (3, 1)):
        outbox.dispatch(message(counter, size))
    assert [body[0] for body in outbox.offered(NODE, frozenset())] == [1]
