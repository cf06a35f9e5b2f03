"""How long what is delayed was to wait when that was written, so that a clock that is set back makes it no longer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("input", sa.Column("wait_s", sa.Double()))
    op.add_column("attempt", sa.Column("wait_s", sa.Double()))
