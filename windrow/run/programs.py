"""Finds programs on PATH, as a shell does, and remembers where they were."""

from __future__ import annotations

import os

_KNOWN_MAX = 64


class Programs:
    """The folder to search from must be the current one, as PATH may name folders below it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], str] = {}

    def find(self, program: str, cwd: str, path: str) -> str:
        """The file of the program. FileNotFoundError, or PermissionError where it is there and may not be executed."""
        if "/" in program:
            return program
        key = (program, cwd, path)
        file = self._known.get(key)
        if file is None or not os.access(file, os.X_OK):
            file = _search(program, path)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[key] = file
        return file


def _search(program: str, path: str) -> str:
    denied = ""
    for folder in path.split(os.pathsep):
        file = os.path.join(folder or ".", program)
        if os.path.isfile(file):
            if os.access(file, os.X_OK):
                return file
            denied = denied or file
    if denied:
        raise PermissionError(13, "Permission denied", denied)
    raise FileNotFoundError(2, "No such file or directory", program)
