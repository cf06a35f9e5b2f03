"""Sets up structlog: one line an event on standard error, as text or JSON, and never a password in it.

Libraries that log through the standard library (pika, uvicorn, SQLAlchemy) come out of the same pipe.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from windrow.common.errors import ConfigError
from windrow.common.redact import redact_url

__all__ = ["LEVELS", "redact_url", "setup_logs"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINE_CHARS_MAX = 16_384
"""A longer line loses its middle."""

_NOISY = ("pika", "uvicorn", "uvicorn.access", "asyncio", "alembic")
"""Libraries whose news is ours to tell; only their warnings come through."""


def setup_logs(level: str = "info", format: str = "text", stream: TextIO | None = None) -> None:  # noqa: A002
    """Log from `level` on to `stream` (standard error), as `text` or `json`. May be called again."""
    if level not in LEVELS:
        raise ConfigError(f"log.level = {level!r}: must be one of {', '.join(LEVELS)}")
    if format not in {"text", "json"}:
        raise ConfigError(f"log.format = {format!r}: must be text or json")
    render = _render_json if format == "json" else _render_text
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Loggers are made at import of their modules, before this call: a cached one would keep the old set-up.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: takes passwords out of every string of the event, however deep."""
    return {key: _redact(value) for key, value in event.items()} if event else event


def _redact(value: Any) -> Any:
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, dict):
        return {key: _redact(entry) for key, entry in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_redact(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    if value is None or isinstance(value, bool | int | float):
        return value
    # Whatever else is shown as its text; the record that ProcessorFormatter hides in the event must stay what it is.
    return value if isinstance(value, logging.LogRecord) else redact_url(str(value))


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    ordered = {key: event.pop(key, "") for key in ("timestamp", "level", "event")}
    return json.dumps({**ordered, **event}, default=str, ensure_ascii=False)


def _render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time, level, text = (str(event.pop(key, "")) for key in ("timestamp", "level", "event"))
    pairs = " ".join(f"{key}={_quoted(value)}" for key, value in event.items())
    line = f"{time} {level:<7} {_one_line(text)}" + (f"  {pairs}" if pairs else "")
    half = LINE_CHARS_MAX // 2
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:half]} … {line[-half:]}"


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(sign in text for sign in " =\"'")
    return text if plain else _one_line(json.dumps(text, ensure_ascii=False))


def _one_line(text: str) -> str:
    # Control characters too: a task's message must not steer the terminal.
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
