"""Writes docs/protocol-vectors.json, examples of all that travels: `python -m tests.protocol_vectors`."""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import datetime
import decimal
import fractions
import json
import uuid
from pathlib import Path
from typing import Any

from windrow.common.blocks import block_entries, pack_block, slice_block
from windrow.common.codec import to_plain
from windrow.common.keys import node_key, sign_chunk
from windrow.common.messages import (
    ANSWERS,
    CHUNKS,
    REQUESTS,
    Accepted,
    Append,
    Appended,
    CancelJob,
    Chunk,
    ChunkReport,
    ClientPoll,
    CloseJob,
    Directives,
    DrainNode,
    Explained,
    ExplainJob,
    FailureInfo,
    FindJob,
    Health,
    HealthInfo,
    InputSlice,
    ItemFailure,
    JobInfo,
    Jobs,
    ListJobs,
    ListNodes,
    News,
    NodeBye,
    NodeHello,
    NodeInfo,
    NodeLoad,
    NodePoll,
    Nodes,
    NodeWelcome,
    NumberItems,
    Outcomes,
    PauseJob,
    Polled,
    ReadFailures,
    ReadHistory,
    ReadResults,
    Refused,
    Report,
    Reported,
    RetryJob,
    SlotState,
    SourceError,
    Started,
    StartJob,
    TaskInfo,
    ValueRun,
    Watch,
)
from windrow.common.options import OnLost, Options
from windrow.common.values import call, encode_item, encode_value
from windrow.common.words import FailureKind, Fence, JobId, JobState, NodeId, Range
from windrow.scheduler.node_queues import QueuePlan
from windrow.scheduler.ports import ChunkMessage

DOCUMENT = Path(__file__).parent.parent / "docs" / "protocol-vectors.json"

NODE, JOB, FENCE = NodeId("6f1b"), JobId("4ZV8Q0K2M6T1R7XA"), Fence(3, 17)
CLUSTER, SECRET, KEY_ID = "3kq7", bytes(range(32)), 1
VALUES = pack_block([encode_value(value) for value in (4, "four", None)])
ITEMS = pack_block([encode_item(item) for item in ((1, 2), call(1, y=2), "alone")])
LOAD = NodeLoad(12.5, 2, 1 << 30, 4 << 30, 0.5, 0.25, 0.125, (SlotState(4711, "busy", "mytasks:add", 1 << 25),))
OPTIONS = Options(priority=5, timeout_s=30.0, retry_on=("OSError",), on_lost=OnLost.FAIL)
TASK = TaskInfo("mytasks:add", "1.0", Options(retries=3))
FAILED = ItemFailure(23, FailureKind.ERROR, "ValueError", "no", "Traceback …", bases=("ValueError",), after_s=2.0)
INFO = JobInfo(JOB, "nightly", "mytasks:add", JobState.RUNNING, True, 30, 3, 1, 0, 20, 6)
FAILURE = FailureInfo(23, FailureKind.CRASH, "WorkerCrashed", "signal 9", "", "six", 2, 1.5, "Killed", 1 << 30)

