"""The settings that a configuration may hold: sections, keys, defaults and what each value must be.

The description of a field says what is allowed; it is what people read when a value is refused.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from windrow.common.broker_urls import split_broker_urls
from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.redact import redact_url

DEFAULT_URL = "tcp://127.0.0.1:7600"
_CONTROL_URL = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+):\d{1,5}|ipc://\S+")
_LOOPBACK_ONLY = "everything binds to loopback until keys are set, and there are no keys yet: use 127.0.0.1"


def _split(value: object) -> object:
    """`a,b` from flags and environment as (a, b)."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _split_labels(value: object) -> object:
    """`k=v,l=w` from flags and environment as a table."""
    if not isinstance(value, str):
        return value
    pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ValueError("labels are name=value, with commas between them")
    return {name.strip(): label.strip() for name, _, label in pairs}


def _off_is_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in {"off", "none", "no"} else value


def _not_bool(value: object) -> object:
    # pydantic would take `true` for the number 1.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


_UNITS = {"k": 10, "m": 20, "g": 30, "t": 40}


def _bytes_of(value: object) -> object:
    """`512M`, `2G` as a number of bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(i?b)?", value.strip().lower()) if isinstance(value, str) else None
    return int(float(found[1]) * (1 << _UNITS[found[2]])) if found else _not_bool(value)


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) or 1


def default_state_dir() -> Path:
    """The user's own."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path("~/.local/state").expanduser()) / "windrow"


_WORKER_BYTES_MIN = 64 << 20
"""Below it every worker would be over its limit before its first item."""

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_split)]
Port = Annotated[int, BeforeValidator(_not_bool), Field(ge=0, le=65535)]
HttpPort = Annotated[Port | None, BeforeValidator(_off_is_none)]
Bytes = Annotated[int, BeforeValidator(_bytes_of), Field(ge=0, le=1 << 50)]
KeptDays = Annotated[float | None, BeforeValidator(_off_is_none), BeforeValidator(_not_bool), Field(gt=0, le=36500)]
Seconds = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=86400, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_amqp(value: str) -> str:
    if value in {"", "local:"}:
        return ""
    urls = split_broker_urls(value)
    if any(re.search(r"\s|,$|,[\w+.-]+:(//|$)", url) or not re.match(r"amqps?://.", url) for url in urls):
        raise ValueError(
            "must be the address of a RabbitMQ, amqp://… or amqps://…, or one for each broker of a cluster with commas "
            "between them, or empty for local:"
        )
    return ",".join(urls)


class ClientSection(_Section):
    """How clients and nodes find the scheduler."""

    url: str = Field(default=DEFAULT_URL, description="the scheduler's address: tcp://host:port")
    timeout_s: Seconds = Field(default=10.0, description="seconds to wait for an answer, above 0 to 86400")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not _CONTROL_URL.fullmatch(value):
            raise ValueError("must be the scheduler's address: tcp://host:port")
        return value


class SchedulerSection(_Section):
    """The scheduler daemon."""

    bind: str = Field(default="127.0.0.1", description="a loopback address, e.g. 127.0.0.1")
    port: Port = Field(default=7600, description="a port, 0 to 65535 (0: any free one)")
    http_port: HttpPort = Field(default=7680, description="a port, 0 to 65535 (0: any free one), or off")
    amqp_url: str = Field(
        default="",
        description="the address of a RabbitMQ, amqp://… or amqps://…, or several with commas, or empty for local:",
    )
    store_url: str = Field(default="", description="sqlite:///path, or empty for SQLite in the state folder")
    queue_type: Literal["classic", "quorum"] = Field(default="classic", description="classic or quorum")
    heartbeat_s: Seconds = Field(default=1.0, description="seconds, above 0 to 86400")
    lease_s: Seconds = Field(default=6.0, description="seconds, at least twice heartbeat_s")
    confirm_timeout_s: Seconds = Field(default=5.0, description="seconds, above 0 to 86400")
    results_kept_days: KeptDays = Field(default=7.0, description="days, above 0 to 36500, or off for ever")
    failures_kept_days: KeptDays = Field(default=30.0, description="days, above 0 to 36500, or off for ever")
    nodes_kept_days: KeptDays = Field(default=7.0, description="days, above 0 to 36500, or off for ever")

    _amqp = field_validator("amqp_url")(_check_amqp)

    @field_validator("bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        if value == "localhost":
            return "127.0.0.1"
        try:
            loopback = ipaddress.IPv4Address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(_LOOPBACK_ONLY)
        return value

    @field_validator("store_url")
    @classmethod
    def _store(cls, value: str) -> str:
        if value and not re.fullmatch(r"sqlite:///\S+", value):
            raise ValueError("must be sqlite:///path, or empty for SQLite in the state folder")
        return value

    @model_validator(mode="after")
    def _lease(self) -> SchedulerSection:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g})")
        return self


