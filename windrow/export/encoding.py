"""Names, detects and decodes the encodings of text sources, and says whether their bytes can be scanned as they are.

An encoding that is given is taken at its word. Detection looks at samples: a byte order mark, then NULs (UTF-16), then
strict UTF-8, then which of the East Asian encodings gives common characters, else Latin-1.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from windrow.common.errors import ExportError
from windrow.export.compression import Readable
from windrow.export.dialect import Dialect

UTF8, LATIN1, CP1252 = "utf-8", "latin-1", "windows-1252"
GBK, GB18030, BIG5, SHIFT_JIS = "gbk", "gb18030", "big5", "shift-jis"
UTF16, UTF16_LE, UTF16_BE = "utf-16", "utf-16-le", "utf-16-be"

ENCODINGS = (UTF8, LATIN1, CP1252, GBK, GB18030, BIG5, SHIFT_JIS, UTF16, UTF16_LE, UTF16_BE)

SAMPLES = 64
SAMPLE_BYTES = 16 << 10
WHOLE_BYTES_MAX = 4 << 20
"""A source up to this size is looked at whole."""
READ_BYTES = 1 << 20

_CODECS = {
    # The supersets that Windows writes under these names, and browsers read. GB18030 holds all of GBK.
    UTF8: "utf-8", LATIN1: "latin-1", CP1252: "cp1252", GBK: "gb18030", GB18030: "gb18030", BIG5: "cp950",
    SHIFT_JIS: "cp932", UTF16_LE: "utf-16-le", UTF16_BE: "utf-16-be",
}  # fmt: skip
_ALIASES = {
    "utf8": UTF8, "utf8sig": UTF8, "ascii": UTF8, "usascii": UTF8,
    "latin1": LATIN1, "latin": LATIN1, "iso88591": LATIN1, "l1": LATIN1,
    "windows1252": CP1252, "cp1252": CP1252, "ansi": CP1252,
    "gbk": GBK, "cp936": GBK, "936": GBK, "gb2312": GBK, "euccn": GBK, "gb18030": GB18030,
    "big5": BIG5, "cp950": BIG5, "950": BIG5,
    "shiftjis": SHIFT_JIS, "sjis": SHIFT_JIS, "cp932": SHIFT_JIS, "932": SHIFT_JIS, "windows31j": SHIFT_JIS,
    "mskanji": SHIFT_JIS,
    "utf16": UTF16, "utf16le": UTF16_LE, "utf16be": UTF16_BE,
}  # fmt: skip
_BOMS = (
    (codecs.BOM_UTF8, UTF8),
    (b"\x84\x31\x95\x33", GB18030),
    (codecs.BOM_UTF16_LE, UTF16_LE),
    (codecs.BOM_UTF16_BE, UTF16_BE),
)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_DIGITS = frozenset("0123456789")
_LETTERS_ON = frozenset(map(chr, range(0x40, 0x7F)))
_TRAILS = {GBK: _LETTERS_ON | _DIGITS, GB18030: _LETTERS_ON | _DIGITS, BIG5: _LETTERS_ON, SHIFT_JIS: _LETTERS_ON}
"""What else than the character second and fourth bytes may be. GBK is decoded as GB18030."""
_CUT = re.compile(rb"[\n\r\t ,;\"]")
"""Bytes that are whole characters in every encoding but UTF-16: samples are cut there."""


@dataclass(frozen=True, slots=True)
class Detected:
    """An encoding and how many bytes the byte order mark before the text has."""

    encoding: str
    bom_bytes: int = 0


def parse_encoding(text: str) -> str:
    """The encoding's name as the plan keeps it; ExportError names the known ones."""
    found = _ALIASES.get(re.sub(r"[\s_.:-]", "", text.lower()))
    if found is None:
        raise ExportError(
            f"no encoding {text!r}: there are {', '.join(ENCODINGS)}; convert others first, e.g. with iconv -t UTF-8"
        )
    return found


def codec_of(encoding: str) -> str:
    """Python's name of the codec; ExportError where there is none."""
    if encoding not in _CODECS:
        raise ExportError(f"the encoding {encoding!r} is none of {', '.join(_CODECS)}")
    return _CODECS[encoding]


def find_bom(head: bytes, name: str) -> Detected | None:
    """What the first four bytes of a source say; None where there is no byte order mark."""
    # That of UTF-32 begins with that of UTF-16. UTF-16 with a NUL as its first character is not worth the doubt.
    if head.startswith(_UTF32):
        raise ExportError(f"{name} is UTF-32: convert it first, e.g. with iconv -f UTF-32 -t UTF-8")
    return next((Detected(found, len(bom)) for bom, found in _BOMS if head.startswith(bom)), None)


