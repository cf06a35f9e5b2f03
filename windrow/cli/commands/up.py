"""`windrow up`: a scheduler and nodes on this machine, in the foreground, on loopback only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import click

from windrow.cli.child import Child, make_folder
from windrow.cli.connect import open_client
from windrow.cli.flags import Common, allow_commands_flag, log_level_flag, windrow_command, worker_memory_flag
from windrow.cli.output import note, print_json
from windrow.cli.ports import ClientPort
from windrow.cli.supervise import ChildFailed, Plan, Ready, Signals, Supervisor, write_ready
from windrow.common.config import Config, OriginKind
from windrow.common.errors import ConfigError, Unreachable, UsageError
from windrow.common.texts import counted


@windrow_command("up")
@click.option("--nodes", type=click.IntRange(1, 256), default=1, show_default=True, help="How many nodes.")
@click.option("--slots", metavar="N", help="Worker processes of each node; without: the cores, shared by the nodes.")
@click.option(
    "--tasks", multiple=True, metavar="T", help="Module, package or file ./my.py with tasks; repeat for more."
)
@click.option(
    "--allow", multiple=True, metavar="M", help="Module whose plain functions may be called; repeat for more."
)
@allow_commands_flag
@click.option("--state", metavar="DIR", help="State folder; each daemon gets a folder in it.")
@click.option(
    "--amqp",
    metavar="URL",
    help="RabbitMQ, amqp://user:password@host:port/vhost, or several with commas; without: local:.",
)
@click.option("--port", metavar="PORT", help="Control port, 7600 by default; 0: any free one.")
@click.option("--http-port", metavar="PORT", help="HTTP port, 7680 by default; 0: any free one; off: no HTTP.")
@worker_memory_flag
@log_level_flag
def up_command(
    common: Common,
    nodes: int,
    slots: str | None,
    tasks: tuple[str, ...],
    allow: tuple[str, ...],
    allow_commands: bool | None,
    state: str | None,
    amqp: str | None,
    port: str | None,
    http_port: str | None,
    worker_memory: str | None,
    log_level: str | None,
) -> int:
    """Start a scheduler and nodes on this machine, in the foreground; prints `ready` when it takes work.

    Everything binds to loopback. Ctrl-C finishes what runs and stops; a second Ctrl-C kills.
    """
    if common.url is not None:
        raise UsageError("up starts a scheduler of its own: choose its address with --port instead of --url")
    config = common.config(
        {
            "node.slots": slots,
            "node.tasks": tasks or None,
            "node.allow": allow or None,
            "node.allow_commands": allow_commands,
            "state_dir": state,
            "scheduler.amqp_url": amqp,
            "node.amqp_url": amqp,
            "scheduler.port": port,
            "scheduler.http_port": http_port,
            "node.worker_memory_bytes_max": worker_memory,
            "log.level": log_level,
        }
    )
    from windrow.common.logs import setup_logs

    setup_logs(config.log.level, config.log.format)
    return _run(common, config, nodes)


def _run(common: Common, config: Config, nodes: int) -> int:
    signals = Signals()
    clients = ExitStack()
    supervisor = Supervisor(_plan(common, config, nodes, clients), signals)
    signals.install()
    code = 0
    own_file = config.state_dir / "scheduler.json"
    try:
        with clients:
            ready = supervisor.bring_up()
        if ready is not None:
            # Of the whole, beside the scheduler's own: scripts that chose the state folder find the address there.
            write_ready(own_file, Ready(ready.url, ready.http, os.getpid()))
            _say_ready(common, ready, nodes)
            supervisor.keep_up()
    except ChildFailed as error:
        note(f"windrow: {error.message}")
        code = error.exit_code
    own_file.unlink(missing_ok=True)
    if code == 0:
        note("windrow: finishing what runs, then stopping; once more kills")
    clean = supervisor.stop()
    return code if clean else code or 1


def _plan(common: Common, config: Config, nodes: int, clients: ExitStack) -> Plan:
    base = config.state_dir
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    for name in ("scheduler", *names):
        try:
            make_folder(base / name)
        except OSError as error:
            raise ConfigError(f"state folder {base / name}: {error.strerror}; choose another with --state") from None
    scheduler = Child("scheduler", _scheduler_arguments(common, config, base), _broker(config.scheduler.amqp_url))

    def make_nodes(url: str) -> list[Child]:
        slots = _slots(config, nodes)
        broker = _broker(config.node.amqp_url or config.scheduler.amqp_url)
        return [Child(name, _node_arguments(common, config, base, name, slots, url), broker) for name in names]

    def pin_ports(ready: Ready) -> None:
        _replace(scheduler.arguments, "--port", ready.url)
        _replace(scheduler.arguments, "--http-port", ready.http)

    return Plan(
        scheduler=scheduler,
        ready_file=base / "scheduler" / "scheduler.json",
        make_nodes=make_nodes,
        pin_ports=pin_ports,
        count_alive=_counter(common, names, clients),
        grace_s=config.node.grace_s,
    )


def _broker(url: str) -> dict[str, str]:
    """The broker's address by environment: an argument can be read by every user of the machine."""
    return {"WINDROW_AMQP_URL": url or "local:"}


