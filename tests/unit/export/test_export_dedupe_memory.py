"""Finding the losers of millions of keys stays within its memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pytest

from windrow.export.dedupe import keep_winners, losers_file_name
from windrow.export.key_files import write_keys
from windrow.export.row_keys import encode_keys

SEGMENTS = 10
ROWS = 500_000
DISTINCT = 4_500_000
"""The last segment's keys have all been in the first."""
OVERHEAD_BYTES = 64 << 20
"""What pyarrow's code and the reading of files take besides, whatever the limit; half of it was measured."""

FIND = """
import sys
from pathlib import Path
from windrow.export.dedupe import find_losers
from windrow.export.row_keys import encode_keys, find_first_rows

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

work, memory = Path(sys.argv[1]), int(sys.argv[2])
before = peak()
find_losers(work, 0, sorted(path.name for path in work.glob("dedupe-keys-*")), "u", memory)
print(peak() - before)
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    for segment in range(SEGMENTS):
        start = segment * ROWS % DISTINCT
        numbers = pa.array(range(start, start + ROWS), pa.int64())
        keys = encode_keys([pa.compute.binary_join_element_wise("customer", numbers.cast(pa.string()), "-")])
        write_keys(folder, segment, keys, 1, "u")
    return folder


def measured_peak(work: Path, memory: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FIND, str(work), str(memory)], check=True, capture_output=True, text=True, timeout=300
    )
    return int(done.stdout)


@pytest.mark.system
@pytest.mark.parametrize("mebibytes", [32, 128])
def test_five_million_keys_take_no_more_memory_than_they_may(work: Path, mebibytes: int) -> None:
    assert measured_peak(work, mebibytes << 20) < (mebibytes << 20) + OVERHEAD_BYTES
    names = [losers_file_name(0)]
    left = [len(keep_winners(work, segment, names, [pa.nulls(ROWS)])[0]) for segment in range(SEGMENTS)]
    assert left == [ROWS] * (SEGMENTS - 1) + [0]


@pytest.mark.system
def test_the_limit_is_what_keeps_the_memory_low(work: Path) -> None:
    assert measured_peak(work, 4 << 30) > (128 << 20) + 2 * OVERHEAD_BYTES
