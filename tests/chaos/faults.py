"""Does to a site what a plan says, each fault in a thread of its own, and undoes it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import pika
import psutil

from tests.chaos.plan import ALL_BROKERS, Fault
from tests.chaos.site import Site

DELAY_S_MAX = 0.5
DONE_S_MAX = 180.0


@dataclass(frozen=True, slots=True)
class Done:
    """A fault as it really was, in seconds after the beginning of the run."""

    fault: Fault
    began_s: float
    ended_s: float


class Saboteur:
    """Carries out a plan; `done` and `failed` tell what became of it."""

    def __init__(self, site: Site, say: Callable[[str], None]) -> None:
        self.done: list[Done] = []
        self.skipped: list[Fault] = []
        self.failed: list[str] = []
        """Faults that could not be done or undone: a daemon that did not start again."""
        self._site = site
        self._say = say
        self._began_at = 0.0

    def run(self, plan: Sequence[Fault], began_at: float) -> None:
        """Returns when every fault is over."""
        self._began_at = began_at
        threads: list[threading.Thread] = []
        for fault in plan:
            pause_s = began_at + fault.at_s - time.monotonic()
            if pause_s > 0:
                threading.Event().wait(pause_s)
            threads.append(
                threading.Thread(target=self._befall, args=(fault,), name=f"fault {fault.number}", daemon=True)
            )
            threads[-1].start()
        for thread in threads:
            thread.join(DONE_S_MAX)
            if thread.is_alive():
                self.failed.append(f"{thread.name} is not over after {DONE_S_MAX} s")

    def _befall(self, fault: Fault) -> None:
        with self._site.claimed(fault.target) as free:
            if not free:
                self.skipped.append(fault)
                return
            began_s = self._now_s()
            self._say(f"{began_s:7.1f} s  {fault}")
            try:
                with self._under(fault):
                    threading.Event().wait(fault.duration_s)
            except Exception as error:
                self.failed.append(f"{fault}: {type(error).__name__}: {error}")
                return
            self.done.append(Done(fault, began_s, self._now_s()))

    def _now_s(self) -> float:
        return time.monotonic() - self._began_at

    def _under(self, fault: Fault) -> contextlib.AbstractContextManager[None]:
        if "link" in fault.kind:
            return self._broken_link(fault)
        if fault.target == "queues":
            return self._robbed(fault)
        if fault.kind.endswith("broker"):
            return self._broken_broker(fault)
        if fault.kind == "kill worker":
            return self._killed_worker(fault)
        return self._frozen(fault) if fault.kind.startswith("freeze") else self._ended(fault)

    @contextlib.contextmanager
    def _ended(self, fault: Fault) -> Generator[None]:
        """By SIGKILL, or in order by SIGTERM."""
        daemon, cluster = self._site.daemon(fault.target), self._site.cluster
        if not self._site.note_end(daemon):
            cluster.stop_daemon(daemon) if fault.kind.startswith("stop") else cluster.kill_daemon(daemon)
        yield
        self._site.start(daemon)

    @contextlib.contextmanager
    def _killed_worker(self, fault: Fault) -> Generator[None]:
        """Its node starts another one; there is nothing to undo, and nothing to wait for."""
        worker = self._worker(fault)
        if worker is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        yield

    def _worker(self, fault: Fault) -> psutil.Process | None:
        workers = self._site.workers(fault.target)
        return workers[fault.pick % len(workers)] if workers else None

    @contextlib.contextmanager
    def _frozen(self, fault: Fault) -> Generator[None]:
        worker = self._worker(fault) if fault.kind == "freeze worker" else None
        daemon = self._site.daemon(fault.target)
        frozen: list[psutil.Process] = [worker] if worker is not None else []
        if fault.kind != "freeze worker" and daemon.process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                frozen = [psutil.Process(daemon.pid)]
        if fault.kind == "freeze node and workers":
            frozen += self._site.workers(fault.target)
        try:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGSTOP)
            yield
        finally:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def _broken_link(self, fault: Fault) -> Generator[None]:
        link = self._site.links[fault.target]
        match fault.kind:
            case "cut link":
                link.cut()
            case "delay link":
                link.delay(DELAY_S_MAX * (fault.pick % 10 + 1) / 10)
            case "one-way link":
                link.hold("there" if fault.pick % 2 else "back")
            case _:
                link.hold()
        try:
            yield
        finally:
            if fault.pick % 3 == 0:
                link.cut()  # What was held is lost, and not only late.
            link.heal()

    @contextlib.contextmanager
    def _broken_broker(self, fault: Fault) -> Generator[None]:
        brokers = self._site.brokers
        assert brokers is not None
        if fault.kind == "wipe broker":
            for each in brokers.by_name.values():
                each.stop()
            yield
            start_again(brokers.wipe)
            return
        broker = brokers.by_name[fault.target]
        if fault.kind == "freeze broker":
            broker.freeze()
            try:
                yield
            finally:
                broker.thaw()
            return
        if fault.kind == "stop broker":
            broker.stop()
        else:
            broker.kill()
        yield
        start_again(broker.start)

    @contextlib.contextmanager
    def _robbed(self, fault: Fault) -> Generator[None]:
        """Nodes are cut off from their queues first, for what a node has taken already cannot be taken from its queue.

        At the broker's real port; a broker that is being broken itself cannot be robbed.
        """
        site = self._site
        assert site.brokers is not None
        with contextlib.ExitStack() as healing:
            for name, link in site.links.items():
                if name.startswith("node-") and ">broker" in name and healing.enter_context(site.claimed(name)):
                    link.cut()
                    healing.callback(link.heal)
            yield
            if healing.enter_context(site.claimed(ALL_BROKERS)):
                first = next(iter(site.brokers.by_name.values()))
                _rob(first.url, site.queues, delete=fault.kind == "delete queues")


def _rob(url: str, queues: Sequence[str], *, delete: bool) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    for queue in queues:
        channel = connection.channel()
        with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):  # not there, or not yet again
            channel.queue_delete(queue) if delete else channel.queue_purge(queue)
    connection.close()


def start_again(start: Callable[[], None]) -> None:
    """Once more where a broker does not start: while it was away, somebody else on this machine may have had its port
    for a moment."""
    try:
        start()
    except RuntimeError:
        start()
