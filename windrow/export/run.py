"""An export as whoever started it holds it: how far it is, waiting for it, ending it, and what it came to."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Unpack

from windrow.common.blocks import block_entries
from windrow.common.errors import ExportError, WindrowError
from windrow.common.messages import Outcomes, ReadResults
from windrow.common.values import decode_value
from windrow.export.destination import recover_folder
from windrow.export.files import remove_folder
from windrow.export.locations import is_url, shown
from windrow.export.ports import ClientPort, JobPort, StatusPort
from windrow.export.spec import ExportSpec, SpecOptions, make_spec
from windrow.export.stages import STAGES, cancel, stage_id
from windrow.export.starting import start
from windrow.export.uploads import clear_begun
from windrow.export.work import has_parts, work_folder

CHECK_SECONDS = 0.5
"""How long `wait` sleeps between looks at the stages before the last one."""
FAILING_SECONDS = 3.0
"""How long a stage may take to say that it has failed, once the others have ended."""
STOP_SECONDS = 15.0
"""How long a cancelled export may take to stand still."""
_ENDED = ("done", "failed", "cancelled")
_IN_ORDER = tuple(stage.name for stage in STAGES)


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far an export is."""

    phase: str
    """`planning`, `converting`, `merging`, `done`, `failed` or `cancelled`."""
    segments_done: int = 0
    segments_total: int | None = None
    """None until all are known."""
    rows_in: int = 0
    rows: int = 0
    """Rows kept, and `rows_in` rows read, of the segments that are done without a gap from the first on."""
    bad_rows: int = 0
    bytes_written: int = 0
    """Of the same segments' parts."""
    source_bytes: int | None = None
    source_bytes_done: int = 0
    """About: the segments done, as a share of the source."""
    notes: tuple[str, ...] = ()
    """What the plan has to say, a line each."""


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """An export that is done."""

    path: str
    rows: int
    bytes: int
    segments: int
    seconds: float
    rows_in: int = 0
    """Rows read."""
    bad_rows: int = 0
    side_file: str = ""
    """Where the bad rows are; empty where there are none."""
    files: int = 1
    sha256: str = ""
    """Of the file, where a manifest was asked for."""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sums:
    """What the parts add up to that were read so far."""

    next: int = 0
    rows_in: int = 0
    rows: int = 0
    bad_rows: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Known:
    """What the first stages have told."""

    plan: dict[str, Any] | None = None
    cut: dict[str, Any] | None = None
    decide: dict[str, Any] | None = None
    sums: _Sums = field(default_factory=_Sums)


