"""Opens a store: finds its place, takes its lock, brings its schema up to date, and begins a new epoch."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import inspect, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from windrow.common.errors import ConfigError, StoreDamaged
from windrow.scheduler.store.link import Database, Link, param, prepare, prepare_insert
from windrow.scheduler.store.schema import CLUSTER, SCHEMA_HEAD
from windrow.scheduler.store.sql_store import SqlStore
from windrow.scheduler.store.sqlite import SqliteDatabase, sqlite_path

SECRET_BYTES = 32
CLUSTER_ID_BYTES = 8
_VERSION_TABLE = "alembic_version"


def open_store(url: str, *, state_dir: Path, clock: Callable[[], float]) -> SqlStore:
    """The store at `url`, made if need be; empty: `windrow.db` in the state folder.

    StoreLocked: another scheduler has it. StoreDamaged: it cannot be read by this Windrow. ConfigError: no such URL.
    """
    database = _find_database(url, state_dir)
    link = Link(database)
    try:
        _migrate(database)
        epoch, cluster, secret = _take_over(link, clock(), database.name)
        store = SqlStore(database, link, epoch=epoch, cluster=cluster, secret=secret)
    except BaseException:
        link.close()
        database.release()
        raise
    return store


def _find_database(url: str, state_dir: Path) -> Database:
    if not url:
        return SqliteDatabase(state_dir.expanduser() / "windrow.db")
    try:
        made = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError("the store's URL cannot be read: write sqlite:////absolute/path/windrow.db") from None
    if made.get_backend_name() != "sqlite":
        raise ConfigError(f"there is no store for {made.get_backend_name()}: write sqlite:////absolute/path/windrow.db")
    return SqliteDatabase(sqlite_path(made))


def _migrate(database: Database) -> None:
    """Bring the schema to SCHEMA_HEAD in one transaction; StoreDamaged where this Windrow cannot."""
    try:
        found = _find_version(database)
        if found != SCHEMA_HEAD:
            _upgrade(database, found)
        database.settle()
    except (SQLAlchemyError, OSError) as error:
        origin = error.orig if isinstance(error, DBAPIError) and isinstance(error.orig, Exception) else error
        raise database.store_error(origin, "opening") from error


def _find_version(database: Database) -> str:
    """The schema's version; empty for a store that is new."""
    with database.engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return ""
        if _VERSION_TABLE not in tables:
            raise StoreDamaged(
                f"{database.name} is a database of something else (tables: {', '.join(sorted(tables)[:5])}): "
                "choose another place (--state or --store)"
            )
        return str(connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar_one_or_none() or "")


def _upgrade(database: Database, found: str) -> None:
    # Here, because it takes a tenth of a second, and only a store that is new or old needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise StoreDamaged(
            f"the store {database.name} has schema {found}, this Windrow knows {SCHEMA_HEAD} and older ones: "
            "a newer Windrow wrote it; install that one, or put back a copy from before"
        )
    # One transaction around it all, so a kill in the midst of it leaves nothing behind.
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _take_over(link: Link, now_wall: float, name: str) -> tuple[int, str, bytes]:
    """Begin the next epoch, durably, before anything else is read or written; (epoch, cluster id, secret)."""
    dialect = link.dialect
    link.begin()
    row = select(CLUSTER.c.epoch, CLUSTER.c.id, CLUSTER.c.secret).with_for_update()
    found = link.fetch(prepare(dialect, row))
    if found:
        if tuple(map(type, found[0])) != (int, str, bytes):
            raise StoreDamaged(f"the store {name} is damaged (no epoch in it): put back a copy of the file")
        epoch, cluster, secret = found[0][0] + 1, found[0][1], found[0][2]
        change = update(CLUSTER).values(epoch=param("to_epoch"), taken_wall=param("to_wall"))
        link.run_many(prepare(dialect, change, "to_epoch", "to_wall"), [(epoch, now_wall)])
    else:
        epoch, cluster, secret = 1, secrets.token_hex(CLUSTER_ID_BYTES), os.urandom(SECRET_BYTES)
        names = ("one", "id", "secret", "epoch", "created_wall", "taken_wall")
        link.run_many(prepare_insert(dialect, CLUSTER, *names), [(1, cluster, secret, epoch, now_wall, now_wall)])
    link.commit()
    return epoch, cluster, secret
