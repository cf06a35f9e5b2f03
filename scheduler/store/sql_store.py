"""The Store over one SQL database: commits, reads, and the few rows that belong to no job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select

from windrow.common.errors import EpochLost, StoreError
from windrow.common.messages import InputSlice, JobInfo
from windrow.common.words import Fence, JobId, JobState, NodeId
from windrow.scheduler.core.records import EndedJob, Record, RemoveJob, Snapshot, StoredChunk, StoredJob, StoredNode
from windrow.scheduler.ports import Page
from windrow.scheduler.store.counts import LiveCounts
from windrow.scheduler.store.jobs import JobReader
from windrow.scheduler.store.link import Database, Link, param, prepare, prepare_insert
from windrow.scheduler.store.outcomes import OutcomeReader
from windrow.scheduler.store.schema import BLOCK, CHUNK, CLUSTER, NODE
from windrow.scheduler.store.writing import Writer

PROBE_BLOCK = 0
"""Blocks are numbered from 1."""

PROBE_BYTES = 1 << 18
"""More than a disk has left that has just refused a commit."""


class SqlStore:
    """See ports.Store. Made by open_store; one thread uses it, but for `checkpoint`."""

    def __init__(self, database: Database, link: Link, *, epoch: int, cluster: str, secret: bytes) -> None:
        self.epoch = epoch
        self.cluster = cluster
        self.secret = secret
        self._database = database
        self._link = link
        self._counts = LiveCounts()
        self._jobs = JobReader(link, self._counts)
        self._outcomes = OutcomeReader(link)
        self._writer = Writer(link)
        # For databases that have no lock on the whole: the row stays as it is until the commit.
        self._read_epoch = prepare(link.dialect, select(CLUSTER.c.epoch).with_for_update())
        chunks = select(CHUNK.c.epoch, CHUNK.c.counter, CHUNK.c.job_no, CHUNK.c.bounds, CHUNK.c.node, CHUNK.c.leased)
        self._read_chunks = prepare(link.dialect, chunks.order_by(CHUNK.c.epoch, CHUNK.c.counter))
        self._read_nodes = prepare(link.dialect, select(*NODE.c).order_by(NODE.c.id))
        self._put_block = prepare_insert(link.dialect, BLOCK, "id", "bytes")
        self._drop_block = prepare(link.dialect, delete(BLOCK).where(BLOCK.c.id == param("at_id")), "at_id")
        self._trouble = ""

    def load(self) -> Snapshot:
        """Everything that is not terminal, read in one transaction."""
        self._begin()
        try:
            return Snapshot(
                epoch=self.epoch,
                cluster=self.cluster,
                secret=self.secret,
                last_job_no=self._jobs.find_last_no(),
                jobs=self._jobs.read_live(),
                chunks=tuple(
                    StoredChunk(
                        Fence(epoch, counter),
                        no,
                        tuple(map(int, bounds.split(","))) if bounds else (),
                        NodeId(node),
                        bool(leased),
                    )
                    for epoch, counter, no, bounds, node, leased in self._link.fetch(self._read_chunks)
                ),
                nodes=tuple(
                    StoredNode(NodeId(id_), name, host, bool(drained), bool(gone), seen_wall)
                    for id_, name, host, drained, gone, seen_wall in self._link.fetch(self._read_nodes)
                ),
            )
        finally:
            self._link.rollback()

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, durable on return. StoreFailed: nothing was written. EpochLost: another one reigns."""
        try:
            self._begin()
            self._database.lengthen_log()
            self._writer.write(records)
            self._link.commit()
        except BaseException as error:
            self._link.rollback()
            if isinstance(error, StoreError):
                self._trouble = error.message
            raise
        self._trouble = ""
        self._counts.note(records)
        for record in records:
            if isinstance(record, RemoveJob):
                self._jobs.forget(record.id)

    def _begin(self) -> None:
        """Start a transaction in which this scheduler reigns."""
        try:
            self._link.begin()
            reigning = self._link.fetch(self._read_epoch)[0][0]
            if reigning != self.epoch:
                raise EpochLost(
                    f"the store {self._database.name} was taken over by another scheduler (epoch {reigning}; this one "
                    f"is of epoch {self.epoch}): this scheduler must stop"
                )
        except BaseException:
            self._link.rollback()
            raise

    def check_reign(self) -> None:
        """EpochLost where another scheduler has taken the store over: one that writes nothing would never notice."""
        self._begin()
        self._link.rollback()

    def find_job(self, job: JobId) -> StoredJob | None:
        """The job with all that its sets are rebuilt from, terminal or not."""
        return self._jobs.find(job)

    def find_job_by_key(self, key: str) -> JobId | None:
        return self._jobs.find_id_by_key(key)

    def find_ended(self, before: Mapping[JobState, float], limit: int) -> tuple[EndedJob, ...]:
        """Jobs that ended in one of these states before its instant: those that ended first, `limit` of each state."""
        return self._jobs.find_ended(before, limit)

    def has_leftovers(self) -> bool:
        """Whether removed jobs have left rows that are to be deleted."""
        return self._writer.has_leftovers()

    def find_job_ids(self, prefix: str, limit: int) -> list[JobId]:
        """Ids that begin with `prefix`, in order."""
        return self._jobs.find_ids(prefix, limit)

    def find_info(self, job: JobId) -> JobInfo | None:
        """The job as users see it; what runs of a live job only the core knows, so `running` is 0 here."""
        return self._jobs.find_info(job)

    def list_jobs(self, *, limit: int = 100, before: str = "", streams: bool = False, state: str = "") -> list[JobInfo]:
        """Newest first; `before`: id of the last job of the page before, or empty; `state` filters unless empty."""
        return self._jobs.list_infos(limit=limit, before=before, streams=streams, state=state)

    def read_inputs(self, job: JobId, start: int, stop: int) -> tuple[InputSlice, ...]:
        """Slices that tile [start, stop) exactly; StoreDamaged where they do not."""
        no = self._jobs.find_no(job)
        return self._outcomes.read_inputs(-1 if no is None else no, start, stop)

    def read_results(self, job: JobId, start: int, stop: int, bytes_max: int) -> Page:
        """Outcomes of [start, stop) in item order up to the first gap or the limit; `next`: first index not covered."""
        no = self._jobs.find_no(job)
        return (
            Page((), (), start, more=False) if no is None else self._outcomes.read_results(no, start, stop, bytes_max)
        )

    def read_news(self, job: JobId, after: int, bytes_max: int) -> Page:
        """Outcomes committed after sequence `after`, in order of commit; `next` is the sequence of the last one."""
        no = self._jobs.find_no(job)
        return Page((), (), after, more=False) if no is None else self._outcomes.read_news(no, after, bytes_max)

    def last_sequence(self, job: JobId) -> int:
        """Sequence of the job's newest outcome; -1 where there is none."""
        no = self._jobs.find_no(job)
        return -1 if no is None else self._outcomes.last_sequence(no)

    def read_failures(self, job: JobId, start: int, limit: int) -> Page:
        """Quarantined items from `start` on, in item order."""
        no = self._jobs.find_no(job)
        return Page((), (), start, more=False) if no is None else self._outcomes.read_failures(no, start, limit)

    def read_history(self, job: JobId, item: int) -> Page:
        """Failed attempts at one item, the first few and the last few, in order."""
        no = self._jobs.find_no(job)
        return Page((), (), item, more=False) if no is None else self._outcomes.read_history(no, item)

    def check(self) -> str:
        """Empty when the store is well, else what is the matter. After a failed commit one is tried."""
        trouble = self._database.trouble()
        if trouble:
            return trouble
        try:
            self._link.fetch(self._read_epoch)
            if self._trouble:
                self._try_writing()
        except StoreError as error:
            self._trouble = error.message
        return self._trouble

    def _try_writing(self) -> None:
        # Put in one transaction and taken out in another: what comes and goes in one may never reach the disk.
        for rows in ([(PROBE_BLOCK, bytes(PROBE_BYTES))], []):
            try:
                self._begin()
                self._link.run_many(self._drop_block, [(PROBE_BLOCK,)])
                self._link.run_many(self._put_block, rows)
                self._link.commit()
            except StoreError:
                self._link.rollback()
                raise
        self._trouble = ""

    def size_bytes(self) -> int:
        """What the store takes on disk."""
        return self._database.size_bytes()

    def checkpoint(self) -> None:
        """Move what was committed to its final place; any thread may call it, and commits go on meanwhile."""
        self._database.checkpoint()

    def close(self) -> None:
        """Give the store up; the next scheduler may take it."""
        self._link.close()
        self._database.release()
