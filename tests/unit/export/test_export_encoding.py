"""Encodings are named, detected and decoded, and a wrong byte is told with its place."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windrow.common.errors import ExportError
from windrow.export.dialect import LINES, RFC4180, Dialect
from windrow.export.encoding import (
    BIG5,
    CP1252,
    ENCODINGS,
    GB18030,
    GBK,
    LATIN1,
    SHIFT_JIS,
    UTF8,
    UTF16,
    UTF16_BE,
    UTF16_LE,
    WHOLE_BYTES_MAX,
    Detected,
    codec_of,
    detect_encoding,
    is_scannable,
    parse_encoding,
    resolve_encoding,
    take_samples,
    to_utf8,
    transcode,
)

WORDS: dict[str, Sequence[str]] = {
    GBK: ["王伟", "李秀英", "张敏", "刘洋", "陈静怡", "杨子轩", "赵磊", "黄桂英", "欧阳明", "北京市", "上海"],
    BIG5: ["陳淑芬", "林志明", "黃俊傑", "張雅婷", "李美玲", "王家豪", "吳佩穎", "劉宜君", "裏恒", "臺北市", "高雄"],
    SHIFT_JIS: ["佐藤太郎", "鈴木花子", "高橋健太", "田中さくら", "渡辺ユミ", "伊藤誠", "東京都", "大阪府"],
    LATIN1: ["Müller", "José", "Françoise", "Søren", "Zoë", "Ångström", "Niño", "Weiß", "Smith", "Élodie"],
    CP1252: ["don’t", "“quoted”", "5 €", "café – bar", "Müller", "O’Neill’s"],
    UTF8: ["王伟", "陳淑芬", "佐藤太郎", "Müller", "Привет", "don’t", "🙂"],
}
WORDS[GB18030] = [*WORDS[GBK], "㐀", "🙂"]
WORDS[UTF16_LE] = WORDS[UTF16_BE] = WORDS[UTF8]
KINDS = sorted(WORDS)


def table(kind: str, rows: int, seed: int = 0) -> str:
    dice = random.Random(seed)
    lines = [f"{number},{dice.choice(WORDS[kind])},{dice.randint(0, 999)}" for number in range(rows)]
    return "\n".join(["id,name,n", *lines, ""])


def packed(text: str, kind: str) -> bytes:
    # What GBK is decoded with can write more than GBK.
    return text.encode("gbk" if kind == GBK else codec_of(kind))


def detected(data: bytes) -> str:
    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    whole = len(data) <= WHOLE_BYTES_MAX
    return detect_encoding(take_samples(read, len(data)), "a.csv", whole=whole).encoding


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_column_of_names_gives_its_encoding_away(kind: str) -> None:
    for seed in range(50):
        text = table(kind, 20, seed)
        data = packed(text, kind)
        assert data.decode(codec_of(detected(data))) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_source_is_known_by_samples_that_cut_characters(kind: str) -> None:
    data = packed(table(kind, 400), kind)
    data = packed("x\n", kind) + data * (WHOLE_BYTES_MAX // len(data) + 1)
    found = detected(data)
    assert data.decode(codec_of(found)) == data.decode(codec_of(kind))


def test_plain_ascii_is_utf8() -> None:
    assert detected(b"") == UTF8
    assert detected(b"a,b\n1,2\n") == UTF8


def test_a_few_wrong_bytes_do_not_change_the_encoding_so_that_they_are_told() -> None:
    for kind in (UTF8, GB18030, BIG5, SHIFT_JIS):
        data = packed(table(kind, 400), kind)
        at = data.index(b"\n", len(data) // 2)
        assert detected(data[:at] + b"\xff" + data[at:]) == kind


def test_text_of_western_europe_is_none_of_east_asia() -> None:
    text = "It doesn’t matter what we’ve said, they’ll say we didn’t, and so it’s been.\n" * 50
    assert detected(text.encode("cp1252")) == CP1252
    assert detected("déjà vu, où ça, être né, Straße größer\n".encode("latin-1") * 50) == LATIN1


def test_a_byte_order_mark_decides() -> None:
    for kind, codec in ((UTF8, "utf-8"), (UTF16_LE, "utf-16-le"), (UTF16_BE, "utf-16-be"), (GB18030, "gb18030")):
        data = "\ufeffa,b\n".encode(codec)
        bom = len("\ufeff".encode(codec))
        assert detect_encoding([(0, data)], "a", whole=True) == Detected(kind, bom)
        assert resolve_encoding(kind, data, "a") == Detected(kind, bom)
        assert b"".join(transcode(io.BytesIO(data), kind, name="a")) == b"a,b\n"
    assert resolve_encoding(UTF16, b"\xfe\xff\0a", "a") == Detected(UTF16_BE, 2)
    assert resolve_encoding(UTF16, b"\0a\0,", "a") == Detected(UTF16_BE)
    assert resolve_encoding(UTF16, "丁".encode("utf-16-le"), "a") == Detected(UTF16_LE)
    # A mark of another encoding than the one that was asked for is text.
    assert resolve_encoding(LATIN1, b"\xef\xbb\xbfa", "a") == Detected(LATIN1)
    with pytest.raises(ExportError, match="a is UTF-32: convert it first"):
        detect_encoding([(0, "\ufeffa".encode("utf-32-le"))], "a")


def test_encodings_have_many_names_and_unknown_ones_are_refused_with_the_list() -> None:
    for text, name in (
        ("UTF8", UTF8), ("utf-8-sig", UTF8), ("ISO-8859-1", LATIN1), ("cp1252", CP1252), ("GB2312", GBK),
        ("cp936", GBK), ("Big-5", BIG5), ("Shift_JIS", SHIFT_JIS), ("sjis", SHIFT_JIS), ("UTF-16", UTF16),
        ("utf_16_be", UTF16_BE),
    ):  # fmt: skip
        assert parse_encoding(text) == name
    assert [parse_encoding(name) for name in ENCODINGS] == list(ENCODINGS)
    with pytest.raises(ExportError, match=r"no encoding 'koi8-r': there are utf-8, latin-1, .*iconv"):
        parse_encoding("koi8-r")


def test_bytes_are_scanned_only_where_no_character_can_hide_a_mark() -> None:
    characters = "".join(map(chr, (*range(0x80, 0xD800), *range(0xE000, 0x10800))))
    for kind in ENCODINGS:
        hidden = set(range(256)) if kind == UTF16 else set(characters.encode(codec_of(kind), "ignore"))
        for code in set(range(1, 127)) - set(b'\r\n"'):
            assert is_scannable(kind, Dialect(chr(code))) == (code not in hidden), (kind, chr(code))
    assert not is_scannable(GBK, Dialect(",", '"', "\\"))
    assert is_scannable(UTF8, Dialect("|", "'", "\\"))
    assert is_scannable(SHIFT_JIS, RFC4180)
    assert is_scannable(BIG5, LINES)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_stream_is_transcoded_wherever_it_is_cut(kind: str, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from("".join(WORDS[kind]) + '",\r\n|'), max_size=80))
    raw = packed(text, kind)

    class Cut(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(data.draw(st.integers(1, 5)))

    assert b"".join(transcode(Cut(raw), kind, name="a")).decode() == text
    assert to_utf8(raw, kind, name="a").decode() == text


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_of_the_encoding_is_told_with_byte_and_line(kind: str) -> None:
    wrong = {
        UTF8: b"\xff", GBK: b"\xff", GB18030: b"\xff", BIG5: b"\xff", SHIFT_JIS: b"\x81\xff", CP1252: b"\x81",
        UTF16_LE: b"\x00\xdc", UTF16_BE: b"\xdc\x00", LATIN1: b"",
    }[kind]  # fmt: skip
    good = packed(table(kind, 30_000), kind)
    newline = packed("\n", kind)
    at = good.index(newline, len(good) // 2 // 2 * 2)
    at += at % len(newline)
    data = good[:at] + wrong + good[at:]
    line = good[:at].decode(codec_of(kind)).count("\n") + 1
    if not wrong:
        assert b"".join(transcode(io.BytesIO(data), kind, name="a")).decode() == data.decode("latin-1")
        return
    place = f"byte {at}, in line {line}, begins with {wrong.hex(chr(32))}"
    with pytest.raises(ExportError, match=place):
        list(transcode(io.BytesIO(data), kind, name="a"))
    with pytest.raises(ExportError, match=f"byte {at + 7}, in line {line + 2}, begins with"):
        to_utf8(data, kind, name="a", offset=7, line=3)


@pytest.mark.parametrize("kind", [UTF8, GBK, BIG5, SHIFT_JIS, UTF16_LE])
def test_a_character_cut_off_at_the_end_is_told(kind: str) -> None:
    data = packed("a\n王" if kind != SHIFT_JIS else "a\n田", kind)[:-1]
    place = rf"byte {len(packed('a', kind)) * 2}, in line 2"
    with pytest.raises(ExportError, match=place):
        list(transcode(io.BytesIO(data), kind, name="a"))
