"""The jobs of one export: their ids, which follow from the export's, and how they are opened, filled, closed and ended.

Everything here may be asked twice: a job that is there is found, items that are there are left, so that whoever starts
an export may be killed and do it again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from windrow.common.blocks import pack_block
from windrow.common.errors import ExportError, NotFound, UsageError, WindrowError
from windrow.common.limits import APPEND_BYTES_MAX, APPEND_ITEMS_MAX
from windrow.common.messages import Accepted, Append, Appended, CancelJob, CloseJob, FindJob, JobInfo, Started, StartJob
from windrow.common.options import make_options
from windrow.common.values import encode_item
from windrow.common.words import TERMINAL_STATES, JobId
from windrow.export.locations import file_name
from windrow.export.ports import ClientPort

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS = 16

RETRIES = 20
"""For what may pass by itself: a full disk, a storage that does not answer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One job of an export."""

    name: str
    task: str
    after: tuple[str, ...]
    """Stages that must be done before it starts."""
    priority: int = 0


STAGES = (
    Stage("plan", "windrow.export:plan", ()),
    Stage("scan", "windrow.export:scan", ("plan",)),
    Stage("cut", "windrow.export:cut", ("scan",)),
    Stage("infer", "windrow.export:infer", ("cut",)),
    Stage("decide", "windrow.export:decide", ("infer",)),
    # Not after `decide`: where no types are to be decided, segments are converted while others are still unpacked.
    Stage("convert", "windrow.export:convert", ("plan",)),
    Stage("dedupe", "windrow.export:dedupe", ("decide", "convert")),
    Stage("finish", "windrow.export:finish", ("dedupe",)),
    Stage("join", "windrow.export:join", ("plan",), priority=1),
    # It reads what plan, cut and decide have said: a job is kept as long as one that is to come after it.
    Stage("merge", "windrow.export:merge", ("plan", "cut", "decide", "convert", "dedupe", "finish")),
)
SINGLE = ("cut", "decide", "join", "merge", "plan")
"""Stages whose first item is given when the export starts; that of `plan` last, so that all is there by then."""
ENDING = ("merge", "finish", "dedupe", "join", "decide", "infer", "cut", "convert", "scan", "plan")
"""The order in which they are cancelled: the last one first, or each would end twice."""


def stage_id(export: str, stage: str) -> JobId:
    """The id of a stage's job; that of the last stage is the export's own."""
    if stage == "merge":
        return JobId(export)
    bits = int.from_bytes(hashlib.blake2b(f"{export}/{stage}".encode(), digest_size=10).digest())
    return JobId("".join(_CROCKFORD[(bits >> shift) & 31] for shift in range(0, 5 * _ID_CHARS, 5)))


def derived_id(text: str) -> str:
    """An id of an export that follows from this text."""
    return str(stage_id(text, "export"))


def open_stages(client: ClientPort, export: str, dest: str, *, limited: bool) -> str:
    """Open the jobs of all stages; returns what the scheduler has to say about it (that no node is there).

    `limited`: there is a limit, whose cut ends the converting stage before all of it is done.
    """
    note = ""
    label = file_name(dest)
    for stage in STAGES:
        options: dict[str, object] = {
            "retries": RETRIES,
            "backoff": 2.0,
            "retry_on": ["windrow.common.errors.Unreachable"],
            # One bad segment spoils the whole: the others need not be converted first.
            "max_failures": 0,
            "priority": stage.priority,
        }
        started = client.ask(
            StartJob(
                stage_id(export, stage.name),
                stage.task,
                name=f"export {label}"[:200] + ("" if stage.name == "merge" else f": {stage.name}"),
                options=make_options(options),
                after=tuple(stage_id(export, before) for before in _before(stage, limited=limited)),
            ),
            Started,
        )
        note = note or started.note
    return note


def _before(stage: Stage, *, limited: bool) -> tuple[str, ...]:
    # What lies behind the cut of a limit is cancelled, and would take with it whatever waits for it.
    return ("plan", "cut", "decide", "join") if limited and stage.name == "merge" else stage.after


def begin(client: ClientPort, export: str, item: dict[str, Any]) -> None:
    """Give the stages of one item theirs, the same to each; when this returns the export is under way."""
    for stage in SINGLE:
        job = stage_id(export, stage)
        append(client, job, [item])
        # The joining job grows by itself.
        if stage != "join":
            close(client, job, 1)


def append(client: ClientPort, job: JobId, items: Sequence[object], first: int = 0, *, delay_s: float = 0.0) -> int:
    """Let the job have these items from index `first` on; returns its total. Those that are there must be the same."""
    entries: list[bytes] = []
    size = 0
    for entry in map(encode_item, items):
        if entries and (len(entries) >= APPEND_ITEMS_MAX // 2 or size + len(entry) > APPEND_BYTES_MAX // 2):
            first = _append_block(client, job, first, entries, delay_s)
            entries, size = [], 0
        entries.append(entry)
        size += len(entry)
    return _append_block(client, job, first, entries, delay_s) if entries else first


def _append_block(client: ClientPort, job: JobId, first: int, entries: list[bytes], delay_s: float) -> int:
    client.ask(Append(job, first, len(entries), pack_block(entries), delay_s), Appended)
    return first + len(entries)


def close(client: ClientPort, job: JobId, total: int) -> None:
    """No more items come than these."""
    client.ask(CloseJob(job, total), Accepted)


def fill(client: ClientPort, export: str, stage: str, items: Sequence[object]) -> None:
    """Let a stage have exactly these items; ExportError where it was cancelled meanwhile."""
    job = stage_id(export, stage)
    try:
        append(client, job, items)
        close(client, job, len(items))
    except UsageError:
        info = find_job(client, job)
        if info is not None and not info.open and info.state in TERMINAL_STATES and info.state != "done":
            raise ExportError(f"the export was cancelled while it was planned: {info.reason}") from None
        raise


def complete(client: ClientPort, export: str, stage: str, items: Sequence[object]) -> None:
    """Let a stage that has grown item by item have the rest of these items and close it."""
    job = stage_id(export, stage)
    info = find_job(client, job)
    if info is not None and info.open:
        append(client, job, items[info.total :], info.total)
        close(client, job, len(items))


def find_job(client: ClientPort, job: str) -> JobInfo | None:
    """The job with exactly this id; None where the scheduler has none."""
    try:
        info = client.ask(FindJob(JobId(job)), JobInfo)
    except NotFound:
        return None
    return info if info.id == job else None


def cancel(client: ClientPort, export: str, reason: str, stages: Iterable[str] = ENDING) -> None:
    """Cancel what has not ended of these stages."""
    for stage in stages:
        with contextlib.suppress(NotFound, UsageError):
            client.ask(CancelJob(stage_id(export, stage), reason[:1000]), Accepted)


def cancel_quietly(client: ClientPort, export: str, reason: str, stages: Iterable[str] = ENDING) -> None:
    """As `cancel`; where the scheduler is out of reach, whoever waits for the export does it."""
    with contextlib.suppress(WindrowError):
        cancel(client, export, reason, stages)
