"""Starts an export as three jobs (plan, convert, merge), follows them, and says in one line what went wrong."""

from __future__ import annotations

import dataclasses
import os
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from windrow.common.blocks import block_entries
from windrow.common.errors import ExportError
from windrow.common.messages import Outcomes, ReadResults
from windrow.common.values import decode_value
from windrow.common.words import JobId
from windrow.export.files import remove_folder
from windrow.export.paths import check_paths
from windrow.export.plan import work_folder
from windrow.export.ports import ClientPort, JobPort, StatusPort
from windrow.export.spec import SEGMENT_BYTES, ExportSpec, check_spec, make_spec, spec_to_dict, split_list
from windrow.export.tasks import CONVERT, MERGE, PLAN

CHECK_SECONDS = 0.5
"""How long `wait` sleeps between looks at the converting job."""
STOP_SECONDS = 15.0
"""How long a cancelled export may take to stand still before its parts are removed."""
_ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is."""

    phase: str
    """`planning`, `converting`, `merging`, `done`, `failed` or `cancelled`."""
    segments_done: int = 0
    segments_total: int | None = None
    """None until the plan is there."""
    rows_in: int = 0
    rows: int = 0
    """Rows kept, and `rows_in` rows read, of the segments that are done without a gap from the first on."""
    bytes_written: int = 0
    """Of the same segments' parts."""
    source_bytes: int | None = None
    source_bytes_done: int = 0
    """About: the segments done, as a share of the source."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """An export that is done."""

    path: str
    rows: int
    bytes: int
    sha256: str
    segments: int
    seconds: float


class ExportRun:
    """An export under way."""

    def __init__(self, client: ClientPort, spec: ExportSpec, plan: JobPort, convert: JobPort, merge: JobPort) -> None:
        self.spec = spec
        self.plan = plan
        self.convert = convert
        self.merge = merge
        self._client = client
        self._planned: dict[str, Any] | None = None
        self._next = 0
        self._rows_in = 0
        self._rows = 0
        self._bytes = 0

    @property
    def id(self) -> str:
        """Of the export: its converting job's, which the work folder is named after."""
        return str(self.convert.id)

    @property
    def work(self) -> str:
        """The folder beside the destination in which the parts lie while the export runs."""
        return str(work_folder(self.spec.dest, self.id))

    def progress(self) -> ExportProgress:
        """Where the export stands: two or three short requests."""
        merge = self.merge.status()
        if self._planned is None and self.plan.status().state == "done":
            self._planned = next(iter(self.plan.results()))
        if self._planned is None:
            return ExportProgress(str(merge.state) if merge.state in _ENDED else "planning")
        convert = self.convert.status()
        self._read_parts()
        total, source_bytes = int(self._planned["segments"]), int(self._planned["source_bytes"])
        phase = str(merge.state) if merge.state in _ENDED else "merging" if convert.state == "done" else "converting"
        return ExportProgress(
            phase=phase,
            segments_done=convert.done,
            segments_total=total,
            rows_in=self._rows_in,
            rows=self._rows,
            bytes_written=self._bytes,
            source_bytes=source_bytes,
            source_bytes_done=source_bytes * convert.done // total,
        )

    def status(self) -> StatusPort:
        """The status of the job that the export is at: planning, converting or merging."""
        status = self.plan.status()
        for job in (self.convert, self.merge):
            if status.state != "done":
                break
            status = job.status()
        return status

    def wait(self, timeout: float | None = None) -> ExportSummary:
        """Wait for the file. ExportError or TaskFailed says what went wrong; TimeoutError leaves the export running."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = CHECK_SECONDS if deadline is None else min(CHECK_SECONDS, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"the export {self.id} is still running after {timeout:g} s; it goes on")
            try:
                merge = self.merge.wait(left)
            except TimeoutError:
                # One bad segment spoils the whole: the others need not be converted first.
                if self.plan.status().failed or self.convert.status().failed:
                    self._fail()
                continue
            if merge.state == "done":
                return self._summary(merge)
            self._fail()

    def cancel(self, reason: str = "the export was cancelled") -> None:
        """Stop the export and remove its parts; the destination stays as it was."""
        # The last stage first: else each would be cancelled twice, by us and by the one before it.
        for job in (self.merge, self.convert, self.plan):
            if job.status().state not in _ENDED:
                job.cancel(reason)
        deadline = time.monotonic() + STOP_SECONDS
        for job in (self.plan, self.convert, self.merge):
            try:
                job.wait(max(0.1, deadline - time.monotonic()))
            except TimeoutError:
                return
        if self.merge.status().state != "done":
            remove_folder(work_folder(self.spec.dest, self.id))

    def _summary(self, merge: StatusPort) -> ExportSummary:
        published: dict[str, Any] = next(iter(self.merge.results()))
        began = self.plan.status().created_s
        return ExportSummary(
            path=published["path"],
            rows=published["rows"],
            bytes=published["bytes"],
            sha256=published["sha256"],
            segments=published["segments"],
            seconds=max(0.0, (merge.finished_s or began) - began),
        )

    def _fail(self) -> NoReturn:
        """Stop what still runs, and raise what the first stage that failed says."""
        error: Exception | None = None
        for job in (self.plan, self.convert, self.merge):
            failure = next(iter(job.failures()), None)
            if failure is not None:
                error = _error_of(failure, str(job.id))
                break
        reasons = [status.reason for job in (self.plan, self.convert, self.merge) if (status := job.status()).reason]
        self.cancel("another part of the export failed")
        raise error or ExportError(f"the export was cancelled{': ' + reasons[0] if reasons else ''}")

    def _read_parts(self) -> None:
        """Add up one more page of finished segments."""
        page = self._client.ask(ReadResults(JobId(self.id), self._next), Outcomes)
        for run in page.values:
            for entry in block_entries(run.block):
                part = decode_value(entry)
                self._rows_in += part["rows_in"]
                self._rows += part["rows"]
                self._bytes += part["bytes"]
        self._next = page.next


def start_export(client: ClientPort, spec: ExportSpec) -> ExportRun:
    """Start the jobs of an export; they are durable when this returns. ExportError for what can be seen at once.

    An entry of `spec.cast` may hold several casts, as on the command line.
    """
    casts = tuple(cast for entry in spec.cast for cast in split_list(entry))
    return _start(client, check_spec(dataclasses.replace(spec, cast=casts)))


def _start(client: ClientPort, spec: ExportSpec) -> ExportRun:
    if _sees_our_files(client):
        check_paths(spec)
    name = os.path.basename(spec.dest)
    # The plan job is opened first, since the others come after it, and filled last, since its item names the convert
    # job; if we die in between, nothing has started.
    planning = client.open(PLAN, name=f"export {name}: plan")
    converting = client.open(CONVERT, name=f"export {name}: convert", after=(planning.id,))
    ids = {"plan": str(planning.id), "convert": str(converting.id)}
    merging = client.start(MERGE, [ids], name=f"export {name}: merge", after=(converting.id,))
    planning.append([{"spec": spec_to_dict(spec), "convert": ids["convert"]}])
    return ExportRun(client, spec, planning.close(), client.job(ids["convert"]), merging)


def export(
    client: ClientPort,
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    columns: str | Sequence[str] | Mapping[str, str] = (),
    where: str = "",
    cast: str | Sequence[str] | Mapping[str, str] = (),
    to: str = "",
    delimiter: str = "",
    force: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
) -> ExportRun:
    """Start an export; the names are those of the command line."""
    spec = make_spec(
        source,
        dest,
        columns=columns,
        where=where,
        cast=cast,
        to=to,
        delimiter=delimiter,
        force=force,
        segment_bytes=segment_bytes,
    )
    return _start(client, spec)


def _sees_our_files(client: ClientPort) -> bool:
    """Whether the scheduler is on this machine: then a wrong path is told at once, not by the plan task."""
    host = urllib.parse.urlsplit(str(getattr(client, "url", ""))).hostname or ""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _error_of(failure: Any, job: str) -> Exception:
    if str(failure.type).endswith("ExportError"):
        return ExportError(str(failure.message))
    from windrow.client.failures import task_failed

    return task_failed(failure, job)
