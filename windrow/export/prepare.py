"""Turns a compressed or unscannable text source into segment files of plain UTF-8, each there as soon as it is whole.

One pass reads, decompresses, transcodes and cuts at row ends: so the bytes of each segment follow from the source, the
options and the segment size alone. Where quotes pair it cuts where the plain text would be cut; where they do
not, the pass is the sequential scan that finds rows all the same. A segment file appears by renaming, and
its note after it; a later run takes over what is noted, and reads on behind it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from windrow.common.codec import to_plain
from windrow.export.compression import HEAD_BYTES, PLAIN, PlainStream, check_plain, open_plain
from windrow.export.dialect import NEWLINE, Dialect, State, find_row_end, find_whole_rows, state_after
from windrow.export.disk import check_disk, folder_gone, full_disk_is_retried
from windrow.export.encoding import codec_of, resolve_encoding, transcode
from windrow.export.estimating import needed_bytes
from windrow.export.files import find_size, write_durably
from windrow.export.records import RecordKind
from windrow.export.storage import Fingerprint, SourceFile, check_unchanged, open_source

PREPARE_VERSION = 2
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
    """The quotes up to its end are odd in number: they do not pair, and their parity would mislead."""

    @property
    def stop(self) -> int:
        """Bytes of the text up to its end."""
        return self.start + self.bytes


_NOTE = RecordKind(PreparedSegment)


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
        cutter = _Cutter(_behind(texts, offset), source, offset, line, inside=bool(done) and done[-1].inside)
        for number in itertools.count(len(done)):
            segment = _write_segment(source, work, unique, cutter, number)
            yield segment
            if segment.last:
                return


def find_prepared(source: TextSource, work: Path) -> list[PreparedSegment]:
    """The segments that an earlier run has finished, from the first one on without a gap."""
    found: list[PreparedSegment] = []
    while not (found and found[-1].last):
        segment = _NOTE.find(work / _note_name(source, len(found)))
        offset = found[-1].stop if found else 0
        if segment is None or (segment.number, segment.start) != (len(found), offset):
            break
        # The name is not taken from the note, which could then lead anywhere.
        if segment.file != _file_name(source, len(found)) or find_size(work / segment.file) != segment.bytes:
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
    file = _file_name(source, number)
    try:
        with full_disk_is_retried(work):
            size, sha256 = write_durably(work / file, cutter.pieces(), unique)
            last = not cutter.has_more()
            if last:
                check_unchanged(source.file)
            segment = PreparedSegment(number, file, start, size, sha256, line, cutter.line - line, last, cutter.inside)
            # After the file: what is noted is there.
            _NOTE.write(work / _note_name(source, number), segment, unique)
    except FileNotFoundError:
        raise folder_gone(work) from None
    return segment


def _open(source: TextSource) -> PlainStream:
    raw = open_source(source.file.url, sequential=source.file.sequential)
    return open_plain(raw, source.name, compression=source.compression, member=source.member)


class _Cutter:
    """Deals a text out in pieces, segment after segment."""

    def __init__(self, texts: Iterator[bytes], source: TextSource, offset: int, line: int, *, inside: bool) -> None:
        self._texts = texts
        self._rest = b""
        """From the beginning of a row on."""
        self._dialect = source.dialect
        self._segment_bytes = source.segment_bytes
        self._state = State(inside)
        self.offset = offset
        self.line = line

    @property
    def inside(self) -> bool:
        """The quotes so far are odd in number."""
        return self._state.inside

    def has_more(self) -> bool:
        """Whether anything comes behind what was dealt out."""
        return bool(self._rest) or self._read(1)

    def pieces(self) -> Iterator[bytes]:
        """The pieces of the next segment: up to the first row start at or behind the next multiple of its size."""
        target = (self.offset // self._segment_bytes + 1) * self._segment_bytes
        while self.has_more():
            # The byte before the target is looked at too: the target may itself be a row start.
            stop, is_cut = self._walk(max(0, target - 1 - self.offset))
            if not stop and self._read(len(self._rest)):
                continue
            yield self._take(stop or len(self._rest))
            if is_cut:
                return

    def _walk(self, goal: int) -> tuple[int, bool]:
        """(stop, is cut): the first row end behind `goal`, else the end of the whole rows at hand; 0 for none."""
        data, at = self._rest, 0
        while True:
            stop, regular = find_whole_rows(data, at, self._dialect)
            if goal < stop and regular:
                state = state_after(data[at:goal], State(), self._dialect)
                return find_row_end(data, goal, self._dialect, state), True
            if goal < stop or stop == at:
                return stop, goal < stop
            at = stop

    def _read(self, more_bytes: int) -> bool:
        """Have so many bytes more, so that a row of many pieces is looked at anew only when there is twice as much."""
        pieces = [self._rest]
        while more_bytes > 0 and (text := next(self._texts, None)) is not None:
            pieces.append(text)
            more_bytes -= len(text)
        before = len(self._rest)
        self._rest = b"".join(pieces)
        return len(self._rest) > before

    def _take(self, length: int) -> bytes:
        taken, self._rest = self._rest[:length], self._rest[length:]
        self.offset += length
        self.line += taken.count(NEWLINE)
        self._state = state_after(taken, self._state, self._dialect)
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


def _file_name(source: TextSource, number: int) -> str:
    return f"{_stem(source, number)}.text"


def _note_name(source: TextSource, number: int) -> str:
    return f"{_stem(source, number)}.json"
