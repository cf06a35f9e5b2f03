"""A scheduler made for tests (a real ROUTER, scripted answers) and a node daemon as a process of its own."""

from __future__ import annotations

import dataclasses
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import zmq

from windrow.common.blocks import block_entries, check_block, pack_block
from windrow.common.messages import (
    ANSWERS,
    CHUNKS,
    REQUESTS,
    Accepted,
    Chunk,
    Directives,
    InputSlice,
    ItemFailure,
    NodeBye,
    NodeHello,
    NodePoll,
    NodeWelcome,
    NumberItems,
    Refused,
    Report,
    Reported,
)
from windrow.common.ranges import RangeSet
from windrow.common.values import decode_value, encode_item
from windrow.common.words import Fence, JobId, NodeId

T = TypeVar("T")
WAIT_S = 30.0


def wait_for(find: Callable[[], T], what: str, timeout_s: float = WAIT_S) -> T:
    """The first true answer of `find`; AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for: {what}"
        time.sleep(0.005)
    return found


@dataclass
class Accounted:
    """What has been reported of one fence."""

    values: dict[int, object] = field(default_factory=dict[int, object])
    failures: dict[int, ItemFailure] = field(default_factory=dict[int, ItemFailure])
    released: RangeSet = field(default_factory=RangeSet)
    busy_s: float = 0.0
    twice: list[int] = field(default_factory=list[int])

    @property
    def count(self) -> int:
        return len(self.values) + len(self.failures) + len(self.released)


TIMES_MAX = 3
"""A chunk is handed out until the node holds it, for a poll may be given up unseen; but not for ever."""


@dataclass
class _Given:
    chunk: Chunk
    times: int = 0


class FakeScheduler:
    """Answers hello, report, poll and bye; keeps all that it was told; hands out what tests put in."""

    def __init__(self, *, port: int = 0, epoch: int = 1, heartbeat_s: float = 0.2) -> None:
        self.epoch = epoch
        self.heartbeat_s = heartbeat_s
        self.hellos: list[NodeHello] = []
        self.reports: list[Report] = []
        self.polls: list[NodePoll] = []
        self.byes: list[NodeBye] = []
        self.order: list[str] = []
        self.fences: dict[Fence, Accounted] = {}
        self.deaf = False
        """Take requests, answer none, keep nothing."""
        self.mute_reports = False
        """Answer polls and hellos, not reports."""
        self.rejoin = False
        self.always_rejoin = False
        self.drain = False
        self.refusal: Refused | None = None
        self.dead: set[Fence] = set()
        self.give_up: set[Fence] = set()
        self._chunks: list[_Given] = []
        self._parked: list[tuple[list[bytes], NodePoll]] = []
        self._lock = threading.RLock()
        self._end = threading.Event()
        self._context = zmq.Context()
        self._sock = self._context.socket(zmq.ROUTER)
        self._sock.setsockopt(zmq.LINGER, 0)
        self._sock.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.url = self._sock.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)
        self._sock.close(0)
        self._context.term()

    @property
    def node(self) -> NodeId:
        return self.hellos[-1].node

    def put(self, *chunks: Chunk) -> None:
        """Hand these out with the next poll."""
        with self._lock:
            self._chunks += [_Given(chunk) for chunk in chunks]

    def accounted(self, fence: Fence) -> Accounted:
        with self._lock:
            return self.fences.setdefault(fence, Accounted())

    def wait_accounted(self, chunk: Chunk, timeout_s: float = WAIT_S) -> Accounted:
        """Return when every item of the chunk has been reported."""
        count = chunk.stop - chunk.start
        wait_for(lambda: self.accounted(chunk.fence).count >= count, f"all of {chunk.fence}", timeout_s)
        found = self.accounted(chunk.fence)
        assert not found.twice, f"reported twice: {found.twice[:10]}"
        assert found.count == count
        return found

    def wait_hello(self, count: int = 1) -> NodeHello:
        wait_for(lambda: len(self.hellos) >= count, f"hello number {count}")
        return self.hellos[count - 1]

    def wait_not_held(self, fence: Fence) -> None:
        wait_for(lambda: self.reports and fence not in self.reports[-1].holds, f"{fence} no longer held")

    def _serve(self) -> None:
        while not self._end.is_set():
            ready = self._sock.poll(5)
            with self._lock:
                while ready:
                    self._on_request(self._sock.recv_multipart())
                    ready = self._sock.poll(0)
                self._answer_polls()

    def _on_request(self, parts: list[bytes]) -> None:
        *envelope, payload = parts
        message = REQUESTS.decode(payload)
        if self.deaf:
            return
        self.order.append(type(message).__name__)
        if isinstance(message, NodePoll):
            self.polls.append(message)
            self._chunks = [given for given in self._chunks if given.chunk.fence not in message.holds]
            self._parked = [(envelope, message)]  # A newer poll takes the place of an older one.
            return
        answer: object
        if self.refusal is not None:
            answer = self.refusal
        elif isinstance(message, NodeHello):
            self.hellos.append(message)
            answer = NodeWelcome(self.epoch, "test", self.heartbeat_s, 6.0, "local", "", b"", 0)
        elif isinstance(message, Report):
            if self.mute_reports:
                return
            answer = self._on_report(message)
        else:
            assert isinstance(message, NodeBye)
            self.byes.append(message)
            answer = Accepted(self.epoch)
        self._sock.send_multipart([*envelope, ANSWERS.encode(answer)])

    def _on_report(self, report: Report) -> Reported:
        self._chunks = [given for given in self._chunks if given.chunk.fence not in report.holds]
        if not self.reports or (self.reports[-1].boot, self.reports[-1].seq) != (report.boot, report.seq):
            self._account(report)
        self.reports.append(report)
        dead = tuple(fence for fence in report.holds if fence in self.dead)
        rejoin, self.rejoin = self.rejoin, False
        return Reported(self.epoch, dead=dead, rejoin=rejoin or self.always_rejoin)

    def _account(self, report: Report) -> None:
        for chunk in report.chunks:
            found = self.fences.setdefault(chunk.fence, Accounted())
            for run in chunk.values:
                check_block(run.block, run.stop - run.start)
                for index, entry in zip(range(run.start, run.stop), block_entries(run.block), strict=True):
                    if index in found.values or index in found.failures:
                        found.twice.append(index)
                    found.values[index] = decode_value(entry)
            for failure in chunk.failures:
                if failure.item in found.values or failure.item in found.failures:
                    found.twice.append(failure.item)
                found.failures[failure.item] = failure
            found.released.update(chunk.released)
            found.busy_s += chunk.busy_s
            self.give_up.discard(chunk.fence)

    def _answer_polls(self) -> None:
        parked, self._parked = self._parked, []
        for envelope, poll in parked:
            held = set(poll.holds)
            dead = tuple(sorted(self.dead & held))
            if not (self._chunks or self.give_up or dead or poll.draining != self.drain):
                self._parked.append((envelope, poll))
                continue
            for given in self._chunks:
                given.times += 1
            chunks = tuple(CHUNKS.encode(dataclasses.replace(given.chunk, node=poll.node)) for given in self._chunks)
            self._chunks = [given for given in self._chunks if given.times < TIMES_MAX]
            directives = Directives(self.epoch, drain=self.drain, give_up=tuple(self.give_up), dead=dead, chunks=chunks)
            self._sock.send_multipart([*envelope, ANSWERS.encode(directives)])


_COUNTER = iter(range(1, 1 << 30))


def number_chunk(task: str, start: int, stop: int, **more: object) -> Chunk:
    """A chunk whose item i is the number i."""
    fence = Fence(1, next(_COUNTER))
    made = Chunk("test", NodeId(""), fence, JobId("J" * 16), task, start, stop, numbers=NumberItems(0, 1 << 40))
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def item_chunk(task: str, items: Sequence[object], *, start: int = 0, pieces: int = 1, **more: object) -> Chunk:
    """A chunk of these items, in so many blocks."""
    encoded = [encode_item(item) for item in items]
    edges = [len(encoded) * at // pieces for at in range(pieces + 1)]
    inputs = tuple(
        InputSlice(start + low, start + high, pack_block(encoded[low:high]))
        for low, high in itertools.pairwise(edges)
        if low < high
    )
    return number_chunk(task, start, start + len(items), numbers=None, inputs=inputs, **more)


class NodeProcess:
    """`run_node` in a process of its own, with its log in a file."""

    def __init__(self, url: str, folder: Path, tasks: Sequence[str] = ("./mytasks.py",), **settings: object) -> None:
        self.log_path = folder / "node.log"
        given = {"url": url, "slots": 2, "name": "n1", "tasks": tuple(tasks), **settings}
        code = (
            "import pathlib, sys, structlog\n"
            "structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))\n"
            "from windrow.node.daemon import run_node\n"
            "from windrow.node.settings import NodeSettings\n"
            f"sys.exit(run_node(NodeSettings(state_dir=pathlib.Path('state'), **{given!r})))\n"
        )
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=log, stdout=log)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = WAIT_S) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def children_of(pid: int) -> list[int]:
    """The pids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(text) for text in task.read_text().split()]
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