def resolve_encoding(given: str, head: bytes, name: str) -> Detected:
    """The encoding that was asked for, and the mark to be left out; UTF-16 gets its byte order."""
    bom = find_bom(head, name)
    if given == UTF16:
        if bom is not None and bom.encoding in (UTF16_LE, UTF16_BE):
            return bom
        return Detected(_byte_order([(0, head)]) or UTF16_LE)
    return bom if bom is not None and _CODECS[bom.encoding] == _CODECS[given] else Detected(given)


def take_samples(read: Callable[[int, int], bytes], size: int) -> list[tuple[int, bytes]]:
    """(offset, bytes) of places spread over a source, or all of a small one."""
    if size <= WHOLE_BYTES_MAX:
        return [(0, read(0, size))]
    step = (size - SAMPLE_BYTES) / (SAMPLES - 1)
    # At even offsets, so that UTF-16 stays in step.
    places = [round(number * step) // 2 * 2 for number in range(SAMPLES)]
    return [(at, read(at, SAMPLE_BYTES)) for at in places]


def detect_encoding(samples: Sequence[tuple[int, bytes]], name: str, *, whole: bool = False) -> Detected:
    """The encoding of a source with these samples, (offset, bytes), one of them its beginning.

    `whole`: there is nothing behind the last sample, so that no character may be cut off there.
    """
    bom = find_bom(next((data for at, data in samples if at == 0), b""), name)
    if bom is not None:
        return bom
    order = _byte_order(samples)
    if order is not None:
        return Detected(order)
    if all(_is_utf8(data, at == 0, whole and at == samples[-1][0]) for at, data in samples):
        return Detected(UTF8)
    pieces = [_trimmed(data, at == 0, whole and at == samples[-1][0]) for at, data in samples]
    text = b"".join(piece for piece in pieces if not piece.isascii())
    if _is_nearly_utf8(text):
        return Detected(UTF8)
    scores = {found: score(text, found) for found in (GB18030, BIG5, SHIFT_JIS)}
    best = max(scores, key=lambda found: scores[found])
    if scores[best] >= SCORE_MIN:
        return Detected(best)
    try:
        text.decode("cp1252")
    except UnicodeDecodeError:
        return Detected(LATIN1)
    # Between 0x80 and 0x9F Latin-1 has control characters, which nobody writes.
    return Detected(CP1252 if re.search(rb"[\x80-\x9f]", text) else LATIN1)


def is_scannable(encoding: str, dialect: Dialect) -> bool:
    """Whether each byte that looks like a mark of the dialect, or a newline, is one."""
    if encoding in (UTF16, UTF16_LE, UTF16_BE):
        return False
    return not set(dialect.marks) & _TRAILS.get(encoding, frozenset())


def to_utf8(data: bytes, encoding: str, *, name: str, offset: int = 0, line: int = 1) -> bytes:
    """Whole rows in UTF-8; ExportError names byte and line of what is not of the encoding."""
    try:
        text = data.decode(_CODECS[encoding])
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(_CODECS[encoding], "replace")
        raise _not_of(encoding, name, offset + error.start, line + before.count("\n"), error) from None
    return data if encoding == UTF8 else text.encode()


def transcode(stream: Readable, encoding: str, *, name: str) -> Iterator[bytes]:
    """The stream in UTF-8, without a byte order mark; ExportError names byte and line of what does not belong."""
    head = b""
    while len(head) < 4 and (more := stream.read(READ_BYTES)):
        head += more
    found = resolve_encoding(encoding, head, name)
    decoder = codecs.getincrementaldecoder(_CODECS[found.encoding])()
    is_utf8 = found.encoding == UTF8
    data, kept, offset, line = head[found.bom_bytes :], b"", found.bom_bytes, 1
    last = not head
    while True:
        try:
            text = decoder.decode(data, last)
        except UnicodeDecodeError as error:
            # The decoder has put before the data what it kept of the last ones.
            held = len(error.object) - len(data)
            before = error.object[: error.start].decode(_CODECS[found.encoding], "replace")
            place = offset - held + error.start
            raise _not_of(found.encoding, name, place, line + before.count("\n"), error) from None
        # UTF-8 needs no encoding anew, only what was kept of a character put before the data.
        encoded = _without(kept + data, decoder.getstate()[0]) if is_utf8 else text.encode()
        kept = decoder.getstate()[0]
        if encoded:
            yield encoded
        if last:
            return
        line += encoded.count(b"\n")
        offset += len(data)
        data = stream.read(READ_BYTES)
        last = not data


def _without(data: bytes, tail: bytes) -> bytes:
    return data[: len(data) - len(tail)] if tail else data


def _not_of(encoding: str, name: str, offset: int, line: int, error: UnicodeDecodeError) -> ExportError:
    found = error.object[error.start : error.start + 4].hex(" ")
    return ExportError(
        f"{name} is not {encoding}: byte {offset}, in line {line}, begins with {found} ({error.reason}); "
        "give the encoding with --encoding, or mend the file"
    )


def _byte_order(samples: Sequence[tuple[int, bytes]]) -> str | None:
    """UTF-16 by its NULs: no other text has any, and newlines, commas and digits have one of their two bytes so."""
    little = big = size = 0
    for at, data in samples:
        even, odd = data[at % 2 :: 2], data[1 - at % 2 :: 2]
        little += odd.count(0)
        big += even.count(0)
        size += len(data)
    most, least = max(little, big), min(little, big)
    # Some of the other parity too: U+3000 and its like. A stray NUL or two in other text is not enough.
    return (UTF16_LE if little > big else UTF16_BE) if most > 4 * least and most * 50 > size else None


def _is_utf8(data: bytes, first: bool, last: bool) -> bool:
    if not first:
        # A character that begins before the sample has at most three bytes in it.
        data = data[next((at for at in range(min(4, len(data))) if data[at] & 0xC0 != 0x80), 0) :]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, last)
    except UnicodeDecodeError:
        return False
    return True


