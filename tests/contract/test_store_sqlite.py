"""What only the SQLite store must do: its file, its lock, its log, its schema."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event

from windrow.common.blocks import block_entries, pack_block
from windrow.common.errors import ConfigError, StoreDamaged, StoreFailed, StoreLocked
from windrow.common.messages import FailureInfo
from windrow.common.options import JobOptions
from windrow.common.words import FailureKind, JobId, JobState, Range
from windrow.scheduler.core.records import PutFailure, PutJob, PutLosses, PutValues, StoredAttempt, StoredLosses
from windrow.scheduler.store import SqlStore, open_store, opening
from windrow.scheduler.store.schema import METADATA, SCHEMA_HEAD
from windrow.scheduler.store.sqlite import WAL_BYTES_KEPT

JOB = PutJob(1, JobId("J"), "t:u", "", JobOptions(), False, None, (), None, 0, True, JobState.RUNNING, 0.0)


_opened: list[SqlStore] = []


def open_here(folder: Path, url: str = "") -> SqlStore:
    """A store that is closed at the end of the test at the latest."""
    _opened.append(open_store(url, state_dir=folder, clock=lambda: 0.0))
    return _opened[-1]


@pytest.fixture(autouse=True)
def _close_stores() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def value(at: int, size: int = 10) -> PutValues:
    return PutValues(1, at, 1, pack_block([bytes(size)]), (Range(at, at + 1),))


@contextmanager
def raw(path: Path) -> Generator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


# ── The file ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_folder_is_made_and_only_its_owner_can_read_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    store = open_here(folder)
    store.commit([JOB])
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert {path.name for path in folder.iterdir()} >= {"windrow.db", "windrow.db-wal", "windrow.db.lock"}


@pytest.mark.parametrize("name", ["plain", "with space", "100%", "que?ry#&=", "ü", "file:x"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    for epoch in (1, 2):
        store = open_here(tmp_path / name)
        store.commit([])
        assert (store.epoch, store.check()) == (epoch, "")
        store.close()
    assert (tmp_path / name / "windrow.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_url_names_the_file(tmp_path: Path) -> None:
    store = open_here(tmp_path / "unused", f"sqlite:///{tmp_path}/own/mine.db")
    store.close()
    assert (tmp_path / "own" / "mine.db").exists()
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "sqlite:///x.db?mode=ro", "no url", "x://y:z",
        "mysql://secret@host/x", "sqlite://host/x",
    ],
)  # fmt: skip
def test_a_url_that_names_no_file_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"write|must name a file") as caught:
        open_here(tmp_path, url)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_epoch_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    open_here(tmp_path).close()
    with raw(tmp_path / "windrow.db") as connection:
        connection.execute("UPDATE cluster SET epoch = 'x'")
    with pytest.raises(StoreDamaged, match=r"windrow\.db is damaged"):
        open_here(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match=r"file/state/windrow\.db cannot be opened.*--state"):
        open_here(tmp_path / "file" / "state")


def test_a_refused_opening_leaves_the_lock_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "windrow.db").write_bytes(b"garbage " * 1000)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            open_here(tmp_path)
    (tmp_path / "windrow.db").unlink()
    open_here(tmp_path).close()


def test_the_lock_goes_by_the_file_not_by_its_name(tmp_path: Path) -> None:
    open_here(tmp_path / "state")
    (tmp_path / "folder").symlink_to(tmp_path / "state")
    (tmp_path / "file.db").symlink_to(tmp_path / "state" / "windrow.db")
    for folder, url in ((tmp_path / "folder", ""), (tmp_path, f"sqlite:///{tmp_path}/file.db")):
        with pytest.raises(StoreLocked):
            open_here(folder, url)


def test_a_file_that_went_away_is_noticed(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    path = tmp_path / "windrow.db"
    path.rename(tmp_path / "elsewhere")
    assert "cannot be looked at" in store.check()
    path.touch()
    assert "another file lies" in store.check()


# ── Damage ───────────────────────────────────────────────────────────────────────────────────────────────────────


def filled_store(folder: Path) -> Path:
    store = open_here(folder)
    store.commit([JOB, *(value(at, 3000) for at in range(200))])
    store.close()
    return folder / "windrow.db"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = filled_store(tmp_path)
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    with pytest.raises(StoreDamaged, match=str(path)):
        open_here(tmp_path)


def test_damage_within_the_file_is_told_by_whoever_meets_it(tmp_path: Path) -> None:
    path = filled_store(tmp_path)
    content = path.read_bytes()
    pages = 8 * 4096  # the schema and the small tables stay whole
    path.write_bytes(content[:pages] + b"\xff" * (len(content) - pages))

    def use_it() -> None:
        store = open_here(tmp_path)
        store.load()
        store.read_results(JobId("J"), 0, 1 << 40, 1 << 20)
        store.commit([value(at, 3000) for at in range(200, 400)])

    with pytest.raises(StoreDamaged, match=str(path)):
        use_it()


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "windrow.db"
    with raw(path) as connection:
        connection.execute("CREATE TABLE customers (id)")
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="customers"):
        open_here(tmp_path)
    assert path.read_bytes() == before


# ── The schema ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_of_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = filled_store(tmp_path)
    with raw(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreDamaged, match=r"schema 9999.*newer Windrow"):
        open_here(tmp_path)
    with raw(path) as connection:
        assert connection.execute("SELECT epoch FROM cluster").fetchone() == (1,)


def test_the_migrations_lead_to_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    path = filled_store(tmp_path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == SCHEMA_HEAD
    engine.dispose()
    with raw(path) as connection:
        migrated = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    fresh = tmp_path / "fresh.db"
    engine = create_engine(f"sqlite:///{fresh}")
    METADATA.create_all(engine)
    engine.dispose()
    with raw(fresh) as connection:
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall():
            for option in ("WITHOUT ROWID", "AUTOINCREMENT"):
                assert (option in sql) == (option in migrated[name]), (name, option)


def test_the_newest_script_is_the_one_the_code_names() -> None:
    scripts = ScriptDirectory(str(Path(opening.__file__).parent / "migrations"))
    assert scripts.get_heads() == [SCHEMA_HEAD]


OLD_OPTIONS = '{"queue": "q", "priority": 4, "retries": 2, "backoff_s": 1.0, "colour": "red"}'
"""Without what came later, and with what this Windrow does not know."""


def store_of_schema(revision: str, folder: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """A store as an older Windrow left it."""
    config = Config()
    config.set_main_option("script_location", str(Path(opening.__file__).parent / "migrations"))
    engine = create_engine(f"sqlite:///{folder / 'windrow.db'}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    with raw(folder / "windrow.db") as rows:
        for sql, row in statements:
            rows.execute(sql, row)


def test_a_store_of_the_first_schema_is_brought_up_to_date_without_loss(tmp_path: Path) -> None:
    job = "INSERT INTO job VALUES (1, 'J', 'k', 't', '', ?, 0, '[]', NULL, 4, 1, 'running', 0, '', 0, 0, 0, 0, 1, NULL)"
    failure = "INSERT INTO failure VALUES (?, 1, 3, ?, 'crash', 'T', 'boom', 'trace', 'alpha', 8.5, ?)"
    store_of_schema(
        "0001",
        tmp_path,
        ("INSERT INTO cluster VALUES (1, 'c', ?, 6, 1.0, 2.0)", (b"s" * 32,)),
        (job, (OLD_OPTIONS,)),
        ("INSERT INTO block VALUES (1, ?)", (pack_block([b"zero", b"one"]),)),
        ("INSERT INTO outcome VALUES (1, 1, 0, 2, 0, 1, NULL, 9)", ()),
        (failure, (1, 1, False)),
        (failure, (2, 2, True)),
        ("INSERT INTO outcome VALUES (2, 1, 3, 4, 3, NULL, 2, 10)", ()),
        ("INSERT INTO attempt VALUES (1, 2, 1, 7.5, 1)", ()),
        ("INSERT INTO chunk VALUES (6, 1, 1, '2,3', 'n1', 1)", ()),
        ("INSERT INTO node VALUES ('n1', 'alpha', 'h', 0, 0, 3.0)", ()),
    )  # fmt: skip
    store = open_here(tmp_path)
    snapshot = store.load()
    assert (snapshot.epoch, snapshot.cluster, snapshot.secret) == (7, "c", b"s" * 32)
    (job,) = snapshot.jobs
    assert job.options == JobOptions(queue="q", priority=4, retries=2)
    assert (job.key, job.total, job.done, job.quarantined) == ("k", 4, (0, 2), (3, 4))
    assert job.attempts == (StoredAttempt(2, 1, 7.5, True),)
    assert job.losses == ()
    assert [(chunk.bounds, chunk.leased) for chunk in snapshot.chunks] == [((2, 3), True)]
    assert [node.name for node in snapshot.nodes] == ["alpha"]
    assert [b"".join(block_entries(run.block)) for run in store.read_results(job.id, 0, 9, 99).values] == [b"zeroone"]
    info = FailureInfo(3, FailureKind.CRASH, "T", "boom", "trace", "alpha", 2, 8.5)
    assert store.read_failures(job.id, 0, 9).failures == (info,)
    assert [one.attempts for one in store.read_history(job.id, 3).failures] == [1, 2]
    crash = PutFailure(1, 2, 1, FailureKind.CRASH, "", "", "", "", 0.0, True, log="last words", memory_bytes_peak=5)
    store.commit([PutLosses(1, 2, 3, 1), crash])
    assert store.load().jobs[0].losses == (StoredLosses(2, 3, 1),)
    assert store.read_history(job.id, 2).failures[0].log == "last words"


def test_a_job_whose_options_no_longer_fit_is_damage_and_not_a_guess(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    store.commit([JOB])
    with raw(tmp_path / "windrow.db") as connection:
        connection.execute("""UPDATE job SET options = '{"retries": "many"}'""")
    with pytest.raises(StoreDamaged, match="retries: expected int"):
        store.load()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    shutil.copytree(Path(opening.__file__).parent / "migrations", package / "migrations")
    script = package / "migrations" / "versions" / "v0001_first.py"
    script.write_text(script.read_text().replace('    op.create_table(\n        "chunk"', '    op.execute("NONSENSE")\n    op.create_table(\n        "chunk"'))  # fmt: skip  # noqa: E501
    with monkeypatch.context() as patch:
        patch.setattr(opening, "__file__", str(package / "opening.py"))
        with pytest.raises(StoreFailed, match=r"windrow\.db failed while opening.*NONSENSE"):
            open_here(tmp_path / "state")
    with raw(tmp_path / "state" / "windrow.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    open_here(tmp_path / "state").close()


# ── The log, and a disk that is full ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def connections() -> Iterator[list[Any]]:
    """The driver's connections as they are made."""
    made: list[Any] = []

    def on_connect(connection: Any, _: object) -> None:
        made.append(connection)

    event.listen(Engine, "connect", on_connect)
    yield made
    event.remove(Engine, "connect", on_connect)


