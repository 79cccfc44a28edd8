"""Callbacks that write through `db.session` of Flask-SQLAlchemy, and the position with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple

import pytest

from arkor_sync import Action, Callbacks, ErrorPolicy, HuggingFaceDataset, SQLCursorStore
from arkor_sync.emulator import Emulator, ScriptedEngine
from support.extras import need
from support.postgres import postgres
from support.waiting import until

need("flask")
need("flask_sqlalchemy")

from flask import Flask  # noqa: E402
from flask_sqlalchemy import SQLAlchemy  # noqa: E402

from arkor_sync.contrib.flask import Arkor, add_models  # noqa: E402


class Shop(NamedTuple):
    """An application with a database.

    Attributes:
        db: Flask-SQLAlchemy.
        Note: A model.
        Other: A model in another database.
    """

    app: Flask
    arkor: Arkor
    db: Any
    Note: Any
    Other: Any

    def notes(self) -> List[str]:
        """List what is committed."""
        with self.app.app_context():
            return list(self.db.session.scalars(self.db.select(self.Note.text)))

    def submit(self, key: str = "17") -> str:
        with self.app.app_context():
            return str(
                self.arkor.submit(
                    key=key,
                    name="bot",
                    model="unsloth/gemma-4-E4B-it",
                    dataset=HuggingFaceDataset("emulator/sample"),
                ).job_id
            )

    def follow(self, job_id: str, **more: Any) -> Any:
        with self.app.app_context():
            return self.arkor.follow(job_id, **more)


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    server = postgres()
    url = server.new_database()
    yield url.replace("postgresql:", "postgresql+psycopg:")
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    found: str = request.getfixturevalue("postgresql_url")
    return found


@pytest.fixture
def shop(configure: Callable[..., Flask], tmp_path: Path, url: str) -> Iterator[Shop]:
    app = configure(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_BINDS={"other": f"sqlite:///{tmp_path / 'other.db'}"},
    )
    db: Any = SQLAlchemy(app)
    arkor = Arkor(app)

    class Note(db.Model):  # type: ignore[misc, name-defined]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String)

    class Other(db.Model):  # type: ignore[misc, name-defined]
        __bind_key__ = "other"
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String)

    with app.app_context():
        db.create_all()
    assert app.test_cli_runner().invoke(args=["arkor", "create-tables"]).exit_code == 0
    yield Shop(app, arkor, db, Note, Other)
    with app.app_context():
        db.engine.dispose()


def test_what_a_view_rolls_back_no_callback_commits(emu: Emulator, shop: Shop) -> None:
    emu.engine = ScriptedEngine(steps=1, manual=True)
    db, committed = shop.db, []

    def on_log(ctx: Any) -> None:
        db.session.add(shop.Note(text="callback"))
        db.session.commit()
        committed.append(ctx.step)

    @shop.app.post("/train")
    def train() -> str:
        job_id = str(shop.submit())
        db.session.add(shop.Note(text="view"))
        run = shop.arkor.follow(job_id, callbacks=Callbacks(on_log=on_log))
        emu.step(job_id, 99)
        until(lambda: committed)
        run.wait()
        db.session.rollback()
        return job_id

    assert shop.app.test_client().post("/train").status_code == 200
    assert shop.notes() == ["callback"]


@pytest.mark.parametrize("commits", [True, False], ids=["it commits", "it does not"])
def test_what_a_callback_has_written_is_there_once_whatever_fails_after_it(
    shop: Shop, commits: bool
) -> None:
    """Its `commit` is none until the position is saved: a repeated event writes once."""
    attempts: List[int] = []

    def on_log(ctx: Any) -> None:
        attempts.append(ctx.step)
        shop.db.session.add(shop.Note(text=f"log {ctx.step}"))
        if commits:
            shop.db.session.commit()
        if attempts.count(ctx.step) < 3:
            raise OSError("after the commit")

    policy = ErrorPolicy.abort().on(OSError, do=Action.RETRY, attempts=5, base=0.001)
    run = shop.follow(shop.submit(), callbacks=Callbacks(on_log=on_log), error_policy=policy)
    assert run.wait().status == "completed"
    assert attempts == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert shop.notes() == ["log 1", "log 2", "log 3"]


def test_a_run_that_ends_in_a_callback_leaves_nothing_of_its_event(shop: Shop) -> None:
    def fail(ctx: Any) -> None:
        shop.db.session.add(shop.Note(text=f"log {ctx.step}"))
        shop.db.session.commit()
        if ctx.step == 2:
            raise OSError("killed, as it were")

    job_id = shop.submit()
    with pytest.raises(OSError, match="as it were"):
        shop.follow(job_id, callbacks=Callbacks(on_log=fail)).wait()
    assert shop.notes() == ["log 1"]

    def go_on(ctx: Any) -> None:
        shop.db.session.add(shop.Note(text=f"log {ctx.step}, at last"))

    assert shop.follow(job_id, callbacks=Callbacks(on_log=go_on)).wait().status == "completed"
    assert shop.notes() == ["log 1", "log 2, at last", "log 3, at last"]


def test_a_callback_may_roll_back_its_own(shop: Shop) -> None:
    def on_log(ctx: Any) -> None:
        session = shop.db.session
        session.add(shop.Note(text="kept"))
        session.commit()
        session.add(shop.Note(text="not kept"))
        session.flush()
        session.rollback()

    run = shop.follow(shop.submit(), callbacks=Callbacks(on_log=on_log))
    assert run.wait().status == "completed"
    assert shop.notes() == ["kept"] * 3


def test_another_database_of_the_application_is_committed_too(shop: Shop) -> None:
    def on_log(ctx: Any) -> None:
        shop.db.session.add(shop.Other(text=f"log {ctx.step}"))

    shop.follow(shop.submit(), callbacks=Callbacks(on_log=on_log)).wait()
    with shop.app.app_context():
        other = list(shop.db.session.scalars(shop.db.select(shop.Other.text)))
    assert other == ["log 1", "log 2", "log 3"]


def test_no_connection_is_left_checked_out(shop: Shop) -> None:
    def on_log(ctx: Any) -> None:
        shop.db.session.add(shop.Note(text="x"))

    shop.follow(shop.submit(), callbacks=Callbacks(on_log=on_log)).wait()
    with shop.app.app_context():
        assert shop.db.engine.pool.checkedout() == 0


def test_a_store_elsewhere_leaves_the_session_to_the_callback(
    configure: Callable[..., Flask], tmp_path: Path
) -> None:
    app = configure(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'shop.db'}",
        ARKOR_STORE=f"sqlite:///{tmp_path / 'store.db'}",
    )
    db: Any = SQLAlchemy(app)
    arkor = Arkor(app)

    class Note(db.Model):  # type: ignore[misc, name-defined]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.String)

    with app.app_context():
        db.create_all()
        assert "arkor_positions" not in db.inspect(db.engine).get_table_names()
    app.test_cli_runner().invoke(args=["arkor", "create-tables"])

    def on_log(ctx: Any) -> None:
        db.session.add(Note(text="committed"))
        db.session.commit()
        db.session.add(Note(text="not committed"))

    elsewhere = Shop(app, arkor, db, Note, None)
    elsewhere.follow(elsewhere.submit(), callbacks=Callbacks(on_log=on_log)).wait()
    assert elsewhere.notes() == ["committed"] * 3


@pytest.mark.parametrize("store", ["", "a url", "an object"])
def test_without_its_tables_the_error_names_the_command_that_makes_them(
    configure: Callable[..., Flask], tmp_path: Path, store: str
) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    given = {"a url": url, "an object": SQLCursorStore(url)}.get(store)
    app = configure(SQLALCHEMY_DATABASE_URI=url, ARKOR_STORE=given)
    SQLAlchemy(app)
    arkor = Arkor(app)
    run = app.test_cli_runner().invoke
    done = run(args=["arkor", "status"])
    assert done.exit_code == 1
    says = "the tables of the store are not there; run: flask arkor create-tables\n"
    assert done.output.endswith(says)
    assert run(args=["arkor", "create-tables"]).exit_code == 0
    assert run(args=["arkor", "status"]).exit_code == 0
    with app.app_context():
        made = arkor.store
        with made.backend._engine.begin() as connection:  # type: ignore[attr-defined]
            connection.exec_driver_sql("DROP TABLE arkor_members")
    assert "run: flask arkor create-tables" in run(args=["arkor", "status"]).output
    made.close()


def test_the_models_show_the_rows(shop: Shop) -> None:
    models = add_models(shop.db)
    job_id = shop.submit()
    shop.follow(job_id).wait()
    with shop.app.app_context():
        session, select = shop.db.session, shop.db.select
        submission = session.scalars(select(models.Submission)).one()
        assert (submission.key, submission.status, submission.job_id) == ("17", "submitted", job_id)
        assert session.get(models.Position, job_id).finished
        assert session.get(models.Lease, job_id).epoch == 1
    names = {name for name in shop.db.metadata.tables if name.startswith("arkor_")}
    with shop.app.app_context():
        made = set(shop.db.inspect(shop.db.engine).get_table_names())
    assert names == {name for name in made if name.startswith("arkor_")}


def test_tables_that_the_metadata_has_made_are_completed(
    configure: Callable[..., Flask], tmp_path: Path
) -> None:
    app = configure(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'shop.db'}")
    db: Any = SQLAlchemy(app)
    arkor = Arkor(app)
    add_models(db)
    with app.app_context():
        db.create_all()
    assert app.test_cli_runner().invoke(args=["arkor", "create-tables"]).exit_code == 0
    with app.app_context():
        assert arkor.store.members() == []
