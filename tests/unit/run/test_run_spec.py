"""What `windrow run` makes of a command line, and how an item gets into it."""

from __future__ import annotations

import subprocess

import pytest

from windrow.common.errors import UsageError, WindrowError
from windrow.common.values import encode_value
from windrow.run.spec import OUTPUT_BYTES_MAX, SPEC_BYTES_MAX, CommandSpec, decode_spec, encode_spec, make_spec

NASTY = ["a b", "it's", '"', "$HOME `id` \\", "*", "", "-n", "ä\n;", "{}"]


def spec(*command: str, items: bool = True, **options: object) -> CommandSpec:
    return make_spec(command, items=items, **{"cwd": "/", **options})  # type: ignore[arg-type]


def test_several_arguments_are_executed_as_they_are_and_the_item_stands_in_each() -> None:
    made = spec("cp", "{}", "{}.bak-{}", "$HOME")
    assert made.fill("a b") == ["cp", "a b", "a b.bak-a b", "$HOME"]


def test_one_plain_word_is_executed_and_a_line_goes_to_the_shell() -> None:
    assert spec("true", items=False).fill("") == ["true"]
    assert spec("./tool-{}.sh").fill("7") == ["./tool-7.sh"]
    assert spec("{}").fill("7") == ["7"]
    assert spec("echo hi > x", items=False).fill("") == ["sh", "-c", "echo hi > x"]


@pytest.mark.parametrize("item", NASTY)
def test_the_shell_gets_the_item_quoted_and_sees_it_as_one_word(item: str) -> None:
    done = subprocess.run(spec("printf '%s|' {} .").fill(item), capture_output=True, text=True, check=True)
    assert done.stdout == f"{item}|.|"


def test_without_its_place_the_item_is_put_behind() -> None:
    assert spec("gzip", "-9").fill("a b") == ["gzip", "-9", "a b"]
    assert spec("true").fill("3") == ["true", "3"]
    assert spec("cd /tmp; ls").fill("a b") == ["sh", "-c", "cd /tmp; ls 'a b'"]


def test_it_is_not_put_behind_where_the_command_names_the_variable_or_nobody_wants_it() -> None:
    assert spec("echo $WINDROW_ITEM").fill("3") == ["sh", "-c", "echo $WINDROW_ITEM"]
    assert spec("sleep", "1", append=False).fill("3") == ["sleep", "1"]


def test_another_text_may_stand_for_the_item() -> None:
    assert spec("find", "%", "-exec", "ls", "{}", ";", place="%").fill("src") == [
        "find", "src", "-exec", "ls", "{}", ";",
    ]  # fmt: skip


def test_without_items_nothing_is_replaced() -> None:
    assert spec("find", "-exec", "ls", "{}", ";", items=False).fill("") == ["find", "-exec", "ls", "{}", ";"]


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ([], {}, "there is no command: put it behind --"),
        ([""], {}, "there is no command"),
        (["a\0b", "c"], {}, "code 0"),
        (["true"], {"env": ["A"]}, "--env A: write NAME=VALUE"),
        (["true"], {"env": ["1A=2"]}, "--env 1A=2: write NAME=VALUE"),
        (["true"], {"timeout_s": 0.0}, "--timeout 0: give seconds, above 0"),
        (["true"], {"timeout_s": float("nan")}, "--timeout nan"),
        (["true"], {"place": ""}, "--replace: give at least one character"),
        (["true", "x" * SPEC_BYTES_MAX], {}, "put it into a script"),
        (["cat", "caf\udce9"], {}, r"'caf\udce9' in the command, its folder or --env is not UTF-8: rename it"),
        (["true"], {"cwd": "/d\udce9"}, "is not UTF-8"),
        (["true"], {"env": ["A=\udce9"]}, "is not UTF-8"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_way_out(
    command: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        spec(*command, **options)
    assert message in caught.value.message


def test_the_spec_travels_and_comes_back() -> None:
    made = spec("a", "{}", env=["A=1", "B=x=y"], timeout_s=2.5, output_bytes=10)
    assert decode_spec(encode_spec(made)) == made
    assert made.env == {"A": "1", "B": "x=y"}


@pytest.mark.parametrize("data", [b"", encode_value([1, 2]), encode_value("text"), encode_value([1] * 7)])
def test_what_is_no_spec_is_refused(data: bytes) -> None:
    with pytest.raises(WindrowError):
        decode_spec(data)


def test_no_spec_makes_a_value_too_large() -> None:
    wanted = encode_value([["true"], False, "", "/", {}, None, 1 << 40])
    assert decode_spec(wanted).output_bytes == OUTPUT_BYTES_MAX


@pytest.mark.parametrize(("at", "wrong"), [(0, range(1 << 60)), (0, "sh"), (6, float("inf")), (5, "soon"), (4, [1])])
def test_a_command_with_a_part_that_is_none_is_refused(at: int, wrong: object) -> None:
    parts: list[object] = [["sh"], False, "{}", "/", {}, None, 1]
    parts[at] = wrong
    with pytest.raises(UsageError, match="no command of"):
        decode_spec(encode_value(parts))
