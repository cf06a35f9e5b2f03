"""Every decoder, and what it may answer to bytes of strangers; for tests/unit/test_fuzz.py and `make fuzz`."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from tests.decoder import Decoder
from tests.fuzzing_export import export_decoders
from tests.protocol_vectors import (
    ANSWER_EXAMPLES,
    CHUNK_EXAMPLES,
    CLUSTER,
    FAILED,
    ITEMS,
    JOB,
    NODE,
    REQUEST_EXAMPLES,
    VALUE_EXAMPLES,
    VALUES,
)
from windrow.client.outcomes import decode_run
from windrow.common.blocks import block_count, block_entries, check_block, slice_block
from windrow.common.codec import MessageSet
from windrow.common.errors import MalformedMessage, ProtocolError, UsageError
from windrow.common.messages import ANSWERS, CHUNKS, REQUESTS, ChunkReport, Outcomes, ValueRun
from windrow.common.values import decode_value, encode_value
from windrow.common.words import Fence, fence_from_text
from windrow.node.chunks import check_chunk
from windrow.node.deliveries import read_chunk
from windrow.node.spool import Spool
from windrow.node.workbench import SPOOLED
from windrow.node.worker_link import FROM_WORKER, TO_WORKER, Feed, FeedOutcomes, FrameBuffer, frame
from windrow.run.spec import CommandSpec, decode_spec, encode_spec
from windrow.scheduler import control

BOMBS = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x91" * 600, b"\x81\xa1x" * 600,
    b"\xc7\x0b\x01\xc7\x08\x0d" + b"\x93\x00\xce\xff\xff\xff\xff\x01", b"[" * 5_000, b"\xcf" + b"\xff" * 8,
    b"\xcb\x7f\xf0\0\0\0\0\0\0", b"\xd7\xff" + b"\xff" * 8, b"\xac" * 700,
)  # fmt: skip
"""Lengths beyond all bounds, deep nesting, endless ranges, infinity: what breaks decoders."""
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 7, 1 << 31, 1 << 70, -(1 << 70), 0.5, float("inf"), float("nan"), "", "x", "..", "../../x",
    "/etc/passwd", "a\0b", "\ud800", "[" * 3_000, "{}", "9" * 5_000, [], [[]], [None], ["\ud800"], {}, {"x": 1},
)  # fmt: skip
"""What stands in a record where something else should."""


def _read_message(messages: MessageSet[object]) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        message = messages.decode(data)
        # What is taken can be passed on, and says the same. (By bytes: a number that is none is not equal to itself.)
        again = messages.encode(message)
        assert messages.encode(messages.decode(again)) == again
        return message

    return read


def _read_request(data: bytes) -> None:
    message = _read_message(REQUESTS)(data)
    control._check(message)


def _read_answer(data: bytes) -> None:
    message = _read_message(ANSWERS)(data)
    if isinstance(message, Outcomes):
        for run in message.values:
            decode_run(run)


def _read_local_chunk(data: bytes) -> None:
    check_chunk(CHUNKS.decode(data))


def _read_delivered_chunk(data: bytes) -> None:
    check_chunk(read_chunk(data, cluster=CLUSTER, node=NODE))


def _read_block(data: bytes) -> None:
    count = block_count(data)
    check_block(data, count)
    if count <= 1_000:
        assert sum(1 for _ in block_entries(data)) == count
    slice_block(data, count // 3, count // 3 + 1)
    decode_run(ValueRun(0, count, data))


def _read_value(data: bytes) -> None:
    decode_value(data)


def _read_frames(data: bytes) -> None:
    middle = len(data) // 2
    buffer = FrameBuffer()
    for payload in buffer.feed(data[:middle]) + buffer.feed(data[middle:]):
        for messages in (FROM_WORKER, TO_WORKER):
            try:
                messages.decode(payload)
            except ProtocolError:
                continue


def _read_spool(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "0000000001.spool"
        path.write_bytes(data)
        records = list(Spool(Path(folder), "b2", 1 << 20).read_old())
        kept = path.read_bytes()
        assert data.startswith(kept)
        assert list(Spool(Path(folder), "b2", 1 << 20).read_old()) == records
        for record in records:
            try:
                SPOOLED.decode(record.payload)
            except ProtocolError:
                continue


def _read_fence(data: bytes) -> None:
    fence_from_text(data.decode(errors="replace"))


def _spool_example() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), "b1", 1 << 20)
        for at in range(3):
            report = ChunkReport(Fence(1, at), JOB, (ValueRun(20, 23, VALUES),), (FAILED,))
            spool.append(SPOOLED.encode(report))
        return next(Path(folder).iterdir()).read_bytes()


def _frame_example() -> bytes:
    feed = Feed(1, Fence(1, 2), JOB, "t:u", 0, 3, None, CHUNK_EXAMPLES[0].inputs, 1 << 20, attempts=((0, 1, 2),))
    outcomes = FeedOutcomes(1, 3, (ValueRun(20, 23, VALUES),), (FAILED,))
    return frame(TO_WORKER.encode(feed)) + frame(FROM_WORKER.encode(outcomes))


def _all(messages: MessageSet[object], examples: Iterable[object]) -> tuple[bytes, ...]:
    return tuple(messages.encode(example) for example in examples)


@cache
def decoders() -> dict[str, Decoder]:
    """By name."""
    protocol, malformed = (ProtocolError,), (MalformedMessage,)
    chunks = tuple(CHUNKS.encode(example) for example in CHUNK_EXAMPLES)
    command = CommandSpec(("sh", "{}"), False, "{}", "/tmp", {"A": "b"}, 3.0, 1 << 16)
    return {
        "requests": Decoder(_read_request, protocol, _all(REQUESTS, REQUEST_EXAMPLES)),
        "answers": Decoder(_read_answer, protocol, _all(ANSWERS, ANSWER_EXAMPLES)),
        "chunks": Decoder(_read_local_chunk, protocol, chunks),
        "deliveries": Decoder(_read_delivered_chunk, malformed, chunks),
        "blocks": Decoder(_read_block, malformed, (ITEMS, VALUES, slice_block(ITEMS, 1, 3))),
        "values": Decoder(_read_value, malformed, tuple(encode_value([each, {"k": each}]) for each in VALUE_EXAMPLES)),
        "frames": Decoder(_read_frames, malformed, (_frame_example(),)),
        "spool": Decoder(_read_spool, (), (_spool_example(),)),
        "commands": Decoder(decode_spec, (UsageError, MalformedMessage), (encode_spec(command),)),
        "fences": Decoder(_read_fence, (), (b"3.17",)),
        **export_decoders(),
    }  # fmt: skip


def feed(name: str, data: bytes) -> bool:
    """Whether the decoder took the bytes; False: it refused them as it should. Anything else is raised."""
    decoder = decoders()[name]
    try:
        decoder.read(data)
    except decoder.refusals as refusal:
        said = str(refusal)
    else:
        return True
    assert len(said) < 4_000, "a refusal is a line, not an echo"
    return False


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The message with a few things wrong, as noise, cuts and malice would have it."""
    wrong = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(wrong) + 1)
        match rng.randrange(7):
            case 0 if wrong:
                wrong[at % len(wrong)] ^= 1 << rng.randrange(8)
            case 1 if wrong:
                wrong[at % len(wrong)] = rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xFF, rng.randrange(256)))
            case 2:
                del wrong[at:]
            case 3:
                wrong[at:] = other[rng.randrange(len(other) + 1) :]
            case 4:
                wrong[at:at] = rng.choice(BOMBS)
            case 5:
                bomb = rng.choice(BOMBS)
                wrong[at : at + len(bomb)] = bomb
            case _:
                wrong[at:at] = wrong[max(0, at - rng.randrange(40)) : at]
    return bytes(wrong)


def replace_value(record: bytes, rng: random.Random) -> bytes:
    """The JSON record with another value in one place."""
    plain: Any = json.loads(record)
    places: list[tuple[Any, Any]] = []
    pending: list[Any] = [plain]
    while pending:
        one = pending.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        places += [(one, key) for key, _ in inner]
        pending += [value for _, value in inner]
    if not places:
        return record
    holder, key = rng.choice(places)
    if isinstance(holder, dict) and rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(STRANGE)
    return json.dumps(plain).encode()
