"""Every message can travel, says what it is, and is data only."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import pytest

from tests import protocol_vectors
from windrow.common import messages
from windrow.common.codec import MessageSet, decoder_for
from windrow.common.errors import MalformedMessage
from windrow.common.limits import JOB_ITEMS_MAX, NAME_CHARS_MAX, RUNS_MAX
from windrow.common.messages import ANSWERS, CHUNKS, REQUESTS, Append, CloseJob, NodeHello, Report, StartJob
from windrow.common.options import Options
from windrow.common.words import Fence, JobId, NodeId

SETS: dict[str, MessageSet[typing.Any]] = {"requests": REQUESTS, "answers": ANSWERS, "chunks": CHUNKS}
KINDS = [(name, kind) for name, each in SETS.items() for kind in each._kinds.values()]


@pytest.mark.parametrize(("direction", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS])
def test_a_message_is_frozen_documented_and_known_to_the_codec(direction: str, kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(kind)
    assert (kind.__doc__ or "").strip().endswith("."), f"{kind.__name__} in {direction} has no sentence"
    with pytest.raises(MalformedMessage):
        decoder_for(kind)([])


def test_no_message_travels_in_two_directions() -> None:
    names = [kind.__name__ for _, kind in KINDS]
    assert len(names) == len(set(names))


def test_every_dataclass_of_the_module_travels_or_is_part_of_one_that_does() -> None:
    declared = {
        name for name, kind in vars(messages).items()
        if dataclasses.is_dataclass(kind) and getattr(kind, "__module__", "") == messages.__name__
    }  # fmt: skip
    reached: set[str] = set()

    def reach(kind: object) -> None:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__name__ not in reached:
            reached.add(kind.__name__)
            for hint in typing.get_type_hints(kind, include_extras=True).values():
                reach(hint)
        for part in typing.get_args(kind):
            reach(part)

    for _, kind in KINDS:
        reach(kind)
    assert declared <= reached


def test_there_is_a_vector_for_every_message() -> None:
    text = Path(str(protocol_vectors.__file__)).read_text()
    for _, kind in KINDS:
        assert f"{kind.__name__}(" in text, f"no vector of {kind.__name__}"


@pytest.mark.parametrize(
    "message",
    [
        StartJob(JobId("j"), "t" * (NAME_CHARS_MAX + 1)),
        StartJob(JobId("j"), "t", after=(JobId("x"),) * 257),
        StartJob(JobId("j"), "t", options=Options(priority=1001)),
        StartJob(JobId("j"), "t", options=Options(delay_s=float("nan"))),
        Append(JobId("j"), -1, 1, b""),
        Append(JobId("j"), 0, 0, b""),
        Append(JobId("j"), JOB_ITEMS_MAX + 1, 1, b""),
        CloseJob(JobId("j"), -1),
        Report(NodeId("n"), "b", -1),
        Report(NodeId("n"), "b", 1, (Fence(1, 1),) * (RUNS_MAX + 1)),
        NodeHello(NodeId("n"), "b", "n", "h", 1, 0, ()),
        NodeHello(NodeId("n"), "b", "n", "h", 1, 4097, ()),
    ],
)
def test_what_is_beyond_a_limit_is_refused_when_it_is_read(message: object) -> None:
    """Invariant 6."""
    with pytest.raises(MalformedMessage):
        REQUESTS.decode(REQUESTS.encode(message))
