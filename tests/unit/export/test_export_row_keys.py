"""Keys are equal exactly where rows are, and hashes are the same everywhere and spread evenly."""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export.key_files import HASHES, first_hash, partitions_for
from windrow.export.row_keys import encode_keys, find_first_rows, hash_keys

WORD = (1 << 64) - 1
FACTORS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def plain_hash(key: bytes) -> int:
    """The hash as plain Python computes it: what key files of all versions hold."""

    def mix(value: int, factor: int) -> int:
        value = value * factor & WORD
        return value ^ value >> 32

    if len(key) > 256:
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
    value = mix(len(key), FACTORS[0])
    for at in range(0, len(key), 8):
        word = int.from_bytes(key[at : at + 8], "little")
        if at + 8 >= len(key):
            word = word << 8 * (at + 8 - len(key)) & WORD
        value = mix(value ^ word, FACTORS[0])
    return mix(mix(value, FACTORS[1]), FACTORS[2])


def hashes_of(keys: Any) -> list[int]:
    hashes, rows = hash_keys(keys)
    by_row = dict(zip(rows.to_pylist(), hashes.to_pylist(), strict=True))
    assert sorted(by_row) == list(range(len(keys)))
    return [by_row[row] for row in range(len(keys))]


KEYS = st.lists(st.binary(max_size=40) | st.integers(0, 300).map(lambda size: b"\xfe" * size), max_size=30)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(0, 3))
def test_a_key_has_one_hash_wherever_it_stands(keys: list[bytes], skipped: int) -> None:
    array = pa.array(keys, pa.binary()).slice(skipped)
    assert hashes_of(array) == [plain_hash(key) for key in keys[skipped:]]


def test_hashes_stay_what_they_are() -> None:
    keys = pa.array([b"", b"a", b"12345678", b"123456789", b"x" * 256, b"x" * 257], pa.binary())
    assert [f"{value:016x}" for value in hashes_of(keys)] == [
        "0000000000000000",
        "7f6a0aa5d50c2d8b",
        "45395df5f26414fa",
        "b574ee8d024c2038",
        "67af87929865a0e5",
        "76c3513e21d32a54",
    ]


def test_keys_stay_what_they_are() -> None:
    columns = [
        pa.array(["é", None, ""]),
        pa.array([258, None, -1], pa.int32()),
        pa.array([-0.0, None, float("-nan")], pa.float64()),
        pa.array([True, None, False]),
    ]
    assert [key.hex(" ", -4) for key in encode_keys(columns).to_pylist()] == [
        "02000000 c3a90400 00000201 00000800 00000000 00000000 000001",
        "01000000 ff000000 00000000 00",
        "00000000 04000000 ffffffff 08000000 00000000 0000f87f 00",
    ]
    for column, cells in zip(columns, (["c3a9", "ff", ""], ["02010000", "", "ffffffff"]), strict=False):
        assert [key.hex() for key in encode_keys([column]).to_pylist()] == cells


def test_hashes_of_neighbours_spread_over_partitions() -> None:
    keys = encode_keys([pa.array(range(40_000), pa.int64())])
    counts = [0] * 64
    for value in hashes_of(keys):
        counts[value * 64 >> 64] += 1
    # 625 each, with a standard deviation of 25.
    assert 500 < min(counts) <= max(counts) < 750
    assert len(set(hashes_of(keys))) == 40_000


def test_partitions_tile_the_hashes_without_gap() -> None:
    for partitions in (1, 2, 3, 7, 1000, 4096):
        starts = [first_hash(at, partitions) for at in range(partitions + 1)]
        assert starts[0] == 0
        assert starts[-1] == HASHES
        assert starts == sorted(set(starts))


@pytest.mark.parametrize(
    ("size", "partitions"),
    [(0, 1), (1, 1), (256 << 20, 1), ((256 << 20) + 1, 2), (300 << 30, 1200), (1 << 40, 4096), (1 << 50, 4096)],
)
def test_there_is_a_partition_for_each_256_mib_up_to_4096(size: int, partitions: int) -> None:
    assert partitions_for(size) == partitions


def test_first_rows_are_those_whose_key_has_not_been_before() -> None:
    values = [random.Random(7).choice("abcdefgh") for _ in range(200)]
    first = find_first_rows(pa.array([value.encode() for value in values], pa.binary()))
    assert first.to_pylist() == [value not in values[:at] for at, value in enumerate(values)]
    assert find_first_rows(pa.array([], pa.binary())).to_pylist() == []


def test_a_type_that_cannot_be_compared_is_refused_by_name() -> None:
    for column in (pa.array([[1]]), pa.array([b"\xff"], pa.binary())):
        with pytest.raises(ExportError, match=r"--dedupe-by: values of type (list<|binary).* cannot be compared"):
            encode_keys([column])
