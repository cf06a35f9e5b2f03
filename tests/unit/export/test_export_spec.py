"""What an export is asked to do: names, lists and types as users write them, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from windrow.common.errors import ExportError
from windrow.common.values import decode_value, encode_value
from windrow.export.spec import ExportSpec, check_spec, make_spec, parse_casts, spec_from_dict, spec_to_dict, split_list
from windrow.export.types import parse_type


def test_lists_are_split_at_commas_outside_quotes_and_brackets() -> None:
    assert split_list('a, b:new ,"c,d":e') == ("a", "b:new", "c,d:e")
    assert split_list("price:decimal(9,2),qty:int64") == ("price:decimal(9,2)", "qty:int64")
    assert split_list(" ") == ()


def test_lists_may_come_as_text_sequence_or_mapping() -> None:
    made = [make_spec("a", "b.csv", columns=given).columns for given in ("a,b:c", ["a", "b:c"], {"a": "", "b": "c"})]
    assert made == [("a", "b:c")] * 3
    assert make_spec("a", "b.csv", cast={"x": "decimal(5, 1)"}).cast == ("x:decimal(5, 1)",)


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
        ({"dest": "out.xlsx"}, r"out\.xlsx ends in \.xlsx: .*--to csv or --to parquet"),
        ({"dest": "out"}, r"out has no ending: .*--to"),
        ({"to": "xml"}, r"--to xml: there are csv and parquet"),
        ({"dest": "folder/"}, r"is a folder"),
        ({"source": ""}, r"needs a source and a destination"),
        ({"delimiter": ";;"}, r"--delimiter ';;': one ASCII character"),
        ({"delimiter": '"'}, r"--delimiter"),
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
