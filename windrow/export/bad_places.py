"""Notes where in a segment its bad rows and its surviving rows stand: a limit counts no bad row behind its last row.

One file for each part that a limit may cut: how many bad rows there are, their numbers among the segment's rows, and
the numbers of those that survive, each as 64 bits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from windrow.common.errors import ExportError
from windrow.export.model import Part, Plan


def places_wanted(plan: Plan, *, any_bad: bool) -> bool:
    """Whether it matters where the bad rows stand. A share is one of the rows read, so that all are counted then."""
    return plan.steps.limit is not None and (any_bad or plan.errors.percent is not None)


def places_bytes(bad: Sequence[int], kept: Any) -> list[bytes]:
    """The numbers of the bad rows and, an int64 column, those of the rows that survive."""
    buffer = kept.buffers()[1]
    rows = memoryview(buffer)[8 * kept.offset : 8 * (kept.offset + len(kept))] if len(kept) else b""
    return [array("q", [len(bad), *bad]).tobytes(), bytes(rows)]


def read_places(work: Path, name: str) -> tuple[Sequence[int], Sequence[int]]:
    """The numbers of the bad rows, and of those that survive."""
    numbers = array("q")
    try:
        numbers.frombytes((work / name).read_bytes())
        count = numbers[0]
    except (ValueError, IndexError):
        count = -1
    if not 0 <= count < len(numbers):
        raise _damaged(work, name)
    return numbers[1 : 1 + count], numbers[1 + count :]


def _damaged(work: Path, name: str) -> ExportError:
    return ExportError(f"{work / name} is damaged: start the export again")


def part_up_to(work: Path, part: Part, rows: int) -> Part:
    """The part as it counts where only its first `rows` rows are needed: what is behind the last of them was not read.

    FileNotFoundError where the work folder has gone.
    """
    if not part.places:
        return part
    bad, kept = read_places(work, part.places)
    if rows > len(kept):
        raise _damaged(work, part.places)
    stop = kept[rows - 1] + 1 if rows else 0
    count = bisect_left(bad, stop)
    return replace(part, rows_in=stop, bad_rows=count, bad_file=part.bad_file if count else "")