def _shared_arguments(common: Common, config: Config) -> list[str]:
    chosen = ["--config", str(common.config_path)] if common.config_path else []
    return [*chosen, "--log-level", config.log.level]


def _scheduler_arguments(common: Common, config: Config, base: Path) -> list[str]:
    section = config.scheduler
    http_port = "off" if section.http_port is None else str(section.http_port)
    return [
        "scheduler",
        *_shared_arguments(common, config),
        *("--bind", "127.0.0.1"),
        *("--port", str(section.port)),
        *("--http-port", http_port),
        *("--state", str(base / "scheduler")),
    ]


def _node_arguments(common: Common, config: Config, base: Path, name: str, slots: int, url: str) -> list[str]:
    section = config.node
    return [
        "node",
        *_shared_arguments(common, config),
        *("--url", url),
        *("--name", name),
        *("--slots", str(slots)),
        *("--state", str(base / name)),
        *("--worker-memory", str(section.worker_memory_bytes_max)),
        *(part for source in section.tasks for part in ("--tasks", source)),
        *(part for module in section.allow for part in ("--allow", module)),
        *(["--allow-commands"] if section.allow_commands else []),
    ]


def _slots(config: Config, nodes: int) -> int:
    """As set, else the cores shared by the nodes."""
    given = config.origin("node.slots").kind is not OriginKind.DEFAULT
    return config.node.slots if given else max(1, config.node.slots // nodes)


def _replace(arguments: list[str], flag: str, address: str | None) -> None:
    """Put the port of `address` where that flag's value stands."""
    port = urlsplit(address).port if address else None
    if port:
        arguments[arguments.index(flag) + 1] = str(port)


def _counter(common: Common, names: list[str], clients: ExitStack) -> Callable[[str], int]:
    opened: list[ClientPort] = []

    def count_alive(url: str) -> int:
        # One client for all the asking, made when the address is known; `clients` closes it.
        if not opened:
            config = Common(url, common.config_path, common.json).config()
            opened.append(clients.enter_context(open_client(config, timeout_s=2.0)))
        try:
            return sum(node.name in names and node.state == "alive" for node in opened[0].nodes())
        except (Unreachable, TimeoutError):
            return 0

    return count_alive


def _say_ready(common: Common, ready: Ready, nodes: int) -> None:
    note(f"scheduler {ready.url}, {counted(nodes, 'node', 'nodes')}; clients find it with --url or WINDROW_URL")
    if ready.http:
        note(f"metrics and health at {ready.http}")
    if common.json:
        facts: Mapping[str, object] = {"ready": True, "url": ready.url, "http": ready.http, "pid": os.getpid()}
        print_json(facts)
    else:
        click.echo("ready")
    sys.stdout.flush()
