"""A worker process: imports the user's tasks, executes feeds of items, hands outcomes back in batches.

Started as `python -m windrow.node.worker LINK PAGE PARENT` (two descriptors and the daemon's pid). It touches neither
pika nor zmq. What tasks print goes to the daemon, which logs it and keeps the last lines.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import functools
import inspect
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

from windrow.common.blocks import block_entries, block_payload
from windrow.common.current import LOGGER_NAME, CurrentItem, serve_current
from windrow.common.messages import ItemFailure
from windrow.common.values import decode_items, value_encoder
from windrow.node.outbox import BATCH_BYTES, Outbox
from windrow.node.shared_page import NOTE, NOTE_AT, STOP_WORD, SharedPage
from windrow.node.soft_limit import soft_limit
from windrow.node.sources import Function, load_sources
from windrow.node.task_failures import failure_of, too_large, unknown_task, unreadable, unsendable
from windrow.node.worker_link import Feed, Ready, Setup, WorkerSide

_PR_SET_PDEATHSIG = 1
_VALUE_BYTES_MAX = 8 << 20
"""Whatever the job says: a value must fit into one message with the rest of a batch."""
_ENTRY_BYTES = 4
"""What an entry costs in its block beside its own bytes."""
_HELD_BACK_S = 0.005
"""Where a worker may be killed for an item's time limit, finished outcomes are at most so old when the next starts."""


class Worker:
    """Executes one feed after the other until the daemon closes the link."""

    def __init__(self, link: WorkerSide, page: SharedPage) -> None:
        self._link = link
        self._page = page
        self._outbox = Outbox(link.send)
        self._encode = value_encoder()
        self._functions: dict[str, Function] = {}
        self._feed: Feed | None = None

    def run(self) -> None:
        """Load the tasks, say so, execute feeds."""
        setup = self._link.receive()
        if not isinstance(setup, Setup):
            return
        loaded = load_sources(setup.sources, setup.allow, allow_commands=setup.allow_commands)
        self._functions = {name: _synchronous(function) for name, function in loaded.functions.items()}
        _prepare_logger()
        serve_current(self._find_current)
        self._link.send(Ready(loaded.tasks, loaded.errors))
        self._outbox.start()
        while True:
            feed = self._link.receive()
            if not isinstance(feed, Feed):
                return
            self._execute(feed)

    def _execute(self, feed: Feed) -> None:
        started = time.monotonic()
        self._feed = feed
        self._page.begin(feed.number)
        self._outbox.begin(feed.number, feed.start)
        function = self._functions.get(feed.task)
        if function is None:
            for index in range(feed.start, feed.stop):
                self._fail(unknown_task(index, feed.task))
            at = feed.stop
        else:
            at = self._execute_limited(feed, function)
        self._page.rest()
        self._feed = None
        self._outbox.end(at, time.monotonic() - started)

    def _execute_limited(self, feed: Feed, function: Function) -> int:
        if feed.timeout_s is not None:
            function = self._sending_first(function)
        if feed.soft_timeout_s is None:
            return self._execute_items(feed, function)
        with soft_limit(function, feed.soft_timeout_s) as limited:
            return self._execute_items(feed, limited)

    def _sending_first(self, function: Function) -> Function:
        """The daemon may kill this worker for the next item: what is finished must not be lost with it, not even
        where the item keeps the interpreter's lock from the flusher."""
        page, outbox, clock = self._page, self._outbox, time.monotonic

        def run(*args: object, **kwargs: object) -> object:
            executing = page.find_executing()
            if executing is not None and executing.since - outbox.sent_at > _HELD_BACK_S:
                # The daemon may take its time to read: that is not the item's.
                page.rest()
                outbox.flush()
                NOTE.pack_into(page.memory, NOTE_AT, executing.item, clock())
            return function(*args, **kwargs)

        return run

    def _find_current(self) -> CurrentItem | None:
        feed, executing = self._feed, self._page.find_executing()
        if feed is None or executing is None:
            return None
        limits = [limit for limit in (feed.timeout_s, feed.soft_timeout_s) if limit is not None]
        before = next((part[2] for part in feed.attempts if part[0] <= executing.item < part[1]), 0)
        return CurrentItem(
            job=feed.job, index=executing.item, attempt=before + 1,
            deadline=executing.since + min(limits) if limits else None,
            _is_cancelled=functools.partial(self._page.is_cancelled, feed.number),
        )  # fmt: skip

    def _execute_items(self, feed: Feed, function: Function) -> int:
        if feed.numbers is not None:
            numbers = feed.numbers
            low = numbers.start + feed.start * numbers.step
            arguments = zip(range(low, low + (feed.stop - feed.start) * numbers.step, numbers.step))
            return self._call_each(feed, function, feed.start, arguments)
        at = feed.start
        for piece in feed.inputs:
            try:
                at = self._call_each(feed, function, at, decode_items(block_payload(piece.block)))
            except OSError:
                raise  # The link is broken.
            except Exception:  # Only the decoder is left: what tasks raise is caught where they are called.
                at = self._outbox.catch_up()
            if at < piece.stop and self._page.stopped_through < feed.number:
                at = self._call_one_by_one(feed, function, at, piece.start, piece.block)
            if at < piece.stop:
                return at
        return at

    def _call_one_by_one(self, feed: Feed, function: Function, at: int, first: int, block: bytes) -> int:
        """The slow way for a block that a streaming decoder cannot read to its end: only bad items fail."""
        for index, entry in enumerate(block_entries(block), first):
            if index < at:
                continue
            try:
                items = list(decode_items(entry))
            except Exception:
                items = []
            if self._call_each(feed, function, index, items[:1]) == index:
                if items or self._page.stopped_through >= feed.number:
                    return index
                self._fail(unreadable(index))
            at = index + 1
        return at

    def _call_each(self, feed: Feed, function: Function, at: int, items: Iterable[Any]) -> int:
        """Call the function for each item from index `at` on; the index after the last one executed.

        The one loop that runs per item, hence local names and nothing called that need not be. The note comes before
        the look at the stop word: see shared_page.
        """
        number, limit = feed.number, min(feed.result_bytes_max, _VALUE_BYTES_MAX)
        memory, words, outbox, encode = self._page.memory, self._page.words, self._outbox, self._encode
        note, clock = NOTE.pack_into, time.monotonic
        append = outbox.entries.append
        batch_bytes = 0 if feed.one_by_one else BATCH_BYTES
        size = 0
        for item in items:
            before = clock()
            note(memory, NOTE_AT, at, before)
            if words[STOP_WORD] >= number:
                break
            try:
                if type(item) is dict:
                    value = function(*item["args"], **item["kwargs"])
                else:
                    value = function(*item)
            except BaseException as error:  # A task that calls sys.exit() has failed; the job goes on.
                outbox.busy_s += clock() - before
                self._fail(failure_of(at, error))
                at += 1
                continue
            outbox.busy_s += clock() - before
            try:
                packed = encode(value)
            except Exception as error:
                self._fail(unsendable(at, value, error))
                at += 1
                continue
            length = len(packed)
            if length > limit:
                self._fail(too_large(at, length, limit))
                at += 1
                continue
            append(packed)
            at += 1
            size += length + _ENTRY_BYTES
            if size > batch_bytes:
                self._page.rest()
                outbox.flush()
                size = 0
        return at

    def _fail(self, failure: ItemFailure) -> None:
        self._page.rest()
        self._outbox.fail(failure)
        if self._feed is not None and self._feed.one_by_one:
            self._outbox.flush()