def test_every_commit_is_synced(tmp_path: Path, connections: list[Any]) -> None:
    store = open_here(tmp_path)
    made = len(connections)
    asked = [connections[-1].execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert asked == ["wal", 2]
    store.commit([JOB])
    assert len(connections) == made  # it was the one that writes


def test_a_full_database_fails_the_commit_and_takes_the_next_one(tmp_path: Path, connections: list[Any]) -> None:
    store = open_here(tmp_path)
    store.commit([JOB])
    writer = connections[-1]
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 5}").fetchall()
    for _ in range(2):
        with pytest.raises(StoreFailed, match="database or disk is full"):
            store.commit([value(0, 100_000)])
    assert "full" in store.check()
    writer.execute("PRAGMA max_page_count = 1000000").fetchall()
    store.commit([value(0, 100_000)])
    assert store.load().jobs[0].done == (0, 1)


def test_a_connection_that_is_lost_is_made_anew(tmp_path: Path, connections: list[Any]) -> None:
    store = open_here(tmp_path)
    store.commit([JOB])
    connections[-1].close()
    with pytest.raises(StoreFailed):
        store.commit([value(0)])
    store.commit([value(0)])
    assert store.load().jobs[0].done == (0, 1)


def test_a_writer_beside_the_scheduler_makes_a_commit_fail_not_hang(tmp_path: Path, connections: list[Any]) -> None:
    store = open_here(tmp_path)
    connections[-1].execute("PRAGMA busy_timeout = 1").fetchall()
    with raw(tmp_path / "windrow.db") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFailed, match="locked"):
            store.commit([JOB])
    store.commit([JOB])


