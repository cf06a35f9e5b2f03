"""A cluster at work whose RabbitMQ is cut off, killed, robbed, wiped, full or lied to: the work goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pika
import pytest

from tests import cluster_tasks as tasks
from tests.broker import Broker, NoBroker, make_broker
from tests.chunks import make_message
from tests.cluster import Cluster, running_cluster
from tests.dispatching import amqp_bench, delete_queues
from tests.link import Link, open_link
from tests.waiting import until, wait_until
from windrow import Client, Job
from windrow.common.words import Fence, NodeId
from windrow.scheduler.core.events import Unsent

pytestmark = pytest.mark.faults

PATIENCE_S = 30.0
RESUME_S_MAX = 10.0
CUTS = 4
WATERMARK = "512MB"


@pytest.fixture(scope="module")
def fallible() -> Iterator[Broker]:
    """A RabbitMQ of this module's own; each test leaves it running and without alarms."""
    try:
        made = make_broker(own=True)
    except NoBroker as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def link(fallible: Broker) -> Iterator[Link]:
    with open_link(urlsplit(fallible.url).port or 5672) as made:
        yield made


def through(broker: Broker, link: Link) -> str:
    return broker.url.replace(f":{urlsplit(broker.url).port}/", f":{link.port}/")


@pytest.fixture
def cluster(fallible: Broker, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes of one slot."""
    with running_cluster(tmp_path / "cluster", amqp_url=fallible.url) as made:
        yield made


@pytest.fixture
def deaf_cluster(fallible: Broker, link: Link, tmp_path: Path) -> Iterator[Cluster]:
    """One node whose way to the broker, and only that, can be cut: its chunks wait in its queue meanwhile."""
    flags = ["--amqp", through(fallible, link)]
    with running_cluster(tmp_path / "cluster", amqp_url=fallible.url, nodes=1, node_flags=flags) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the items of `hold` leave their marks."""
    made = tmp_path / "marks"
    made.mkdir()
    return made


def runs(folder: Path) -> list[int]:
    """One entry for each time that an item of `hold` has begun."""
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("begun-*"))


def wait_broker(client: Client, state: str) -> None:
    wait_until(lambda: client.health().broker == state, PATIENCE_S, f"the broker to be {state}", poll_s=0.02)


def wait_progress(job: Job) -> None:
    reached = job.status().done + 20
    wait_until(lambda: job.status().done >= reached, RESUME_S_MAX, f"{reached} items to be done", poll_s=0.05)


def expect_done_once(job: Job, folder: Path, items: int, timeout_s: float = RESUME_S_MAX) -> None:
    """All items come to their end in time, each run a single time."""
    status = job.wait(timeout_s)
    assert (status.state, status.done, status.failed, status.retried) == ("done", items, 0, 0)
    assert list(job.results()) == list(range(items))
    assert runs(folder) == list(range(items))


# ── Out of reach ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_goes_on_each_time_that_the_link_to_the_broker_is_cut_and_healed(
    fallible: Broker, link: Link, tmp_path: Path
) -> None:
    with running_cluster(tmp_path / "cluster", amqp_url=through(fallible, link)) as cluster, cluster.client() as client:
        items = range(600)
        job = client.start(tasks.work, [(x, 0.02) for x in items])
        for cut in range(CUTS):
            wait_progress(job)
            link.cut()
            wait_broker(client, "bad")
            taken = client.start(tasks.double, [cut])
            assert taken.status().pending == 1
            link.heal()
            assert taken.wait(RESUME_S_MAX).done == 1
        status = job.wait(PATIENCE_S)
        assert (status.state, status.done, status.failed, status.retried) == ("done", len(items), 0, 0)
        assert list(job.results()) == list(items)


def test_running_work_is_untouched_by_a_killed_broker_and_the_rest_follows_when_it_is_back(
    cluster: Cluster, fallible: Broker, folder: Path
) -> None:
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(12)])
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        fallible.kill()
        try:
            wait_broker(client, "bad")
            taken = client.start(tasks.double, range(100))
            assert taken.status().pending == 100
            (folder / "open").touch()
            wait_until(lambda: job.status().done >= 2, PATIENCE_S, "running items to end without a broker")
            assert taken.status().done == 0
        finally:
            fallible.start()
        back_at = time.monotonic()
        expect_done_once(job, folder, 12)
        assert list(taken.results()) == [2 * x for x in range(100)]
        assert time.monotonic() - back_at < RESUME_S_MAX


# ── Chunks that vanish on their way ──────────────────────────────────────────────────────────────────────────────


def ready_in(broker: Broker, queue: str) -> int:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)


