"""Outcomes come out of their blocks in the order of the items, and one that cannot be read costs no other."""

from __future__ import annotations

import pytest

from windrow.client.failures import TaskFailed
from windrow.client.outcomes import OutcomeRun, Unreadable, decode_outcomes, decode_run, in_item_order
from windrow.common.blocks import pack_block, slice_block
from windrow.common.errors import MalformedMessage
from windrow.common.messages import FailureInfo, ValueRun
from windrow.common.values import encode_value
from windrow.common.words import FailureKind

JOB = "job1"


def run_of(start: int, *values: object) -> ValueRun:
    return ValueRun(start, start + len(values), pack_block([encode_value(value) for value in values]))


def failure(item: int) -> FailureInfo:
    return FailureInfo(item, FailureKind.ERROR, "ValueError", f"item {item}", "", "n", 1)


def told(runs: list[OutcomeRun]) -> list[tuple[int, object]]:
    """(index, value or what the failure says) of each."""
    return [
        (index, each.info.message if isinstance(each, TaskFailed) else each)
        for run in runs
        for index, each in enumerate(run.outcomes, run.start)
    ]


def test_the_values_of_a_run_come_in_order_also_from_the_middle_of_it() -> None:
    run = run_of(5, "five", None, (7,), {"eight": 8})
    assert decode_run(run_of(0, "zero", "one")) == decode_outcomes(run_of(0, "zero", "one")).outcomes == ["zero", "one"]
    assert decode_run(run) == ["five", None, (7,), {"eight": 8}]
    assert decode_outcomes(run) == OutcomeRun(5, ["five", None, (7,), {"eight": 8}], all_values=True)
    assert decode_outcomes(run, 5) == decode_outcomes(run, 3) == decode_outcomes(run)
    assert decode_outcomes(run, 7) == OutcomeRun(7, [(7,), {"eight": 8}], all_values=True)
    assert decode_outcomes(run, 9).outcomes == []


def test_a_slice_of_a_block_is_read_like_a_block() -> None:
    block = slice_block(run_of(0, "a", "b", "c", "d").block, 1, 3)
    assert decode_run(ValueRun(1, 3, block)) == ["b", "c"]


@pytest.mark.parametrize("bad", [b"\xc1", b"", b"\x91", b"\x01\x02", b"\xc7\x01\x09x"])
def test_a_value_that_cannot_be_read_is_told_in_its_place_and_the_others_are_read(bad: bytes) -> None:
    good = encode_value("good")
    run = decode_outcomes(ValueRun(3, 6, pack_block([good, bad, good])))
    assert (run.start, run.outcomes[0], run.outcomes[2], run.all_values) == (3, "good", "good", False)
    assert isinstance(run.outcomes[1], Unreadable)
    assert isinstance(run.outcomes[1].error, MalformedMessage)


@pytest.mark.parametrize(("start", "stop"), [(3, 4), (3, 6)])
def test_a_block_with_more_or_fewer_values_than_items_is_malformed(start: int, stop: int) -> None:
    with pytest.raises(MalformedMessage, match=f"items {start}:{stop} came with 2 values"):
        decode_run(ValueRun(start, stop, run_of(0, "a", "b").block))


def test_values_and_failures_of_a_page_come_by_index_and_none_before_its_beginning() -> None:
    values = (run_of(6, "6"), run_of(0, "0", "1", "2"), run_of(4, "4"))
    failures = (failure(5), failure(3), failure(7))
    everything = [(0, "0"), (1, "1"), (2, "2"), (3, "item 3"), (4, "4"), (5, "item 5"), (6, "6"), (7, "item 7")]
    for start in range(9):
        runs = list(in_item_order(values, failures, start, JOB))
        assert told(runs) == everything[start:]
        for run in runs:
            assert run.all_values == (not any(isinstance(each, TaskFailed) for each in run.outcomes))


def test_what_comes_twice_in_a_page_is_told_once() -> None:
    """A page that was read while an item was tried again, say."""
    values, failures = (run_of(0, "0", "1"), run_of(1, "1 again", "2")), (failure(1), failure(3), failure(3))
    assert told(list(in_item_order(values, failures, 0, JOB))) == [(0, "0"), (1, "1"), (2, "2"), (3, "item 3")]


def test_a_failure_names_its_job() -> None:
    ((error,),) = [run.outcomes for run in in_item_order((), (failure(2),), 0, JOB)]
    assert isinstance(error, ValueError)
    assert JOB in str(error)
