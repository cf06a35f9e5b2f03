"""What links of a chaos run do to what goes over them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.link import Link, open_link

pytestmark = pytest.mark.integration

PATIENCE_S = 10.0
SILENCE_S = 0.1


@pytest.fixture
def link() -> Iterator[Link]:
    """To a server that answers each byte by its upper case."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(near,), daemon=True).start()

        threading.Thread(target=answer, daemon=True).start()
        with open_link(server.getsockname()[1]) as made:
            yield made
        # Only this wakes the thread that accepts.
        server.shutdown(socket.SHUT_RDWR)


def echo(near: socket.socket) -> None:
    with near:
        try:
            while data := near.recv(100):
                near.sendall(data.upper())
        except OSError:
            return


def connected(link: Link) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", link.port), PATIENCE_S)
    made.sendall(b"a")
    assert made.recv(1) == b"A"
    return made


def falls_silent(near: socket.socket) -> bool:
    near.settimeout(SILENCE_S)
    try:
        near.recv(1)
    except TimeoutError:
        return True
    finally:
        near.settimeout(PATIENCE_S)
    return False


@pytest.mark.parametrize("ways", [("there",), ("back",), ()])
def test_what_a_link_holds_arrives_when_it_is_healed(link: Link, ways: tuple[str, ...]) -> None:
    with connected(link) as near:
        link.hold(*ways)  # type: ignore[arg-type]
        near.sendall(b"b")
        assert falls_silent(near)
        link.heal()
        assert near.recv(1) == b"B"


def test_a_cut_link_breaks_what_is_open_and_takes_nobody_until_it_is_healed(link: Link) -> None:
    with connected(link) as near:
        link.cut()
        assert near.recv(1) == b""
    with socket.create_connection(("127.0.0.1", link.port), PATIENCE_S) as refused:
        assert refused.recv(1) == b""
    link.heal()
    connected(link).close()


def test_a_slow_link_keeps_everything_for_a_while(link: Link) -> None:
    with connected(link) as near:
        link.delay(0.1)
        began_at = time.monotonic()
        near.sendall(b"c")
        assert near.recv(1) == b"C"
        assert time.monotonic() - began_at >= 0.2
        link.heal()