REQUEST_EXAMPLES: tuple[object, ...] = (
    NodeHello(
        NODE, "b1", "six", "host6", 4710, 2, ("default",), {"zone": "a"}, (TASK,), (SourceError("bad", "no"),), (FENCE,)
    ),
    Report(
        NODE, "b1", 5, (FENCE,), (ChunkReport(FENCE, JOB, (ValueRun(20, 23, VALUES),), (FAILED,), (Range(24, 30),)),),
        LOAD,
    ),
    NodeBye(NODE, "b1"),
    NodePoll(NODE, "b1", (FENCE,)),
    StartJob(JOB, "mytasks:add", "nightly", OPTIONS, key="2026-11-21", numbers=NumberItems(0, 100, 5)),
    Append(JOB, 30, 3, ITEMS),
    CloseJob(JOB, 33),
    FindJob("4ZV"),
    ListJobs(),
    ReadResults(JOB, 20),
    ReadFailures(JOB),
    CancelJob(JOB, "not needed"),
    RetryJob(JOB, (Range(23, 24),)),
    PauseJob(JOB),
    ExplainJob(JOB, 23),
    ReadHistory(JOB, 23),
    ListNodes(),
    DrainNode("six"),
    Health(),
    ClientPoll("c1", (Watch(JOB, 7),)),
)  # fmt: skip
ANSWER_EXAMPLES: tuple[object, ...] = (
    Refused("not_found", "no job 4ZV"),
    Accepted(3),
    NodeWelcome(
        3, CLUSTER, 1.0, 6.0, "amqp", QueuePlan(CLUSTER, "classic").queue_name(NODE), node_key(SECRET, NODE), 1
    ),
    Reported(3, (Fence(2, 9),)),
    Directives(3, give_up=(FENCE,), placed=2),
    Started(3, JOB, False, 20),
    Appended(3, 33),
    INFO,
    Jobs(3, (INFO,)),
    Outcomes(3, INFO, (ValueRun(20, 23, VALUES),), (FAILURE,), 24),
    Nodes(3, (NodeInfo(NODE, "six", "host6", "alive", 2, ("default",), {}, (TASK,), (), 1, LOAD, 0.5),)),
    HealthInfo(3, CLUSTER, "0.1.0", "amqp", "ok", "", "ok", "", 60.0, 1, 2, 0),
    Explained(3, INFO, ("no live node offers mytasks:add", "6 items wait"), 12.5),
    Polled(3, (News(JOB, 8, JobState.RUNNING, (ValueRun(20, 23, VALUES),)),)),
)
CHUNK_EXAMPLES: tuple[Chunk, ...] = (
    Chunk(CLUSTER, NODE, FENCE, JOB, "mytasks:add", 30, 33, inputs=(InputSlice(30, 33, ITEMS),)),
    Chunk(CLUSTER, NODE, Fence(3, 18), JOB, "mytasks:add", 0, 20, NumberItems(0, 100, 5), attempts=((3, 4, 1),)),
)
VALUE_EXAMPLES: tuple[object, ...] = (
    None, True, 7, -1, 1.5, "text", b"\x00\xff", [1, [2]], {"a": 1}, (1, 2), {3}, frozenset({4}),
    datetime.datetime(2026, 11, 21, 9, 30, tzinfo=datetime.UTC), datetime.date(2026, 11, 21), datetime.time(9, 30),
    datetime.timedelta(days=1, seconds=2, microseconds=3), decimal.Decimal("1.10"), uuid.UUID(int=5), 1 << 70,
    complex(1, -2), fractions.Fraction(1, 3), range(0, 10, 3),
)  # fmt: skip


def vectors() -> dict[str, object]:
    """Everything, as JSON can carry it: bytes are {"hex": …}."""
    return {
        "requests": [_message(each, REQUESTS.encode(each)) for each in REQUEST_EXAMPLES],
        "answers": [_message(each, ANSWERS.encode(each)) for each in ANSWER_EXAMPLES],
        "chunks": [_message(each, CHUNKS.encode(each)) for each in CHUNK_EXAMPLES],
        "blocks": [_block(ITEMS), _block(slice_block(ITEMS, 1, 3)), _block(VALUES)],
        "items": [
            {"python": "(1, 2)", "hex": encode_item((1, 2)).hex()},
            {"python": "call(1, y=2)", "hex": encode_item(call(1, y=2)).hex()},
            {"python": "'alone'", "hex": encode_item("alone").hex()},
        ],
        "values": [{"python": repr(value), "hex": encode_value(value).hex()} for value in VALUE_EXAMPLES],
        "signature": _signature(CHUNK_EXAMPLES[0]),
    }


def _message(message: object, encoded: bytes) -> dict[str, object]:
    return {"name": type(message).__name__, "fields": _json(to_plain(message)), "hex": encoded.hex()}


def _json(plain: Any) -> object:
    if isinstance(plain, bytes):
        return {"hex": plain.hex()}
    if isinstance(plain, dict):
        return {str(name): _json(entry) for name, entry in plain.items()}
    if isinstance(plain, (list, tuple)):
        return [_json(entry) for entry in plain]
    return plain


def _block(block: bytes) -> dict[str, object]:
    return {"entries": [entry.hex() for entry in block_entries(block)], "hex": block.hex()}


def _signature(chunk: Chunk) -> dict[str, object]:
    body, key = CHUNKS.encode(chunk), node_key(SECRET, NODE)
    signature = sign_chunk(key, CLUSTER, NODE, chunk.fence, body)
    message = ChunkMessage(chunk.fence, NODE, chunk.job, chunk.task, body, signature, KEY_ID)
    return {
        "cluster_secret": SECRET.hex(),
        "node": NODE,
        "node_key": key.hex(),
        "body": body.hex(),
        "headers": QueuePlan(CLUSTER, "classic").headers(message),
    }


if __name__ == "__main__":
    DOCUMENT.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
