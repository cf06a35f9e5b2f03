"""What a worker prints: lines from pieces, and the last of them."""

from __future__ import annotations

import pytest

from windrow.node.worker_output import LAST_CHARS_MAX, LAST_LINES, LINE_BYTES_MAX, LastLines


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_lines_are_put_together_from_any_pieces(step: int) -> None:
    data = "one\ntwo\r\n\nvier Füße\nopen".encode()
    lines = LastLines()
    found: list[str] = []
    for at in range(0, len(data), step):
        found += lines.feed(data[at : at + step])
    assert found == ["one", "two", "", "vier Füße"]
    assert lines.end() == ["open"]
    assert lines.end() == []
    assert lines.text() == "one\ntwo\n\nvier Füße\nopen"


def test_only_the_last_lines_are_kept() -> None:
    lines = LastLines()
    lines.feed(b"".join(b"%d\n" % number for number in range(1000)))
    assert lines.text().splitlines() == [str(number) for number in range(1000 - LAST_LINES, 1000)]


def test_long_lines_come_in_pieces_and_the_text_is_bounded() -> None:
    lines = LastLines()
    found = lines.feed(b"x" * (3 * LINE_BYTES_MAX + 5))
    assert [len(line) for line in found] == [LINE_BYTES_MAX] * 3
    assert lines.feed(b"\n" + b"y" * (LINE_BYTES_MAX + 1) + b"\n") == ["xxxxx", "y" * LINE_BYTES_MAX, "y"]
    lines.feed(b"the end\n")
    assert len(lines.text()) == LAST_CHARS_MAX
    assert lines.text().startswith("…")
    assert lines.text().endswith("the end")


def test_what_is_no_text_is_shown_all_the_same() -> None:
    assert LastLines().feed(b"\xff\xfe\n") == ["\ufffd\ufffd"]
