"""The client of one scheduler: an Executor whose calls run on nodes, and the way to start and find jobs."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import itertools
import math
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, overload

from windrow.client.address import find_address
from windrow.client.calls import Calls
from windrow.client.failures import ClientClosed, WindrowWarning
from windrow.client.futures import Callbacks, Future, failed_future
from windrow.client.ids import draw_id, parse_call_id
from windrow.client.jobs import Job, JobStatus, OpenJob, check_items, status_from
from windrow.client.link import Exchange, Link
from windrow.client.lookups import Lookups
from windrow.client.streams import Batch, Batcher, cut_batches
from windrow.client.targets import Named, Target, name_target
from windrow.client.watches import Watchlist
from windrow.common.blocks import pack_block
from windrow.common.errors import ItemRefused, ProtocolError, StoreError, Unreachable, UsageError, WindrowError
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.messages import (
    Accepted,
    Append,
    Appended,
    CancelJob,
    CloseJob,
    DrainNode,
    FindJob,
    Health,
    HealthInfo,
    JobInfo,
    Jobs,
    ListJobs,
    ListNodes,
    News,
    NodeInfo,
    Nodes,
    NumberItems,
    Started,
    StartJob,
)
from windrow.common.options import make_options
from windrow.common.values import Call, encode_item, encode_items
from windrow.common.words import JobId

if TYPE_CHECKING:
    from windrow.export import ExportRun
    from windrow.export.spec import SpecOptions

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

MAP_AHEAD_MAX = 100_000
"""Calls that map() submits ahead of the one whose result is wanted."""
BATCH_AGE_SECONDS = 0.5
"""Items of a slow iterable wait so long at most for others to travel with (only where there is no key)."""
EXIT_GRACE_SECONDS = 5.0
"""At the end of the interpreter: how long what was submitted and never waited for may take to be sent."""
PAGE_JOBS = 1000


class _Question(Exchange):
    """One request that a thread waits for."""

    def __init__(self, message: object, give_up_at: float | None) -> None:
        self._message = message
        self.give_up_at = give_up_at
        self.reply: concurrent.futures.Future[object] = concurrent.futures.Future()

    def message(self) -> object | None:
        return self._message

    def on_answer(self, answer: object) -> None:
        self.reply.set_result(answer)

    def on_error(self, error: WindrowError) -> None:
        self.reply.set_exception(error)


class _OneNews:
    """Wants the next news of a job, once: nothing is gathered while nobody waits."""

    def __init__(self, job: JobId, after: int, *, outcomes: bool) -> None:
        self.job = job
        self.after = after
        self.outcomes = outcomes
        self.news: News | None = None
        self.error: WindrowError | None = None
        self.told = threading.Event()

    def on_news(self, news: News) -> bool:
        self.news = news
        self.told.set()
        return False

    def on_lost(self, error: WindrowError) -> None:
        self.error = error
        self.told.set()


class Client(concurrent.futures.Executor):
    """A client of the scheduler at `url` (else WINDROW_URL, else the configuration file, else this machine).

    Thread-safe. Nothing is connected before it is needed. `timeout` is how many seconds a request may go unanswered
    before it raises SchedulerUnreachable; waiting (for futures, jobs, results) goes on through any restart.
    """

    def __init__(self, url: str | None = None, *, timeout: float = 10.0) -> None:
        self.url = find_address(url)
        self._timeout_s = timeout
        self._watchlist = Watchlist(draw_id())
        self._callbacks = Callbacks()
        self._link = Link(self.url, self._watchlist, silent_s=timeout, on_thread=self._callbacks.set_io_thread)
        self._calls = Calls(self._link, self._watchlist, self._callbacks, timeout)
        self._lookups = Lookups(self._link, self._watchlist, self._callbacks)
        self._cancelling: list[_Question] = []
        """Cancels of starts that failed, which nobody waits for until the client is closed."""
        self._foreign = False
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<windrow client of {self.url}>"

    # ── Single calls ─────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
    @overload
    def submit(self, fn: str, /, *args: object, **kwargs: object) -> Future[Any]: ...
    def submit(self, fn: Target, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `fn(*args, **kwargs)` run on a node; its future, at once.

        `fn` is a task, a function that nodes allow, or a task's name. A call that is refused fails its future.
        """
        if self._foreign:
            self._refuse_child()
        named = name_target(fn)
        try:
            entry = encode_item(Call(args, kwargs) if kwargs else args)
        except ItemRefused as error:
            return failed_future(error, self._callbacks)
        return self._calls.submit(named, entry)

    @overload
    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]: ...
    @overload
    def map(
        self, fn: str, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]: ...
    def map(
        self, fn: Target, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """The results of `fn` over the iterables, in order, streamed; `chunksize` changes nothing.

        Calls are submitted at once, MAP_AHEAD_MAX ahead of the result that is wanted next.
        """
        end_at = math.inf if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables, strict=False)
        ahead = deque(self.submit(fn, *args) for args in itertools.islice(calls, MAP_AHEAD_MAX))

        def results() -> Iterator[Any]:
            while ahead:
                future = ahead.popleft()
                yield future.result(None if timeout is None else end_at - time.monotonic())
                ahead.extend(self.submit(fn, *args) for args in itertools.islice(calls, 1))

        return results()

    def enqueue(self, fn: Target, /, *args: object, **kwargs: object) -> str:
        """Have the call run; returns its id once it is durable. For callers that end before the call does."""
        self._check_process()
        return self._calls.enqueue(name_target(fn), encode_item(Call(args, kwargs) if kwargs else args))

    def future(self, call_id: str) -> Future[Any]:
        """The future of any call, by the id that `future.id` or `enqueue` gave, in whichever process."""
        self._check_process()
        job, index = parse_call_id(call_id)
        return self._calls.find_future(job, index) or self._lookups.future(job, index)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted so far is durable; raises what was refused since the last flush."""
        self._check_process()
        self._calls.flush(timeout)

    # ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(
        self,
        task: Target,
        items: Iterable[object],
        *,
        name: str = "",
        key: str | None = None,
        after: Iterable[str | Job] | str | Job = (),
        **options: object,
    ) -> Job:
        """Start a job over `items`; durable on return.

        A `range` travels as three numbers. With `key`, a second start with the same content finds the job there is,
        other content raises KeyConflict, and a start that was cut off goes on where it was when it is made again.
        Without a key a start that fails halfway leaves a cancelled job.
        """
        check_items(items)
        numbers = NumberItems(items.start, items.stop, items.step) if isinstance(items, range) else None
        started = self._open(task, name, key, after, options, numbers)
        if numbers is None:
            try:
                # What is there already needs no clock.
                aged = key is None and not isinstance(items, list | tuple)
                batches = _paced_batches(items) if aged else cut_batches(encode_items(items))
                total = max(self.append_batches(started.job, 0, batches), default=0)
                self.ask(CloseJob(started.job, total), Accepted)
            except BaseException as error:
                if key is None:
                    self._abandon(started.job, error)
                raise
        return Job(self, started.job)

    def open(
        self,
        task: Target,
        *,
        name: str = "",
        key: str | None = None,
        after: Iterable[str | Job] | str | Job = (),
        **options: object,
    ) -> OpenJob:
        """Open a job that grows by `append` and ends with `close`. With `key`, the one there is, as far as it came."""
        started = self._open(task, name, key, after, options, None)
        return OpenJob(self, started.job, started.total)

    def job(self, job: str) -> Job:
        """The job with this id, any unique prefix of it, or `last`; NotFound where there is none."""
        return Job(self, self.ask(FindJob(job), JobInfo).id)

    def jobs(self, limit: int = 100, state: str = "", streams: bool = False) -> list[JobStatus]:
        """Jobs, newest first; `streams`: those that hold single calls too."""
        found: list[JobStatus] = []
        before = ""
        while len(found) < limit:
            wanted = min(limit - len(found), PAGE_JOBS)
            page = self.ask(ListJobs(limit=wanted, before=before, streams=streams, state=state), Jobs).jobs
            found.extend(map(status_from, page))
            if len(page) < wanted:
                break
            before = page[-1].id
        return found

    # ── The cluster ──────────────────────────────────────────────────────────────────────────────────────────────

    def nodes(self) -> list[NodeInfo]:
        """Every node known, those that have gone too."""
        return list(self.ask(ListNodes(), Nodes).nodes)

    def drain(self, node: str) -> None:
        """Let a node (by name, id or unique prefix of the id) finish its current items and take no more."""
        self.ask(DrainNode(node), Accepted)

    def resume(self, node: str) -> None:
        """Let a drained node work again."""
        self.ask(DrainNode(node, resume=True), Accepted)

    def health(self) -> HealthInfo:
        """How the scheduler is."""
        return self.ask(Health(), HealthInfo)

    def export(
        self, source: str | os.PathLike[str], dest: str | os.PathLike[str], **options: Unpack[SpecOptions]
    ) -> ExportRun:
        """Start a data export: the names are those of `windrow export`, see windrow.export.spec.SpecOptions."""
        from windrow.export import export  # Late: most clients never export, and it is a good deal to import.

        return export(self, source, dest, **options)

    # ── What the parts above are made of ─────────────────────────────────────────────────────────────────────────

    def ask(self, message: object, answer_type: type[A], timeout: float | None = None) -> A:
        """One request and its answer. What is refused raises its own error; no answer in time, SchedulerUnreachable.

        `timeout` None is the client's own, `math.inf` tries for ever.
        """
        return _expect(self._post(message, timeout).reply.result(), answer_type)

    def next_news(
        self, job: str, *, after: int = -1, outcomes: bool = True, timeout: float | None = None
    ) -> News | None:
        """News of the job after a sequence, or (without `outcomes`) of its end; None after `timeout` seconds."""
        self._check_process()
        interest = _OneNews(JobId(job), after, outcomes=outcomes)
        self._watchlist.add(interest)
        try:
            self._link.watch()
            interest.told.wait(timeout)
        finally:
            self._watchlist.remove(interest)
        if interest.error is not None:
            raise interest.error
        return interest.news

    def get_news(self, job: str, after: int) -> News:
        """News of the job after a sequence, however long that takes."""
        while (news := self.next_news(job, after=after)) is None:
            pass
        return news

    def append_batches(self, job: JobId, first: int, batches: Iterable[Batch]) -> Iterator[int]:
        """Append one batch after the other, each while the next is made; the total whenever one is durable."""
        under_way: tuple[_Question, int] | None = None
        for batch in batches:
            block = pack_block(batch.entries)
            if under_way is not None:
                yield _settle_append(*under_way)
            question = self._post(Append(job, first, len(batch.entries), block), None)
            first += len(batch.entries)
            under_way = (question, first)
        if under_way is not None:
            yield _settle_append(*under_way)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. `wait`: return when all submitted futures are done; else that goes on behind.

        `cancel_futures` cancels the calls that have futures here and have not ended. Jobs are left as they are.
        """
        if self._foreign or not self._calls.refuse_more():
            return
        if cancel_futures:
            self._calls.cancel_all()
        if wait:
            self._finish()
        else:
            threading.Thread(target=self._finish, name="windrow-finish", daemon=True).start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        # Where the scheduler takes nothing, waiting for what it has not taken could last for ever.
        if isinstance(error, Unreachable | StoreError):
            self.abandon()
        else:
            self.shutdown()
        return False

    def _finish(self) -> None:
        self._calls.finish(self._timeout_s)
        self._await_cancels(self._timeout_s)
        self._leave()

    def _leave(self) -> None:
        self._link.stop(self._timeout_s)
        self._lookups.close()
        self._callbacks.stop(self._timeout_s)

    def abandon(self) -> None:
        """Close without waiting for anything: futures that are not done fail with ClientClosed."""
        self._calls.refuse_more()
        self._leave()

    def leave_at_exit(self) -> None:
        """The interpreter ends: send what was submitted, for a moment at most."""
        if self._calls.refuse_more():
            with contextlib.suppress(WindrowError, TimeoutError):
                self._calls.flush(EXIT_GRACE_SECONDS)
            self._await_cancels(EXIT_GRACE_SECONDS)
        self._link.stop(1.0)

    def after_fork(self) -> None:
        """This is a child process: the I/O thread is not here, and its locks may be held for ever."""
        self._foreign = True

    def _open(
        self,
        task: Target,
        name: str,
        key: str | None,
        after: Iterable[str | Job] | str | Job,
        options: dict[str, object],
        numbers: NumberItems | None,
    ) -> Started:
        named: Named = name_target(task)
        for label, value in (("name", name), ("key", key or "")):
            if len(value) > NAME_CHARS_MAX:
                raise UsageError(f"{label} has {len(value)} characters; {NAME_CHARS_MAX} is the most")
        before = [after] if isinstance(after, str | Job) else list(after)
        started = self.ask(
            StartJob(
                draw_id(),
                named.task,
                name=name,
                options=named.options(make_options(options)),
                key=key,
                numbers=numbers,
                after=tuple(JobId(one.id if isinstance(one, Job) else one) for one in before),
            ),
            Started,
        )
        if started.note:
            warnings.warn(started.note, WindrowWarning, stacklevel=3)
        return started

    def _abandon(self, job: JobId, error: BaseException) -> None:
        # Without waiting: the caller is to see what went wrong, and the scheduler may be what is missing.
        question = self._post(CancelJob(job, f"start() failed: {type(error).__name__}: {error}"[:1000]), None)
        self._cancelling = [one for one in self._cancelling if not one.reply.done()] + [question]

    def _await_cancels(self, timeout_s: float) -> None:
        """A client that is closed before they are sent would leave those jobs open for ever."""
        concurrent.futures.wait([one.reply for one in self._cancelling], timeout_s)

    def _post(self, message: object, timeout: float | None) -> _Question:
        self._check_process()
        patience_s = self._timeout_s if timeout is None else timeout
        question = _Question(message, None if math.isinf(patience_s) else time.monotonic() + patience_s)
        self._link.post(question)
        return question

    def _check_process(self) -> None:
        if self._foreign:
            self._refuse_child()

    def _refuse_child(self) -> None:
        raise ClientClosed("this client was made before the process forked: make a new Client in the child process")


def _settle_append(question: _Question, total: int) -> int:
    answer = _expect(question.reply.result(), Appended)
    if answer.total < total:
        raise ProtocolError(f"the scheduler has {answer.total} items where {total} were appended")
    return total


def _expect(answer: object, kind: type[A]) -> A:
    if not isinstance(answer, kind):
        raise ProtocolError(f"the scheduler answered with {type(answer).__name__} instead of {kind.__name__}")
    return answer


def _paced_batches(items: Iterable[object]) -> Iterator[Batch]:
    """The items in batches, cut by time too, so that a slow generator's first items run before its last."""
    batcher = Batcher()
    cut_at = time.monotonic() + BATCH_AGE_SECONDS
    for entry in encode_items(items):
        batch = batcher.add(entry)
        if batch is None and time.monotonic() >= cut_at:
            batch = batcher.take()
        if batch is not None:
            cut_at = time.monotonic() + BATCH_AGE_SECONDS
            yield batch
    last = batcher.take()
    if last is not None:
        yield last


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _leave_all() -> None:
    for client in list(_clients):
        client.leave_at_exit()


def _fork_all() -> None:
    for client in list(_clients):
        client.after_fork()


atexit.register(_leave_all)
os.register_at_fork(after_in_child=_fork_all)