def _synchronous(function: Function) -> Function:
    if not inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    def run(*args: object, **kwargs: object) -> object:
        coroutine: Any = function(*args, **kwargs)
        return asyncio.run(coroutine)

    return run


def _prepare_logger() -> None:
    """Let what tasks log through `current().logger` be seen, unless their own set-up of logging sees to it."""
    logger = logging.getLogger(LOGGER_NAME)
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the daemon goes, however it goes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # It had gone before the call above.
        os._exit(1)


def main(arguments: list[str]) -> None:
    """Run until the daemon closes the link."""
    link_fd, page_fd, parent = (int(text) for text in arguments)
    _die_with(parent)
    # A handler that does nothing, rather than SIG_IGN, which programs started by tasks would inherit.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    os.set_inheritable(link_fd, False)
    os.set_inheritable(page_fd, False)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)  # A crash must not swallow the lines before it.
    faulthandler.enable(all_threads=False)  # A segmentation fault leaves its stack among the last lines.
    with socket.socket(fileno=link_fd) as sock:
        # A process that a task forks must neither speak for this one nor keep the link open after its death.
        os.register_at_fork(after_in_child=lambda: os.close(sock.detach()))
        try:
            Worker(WorkerSide(sock), SharedPage(page_fd)).run()
        except (BrokenPipeError, ConnectionResetError):
            return  # The daemon has gone, or has done with this worker.


if __name__ == "__main__":
    main(sys.argv[1:])
