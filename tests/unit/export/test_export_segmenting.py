"""Where text sources are cut: at true row ends whatever the segment size, and by a scan where quotes mislead."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
from pathlib import Path

import pytest

from windrow.common.errors import ExportError
from windrow.export.dialect import Dialect
from windrow.export.loading import read_segment
from windrow.export.looking import dialect_of
from windrow.export.model import Segment
from windrow.export.planning import make_draft
from windrow.export.prepare import prepare
from windrow.export.segmenting import (
    TextCutter,
    block_counts,
    count_range,
    prepared_segments,
    reader_of,
    row_fits,
    scan_ranges,
    segments_between,
    text_source,
)
from windrow.export.spec import make_spec
from windrow.export.splitting import BLOCK_BYTES, Read, add_up
from windrow.export.work import Draft

ROWS = 300_000
SIZES = 200


def draft_of(path: Path, **options: object) -> Draft:
    spec = make_spec(path, path.with_name("out.csv"), **options)  # type: ignore[arg-type]
    return make_draft(spec)[0]


def cutter_of(draft: Draft, read: Read | None = None, scan_bytes: int = 64 * BLOCK_BYTES) -> TextCutter:
    """As the tasks of the scan and the cut do it."""
    source, head, dialect = draft.plan.sources[0], draft.heads[0], dialect_of(draft.plan.read_form)
    reading = read or reader_of(source)
    counts = [
        count
        for start, stop in scan_ranges(head.start, source.bytes, scan_bytes)
        for count in block_counts(count_range(reading, start, stop, dialect), start, stop, dialect)
    ]
    return TextCutter(draft, 0, counts, reading)


def sized(draft: Draft, segment_bytes: int) -> Draft:
    return dataclasses.replace(draft, plan=dataclasses.replace(draft.plan, segment_bytes=segment_bytes))


def rows_of(draft: Draft, segments: list[Segment], work: Path) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for segment in segments:
        rows = read_segment(draft.plan, segment, work)
        assert not rows.bad
        columns = [column.fill_null("").to_pylist() for column in rows.columns.values()]
        found.extend(zip(*columns, strict=True))
    return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in GBK in which every trap of quoting is planted."""
    chance = random.Random(4)
    # 镕 and 囗 have bytes in GBK that are letters and marks of ASCII.
    words = [
        "",
        "plain",
        "007",
        "a,b",
        'say "x"',
        "two\nlines",
        "two\r\nlines",
        '"',
        '""',
        "囗鰽|",
        "北京\n上海",
        "朱镕基",
    ]
    weights = [4, 9, 4, 2, 2, 1, 1, 1, 1, 2, 1, 2]
    path = tmp_path_factory.mktemp("planted") / "in.csv"
    with path.open("w", newline="", encoding="gb18030") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["id", "城市", "b", "c"])
        picks = chance.choices(words, weights, k=3 * ROWS)
        writer.writerows((str(at), *picks[3 * at : 3 * at + 3]) for at in range(ROWS))
    return path


@pytest.mark.system
def test_a_table_of_gbk_cut_at_200_random_sizes_gives_the_rows_of_a_sequential_read(planted: Path) -> None:
    data = planted.read_bytes()
    text = data.decode("gb18030")
    reader = csv.reader(io.StringIO(text, newline=""))
    expected: list[tuple[str, ...]] = []
    lines_before: list[int] = []
    line = 0
    for row in reader:
        lines_before.append(line)
        # The reader counts "\r\n" inside quotes as one line end, as it should.
        line = reader.line_num
        expected.append(tuple(row))
    # Where each row begins, by its line: a way that knows nothing of bytes, blocks and parities.
    offsets_of_lines = [0]
    for piece in data.split(b"\n")[:-1]:
        offsets_of_lines.append(offsets_of_lines[-1] + len(piece) + 1)
    starts = {offsets_of_lines[number]: number + 1 for number in lines_before[1:]}
    starts[len(data)] = data.count(b"\n") + 1
    draft = draft_of(planted)
    assert draft.plan.read_form.encoding in ("gbk", "gb18030")
    chance = random.Random(11)
    sizes = [chance.randrange(2_000, 3_000_000) for _ in range(SIZES)]
    counted = cutter_of(draft).starts
    # A target that is the beginning of a block is found in a way of its own.
    first, end, small = draft.heads[0].start, len(data), 1_000
    packed = count_range(lambda at, length: data[at : at + length], first, end, Dialect(), small)
    counted_small = add_up(block_counts(packed, first, end, Dialect(), small), start=first, line=draft.heads[0].line)
    sizes[:2] = [small, 7 * small]

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    for number, size in enumerate(sizes):
        asked = sized(draft, size)
        cutter = TextCutter(asked, 0, [], read)
        cutter.starts = counted_small if size % small == 0 else counted
        cuts = cutter.cuts()
        assert not cutter.note
        assert all(starts.get(cut.offset) == cut.line for cut in cuts), f"size {size}"
        assert cuts[0].offset == draft.heads[0].start
        assert cuts[-1].offset == len(data)
        wanted = range(draft.heads[0].start + size, len(data), size)
        assert len(cuts) - 1 <= len(wanted) + 1
        if number in (1, 2):
            assert rows_of(asked, segments_between(cuts, 0, 0), planted.parent) == expected[1:]


def test_cuts_do_not_depend_on_how_the_counting_was_shared(planted: Path) -> None:
    draft = sized(draft_of(planted), 500_000)
    one = cutter_of(draft).cuts()
    assert cutter_of(draft, scan_bytes=3 * BLOCK_BYTES).cuts() == one
    assert len(one) > 10


