"""The tasks of the export: one for each stage, one that starts an export. Each may run twice, and be killed anywhere.

pyarrow and DuckDB are imported when a task runs, so that a node without them serves everything else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from windrow.common.codec import to_plain
from windrow.common.current import current
from windrow.common.errors import ExportError, NodeUnfit, NotSeenHere
from windrow.common.tasks import task
from windrow.export.ports import ClientPort
from windrow.export.stages import cancel_quietly

PLAN, CONVERT, MERGE = "windrow.export:plan", "windrow.export:convert", "windrow.export:merge"
RUN = "windrow.export:run"
PREVIEW = "windrow.export:preview"
_LOOKED_FOR = ("dateutil",)
"""Packages that pyarrow uses where they are there."""


def open_client() -> AbstractContextManager[ClientPort]:
    """A client of the scheduler that this worker belongs to (WINDROW_URL)."""
    from windrow.client import Client

    return Client()


@task(name=RUN, retries=3)
def run(item: dict[str, Any]) -> str:
    """Start an export from inside the cluster; `item` has source, dest and the options by name. Returns its id."""
    from windrow.export.starting import start_from_task

    with open_client() as client:
        return start_from_task(client, item, current().item_id)


@task(name=PREVIEW)
def preview(item: dict[str, Any]) -> dict[str, object]:
    """What an export would be: schema, segments, five converted rows, an estimate."""
    _need_packages()
    from windrow.export.previewing import make_preview
    from windrow.export.spec import check_spec, spec_from_dict

    plain: dict[str, object] = to_plain(make_preview(check_spec(spec_from_dict(item["spec"]))))
    return plain


@task(name=PLAN)
def plan(item: dict[str, Any]) -> dict[str, object]:
    """Look at the sources, check the export, write what all nodes need into the work folder, and fill the scan."""
    with _stage(item, needs_folder=False) as (work, unique), open_client() as client:
        from windrow.export.planner import plan_export

        return plan_export(client, item, work, unique)


@task(name="windrow.export:scan")
def scan(item: dict[str, Any]) -> dict[str, object]:
    """Count the blocks of a range of text, or unpack a file."""
    with _stage(item) as (work, unique), open_client() as client:
        from windrow.export.planner import scan_item

        return scan_item(client, item, work, unique)


@task(name="windrow.export:cut")
def cut(item: dict[str, Any]) -> dict[str, object]:
    """Cut the sources into segments."""
    with _stage(item) as (work, unique), open_client() as client:
        from windrow.export.planner import cut_segments

        return cut_segments(client, item, work, unique)


@task(name="windrow.export:infer")
def infer(item: dict[str, Any]) -> dict[str, object]:
    """Find what the types of one segment's columns may be."""
    with _stage(item) as (work, _):
        from windrow.export.planner import infer_segment

        return infer_segment(item, work)


@task(name="windrow.export:decide")
def decide(item: dict[str, Any]) -> dict[str, object]:
    """Decide the types, write the plan, and fill the stages behind."""
    with _stage(item) as (work, unique), open_client() as client:
        from windrow.export.planner import decide_types

        return decide_types(client, item, work, unique)


@task(name=CONVERT)
def convert(item: dict[str, Any]) -> dict[str, object]:
    """Convert one segment into a part."""
    with _stage(item, cancels=False) as (work, unique):
        from windrow.export.converting import convert_segment

        plain: dict[str, object] = to_plain(convert_segment(work, item, unique))
        return plain


@task(name="windrow.export:dedupe")
def dedupe(item: dict[str, Any]) -> dict[str, object]:
    """Find the rows of one partition of the keys whose key an earlier row has."""
    with _stage(item, cancels=False) as (work, unique):
        from windrow.export.converting import dedupe_partition

        return dedupe_partition(work, item, unique)


@task(name="windrow.export:finish")
def finish(item: dict[str, Any]) -> dict[str, object]:
    """Write the part of one segment without the rows that earlier ones have."""
    with _stage(item, cancels=False) as (work, unique):
        from windrow.export.converting import finish_segment

        plain: dict[str, object] = to_plain(finish_segment(work, item, unique))
        return plain


@task(name="windrow.export:join")
def join(item: dict[str, Any]) -> dict[str, object]:
    """Join what is finished from the first segment on, watch limit and errors, and come back later for the rest."""
    with _stage(item, needs_folder=False) as (work, unique), open_client() as client:
        from windrow.export.finishing import join_early

        return join_early(client, work, item, current().index, unique)


@task(name=MERGE)
def merge(item: dict[str, Any]) -> dict[str, object]:
    """Join the parts into the destination and remove the work folder."""
    with _stage(item, needs_folder=False) as (work, unique), open_client() as client:
        from windrow.export.finishing import merge_parts

        return merge_parts(client, work, item, unique)


@contextlib.contextmanager
def _stage(
    item: dict[str, Any], *, needs_folder: bool = True, cancels: bool = True
) -> Generator[tuple[Path, str], None, None]:
    """What all stages have in common; gives the work folder and a name that no other run has.

    `cancels`: where it fails for good, no job that waits for this one would end the others.
    """
    _need_packages()
    from windrow.export.disk import full_disk_is_retried
    from windrow.export.work import not_seen, read_token

    work = Path(str(item["work"]))
    if needs_folder:
        token = read_token(work)
        if not token or token != item.get("token", token):
            raise NodeUnfit(not_seen(work))
    try:
        with full_disk_is_retried(work), _no_search_for_absent():
            yield work, secrets.token_hex(8)
    except NotSeenHere as error:
        # Nothing is cancelled: it goes on at another node, and where there is none the job fails.
        raise NodeUnfit(error.message) from None
    except ExportError as error:
        if cancels:
            with open_client() as client:
                cancel_quietly(client, str(item["export"]), error.message, ("join", "convert"))
        raise


@contextlib.contextmanager
def _no_search_for_absent(names: Sequence[str] = _LOOKED_FOR) -> Generator[None, None, None]:
    """Let `import` of packages that are not installed fail at once. Only export code runs in this process meanwhile.

    pyarrow tries to import them whenever it makes a value of Arrow from one of Python, and a failed import is not
    remembered: each searches every folder of sys.path again, hundreds of times a second where there are many columns.
    """
    absent = [name for name in names if name not in sys.modules and importlib.util.find_spec(name) is None]
    known: dict[str, Any] = dict.fromkeys(absent)
    sys.modules.update(known)
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def _need_packages() -> None:
    missing = [name for name in ("pyarrow", "duckdb") if importlib.util.find_spec(name) is None]
    if missing:
        raise NodeUnfit(
            f"this node has no {' and no '.join(missing)}: install the export extra there, "
            "e.g. pip install 'windrow-engine[export]'"
        )
