"""The ceiling: a million items by the bare minimum of the same libraries, with none of what a scheduler has to decide.

client → ZeroMQ → scheduler: one SQLite commit with fsync for each message → RabbitMQ, confirmed → node → pipes → two
workers → pipe → node → ZeroMQ → scheduler: one commit for the results → ZeroMQ → client. Items and values are msgpack,
encoded one by one and decoded as a stream, as in Windrow; they travel with their offsets, as bytes that could be cut.
Nothing is retried, counted, leased or sized: it is what no scheduler on these libraries can pass.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import sqlite3
import threading
import time
from array import array
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgpack
import pika
import zmq

BLOCK = 20_000
"""Items in a message. Larger ones were no faster where this was written."""
WORKERS = 2
AHEAD = 8
"""Messages that a client has under way."""


def same(x: int) -> int:
    return x


def block_of(number: int, entries: list[bytes]) -> bytes:
    """A message: its number, where each entry begins, and the entries."""
    offsets = array("I", accumulate(map(len, entries), initial=0))
    return bytes(msgpack.packb((number, offsets.tobytes(), b"".join(entries))) or b"")


def read_block(body: bytes) -> tuple[int, Any]:
    """Its number, and the decoded entries one after the other."""
    number, _, payload = msgpack.unpackb(body)
    unpacker = msgpack.Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    return number, unpacker


def work(pipe: Any) -> None:
    """A worker: decode each item, call, encode each value."""
    pack = msgpack.Packer(use_bin_type=True).pack
    with contextlib.suppress(EOFError):
        while True:
            number, items = read_block(pipe.recv_bytes())
            pipe.send_bytes(block_of(number, [pack(same(*item)) for item in items]))


def node(amqp_url: str, queue: str, scheduler: str) -> None:
    """Hands each message to the worker that has least, and what comes back to the scheduler."""
    pipes = []
    for _ in range(WORKERS):
        mine, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=work, args=(theirs,), daemon=True).start()
        theirs.close()
        pipes.append(mine)
    threading.Thread(target=_report, args=(pipes, scheduler), daemon=True).start()
    waiting = [0]

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        pipes[waiting[0] % WORKERS].send_bytes(body)
        waiting[0] += 1
        channel.basic_ack(method.delivery_tag)

    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    channel.basic_qos(prefetch_count=64)
    channel.basic_consume(queue, on_message)
    channel.start_consuming()


def _report(pipes: list[Any], scheduler: str) -> None:
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(scheduler)
    while True:
        for pipe in multiprocessing.connection.wait(pipes):
            socket.send_multipart([b"done", pipe.recv_bytes()])  # type: ignore[union-attr]


def scheduler(amqp_url: str, queue: str, store: str, ports: Any) -> None:
    """Commits what comes, publishes items with confirms, passes results on; all that waits goes into one commit."""
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    ports.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    db = sqlite3.connect(store, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE block (kind TEXT, body BLOB)")
    channel = pika.BlockingConnection(pika.URLParameters(amqp_url)).channel()
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    ports.send("ready")
    client = b""
    while True:
        taken = [socket.recv_multipart()]
        while socket.poll(0) and len(taken) < AHEAD:
            taken.append(socket.recv_multipart())
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO block VALUES (?, ?)", [(kind.decode(), body) for _, kind, body in taken])
        db.execute("COMMIT")
        for peer, kind, body in taken:
            if kind == b"items":
                client = peer
                channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))
            else:
                socket.send_multipart([client, body])


def client(address: str, items: Iterable[int]) -> list[int]:
    """Encode, send, read back in order; AHEAD messages are under way at a time."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(address)
    pack = msgpack.Packer(use_bin_type=True).pack
    found: dict[int, list[int]] = {}
    sent = 0

    def take() -> None:
        number, values = read_block(socket.recv())
        found[number] = list(values)

    block: list[bytes] = []
    for item in items:
        block.append(pack((item,)))
        if len(block) == BLOCK:
            socket.send_multipart([b"items", block_of(sent, block)])
            sent, block = sent + 1, []
            while sent - len(found) >= AHEAD:
                take()
    if block:
        socket.send_multipart([b"items", block_of(sent, block)])
        sent += 1
    while len(found) < sent:
        take()
    return [value for number in range(sent) for value in found[number]]


def main() -> None:
    """One measurement, as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("amqp_url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("items", type=int)
    asked = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    queue = f"windrow-ceiling-{time.time_ns()}"
    mine, theirs = multiprocessing.Pipe()
    store = str(asked.folder / f"{queue}.db")
    boss = multiprocessing.Process(target=scheduler, args=(asked.amqp_url, queue, store, theirs))
    boss.start()
    address = f"tcp://127.0.0.1:{mine.recv()}"
    mine.recv()
    hands = multiprocessing.Process(target=node, args=(asked.amqp_url, queue, address))
    hands.start()
    try:
        client(address, range(2 * BLOCK))
        began = time.perf_counter()
        results = client(address, range(asked.items))
        took_s = time.perf_counter() - began
        assert results == list(range(asked.items))
        print(json.dumps({"per_s": asked.items / took_s, "took_s": took_s}))
    finally:
        for process in (hands, boss):
            process.terminate()
            process.join()
        with contextlib.suppress(Exception):
            pika.BlockingConnection(pika.URLParameters(asked.amqp_url)).channel().queue_delete(queue)


if __name__ == "__main__":
    main()
