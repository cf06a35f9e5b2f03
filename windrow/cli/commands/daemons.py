"""`windrow scheduler` and `windrow node`: the daemons, in the foreground, for systemd or a terminal."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from windrow.cli.flags import Common, allow_commands_flag, log_level_flag, windrow_command, worker_memory_flag
from windrow.cli.parent import die_with_parent
from windrow.cli.settings import node_settings, scheduler_settings
from windrow.common.config import Config


@windrow_command("scheduler")
@click.option("--bind", metavar="ADDR", help="Address to bind to; loopback only until keys are set.")
@click.option("--port", metavar="PORT", help="Control port, 7600 by default; 0: any free one.")
@click.option("--http-port", metavar="PORT", help="HTTP port, 7680 by default; 0: any free one; off: no HTTP.")
@click.option("--state", metavar="DIR", help="State folder of this scheduler.")
@click.option(
    "--amqp",
    metavar="URL",
    help="RabbitMQ, amqp://user:password@host:port/vhost, or several with commas; without: local:.",
)
@click.option("--store", metavar="URL", help="Store, sqlite:////path/windrow.db; without: in the state folder.")
@log_level_flag
def scheduler_command(
    common: Common,
    bind: str | None,
    port: str | None,
    http_port: str | None,
    state: str | None,
    amqp: str | None,
    store: str | None,
    log_level: str | None,
) -> int:
    """Run the scheduler daemon."""
    die_with_parent()
    config = _start(
        common,
        {
            "scheduler.bind": bind,
            "scheduler.port": port,
            "scheduler.http_port": http_port,
            "state_dir": state,
            "scheduler.amqp_url": amqp,
            "scheduler.store_url": store,
            "log.level": log_level,
        },
    )
    settings = scheduler_settings(config)
    service: Any = importlib.import_module("windrow.scheduler.service")
    metrics: Any = importlib.import_module("windrow.monitoring.metrics")
    return int(service.run_scheduler(settings, metrics.render_metrics))


@windrow_command("node")
@click.option(
    "--tasks", multiple=True, metavar="T", help="Module, package or file ./my.py with tasks; repeat for more."
)
@click.option(
    "--allow", multiple=True, metavar="M", help="Module whose plain functions may be called; repeat for more."
)
@allow_commands_flag
@click.option("--slots", metavar="N", help="Worker processes; without: one for each core.")
@click.option("--queues", metavar="A,B", help="Queues to serve, `default` by default.")
@click.option("--labels", metavar="K=V,…", help="Labels of this node.")
@click.option("--name", metavar="NAME", help="Name that people see; without: the host's.")
@click.option("--state", metavar="DIR", help="State folder of this node.")
@click.option("--amqp", metavar="URL", help="RabbitMQ, where the scheduler uses it.")
@worker_memory_flag
@log_level_flag
def node_command(
    common: Common,
    tasks: tuple[str, ...],
    allow: tuple[str, ...],
    allow_commands: bool | None,
    slots: str | None,
    queues: str | None,
    labels: str | None,
    name: str | None,
    state: str | None,
    amqp: str | None,
    worker_memory: str | None,
    log_level: str | None,
) -> int:
    """Run a node daemon; it finds the scheduler by --url."""
    die_with_parent()
    config = _start(
        common,
        {
            "node.tasks": tasks or None,
            "node.allow": allow or None,
            "node.allow_commands": allow_commands,
            "node.slots": slots,
            "node.queues": queues,
            "node.labels": labels,
            "node.name": name,
            "state_dir": state,
            "node.amqp_url": amqp,
            "node.worker_memory_bytes_max": worker_memory,
            "log.level": log_level,
        },
    )
    settings = node_settings(config)
    # The current folder is importable, as with `python -m`; workers inherit the path.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    daemon: Any = importlib.import_module("windrow.node.daemon")
    return int(daemon.run_node(settings))


def _start(common: Common, flags: Mapping[str, object]) -> Config:
    """Settings read, logging set up: all that may be refused before anything runs."""
    config = common.config(flags)
    from windrow.common.logs import setup_logs

    setup_logs(config.log.level, "json" if common.json else config.log.format)
    return config
