"""The parts of the command line that need no scheduler: items, progress, tables, JSON, time left, restarts."""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from windrow.cli.child import BACKOFF_MAX_S, Child
from windrow.cli.inputs import item_from_json, open_items, parse_indexes, parse_range
from windrow.cli.output import Column, count, duration, print_table, printable, size, to_json
from windrow.cli.progress import BarProgress, LineProgress, Rate, make_progress, rate_text
from windrow.cli.supervise import Ready, find_ready, write_ready
from windrow.common.errors import UsageError
from windrow.common.values import Call, encode_item
from windrow.common.words import FailureKind


def read(
    args: str | None = None, items: object = None, each_line: object = None, span: str | None = None
) -> list[object]:
    def path(value: object) -> str | None:
        return None if value is None else str(value)

    with open_items(args, path(items), path(each_line), span) as made:
        return list(made)


class TestItems:
    def test_json_array_is_positional_object_is_keywords_scalar_is_the_argument(self) -> None:
        assert item_from_json("[1, 2]", "") == (1, 2)
        assert item_from_json('{"x": 1}', "") == Call((), {"x": 1})
        assert item_from_json('"text"', "") == "text"
        assert item_from_json("null", "") is None

    def test_no_source_is_one_call_without_arguments(self) -> None:
        (item,) = read()
        assert encode_item(item) == encode_item(())

    def test_two_sources_are_refused(self) -> None:
        with pytest.raises(UsageError, match="--args and --range"):
            read(args="1", span="0:5")

    def test_a_jsonl_file_gives_an_item_a_line_and_skips_empty_lines(self, tmp_path: Path) -> None:
        file = tmp_path / "items.jsonl"
        file.write_text('[1]\n\n{"a": 2}\r\n"drei"\n4')
        assert read(items=file) == [(1,), Call((), {"a": 2}), "drei", 4]

    def test_each_line_gives_lines_empty_ones_too_without_their_end(self, tmp_path: Path) -> None:
        file = tmp_path / "lines.txt"
        file.write_bytes("a\r\n\nü b \nlast".encode())
        assert read(each_line=file) == ["a", "", "ü b ", "last"]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"1\n{oops}\n3\n", "items.jsonl: line 2: not JSON"),
            (b"1\n\xff\n", "items.jsonl: line 2 is not UTF-8 (byte 1)"),
            (b"[" * 100_000, "items.jsonl: line 1: the JSON is nested too deeply"),
            (b'"' + b"x" * (3 << 20) + b'"', "items.jsonl: line 1 is longer than an item may be"),
        ],
    )
    def test_a_bad_line_is_named_before_any_item_is_handed_out(
        self, tmp_path: Path, content: bytes, expected: str
    ) -> None:
        file = tmp_path / "items.jsonl"
        file.write_bytes(content)
        with (
            pytest.raises(UsageError) as caught,
            open_items(None, str(file), None, None),
        ):
            pytest.fail("nothing may come of a file with a bad line")
        assert expected in caught.value.message

    def test_a_pipe_is_checked_before_it_is_sent_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Stdin:
            buffer = io.BytesIO(b"1\n2\n")

        monkeypatch.setattr("sys.stdin", Stdin)
        assert read(items="-") == [1, 2]

    def test_a_file_that_is_not_there_or_is_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--items nowhere: No such file"):
            read(items="nowhere")
        with pytest.raises(UsageError, match="Is a directory"):
            read(each_line=tmp_path)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("0:10", range(10)), ("5", range(5)), ("1:10:3", range(1, 10, 3)), ("3:0:-1", range(3, 0, -1))],
    )
    def test_ranges_are_python_s(self, text: str, expected: range) -> None:
        assert parse_range(text) == expected

    @pytest.mark.parametrize("text", ["", "a:b", "1:2:0", "1:2:3:4", "0:99999999999999999999", "0:9007199254740993"])
    def test_what_is_no_range_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--range"):
            parse_range(text)

    def test_indexes_are_single_ones_and_ranges(self) -> None:
        assert list(parse_indexes("7")) == [7]
        assert list(parse_indexes("0:2, 5:6")) == [0, 1, 5]

    @pytest.mark.parametrize("text", ["", "x", "-1", "5:5", "5:3", "1:2:3"])
    def test_what_is_no_index_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--items"):
            parse_indexes(text)


