"""What daemon and worker say to each other: frames of u32 length and msgpack on a socketpair, for both sides."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Annotated

from windrow.common.codec import Longest, MessageSet
from windrow.common.errors import MalformedMessage
from windrow.common.limits import MESSAGE_BYTES_MAX
from windrow.common.messages import InputSlice, ItemFailure, NumberItems, SourceError, TaskInfo, ValueRun
from windrow.common.words import Fence, JobId

_HEAD = struct.Struct("<I")
_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Setup:
    """The first frame to a worker: what to import."""

    sources: tuple[str, ...]
    allow: tuple[str, ...]
    allow_commands: bool = False


@dataclass(frozen=True, slots=True)
class Feed:
    """Items [start, stop) of one chunk for one worker; numbers only grow."""

    number: int
    fence: Fence
    job: JobId
    task: str
    start: int
    stop: int
    numbers: NumberItems | None
    inputs: tuple[InputSlice, ...]
    result_bytes_max: int
    alone: bool = False
    one_by_one: bool = False
    """Hand over each outcome before the next item starts: what has run is never taken for what has not."""
    attempts: tuple[tuple[int, ...], ...] = ()
    """[start, stop, attempts so far]; elsewhere none."""
    timeout_s: float | None = None
    soft_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has imported what it could."""

    tasks: Annotated[tuple[TaskInfo, ...], Longest(10_000)]
    errors: Annotated[tuple[SourceError, ...], Longest(256)]


@dataclass(frozen=True, slots=True)
class FeedOutcomes:
    """Outcomes in item order; everything of the feed below `next` has been told with this."""

    feed: int
    next: int
    values: tuple[ValueRun, ...] = ()
    failures: tuple[ItemFailure, ...] = ()
    busy_s: float = 0.0
    """Time in the task's function."""
    elapsed_s: float = 0.0
    """With `ended`: time that the whole feed took the worker."""
    executed: int = 0
    """With `ended`: how many items that were."""
    ended: bool = False
    """The worker is through with the feed; items from `next` on were not executed."""


TO_WORKER = MessageSet[object](Setup, Feed)
FROM_WORKER = MessageSet[object](Ready, FeedOutcomes)


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return _HEAD.pack(len(payload)) + payload


class FrameBuffer:
    """Puts frames together from whatever pieces arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now; MalformedMessage for a length beyond MESSAGE_BYTES_MAX."""
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        at = 0
        while len(buffer) - at >= _HEAD.size:
            length: int = _HEAD.unpack_from(buffer, at)[0]
            if length > MESSAGE_BYTES_MAX:
                raise MalformedMessage(f"a frame of {length} bytes; at most {MESSAGE_BYTES_MAX} are read")
            end = at + _HEAD.size + length
            if len(buffer) < end:
                break
            found.append(bytes(memoryview(buffer)[at + _HEAD.size : end]))
            at = end
        del buffer[:at]
        return found


class WorkerSide:
    """The worker's end: blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = FrameBuffer()
        self._waiting: list[object] = []

    def receive(self) -> object | None:
        """The next message from the daemon; None when it has closed the link."""
        while not self._waiting:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                return None
            self._waiting = [TO_WORKER.decode(payload) for payload in reversed(self._frames.feed(data))]
        return self._waiting.pop()

    def send(self, message: object) -> None:
        self._sock.sendall(frame(FROM_WORKER.encode(message)))
