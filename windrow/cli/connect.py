"""Opens the client that a command talks through; the one place where commands meet the client and the export."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, cast
from urllib.parse import urlsplit

from windrow.cli.flags import Common, url_is_given
from windrow.cli.output import note
from windrow.cli.ports import ClientPort, ExportPreviewPort, ExportRunPort
from windrow.common.config import Config

PROBE_S = 1.0


def open_client(config: Config, timeout_s: float | None = None) -> ClientPort:
    """A client for the scheduler that the settings name."""
    windrow: Any = importlib.import_module("windrow")
    client: object = windrow.Client(config.client.url, timeout=timeout_s or config.client.timeout_s)
    return cast(ClientPort, client)


def connect(common: Common) -> ClientPort:
    """A client as --url and --config say."""
    return open_client(common.config())


def needs_own_cluster(config: Config) -> bool:
    """Whether there is no cluster to use: nobody named an address, and nothing answers at the usual one."""
    return not (url_is_given(config) or something_listens(config.client.url))


def open_own_cluster(config: Config, **options: bool) -> AbstractContextManager[ClientPort]:
    """A cluster for as long as the context lasts, said in a line; `options` are those of windrow.local."""
    note(f"windrow: nothing answers at {config.client.url} and no --url is given: using a cluster of my own for this")
    return open_embedded(config.node.slots, **options)


def open_embedded(slots: int, **options: bool) -> AbstractContextManager[ClientPort]:
    """A cluster of its own, for as long as the context lasts."""
    windrow: Any = importlib.import_module("windrow")
    return cast("AbstractContextManager[ClientPort]", windrow.local(slots=slots, **options))


def begin_export(client: ClientPort, options: Mapping[str, object]) -> ExportRunPort:
    """Start an export; `options` are source, dest and the names of the flags."""
    export: Any = importlib.import_module("windrow.export")
    return cast(ExportRunPort, export.start_export(client, export.spec_from_options(options)))


def read_export_spec(path: str) -> dict[str, object]:
    """The options in a TOML file."""
    export: Any = importlib.import_module("windrow.export")
    return cast("dict[str, object]", export.read_spec_file(path))


def preview_export(config: Config, options: Mapping[str, object]) -> ExportPreviewPort:
    """What an export would be; found out here where the scheduler is on this machine, else by a node."""
    export: Any = importlib.import_module("windrow.export")
    spec = export.spec_from_options(options)
    return cast(ExportPreviewPort, export.preview(config.client.url, lambda: open_client(config), spec))


def something_listens(url: str) -> bool:
    """Whether anything takes connections at a tcp:// address."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), PROBE_S):
            return True
    except OSError:
        return False