class TestRate:
    def test_a_steady_rate_reads_right_from_the_second_look_on(self) -> None:
        rate = Rate()
        rate.add(0, 0.0)
        assert rate.per_second == 0
        rate.add(50, 0.5)
        assert rate.per_second == pytest.approx(100)
        assert rate.find_left_s(50, 1050) == pytest.approx(10)

    def test_it_follows_a_change_without_jumping(self) -> None:
        rate = Rate(smooth_over_s=10)
        for second in range(20):
            rate.add(100 * second, second)
        rate.add(1900, 20)
        assert 80 < rate.per_second < 100
        for second in range(21, 80):
            rate.add(1900, second)
        assert rate.per_second < 1

    def test_going_back_is_no_negative_rate(self) -> None:
        rate = Rate()
        rate.add(100, 0)
        rate.add(50, 1)
        assert rate.per_second == 0
        assert rate.find_left_s(50, 100) is None

    def test_an_unknown_total_has_no_time_left(self) -> None:
        assert Rate().find_left_s(0, None) is None

    def test_rates_are_short(self) -> None:
        assert [rate_text(number) for number in (0, 0.25, 9.94, 12345.6)] == ["", "0.2/s", "9.9/s", "12,346/s"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class TestLineProgress:
    def lines(self, updates: Sequence[tuple[float, int]], total: int | None = 100) -> list[str]:
        clock, stream = Clock(), io.StringIO()
        with LineProgress("items", stream, clock) as progress:
            for at_s, done in updates:
                clock.now = at_s
                progress.update("job", done, total)
        return stream.getvalue().splitlines()

    def test_it_speaks_at_the_start_at_each_tenth_and_at_the_end(self) -> None:
        lines = self.lines([(second / 10, second) for second in range(101)])
        assert lines[0] == "job: 0 of 100 items (0 %)"
        assert len(lines) == 11
        assert lines[5].startswith("job: 50 of 100 items (50 %), 10/s, 5.0 s left")
        assert lines[-1].startswith("job: 100 of 100 items (100 %)")

    def test_it_speaks_every_five_seconds_when_it_is_slow(self) -> None:
        assert len(self.lines([(float(second), 1) for second in range(21)])) == 5

    def test_it_says_the_newest_at_the_end_and_nothing_twice(self) -> None:
        lines = self.lines([(0.0, 0), (0.1, 1), (0.2, 2)])
        assert [line.split(" of")[0] for line in lines] == ["job: 0", "job: 2"]

    def test_an_open_job_has_no_per_cent(self) -> None:
        assert self.lines([(0.0, 5)], total=None) == ["job: 5 of ? items"]

    def test_a_new_phase_starts_with_a_line_after_the_last_of_the_old(self) -> None:
        stream = io.StringIO()
        with LineProgress("segments", stream, Clock()) as progress:
            progress.update("plan", 0, None)
            progress.update("convert", 0, 4)
            progress.update("convert", 4, 4, "9 rows")
        assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
            "plan",
            "convert: 0 of 4 segments (0 %)",
            "convert: 4 of 4 segments (100 %)",
        ]

    def test_elsewhere_than_on_a_terminal_it_is_lines(self) -> None:
        assert isinstance(make_progress(stream=io.StringIO()), LineProgress)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_a_bar_of_one_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "dumb")
    stream, clock = Terminal(), Clock()
    progress = make_progress(stream=stream)
    assert isinstance(progress, BarProgress)
    with BarProgress("items", stream, clock) as bar:
        for done in (0, 500, 1000):
            clock.now += 1
            bar.update("nightly [x]", done, 1000)
    shown = stream.getvalue()
    assert "nightly [x]" in shown
    assert "1,000/1,000 items" in shown


class TestOutput:
    def test_numbers_for_people(self) -> None:
        assert [count(number) for number in (0, 1234567, None)] == ["0", "1,234,567", "?"]
        assert [size(number) for number in (0, 999, 1000, 123_456, 5_400_000, 7e15)] == [
            "0 B", "999 B", "1.0 kB", "123 kB", "5.4 MB", "7000 TB",
        ]  # fmt: skip
        assert [duration(s) for s in (-1, 0.25, 9.99, 59.7, 61, 3661, 90000)] == [
            "0.0 s", "0.2 s", "10 s", "1 min 00 s", "1 min 01 s", "1 h 01 min", "1 d 01 h",
        ]  # fmt: skip

    def test_what_json_cannot_say_is_said_as_text(self) -> None:
        @dataclass(frozen=True)
        class Thing:
            kind: FailureKind
            when: datetime.date

        values = {
            1: (1, b"\xff", {2, 1}),
            "f": [math.nan, math.inf, 1.5],
            (1, 2): Decimal("1.10"),
            "t": Thing(FailureKind.CRASH, datetime.date(2026, 11, 21)),
        }
        assert json.loads(json.dumps(to_json(values), allow_nan=False)) == {
            "1": [1, "b'\\xff'", [1, 2]],
            "f": ["nan", "inf", 1.5],
            "(1, 2)": "1.10",
            "t": {"kind": "crash", "when": "2026-11-21"},
        }

    def test_nothing_a_task_says_steers_the_terminal_or_shows_a_password(self) -> None:
        assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
        assert printable("at amqp://u:pw@h") == "at amqp://***@h"

    def test_elsewhere_than_on_a_terminal_a_table_is_aligned_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_table([Column("id"), Column("total", right=True)], [["a", "5"], ["long", "1,000"]], "none")
        assert capsys.readouterr().out == "id    total\na         5\nlong  1,000\n"

    def test_an_empty_table_leaves_standard_output_empty(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_table([Column("id")], [], "no jobs")
        assert capsys.readouterr() == ("", "no jobs\n")

    def test_on_a_terminal_brackets_in_names_are_no_markup(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        print_table([Column("name")], [["[red]x[/red]"]], "none")
        assert "[red]x[/red]" in capsys.readouterr().out


class TestChild:
    def test_delays_double_up_to_a_limit_and_start_over_after_a_steady_minute(self) -> None:
        child = Child("node-1", [], {})
        assert [child.plan_restart(1.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, BACKOFF_MAX_S]
        assert child.plan_restart(100.0) == 1
        assert not child.restart_is_due(100.9)
        assert child.restart_is_due(101.0)


class TestReadyFile:
    def test_what_is_written_is_found(self, tmp_path: Path) -> None:
        write_ready(tmp_path / "ready.json", Ready("tcp://127.0.0.1:5", None, 7))
        assert find_ready(tmp_path / "ready.json") == Ready("tcp://127.0.0.1:5", None, 7)
        assert [file.name for file in tmp_path.iterdir()] == ["ready.json"]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1, "pid": 2}', '{"url": "x"}'])
    def test_what_cannot_be_read_is_not_ready(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "ready.json").write_text(text)
        assert find_ready(tmp_path / "ready.json") is None
        assert find_ready(tmp_path / "nowhere.json") is None
