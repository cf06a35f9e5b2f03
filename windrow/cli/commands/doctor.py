"""`windrow doctor`: checks everything that can be checked from here, and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from windrow.cli.commands.nodes import SERVING, find_version_differences, last_line
from windrow.cli.connect import open_client
from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import Column, note, print_json, print_table, size
from windrow.common.config import Config
from windrow.common.errors import ProtocolError, Unreachable, WindrowError
from windrow.common.messages import HealthInfo, NodeInfo

TIMEOUT_S = 5.0
FREE_BYTES_MIN = 1 << 30
OK, BAD, UNKNOWN = "ok", "bad", "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `detail` says what is the matter and what to do."""

    name: str
    state: str
    """`ok`, `bad` or `unknown`."""
    detail: str


@windrow_command("doctor")
def doctor_command(common: Common) -> int:
    """Check scheduler, versions, store, broker, nodes, disk and clock. Exit code 1 when something is bad, 3 when
    the scheduler is out of reach."""
    config = common.config()
    checks, code = _scheduler_checks(config)
    checks += [check_disk(config.state_dir), check_clock()]
    if common.json:
        print_json({"ok": all(check.state != BAD for check in checks), "checks": checks})
    else:
        rows = [[check.state, check.name, check.detail] for check in checks]
        print_table([Column("state"), Column("what", keep=True), Column("detail")], rows, "")
        bad = sum(check.state == BAD for check in checks)
        note(
            f"windrow: {bad} of {len(checks)} checks are bad" if bad else "all is well as far as can be seen from here"
        )
    return code or int(any(check.state == BAD for check in checks))


def _scheduler_checks(config: Config) -> tuple[list[Check], int]:
    url = config.client.url
    where = f"{url} ({config.origin('client.url')})"
    unseen = [Check(name, UNKNOWN, "the scheduler did not answer") for name in ("store", "broker", "nodes", "tasks")]
    try:
        with open_client(config, min(TIMEOUT_S, config.client.timeout_s)) as client:
            health, nodes = client.health(), list(client.nodes())
    except ProtocolError as error:
        return [Check("scheduler", BAD, f"{where}: {error.message}; bring both to one version"), *unseen], 1
    except (Unreachable, TimeoutError) as error:
        text = f"{where}: {error}"
        return [Check("scheduler", BAD, text), *unseen], 3
    except WindrowError as error:
        return [Check("scheduler", BAD, f"{where}: {error}"), *unseen], 1
    return list(_checks(where, health, nodes)), 0


def _checks(where: str, health: HealthInfo, nodes: list[NodeInfo]) -> Iterator[Check]:
    yield Check("scheduler", OK, f"{where} answers: epoch {health.epoch}, {health.jobs} jobs under way")
    yield check_version(health)
    yield Check("store", health.store, health.store_detail or _advice("the store", health.store))
    yield check_broker(health)
    yield check_nodes(nodes)
    yield from check_tasks(nodes)
    if health.messages_refused:
        text = f"{health.messages_refused} messages were refused: something else talks to the control port"
        yield Check("messages", UNKNOWN, text)


def check_version(health: HealthInfo) -> Check:
    """Whether this command and the scheduler are of one version."""
    mine = own_version()
    if health.version and mine and health.version != mine:
        text = f"scheduler {health.version}, this command {mine}: they understand each other; bring them to one version"
        return Check("version", UNKNOWN, text)
    return Check("version", OK, health.version or mine or "not installed as a package")


def own_version() -> str:
    """The version of this installation; empty where it is none."""
    try:
        return importlib.metadata.version("windrow-engine")
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_broker(health: HealthInfo) -> Check:
    """How the way of dispatch is."""
    if health.dispatch == "local":
        return Check("broker", OK, "not used: chunks go to nodes directly (local:)")
    return Check("broker", health.broker, health.broker_detail or _advice("RabbitMQ", health.broker))


def _advice(what: str, state: str) -> str:
    return {
        OK: "works",
        BAD: f"{what} is in trouble: see the scheduler's log",
    }.get(state, f"nothing is known of {what} yet: ask again in a moment")


def check_nodes(nodes: Iterable[NodeInfo]) -> Check:
    """Whether somebody works."""
    by_state: dict[str, list[NodeInfo]] = {}
    for node in nodes:
        by_state.setdefault(node.state, []).append(node)
    alive = by_state.get("alive", [])
    lost = [node.name for node in by_state.get("lost", [])]
    if not alive:
        waiting = " (some are draining: windrow resume NODE)" if "draining" in by_state else ""
        return Check("nodes", BAD, f"no node is alive{waiting}: start one with windrow node --tasks …")
    text = f"{len(alive)} alive with {sum(node.slots for node in alive)} slots"
    if lost:
        return Check("nodes", BAD, f"{text}; lost: {', '.join(lost[:5])}: see to their machines or the network")
    return Check("nodes", OK, text)


def check_tasks(nodes: list[NodeInfo]) -> Iterator[Check]:
    """Whether tasks were imported, and are the same everywhere."""
    errors = [(node, error) for node in nodes if node.state in SERVING for error in node.errors]
    for node, error in errors:
        text = f"node {node.name} could not import {error.source}: {last_line(error.error)}"
        yield Check("tasks", BAD, f"{text}; mend it and start the node again")
    differences = list(find_version_differences(nodes))
    for difference in differences:
        yield Check("tasks", BAD, difference)
    if not errors and not differences:
        names = {task.name for node in nodes if node.state in SERVING for task in node.tasks}
        yield Check(
            "tasks", OK if names else UNKNOWN, f"{len(names)} offered" if names else "no node offers any: --tasks"
        )


def check_disk(folder: Path) -> Check:
    """Whether the state folder can be written to and has room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return Check("disk", BAD, f"{there} cannot be written to: give it to this user, or choose another with --state")
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES_MIN:
        return Check("disk", BAD, f"{folder}: only {size(free)} free on this machine: make room")
    return Check("disk", OK, f"{folder}: {size(free)} free on this machine")


def check_clock() -> Check:
    """Whether this machine's clock is kept right: schedules and logs go by it."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return Check("clock", OK, "synchronised")
    tool = shutil.which("timedatectl")
    try:
        answer = _ask([tool, "show", "--property=NTPSynchronized", "--value"]) if tool else ""
    except (OSError, subprocess.SubprocessError):
        answer = ""
    if answer == "yes":
        return Check("clock", OK, "synchronised")
    if answer == "no":
        return Check("clock", BAD, "not synchronised: turn it on with timedatectl set-ntp true")
    return Check("clock", UNKNOWN, "this machine does not say whether its clock is synchronised")


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, timeout=3, text=True, check=False)
    return done.stdout.strip()
