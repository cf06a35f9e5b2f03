"""What an export is asked to do: names, lists and types as users write them, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError
from windrow.common.values import decode_value, encode_value
from windrow.export.model import Errors
from windrow.export.spec import (
    ExportSpec,
    canonical_spec,
    check_spec,
    make_spec,
    read_spec_file,
    spec_from_dict,
    spec_from_options,
    spec_to_dict,
    with_date,
)
from windrow.export.texts import parse_casts, parse_errors, split_list
from windrow.export.types import parse_type


def test_lists_are_split_at_commas_outside_quotes_and_brackets() -> None:
    assert split_list('a, b:new ,"c,d":e') == ("a", "b:new", "c,d:e")
    assert split_list("price:decimal(9,2),qty:int64") == ("price:decimal(9,2)", "qty:int64")
    assert split_list(" ") == ()


def test_lists_may_come_as_text_sequence_or_mapping() -> None:
    made = [make_spec("a", "b.csv", columns=given).columns for given in ("a,b:c", ["a", "b:c"], {"a": "", "b": "c"})]
    assert made == [("a", "b:c")] * 3
    assert make_spec("a", "b.csv", cast={"x": "decimal(5, 1)"}).cast == ("x:decimal(5,1)",)


def test_paths_are_absolute_for_nodes_that_run_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = make_spec("in.csv", Path("sub/../out.parquet"))
    assert (spec.source, spec.dest) == (str(tmp_path / "in.csv"), str(tmp_path / "out.parquet"))


def test_the_format_follows_the_ending_unless_asked_otherwise() -> None:
    assert make_spec("a", "b.csv").format == "csv"
    assert make_spec("a", "b.PARQUET").format == "parquet"
    assert make_spec("a", "b.csv", to="Parquet").format == "parquet"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("int64", "int64"), (" INT ", "int64"), ("double", "float64"), ("text", "string"), ("datetime", "timestamp"),
     ("decimal( 10 , 2 )", "decimal(10,2)"), ("decimal(4)", "decimal(4,0)"), ("timestamptz", "timestamptz")],
)  # fmt: skip
def test_types_have_one_name_in_the_plan(given: str, kept: str) -> None:
    assert parse_type(given) == kept


def test_a_cast_is_taken_apart_at_its_last_colon() -> None:
    (cast,) = parse_casts(["a:b:int64"])
    assert (cast.column, cast.type) == ("a:b", "int64")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dest": "out.xlsx"}, r"out\.xlsx ends in \.xlsx: .*--to csv, jsonl or parquet"),
        ({"dest": "out"}, r"out has no ending: .*--to"),
        ({"to": "xml"}, r"--to xml: there are csv, jsonl, parquet"),
        ({"dest": "folder/"}, r"is a folder: say what to write into it with --to csv"),
        ({"dest": "s3://bucket/out.csv"}, r"is a URL: give --work-dir, a folder that every node sees"),
        ({"dest": "out.parquet.gz"}, r"a Parquet file is compressed inside.*--compression gzip"),
        ({"compression": "bz2"}, r"--compression bz2: for csv there are none, gzip, zstd"),
        ({"dest": "o.parquet", "compression": "lz4"}, r"--compression lz4: for Parquet there are"),
        ({"dest": "o.parquet", "to_encoding": "gbk"}, r"--to-encoding is for text"),
        ({"dest": "o.jsonl", "to_delimiter": ";"}, r"--to-delimiter is for CSV"),
        ({"to_delimiter": '"'}, r"--to-delimiter and --to-quote are both"),
        ({"quote": "''"}, r"--quote .*: one ASCII character and no line end, or none"),
        ({"delimiter": "|", "quote": "|"}, r"--delimiter and --quote are both '\|'"),
        ({"escape": "\n"}, r"--escape"),
        ({"infer": "guess"}, r"--infer guess: there are sample, full, none"),
        ({"max_errors": "many"}, r"--max-errors many: a number of rows, a percentage like 0\.5%, or all"),
        ({"max_errors": "101%"}, r"--max-errors"),
        ({"limit": -1}, r"--limit -1"),
        ({"drop_null": "a,,b"}, r"--drop-null has an empty name"),
        ({"partition_by": "a"}, r"--partition-by makes folders: end the destination in a slash"),
        ({"trim": "yes"}, r"--trim 'yes': true or false"),
        ({"limit": "3"}, r"--limit '3': a whole number"),
        ({"where": 3}, r"--where 3: give text"),
        ({"colour": "red"}, r"no option 'colour': there are cast, columns"),
        ({"source": ""}, r"needs a source and a destination"),
        ({"delimiter": ";;"}, r"--delimiter ';;': one ASCII character"),
        ({"delimiter": '"'}, r"--delimiter and --quote are both"),
        ({"cast": "a"}, r"--cast 'a': write it as column:type"),
        ({"cast": "a:complex"}, r"no type 'complex': there are string, int64, int32, float64.* and decimal\(P,S\)"),
        ({"cast": "a:decimal(50,2)"}, r"decimal\(50,2\): .* 1 to 38"),
        ({"cast": "a:decimal(3,4)"}, r"decimal\(3,4\)"),
        ({"cast": "a:int64,a:string"}, r"--cast names column 'a' twice"),
        ({"columns": "a,,b"}, r"--columns has an empty name"),
        ({"segment_bytes": 0}, r"segment_bytes=0"),
        ({"segment_bytes": 2 << 30}, r"segment_bytes"),
    ],
)
def test_what_is_wrong_without_a_look_at_the_source_is_refused_in_one_line(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message) as refused:
        make_spec(**{"source": "in.csv", "dest": "out.csv"} | options)
    assert "\n" not in refused.value.message


def test_a_spec_travels_in_an_item() -> None:
    spec = make_spec(
        "in.csv", "out.parquet", columns="a,b:c", where="a > 1", cast="a:int64", delimiter="\\t", force=True
    )
    assert spec.delimiter == "\t"
    assert spec_from_dict(decode_value(encode_value(spec_to_dict(spec)))) == spec
    assert check_spec(spec) == spec
    assert spec_from_dict({"source": "a", "dest": "b"}) == ExportSpec("a", "b")


def test_compression_follows_the_ending_unless_asked_otherwise() -> None:
    made = [make_spec("a", dest) for dest in ("o.csv", "o.csv.gz", "o.jsonl.zst", "o.ndjson", "o.tsv", "o.parquet")]
    assert [(one.format, one.compression, one.to_delimiter) for one in made] == [
        ("csv", "none", ","), ("csv", "gzip", ","), ("jsonl", "zstd", ""), ("jsonl", "none", ""), ("csv", "none", "\t"),
        ("parquet", "snappy", ""),
    ]  # fmt: skip
    assert make_spec("a", "o.csv.gz", compression="none").compression == "none"
    assert make_spec("a", "folder/", to="jsonl").dest.endswith("/folder/")


def test_marks_have_names_and_a_quote_that_escapes_itself_is_doubled() -> None:
    made = make_spec("a", "b.csv", delimiter="tab", quote="none", escape="backslash", to_delimiter="pipe")
    assert (made.delimiter, made.quote, made.escape, made.to_delimiter) == ("\t", "", "\\", "|")
    assert make_spec("a", "b.csv", quote=None).quote == ""
    assert make_spec("a", "b.csv", escape='"').escape == ""


def test_errors_are_a_number_a_share_or_all() -> None:
    assert [parse_errors(text) for text in ("12", " 0.5 %", "ALL")] == [Errors(12), Errors(None, 0.5), Errors(None)]
    assert make_spec("a", "b.csv", max_errors=3).max_errors == "3"


def test_the_date_is_that_of_the_start_in_utc() -> None:
    assert with_date(make_spec("a", "/x/o-{date}.csv"), 1_763_769_599.0).dest == "/x/o-2025-11-21.csv"
    assert with_date(make_spec("a", "/x/{date}/o.csv"), 1_763_769_600.0).dest == "/x/2025-11-22/o.csv"


def test_a_spec_file_has_the_names_of_the_flags(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(
        'source = "a.csv"\ndest = "b.csv"\ndrop-null = ["x"]\nmax_errors = 3\n[cast]\nx = "int64"\n'
    )
    given = read_spec_file(tmp_path / "e.toml")
    made = spec_from_options(given | {"limit": 7})
    assert (made.drop_null, made.max_errors, made.cast, made.limit) == (("x",), "3", ("x:int64",), 7)
    for text, message in (("a = ", "is no TOML file"), ("colour = 3", "there is no option 'colour'")):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ExportError, match=message):
            read_spec_file(tmp_path / "bad.toml")
    with pytest.raises(ExportError, match=r"none\.toml cannot be read: No such file"):
        read_spec_file(tmp_path / "none.toml")


def test_what_changes_no_part_is_not_in_the_canonical_spec() -> None:
    plain = canonical_spec(make_spec("a", "b.csv"))
    assert canonical_spec(make_spec("a", "b.csv", force=True, manifest=True, max_errors="all")) == plain
    assert canonical_spec(make_spec("a", "b.csv", trim=True)) != plain
    assert canonical_spec(make_spec("a", "b.csv", header=True)) != plain
