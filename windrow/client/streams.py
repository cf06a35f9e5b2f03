"""What one open job is told and when, as pure logic: open it, append in order, close it; nothing twice, nothing lost.

One message at a time is under way, and it stays the same until it is answered; what is added meanwhile gathers. So
sending again after a miss is always safe, and many tiny calls travel in one append by themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from windrow.common.blocks import pack_block
from windrow.common.errors import ProtocolError
from windrow.common.limits import APPEND_BYTES_MAX, APPEND_ITEMS_MAX
from windrow.common.messages import Accepted, Append, Appended, CloseJob, Started, StartJob
from windrow.common.words import JobId, Range

ANSWER_CHARS_SHOWN = 200
"""Of an answer that is none."""

StreamMessage = StartJob | Append | CloseJob


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded items that travel in one append."""

    entries: list[bytes]
    size_bytes: int


class Batcher:
    """Cuts a sequence of encoded items into batches; where it cuts depends on the items alone.

    So the same items give the same appends, which is what lets a scheduler that has them say so (`key=`).
    """

    def __init__(self, items_max: int = APPEND_ITEMS_MAX, bytes_max: int = APPEND_BYTES_MAX) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._entries: list[bytes] = []
        self._bytes = 0

    def add(self, entry: bytes) -> Batch | None:
        """Take one item; the batch before it where that is full."""
        size = len(entry)
        full = None
        if len(self._entries) >= self._items_max or self._bytes + size > self._bytes_max:
            full = self.take()
        self._entries.append(entry)
        self._bytes += size
        return full

    def take(self) -> Batch | None:
        """What has gathered so far; none where that is nothing."""
        if not self._entries:
            return None
        batch = Batch(self._entries, self._bytes)
        self._entries = []
        self._bytes = 0
        return batch


def cut_batches(
    entries: Iterable[bytes], items_max: int = APPEND_ITEMS_MAX, bytes_max: int = APPEND_BYTES_MAX
) -> Iterator[Batch]:
    """All the items in batches, cut as a Batcher cuts them; in one loop, since a job may have many."""
    gathered: list[bytes] = []
    size = 0
    for entry in entries:
        size += len(entry)
        if gathered and (size > bytes_max or len(gathered) >= items_max):
            yield Batch(gathered, size - len(entry))
            gathered, size = [], len(entry)
        gathered.append(entry)
    if gathered:
        yield Batch(gathered, size)


class Phase(Enum):
    """How far a stream has come with the scheduler."""

    NEW = auto()
    OPEN = auto()
    CLOSED = auto()
    REFUSED = auto()


class Stream:
    """One open job that one client fills. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        start: StartJob,
        *,
        delay_s: float = 0.0,
        items_max: int = APPEND_ITEMS_MAX,
        bytes_max: int = APPEND_BYTES_MAX,
    ) -> None:
        self.job: JobId = start.job
        self.phase = Phase.NEW
        self.total = 0
        """Items added, which is the index of the next one."""
        self.durable = 0
        """Items that the scheduler has confirmed."""
        self.unsent_bytes = 0
        """Encoded items that it has not."""
        self._start = start
        self._delay_s = delay_s
        self._full: deque[Batch] = deque()
        self._gathering = Batcher(items_max, bytes_max)
        self._closing = False
        self._asked: StreamMessage | None = None
        self._asked_bytes = 0

    def add(self, entry: bytes) -> int:
        """Take one encoded item; its index."""
        if self._closing or self.phase is Phase.REFUSED:
            raise ValueError("the stream takes no more items")
        full = self._gathering.add(entry)
        if full is not None:
            self._full.append(full)
        self.total += 1
        self.unsent_bytes += len(entry)
        return self.total - 1

    def close(self) -> None:
        """No more items come; once all are durable the job is closed."""
        self._closing = True

    def next_message(self) -> StreamMessage | None:
        """What to tell the scheduler now: the same until it is answered; none where there is nothing to tell."""
        if self._asked is None:
            self._asked = self._choose()
        return self._asked

    def on_answer(self, answer: object) -> None:
        """The message under way was answered; ProtocolError where that is no answer to it."""
        asked = self._asked
        if isinstance(asked, StartJob) and isinstance(answer, Started):
            self.phase = Phase.OPEN
        elif isinstance(asked, Append) and isinstance(answer, Appended) and answer.total >= asked.first + asked.count:
            self.durable += asked.count
            self.unsent_bytes -= self._asked_bytes
        elif isinstance(asked, CloseJob) and isinstance(answer, Accepted):
            self.phase = Phase.CLOSED
        else:
            name = "nothing" if asked is None else type(asked).__name__
            raise ProtocolError(
                f"the scheduler answered {name} with {type(answer).__name__} {str(answer)[:ANSWER_CHARS_SHOWN]}"
            )
        self._asked = None

    def on_refused(self) -> Range:
        """The message under way was refused: nothing more can be added, and these items never became durable.

        Those gathered behind the refused ones fail with them: the ids of calls are known at once, so the indexes of
        later ones cannot move up.
        """
        self.phase = Phase.REFUSED
        self._asked = None
        self.unsent_bytes = 0
        self._full.clear()
        self._gathering.take()
        return Range(self.durable, self.total)

    def _choose(self) -> StreamMessage | None:
        if self.phase is Phase.NEW:
            return None if self._closing and self.total == 0 else self._start
        if self.phase is not Phase.OPEN:
            return None
        batch = self._full.popleft() if self._full else self._gathering.take()
        if batch is not None:
            self._asked_bytes = batch.size_bytes
            return Append(self.job, self.durable, len(batch.entries), pack_block(batch.entries), self._delay_s)
        return CloseJob(self.job, self.total) if self._closing else None
