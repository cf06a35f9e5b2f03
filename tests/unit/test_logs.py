"""Logs: one line an event, levels, JSON, and no password ever."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from windrow.common.errors import ConfigError
from windrow.common.logs import LINE_CHARS_MAX, setup_logs
from windrow.common.redact import redact_url


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(level: str = "info", style: str = "text") -> tuple[structlog.stdlib.BoundLogger, io.StringIO]:
    stream = io.StringIO()
    setup_logs(level, style, stream)
    return structlog.get_logger(), stream


def test_an_event_is_one_line_with_time_level_text_and_pairs() -> None:
    log, stream = logged()
    log.warning("the broker\nclosed", action="broker_lost", detail='two "words"', tries=3, none=None)
    (line,) = stream.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    expected = 'warning the broker\\nclosed  action=broker_lost detail="two \\"words\\"" tries=3 none=None'
    assert rest == expected


def test_a_traceback_stays_on_the_line_of_its_event() -> None:
    log, stream = logged()
    try:
        raise ValueError("amqp://u:hunter2@h")
    except ValueError:
        log.exception("bad")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: amqp://***@h" in line
    assert "Traceback" in line


def test_events_below_the_level_are_left_out() -> None:
    log, stream = logged("warning")
    log.info("quiet")
    log.error("loud")
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["error"]


def test_json_is_one_document_a_line() -> None:
    log, stream = logged(style="json")
    log.info("hello\nworld", action="a", nested={"url": "amqp://u:hunter2@h/v"}, many=("x", 1))
    event = json.loads(stream.getvalue())
    assert (event["level"], event["event"], event["action"]) == ("info", "hello\nworld", "a")
    assert event["nested"] == {"url": "amqp://***@h/v"}
    assert event["many"] == ["x", 1]


@pytest.mark.parametrize("style", ["text", "json"])
def test_passwords_are_hidden_wherever_they_stand(style: str) -> None:
    log, stream = logged(style=style)

    class Settings:
        def __repr__(self) -> str:
            return "Settings(url='amqp://u:hunter2@h')"

    log.info("to amqp://u:hunter2@h", a="x amqp://u:hunter2@h y", b=["postgresql://u:hunter2@h"], c=Settings())
    log.bind(url="amqps://:hunter2@h").info("bound")
    logging.getLogger("pika").error("connecting to %s", "amqp://u:hunter2@h")
    assert "hunter2" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3


def test_the_standard_library_s_loggers_come_out_of_the_same_pipe() -> None:
    _, stream = logged()
    logging.getLogger("somebody").warning("took %d s", 5)
    logging.getLogger("pika").info("chatter")
    (line,) = stream.getvalue().splitlines()
    assert line.split(" ", 1)[1] == "warning took 5 s"


def test_setting_up_again_replaces_and_does_not_double() -> None:
    log, first = logged()
    _, second = logged()
    log.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_an_endless_line_loses_its_middle() -> None:
    log, stream = logged()
    log.info("x" * 10 * LINE_CHARS_MAX)
    assert len(stream.getvalue()) < LINE_CHARS_MAX + 10


@pytest.mark.parametrize(("level", "style"), [("loud", "text"), ("info", "xml")])
def test_unknown_levels_and_formats_are_refused(level: str, style: str) -> None:
    with pytest.raises(ConfigError, match="must be"):
        setup_logs(level, style)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://user:pw@host:5672/v", "amqp://***@host:5672/v"),
        ("amqp://user:p@ss/word@host/v", "amqp://***@host/v"),
        ("see postgresql+psycopg://u:pw@h/d and amqp://u:pw@h", "see postgresql+psycopg://***@h/d and amqp://***@h"),
        ("amqp://u:p@one:1/v,amqp://u:p,w@two,amqps://u:p@3/", "amqp://***@one:1/v,amqp://***@two,amqps://***@3/"),
        ("amqp://u:a,amqp://b@one/", "amqp://***@one/"),
        ("https://token@host/x", "https://***@host/x"),
        ("postgresql://h/d?user=u&password=pw&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("https://h/a?X-Amz-Credential=A/b&n=1", "https://h/a?X-Amz-Credential=***&n=1"),
        ("https://h/a?n=1&X-Amz-Signature=1f", "https://h/a?n=1&X-Amz-Signature=***"),
        ("https://h/a?sv=1&sig=x%2F&AWSAccessKeyId=A&key=K", "https://h/a?sv=1&sig=***&AWSAccessKeyId=***&key=***"),
        ("a monkey=1 with design=2", "a monkey=1 with design=2"),
        ("tcp://127.0.0.1:7600", "tcp://127.0.0.1:7600"),
        ("mail me@example.org", "mail me@example.org"),
        ("", ""),
    ],
)
def test_redact_url_hides_the_userinfo_and_nothing_else(text: str, shown: str) -> None:
    assert redact_url(text) == shown
