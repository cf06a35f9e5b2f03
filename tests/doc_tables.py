"""Writes the tables of docs/configuration.md and docs/cli.md from the code: `python -m tests.doc_tables`."""

from __future__ import annotations

from pathlib import Path

import click

from windrow.cli.app import COMMANDS, app
from windrow.cli.flags import FLAG_NAMES
from windrow.common.config import SHORT_NAMES
from windrow.common.settings_model import SECTIONS, Settings, show

DOCS = Path(__file__).resolve().parents[1] / "docs"
CONFIGURATION, CLI = DOCS / "configuration.md", DOCS / "cli.md"
BEGIN, END = "<!-- made by python -m tests.doc_tables: begin -->", "<!-- end -->"
COMMON = frozenset({"url", "config", "json"})

MADE_DEFAULTS = {
    "state_dir": "`~/.local/state/windrow`",
    "node.slots": "one for each core",
    "node.name": "the host's name",
}
"""Settings whose default depends on the machine → what to say."""

MEANINGS = {
    "state_dir": "Where the store, nodes' identities and unsent outcomes lie. From file, environment or default it is "
    "shared: each daemon takes a folder in it. From the flag, or from systemd, it is the daemon's own.",
    "client.url": "Where clients, commands and nodes find the scheduler.",
    "client.timeout_s": "How long a request may go unanswered before it is an error.",
    "scheduler.bind": "Address of the control port and of HTTP. Loopback only, until there are access keys.",
    "scheduler.port": "Control port.",
    "scheduler.http_port": "Port of `/metrics`, `/healthz`, `/readyz`, `/sd` and the first page.",
    "scheduler.amqp_url": "RabbitMQ that chunks go through; empty: they go to nodes directly (`local:`). "
    "Of a cluster of brokers all, with commas between them: one is used, and the next when it is lost.",
    "scheduler.store_url": "Where the store is. Today only SQLite is served.",
    "scheduler.queue_type": "Of the node queues. quorum is for clusters of brokers.",
    "scheduler.heartbeat_s": "How often a node reports when it has no news.",
    "scheduler.lease_s": "A node that was not heard for so long loses its chunks to others.",
    "scheduler.confirm_timeout_s": "A published chunk that RabbitMQ has not confirmed by then is placed again.",
    "scheduler.results_kept_days": "A job that was done or cancelled is kept for so long after its end, then removed "
    "with all that belongs to it. A `key` is remembered as long as its job.",
    "scheduler.failures_kept_days": "The same of a job that failed.",
    "scheduler.nodes_kept_days": "A node that was lost or has left is forgotten so long after it was heard last, and "
    "its queue deleted; one that is drained is not. It may come back at any time.",
    "node.slots": "Worker processes, each with one item at a time.",
    "node.name": "What people see in lists and logs.",
    "node.queues": "Which queues the node serves: it gets chunks only of jobs in one of them.",
    "node.labels": "Shown with the node.",
    "node.tasks": "What the workers import to find tasks.",
    "node.allow": "Modules whose own plain functions may be called without the decorator.",
    "node.allow_commands": "Whether jobs of shell commands (`windrow run`) may run on this node.",
    "node.amqp_url": "RabbitMQ as seen from the node, where that differs from the scheduler's.",
    "node.grace_s": "After SIGTERM: time for items at work to finish; then they are cut off and run elsewhere.",
    "node.spool_bytes_max": "Outcomes on disk that the scheduler has not taken yet; beyond it no new work is started.",
    "node.feed_s": "How much measured work a worker is given at a time.",
    "node.cancel_grace_s": "Time for a running item of a cancelled job to end by itself; then its worker is killed.",
    "node.worker_memory_bytes_max": "A worker above it is killed, and its item fails as crashed.",
    "node.recycle_items": "A worker that has run so many items is replaced after its current ones.",
    "node.recycle_bytes": "A worker above so much memory is replaced after its current items.",
    "log.level": "What is logged from here on.",
    "log.format": "text for people, json for machines.",
}


def configuration_tables() -> str:
    """A table for each section, in the order of the model."""
    short = {key: variable for variable, keys in SHORT_NAMES.items() for key in keys}
    parts = ["### Above all sections", *_setting_table(["state_dir"], short)]
    for section, model in SECTIONS.items():
        parts += [f"### `[{section}]`", *_setting_table([f"{section}.{name}" for name in model.model_fields], short)]
    return "\n\n".join(parts)


def _setting_table(keys: list[str], short: dict[str, str]) -> list[str]:
    head = "| setting | default | allowed | what it does | flag | environment |\n|---|---|---|---|---|---|\n"
    return [head + "\n".join(_setting_row(key, short) for key in keys)]


def _setting_row(key: str, short: dict[str, str]) -> str:
    section, _, name = key.rpartition(".")
    field = (SECTIONS[section] if section else Settings).model_fields[name]
    if key in MADE_DEFAULTS:
        default = MADE_DEFAULTS[key]
    else:
        shown = show(field.get_default(call_default_factory=True))
        default = f"`{shown}`" if shown else "empty"
    flag = f"`{FLAG_NAMES[key]}`" if key in FLAG_NAMES else ""
    long = f"WINDROW_{key.replace('.', '__').upper()}"
    variables = f"`{short[key]}` or `{long}`" if key in short else f"`{long}`"
    allowed = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {default} | {allowed} | {MEANINGS[key]} | {flag} | {variables} |"


def command_sections() -> str:
    """A section for each command: its line of usage, its text, its own flags."""
    parts: list[str] = []
    with click.Context(app, info_name="windrow", **app.context_settings) as above:
        for name in COMMANDS:
            command = app.get_command(above, name)
            assert command is not None
            # With its own settings: click keeps the help flag that it makes here, in the command itself.
            with click.Context(command, info_name=name, parent=above, **command.context_settings) as context:
                parts.append(_command_section(name, command, context))
    return "\n\n".join(parts)


def _command_section(name: str, command: click.Command, context: click.Context) -> str:
    arguments = " ".join(part for part in command.collect_usage_pieces(context) if part != "[OPTIONS]")
    options = [
        option
        for option in command.get_params(context)
        if isinstance(option, click.Option)
        and not option.hidden
        and option.name not in COMMON
        and "--help" not in option.opts
    ]
    usage = " ".join(part for part in ("windrow", name, "[FLAGS]" if options else "", arguments) if part)
    lines = [f"### `{usage}`", " ".join((command.help or "").split())]
    if options:
        rows = [_flag_row(option, context) for option in options]
        lines.append("\n".join(["| flag | does |", "|---|---|", *rows]))
    return "\n\n".join(lines)


def _flag_row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    flag, text = (part.replace("|", "\\|") for part in record)
    return f"| `{flag}` | {' '.join(text.split())} |"


def text_with_tables(text: str, tables: str) -> str:
    """The document with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


DOCUMENTS = {CONFIGURATION: configuration_tables, CLI: command_sections}

if __name__ == "__main__":
    for document, make in DOCUMENTS.items():
        document.write_text(text_with_tables(document.read_text(encoding="utf-8"), make()), encoding="utf-8")
