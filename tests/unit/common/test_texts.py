"""Texts for people."""

from __future__ import annotations

import pytest

from windrow.common.texts import counted


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 items are left"), (1, "1 item is left"), (2, "2 items are left"), (11, "11 items are left")],
)
def test_one_is_told_in_the_singular(number: int, text: str) -> None:
    assert counted(number, "item is", "items are") + " left" == text


def test_a_number_is_written_as_it_is_to_be_shown() -> None:
    assert counted(1234, "row", "rows", "1,234") == "1,234 rows"
