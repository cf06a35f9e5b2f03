"""docs/protocol.md and docs/protocol-vectors.json say what the code does, and the code does what they say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests import protocol_tables, protocol_vectors
from windrow.common import limits
from windrow.common.blocks import block_entries, check_block, pack_block
from windrow.common.codec import MessageSet
from windrow.common.keys import chunk_is_signed, node_key
from windrow.common.messages import ANSWERS, CHUNKS, REQUESTS
from windrow.common.values import decode_value, encode_value
from windrow.common.words import NodeId, fence_from_text
from windrow.node.deliveries import Delivery, DeliveryTag, check_delivery

TEXT = protocol_tables.DOCUMENT.read_text(encoding="utf-8")
VECTORS: dict[str, Any] = json.loads(protocol_vectors.DOCUMENT.read_text(encoding="utf-8"))
SETS: dict[str, MessageSet[Any]] = {"requests": REQUESTS, "answers": ANSWERS, "chunks": CHUNKS}
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "requests": protocol_vectors.REQUEST_EXAMPLES,
    "answers": protocol_vectors.ANSWER_EXAMPLES,
    "chunks": protocol_vectors.CHUNK_EXAMPLES,
}
CASES = [(kind, at) for kind, examples in EXAMPLES.items() for at in range(len(examples))]


def test_the_tables_are_those_of_the_code() -> None:
    assert protocol_tables.text_with_tables(TEXT) == TEXT, "run: python -m tests.protocol_tables"


def test_the_vectors_are_those_of_the_code() -> None:
    made = json.loads(json.dumps(protocol_vectors.vectors()))
    assert made == VECTORS, "run: python -m tests.protocol_vectors; say in docs/protocol.md what was added"


@pytest.mark.parametrize(("kind", "at"), CASES)
def test_the_codec_reads_and_writes_exactly_the_vector(kind: str, at: int) -> None:
    encoded = bytes.fromhex(VECTORS[kind][at]["hex"])
    assert SETS[kind].decode(encoded) == EXAMPLES[kind][at]
    assert SETS[kind].encode(EXAMPLES[kind][at]) == encoded


@pytest.mark.parametrize("kind", SETS)
def test_every_message_has_a_vector(kind: str) -> None:
    assert set(vars(SETS[kind])["_kinds"]) == {type(example).__name__ for example in EXAMPLES[kind]}


def test_block_vectors_hold_their_entries() -> None:
    for vector in VECTORS["blocks"]:
        block, entries = bytes.fromhex(vector["hex"]), [bytes.fromhex(entry) for entry in vector["entries"]]
        check_block(block, len(entries))
        assert list(block_entries(block)) == entries
    first = VECTORS["blocks"][0]
    assert pack_block([bytes.fromhex(entry) for entry in first["entries"]]).hex() == first["hex"]


def test_value_vectors_read_as_the_values() -> None:
    for value, vector in zip(protocol_vectors.VALUE_EXAMPLES, VECTORS["values"], strict=True):
        assert decode_value(bytes.fromhex(vector["hex"])) == value
        assert type(decode_value(bytes.fromhex(vector["hex"]))) is type(value)
        assert encode_value(value).hex() == vector["hex"]


def test_the_signed_vector_passes_as_a_delivery() -> None:
    vector = VECTORS["signature"]
    headers, body, node = vector["headers"], bytes.fromhex(vector["body"]), NodeId(vector["node"])
    key = node_key(bytes.fromhex(vector["cluster_secret"]), node)
    assert key.hex() == vector["node_key"]
    fence = fence_from_text(headers["windrow-fence"])
    assert fence is not None
    assert chunk_is_signed(key, headers["windrow-cluster"], node, fence, body, headers["windrow-signature"])
    delivery = Delivery(DeliveryTag(1, 1), fence, headers, body, redelivered=False)
    chunk = check_delivery(delivery, cluster=headers["windrow-cluster"], node=node, keys={1: key})
    assert chunk == protocol_vectors.CHUNK_EXAMPLES[0]


def test_the_limits_are_those_of_the_code() -> None:
    section = TEXT.partition("\n## Limits\n")[2].partition("\n## ")[0]
    said = {int(number) for number in re.findall(r"\d+", section)}
    assert said == {
        limits.MESSAGE_BYTES_MAX,
        limits.ITEM_BYTES_MAX,
        limits.RESULT_BYTES_MAX,
        limits.APPEND_ITEMS_MAX,
        limits.APPEND_BYTES_MAX,
        limits.CHUNK_ITEMS_MAX,
        limits.CHUNK_BYTES_MAX,
        limits.REPORT_BYTES_MAX,
        limits.PAGE_BYTES_MAX,
        limits.RUNS_MAX,
        limits.FENCES_PER_NODE_MAX,
        limits.JOB_ITEMS_MAX,
        limits.NAME_CHARS_MAX,
        limits.TEXT_CHARS_MAX,
        limits.VALUE_NESTING_MAX,
    }


def test_every_extension_code_is_in_the_document() -> None:
    section = TEXT.partition("| code | Python type | data |")[2].partition("\n\n")[0]
    codes = [int(line.split("|")[1]) for line in section.splitlines() if line.count("|") == 4 and "---" not in line]
    used = {bytes.fromhex(vector["hex"]) for vector in VECTORS["values"]}
    assert codes == list(range(1, 14))
    assert {code for code in codes if any(_has_code(data, code) for data in used)} == set(codes)


def _has_code(data: bytes, code: int) -> bool:
    """Whether these bytes are a msgpack extension of this code."""
    if data[0] in (0xD4, 0xD5, 0xD6, 0xD7, 0xD8):
        return data[1] == code
    return data[0] == 0xC7 and data[2] == code
