"""The version of this installation."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def windrow_version() -> str:
    """Of the distribution `windrow-engine`; `unknown` in a bare checkout."""
    try:
        return version("windrow-engine")
    except PackageNotFoundError:
        return "unknown"
