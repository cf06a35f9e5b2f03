"""Decodes outcomes as they come from the scheduler: runs of values, and failures as exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from windrow.client.failures import task_failed
from windrow.common.blocks import block_count, block_entries, block_payload
from windrow.common.errors import MalformedMessage, WindrowError
from windrow.common.messages import FailureInfo, ValueRun
from windrow.common.values import decode_items, decode_value
from windrow.common.words import JobId


class Unreadable:
    """Stands for a value that came and cannot be decoded."""

    def __init__(self, error: WindrowError) -> None:
        self.error = error


@dataclass(frozen=True, slots=True)
class OutcomeRun:
    """The outcomes of the items from `start` on: values, TaskFailed, Unreadable, CancelledError."""

    start: int
    outcomes: list[Any]
    all_values: bool = False
    """None of them is an error, so nobody need look at each."""


def decode_run(run: ValueRun) -> list[Any]:
    """The values of the run; an Unreadable for each that cannot be read. MalformedMessage where the block is none."""
    return decode_outcomes(run).outcomes


def decode_outcomes(run: ValueRun, start: int = 0) -> OutcomeRun:
    """The values of the run's items from `start` on; otherwise as decode_run."""
    count = run.stop - run.start
    if block_count(run.block) != count:
        raise MalformedMessage(f"items {run.start}:{run.stop} came with {block_count(run.block)} values")
    try:
        # Values are read like items: one msgpack object after the other, without cutting the block up.
        values: list[Any] = list(decode_items(block_payload(run.block)))
    except Exception:
        values = []
    all_values = len(values) == count
    if not all_values:
        values = [_decode_one(entry) for entry in block_entries(run.block)]
    first = max(run.start, start)
    return OutcomeRun(first, values[first - run.start :], all_values)


def in_item_order(
    values: Sequence[ValueRun], failures: Sequence[FailureInfo], start: int, job: JobId
) -> Iterator[OutcomeRun]:
    """The outcomes of one page, by index, from `start` on; a failure as TaskFailed."""
    parts: list[ValueRun | FailureInfo] = [*values, *failures]
    at = start
    for part in sorted(parts, key=_first):
        if isinstance(part, ValueRun):
            yield decode_outcomes(part, at)
            at = max(at, part.stop)
        elif part.item >= at:
            yield OutcomeRun(part.item, [task_failed(part, job)])
            at = part.item + 1


def _first(part: ValueRun | FailureInfo) -> int:
    return part.start if isinstance(part, ValueRun) else part.item


def _decode_one(entry: bytes) -> Any:
    try:
        return decode_value(entry)
    except WindrowError as error:
        return Unreadable(error)
