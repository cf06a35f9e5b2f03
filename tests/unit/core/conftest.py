"""The bench of the core's tests: nothing that the core wants done may go unnoticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core_bench import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.expect_nothing()
