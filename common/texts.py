"""Texts for people that more than one place writes."""

from __future__ import annotations


def counted(number: int, one: str, many: str, shown: str = "") -> str:
    """`1 item has`, `2 items have`; `shown` is the number as it is to be written, where not plainly."""
    return f"{shown or number} {one if number == 1 else many}"
