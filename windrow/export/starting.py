"""Starts an export: checks what can be seen from here, and opens its jobs under ids that follow from the export's."""

from __future__ import annotations

import time
import urllib.parse
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from windrow.client.failures import WindrowWarning
from windrow.client.ids import draw_id
from windrow.export.destination import check_destination
from windrow.export.model import Destination
from windrow.export.ports import ClientPort
from windrow.export.spec import ExportSpec, check_spec, spec_from_options, spec_to_dict, with_date
from windrow.export.stages import begin, derived_id, find_job, open_stages, stage_id
from windrow.export.storage import find_sources
from windrow.export.work import work_folder


def start(client: ClientPort, spec: ExportSpec) -> tuple[str, ExportSpec]:
    """Start an export; its id, and the spec as it is carried out. The jobs are durable when this returns."""
    spec = with_date(check_spec(spec), time.time())
    if sees_our_files(client):
        check_paths(spec)
    export = draw_id()
    note = open_stages(client, export, spec.dest, limited=spec.limit is not None)
    if note:
        warnings.warn(note, WindrowWarning, stacklevel=4)
    begin(client, export, _item(export, spec))
    return export, spec


def start_from_task(client: ClientPort, options: dict[str, Any], item_id: str) -> str:
    """Start an export from a task; the same item gives the same export, however often it runs."""
    spec = spec_from_options(options)
    export = derived_id(item_id)
    open_stages(client, export, spec.dest, limited=spec.limit is not None)
    opened = find_job(client, stage_id(export, "plan"))
    # The day on which it was opened first: a second run of this item may come on another one.
    spec = with_date(spec, opened.created_s if opened is not None else time.time())
    begin(client, export, _item(export, spec))
    return export


def preview(url: str, open_client: Callable[[], AbstractContextManager[Any]], spec: ExportSpec) -> Any:
    """What the export would be: found out here where the cluster is on this machine, else by one of its nodes."""
    if is_local(url):
        from windrow.export.previewing import make_preview

        return make_preview(with_date(spec, time.time()))
    from windrow.export.previewing import preview_from

    with open_client() as client:
        item = {"spec": spec_to_dict(with_date(spec, time.time()))}
        return preview_from(client.submit("windrow.export:preview", item).result())


def check_paths(spec: ExportSpec) -> None:
    """ExportError for a source or destination that is wrong, as seen from here."""
    sources = find_sources(spec.source)
    dest = Destination(spec.dest.rstrip("/"), folder=spec.dest.endswith("/"), force=spec.force, work_dir=spec.work_dir)
    check_destination(dest, [source.url for source in sources], [spec.source])


def sees_our_files(client: ClientPort) -> bool:
    """Whether the scheduler is on this machine: then a wrong path is told at once, not by the plan task."""
    return is_local(str(getattr(client, "url", "")))


def is_local(url: str) -> bool:
    """Whether this address is on this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _item(export: str, spec: ExportSpec) -> dict[str, Any]:
    return {"export": export, "work": str(work_folder(spec.dest, export, spec.work_dir)), "spec": spec_to_dict(spec)}
