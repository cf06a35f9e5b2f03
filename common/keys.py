"""Signs chunk messages, so that a node starts only what its own scheduler sent to it."""

from __future__ import annotations

import hashlib
import hmac

from windrow.common.words import Fence, NodeId


def node_key(secret: bytes, node: NodeId) -> bytes:
    """The key of one node, derived from the cluster's secret; it is handed over in NodeWelcome."""
    return hmac.digest(secret, b"windrow node key\0" + node.encode(), hashlib.sha256)


def sign_chunk(key: bytes, cluster: str, node: NodeId, fence: Fence, body: bytes) -> str:
    """HMAC-SHA256, in hex, over cluster, node, fence and body (NUL between them)."""
    head = f"{cluster}\0{node}\0{fence}\0".encode()
    return hmac.digest(key, head + body, hashlib.sha256).hex()


def chunk_is_signed(key: bytes, cluster: str, node: NodeId, fence: Fence, body: bytes, signature: str) -> bool:
    """Whether `signature` is right, compared in constant time."""
    return hmac.compare_digest(sign_chunk(key, cluster, node, fence, body).encode(), signature.encode())
