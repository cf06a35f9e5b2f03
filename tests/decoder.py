"""A reader of bytes of strangers, as the fuzzers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from windrow.common.errors import WindrowError


@dataclass(frozen=True, slots=True)
class Decoder:
    """`read` ends, or raises one of `refusals`, or the decoder has a fault."""

    read: Callable[[bytes], object]
    refusals: tuple[type[WindrowError], ...]
    examples: tuple[bytes, ...]
