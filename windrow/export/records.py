"""Keeps what later runs must know as JSON files in the work folder; one that cannot be read is as good as none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Generic, TypeVar

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError, MalformedMessage
from windrow.export.files import write_durably

RECORD_BYTES_MAX = 256 << 20
"""One record: the list of some two million segments."""

R = TypeVar("R")


class RecordKind(Generic[R]):
    """How dataclasses of one kind are written, and read again."""

    def __init__(self, kind: type[R]) -> None:
        self._decode = decoder_for(kind)

    def find(self, path: Path) -> R | None:
        """The record in this file; None where there is none, or half of one, or something else."""
        try:
            if path.stat().st_size > RECORD_BYTES_MAX:
                return None
            return self._decode(json.loads(path.read_bytes()))
        except (OSError, ValueError, RecursionError, MalformedMessage):
            return None

    def decode(self, plain: object) -> R:
        """The record in plain data; MalformedMessage where they are none."""
        return self._decode(plain)

    def encode(self, record: R) -> bytes:
        """The file's bytes; ExportError where they would be too many to be read again."""
        data = json.dumps(to_plain(record), ensure_ascii=False, separators=(",", ":")).encode()
        if len(data) > RECORD_BYTES_MAX:
            raise ExportError(
                f"the export's list of sources or segments has {len(data)} bytes, at most {RECORD_BYTES_MAX} are kept: "
                "export fewer files at a time, or larger segments"
            )
        return data

    def write(self, path: Path, record: R, unique: str) -> None:
        """Put the record there, whole or not at all."""
        write_durably(path, [self.encode(record)], unique)
