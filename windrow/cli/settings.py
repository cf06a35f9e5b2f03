"""Turns the configuration into the settings of the daemons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from windrow.common.config import OWN_FOLDER, Config, OriginKind

if TYPE_CHECKING:
    from pathlib import Path

    from windrow.node.settings import NodeSettings
    from windrow.scheduler.settings import SchedulerSettings


def daemon_dir(config: Config, name: str) -> Path:
    """The state folder of one daemon: what --state or systemd names, else a folder of its own in the common one.

    File, WINDROW_STATE_DIR and default are shared by all daemons of a machine; flag and unit are meant for one.
    """
    origin = config.origin("state_dir")
    own = origin.kind is OriginKind.FLAG or origin == OWN_FOLDER
    return config.state_dir if own else config.state_dir / name


def scheduler_settings(config: Config) -> SchedulerSettings:
    """What the scheduler is started with."""
    from windrow.scheduler.settings import SchedulerSettings

    section = config.scheduler
    return SchedulerSettings(
        state_dir=daemon_dir(config, "scheduler"),
        bind=section.bind,
        port=section.port,
        http_port=section.http_port,
        amqp_url=section.amqp_url,
        store_url=section.store_url,
        queue_type=section.queue_type,
        heartbeat_s=section.heartbeat_s,
        lease_s=section.lease_s,
        confirm_timeout_s=section.confirm_timeout_s,
        results_kept_days=section.results_kept_days,
        failures_kept_days=section.failures_kept_days,
        nodes_kept_days=section.nodes_kept_days,
    )


def node_settings(config: Config) -> NodeSettings:
    """What a node is started with."""
    from windrow.node.settings import NodeSettings

    section = config.node
    return NodeSettings(
        url=config.client.url,
        state_dir=daemon_dir(config, "node"),
        slots=section.slots,
        name=section.name,
        amqp_url=section.amqp_url or config.scheduler.amqp_url,
        tasks=section.tasks,
        allow=section.allow,
        allow_commands=section.allow_commands,
        queues=section.queues,
        labels=dict(section.labels),
        grace_s=section.grace_s,
        spool_bytes_max=section.spool_bytes_max,
        feed_s=section.feed_s,
        cancel_grace_s=section.cancel_grace_s,
        worker_memory_bytes_max=section.worker_memory_bytes_max,
        recycle_items=section.recycle_items,
        recycle_bytes=section.recycle_bytes,
    )
