"""Writes the manifest: what the destination is made of, so that anybody can check it; no times, no places."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from windrow.common.errors import ExportError
from windrow.common.redact import redact_url
from windrow.export.files import sync_folder
from windrow.export.model import Part, Plan
from windrow.export.parts import write_new

_BEGINNING = b'{\n "windrow_manifest": 1,'


def manifest_path(plan: Plan) -> Path:
    """Beside the destination."""
    return Path(plan.dest.path.rstrip("/") + ".manifest.json")


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
                "url": redact_url(source.url) if "://" in source.url else source.url,
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
    path = manifest_path(plan)
    if plan.dest.manifest and not plan.dest.force and not _is_ours(path):
        raise ExportError(f"{path} is where the manifest goes, and exists: move it away, or --force to replace it")


def publish_manifest(work: Path, plan: Plan, data: bytes | None, unique: str) -> None:
    """Let it appear, or, where none is asked for, let the one of the file that is replaced go."""
    path = manifest_path(plan)
    if data is None:
        if os.path.lexists(path) and _is_ours(path):
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        return
    check_manifest_path(plan)
    passing = work / f"manifest-{unique}.tmp"
    passing.unlink(missing_ok=True)
    write_new(passing, [data])
    os.replace(passing, path)
    sync_folder(path.parent)


def _is_ours(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except FileNotFoundError:
        return True
    except OSError:
        return False
