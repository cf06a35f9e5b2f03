"""How the link to RabbitMQ tries again, and that an old connection is never heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from windrow.common import amqp
from windrow.common.amqp import AmqpLink, PromptConnection, parameters_from_url
from windrow.common.errors import ConfigError


class FakeConnection:
    """A pika connection that does what the test says."""

    is_closing = False

    def __init__(self, **given: Any) -> None:
        self.given = given
        self._opened = False
        self.aborted = False

    def open(self) -> None:
        self._opened = True
        self.given["on_open_callback"](self)

    def end(self, error: BaseException) -> None:
        self.given["on_close_callback"](self, error)

    def add_on_connection_blocked_callback(self, callback: Callable[..., None]) -> None: ...

    def add_on_connection_unblocked_callback(self, callback: Callable[..., None]) -> None: ...

    def _terminate_stream(self, _error: BaseException) -> None:
        self.aborted = True

    def close(self) -> None:
        self.end(ConnectionError("closed"))


class User:
    def __init__(self) -> None:
        self.told: list[str] = []

    def on_open(self, connection: Any) -> None:
        self.told.append("open")

    def on_lost(self, reason: str) -> None:
        self.told.append(f"lost: {reason}")

    def on_blocked(self, detail: str) -> None: ...

    def on_unblocked(self) -> None: ...


class Scene:
    """A link over fake connections, whose timer fires when the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        self.made: list[FakeConnection] = []
        self.delays_s: list[float] = []
        self.user = User()
        self.link = AmqpLink(url, self.user, name="test", draw=lambda: 1.0)
        self._connect: Callable[[], None] | None = None
        monkeypatch.setattr(amqp, "PromptConnection", self._make)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._later)

    def _make(self, **given: Any) -> FakeConnection:
        self.made.append(FakeConnection(**given))
        return self.made[-1]

    def _later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.Handle:
        self.delays_s.append(delay_s)
        self._connect = callback
        return asyncio.get_running_loop().call_soon(lambda: None)

    def fire(self) -> None:
        assert self._connect is not None
        self._connect()


ONE = "amqp://u:p@host:1234/"
THREE = "amqp://u:p@one:1/,amqp://u:p@two:2/,amqp://u:p@three:3/"


def play(monkeypatch: pytest.MonkeyPatch, act: Callable[[Scene], None], url: str = ONE) -> None:
    async def whole() -> None:
        with monkeypatch.context() as patched:
            scene = Scene(patched, url)
            scene.link.start()
            act(scene)

    asyncio.run(whole())


def test_attempts_are_spread_out_up_to_five_seconds_and_quick_again_once_all_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def act(scene: Scene) -> None:
        for _ in range(8):
            scene.made[-1].end(ConnectionRefusedError("refused"))
            scene.fire()
        assert scene.delays_s == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
        scene.made[-1].open()
        scene.made[-1].end(ConnectionResetError("reset"))
        assert scene.delays_s[-1] == 5.0, "open is not enough: what is built on it may fail each time"
        scene.fire()
        scene.made[-1].open()
        scene.link.steady()
        scene.made[-1].end(ConnectionResetError("reset"))
        assert scene.delays_s[-1] == 0.2
        assert scene.user.told[0] == "lost: RabbitMQ at host:1234: refused"

    play(monkeypatch, act)


def test_a_connection_that_was_given_up_is_aborted_and_never_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(scene: Scene) -> None:
        old = scene.made[-1]
        old.open()
        scene.link.rebuild("no confirm")
        assert old.aborted
        scene.fire()
        scene.made[-1].open()
        old.end(ConnectionResetError("late"))
        old.open()
        assert scene.user.told == ["open", "lost: no confirm", "open"]
        assert len(scene.made) == 2
        assert len(scene.delays_s) == 1

    play(monkeypatch, act)


def ports(scene: Scene) -> list[int]:
    return [made.given["parameters"].port for made in scene.made]


def test_of_several_brokers_the_next_is_tried_and_only_a_whole_round_in_vain_makes_the_pause_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def act(scene: Scene) -> None:
        for _ in range(7):
            scene.made[-1].end(ConnectionRefusedError("refused"))
            scene.fire()
        assert ports(scene) == [1, 2, 3, 1, 2, 3, 1, 2]
        assert scene.delays_s == [0.2, 0.2, 0.2, 0.4, 0.4, 0.4, 0.8]
        assert scene.user.told[:2] == ["lost: RabbitMQ at one:1: refused", "lost: RabbitMQ at two:2: refused"]

    play(monkeypatch, act, THREE)


