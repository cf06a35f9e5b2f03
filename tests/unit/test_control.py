"""The control channel's socket: what passes the door, what is refused, and that answers find their peer."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgpack
import pytest
import zmq

from tests.waiting import wait_until
from windrow.common.blocks import pack_block
from windrow.common.errors import ConfigError
from windrow.common.limits import PROTOCOL_VERSION
from windrow.common.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    Append,
    ChunkReport,
    Health,
    Refused,
    Report,
    ValueRun,
)
from windrow.common.words import Fence, JobId, NodeId, Range
from windrow.scheduler.control import ControlSocket, Request

JOB = JobId("job-a")


class Line:
    """A control socket and one REQ peer of it, driven by hand."""

    def __init__(self) -> None:
        self.control = ControlSocket("127.0.0.1", 0)
        self.context = zmq.Context()
        self.peer = self.context.socket(zmq.REQ)
        self.peer.setsockopt(zmq.REQ_CORRELATE, 1)
        self.peer.setsockopt(zmq.REQ_RELAXED, 1)
        self.peer.connect(self.control.url)

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.control.close()

    def send(self, data: bytes) -> list[Request]:
        """What the scheduler receives of it."""
        self.peer.send(data)
        return self.receive()

    def receive(self) -> list[Request]:
        before = self.control.received
        found: list[Request] = []
        wait_until(lambda: found.extend(self.control.receive()) or self.control.received > before, 5, "a message")
        return found

    def answered(self) -> object:
        assert self.peer.poll(5_000)
        return ANSWERS.decode(self.peer.recv())


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


def test_a_request_is_received_and_its_answer_finds_the_peer(line: Line) -> None:
    (request,) = line.send(REQUESTS.encode(Health()))
    assert request.message == Health()
    line.control.answer(request.peer, Accepted(1, "well"))
    assert line.answered() == Accepted(1, "well")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"\xc1rubbish", "malformed"),
        (msgpack.packb([PROTOCOL_VERSION + 1, "Health", {}]), "protocol_version"),
        (msgpack.packb([PROTOCOL_VERSION, "Nonsense", {}]), "malformed"),
        (msgpack.packb([PROTOCOL_VERSION, "Accepted", {"epoch": 1}]), "malformed"),
        (REQUESTS.encode(Append(JOB, 0, 3, pack_block([b"a"]))), "malformed"),
        (REQUESTS.encode(Append(JOB, 0, 1, b"")), "malformed"),
        (REQUESTS.encode(Append(JOB, 0, 2, struct.pack("<4I", 2, 0, 9, 2) + b"ab")), "malformed"),
    ],
    ids=["empty", "rubbish", "version", "unknown", "an answer", "short block", "no block", "torn block"],
)
def test_what_does_not_fit_is_refused_with_its_code_and_counted(line: Line, data: bytes, code: str) -> None:
    assert line.send(data) == []
    refused = line.answered()
    assert isinstance(refused, Refused)
    assert (refused.code, line.control.refused, line.control.received) == (code, 1, 1)


@pytest.mark.parametrize(
    "said",
    [
        ChunkReport(Fence(1, 1), JOB, (ValueRun(0, 2, pack_block([b"a"])),)),
        ChunkReport(Fence(1, 1), JOB, (ValueRun(5, 4, pack_block([b"a"])),)),
        ChunkReport(Fence(1, 1), JOB, released=(Range(4, 4),)),
        ChunkReport(Fence(1, 1), JOB, released=(Range(5, 4),)),
    ],
)
def test_a_report_whose_blocks_and_ranges_do_not_hold_is_refused(line: Line, said: ChunkReport) -> None:
    assert line.send(REQUESTS.encode(Report(NodeId("n"), "b", 1, (), (said,)))) == []
    refused = line.answered()
    assert isinstance(refused, Refused)
    assert refused.code == "malformed"


def test_a_message_without_the_delimiter_of_req_is_dropped(line: Line) -> None:
    dealer = line.context.socket(zmq.DEALER)
    dealer.connect(line.control.url)
    dealer.send_multipart([REQUESTS.encode(Health())])
    assert line.receive() == []
    assert line.control.refused == 1
    dealer.close(linger=0)


def test_an_answer_to_nobody_is_lost_without_harm(line: Line) -> None:
    (request,) = line.send(REQUESTS.encode(Health()))
    line.context.destroy(linger=0)
    line.control.answer(request.peer, Accepted(1))


def test_a_port_in_use_is_one_clear_line(line: Line) -> None:
    port = int(line.control.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"cannot listen on tcp://127.0.0.1:{port}: .*; is a scheduler running"):
        ControlSocket("127.0.0.1", port)
