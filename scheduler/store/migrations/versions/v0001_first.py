"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_jobs()
    _create_outcomes()
    op.create_table(
        "cluster",
        sa.Column("one", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("created_wall", sa.Double, nullable=False),
        sa.Column("taken_wall", sa.Double, nullable=False),
    )
    op.create_table(
        "chunk",
        sa.Column("epoch", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("counter", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("job_no", NUMBER, nullable=False),
        sa.Column("bounds", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("leased", sa.Boolean(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "node",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("drained", sa.Boolean(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("seen_wall", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_jobs() -> None:
    op.create_table(
        "job",
        sa.Column("no", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("key", sa.Text(), unique=True),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("numbers", sa.Text()),
        sa.Column("total", NUMBER, nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("generation", NUMBER, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("done", NUMBER, nullable=False),
        sa.Column("failed", NUMBER, nullable=False),
        sa.Column("cancelled", NUMBER, nullable=False),
        sa.Column("retried", NUMBER, nullable=False),
        sa.Column("created_wall", sa.Double, nullable=False),
        sa.Column("finished_wall", sa.Double),
    )
    op.create_index("job_by_state", "job", ["state", "no"])
    op.create_index("job_by_finish", "job", ["finished_wall"])
    op.create_table(
        "input",
        sa.Column("job_no", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("base", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.Column("block_id", NUMBER, nullable=False),
        sa.Column("block_bytes", NUMBER, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("due_wall", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        sa.Column("job_no", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("item", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("attempts", NUMBER, nullable=False),
        sa.Column("due_wall", sa.Double, nullable=False),
        sa.Column("suspect", sa.Boolean(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_outcomes() -> None:
    op.create_table(
        "block",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "outcome",
        sa.Column("seq", NUMBER, primary_key=True),
        sa.Column("job_no", NUMBER, nullable=False),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("stop", NUMBER, nullable=False),
        sa.Column("base", NUMBER, nullable=False),
        sa.Column("block_id", NUMBER),
        sa.Column("failure_id", NUMBER),
        sa.Column("bytes", NUMBER, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outcome_by_item", "outcome", ["job_no", "start", "stop", "failure_id"])
    op.create_index("outcome_by_commit", "outcome", ["job_no", "seq"])
    op.create_table(
        "failure",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("job_no", NUMBER, nullable=False),
        sa.Column("item", NUMBER, nullable=False),
        sa.Column("attempt", NUMBER, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("failed_wall", sa.Double, nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
    )
    op.create_index("failure_by_item", "failure", ["job_no", "final", "item"])
