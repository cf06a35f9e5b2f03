"""Gives memory that malloc keeps back to the system."""

from __future__ import annotations

import asyncio
import ctypes

TRIM_EVERY_S = 60.0


def trim_heap() -> None:
    """Give back each whole page that is free in the heap. A millisecond or so; nothing where libc is not glibc.

    By itself glibc gives back only what lies at the heap's end. Messages of all sizes come and go there between small
    objects that stay: with 10 MB in use a daemon had 5 MB of holes after a quarter of an hour. (Blocks of 128 KiB and
    more each mapped for themselves leave no holes either, but a node took twice the processor time for items of
    20 kB.)
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def trim_for_ever() -> None:
    """Now and then, until it is cancelled."""
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        trim_heap()
