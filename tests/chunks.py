"""Chunk messages as the scheduler would make them."""

from __future__ import annotations

from windrow.common.blocks import pack_block
from windrow.common.keys import node_key, sign_chunk
from windrow.common.messages import CHUNKS, Chunk, InputSlice, NumberItems
from windrow.common.values import encode_value
from windrow.common.words import Fence, JobId, NodeId
from windrow.scheduler.ports import ChunkMessage

SECRET = b"a secret for tests"
KEY_ID = 1
JOB = JobId("J0B")
TASK = "mytasks:add"


def make_chunk(cluster: str, node: NodeId, counter: int, *, item_bytes: int = 0) -> Chunk:
    """Ten numbers; or one item of so many bytes."""
    fence, start = Fence(1, counter), 10 * counter
    if not item_bytes:
        return Chunk(cluster, node, fence, JOB, TASK, start, start + 10, numbers=NumberItems(0, 1 << 40))
    block = pack_block([encode_value([b"x" * item_bytes])])
    return Chunk(cluster, node, fence, JOB, TASK, start, start + 1, inputs=(InputSlice(start, start + 1, block),))


def make_message(cluster: str, node: NodeId, counter: int, *, item_bytes: int = 0) -> ChunkMessage:
    """A signed chunk message with fence (1, counter)."""
    return sign(make_chunk(cluster, node, counter, item_bytes=item_bytes))


def sign(chunk: Chunk, *, secret: bytes = SECRET) -> ChunkMessage:
    """The message of this chunk, signed for its node."""
    body = CHUNKS.encode(chunk)
    signature = sign_chunk(node_key(secret, chunk.node), chunk.cluster, chunk.node, chunk.fence, body)
    return ChunkMessage(chunk.fence, chunk.node, chunk.job, chunk.task, body, signature, KEY_ID)