class ExportRun:
    """An export under way."""

    def __init__(self, client: ClientPort, export: str, spec: ExportSpec) -> None:
        self.id = export
        """Of the export; it is the id of its last job too, so that `windrow wait ID` waits for it."""
        self.spec = spec
        self._client = client
        self._jobs: dict[str, JobPort] = {}
        self._known = _Known()

    def __repr__(self) -> str:
        return f"<export {self.id} to {shown(self.spec.dest)}>"

    @property
    def dest(self) -> str:
        """Where the rows go: an absolute path, {date} replaced."""
        return self.spec.dest

    @property
    def work(self) -> str:
        """The folder in which the parts lie while the export runs: beside the destination, or in the work_dir."""
        return str(work_folder(self.spec.dest, self.id, self.spec.work_dir))

    def job(self, stage: str) -> JobPort:
        """The job of one stage: plan, scan, cut, infer, decide, convert, dedupe, finish, join or merge."""
        if stage not in self._jobs:
            self._jobs[stage] = self._client.job(stage_id(self.id, stage))
        return self._jobs[stage]

    @property
    def convert(self) -> JobPort:
        """The job with one item for each segment."""
        return self.job("convert")

    @property
    def merge(self) -> JobPort:
        """The last job."""
        return self.job("merge")

    def progress(self) -> ExportProgress:
        """Where the export stands: a few short requests."""
        merge = self.merge.status()
        known = self._known
        known.plan = known.plan or self._result("plan")
        known.cut = known.cut or (self._result("cut") if known.plan else None)
        known.decide = known.decide or (self._result("decide") if known.cut else None)
        phase = str(merge.state) if merge.state in _ENDED else "planning"
        notes = tuple(known.plan["notes"]) if known.plan else ()
        notes += tuple(known.cut["notes"]) if known.cut else ()
        convert = self.convert.status()
        if known.plan is None or (known.decide is None and not convert.done):
            return ExportProgress(phase, notes=notes)
        stages = ["convert", "dedupe", "finish"] if self.spec.dedupe_by else ["convert"]
        done = sum(self.job(stage).status().done for stage in stages)
        total: int | None = int(known.cut["segments"]) if known.cut else None
        if total is not None and len(stages) > 1 and known.decide:
            total = 2 * total + (int(known.decide["partitions"]) if total else 0)
        last = self.job(stages[-1]).status()
        if last.state == "cancelled" and merge.state == "done":
            # A limit was reached.
            total = done
        if merge.state not in _ENDED:
            phase = "merging" if last.state in ("done", "cancelling", "cancelled") else "converting"
        sums = self._read_parts(stages[-1])
        source_bytes = int(known.plan["source_bytes"])
        return ExportProgress(
            phase=phase,
            segments_done=done,
            segments_total=total,
            rows_in=sums.rows_in,
            rows=sums.rows if self.spec.limit is None else min(sums.rows, self.spec.limit),
            bad_rows=sums.bad_rows,
            bytes_written=sums.bytes,
            source_bytes=source_bytes,
            source_bytes_done=source_bytes * done // total if total else 0,
            notes=notes,
        )

    def status(self) -> StatusPort:
        """The status of the last job: it ends when the export does."""
        return self.merge.status()

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
                # A stage that failed lets those behind it be cancelled; one that is still open would wait for ever.
                if any(self.job(stage).status().failed for stage in _IN_ORDER[:-1]):
                    self._fail()
                continue
            if merge.state == "done":
                return self._summary(merge)
            self._fail()

    def cancel(self, reason: str = "the export was cancelled") -> None:
        """Stop the export; the destination stays as it was, and the same export goes on with the finished parts."""
        cancel(self._client, self.id, reason)
        deadline = time.monotonic() + STOP_SECONDS
        for stage in _IN_ORDER:
            try:
                self.job(stage).wait(max(0.1, deadline - time.monotonic()))
            except TimeoutError:
                return
        self._clear()

    @property
    def has_parts(self) -> bool:
        """Whether finished parts lie in the work folder, as seen from here."""
        return has_parts(self.work)

    def _clear(self) -> None:
        """Leave the destination as it was, and no work folder in which nothing is that a later export could take up."""
        if self.merge.status().state == "done":
            return
        dest, work = self.spec.dest, Path(self.work)
        if is_url(dest):
            with contextlib.suppress(WindrowError):
                clear_begun(work, dest.rstrip("/") if dest.endswith("/") else None)
        elif dest.endswith("/"):
            # The merge may have been stopped between putting the old folder aside and the new one in its place.
            recover_folder(Path(dest))
        if not self.has_parts:
            remove_folder(work)

    def _result(self, stage: str) -> dict[str, Any] | None:
        job = self.job(stage)
        return next(iter(job.results())) if job.status().state == "done" else None

    def _summary(self, merge: StatusPort) -> ExportSummary:
        published: dict[str, Any] = next(iter(self.merge.results()))
        began = self.job("plan").status().created_s
        return ExportSummary(
            path=published["path"],
            rows=published["rows"],
            bytes=published["bytes"],
            segments=published["segments"],
            seconds=max(0.0, (merge.finished_s or began) - began),
            rows_in=published["rows_in"],
            bad_rows=published["bad_rows"],
            side_file=published["side_file"],
            files=published["files"],
            sha256=published["sha256"],
            notes=tuple(published["notes"]),
        )

    def _fail(self) -> NoReturn:
        """Stop what still runs, and raise what the first stage that failed says."""
        error: Exception | None = None
        reason = ""
        deadline = time.monotonic() + FAILING_SECONDS
        for stage in _IN_ORDER:
            failure = self._find_failure(stage, deadline)
            if failure is not None:
                error = _error_of(failure, stage_id(self.id, stage))
                break
            reason = reason or self.job(stage).status().reason
        self.cancel("another part of the export failed")
        raise error or ExportError(f"the export was cancelled{': ' + reason if reason else ''}")

    def _find_failure(self, stage: str, deadline: float) -> Any:
        job = self.job(stage)
        status = job.status()
        if not status.failed and status.state not in _ENDED:
            # A task that fails cancels the other stages first; that it has failed is known a moment later.
            with contextlib.suppress(TimeoutError):
                job.wait(max(0.0, deadline - time.monotonic()))
        return next(iter(job.failures()), None)

    def _read_parts(self, stage: str) -> _Sums:
        """Add up one more page of finished segments."""
        sums = self._known.sums
        page = self._client.ask(ReadResults(stage_id(self.id, stage), sums.next), Outcomes)
        for run in page.values:
            for entry in block_entries(run.block):
                part = decode_value(entry)
                sums.rows_in += part["rows_in"]
                sums.rows += part["rows"]
                sums.bad_rows += part["bad_rows"]
                sums.bytes += part["bytes"]
        sums.next = page.next
        return sums


def start_export(client: ClientPort, spec: ExportSpec) -> ExportRun:
    """Start the jobs of an export; they are durable when this returns. ExportError for what can be seen at once."""
    export, made = start(client, spec)
    return ExportRun(client, export, made)


def export(
    client: ClientPort,
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    **options: Unpack[SpecOptions],
) -> ExportRun:
    """Start an export; the names are those of the command line."""
    return start_export(client, make_spec(source, dest, **options))


def _error_of(failure: Any, job: str) -> Exception:
    if str(failure.type).endswith("ExportError"):
        return ExportError(str(failure.message))
    if str(failure.type).endswith("NodeUnfit"):
        return ExportError(f"no node is left that can go on with the export: {failure.message}")
    from windrow.client.failures import task_failed

    return task_failed(failure, job)
