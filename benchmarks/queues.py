"""The task queues beside Windrow: what is started for a turn of each, with which settings, and what its client says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.environments import NEIGHBOURS, environment
from benchmarks.model import Contender, Figures, Missing
from benchmarks.processes import output_of, running, wait_for_text
from benchmarks.services import REDIS_AS_IT_COMES, REDIS_SAFE, Services

CLIENT_S = 900.0
CELERY_SAFE = "Celery, equal safety"
DRAMATIQ_SAFE = "Dramatiq, equal safety"


@dataclass(frozen=True, slots=True)
class Queue:
    """One neighbour that has workers and a client."""

    name: str
    client: str
    settings: str
    safe: bool = False
    worker: tuple[str, ...] = ()
    """Program and arguments; none where the client brings the workers along."""
    ready: tuple[str, int] = ("", 0)
    """What the workers log when they take work, and how often."""
    servers: bool = True
    """It needs RabbitMQ and Redis."""

    @property
    def package(self) -> str:
        return self.client.removesuffix("_side")


def _pair(
    name: str,
    client: str,
    plain: str,
    safe: str,
    worker: tuple[str, ...],
    ready: tuple[str, int],
    safe_flags: Sequence[str] = (),
) -> tuple[Queue, Queue]:
    """As its documentation recommends, and at equal safety."""
    return (
        Queue(f"{name}, as documented", client, f"{plain}; {REDIS_AS_IT_COMES}", False, worker, ready),
        Queue(f"{name}, equal safety", client, f"{safe}; {REDIS_SAFE}", True, (*worker, *safe_flags), ready),
    )


QUEUES = (
    *_pair(
        "Celery",
        "celery_side",
        "RabbitMQ, 2 prefork processes; acks before the task runs, no confirms, persistent messages",
        "the same with confirm_publish, task_acks_late, task_reject_on_worker_lost",
        ("celery", "-A", "celery_side", "worker", "-c", "2", "--loglevel", "INFO", "-n", "bench@%h"),
        (" ready.", 1),
    ),
    *_pair(
        "Dramatiq",
        "dramatiq_side",
        "RabbitMQ, 2 processes of 8 threads; acks after the task has run, no confirms, persistent messages",
        "the same with confirm_delivery",
        ("dramatiq", "dramatiq_side", "--processes", "2"),
        ("Worker process is ready for action.", 2),
    ),
    *_pair(
        "taskiq",
        "taskiq_side",
        "RabbitMQ (taskiq-aio-pika: confirms, persistent messages), 2 processes; acks when the result is saved, the "
        "default; clients look for results each 1 ms, not each 200 ms",
        "the same, --ack-type when_saved said",
        ("taskiq", "worker", "taskiq_side:broker", "--workers", "2"),
        ("Listening started.", 2),
        ("--ack-type", "when_saved"),
    ),
    Queue(
        "Dask distributed",
        "dask_side",
        "2 worker processes of 1 thread; keeps nothing on disk, so there is no equal safety",
        servers=False,
    ),
    Queue("Ray", "ray_side", "num_cpus=2; keeps nothing on disk, so there is no equal safety", servers=False),
)


def contenders(
    services: Services, kind: str, counts: dict[str, int], only: Sequence[str] = ()
) -> tuple[Contender, ...]:
    """Those for `calls`, `job` or `round-trip`, each with how many calls it makes in a turn."""
    found: list[Contender] = []
    for queue in QUEUES:
        if not only or any(queue.name.startswith(name) for name in only):
            count = counts.get(queue.package, counts["others"])
            found.append(
                Contender(queue.name, f"{queue.settings}; {count:,} calls", _turn(services, queue, kind, count))
            )
    return tuple(found)


def _turn(services: Services, queue: Queue, kind: str, count: int) -> Callable[[int], Figures]:
    def run(number: int) -> Figures:
        programs = environment(queue.package)
        env = {
            "BENCH_SAFE": "1" if queue.safe else "0",
            "PYTHONPATH": str(NEIGHBOURS),
            "PATH": f"{programs}:/usr/bin:/bin",
        }
        env |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
        if queue.servers:
            env |= {"BENCH_BROKER": services.amqp_url(), "BENCH_RESULTS": services.redis_url(safe=queue.safe)}
        with contextlib.ExitStack() as stack:
            if queue.worker:
                log = services.folder / f"{queue.name.replace(', ', '-').replace(' ', '-')}-{kind}-{number}.log"
                command = [str(programs / queue.worker[0]), *queue.worker[1:]]
                process = stack.enter_context(running(command, log=log, cwd=NEIGHBOURS, env=env))
                wait_for_text(log, queue.ready[0], process, count=queue.ready[1])
            client = [str(programs / "python"), str(NEIGHBOURS / f"{queue.client}.py"), kind, str(count)]
            return last_json(output_of(client, cwd=services.folder, timeout_s=CLIENT_S, env=env))

    return run


def last_json(output: str) -> Figures:
    """The figures on the last line that a program has printed."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise Missing(f"it said nothing that can be read: {output[-200:]!r}")
    return {name: float(value) for name, value in json.loads(lines[-1]).items()}
