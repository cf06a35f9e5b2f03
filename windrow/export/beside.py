"""Files that go beside the destination (bad rows, manifest), be it a path or a URL: look at, replace, remove."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

from windrow.export.files import new_file, sync_folder
from windrow.export.locations import is_url
from windrow.export.objects import find_head, find_size, remove_objects
from windrow.export.storage import open_source
from windrow.export.uploads import upload_file


def is_or_may_be_ours(place: str, beginning: bytes) -> bool:
    """Whether nothing is there, or a file that begins as those of Windrow do."""
    if is_url(place):
        found = find_head(place, len(beginning))
        return found is None or found == beginning
    try:
        with open(place, "rb") as file:
            return file.read(len(beginning)) == beginning
    except FileNotFoundError:
        return True
    except OSError:
        return False


@contextlib.contextmanager
def open_beside(place: str) -> Generator[BinaryIO | None, None, None]:
    """The file to read; None where there is none."""
    if is_url(place):
        if find_size(place) is None:
            yield None
            return
        with open_source(place) as file:
            yield file
    elif os.path.exists(place):
        with open(place, "rb") as file:
            yield file
    else:
        yield None


def replace_beside(place: str, pieces: Iterable[bytes], passing: Path) -> None:
    """Let the file appear there whole, in the place of one that is there; `passing` is its name until then."""
    passing.unlink(missing_ok=True)
    with new_file(passing) as file:
        for piece in pieces:
            file.write(piece)
    if is_url(place):
        upload_file(passing.parent, passing, place)
        passing.unlink(missing_ok=True)
    else:
        os.replace(passing, place)
        sync_folder(Path(place).parent)


def remove_beside(place: str) -> None:
    """Remove the file; where there is none that is fine."""
    if is_url(place):
        # Whoever may write there need not be allowed to remove anything.
        if find_size(place) is not None:
            remove_objects([place])
    elif os.path.lexists(place):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        sync_folder(Path(place).parent)
