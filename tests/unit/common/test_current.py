"""windrow.current(), seen from this side of a worker."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import pytest

import windrow
from windrow.common import current as module
from windrow.common.current import CurrentItem, current, serve_current
from windrow.common.errors import UsageError


@pytest.fixture
def served() -> Iterator[list[bool]]:
    cancelled = [False]
    serve_current(lambda: CurrentItem("JOB", 17, 2, 5.0, lambda: cancelled[0]))
    yield cancelled
    serve_current(module._find_nothing)


def test_outside_a_task_there_is_one_clear_line() -> None:
    with pytest.raises(UsageError) as caught:
        current()
    assert "windrow.current() is for tasks" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_view_is_frozen_but_cancelled_is_live(served: list[bool]) -> None:
    item = current()
    assert (item.job, item.index, item.item_id, item.attempt, item.deadline) == ("JOB", 17, "JOB/17", 2, 5.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.index = 3  # type: ignore[misc]
    assert not item.cancelled
    served[0] = True
    assert item.cancelled


@pytest.mark.usefixtures("served")
def test_the_logger_puts_the_item_first(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        current().logger.info("%d of %d", 1, 2)
    assert caplog.messages == ["[JOB/17] 1 of 2"]


def test_the_face_exports_it() -> None:
    assert windrow.current is current
    assert "current" in windrow.__all__
    assert all(hasattr(windrow, name) for name in windrow.__all__)
