"""Losses of ranges, and what a worker left behind that died: its last log lines and its peak memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "loss",
        sa.Column("seq", NUMBER, primary_key=True),
        sa.Column("job_no", NUMBER, nullable=False),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("stop", NUMBER, nullable=False),
        sa.Column("losses", NUMBER, nullable=False),
    )
    op.create_index("loss_by_job", "loss", ["job_no", "seq"])
    op.add_column("failure", sa.Column("log", sa.Text(), nullable=False, server_default=""))
    op.add_column("failure", sa.Column("memory_bytes_peak", NUMBER, nullable=False, server_default="0"))
