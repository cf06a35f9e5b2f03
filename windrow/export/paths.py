"""Checks source and destination as files, with nothing read of them."""

from __future__ import annotations

import os
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.export.spec import ExportSpec


def check_paths(spec: ExportSpec) -> None:
    """ExportError where the source cannot be read or the destination not be written."""
    source, dest = Path(spec.source), Path(spec.dest)
    if not source.exists():
        raise ExportError(f"no source {source}: check the path; every node must see it under the same one")
    if not source.is_file():
        raise ExportError(f"the source {source} is no file: name one CSV file")
    if not os.access(source, os.R_OK):
        raise ExportError(f"the source {source} cannot be read: check its permissions")
    if dest.exists() and os.path.samefile(source, dest):
        raise ExportError(f"source and destination are the same file, {source}: write to another one")
    if dest.is_dir():
        raise ExportError(f"{dest} is a folder: name the file to write, e.g. {dest / 'out.parquet'}")
    if os.path.lexists(dest) and not spec.force:
        raise ExportError(f"{dest} exists: give another destination, or --force to replace it")
    if not dest.parent.is_dir():
        raise ExportError(f"the folder {dest.parent} does not exist: make it first")
    if not os.access(dest.parent, os.W_OK):
        raise ExportError(f"the folder {dest.parent} cannot be written to: check its permissions")
