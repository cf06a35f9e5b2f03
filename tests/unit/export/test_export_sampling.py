"""The places that types are decided from: whole rows, from all over the source, however it was cut."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest

from windrow.export.inference import states_of
from windrow.export.loading import read_segment
from windrow.export.looking import dialect_of
from windrow.export.model import Segment
from windrow.export.planning import make_draft
from windrow.export.sampling import SAMPLE_BYTES, SAMPLES, cut_samples, text_samples
from windrow.export.segmenting import (
    TextCutter,
    block_counts,
    count_range,
    reader_of,
    scan_ranges,
    segments_between,
)
from windrow.export.spec import make_spec
from windrow.export.work import Draft, Found

MIB = 1 << 20


def write_table(path: Path, size: int, row: str = '{at},"quo\nted, {at}",x\n') -> int:
    """How many rows it took."""
    with path.open("w", newline="") as file:
        file.write("id,b,c\n")
        written = at = 0
        while written < size:
            written += file.write(row.format(at=at))
            at += 1
    return at


def cut(source: str | Path, **options: object) -> tuple[Draft, list[TextCutter], Found]:
    draft = make_draft(make_spec(source, Path(source).with_name("out.parquet"), **options))[0]  # type: ignore[arg-type]
    draft = dataclasses.replace(draft, plan=dataclasses.replace(draft.plan, segment_bytes=MIB))
    dialect = dialect_of(draft.plan.read_form)
    cutters: list[TextCutter] = []
    segments: list[Segment] = []
    for number, (one, head) in enumerate(zip(draft.plan.sources, draft.heads, strict=True)):
        counts = [
            count
            for start, stop in scan_ranges(head.start, one.bytes)
            for count in block_counts(count_range(reader_of(one), start, stop, dialect), start, stop, dialect)
        ]
        cutters.append(TextCutter(draft, number, counts))
        cuts = cutters[-1].cuts()
        segments += segments_between(cuts, number, len(segments), paired=cutters[-1].is_paired)
    return draft, cutters, Found(tuple(segments), samples=cut_samples(cutters))


def sampled_ids(draft: Draft, found: Found, work: Path) -> list[int]:
    ids: list[int] = []
    for segment, data in text_samples(draft.plan, found, work):
        rows = read_segment(draft.plan, segment, work, data)
        assert not rows.bad
        ids += [int(one) for one in rows.columns[0].to_pylist()]
    return ids


@pytest.mark.parametrize("size", [5 * MIB, 130 * MIB])
def test_samples_begin_with_rows_and_are_spread_from_the_head_to_the_tail(tmp_path: Path, size: int) -> None:
    path = tmp_path / "in.csv"
    rows = write_table(path, size, '{at},"quo\nted, {at}",' + "x" * (40 if size < 100 * MIB else 9_000) + "\n")
    draft, _, found = cut(path)
    assert len(found.samples) == SAMPLES
    starts = [sample.start for sample in found.samples]
    gaps = [after - before for before, after in pairwise(starts)]
    assert max(gaps) < 2 * path.stat().st_size / SAMPLES
    ids = sampled_ids(draft, found, tmp_path)
    assert (ids[0], ids[-1]) == (0, rows - 1)


def test_samples_of_several_files_are_read_file_by_file(tmp_path: Path) -> None:
    for number in range(3):
        write_table(tmp_path / f"{number}.csv", 3 * MIB)
    draft, _, found = cut(tmp_path / "*.csv")
    assert {sample.source for sample in found.samples} == {0, 1, 2}
    pieces = list(text_samples(draft.plan, found, tmp_path))
    assert [segment.source for segment, _ in pieces] == [0, 1, 2]
    assert all(len(data) > 15 * SAMPLE_BYTES for _, data in pieces)


def test_a_small_source_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,b,c\n" + "".join(f"{at},,\n" for at in range(9_999)) + "9999,,")
    draft, _, found = cut(path)
    assert found.samples == ()
    assert sampled_ids(draft, found, tmp_path) == list(range(10_000))


def test_a_source_that_had_to_be_scanned_is_sampled_within_its_segments(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    write_table(path, 6 * MIB, "{at},5' tall,x\n")
    with path.open("a") as file:
        file.write('7,5" tall,x\n')
    draft, cutters, found = cut(path)
    assert cutters[0].note
    assert found.samples == ()
    assert not any(segment.paired for segment in found.segments)
    ids = sampled_ids(draft, found, tmp_path)
    assert ids[0] == 0
    assert ids[-1] == 7


def test_the_type_of_a_column_is_that_of_all_samples_together(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    write_table(path, 6 * MIB, "{at},{at},x\n")
    with path.open("a") as file:
        file.write("8,1.5,x\n")
    draft, _, found = cut(path)
    [(segment, data)] = text_samples(draft.plan, found, tmp_path)
    rows = read_segment(draft.plan, segment, tmp_path, data)
    assert states_of(rows, draft.plan.steps, [0, 1, 2]) == ["int64|float64", "float64", "string"]