def test_a_quote_in_the_midst_of_a_field_is_found_by_a_scan_and_said(tmp_path: Path) -> None:
    # 5' 10" is no quoting, and an odd number of them turns every parity round.
    rows = [f"{at},5' {at % 12}\",x\n" if at == 777 else f"{at},tall,x\n" for at in range(5_000)]
    path = tmp_path / "in.csv"
    path.write_text("id,size,c\n" + "".join(rows))
    draft = sized(draft_of(path), 4_000)
    cutter = cutter_of(draft)
    segments = segments_between(cutter.cuts(), 0, 0)
    assert "in.csv: its quotes do not pair as RFC 4180 has them, so its rows were found by one" in cutter.note
    found = rows_of(draft, segments, tmp_path)
    assert [int(row[0]) for row in found] == list(range(5_000))
    assert found[777][1] == "5' 9\""
    assert [segment.line for segment in segments][:2] == [2, 2 + path.read_bytes()[: segments[0].stop].count(b"\n") - 1]


def test_an_even_number_of_stray_quotes_is_noticed_by_a_row_of_another_width(tmp_path: Path) -> None:
    # Between the two every newline seems to lie inside quotes, and behind a cut stands the rest of some row.
    rows = [f'{at},5" tall,x\n' if at in (100, 4_900) else f'{at},"quo\nted",x\n' for at in range(5_000)]
    path = tmp_path / "in.csv"
    path.write_text("id,size,c\n" + "".join(rows))
    draft = sized(draft_of(path), 4_000)
    cutter = cutter_of(draft)
    segments = segments_between(cutter.cuts(), 0, 0)
    assert cutter.note
    assert [int(row[0]) for row in rows_of(draft, segments, tmp_path)] == list(range(5_000))


def test_ragged_rows_away_from_the_cuts_need_no_scan(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a,b\n" + "1,2\n" * 300 + "1\n" + "1,2\n" * 300)
    cutter = cutter_of(sized(draft_of(path), 1_000))
    assert len(cutter.cuts()) == 4
    assert not cutter.note


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ('{at},a \\" b \\, c,x\n', {"escape": "\\"}),
        ("{at},a\\\nb,x\n", {"escape": "\\", "quote": "none"}),
        ('{at},5" pipe,x\n', {"quote": "none"}),
        ("{at}|'it''s\n| so'|x\n", {"quote": "'", "delimiter": "|"}),
    ],
)
def test_escapes_other_quotes_and_no_quotes(tmp_path: Path, row: str, options: dict[str, str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text(
        options.get("delimiter", ",").join(("id", "b", "c")) + "\n" + "".join(row.format(at=at) for at in range(3_000))
    )
    draft = draft_of(path, **options)
    for size in (101, 999, 7_000):
        asked = sized(draft, size)
        cutter = cutter_of(asked)
        segments = segments_between(cutter.cuts(), 0, 0)
        assert not cutter.note
        assert [int(found[0]) for found in rows_of(asked, segments, tmp_path)] == list(range(3_000))


@pytest.mark.parametrize(
    ("data", "segments"),
    [
        (b"", 0),
        (b"a,b", 0),
        (b"a,b\n", 0),
        (b"a,b\n1,2", 1),
        (b"a,b\n1,2\n", 1),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n3,4", 2),
    ],
)
def test_small_sources(tmp_path: Path, data: bytes, segments: int) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    draft = sized(draft_of(path), 3)
    found = segments_between(cutter_of(draft).cuts(), 0, 0)
    assert len(found) == segments
    assert len(rows_of(draft, found, tmp_path)) == segments


def test_prepared_text_whose_quotes_do_not_pair_is_cut_where_rows_end(tmp_path: Path) -> None:
    rows = [f'{at},5" tall\n' if at == 50 else f'{at},"quo\nted"\n' for at in range(2_000)]
    path = tmp_path / "in.csv"
    path.write_bytes(("id,size\n" + "".join(rows)).encode("utf-16"))
    draft = sized(draft_of(path), 3_000)
    list(prepare(text_source(draft, draft.plan.sources[0]), tmp_path, "x"))
    segments, note = prepared_segments(draft, 0, tmp_path, 7)
    assert "found by one sequential scan" in note
    assert [segment.number for segment in segments] == list(range(7, 7 + len(segments)))
    assert len(segments) > 5
    assert [int(row[0]) for row in rows_of(draft, segments, tmp_path)] == list(range(2_000))
    lines = ("id,size\n" + "".join(rows)).split("\n")
    assert all(lines[segment.line - 1].partition(",")[0].isdigit() for segment in segments)
    assert prepared_segments(draft, 0, tmp_path, 7) == (segments, note)


def test_a_row_that_is_not_all_there_tells_nothing() -> None:
    assert row_fits(b'1,"2', Dialect(), 5)
    assert row_fits(b"\r\n1,2\n", Dialect(), 5)
    assert row_fits(b'1,"a\n,b"\n', Dialect(), 2)
    assert not row_fits(b"1,2\n", Dialect(), 5)


def test_a_source_that_shrinks_while_it_is_counted_is_noticed() -> None:
    with pytest.raises(ExportError, match=r"ends at byte 7, 10 were there: it shrank"):
        count_range(lambda offset, length: b"1234567"[offset : offset + length], 0, 10, Dialect(), 5)
