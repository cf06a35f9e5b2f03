"""Which delivered chunk messages a node takes, and why it refuses the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chunks import KEY_ID, SECRET, make_chunk, sign
from windrow.common.blocks import pack_block
from windrow.common.errors import MalformedMessage
from windrow.common.keys import node_key, sign_chunk
from windrow.common.messages import CHUNKS, Chunk, InputSlice
from windrow.common.words import Fence, NodeId, fence_from_text
from windrow.node.deliveries import Delivery, DeliveryTag, check_delivery, read_chunk
from windrow.scheduler.node_queues import QueuePlan

CLUSTER, NODE = "c1", NodeId("n1")
KEYS = {KEY_ID: node_key(SECRET, NODE)}
CHUNK = make_chunk(CLUSTER, NODE, 4)


def delivery_of(chunk: Chunk) -> Delivery:
    message = sign(chunk)
    headers = QueuePlan(CLUSTER, "classic").headers(message)
    return Delivery(DeliveryTag(1, 1), message.fence, headers, message.body, redelivered=False)


def with_headers(delivery: Delivery, **changed: str) -> Delivery:
    headers = delivery.headers | {f"windrow-{name.replace('_', '-')}": value for name, value in changed.items()}
    return replace(delivery, headers=headers, fence=fence_from_text(headers["windrow-fence"]))


def check(delivery: Delivery, keys: dict[int, bytes] = KEYS) -> Chunk:
    return check_delivery(delivery, cluster=CLUSTER, node=NODE, keys=keys)


def test_a_signed_chunk_of_our_own_is_taken() -> None:
    assert check(delivery_of(CHUNK)) == CHUNK


def test_two_keys_are_valid_while_they_are_changed() -> None:
    old_and_new = {KEY_ID: KEYS[KEY_ID], KEY_ID + 1: node_key(b"the next secret", NODE)}
    assert check(delivery_of(CHUNK), old_and_new) == CHUNK
    with pytest.raises(MalformedMessage, match="key"):
        check(delivery_of(CHUNK), {KEY_ID + 1: node_key(b"the next secret", NODE)})


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"cluster": "c2"}, "is for windrow-cluster 'c2', not 'c1'"),
        ({"node": "n2"}, "is for windrow-node 'n2', not 'n1'"),
        ({"fence": "1.5"}, "the signature of the chunk message for fence 1.5 is wrong"),
        ({"fence": "-1.5"}, "names no fence: '-1.5'"),
        ({"fence": ""}, "names no fence: ''"),
        ({"job": "another"}, "says job .* inside and 'another' outside"),
        ({"task": "another"}, "says task .* inside and 'another' outside"),
        ({"key_id": "2"}, "signed with key '2', which this node does not have"),
        ({"key_id": "x"}, "signed with key 'x', which this node does not have"),
        ({"signature": ""}, "the signature .* is wrong"),
        ({"signature": "0" * 64}, "the signature .* is wrong"),
        ({"version": "1"}, "of protocol version '1'"),
    ],
)
def test_a_changed_header_is_refused(changed: dict[str, str], why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        check(with_headers(delivery_of(CHUNK), **changed))


@pytest.mark.parametrize("name", ["version", "cluster", "node", "fence", "key_id", "job", "task", "signature"])
def test_of_a_long_header_a_refusal_shows_the_beginning(name: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        check(with_headers(delivery_of(CHUNK), **{name: "x" * 10_000}))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", ["job", "task"])
def test_a_message_without_one_of_the_headers_is_refused(name: str) -> None:
    delivery = delivery_of(CHUNK)
    left = {key: value for key, value in delivery.headers.items() if key != f"windrow-{name}"}
    with pytest.raises(MalformedMessage, match=f"says {name} .* inside and '' outside"):
        check(replace(delivery, headers=left))


def test_a_message_without_headers_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="version"):
        check(Delivery(DeliveryTag(1, 1), None, {}, b"", redelivered=False))


def test_a_signed_body_of_another_protocol_version_is_refused() -> None:
    delivery = delivery_of(CHUNK)
    body = delivery.body[:1] + b"\x01" + delivery.body[2:]
    signature = sign_chunk(KEYS[KEY_ID], CLUSTER, NODE, CHUNK.fence, body)
    with pytest.raises(MalformedMessage, match="version"):
        check(with_headers(replace(delivery, body=body), signature=signature))


def test_a_changed_body_is_refused() -> None:
    delivery = delivery_of(CHUNK)
    with pytest.raises(MalformedMessage, match="signature"):
        check(replace(delivery, body=delivery.body[:-1] + b"\x01"))


def test_a_signed_body_for_another_fence_is_refused() -> None:
    other = replace(CHUNK, fence=Fence(1, 99))
    delivery = replace(delivery_of(CHUNK), body=CHUNKS.encode(other))
    signature = sign_chunk(KEYS[KEY_ID], CLUSTER, NODE, CHUNK.fence, delivery.body)
    with pytest.raises(MalformedMessage, match=r"says fence '1\.99' inside and"):
        check(with_headers(delivery, signature=signature))


BLOCK = pack_block([b"\x90"] * 3)


@pytest.mark.parametrize(
    "chunk",
    [
        replace(CHUNK, cluster="c2"),
        replace(CHUNK, node=NodeId("n2")),
        replace(CHUNK, stop=CHUNK.start),
        replace(CHUNK, start=0, stop=2_000_000),
        replace(CHUNK, numbers=None),
        replace(CHUNK, numbers=None, start=0, stop=6, inputs=(InputSlice(0, 3, BLOCK),)),
        replace(CHUNK, numbers=None, start=0, stop=6, inputs=(InputSlice(0, 3, BLOCK), InputSlice(4, 7, BLOCK))),
        replace(CHUNK, numbers=None, start=0, stop=3, inputs=(InputSlice(0, 3, BLOCK[:-1]),)),
        replace(CHUNK, numbers=None, start=0, stop=2, inputs=(InputSlice(0, 3, BLOCK),)),
    ],
)
def test_a_chunk_that_does_not_add_up_is_refused(chunk: Chunk) -> None:
    with pytest.raises(MalformedMessage):
        read_chunk(CHUNKS.encode(chunk), cluster=CLUSTER, node=NODE)


def test_inputs_that_tile_the_range_are_taken() -> None:
    chunk = replace(CHUNK, numbers=None, start=0, stop=6, inputs=(InputSlice(0, 3, BLOCK), InputSlice(3, 6, BLOCK)))
    assert read_chunk(CHUNKS.encode(chunk), cluster=CLUSTER, node=NODE) == chunk
