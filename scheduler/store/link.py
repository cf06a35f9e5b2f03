"""One connection to the database and the statements that run over it.

SQLAlchemy makes the connection and turns statements into text, once; they run on the driver itself, because a commit of
three statements costs 69 µs beside the fsync through SQLAlchemy's `exec_driver_sql` and 16 µs without (measured with
SQLAlchemy 2.1 and SQLite 3.40).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BindParameter, Dialect, Engine, Table, bindparam, insert
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.elements import CompilerElement

from windrow.common.errors import StoreError

Row = tuple[Any, ...]


class Database(Protocol):
    """What differs between databases; each has one module that knows it."""

    @property
    def name(self) -> str:
        """For messages: the file, or the URL without its password."""
        ...

    @property
    def engine(self) -> Engine:
        """Its statements take parameters by position."""
        ...

    @property
    def begin_write_sql(self) -> str:
        """Starts a transaction that will write: it must not find out at its end that another one was faster."""
        ...

    def settle(self) -> None:
        """Called once it is known that what lies there is a store, or nothing yet."""
        ...

    def lengthen_log(self) -> None:
        """Housekeeping in each transaction that writes, before its rows: it must cost next to nothing."""
        ...

    def store_error(self, error: Exception, doing: str) -> StoreError:
        """What an error of the driver means: StoreDamaged where trying again is of no use, else StoreFailed."""
        ...

    def checkpoint(self) -> None:
        """Housekeeping over a connection of its own, on any thread."""
        ...

    def size_bytes(self) -> int:
        """What the store takes on disk, as near as it can be told cheaply."""
        ...

    def trouble(self) -> str:
        """What is the matter with the place where the store lies, or nothing."""
        ...

    def release(self) -> None:
        """Close all connections, then give the lock up."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement as the driver takes it. `order`: where each of its parameters is in the row; None: as it comes."""

    sql: str
    order: tuple[int, ...] | None = None
    constants: Row = ()

    def arrange(self, row: Row) -> Row:
        if self.order is None:
            return row
        full = row + self.constants
        return tuple([full[at] for at in self.order])


def param(name: str) -> BindParameter[Any]:
    """A parameter of a statement."""
    return bindparam(name)


def prepare(dialect: Dialect, statement: CompilerElement, *names: str) -> Prepared:
    """The statement for rows that carry the parameters in this order."""
    compiled = statement.compile(dialect=dialect)
    wanted: list[str] = list(getattr(compiled, "positiontup", None) or ())
    params = dict(compiled.params or {})
    missing = set(names) - set(wanted)
    if missing:
        raise ValueError(f"parameters {sorted(missing)} are not in: {compiled}")
    constants = [name for name in dict.fromkeys(wanted) if name not in names]
    if any(params[name] is None for name in constants):
        raise ValueError(f"parameters {constants} have no value in: {compiled}")
    if wanted == list(names):
        return Prepared(str(compiled))
    place = {name: at for at, name in enumerate([*names, *constants])}
    return Prepared(str(compiled), tuple(place[name] for name in wanted), tuple(params[name] for name in constants))


def prepare_insert(dialect: Dialect, table: Table, *names: str) -> Prepared:
    """An insert of rows that carry these columns in this order; all but those that the database fills in."""
    return prepare(dialect, insert(table).values({name: param(name) for name in names}).inline(), *names)


class Link:
    """A connection that is made anew after an error that it did not survive. Errors leave as StoreErrors."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._errors: tuple[type[Exception], ...] = (
            database.engine.dialect.loaded_dbapi.Error,
            SQLAlchemyError,  # from the pool, when it has to connect
            OverflowError,
            UnicodeEncodeError,
        )
        self._begin = database.begin_write_sql
        self._connection: PoolProxiedConnection | None = None
        self._cursor: DBAPICursor | None = None

    @property
    def dialect(self) -> Dialect:
        return self._database.engine.dialect

    def fetch(self, statement: Prepared, *row: Any) -> list[Row]:
        """All rows at once: no cursor stays open, so no reader ever holds a checkpoint up."""
        try:
            cursor = self._ready()
            cursor.execute(statement.sql, statement.arrange(row))
            found: list[Row] = list(cursor.fetchall())
        except self._errors as error:
            raise self._meaning(error, "reading") from error
        return found

    def run_many(self, statement: Prepared, rows: Sequence[Row]) -> None:
        """The statement for each row in turn, inside the transaction that `begin` began."""
        try:
            self._ready().executemany(
                statement.sql, [statement.arrange(row) for row in rows] if statement.order else rows
            )
        except self._errors as error:
            raise self._meaning(error, "writing") from error

    def begin(self) -> None:
        """Start a transaction that will write."""
        try:
            self._ready().execute(self._begin)
        except self._errors as error:
            raise self._meaning(error, "beginning to write") from error

    def commit(self) -> None:
        """Durable on return."""
        try:
            assert self._connection is not None
            self._connection.commit()
        except self._errors as error:
            raise self._meaning(error, "committing") from error

    def rollback(self) -> None:
        """Back to where no transaction is open, whatever happened before; never raises."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except self._errors:
            self._drop()

    def close(self) -> None:
        self.rollback()
        self._drop()

    def _meaning(self, error: Exception, doing: str) -> StoreError:
        origin = error.orig if isinstance(error, DBAPIError) else None
        return self._database.store_error(origin if isinstance(origin, Exception) else error, doing)

    def _ready(self) -> DBAPICursor:
        if self._cursor is None:
            self._connection = self._database.engine.raw_connection()
            self._cursor = self._connection.cursor()
        return self._cursor

    def _drop(self) -> None:
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            connection.invalidate()
