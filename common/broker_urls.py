"""Splits the addresses of a cluster of brokers, which are one setting."""

from __future__ import annotations

import re

_BORDER = re.compile(r",\s*(?=amqps?://)")
"""A comma alone is none: a password may have one."""


def split_broker_urls(text: str) -> tuple[str, ...]:
    """One AMQP URL for each broker, in the order in which they are tried."""
    return tuple(_BORDER.split(text))
