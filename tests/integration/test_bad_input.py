"""Bad input of every kind to a running cluster: a clear line and the right exit code, and what was accepted is done."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pika
import pika.exceptions
import pytest
import zmq

from tests import cluster_tasks as tasks
from tests.broker import Broker, free_port
from tests.cluster import Cluster, run_windrow, running_cluster
from tests.waiting import wait_until
from windrow import Client, ExportError, ItemRefused, NotFound, UnknownOption, UsageError
from windrow.common.errors import ProtocolError
from windrow.common.limits import ITEM_BYTES_MAX, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, RESULT_BYTES_MAX
from windrow.common.messages import ANSWERS, REQUESTS, Health, HealthInfo, Refused
from windrow.export.run import start_export
from windrow.export.spec import ExportSpec

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0
NOWHERE = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def cluster(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "good.csv").write_text("id,price\n1,2.5\n2,3.5\n")
    with running_cluster(folder, amqp_url=broker.url, slots=2) as made:
        yield made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


@pytest.fixture(autouse=True)
def accepted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """What was accepted before the bad input, and is at work meanwhile, is done after it."""
    if "cluster" not in request.fixturenames:
        yield
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    folder = tmp_path / "accepted"
    folder.mkdir()
    with cluster.client() as client:
        job = client.start(tasks.hold, [(str(folder), x) for x in range(2)], name="accepted before")
        wait_until(lambda: len(list(folder.glob("begun-*"))) == 2, PATIENCE_S, "both items to begin")
        yield
        (folder / "open").touch()
        assert job.wait(PATIENCE_S).done == 2
        assert list(job.results()) == [0, 1]


def refusal(cluster: Cluster, *arguments: str, code: int = 2) -> str:
    """The one line that the command line prints for bad input."""
    done = cluster.windrow(*arguments, code=code)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("windrow: ")
    assert done.stdout == ""
    return lines[0]


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_task_gets_the_nearest_name(cluster: Cluster) -> None:
    line = refusal(cluster, "submit", "tests.cluster_tasks:ad", "--args", "1")
    assert "did you mean tests.cluster_tasks:add?" in line


def test_arguments_that_are_no_json_are_refused(cluster: Cluster) -> None:
    assert "--args: not JSON" in refusal(cluster, "submit", "tests.cluster_tasks:add", "--args", "{1")


def test_arguments_that_do_not_fit_the_task_fail_the_item_and_say_so(cluster: Cluster) -> None:
    shown = cluster.windrow("submit", "tests.cluster_tasks:add", "--args", "[1, 2, 3, 4]", "--wait", "--json", code=1)
    job = json.loads(shown.stdout)
    assert (job["state"], job["failed"]) == ("failed", 1)
    assert "TypeError: add() takes from 1 to 2 positional arguments" in cluster.windrow("failures", job["id"]).stdout


def test_an_option_that_does_not_exist_is_refused(client: Client) -> None:
    with pytest.raises(UnknownOption, match="no option 'retrys'"):
        client.start(tasks.add, [1], retrys=3)


def test_an_item_over_the_limit_is_refused_and_its_job_cancelled(cluster: Cluster) -> None:
    (cluster.folder / "large.jsonl").write_text('1\n"' + "x" * ITEM_BYTES_MAX + '"\n')
    line = refusal(cluster, "submit", "tests.cluster_tasks:add", "--items", "large.jsonl")
    assert str(ITEM_BYTES_MAX) in line
    assert "file" in line
    assert cluster.watcher.job("last").wait(PATIENCE_S).state == "cancelled"


def test_a_call_over_the_limit_is_refused_and_the_next_one_runs(client: Client) -> None:
    large = client.submit(tasks.double, "x" * ITEM_BYTES_MAX)  # type: ignore[arg-type]
    with pytest.raises(ItemRefused, match=f"the limit is {ITEM_BYTES_MAX}.*send its path"):
        large.result(PATIENCE_S)
    assert client.submit(tasks.double, 2).result(PATIENCE_S) == 4


def test_an_item_over_the_limit_in_a_generator_leaves_a_cancelled_job(client: Client) -> None:
    with pytest.raises(ItemRefused, match=f"the limit is {ITEM_BYTES_MAX}"):
        client.start(tasks.add, (item for item in (1, "x" * ITEM_BYTES_MAX)))
    job = client.job("last")
    status = job.wait(PATIENCE_S)
    assert status.state == "cancelled"
    assert "ItemRefused" in status.reason


def test_an_item_that_cannot_travel_is_refused(client: Client) -> None:
    with pytest.raises(ItemRefused, match=re.escape("builtins.object is not message data")):
        client.start(tasks.add, [object()])


def test_a_result_over_the_limit_fails_its_item_and_the_job_goes_on(cluster: Cluster) -> None:
    (cluster.folder / "sizes.jsonl").write_text(f"10\n{RESULT_BYTES_MAX + 1}\n20\n")
    shown = cluster.windrow("submit", "tests.cluster_tasks:big", "--items", "sizes.jsonl", "--wait", "--json", code=1)
    job = json.loads(shown.stdout)
    assert (job["done"], job["failed"]) == (2, 1)
    assert str(RESULT_BYTES_MAX) in cluster.windrow("failures", job["id"], "--each").stdout


@pytest.mark.parametrize("command", ["job", "wait", "results", "failures", "retry", "cancel"])
def test_a_job_that_does_not_exist_is_not_found(cluster: Cluster, command: str) -> None:
    assert "there is no job 'zzzzzz'" in refusal(cluster, command, "zzzzzz")


def test_a_node_that_does_not_exist_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match="atlantis"):
        client.drain("atlantis")


# ── Exports ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_export_says_what_failed_first_however_the_stages_end(cluster: Cluster) -> None:
    # The plan cancels the stages behind it before its own failure is known.
    spec = ExportSpec(str(cluster.folder / "good.csv"), str(cluster.folder / "never.csv"), columns=("id", "prize"))
    with cluster.client() as client:
        for _ in range(10):
            with pytest.raises(ExportError, match="prize"):
                start_export(client, spec).wait(30)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.csv", "out.csv"], "missing.csv"),
        ([".", "out.csv"], "is a folder"),
        (["good.csv", "good.csv"], "good.csv"),
        (["good.csv", "out.txt"], "end it in .csv, "),
        (["good.csv", "nowhere/out.csv"], "nowhere"),
        (["good.csv", "out.csv", "--columns", "id,prize"], "price"),
        (["good.csv", "out.csv", "--where", "price >"], "--where"),
        (["good.csv", "out.csv", "--where", "prize > 1"], "prize"),
        (["good.csv", "out.csv", "--cast", "price:money"], "money"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_an_export_that_cannot_be_is_refused_in_a_line(cluster: Cluster, arguments: list[str], said: str) -> None:
    # Some of it is seen at once, some by the plan on a node: wrong usage, or a job that failed.
    done = cluster.windrow("export", *arguments, code=None)
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("windrow: ")
    assert said in last
    assert not (cluster.folder / "out.csv").exists()


def test_a_destination_that_is_there_is_only_replaced_by_force(cluster: Cluster) -> None:
    (cluster.folder / "there.csv").write_text("mine\n")
    assert "--force" in refusal(cluster, "export", "good.csv", "there.csv")
    assert (cluster.folder / "there.csv").read_text() == "mine\n"
    cluster.windrow("export", "good.csv", "there.csv", "--force")
    assert (cluster.folder / "there.csv").read_text() == "id,price\n1,2.5\n2,3.5\n"


# ── Foreign messages on the control channel ──────────────────────────────────────────────────────────────────────


def ask_raw(cluster: Cluster, *frames: bytes, answered: bool = True) -> list[bytes]:
    """Send frames as a peer of any language could; what came back."""
    context = zmq.Context()
    try:
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(cluster.url)
        peer.send_multipart(frames)
        if answered:
            assert peer.poll(10_000), "no answer"
            return peer.recv_multipart()
        # An answer to a good message says that the bad one before it has been dealt with.
        peer.send_multipart([b"id", b"", REQUESTS.encode(Health())])
        assert peer.poll(10_000), "no answer"
        return peer.recv_multipart()
    finally:
        context.destroy(linger=0)


def refused_by(cluster: Cluster, payload: bytes) -> Refused:
    *frames, answer = ask_raw(cluster, b"id-1", b"", payload)
    assert frames == [b"id-1", b""]
    message = ANSWERS.decode(answer)
    assert isinstance(message, Refused)
    return message


@pytest.mark.parametrize(
    ("payload", "code", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "malformed", "not msgpack"),
        (b"", "malformed", "not msgpack"),
        (b"\xc1\xff\x00", "malformed", "not msgpack"),
        (b"\x91" * 5000, "malformed", "not msgpack"),
        (msgpack.packb([PROTOCOL_VERSION, "Shutdown", {}]), "malformed", "no message named 'Shutdown'"),
        (msgpack.packb([PROTOCOL_VERSION, "FindJob", {}]), "malformed", "job missing"),
        (msgpack.packb([PROTOCOL_VERSION, "FindJob", {"job": 7}]), "malformed", "expected str, got int"),
        (msgpack.packb([PROTOCOL_VERSION, "FindJob", {"job": "x" * 300}]), "malformed", "at most 256"),
        (msgpack.packb([PROTOCOL_VERSION, "Refused", {"code": "", "message": ""}]), "malformed", "no message named"),
        (
            msgpack.packb([PROTOCOL_VERSION, "Append", {"job": "j", "first": 0, "count": 9, "block": b"?"}]),
            "malformed",
            "block",
        ),
        (msgpack.packb([PROTOCOL_VERSION + 7, "Health", {}]), "protocol_version", f"version {PROTOCOL_VERSION + 7}"),
    ],
)
def test_a_foreign_message_is_refused_counted_and_logged(
    cluster: Cluster, payload: bytes, code: str, said: str
) -> None:
    before = cluster.watcher.health().messages_refused
    refused = refused_by(cluster, payload)
    assert (refused.code, said in refused.message) == (code, True), refused
    assert cluster.watcher.health().messages_refused == before + 1
    assert cluster.metric("windrow_messages_refused_total") == before + 1
    assert "action=message_refused" in cluster.scheduler.log.read_text()


@pytest.mark.parametrize("frames", [[b"x"], [b"id", b"not empty", b"x"], [b"x"] * 50])
def test_frames_that_are_no_request_are_counted_and_not_answered(cluster: Cluster, frames: list[bytes]) -> None:
    before = cluster.watcher.health().messages_refused
    answer = ANSWERS.decode(ask_raw(cluster, *frames, answered=False)[-1])
    assert isinstance(answer, HealthInfo)
    assert answer.messages_refused == before + 1


def test_another_protocol_on_the_control_port_does_no_harm(cluster: Cluster) -> None:
    with socket.create_connection(("127.0.0.1", int(cluster.url.rpartition(":")[2])), 10) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\nHost: windrow\r\n\r\n" * 10)
        browser.shutdown(socket.SHUT_WR)
        browser.settimeout(10)
        while browser.recv(4096):
            pass
    assert cluster.watcher.health().store == "ok"


def test_a_message_over_the_limit_is_cut_off(cluster: Cluster) -> None:
    context = zmq.Context()
    try:
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        peer.connect(cluster.url)
        peer.send_multipart([b"id", b"", bytes(MESSAGE_BYTES_MAX + 1)])
        assert monitor.poll(10_000), "the connection was not cut off"
        peer.disable_monitor()
    finally:
        context.destroy(linger=0)
    assert cluster.watcher.health().store == "ok"


@pytest.fixture
def newer_scheduler() -> Iterator[str]:
    """The address of something that answers in the next version of the protocol."""
    over = threading.Event()
    context = zmq.Context()
    responder = context.socket(zmq.REP)
    port = responder.bind_to_random_port("tcp://127.0.0.1")

    def answer() -> None:
        while not over.is_set():
            if responder.poll(20):
                responder.recv()
                responder.send(msgpack.packb([PROTOCOL_VERSION + 1, "Refused", {"code": "x", "message": "y"}]))
        responder.close(0)

    thread = threading.Thread(target=answer, name="newer scheduler")
    thread.start()
    yield f"tcp://127.0.0.1:{port}"
    over.set()
    thread.join(10)
    context.term()


def test_a_scheduler_of_another_version_is_named_in_a_line(cluster: Cluster, newer_scheduler: str) -> None:
    [line] = cluster.windrow("jobs", url=newer_scheduler, code=1).stderr.splitlines()
    assert f"protocol version {PROTOCOL_VERSION + 1}" in line
    checks = json.loads(cluster.windrow("doctor", "--json", url=newer_scheduler, code=1).stdout)["checks"]
    assert any("bring both to one version" in check["detail"] for check in checks)
    with Client(newer_scheduler) as client, pytest.raises(ProtocolError):
        client.health()


# ── Foreign messages in a node queue ─────────────────────────────────────────────────────────────────────────────


def foreign_messages(cluster: Cluster) -> list[tuple[bytes, dict[str, Any] | None]]:
    """Bodies and headers that no node may act upon."""
    node = cluster.node(0).id
    named = {
        "windrow-version": str(PROTOCOL_VERSION),
        "windrow-cluster": cluster.watcher.health().cluster,
        "windrow-node": str(node),
        "windrow-fence": "1.1",
        "windrow-job": "j",
        "windrow-task": "tests.cluster_tasks:add",
        "windrow-key-id": "1",
        "windrow-signature": "00" * 32,
    }
    return [
        (b"hello", None),
        (b"", {}),
        (b"hello", {"windrow-version": 0, "windrow-fence": ["1.1"], "windrow-node": {"a": None}}),
        (b"hello", named | {"windrow-version": str(PROTOCOL_VERSION + 1)}),
        (b"hello", named | {"windrow-cluster": "another"}),
        (b"hello", named | {"windrow-node": "another"}),
        (b"hello", named | {"windrow-fence": "first"}),
        (b"hello", named | {"windrow-key-id": "99"}),
        (b"hello", named),
        (bytes(MESSAGE_BYTES_MAX + 1), named),
    ]


def test_foreign_messages_in_a_node_queue_are_refused_counted_and_logged(
    cluster: Cluster, broker: Broker, client: Client
) -> None:
    queue = cluster.node_queue(0)
    messages = foreign_messages(cluster)
    expected = len(messages)
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        for body, headers in messages:
            with connection.channel() as channel:
                channel.confirm_delivery()
                try:
                    channel.basic_publish("", queue, body, pika.BasicProperties(headers=headers), mandatory=True)
                except pika.exceptions.ChannelClosedByBroker as error:
                    # RabbitMQ 4 takes no more than 16 MiB: what is above our limit does not even reach the node.
                    if len(body) <= MESSAGE_BYTES_MAX or "larger than configured max size" not in str(error):
                        raise
                    expected -= 1
    assert expected >= len(messages) - 1

    def refused() -> int:
        load = cluster.node(0).load
        return load.deliveries_refused if load is not None else 0

    wait_until(lambda: refused() == expected, PATIENCE_S, f"{expected} deliveries to be refused")
    assert cluster.metric("windrow_node_deliveries_refused_total") == expected
    assert cluster.nodes[0].log.read_text().count("action=delivery_refused") == expected
    job = client.start(tasks.double, range(5000))
    assert list(job.results()) == [2 * x for x in range(5000)]


# ── Out of reach ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [["jobs"], ["submit", "m:t", "--args", "1"], ["wait", "last"], ["nodes"], ["export", "good.csv", "out.csv"]],
    ids=lambda arguments: arguments[0],
)
def test_a_scheduler_out_of_reach_is_named_with_exit_code_3(
    arguments: list[str], tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "good.csv").write_text("id\n1\n")
    done = run_windrow(*arguments, "--url", NOWHERE, code=3, folder=tmp_path, environment=environment)
    [line] = done.stderr.splitlines()
    assert NOWHERE in line


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a command line that has little patience."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WINDROW_")}
    return own | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "WINDROW_CLIENT__TIMEOUT_S": "0.5"}


def test_a_node_waits_for_its_scheduler_and_says_for_which(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster", nodes=0) as cluster:
        cluster.kill_scheduler()
        node = cluster.add_node()
        log = cluster.nodes[node].log
        wait_until(lambda: cluster.url in log.read_text(), PATIENCE_S, "the node to name the address")
        cluster.start_scheduler()
        cluster.wait_node(node, lambda seen: seen.state == "alive", "the node to join")


def test_a_broker_out_of_reach_is_named_and_work_is_accepted_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    url = f"amqp://guest:secret@127.0.0.1:{port}/%2F"
    with running_cluster(tmp_path / "cluster", amqp_url=url, nodes=1) as cluster, cluster.client() as client:
        health = client.health()
        assert health.broker == "bad"
        assert f"127.0.0.1:{port}" in health.broker_detail
        checks = json.loads(cluster.windrow("doctor", "--json", code=1).stdout)["checks"]
        [detail] = [check["detail"] for check in checks if check["name"] == "broker" and check["state"] == "bad"]
        assert f"127.0.0.1:{port}" in detail
        job = client.start(tasks.double, range(10))
        assert job.status().pending == 10
        for daemon in (cluster.scheduler, cluster.nodes[0]):
            text = daemon.log.read_text()
            assert f"127.0.0.1:{port}" in text
            assert "secret" not in text


def test_a_node_without_a_broker_address_is_told_that_it_needs_one(
    cluster: Cluster, tmp_path: Path, environment: dict[str, str]
) -> None:
    flags = ["--url", cluster.url, "--state", str(tmp_path / "node"), "--slots", "1", "--name", "without"]
    done = run_windrow("node", *flags, code=2, folder=tmp_path, environment=environment)
    assert "use --amqp or WINDROW_AMQP_URL" in done.stderr


def test_a_job_of_text_alone_is_refused(client: Client) -> None:
    with pytest.raises(UsageError, match="items is a single text"):
        client.start(tasks.add, "text")
