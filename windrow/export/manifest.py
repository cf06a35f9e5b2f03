"""Writes the manifest: what the destination is made of, so that anybody can check it; no times, no places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from windrow.common.errors import ExportError
from windrow.export.beside import is_or_may_be_ours, remove_beside, replace_beside
from windrow.export.locations import is_url, shown
from windrow.export.model import Part, Plan
from windrow.export.objects import find_size
from windrow.export.storage import open_source
from windrow.export.uploads import MANIFEST_ENDING

_BEGINNING = b'{\n "windrow_manifest": 1,'


def manifest_path(plan: Plan) -> str:
    """Beside the destination."""
    return plan.dest.path.rstrip("/") + MANIFEST_ENDING


def has_manifest(plan: Plan) -> bool:
    """Whether one is written: where it is asked for, and where nothing else says that a folder is whole."""
    return plan.dest.manifest or (plan.dest.folder and is_url(plan.dest.path))


def manifest_bytes(plan: Plan, parts: Sequence[Part], files: Sequence[tuple[str, int, str]]) -> bytes:
    """`files` are names, sizes and SHA-256 of what is published: one file, or those of the folder."""
    text = {
        "windrow_manifest": 1,
        "windrow": plan.windrow,
        "rows": sum(part.rows for part in parts),
        "rows_read": sum(part.rows_in for part in parts),
        "bad_rows": sum(part.bad_rows for part in parts),
        "bytes": sum(size for _, size, _ in files),
        "format": plan.write_form.kind,
        "compression": plan.write_form.compression,
        "encoding": plan.write_form.encoding,
        "columns": [{"name": column.name, "type": column.type} for column in plan.output],
        "sources": [
            {
                "url": shown(source.url),
                "member": source.member,
                "bytes": source.bytes,
                "fingerprint": source.fingerprint,
            }
            for source in plan.sources
        ],
        "files": [{"name": name, "bytes": size, "sha256": digest} for name, size, digest in files],
        "parts": [
            {"segment": part.segment, "rows": part.rows, "rows_read": part.rows_in, "bad_rows": part.bad_rows,
             "bytes": part.bytes, "sha256": list(part.sha256)}
            for part in parts
        ],
    }  # fmt: skip
    return json.dumps(text, indent=1, ensure_ascii=False).encode() + b"\n"


def check_manifest_path(plan: Plan) -> None:
    """ExportError where a file is in the manifest's way that no export has written."""
    place = manifest_path(plan)
    if has_manifest(plan) and not plan.dest.force and not is_or_may_be_ours(place, _BEGINNING):
        raise ExportError(
            f"{shown(place)} is where the manifest goes, and exists: move it away, or --force to replace it"
        )


def publish_manifest(work: Path, plan: Plan, data: bytes | None, unique: str) -> None:
    """Let it appear, or, where none is asked for, let the one of the file that is replaced go."""
    place = manifest_path(plan)
    if data is None:
        if is_or_may_be_ours(place, _BEGINNING):
            remove_beside(place)
        return
    check_manifest_path(plan)
    replace_beside(place, [data], work / f"manifest-{unique}.tmp")


def find_manifest(plan: Plan) -> dict[str, Any] | None:
    """The manifest at its URL; None where there is none that can be read."""
    place = manifest_path(plan)
    if find_size(place) is None:
        return None
    with open_source(place) as file:
        data = file.read()
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) and "windrow_manifest" in found else None