def test_a_broker_that_is_given_up_or_lost_is_left_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(scene: Scene) -> None:
        scene.made[-1].open()
        scene.link.steady()
        assert scene.link.address == "one:1"
        scene.link.rebuild("no confirm")
        scene.fire()
        assert scene.link.address == "two:2"
        scene.made[-1].open()
        scene.link.steady()
        scene.made[-1].end(ConnectionResetError("reset"))
        scene.fire()
        assert ports(scene) == [1, 2, 3]
        assert scene.user.told[-1] == "lost: RabbitMQ at two:2: reset"

    play(monkeypatch, act, THREE)


def test_time_limits_are_ours_but_a_heartbeat_in_the_url_wins() -> None:
    ours = parameters_from_url("amqp://u:p@host/", name="n")
    assert (ours.heartbeat, ours.blocked_connection_timeout, ours.connection_attempts) == (10, None, 1)
    assert ours.socket_timeout <= 3.0
    assert parameters_from_url("amqp://u:p@host/?heartbeat=33", name="n").heartbeat == 33


def test_a_url_that_cannot_be_read_never_shows_its_password() -> None:
    with pytest.raises(ConfigError) as refused:
        parameters_from_url("amqp://u:hidden@host:port/", name="n")
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None


class FakeTransport:
    """Holds back what is written until it is said that the socket can be written to, as pika's does."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.held.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.held))

    def _on_socket_writable(self) -> None:
        assert self.held, "pika asserts that there is something to send"
        self.sent += self.held
        self.held.clear()


@pytest.mark.parametrize(
    ("frames", "sent"),
    [
        ([b"method", b"header", b"body"], [b"methodheaderbody"]),
        ([b"method", bytes(amqp.JOINED_BYTES_MAX)], [b"method", bytes(amqp.JOINED_BYTES_MAX)]),
    ],
)
def test_a_message_is_sent_when_that_is_asked_for_and_in_one_piece_unless_it_is_large(
    frames: list[bytes], sent: list[bytes]
) -> None:
    connection: Any = object.__new__(PromptConnection)
    connection.params = parameters_from_url("amqp://u:p@host/", name="test")
    connection.bytes_sent = connection.frames_sent = 0
    connection._transport = transport = FakeTransport()
    connection._output_marshaled_frames(frames)
    assert transport.sent == []
    connection.send_now()
    connection.send_now()
    assert transport.sent == sent


def test_over_tls_a_message_waits_for_the_loop() -> None:
    connection: Any = object.__new__(PromptConnection)
    connection.params = parameters_from_url("amqps://u:p@host/", name="test")
    connection.bytes_sent = connection.frames_sent = 0
    connection._transport = transport = FakeTransport()
    connection._output_marshaled_frames([b"method", b"body"])
    connection.send_now()
    assert transport.held == [b"methodbody"]


def test_each_of_several_urls_must_be_readable() -> None:
    with pytest.raises(ConfigError, match="cannot be read") as refused:
        AmqpLink("amqp://u:p@one/,amqp://u:hidden@two:port/", User(), name="n")
    assert "hidden" not in str(refused.value)


def test_a_connection_given_up_while_it_logs_in_is_made_anew() -> None:
    """pika hands itself a class where it means an error, and fails over it in the loop."""

    async def scene() -> list[str]:
        greeted: asyncio.Queue[bytes] = asyncio.Queue()
        wrong: list[str] = []

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            greeted.put_nowait(await reader.read(8))
            await reader.read()
            writer.close()

        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(str(context)))
        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            link = AmqpLink(f"amqp://guest:guest@127.0.0.1:{port}/", User(), name="test")
            link.start()
            assert (await asyncio.wait_for(greeted.get(), 10.0)).startswith(b"AMQP")
            link.rebuild("nothing comes")
            assert (await asyncio.wait_for(greeted.get(), 10.0)).startswith(b"AMQP")
            await link.stop()
        return wrong

    assert asyncio.run(scene()) == []
