"""What the last two stages do: join the finished prefix while others convert, and let the whole appear."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windrow.common.blocks import block_entries
from windrow.common.codec import to_plain
from windrow.common.errors import ExportError
from windrow.common.messages import Outcomes, ReadResults
from windrow.common.values import decode_value
from windrow.common.words import TERMINAL_STATES, JobState
from windrow.export.joining import join_prefix
from windrow.export.model import Part, Plan
from windrow.export.ports import ClientPort
from windrow.export.publish import publish_export
from windrow.export.stages import ENDING, append, cancel, close, find_job, stage_id
from windrow.export.totals import check_errors
from windrow.export.work import find_plan, part_from, plan_from

FIRST_PAUSE_S = 0.5
PAUSE_MAX_S = 5.0
_GROWTH = 1.2


def last_stage(plan: Plan) -> str:
    """The stage whose results are the parts."""
    return "finish" if plan.steps.dedupe else "convert"


def join_early(client: ClientPort, work: Path, item: dict[str, Any], index: int, unique: str) -> dict[str, object]:
    """One look: join what is there, and ask to be run again a moment later. The export would be right without it."""
    export = str(item["export"])
    job = stage_id(export, "join")
    merging = find_job(client, export)
    if merging is not None and merging.state in (JobState.FAILED, JobState.CANCELLED):
        # Whoever cancels an export by its id cancels its last job.
        cancel(client, export, merging.reason, [one for one in ENDING if one != "join"])
    if merging is None or merging.state in TERMINAL_STATES or _ended_badly(client, export):
        close(client, job, index + 1)
        return {}
    joined = 0
    plan = find_plan(work)
    if plan is not None:
        parts = list(finished_parts(client, export, plan))
        check_errors(work, plan, parts, unique, all_there=False)
        joined = join_prefix(work, plan, parts).parts
    append(client, job, [item], index + 1, delay_s=min(PAUSE_MAX_S, FIRST_PAUSE_S * _GROWTH ** min(index, 50)))
    return {"joined": joined}


def _ended_badly(client: ClientPort, export: str) -> bool:
    """Whether a stage has failed; then no other is to wait for ever."""
    for stage in ENDING:
        info = find_job(client, stage_id(export, stage)) if stage not in ("join", "merge") else None
        if info is not None and info.state in (JobState.FAILED, JobState.CANCELLED):
            others = [one for one in ENDING if one != "join"]
            cancel(client, export, info.reason or f"job {info.id} ({info.name}) has {info.state}", others)
            return True
    return False


def finished_parts(client: ClientPort, export: str, plan: Plan) -> Iterator[Part]:
    """The parts that are finished, from the first one on without a gap; does not wait."""
    job, at = stage_id(export, last_stage(plan)), 0
    while True:
        page = client.ask(ReadResults(job, at), Outcomes)
        for run in page.values:
            for entry in block_entries(run.block):
                yield part_from(decode_value(entry))
        if page.next <= at:
            return
        at = page.next


def _plan_of_result(decision: dict[str, Any], item: dict[str, Any]) -> Plan | None:
    """As the result of `decide` has it, with the destination as it was given: a result shows no passwords."""
    plan = plan_from(decision["plan"]) if decision.get("plan") else None
    if plan is None:
        return None
    return dataclasses.replace(plan, dest=dataclasses.replace(plan.dest, path=str(item["spec"]["dest"]).rstrip("/")))


def merge_parts(client: ClientPort, work: Path, item: dict[str, Any], unique: str) -> dict[str, object]:
    """The merge task: publish the parts, or find that an earlier run has."""
    export = str(item["export"])
    planned: dict[str, Any] = next(iter(client.job(stage_id(export, "plan")).results()))
    cut: dict[str, Any] = next(iter(client.job(stage_id(export, "cut")).results()))
    decision: dict[str, Any] = next(iter(client.job(stage_id(export, "decide")).results()))
    # An earlier run of this very task may have removed the folder.
    plan = find_plan(work) or _plan_of_result(decision, item)
    if plan is None:
        raise ExportError(f"{work} has gone: the export was taken over by another one, or published already")
    parts = [part_from(result) for result in client.job(stage_id(export, last_stage(plan))).results()]
    done = publish_export(work, plan, parts, int(decision["segments"]), unique)
    plain: dict[str, object] = to_plain(done)
    return {**plain, "notes": [*planned["notes"], *cut["notes"]]}
