"""Sends files to URLs, and notes in the work folder what was begun, for whoever goes on with it or clears it away.

`uploading.json` has the names of all objects of a folder, from before the first is sent; `uploaded.txt` those that are
there; `upload-*.id` an upload that has not ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from windrow.common.codec import decoder_for, to_plain
from windrow.common.errors import ExportError, MalformedMessage
from windrow.export.files import COPY_BYTES, write_durably
from windrow.export.locations import shown
from windrow.export.objects import abort_upload, find_size, list_folder, remove_objects, write_object

MANIFEST_ENDING = ".manifest.json"
"""Of a folder's manifest, which goes before its objects change and comes when all are there."""
NAMES_FILE = "uploading.json"
DONE_FILE = "uploaded.txt"


@dataclass(frozen=True, slots=True)
class _Upload:
    """One that was begun."""

    url: str
    id: str


_decode_upload: Callable[[object], _Upload] = decoder_for(_Upload)


def upload_file(work: Path, path: Path, url: str, *, exclusive: bool = False) -> None:
    """Send a file; whoever finds the work folder after a kill finds the upload noted. ObjectExists as write_object."""
    size = path.stat().st_size
    write_object(url, _pieces(path), size, exclusive=exclusive, note=partial(note_upload, work, url))
    forget_upload(work, url)
    found = find_size(url)
    if found != size:
        raise ExportError(f"{shown(url)} has {found} bytes after the upload of {size}: look at who else writes there")


def note_upload(work: Path, url: str, upload: str) -> None:
    """Note it before its first block is sent."""
    data = json.dumps(to_plain(_Upload(url, upload))).encode()
    write_durably(_note_path(work, url), [data], hashlib.sha256(upload.encode()).hexdigest()[:16])


def forget_upload(work: Path, url: str) -> None:
    """It has ended."""
    _note_path(work, url).unlink(missing_ok=True)


def abort_noted(work: Path) -> None:
    """Let go what uploads that nobody completes any more have sent."""
    for path in sorted(work.glob("upload-*.id")):
        with contextlib.suppress(FileNotFoundError, ValueError, MalformedMessage):
            upload = _decode_upload(json.loads(path.read_bytes()))
            abort_upload(upload.url, upload.id)
        path.unlink(missing_ok=True)


def note_names(work: Path, names: Iterable[str], unique: str) -> None:
    """Note what is to be sent; from then on objects of these names are this export's."""
    write_durably(work / NAMES_FILE, [json.dumps(sorted(names)).encode()], unique)


def find_names(work: Path) -> set[str] | None:
    """What was to be sent; None where nothing was."""
    try:
        return {str(name) for name in json.loads((work / NAMES_FILE).read_bytes())}
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def note_done(work: Path, name: str) -> None:
    """This object is there. A line that is lost costs sending it again."""
    with open(work / DONE_FILE, "ab", buffering=0) as file:
        file.write(json.dumps(name).encode() + b"\n")


def find_done(work: Path) -> set[str]:
    """The objects that are there, as far as is noted."""
    done: set[str] = set()
    with contextlib.suppress(FileNotFoundError):
        for line in (work / DONE_FILE).read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):
                done.add(str(json.loads(line)))
    return done


def clear_begun(work: Path, folder_url: str | None) -> None:
    """Take away what was begun and will not be completed: uploads, and objects of a folder that has no manifest yet."""
    abort_noted(work)
    names = find_names(work)
    if names is None or folder_url is None or find_size(folder_url + MANIFEST_ENDING) is not None:
        return
    there = names & list_folder(folder_url).keys()
    remove_objects(f"{folder_url}/{name}" for name in sorted(there))
    (work / NAMES_FILE).unlink(missing_ok=True)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(COPY_BYTES):
            yield data


def _note_path(work: Path, url: str) -> Path:
    return work / f"upload-{hashlib.sha256(url.encode()).hexdigest()[:16]}.id"
