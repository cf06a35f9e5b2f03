"""The durable truth of the scheduler, in a SQL database: all that knows SQLAlchemy lives here."""

from __future__ import annotations

from windrow.scheduler.store.opening import open_store
from windrow.scheduler.store.sql_store import SqlStore

__all__ = ["SqlStore", "open_store"]
