"""Decodes outcomes as they come from the scheduler: runs of values, and failures as exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from windrow.client.failures import TaskFailed, task_failed
from windrow.common.blocks import block_count, block_entries, block_payload
from windrow.common.errors import MalformedMessage, WindrowError
from windrow.common.messages import FailureInfo, ValueRun
from windrow.common.values import decode_items, decode_value
from windrow.common.words import JobId


class Unreadable:
    """Stands for a value that came and cannot be decoded."""

    def __init__(self, error: WindrowError) -> None:
        self.error = error


def decode_run(run: ValueRun) -> list[Any]:
    """The values of the run; an Unreadable for each that cannot be read. MalformedMessage where the block is none."""
    count = run.stop - run.start
    if block_count(run.block) != count:
        raise MalformedMessage(f"items {run.start}:{run.stop} came with {block_count(run.block)} values")
    try:
        # Values are read like items: one msgpack object after the other, without cutting the block up.
        values: list[Any] = list(decode_items(block_payload(run.block)))
    except Exception:
        values = []
    return values if len(values) == count else [_decode_one(entry) for entry in block_entries(run.block)]


def decode_run_from(run: ValueRun, start: int) -> Iterator[tuple[int, Any]]:
    """(index, value) of the run's items from `start` on."""
    values = decode_run(run)
    for index in range(max(run.start, start), run.stop):
        yield index, values[index - run.start]


def in_item_order(
    values: Sequence[ValueRun], failures: Sequence[FailureInfo], start: int, job: JobId
) -> Iterator[tuple[int, Any | TaskFailed | Unreadable]]:
    """(index, outcome) of one page, by index, from `start` on; a failure as TaskFailed."""
    parts: list[ValueRun | FailureInfo] = [*values, *failures]
    at = start
    for part in sorted(parts, key=_first):
        if isinstance(part, ValueRun):
            yield from decode_run_from(part, at)
            at = max(at, part.stop)
        elif part.item >= at:
            yield part.item, task_failed(part, job)
            at = part.item + 1


def _first(part: ValueRun | FailureInfo) -> int:
    return part.start if isinstance(part, ValueRun) else part.item


def _decode_one(entry: bytes) -> Any:
    try:
        return decode_value(entry)
    except WindrowError as error:
        return Unreadable(error)
