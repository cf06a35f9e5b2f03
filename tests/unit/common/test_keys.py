"""A node starts only what its own scheduler signed for it."""

from __future__ import annotations

import pytest

from windrow.common.keys import chunk_is_signed, node_key, sign_chunk
from windrow.common.words import Fence, NodeId

SECRET = b"s" * 32
NODE, OTHER = NodeId("n"), NodeId("m")
KEY = node_key(SECRET, NODE)
SIGNED = sign_chunk(KEY, "c", NODE, Fence(1, 2), b"body")


def test_what_was_signed_passes() -> None:
    assert chunk_is_signed(KEY, "c", NODE, Fence(1, 2), b"body", SIGNED)
    assert len(SIGNED) == 64


@pytest.mark.parametrize(
    ("key", "cluster", "node", "fence", "body", "signature"),
    [
        (node_key(SECRET, OTHER), "c", NODE, Fence(1, 2), b"body", SIGNED),
        (node_key(b"t" * 32, NODE), "c", NODE, Fence(1, 2), b"body", SIGNED),
        (KEY, "d", NODE, Fence(1, 2), b"body", SIGNED),
        (KEY, "c", OTHER, Fence(1, 2), b"body", SIGNED),
        (KEY, "c", NODE, Fence(2, 1), b"body", SIGNED),
        (KEY, "c", NODE, Fence(1, 2), b"bodi", SIGNED),
        (KEY, "c", NODE, Fence(1, 2), b"body", SIGNED[:-1]),
        (KEY, "c", NODE, Fence(1, 2), b"body", ""),
        (KEY, "c", NODE, Fence(1, 2), b"body", "ä" * 64),
    ],
    ids=["other node's key", "other secret", "cluster", "node", "fence", "body", "cut", "none", "not ascii"],
)
def test_whatever_differs_does_not_pass(
    key: bytes, cluster: str, node: NodeId, fence: Fence, body: bytes, signature: str
) -> None:
    assert not chunk_is_signed(key, cluster, node, fence, body, signature)


def test_fields_cannot_be_shifted_into_one_another() -> None:
    """NUL lies between them, and no name contains one on the wire of these fields."""
    assert sign_chunk(KEY, "ab", NodeId("c"), Fence(1, 1), b"") != sign_chunk(KEY, "a", NodeId("bc"), Fence(1, 1), b"")
    assert sign_chunk(KEY, "a", NODE, Fence(1, 11), b"") != sign_chunk(KEY, "a", NODE, Fence(1, 1), b"1")
