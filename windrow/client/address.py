"""Finds the scheduler's address: argument, else WINDROW_URL, else the configuration file, else this machine."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable

from windrow.common.errors import UsageError

URL_DEFAULT = "tcp://127.0.0.1:7600"
_URL = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):([0-9]{1,5})|ipc://\S+")


def find_address(url: str | None) -> str:
    """The address to use; UsageError where it is not one."""
    found = url or os.environ.get("WINDROW_URL") or _configured() or URL_DEFAULT
    match = _URL.fullmatch(found)
    if match is None or (match[2] and not 0 < int(match[2]) < 65536):
        raise UsageError(f"{found!r} is not the address of a scheduler: it looks like {URL_DEFAULT}")
    return found


def _configured() -> str | None:
    # Found by name and late: reading the configuration brings pydantic, which `import windrow` must not wait for.
    try:
        config = importlib.import_module("windrow.common.config")
    except ModuleNotFoundError:
        return None
    find_url: Callable[[], str | None] = config.find_url
    return find_url()
