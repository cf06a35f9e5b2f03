"""The flags that every command takes, and what they come to: address, configuration, way of output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from windrow.common.config import Config, OriginKind, load_config

P = ParamSpec("P")

HELP_FLAGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

FLAG_NAMES: dict[str, str] = {
    "client.url": "--url",
    "state_dir": "--state",
    "scheduler.bind": "--bind",
    "scheduler.port": "--port",
    "scheduler.http_port": "--http-port",
    "scheduler.amqp_url": "--amqp",
    "scheduler.store_url": "--store",
    "node.slots": "--slots",
    "node.queues": "--queues",
    "node.labels": "--labels",
    "node.tasks": "--tasks",
    "node.allow": "--allow",
    "node.allow_commands": "--allow-commands",
    "node.name": "--name",
    "node.amqp_url": "--amqp",
    "node.worker_memory_bytes_max": "--worker-memory",
    "log.level": "--log-level",
}
"""Setting → the flag that gives it."""


@dataclass(frozen=True, slots=True)
class Common:
    """What --url, --config and --json of this call said."""

    url: str | None
    config_path: Path | None
    json: bool

    def config(self, flags: Mapping[str, object] | None = None) -> Config:
        """The settings in force, these flags on top."""
        given = {**(flags or {}), "client.url": self.url}
        return load_config(self.config_path, given, FLAG_NAMES)


def url_is_given(config: Config) -> bool:
    """Whether somebody named an address; the default one may be replaced by an embedded cluster."""
    return config.origin("client.url").kind is not OriginKind.DEFAULT


def windrow_command(
    name: str, kind: type[click.Command] = click.Command
) -> Callable[[Callable[Concatenate[Common, P], int | None]], click.Command]:
    """A click command with the common flags, whose function gets a `Common` first and may return an exit code."""

    def make(function: Callable[Concatenate[Common, P], int | None]) -> click.Command:
        @functools.wraps(function)
        def call(url: str | None, config: Path | None, json: bool, *args: P.args, **kwargs: P.kwargs) -> int | None:
            return function(Common(url, config, json), *args, **kwargs)

        for flag in (
            click.option("--json", is_flag=True, help="Machine-readable output with stable keys."),
            click.option(
                "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings file, instead of the usual."
            ),
            click.option("--url", metavar="URL", help="Address of the scheduler, e.g. tcp://127.0.0.1:7600."),
        ):
            call = flag(call)
        return click.command(name, kind, context_settings=HELP_FLAGS)(call)

    return make


worker_memory_flag = click.option(
    "--worker-memory", metavar="BYTES", help="Kill a worker that has more memory, e.g. 512M, 2G; without: no limit."
)

allow_commands_flag = click.option(
    "--allow-commands", is_flag=True, default=None, help="Let jobs of shell commands (windrow run) run here."
)

log_level_flag = click.option(
    "--log-level", metavar="LEVEL", help="Log from here on: debug, info (the default), warning or error."
)