def purge(broker: Broker, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        connection.channel().queue_purge(queue)


def strand(cluster: Cluster, client: Client, broker: Broker, link: Link, job_of: Path) -> tuple[Job, str]:
    """A job of four items whose first chunks lie in the queue of a node that cannot hear of them."""
    queue = cluster.node_queue(0)
    link.cut()
    (job_of / "open").touch()
    job = client.start(tasks.hold, [(str(job_of), x) for x in range(4)])
    wait_until(lambda: ready_in(broker, queue) >= 2, PATIENCE_S, "chunks to wait in the queue", poll_s=0.05)
    return job, queue


@pytest.mark.parametrize("harm", ["purged", "deleted", "wiped"])
def test_chunks_that_vanish_from_a_node_queue_are_sent_again(
    deaf_cluster: Cluster, fallible: Broker, link: Link, folder: Path, harm: str
) -> None:
    with deaf_cluster.client() as client:
        job, queue = strand(deaf_cluster, client, fallible, link, folder)
        if harm == "purged":
            purge(fallible, queue)
        elif harm == "deleted":
            delete_queues(fallible.url, queue)
        else:
            fallible.wipe()
        link.heal()
        expect_done_once(job, folder, 4)


def test_corrupted_repeated_and_foreign_messages_cost_nothing(
    deaf_cluster: Cluster, fallible: Broker, link: Link, folder: Path
) -> None:
    with deaf_cluster.client() as client:
        job, queue = strand(deaf_cluster, client, fallible, link, folder)
        with pika.BlockingConnection(pika.URLParameters(fallible.url)) as connection:
            channel = connection.channel()
            _, properties, body = channel.basic_get(queue, auto_ack=True)
            assert properties is not None
            assert body is not None
            flipped = bytes([*body[:-1], body[-1] ^ 1])
            _, next_properties, next_body = channel.basic_get(queue, auto_ack=True)
            assert next_body is not None
            for _ in range(3):
                channel.basic_publish("", queue, flipped, properties)
                channel.basic_publish("", queue, next_body, next_properties)
                channel.basic_publish("", queue, b"hello")
        link.heal()
        expect_done_once(job, folder, 4)
        refused = "windrow_node_deliveries_refused_total"
        wait_until(lambda: deaf_cluster.metric(refused) == 6, PATIENCE_S, "six messages to be refused", poll_s=0.05)


def test_a_message_that_the_broker_refuses_is_told_as_unsent_and_goes_through_when_there_is_room(
    fallible: Broker,
) -> None:
    async def scene() -> None:
        async with amqp_bench(fallible.url) as bench:
            receiver = bench.receiver(NodeId("n1"))
            bench.dispatch.open_node(NodeId("n1"))
            # A queue without a consumer that may hold one message, and refuses more than that.
            fallible.ctl("set_policy", "small", "^windrow", '{"max-length": 1, "overflow": "reject-publish"}')
            try:
                for number in (1, 2, 3):
                    bench.dispatch.dispatch(make_message(bench.cluster, NodeId("n1"), number))
                    await until(lambda number=number: len(bench.ended()) == number, PATIENCE_S, "an answer")
            finally:
                fallible.ctl("clear_policy", "small")
            assert (bench.sent(), bench.unsent()) == ([Fence(1, 1)], [Fence(1, 2), Fence(1, 3)])
            reasons = {event.reason for event in bench.events if isinstance(event, Unsent)}
            assert reasons == {"the broker refused the message"}
            bench.dispatch.dispatch(make_message(bench.cluster, NodeId("n1"), 4))
            await until(lambda: len(bench.sent()) == 2, PATIENCE_S, "a chunk when there is room")
            await receiver.start()
            await until(lambda: len(receiver.got) == 2, PATIENCE_S, "both at the node")
            delete_queues(fallible.url, bench.dispatch.queue_name(NodeId("n1")))

    asyncio.run(asyncio.wait_for(scene(), 3 * PATIENCE_S))


# ── Alarms ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_while_the_broker_is_full_work_is_taken_and_afterwards_done(
    cluster: Cluster, fallible: Broker, folder: Path, alarm: str
) -> None:
    raised, lifted = {
        "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "absolute", WATERMARK)),
        "disk": (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "50MB")),
    }[alarm]
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(12)])
        wait_until(lambda: len(runs(folder)) == 2, PATIENCE_S, "both slots to be busy")
        fallible.ctl(*raised)
        try:
            (folder / "open").touch()
            taken = client.start(tasks.double, range(100))
            wait_broker(client, "bad")
            assert "alarm" in client.health().broker_detail
            later = client.start(tasks.double, range(50))
            assert later.status().pending == 50
            wait_until(lambda: job.status().done >= 2, PATIENCE_S, "running items to end")
        finally:
            fallible.ctl(*lifted)
        back_at = time.monotonic()
        expect_done_once(job, folder, 12)
        assert list(taken.results()) == [2 * x for x in range(100)]
        assert list(later.results()) == [2 * x for x in range(50)]
        assert time.monotonic() - back_at < RESUME_S_MAX
