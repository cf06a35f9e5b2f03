"""Decides whether a delivered chunk message is ours: signed for this node of this cluster, and whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from windrow.common.errors import MalformedMessage, ProtocolMismatch
from windrow.common.keys import chunk_is_signed
from windrow.common.limits import PROTOCOL_VERSION
from windrow.common.messages import CHUNKS, Chunk
from windrow.common.words import Fence, NodeId
from windrow.node.chunks import check_chunk

_SHOWN_CHARS = 64
"""Of what stands in a header that is refused."""


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
        raise MalformedMessage(f"a chunk message of protocol version {_shown(version)}; this node: {PROTOCOL_VERSION}")
    for name, wanted in (("windrow-cluster", cluster), ("windrow-node", node)):
        if headers.get(name) != wanted:
            raise MalformedMessage(f"the chunk message is for {name} {_shown(headers.get(name, ''))}, not {wanted!r}")
    fence = delivery.fence
    if fence is None:
        raise MalformedMessage(f"the chunk message names no fence: {_shown(headers.get('windrow-fence', ''))}")
    key_id = headers.get("windrow-key-id", "")
    key = next((key for known, key in keys.items() if str(known) == key_id), None)
    if key is None:
        raise MalformedMessage(f"the chunk message is signed with key {_shown(key_id)}, which this node does not have")
    if not chunk_is_signed(key, cluster, node, fence, delivery.body, headers.get("windrow-signature", "")):
        raise MalformedMessage(f"the signature of the chunk message for fence {fence} is wrong")
    chunk = read_chunk(delivery.body, cluster=cluster, node=node)
    for name, said, meant in (
        ("fence", str(chunk.fence), str(fence)),
        ("job", chunk.job, headers.get("windrow-job", "")),
        ("task", chunk.task, headers.get("windrow-task", "")),
    ):
        if said != meant:
            raise MalformedMessage(f"the chunk message says {name} {said!r} inside and {_shown(meant)} outside")
    return chunk


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_CHARS])


def read_chunk(body: bytes, *, cluster: str, node: NodeId) -> Chunk:
    """The chunk in these bytes; MalformedMessage where it is another's, or does not add up."""
    try:
        chunk = CHUNKS.decode(body)
    except ProtocolMismatch as error:
        raise MalformedMessage(f"the chunk: {error.message}") from None
    if (chunk.cluster, chunk.node) != (cluster, node):
        raise MalformedMessage(
            f"the chunk is for node {chunk.node!r} of {chunk.cluster!r}, not {node!r} of {cluster!r}"
        )
    check_chunk(chunk)
    return chunk
