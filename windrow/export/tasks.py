"""The export's three tasks: plan, convert, merge. Every one may be run twice, and killed anywhere.

pyarrow and DuckDB are imported when a task runs, so that a node without them serves everything else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from windrow.common.codec import to_plain
from windrow.common.errors import ExportError, UsageError
from windrow.common.tasks import task
from windrow.export.plan import part_from_dict, plan_from_dict, plan_to_dict, segment_item, work_folder, write_plan
from windrow.export.ports import ClientPort
from windrow.export.spec import check_spec, spec_from_dict

PLAN = "windrow.export:plan"
CONVERT = "windrow.export:convert"
MERGE = "windrow.export:merge"


def open_client() -> AbstractContextManager[ClientPort]:
    """A client of the scheduler that this worker belongs to (WINDROW_URL)."""
    from windrow.client import Client

    return Client()


@task(name=PLAN)
def plan(item: dict[str, Any]) -> dict[str, object]:
    """Check the export, write its plan, and give the convert job one item for each segment."""
    _need_packages()
    from windrow.export.planning import make_plan

    spec = check_spec(spec_from_dict(item["spec"]))
    job = str(item["convert"])
    work = work_folder(spec.dest, job)
    made, segments = make_plan(spec)
    try:
        work.mkdir(exist_ok=True)
    except OSError as error:
        raise ExportError(f"the folder {work.parent} cannot be written to: {error.strerror}") from None
    write_plan(work, made, secrets.token_hex(8))
    with open_client() as client:
        fill_job(client, job, [segment_item(work, segment) for segment in segments])
    return {
        "work": str(work),
        "plan": plan_to_dict(made),
        "segments": len(segments),
        "columns": made.names,
        "types": made.types,
        "source_bytes": made.source_bytes,
    }


def fill_job(client: ClientPort, job: str, items: list[dict[str, object]]) -> None:
    """Let the job have exactly these items and close it; what an earlier run has appended stays."""
    with contextlib.suppress(UsageError):
        # Refused where it is closed already, perhaps this moment by an earlier run that is not dead after all.
        growing = client.open_existing(job)
        if growing.total < len(items):
            growing.append(items[growing.total :])
        growing.close()
    status = client.job(job).status()
    if status.open or status.state == "cancelled" or status.total != len(items):
        reason = f": {status.reason}" if status.reason else ""
        raise ExportError(f"the export was cancelled while it was planned{reason}")


@task(name=CONVERT)
def convert(item: dict[str, Any]) -> dict[str, object]:
    """Convert one segment into a part file."""
    _need_packages()
    from windrow.export.converting import convert_segment

    plain: dict[str, object] = to_plain(convert_segment(item, secrets.token_hex(8)))
    return plain


@task(name=MERGE)
def merge(item: dict[str, Any]) -> dict[str, object]:
    """Join the parts into the destination and remove the work folder."""
    _need_packages()
    from windrow.export.publishing import publish_parts

    with open_client() as client:
        planned = next(iter(client.job(str(item["plan"])).results()))
        parts = [part_from_dict(result) for result in client.job(str(item["convert"])).results()]
    made = plan_from_dict(planned["plan"])
    done = publish_parts(made, Path(planned["work"]), parts, secrets.token_hex(8))
    plain: dict[str, object] = to_plain(done)
    return plain


def _need_packages() -> None:
    missing = [name for name in ("pyarrow", "duckdb") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"this node has no {' and no '.join(missing)}: install the export extra there, "
            "e.g. pip install 'windrow-engine[export]'"
        )
