"""All that is peculiar to SQLite: how it is opened, locked, checkpointed, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from pathlib import Path
from typing import IO, Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection

from windrow.common.errors import ConfigError, StoreDamaged, StoreError, StoreFailed, StoreLocked
from windrow.scheduler.store.link import Link, Prepared

BUSY_TIMEOUT_MS = 2_000
"""How long a commit waits for somebody else (sqlite3, a backup) who holds the file; the scheduler stands still then."""

WAL_PAGES_MAX = 8_192
"""At this length (32 MiB) a commit empties the log itself, whatever it costs: checkpoint() was not called in time."""

WAL_BYTES_KEPT = WAL_PAGES_MAX * 4096
WAL_BYTES_MIN = 1 << 18
"""What the log is written to from the start; then twice as much, up to WAL_BYTES_KEPT."""
CACHE_KIB = 32_768

_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    # FULL: the log is synced at each commit. NORMAL would lose the newest commits with the power.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = OFF",
    # Some builds overwrite all that is deleted, which would write each removed block into the log once more.
    "PRAGMA secure_delete = FAST",
    f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}",
    f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}",
    f"PRAGMA cache_size = -{CACHE_KIB}",
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteDatabase:
    """One SQLite file under an exclusive lock."""

    begin_write_sql = "BEGIN IMMEDIATE"

    def __init__(self, path: Path) -> None:
        """Make the folder and the file, and take the lock; StoreLocked where another scheduler has it."""
        # By its true name: the lock and the log lie beside it, and must be found there by whatever way one comes.
        path = path.resolve()
        self._path = path
        made_in = next((folder for folder in path.parents if folder.exists()), path.parent)
        self._lock = _take_lock(path)
        try:
            # The store holds the cluster's secret, so the file is its owner's alone; the log inherits its mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._inode = path.stat().st_ino
            _sync_names(path.parent, made_in)
        except OSError as error:
            self._lock.close()
            raise _unusable(path, error) from error
        self._engine = _make_engine(path)
        self._log_name = f"{path}-wal"
        self._log_bytes = 0
        """Its length as `lengthen_log` left it."""
        self._checkpoints = threading.Lock()

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def engine(self) -> Engine:
        return self._engine

    def settle(self) -> None:
        link = Link(self)
        try:
            # The file keeps this one itself, so a file of somebody else must not get it.
            link.fetch(Prepared("PRAGMA journal_mode = WAL"))
        finally:
            link.close()

    def store_error(self, error: Exception, doing: str) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(code, int) and code & 0xFF in _DAMAGE:
            return StoreDamaged(
                f"the store {self.name} is damaged ({error}): stop the scheduler and put back a copy of the file, "
                f"or try `sqlite3 {self.name} .recover`"
            )
        return StoreFailed(f"the store {self.name} failed while {doing}: {error}")

    def checkpoint(self) -> None:
        """Move the log into the file. PASSIVE: it waits for nobody, and commits go on meanwhile."""
        with self._checkpoints:
            link = Link(self)
            try:
                link.fetch(Prepared("PRAGMA wal_checkpoint(PASSIVE)"))
            finally:
                link.close()

    def lengthen_log(self) -> None:
        """Write the log twice as long where a commit has grown it; SQLite takes zeros for its end.

        A commit that makes the file longer has to sync the file's new length and place too, by way of the file
        system's journal and of whatever else waits in that: half as long again, and several times so on a busy disk.
        Inside a transaction, so that nobody else writes to the log.
        """
        # What cannot be done now can be done later, and a disk that is full is told by the commit.
        with contextlib.suppress(OSError):
            size = os.stat(self._log_name).st_size  # not by Path: this runs with each commit
            if size != self._log_bytes:
                wanted = min(max(2 * size, WAL_BYTES_MIN), WAL_BYTES_KEPT)
                if size < wanted:
                    # SQLite has no locks on this file, so none is lost with this descriptor.
                    with open(self._log_name, "r+b") as log:
                        log.seek(size)
                        log.write(bytes(wanted - size))
                self._log_bytes = max(size, wanted)

    def size_bytes(self) -> int:
        total = 0
        for name in (self._path, self._log_name):
            with contextlib.suppress(OSError):
                total += os.stat(name).st_size
        return total

    def trouble(self) -> str:
        try:
            there = self._path.stat().st_ino == self._inode
        except OSError as error:
            return f"the store's file {self.name} cannot be looked at ({error.strerror}): stop the scheduler"
        return "" if there else f"another file lies at {self.name} since it was opened: stop the scheduler"

    def release(self) -> None:
        if self._lock.closed:
            return
        self._engine.dispose()
        # Emptied, never removed: whoever comes next must meet everyone else at the same file.
        with contextlib.suppress(OSError):
            self._lock.truncate(0)
        self._lock.close()


def sqlite_path(url: URL) -> Path:
    """The file that the URL names; ConfigError where it names none."""
    if url.database in (None, "", ":memory:") or str(url.database).startswith("file:") or url.query or url.host:
        raise ConfigError("the store's URL must name a file: sqlite:////absolute/path/windrow.db")
    return Path(str(url.database)).expanduser()


def _make_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    def on_connect(connection: Any, _: object) -> None:
        # None: the driver begins nothing by itself.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma).close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(SqliteDatabase.begin_write_sql)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _take_lock(path: Path) -> IO[str]:
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="ascii")  # noqa: SIM115
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = lock.read(32).strip()
        lock.close()
        raise StoreLocked(
            f"the store {path} is held by {f'process {holder}' if holder else 'another process'}: "
            "stop that scheduler first, or give this one a state folder of its own (--state)"
        ) from None
    # Only for the message above, so a full disk is no reason to give up here.
    with contextlib.suppress(OSError):
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock


def _sync_names(folder: Path, top: Path) -> None:
    """Sync the folders from `folder` up to `top`: a file whose folder is not on the disk is lost with the power."""
    while True:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        if folder in (top, folder.parent):
            return
        folder = folder.parent


def _unusable(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(
        f"the store {path} cannot be opened ({error.strerror or error}): "
        "see that the folder exists and is writable, or choose another (--state)"
    )