def _is_nearly_utf8(text: bytes) -> bool:
    """Of a file with a wrong byte or two this makes an error with their place, not a file full of wrong characters."""
    shown = text.decode("utf-8", "replace")
    wrong = shown.count(_WRONG)
    return sum(character > "\x7f" for character in shown) - wrong > WRONG_COST * wrong


def _trimmed(data: bytes, first: bool, last: bool) -> bytes:
    """From the first to the last byte that is surely a whole character."""
    start, stop = 0, len(data)
    if not first:
        found = _CUT.search(data)
        start = found.end() if found else stop
    if not last:
        stop = max((data.rfind(cut, start) + 1 for cut in (b"\n", b" ", b",", b";", b"\t", b'"')), default=start)
    return data[start : max(start, stop)]


SCORE_MIN = 0.5
"""Below it, text of bytes over 0x7F is none of East Asia's."""

WRONG_COST = 10.0
"""Characters that it takes to make up for a byte that is none."""

_WRONG = "\ufffd"
_LONE = re.compile(r"[A-Za-z][^\x00-\x7f](?![^\x00-\x7f])")
"""One character of East Asia behind a letter is rather an accent, or a curly apostrophe, with the letter behind it."""


def score(data: bytes, encoding: str) -> float:
    """How much the bytes look like text of this East Asian encoding: 1 where all characters are common."""
    text = data.decode(_CODECS[encoding], "replace")
    counts = Counter(text)
    total = sum(count for character, count in counts.items() if character > "\x7f")
    if not total:
        return 0.0
    weights = _weights(encoding)
    good = sum(count * weights.get(character, 0.0) for character, count in counts.items() if character > "\x7f")
    lone = sum(weights.get(found[1], 0.0) for found in _LONE.findall(text))
    return (good - lone - WRONG_COST * counts[_WRONG]) / total


@lru_cache
def _weights(encoding: str) -> dict[str, float]:
    """How common the characters of each region are: each standard has put the common ones first."""
    # (first and last lead byte, weight)
    regions = {
        GB18030: ((0xA1, 0xA1, 0.8), (0xA3, 0xA3, 0.8), (0xB0, 0xD7, 1.0), (0xD8, 0xF7, 0.4)),
        BIG5: ((0xA1, 0xA2, 0.8), (0xA4, 0xC6, 1.0), (0xC9, 0xF9, 0.3)),
        SHIFT_JIS: ((0x81, 0x81, 0.8), (0x82, 0x83, 1.0), (0x88, 0x97, 1.0), (0x98, 0x9F, 0.4), (0xE0, 0xEA, 0.3)),
    }[encoding]
    trails = range(0xA1, 0xFF) if encoding == GB18030 else range(0x40, 0xFD)
    found: dict[str, float] = {}
    for first, last, weight in regions:
        for lead in range(first, last + 1):
            pairs = (bytes([lead, trail]).decode(_CODECS[encoding], "ignore") for trail in trails)
            found.update((pair, weight) for pair in pairs if len(pair) == 1 and pair > "\x7f")
    if encoding == SHIFT_JIS:
        found.update((chr(kana), 0.2) for kana in range(0xFF61, 0xFFA0))
    return found
