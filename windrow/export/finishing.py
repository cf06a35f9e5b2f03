"""What the last two stages do: join the finished prefix while others convert, and let the whole appear."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from windrow.common.blocks import block_entries
from windrow.common.codec import to_plain
from windrow.common.errors import NodeUnfit, NotSeenHere
from windrow.common.messages import Outcomes, ReadResults
from windrow.common.values import decode_value
from windrow.common.words import TERMINAL_STATES, JobState
from windrow.export.cutting import find_cut
from windrow.export.joining import join_prefix
from windrow.export.model import Part, Plan
from windrow.export.parts import check_partitions
from windrow.export.ports import ClientPort
from windrow.export.publish import publish_export
from windrow.export.stages import ENDING, append, cancel, close, find_job, stage_id
from windrow.export.totals import check_errors
from windrow.export.work import find_plan, not_seen, part_from, plan_from, read_token

FIRST_PAUSE_S = 0.5
PAUSE_MAX_S = 5.0
PAUSE_LIMITED_MAX_S = 1.0
"""With a limit others wait for it."""
_GROWTH = 1.2


def last_stage(plan: Plan) -> str:
    """The stage whose results are the parts."""
    return "finish" if plan.steps.dedupe else "convert"


def join_early(client: ClientPort, work: Path, item: dict[str, Any], index: int, unique: str) -> dict[str, object]:
    """One look: join what is there, and ask to be run again a moment later. Without a limit it is never needed.

    With one the last stage waits for this one, which ends when enough rows are there, and cancels the rest.
    """
    export = str(item["export"])
    job = stage_id(export, "join")
    limited = item["spec"]["limit"] is not None
    merging = find_job(client, export)
    if merging is not None and merging.state in (JobState.FAILED, JobState.CANCELLED):
        # Whoever cancels an export by its id cancels its last job.
        cancel(client, export, merging.reason, [one for one in ENDING if one != "join"])
    # With a limit a stage may have been cancelled by an earlier run of this item, which is looked at below.
    if merging is None or merging.state in TERMINAL_STATES or (not limited and _ended_badly(client, export)):
        close(client, job, index + 1)
        return {}
    if not read_token(work) and _is_waiting(client, export):
        # No merge can have removed the folder yet.
        raise NodeUnfit(not_seen(work))
    plan = find_plan(work)
    joined = _join_finished(client, export, work, plan, unique) if plan is not None else 0
    if limited and (_is_enough(client, export, work, plan) or _ended_badly(client, export)):
        close(client, job, index + 1)
        return {"joined": joined}
    pause_max_s = PAUSE_LIMITED_MAX_S if limited else PAUSE_MAX_S
    append(client, job, [item], index + 1, delay_s=min(pause_max_s, FIRST_PAUSE_S * _GROWTH ** min(index, 50)))
    return {"joined": joined}


def _join_finished(client: ClientPort, export: str, work: Path, plan: Plan, unique: str) -> int:
    """Join the finished prefix, unless what it shows ends the export."""
    parts = list(finished_parts(client, export, plan))
    with contextlib.suppress(FileNotFoundError):
        # The folder has gone meanwhile: the merge has judged them.
        check_errors(work, plan, parts, unique, all_there=False)
    cut = find_cut(plan, parts)
    check_partitions(plan, parts if cut is None else parts[: cut.parts - 1])
    return join_prefix(work, plan, parts).parts


def _is_enough(client: ClientPort, export: str, work: Path, plan: Plan | None) -> bool:
    """Whether no more parts are needed; those behind the cut of a limit are cancelled."""
    if plan is None:
        return False
    stage = last_stage(plan)
    if find_cut(plan, list(finished_parts(client, export, plan))) is not None:
        # By now the cut is noted (join_prefix), for tasks that have to know why their job was cancelled.
        cancel(client, export, "the limit is reached, nobody needs what lies behind it", [stage])
        return True
    info = find_job(client, stage_id(export, stage))
    return info is not None and info.state is JobState.DONE


def _ended_badly(client: ClientPort, export: str) -> bool:
    """Whether a stage has failed; then no other is to wait for ever."""
    for stage in ENDING:
        info = find_job(client, stage_id(export, stage)) if stage not in ("join", "merge") else None
        if info is not None and info.state in (JobState.FAILED, JobState.CANCELLED):
            others = [one for one in ENDING if one != "join"]
            cancel(client, export, info.reason or f"job {info.id} ({info.name}) has {info.state}", others)
            return True
    return False


def _is_waiting(client: ClientPort, export: str) -> bool:
    """Whether the last stage has not begun."""
    merging = find_job(client, export)
    return merging is not None and merging.state is JobState.PENDING


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
        raise NotSeenHere(f"{work} has gone: the export was taken over by another one, or published already")
    # All of them, for this stage waits for theirs; with a limit as many as are needed.
    parts = list(finished_parts(client, export, plan))
    done = publish_export(work, plan, parts, int(decision["segments"]), unique)
    plain: dict[str, object] = to_plain(done)
    return {**plain, "notes": [*planned["notes"], *cut["notes"]]}
