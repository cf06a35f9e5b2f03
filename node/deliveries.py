"""Decides whether a delivered chunk message is ours: signed for this node of this cluster, and whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from windrow.common.blocks import check_block
from windrow.common.errors import MalformedMessage, ProtocolMismatch
from windrow.common.keys import chunk_is_signed
from windrow.common.limits import CHUNK_ITEMS_MAX, PROTOCOL_VERSION
from windrow.common.messages import CHUNKS, Chunk
from windrow.common.words import Fence, NodeId


class DeliveryTag(NamedTuple):
    """One delivery on one channel: the broker's number means nothing on any other."""

    generation: int
    number: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as RabbitMQ delivered it, not checked yet."""

    tag: DeliveryTag
    fence: Fence | None
    """What the header says; None where it says none."""
    headers: dict[str, str]
    body: bytes
    redelivered: bool


def check_delivery(delivery: Delivery, *, cluster: str, node: NodeId, keys: dict[int, bytes]) -> Chunk:
    """The chunk in the message; MalformedMessage says why it is refused.

    `keys`: key id to key; two are valid while keys are changed.
    """
    headers = delivery.headers
    version = headers.get("windrow-version", "")
    if version != str(PROTOCOL_VERSION):
        raise MalformedMessage(f"a chunk message of protocol version {version[:16]!r}; this node: {PROTOCOL_VERSION}")
    for name, wanted in (("windrow-cluster", cluster), ("windrow-node", node)):
        if headers.get(name) != wanted:
            raise MalformedMessage(f"the chunk message is for {name} {headers.get(name, '')[:64]!r}, not {wanted!r}")
    fence = delivery.fence
    if fence is None:
        raise MalformedMessage(f"the chunk message names no fence: {headers.get('windrow-fence', '')[:64]!r}")
    key_id = headers.get("windrow-key-id", "")
    key = next((key for known, key in keys.items() if str(known) == key_id), None)
    if key is None:
        raise MalformedMessage(f"the chunk message is signed with key {key_id[:16]!r}, which this node does not have")
    if not chunk_is_signed(key, cluster, node, fence, delivery.body, headers.get("windrow-signature", "")):
        raise MalformedMessage(f"the signature of the chunk message for fence {fence} is wrong")
    chunk = read_chunk(delivery.body, cluster=cluster, node=node)
    for name, said, meant in (
        ("fence", str(chunk.fence), str(fence)),
        ("job", chunk.job, headers.get("windrow-job")),
        ("task", chunk.task, headers.get("windrow-task")),
    ):
        if said != meant:
            raise MalformedMessage(f"the chunk message says {name} {said!r} inside and {str(meant)[:64]!r} outside")
    return chunk


def read_chunk(body: bytes, *, cluster: str, node: NodeId) -> Chunk:
    """The chunk in these bytes (`local:` gets them on the control channel); MalformedMessage where it is off."""
    try:
        chunk = CHUNKS.decode(body)
    except ProtocolMismatch as error:
        raise MalformedMessage(f"the chunk: {error.message}") from None
    if (chunk.cluster, chunk.node) != (cluster, node):
        raise MalformedMessage(
            f"the chunk is for node {chunk.node!r} of {chunk.cluster!r}, not {node!r} of {cluster!r}"
        )
    if not 0 < chunk.stop - chunk.start <= CHUNK_ITEMS_MAX:
        raise MalformedMessage(f"the chunk covers [{chunk.start}, {chunk.stop}): 1 to {CHUNK_ITEMS_MAX} items")
    if chunk.numbers is None:
        at = chunk.start
        for part in chunk.inputs:
            if part.start != at or part.stop > chunk.stop:
                raise MalformedMessage(f"the inputs of the chunk do not tile [{chunk.start}, {chunk.stop}) at {at}")
            check_block(part.block, part.stop - part.start)
            at = part.stop
        if at != chunk.stop:
            raise MalformedMessage(f"the inputs of the chunk end at {at}, not at {chunk.stop}")
    return chunk
