"""SQLCursorStore: its tables, its transactions, its connections, what it refuses and tells."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
import threading
import traceback
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    CursorStoreError,
    LeaseHeldError,
    LeaseLostError,
    SavedCursor,
    SQLCursorStore,
    StoreUnavailableError,
)
from arkor_sync.stores.backend import Save
from arkor_sync.stores.base import encode_cursor
from arkor_sync.stores.sql_tables import VERSION
from support.command_line import REPOSITORY
from support.extras import need
from support.forking import fork
from support.pgbouncer import pgbouncer
from support.postgres import postgres
from support.waiting import PATIENCE, Background, until

JOB = "job-1"
LONG = 60.0
TABLES = {f"arkor_{each}" for each in ("leases", "members", "positions", "submissions")}
Stores = Any


def lost(*_: Any) -> None:
    raise AssertionError("the lease was lost")


def position(number: int) -> SavedCursor:
    return SavedCursor(str(number), number)


def save(number: int, epoch: int = 1) -> Save:
    return Save(JOB, epoch, encode_cursor(JOB, position(number)), False, "one")


@pytest.fixture(autouse=True)
def _library() -> None:
    need("sqlalchemy")


def sqlalchemy() -> Any:
    return import_module("sqlalchemy")


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    server = postgres()
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def make_store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make stores, each as that of another process."""
    made: List[SQLCursorStore] = []

    def make(url: Any, **options: Any) -> SQLCursorStore:
        made.append(SQLCursorStore(url, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(make_store: Any, url: str) -> SQLCursorStore:
    made: SQLCursorStore = make_store(url)
    made.create_tables()
    return made


@pytest.fixture
def engine(url: str, store: SQLCursorStore) -> Iterator[Any]:
    """The program's own engine for the database of the store, with a table of the program's."""
    made = sqlalchemy().create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (number integer)")
    yield made
    made.dispose()


def effects(engine: Any) -> List[int]:
    with engine.connect() as connection:
        return sorted(connection.exec_driver_sql("SELECT number FROM effects").scalars())


def add(connection: Any, number: int) -> None:
    connection.exec_driver_sql(f"INSERT INTO effects VALUES ({number})")


# Tables.


def test_the_tables_are_made_once_and_keep_what_they_hold(
    store: SQLCursorStore, engine: Any
) -> None:
    assert set(sqlalchemy().inspect(engine).get_table_names()) == TABLES | {
        "arkor_schema_version",
        "effects",
    }
    reservation = store.reserve(JOB, lost)
    reservation.save(position(1))
    reservation.release()
    store.create_tables()
    assert store.load(JOB).acknowledged_id == "1"


def test_many_processes_may_make_the_tables_at_a_time(make_store: Any, url: str) -> None:
    stores = [make_store(url) for _ in range(8)]
    for each in [Background(store.create_tables) for store in stores]:
        each.result()
    assert stores[0].load(JOB) == SavedCursor()


def test_without_tables_the_error_says_how_to_make_them(make_store: Any, url: str) -> None:
    store = make_store(url)
    with pytest.raises(CursorStoreError, match="arkor-sync store create") as caught:
        store.reserve(JOB, lost)
    assert not isinstance(caught.value, StoreUnavailableError)
    store.create_tables()
    store.reserve(JOB, lost).release()


def test_tables_of_a_newer_version_are_refused_and_left_untouched(
    make_store: Any, store: SQLCursorStore, engine: Any, url: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE arkor_schema_version SET version = {VERSION + 1}")
        connection.exec_driver_sql("ALTER TABLE arkor_members DROP COLUMN expires")
    newer = make_store(url)
    for act in (newer.create_tables, lambda: newer.reserve(JOB, lost), lambda: newer.load(JOB)):
        with pytest.raises(CursorStoreError, match=f"version {VERSION + 1}.*upgrade arkor_sync"):
            act()
    columns = sqlalchemy().inspect(engine).get_columns("arkor_members")
    assert [each["name"] for each in columns] == ["owner"]


def test_tables_of_an_older_version_are_refused_and_then_completed(
    make_store: Any, store: SQLCursorStore, engine: Any, url: str
) -> None:
    store.backend.open_submission("key", "name", "one", LONG)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE arkor_schema_version SET version = 0")
        connection.exec_driver_sql("ALTER TABLE arkor_submissions DROP COLUMN detail")
        connection.exec_driver_sql("DROP TABLE arkor_members")
    older = make_store(url)
    with pytest.raises(CursorStoreError, match=r"version 0.*store create"):
        older.load(JOB)
    older.create_tables()
    assert older.members() == []
    (kept,) = older.backend.submissions(["submitting"])
    assert (kept.key, kept.detail) == ("key", None)


def test_columns_of_a_newer_version_that_older_code_can_live_with_are_no_trouble(
    store: SQLCursorStore, engine: Any
) -> None:
    with engine.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN news integer DEFAULT 5")
    reservation = store.reserve(JOB, lost)
    reservation.save(position(1))
    reservation.release()
    store.backend.join("one", LONG)
    assert store.backend.open_submission("key", "name", "one", LONG).mine
    assert store.load(JOB).acknowledged_id == "1"
    store.create_tables()


def test_the_tables_may_be_in_a_schema(make_store: Any, postgresql_url: str) -> None:
    postgres().execute('CREATE SCHEMA "My jobs"', url=postgresql_url)
    store = make_store(postgresql_url, schema="My jobs")
    store.create_tables()
    reservation = store.reserve(JOB, lost)
    reservation.save(position(1))
    rows = postgres().execute('SELECT job_id FROM "My jobs".arkor_positions', url=postgresql_url)
    assert rows == [(JOB,)]
    reservation.release()
    with pytest.raises(CursorStoreError, match="store create"):
        make_store(postgresql_url).load(JOB)


def test_thousands_of_jobs_are_pruned_in_parts(
    store: SQLCursorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.stores.sql_backend._MOST", 2)
    for number in range(5):
        reservation = store.reserve(f"job-{number}", lost)
        reservation.save(dataclasses.replace(position(1), finished=True))
        reservation.release()
    assert store.prune() == 0
    assert store.backend.prune(0.0) == 5
    assert store.holders() == []


@pytest.mark.parametrize("days", [0.5, -1, "90", None, float("nan"), float("inf"), True])
def test_less_than_a_day_is_not_pruned(store: SQLCursorStore, days: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"days: got .*give days from 1"):
        store.prune(days)


# Transactions.


def test_a_callbacks_writes_and_the_position_are_committed_together(
    store: SQLCursorStore, engine: Any
) -> None:
    reservation = store.reserve(JOB, lost)
    with store.transaction() as connection:
        assert store.connection() is connection
        add(store.connection(), 1)
        reservation.save(position(1))
        assert effects(engine) == []
    assert (effects(engine), store.load(JOB).acknowledged_id) == ([1], "1")
    reservation.release()


def test_an_exception_undoes_the_position_and_the_effect(
    store: SQLCursorStore, engine: Any
) -> None:
    reservation = store.reserve(JOB, lost)

    def callback() -> None:
        with store.transaction():
            add(store.connection(), 1)
            reservation.save(position(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        callback()
    assert (effects(engine), store.load(JOB)) == ([], SavedCursor())
    reservation.save(position(2))  # no longer joined
    assert store.load(JOB).acknowledged_id == "2"
    reservation.release()


def test_each_thread_is_in_a_transaction_of_its_own(make_store: Any, postgresql_url: str) -> None:
    store = make_store(postgresql_url)
    store.create_tables()
    both = threading.Barrier(2)

    def in_a_transaction(number: int) -> Any:
        with store.transaction() as connection:
            both.wait(PATIENCE)
            mine = store.connection() is connection
            both.wait(PATIENCE)
            if number:
                store.backend.save([save(1)])
                raise ZeroDivisionError
            return mine, id(connection)

    store.backend.take(JOB, "one", LONG)
    first, second = (Background(in_a_transaction, number) for number in range(2))
    assert first.result()[0]
    with pytest.raises(ZeroDivisionError):
        second.result()
    assert not store.backend.joined
    assert store.load(JOB) == SavedCursor()
    with pytest.raises(ArkorUsageError, match=r"in no transaction.*around=store\.transaction"):
        store.connection()


def test_a_transaction_in_a_transaction_is_the_same(store: SQLCursorStore, engine: Any) -> None:
    with store.transaction() as outer:
        with store.transaction() as inner:
            assert inner is outer
            add(inner, 1)
        assert effects(engine) == []
    assert effects(engine) == [1]


def test_positions_join_a_transaction_of_the_program(store: SQLCursorStore, engine: Any) -> None:
    from sqlalchemy.orm import Session

    store.backend.take(JOB, "one", LONG)
    for number in (1, 2):
        with Session(engine) as session, session.begin(), store.joining(session.connection()):
            session.execute(sqlalchemy().text(f"INSERT INTO effects VALUES ({number})"))
            assert store.backend.save([save(number)]) == set()
            if number == 2:
                session.rollback()
    assert (effects(engine), store.load(JOB).acknowledged_id) == ([1], "1")
    with engine.connect() as connection:
        for wrong in (connection, None, "postgresql://"):
            with pytest.raises(ArkorUsageError, match="in no transaction"):
                store.joining(wrong).__enter__()


def test_a_refused_save_in_a_transaction_undoes_it(store: SQLCursorStore, engine: Any) -> None:
    told: List[Any] = []
    reservation = store.reserve(JOB, told.append)
    store.backend.release(JOB, store.owner, 1)
    store.backend.take(JOB, "another", LONG)

    def callback() -> None:
        with store.transaction():
            add(store.connection(), 1)
            reservation.save(position(1))

    with pytest.raises(LeaseLostError):
        callback()
    assert (effects(engine), len(told)) == ([], 1)
    reservation.release()


def test_a_take_over_waits_for_a_save_that_is_being_committed(
    make_store: Any, postgresql_url: str
) -> None:
    old, new = make_store(postgresql_url), make_store(postgresql_url)
    old.create_tables()
    old.backend.take(JOB, "one", 0.05)
    until(lambda: old.holders([JOB])[0].expires_in <= 0)
    with old.transaction():
        assert old.backend.save([save(1)]) == set()
        taking = Background(new.backend.take, JOB, "two", LONG)
        until(lambda: waiting_for_a_lock(postgresql_url))
        assert taking.running()
    assert taking.result() == (2, save(1).text)
    assert old.backend.save([save(2)]) == {JOB}


def test_who_asks_what_became_of_a_save_waits_for_its_commit(
    make_store: Any, postgresql_url: str
) -> None:
    store = make_store(postgresql_url)
    store.create_tables()
    store.backend.take(JOB, "one", LONG)
    with store.transaction():
        store.backend.save([save(1)])
        asking = Background(store.load, JOB)
        until(lambda: waiting_for_a_lock(postgresql_url))
        assert asking.running()
    assert asking.result().acknowledged_id == "1"


def waiting_for_a_lock(url: str) -> int:
    rows = postgres().execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()",
        url=url,
    )
    return int(rows[0][0])


def test_a_renewal_does_not_wait_for_a_transaction_around_a_callback(
    make_store: Any, postgresql_url: str
) -> None:
    store = make_store(postgresql_url)
    store.create_tables()
    store.backend.take(JOB, "one", LONG)
    with store.transaction():
        store.backend.save([save(1)])
        renewal = Background(store.backend.renew, [(JOB, 1)], "one", LONG)
        assert renewal.result() == {JOB}


def test_a_renewal_does_not_wait_for_one_that_is_taken_over(
    make_store: Any, postgresql_url: str
) -> None:
    store = make_store(postgresql_url)
    store.create_tables()
    for job in (JOB, "job-2"):
        store.backend.take(job, "one", LONG)
    import psycopg

    with psycopg.connect(postgresql_url) as connection:
        connection.execute("SELECT 1 FROM arkor_leases WHERE job_id = 'job-1' FOR UPDATE")
        assert store.backend.renew([(JOB, 1), ("job-2", 1)], "one", LONG) == {"job-2"}


def test_a_row_that_stays_locked_is_waited_for_for_a_while(
    make_store: Any, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.stores.sql_transactions.LOCK_SECONDS", 0.1)
    store = make_store(postgresql_url)
    store.create_tables()
    store.backend.take(JOB, "one", LONG)
    import psycopg

    with psycopg.connect(postgresql_url) as connection:
        connection.execute("SELECT 1 FROM arkor_positions FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            store.backend.save([save(1)])
    assert store.backend.save([save(1)]) == set()


def test_a_holder_that_is_frozen_after_its_save_is_cut_off(
    make_store: Any, postgresql_url: str
) -> None:
    frozen, other = make_store(postgresql_url, ttl=1.0), make_store(postgresql_url)
    frozen.create_tables()
    frozen.backend.take(JOB, "one", 0.05)
    context = frozen.transaction()
    context.__enter__()
    frozen.backend.save([save(1)])

    def take() -> Any:
        try:
            return other.backend.take(JOB, "two", LONG)
        except (LeaseHeldError, StoreUnavailableError):
            return None

    assert until(take) == (2, None), "what it had saved was undone"
    with pytest.raises(StoreUnavailableError):
        context.__exit__(None, None, None)


# Connections.


def test_an_engine_of_the_program_keeps_its_pool(
    make_store: Any, store: SQLCursorStore, engine: Any
) -> None:
    mine = make_store(engine)
    reservation = mine.reserve(JOB, lost)
    with mine.transaction() as connection:
        add(connection, 1)
        reservation.save(position(1))
    reservation.release()
    assert effects(engine) == [1]
    pool = engine.pool
    mine.close()
    assert engine.pool is pool
    assert store.load(JOB).acknowledged_id == "1"


def test_an_engine_that_commits_each_statement_cannot_have_transactions(
    make_store: Any, postgresql_url: str
) -> None:
    url = postgresql_url.replace("postgresql:", "postgresql+psycopg:")
    engine = sqlalchemy().create_engine(url, isolation_level="AUTOCOMMIT")
    store = make_store(engine)
    with pytest.raises(CursorStoreError, match="AUTOCOMMIT"):
        store.transaction().__enter__()
    assert engine.pool.checkedout() == 0
    store.create_tables()
    store.reserve(JOB, lost).release()  # its own transactions are transactions
    engine.dispose()


def test_a_forked_child_leaves_the_parents_connections_alone(
    store: SQLCursorStore, engine: Any, make_store: Any, url: str
) -> None:
    reservation = store.reserve(JOB, lost)
    with store.transaction() as connection:
        add(connection, 1)
        reservation.save(position(1))

        def child() -> None:
            assert not store.backend.joined
            with pytest.raises(ArkorUsageError):
                store.connection()
            if "postgresql" in url:  # in SQLite the parent's transaction locks all others out
                with pytest.raises(LeaseHeldError, match="process"):
                    store.reserve(JOB, lost)
                store.reserve("job-of-the-child", lost).release()
            store.close()

        assert fork(child)() == 0
        add(connection, 2)
    assert (effects(engine), store.load(JOB).acknowledged_id) == ([1, 2], "1")
    reservation.save(position(2))
    reservation.release()


def test_a_forked_child_that_leaves_the_transaction_ends_nothing(
    store: SQLCursorStore, engine: Any
) -> None:
    context = store.transaction()
    connection = context.__enter__()
    add(connection, 1)

    def child() -> None:
        context.__exit__(None, None, None)

    assert fork(child)() == 0
    assert effects(engine) == []
    add(connection, 2)
    context.__exit__(None, None, None)
    assert effects(engine) == [1, 2]


def test_it_opens_no_more_connections_than_it_may(make_store: Any, postgresql_url: str) -> None:
    store = make_store(postgresql_url, max_connections=3)
    store.create_tables()
    entered, go = threading.Semaphore(0), threading.Event()

    def callback(number: int) -> None:
        with store.transaction():
            entered.release()
            assert go.wait(PATIENCE)

    callbacks = [Background(callback, number) for number in range(10)]
    for _ in range(2):
        assert entered.acquire(timeout=PATIENCE)
    threads = [Background(store.backend.take, f"job-{n}", "one", LONG) for n in range(20)]
    for each in threads:  # one connection is kept for these
        each.result()
    assert postgres().connections(postgresql_url) == 3
    assert not entered.acquire(blocking=False)
    go.set()
    for callback_thread in callbacks:
        callback_thread.result()
    assert postgres().connections(postgresql_url) == 3


def test_a_restarted_server_is_found_again(make_store: Any, postgresql_url: str) -> None:
    store = make_store(postgresql_url)
    store.create_tables()
    store.backend.take(JOB, "one", LONG)
    postgres().restart()
    assert store.backend.save([save(1)]) == set()
    postgres().stop()
    with pytest.raises(StoreUnavailableError, match="cannot be used now"):
        store.backend.save([save(2)])
    with pytest.raises(StoreUnavailableError):
        store.transaction().__enter__()
    postgres().start()
    assert store.load(JOB).acknowledged_id == "1"


def test_all_calls_work_behind_pgbouncer_in_transaction_mode(
    make_store: Any, postgresql_url: str
) -> None:
    need("psycopg")
    with pgbouncer(postgres(), postgresql_url, connections=2) as url:
        stores = [make_store(url) for _ in range(3)]
        stores[0].create_tables()

        def work(number: int) -> None:
            store = stores[number % 3]
            for turn in range(10):
                job = f"job-{number}"
                reservation = store.reserve(job, lost)
                reservation.save(position(turn))
                store.backend.renew([(job, reservation.epoch)], store.owner, LONG)
                with store.transaction():
                    reservation.save(position(turn + 1))
                store.backend.join(f"member {number}", LONG)
                reservation.release()
                assert store.load(job).delivered == turn + 1

        for each in [Background(work, number) for number in range(6)]:
            each.result()
        assert len(stores[0].holders()) == 6
        assert len(stores[0].members()) == 6
        assert postgres().connections(postgresql_url) <= 2
        for each in stores:
            each.close()


def test_a_locked_sqlite_file_is_no_lasting_trouble(
    make_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arkor_sync.stores.sql_engine.LOCK_SECONDS", 0.1)
    path = tmp_path / "store.db"
    store = make_store(f"sqlite:///{path}")
    store.create_tables()
    store.backend.take(JOB, "one", LONG)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.backend.save([save(1)])
        assert store.load(JOB) == SavedCursor(), "who only reads is not locked out"
        other.execute("ROLLBACK")
    assert store.backend.save([save(1)]) == set()


# What is refused and told.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mysql+pymysql://u:s3cret@h/d", "a database of mysql"),
        ("postgresql+psycopg2://u:s3cret@h/d", "the driver psycopg2"),
        ("postgresql+asyncpg://u:s3cret@h/d", "the driver asyncpg"),
        ("sqlite://", "a database in memory"),
        ("sqlite:///:memory:", "a database in memory"),
        ("u:s3cret@h/d", "a text that is no database URL"),
        ("postgresql://u:s3cret@h:port/d", "a text that is no database URL"),
        (5, "int 5"),
        (None, "None"),
    ],
)
def test_a_database_that_cannot_work_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ArkorUsageError, match=told) as caught:
        SQLCursorStore(given)
    assert "s3cret" not in tell(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 1},
        {"max_connections": True},
        {"schema": ""},
        {"schema": "s"},
        {"ttl": 0},
    ],
    ids=str,
)
def test_an_option_that_cannot_work_is_refused(tmp_path: Path, options: Any) -> None:
    (name,) = options
    with pytest.raises(ArkorUsageError, match=f"^{name}: got"):
        SQLCursorStore(f"sqlite:///{tmp_path / 'store.db'}", **options)


def tell(error: BaseException) -> str:
    """Return all that a report of an error may show, with the variables of the functions.

    Those of this module are left out: they hold what the test gives.
    """
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    report.stack[:] = [each for each in report.stack if each.filename != __file__]
    return f"{''.join(report.format())}{error!r}"


def test_no_password_is_told() -> None:
    need("psycopg")
    store = SQLCursorStore("postgresql://someone:s3cret-word@127.0.0.1:1/db")
    for act in (store.create_tables, lambda: store.load(JOB), store.transaction().__enter__):
        with pytest.raises(StoreUnavailableError) as caught:
            act()
        assert "s3cret-word" not in tell(caught.value)
        assert caught.value.__context__ is None
    assert "s3cret-word" not in repr(store)
    store.close()


def test_the_package_is_imported_without_sqlalchemy() -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from arkor_sync import ArkorUsageError, SQLCursorStore\n"
        "try: SQLCursorStore('sqlite:///store.db')\n"
        "except ArkorUsageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert "SQLCursorStore needs the extra 'database': pip install 'SQLAlchemy>=2.0'" in done.stdout


def test_what_another_version_has_stored_is_refused_by_a_run(store: SQLCursorStore) -> None:
    stored = json.dumps({"version": 99, "news": 1})
    store.backend.take(JOB, "one", LONG)
    store.backend.save([Save(JOB, 1, stored, False)])
    store.backend.release(JOB, "one", 1)
    with pytest.raises(CursorStoreError, match=r"version 99.*upgrade arkor_sync"):
        store.reserve(JOB, lost)
    assert store.backend.load(JOB) == stored