class NodeSection(_Section):
    """The node daemon."""

    slots: Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=4096)] = Field(
        default_factory=core_count, description="a number of worker processes, 1 to 4096"
    )
    name: Name = Field(
        default_factory=lambda: socket.gethostname() or "node", description=f"a name, 1 to {NAME_CHARS_MAX} characters"
    )
    queues: Annotated[Names, Field(min_length=1, max_length=256)] = Field(
        default=("default",), description="names of queues, at least one"
    )
    labels: Annotated[dict[str, str], BeforeValidator(_split_labels)] = Field(
        default_factory=dict[str, str], description="labels as name=value, with commas between them"
    )
    tasks: Names = Field(default=(), description="modules, packages, or files ./my.py that define tasks")
    allow: Names = Field(default=(), description="modules whose plain functions may be called")
    allow_commands: bool = Field(default=False, description="true or false")
    amqp_url: str = Field(
        default="",
        description="the address of a RabbitMQ, amqp://… or amqps://…, or several with commas, or empty for "
        "scheduler.amqp_url",
    )
    grace_s: Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=86400, allow_inf_nan=False)] = Field(
        default=30.0, description="seconds, 0 to 86400"
    )
    spool_bytes_max: Annotated[int, BeforeValidator(_not_bool), Field(ge=1 << 20, le=1 << 50)] = Field(
        default=256 << 20, description="bytes, at least 1048576"
    )
    feed_s: Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=60, allow_inf_nan=False)] = Field(
        default=0.1, description="seconds of work, above 0 to 60"
    )
    cancel_grace_s: Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=86400, allow_inf_nan=False)] = Field(
        default=5.0, description="seconds, 0 to 86400"
    )
    worker_memory_bytes_max: Bytes = Field(
        default=0, description="bytes, such as 512M or 2G, at least 64M; or 0 for no limit"
    )
    recycle_items: Annotated[int, BeforeValidator(_not_bool), Field(ge=0, le=1 << 53)] = Field(
        default=0, description="a number of items; or 0 for never"
    )
    recycle_bytes: Bytes = Field(default=0, description="bytes, such as 512M or 2G, at least 64M; or 0 for never")

    _amqp = field_validator("amqp_url")(_check_amqp)

    @field_validator("worker_memory_bytes_max", "recycle_bytes")
    @classmethod
    def _enough(cls, value: int) -> int:
        if 0 < value < _WORKER_BYTES_MIN:
            raise ValueError("no worker gets along with less than 64M")
        return value


class LogSection(_Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["text", "json"] = Field(default="text", description="text or json")


class Settings(BaseSettings):
    """Every setting, decided and validated."""

    model_config = SettingsConfigDict(
        env_prefix="WINDROW_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
    )

    state_dir: Path = Field(default_factory=default_state_dir, description="a folder for what must outlive a restart")
    client: ClientSection = Field(default_factory=ClientSection)
    scheduler: SchedulerSection = Field(default_factory=SchedulerSection)
    node: NodeSection = Field(default_factory=NodeSection)
    log: LogSection = Field(default_factory=LogSection)

    @field_validator("state_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return Path(os.path.abspath(value.expanduser()))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The other sources are read one by one in config.py, so that each value's origin is known.
        return (init_settings,)


SECTIONS: dict[str, type[BaseModel]] = {
    "client": ClientSection,
    "scheduler": SchedulerSection,
    "node": NodeSection,
    "log": LogSection,
}


def find_description(key: str) -> str:
    """What is allowed for the setting `section.key`; empty where there is no such setting."""
    section, _, name = key.rpartition(".")
    fields = SECTIONS.get(section, Settings).model_fields
    return (fields[name].description or "") if name in fields else ""


def show(value: object) -> str:
    """A setting's value on one line, without passwords."""
    if value is None:
        return "off"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return redact_url(",".join(str(part) for part in value))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, dict):
        return ",".join(f"{name}={label}" for name, label in value.items())  # pyright: ignore[reportUnknownVariableType]
    return redact_url(str(value))
