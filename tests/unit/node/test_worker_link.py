"""Frames between daemon and worker."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from windrow.common.errors import MalformedMessage
from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.words import Fence, JobId
from windrow.node.worker_link import FROM_WORKER, TO_WORKER, Feed, FeedOutcomes, FrameBuffer, Setup, WorkerSide, frame


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_frames_are_put_together_from_any_pieces(step: int) -> None:
    payloads = [b"", b"a", b"x" * 300, b"end"]
    stream = b"".join(frame(payload) for payload in payloads)
    buffer = FrameBuffer()
    found: list[bytes] = []
    for at in range(0, len(stream), step):
        found += buffer.feed(stream[at : at + step])
    assert found == payloads


def test_a_length_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(MalformedMessage, match="at most"):
        FrameBuffer().feed(struct.pack("<I", MESSAGE_BYTES_MAX + 1))
    assert FrameBuffer().feed(struct.pack("<I", MESSAGE_BYTES_MAX)) == []


def test_what_a_message_does_not_say_it_does_not_ask_for() -> None:
    assert Setup((), ()) == Setup((), (), allow_commands=False)
    feed = Feed(1, Fence(1, 2), JobId("j"), "t", 0, 5, None, (), 10)
    assert feed == replace(feed, alone=False, one_by_one=False, attempts=(), timeout_s=None, soft_timeout_s=None)
    told = FeedOutcomes(1, 5)
    assert told == replace(told, values=(), failures=(), busy_s=0.0, elapsed_s=0.0, executed=0, ended=False)


def test_the_worker_side_receives_and_sends_messages_until_the_link_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for end in (ours, theirs):
            end.settimeout(10)
        side = WorkerSide(theirs)
        setup = Setup(("a",), ())
        feed = Feed(1, Fence(1, 2), JobId("j"), "t", 0, 5, None, (), 10)
        ours.sendall(frame(TO_WORKER.encode(setup)) + frame(TO_WORKER.encode(feed)))
        assert [side.receive(), side.receive()] == [setup, feed]
        told = FeedOutcomes(1, 5, ended=True)
        side.send(told)
        assert [FROM_WORKER.decode(data) for data in FrameBuffer().feed(ours.recv(1000))] == [told]
        ours.shutdown(socket.SHUT_WR)
        assert side.receive() is None
