"""Jobs that are not kept any more: found by when they ended, and noted until all their rows are gone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table("removed", sa.Column("job_no", NUMBER, primary_key=True, autoincrement=False))
    op.create_index("job_by_end", "job", ["state", "finished_wall"])
    op.drop_index("job_by_finish", "job")
