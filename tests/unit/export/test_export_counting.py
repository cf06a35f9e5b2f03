"""Bytes counted several at a time: the same as one by one."""

from __future__ import annotations

import pytest

from windrow.export.counting import PIECE_BYTES, count_byte


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 65, 1000, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 3])
def test_as_many_are_counted_as_there_are(length: int) -> None:
    data = (b'a"\n\xff"b\x8a' * (length // 7 + 1))[:length]
    for byte in (b'"', b"\n", b"\xff", b"\x8a", b"z"):
        assert count_byte(data, byte) == data.count(byte)


def test_the_first_and_the_last_byte_of_each_piece_are_counted_once() -> None:
    data = bytearray(2 * PIECE_BYTES + 1)
    for at in (0, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES - 1, 2 * PIECE_BYTES):
        data[at] = ord("x")
    assert count_byte(bytes(data), b"x") == 5
