"""Turns a compressed or unscannable text source into segment files of plain UTF-8, each there as soon as it is whole.

One pass reads, decompresses, transcodes and cuts at row ends, where cut_segments would cut the plain text: so the bytes
of each segment follow from the source, the options and the segment size alone. A segment file appears by renaming, and
its note after it; a later run takes over what is noted, and reads on behind it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import MalformedMessage
from windrow.export.compression import HEAD_BYTES, PLAIN, PlainStream, check_plain, open_plain
from windrow.export.dialect import NEWLINE, Dialect, State, find_row_end, state_after
from windrow.export.disk import check_disk, folder_gone, full_disk_is_retried
from windrow.export.encoding import codec_of, resolve_encoding, transcode
from windrow.export.estimating import needed_bytes
from windrow.export.files import write_durably
from windrow.export.storage import Fingerprint, SourceFile, check_unchanged, open_source

PREPARE_VERSION = 1
"""Raised when the same source would give other segments."""
SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TextSource:
    """A text and how to read it: all that its segments depend on."""

    file: SourceFile
    fingerprint: Fingerprint
    encoding: str
    dialect: Dialect
    segment_bytes: int
    compression: str = PLAIN
    member: str = ""
    """Of a zip archive."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.member} in {self.file.name}" if self.member else self.file.name

    @property
    def key(self) -> str:
        """The same for the same segments: it stands in the files' names."""
        text = json.dumps([PREPARE_VERSION, to_plain(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PreparedSegment:
    """Whole rows, as a file of UTF-8 without a byte order mark. The first one begins with the header, if any."""

    number: int
    file: str
    """Its name in the work folder."""
    start: int
    """Bytes of the text before it, in UTF-8."""
    bytes: int
    sha256: str
    line: int
    """Number of the line that it begins with, from 1 on."""
    lines: int
    """Line ends in it, inside quotes and out."""
    last: bool
    """Nothing comes behind it."""
    inside: bool
    """The text ends inside quotes: their number is odd. Only ever true of the last one."""

    @property
    def stop(self) -> int:
        """Bytes of the text up to its end."""
        return self.start + self.bytes


_decode_segment: Callable[[object], PreparedSegment] = decoder_for(PreparedSegment)


def prepare(source: TextSource, work: Path, unique: str) -> Iterator[PreparedSegment]:
    """The segments in order, each when its file is there; at least one.

    `unique` keeps two runs from meeting in one file. Retry where the disk has too little room.
    """
    done = find_prepared(source, work)
    yield from done
    if done and done[-1].last:
        return
    check_unchanged(source.file)
    offset, line = (done[-1].stop, done[-1].line + done[-1].lines) if done else (0, 1)
    check_disk(work, max(0, estimate_bytes(source) - offset))
    with _open(source) as stream:
        texts = transcode(_Checked(stream, source), source.encoding, name=source.name)
        cutter = _Cutter(_behind(texts, offset), source, offset, line)
        for number in itertools.count(len(done)):
            segment = _write_segment(source, work, unique, cutter, number)
            yield segment
            if segment.last:
                return


def find_prepared(source: TextSource, work: Path) -> list[PreparedSegment]:
    """The segments that an earlier run has finished, from the first one on without a gap."""
    found: list[PreparedSegment] = []
    while not (found and found[-1].last):
        try:
            segment = _decode_segment(json.loads((work / _note_name(source, len(found))).read_bytes()))
            size = (work / segment.file).stat().st_size
        except (FileNotFoundError, ValueError, MalformedMessage):
            break
        if size != segment.bytes or segment.number != len(found):
            break
        found.append(segment)
    return found


def estimate_bytes(source: TextSource) -> int:
    """About how many bytes the segments have together."""
    size, sequential = source.file.bytes, source.file.sequential
    with open_source(source.file.url, sequential=sequential) as raw:
        need = needed_bytes(
            raw, source.name, size, sequential=sequential, compression=source.compression, member=source.member
        )
    with _open(source) as stream:
        sample = stream.read(SAMPLE_BYTES)
    codec = codec_of(resolve_encoding(source.encoding, sample[:HEAD_BYTES], source.name).encoding)
    grown = len(sample.decode(codec, "replace").encode())
    return int(need.bytes * max(1.0, grown / max(1, len(sample))))


def _write_segment(source: TextSource, work: Path, unique: str, cutter: _Cutter, number: int) -> PreparedSegment:
    start, line = cutter.offset, cutter.line
    file = f"{_stem(source, number)}.text"
    try:
        with full_disk_is_retried(work):
            size, sha256 = write_durably(work / file, cutter.pieces(), unique)
            last = not cutter.has_more()
            if last:
                check_unchanged(source.file)
            segment = PreparedSegment(
                number, file, start, size, sha256, line, cutter.line - line, last, last and cutter.state.inside
            )
            # After the file: what is noted is there.
            write_durably(work / _note_name(source, number), [json.dumps(to_plain(segment)).encode()], unique)
    except FileNotFoundError:
        raise folder_gone(work) from None
    return segment


def _open(source: TextSource) -> PlainStream:
    raw = open_source(source.file.url, sequential=source.file.sequential)
    return open_plain(raw, source.name, compression=source.compression, member=source.member)


class _Cutter:
    """Deals a text out in pieces, segment after segment."""

    def __init__(self, texts: Iterator[bytes], source: TextSource, offset: int, line: int) -> None:
        self._texts = texts
        self._rest = b""
        self._dialect = source.dialect
        self._segment_bytes = source.segment_bytes
        self.offset = offset
        self.line = line
        self.state = State()

    def has_more(self) -> bool:
        """Whether anything comes behind what was dealt out."""
        while not self._rest:
            text = next(self._texts, None)
            if text is None:
                return False
            self._rest = text
        return True

    def pieces(self) -> Iterator[bytes]:
        """The pieces of the next segment: up to the first row start at or behind the next multiple of its size."""
        target = (self.offset // self._segment_bytes + 1) * self._segment_bytes
        while self.has_more():
            data = self._rest
            # The byte before the target is looked at too: the target may itself be a row start.
            skip = max(0, target - 1 - self.offset)
            if skip < len(data):
                state = state_after(data[:skip], self.state, self._dialect)
                cut = find_row_end(data, skip, self._dialect, state)
                if cut >= 0:
                    yield self._take(cut, State())
                    return
            yield self._take(len(data), state_after(data, self.state, self._dialect))

    def _take(self, length: int, state: State) -> bytes:
        taken, self._rest = self._rest[:length], self._rest[length:]
        self.offset += length
        self.line += taken.count(NEWLINE)
        self.state = state
        return taken


class _Checked:
    """A stream whose beginning is looked at: an archive in an archive is no text."""

    def __init__(self, stream: PlainStream, source: TextSource) -> None:
        self._stream = stream
        self._name = source.name
        self._checked = source.compression == PLAIN

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if not self._checked:
            self._checked = True
            check_plain(data[:HEAD_BYTES], self._name)
        return data


def _behind(texts: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """Without the first `offset` bytes."""
    for text in texts:
        if offset < len(text):
            yield text[offset:] if offset else text
        offset = max(0, offset - len(text))


def _stem(source: TextSource, number: int) -> str:
    return f"prepared-{source.key}-{number:06d}"


def _note_name(source: TextSource, number: int) -> str:
    return f"{_stem(source, number)}.json"
