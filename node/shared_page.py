"""The page of memory that a daemon shares with one worker: what it executes, where it shall stop, what is cancelled.

The worker notes an item first and looks at the stop word second. So once the daemon has raised the stop word and let
SETTLE_S pass, no item behind the noted one will be started, and the daemon may give those to others at once.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

PAGE_BYTES = 4096
SETTLE_S = 0.02
"""Far longer than a store takes to be seen by another core."""

NOTE = struct.Struct("=qd")
"""Item index and monotonic start, at NOTE_AT; written once for each item."""
NOTE_AT = 8
NOBODY = -1
"""The item index while nothing is executed."""

FEED_WORD = 0
STOP_WORD = 3
"""As indexes of 64-bit words: the feed being executed, and the last feed that shall not go on."""
_CANCEL_WORD = 4
_CANCEL_WORDS = 64
"""Far more than a worker has feeds at a time: a cancelled feed is noted in the word that its number names."""


class Executing(NamedTuple):
    """What a worker was doing when the page was read."""

    feed: int
    item: int
    since: float


class SharedPage:
    """One page in a memory file; the daemon makes it, the worker opens it by descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.memory = mmap.mmap(fd, PAGE_BYTES)
        self.words = memoryview(self.memory).cast("Q")

    @classmethod
    def create(cls) -> SharedPage:
        """A new page of zeros, with nobody executing."""
        fd = os.memfd_create("windrow-worker", os.MFD_CLOEXEC)
        os.ftruncate(fd, PAGE_BYTES)
        page = cls(fd)
        NOTE.pack_into(page.memory, NOTE_AT, NOBODY, 0.0)
        return page

    def begin(self, feed: int) -> None:
        """Note that this feed comes next; nobody is executing yet."""
        NOTE.pack_into(self.memory, NOTE_AT, NOBODY, 0.0)
        self.words[FEED_WORD] = feed

    def rest(self) -> None:
        """Note that nobody is executing."""
        NOTE.pack_into(self.memory, NOTE_AT, NOBODY, 0.0)

    def stop_through(self, feed: int) -> None:
        """Ask the worker to leave off this feed and all before it, after its current item."""
        if feed > self.words[STOP_WORD]:
            self.words[STOP_WORD] = feed

    @property
    def stopped_through(self) -> int:
        return self.words[STOP_WORD]

    def cancel(self, feed: int) -> None:
        """Note that nobody wants this feed any more, for the item at work to see."""
        self.words[_CANCEL_WORD + feed % _CANCEL_WORDS] = feed

    def is_cancelled(self, feed: int) -> bool:
        return self.words[_CANCEL_WORD + feed % _CANCEL_WORDS] == feed

    def find_executing(self) -> Executing | None:
        """What is being executed, or None."""
        item, since = NOTE.unpack_from(self.memory, NOTE_AT)
        return None if item == NOBODY else Executing(self.words[FEED_WORD], int(item), float(since))

    def close(self) -> None:
        self.words.release()
        self.memory.close()
        os.close(self.fd)
