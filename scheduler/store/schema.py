"""The tables of the store as they are now; `migrations/versions` says how they came to be.

Bytes sit in `block`, apart from the narrow `outcome` rows, which are read often and in order. No foreign keys: the core
decides what belongs together, and records of one batch are written grouped by table.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

SCHEMA_HEAD = "0004"
"""The newest script in `migrations/versions`; a store that is here already is opened without loading Alembic."""

METADATA = MetaData()

# SQLite has one kind of integer (64 bits), and only a column declared INTEGER is the row's own number.
Number = BigInteger().with_variant(Integer(), "sqlite")

CLUSTER = Table(
    "cluster",
    METADATA,
    Column("one", Integer, primary_key=True, autoincrement=False),  # always 1: there is one row
    Column("id", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("created_wall", Double, nullable=False),
    Column("taken_wall", Double, nullable=False),  # when this epoch began
)

JOB = Table(
    "job",
    METADATA,
    Column("no", Number, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("key", Text, unique=True),
    Column("task", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("options", Text, nullable=False),  # JSON
    Column("stream", Boolean, nullable=False),
    Column("after", Text, nullable=False),  # JSON
    Column("numbers", Text),  # JSON: Python's integers have no upper end, SQL's have
    Column("total", Number, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("generation", Number, nullable=False),
    Column("reason", Text, nullable=False),
    Column("done", Number, nullable=False),
    Column("failed", Number, nullable=False),
    Column("cancelled", Number, nullable=False),
    Column("retried", Number, nullable=False),
    Column("created_wall", Double, nullable=False),
    Column("finished_wall", Double),
    Index("job_by_state", "state", "no"),
    Index("job_by_end", "state", "finished_wall"),
)

# Jobs whose row is gone already, and whose other rows are being deleted, a few with each commit.
REMOVED = Table("removed", METADATA, Column("job_no", Number, primary_key=True, autoincrement=False))

BLOCK = Table(
    "block",
    METADATA,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

INPUT = Table(
    "input",
    METADATA,
    Column("job_no", Number, primary_key=True, autoincrement=False),
    Column("base", Number, primary_key=True, autoincrement=False),
    Column("count", Number, nullable=False),
    Column("block_id", Number, nullable=False),
    Column("block_bytes", Number, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("due_wall", Double),
    Column("wait_s", Double),
    sqlite_with_rowid=False,
)

CHUNK = Table(
    "chunk",
    METADATA,
    Column("epoch", Number, primary_key=True, autoincrement=False),
    Column("counter", Number, primary_key=True, autoincrement=False),
    Column("job_no", Number, nullable=False),
    Column("bounds", Text, nullable=False),  # "start,stop,start,stop"
    Column("node", Text, nullable=False),
    Column("leased", Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# Sequences must never come again, even after the newest row was deleted (ReopenItems): readers go on from the last one
# they saw. Hence autoincrement, by which the database remembers the highest it ever gave.
OUTCOME = Table(
    "outcome",
    METADATA,
    Column("seq", Number, primary_key=True),
    Column("job_no", Number, nullable=False),
    Column("start", Number, nullable=False),
    Column("stop", Number, nullable=False),
    Column("base", Number, nullable=False),  # index of the block's first entry
    Column("block_id", Number),  # of a value
    Column("failure_id", Number),  # of a failure
    Column("bytes", Number, nullable=False),  # of the whole block, or of the failure's texts
    # The scans that rebuild a job's sets find all they need in this index.
    Index("outcome_by_item", "job_no", "start", "stop", "failure_id"),
    Index("outcome_by_commit", "job_no", "seq"),
    sqlite_autoincrement=True,
)

FAILURE = Table(
    "failure",
    METADATA,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("job_no", Number, nullable=False),
    Column("item", Number, nullable=False),
    Column("attempt", Number, nullable=False),
    Column("kind", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("traceback", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("failed_wall", Double, nullable=False),
    Column("final", Boolean, nullable=False),
    Column("log", Text, nullable=False, server_default=""),
    Column("memory_bytes_peak", Number, nullable=False, server_default="0"),
    Index("failure_by_item", "job_no", "final", "item"),
)

ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("job_no", Number, primary_key=True, autoincrement=False),
    Column("item", Number, primary_key=True, autoincrement=False),
    Column("attempts", Number, nullable=False),
    Column("due_wall", Double, nullable=False),
    Column("suspect", Boolean, nullable=False),
    Column("wait_s", Double),
    sqlite_with_rowid=False,
)

# Ranges may lie over one another: of an item the highest number counts. `seq` only gives a scan its order.
LOSS = Table(
    "loss",
    METADATA,
    Column("seq", Number, primary_key=True),
    Column("job_no", Number, nullable=False),
    Column("start", Number, nullable=False),
    Column("stop", Number, nullable=False),
    Column("losses", Number, nullable=False),
    Index("loss_by_job", "job_no", "seq"),
)

NODE = Table(
    "node",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("drained", Boolean, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("seen_wall", Double, nullable=False),
    sqlite_with_rowid=False,
)