def test_a_checkpoint_moves_the_log_into_the_file(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    path, log = tmp_path / "windrow.db", tmp_path / "windrow.db-wal"
    store.commit([JOB, *(value(at, 3000) for at in range(500))])
    before, logged = path.stat().st_size, log.stat().st_size
    store.checkpoint()
    assert path.stat().st_size > before + 1_000_000
    store.commit([value(500)])
    length = log.stat().st_size
    assert logged < length < 2 * logged + 4096 * 100
    store.commit([value(at, 3000) for at in range(501, 1201)])
    assert log.stat().st_size == length, "it did not begin again at the log's start"
    store.close()
    assert not log.exists()


def test_the_log_is_made_longer_a_few_times_and_not_by_each_commit(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    log = tmp_path / "windrow.db-wal"
    lengths: list[int] = []
    for at in range(200):
        store.commit([JOB] if at == 0 else [value(at)])
        lengths.append(log.stat().st_size)
    assert len(set(lengths)) <= 10, "more than two lengths for each time that it was doubled"
    assert lengths[-1] <= WAL_BYTES_KEPT


def test_a_log_that_was_made_longer_is_read_up_to_the_last_commit(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    store.commit([JOB])
    for at in range(100):
        store.commit([value(at)])
    log = tmp_path / "windrow.db-wal"
    assert log.read_bytes().endswith(bytes(10_000)), "nothing was laid out ahead: the test shows nothing"
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("windrow.db", "windrow.db-wal"):
        shutil.copy(tmp_path / name, killed / name)
    assert open_here(killed).load().jobs[0].done == (0, 100)


def test_commits_go_on_while_another_thread_checkpoints(tmp_path: Path) -> None:
    store = open_here(tmp_path)
    store.commit([JOB])
    stop = threading.Event()
    failed: list[BaseException] = []

    def checkpoint_again_and_again() -> None:
        try:
            while not stop.is_set():
                store.checkpoint()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=checkpoint_again_and_again)
    thread.start()
    try:
        for at in range(200):
            store.commit([value(at, 2000)])
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert store.load().jobs[0].done == (0, 200)
