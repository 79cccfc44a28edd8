"""The extension `Arkor`: what an application has of it, and what a view calls. Any thread."""

from __future__ import annotations

import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Optional

from arkor_sync._common.arguments import check
from arkor_sync._common.extras import import_extra
from arkor_sync._common.locks import ProcessLock
from arkor_sync._follow import follow
from arkor_sync._submission_row import Submission
from arkor_sync._submission_search import is_same_project, parts_of_row, scope_of
from arkor_sync.callbacks import CallbacksInput
from arkor_sync.cloud.client import CloudApiClient
from arkor_sync.contrib.flask.settings import Settings, callbacks_of
from arkor_sync.contrib.flask.transactions import around_event
from arkor_sync.errors import ArkorUsageError
from arkor_sync.follower import CallbacksOfJob, Follower
from arkor_sync.run import Run
from arkor_sync.stores.leased import LeasedStore
from arkor_sync.submitting import recover_submissions, submit
from arkor_sync.trainer import Trainer, create_trainer

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from arkor_sync.contrib.flask.studio import AuthorizeFlask

NAME = "arkor_sync"  # in app.extensions


class Arkor:
    """Submits jobs in views of Flask, and follows them in processes beside it.

        arkor = Arkor(app)             # or Arkor(), and later arkor.init_app(app)

        @app.post("/orders/<order>/train")
        def train(order):
            submission = arkor.submit(key=order, name="support-bot", model=..., dataset=...)
            return {"job": submission.job_id}

    `flask arkor follow` then follows the jobs, in as many processes as are started, and calls
    `ARKOR_CALLBACKS`. One object may serve several applications. All methods need a context of the
    application, as views and commands have one.

    Settings of the application, all optional but for the store:

    * `ARKOR_STORE`: a URL of PostgreSQL, SQLite or Redis, or a store. By default the database of
      Flask-SQLAlchemy. Only then the writes of callbacks through `db.session` and the position are
      committed together.
    * `ARKOR_CALLBACKS`: what to call, as for `follow`; or a function of a job's id that returns it;
      or `module:name` of one of these.
    * `ARKOR_BASE_URL`, `ARKOR_TOKEN`, `ARKOR_PROJECT` (`organisation/project`): by default from the
      environment and the files, as everywhere.
    * `ARKOR_TTL`: seconds that a lease lasts; 15 by default.

    Args:
        app: The application.

    Raises:
        ArkorUsageError: A setting cannot work, or the application has an `Arkor` already.
    """

    def __init__(self, app: Optional[Flask] = None) -> None:
        self._flask: Any = import_extra("flask", "flask", "Arkor")
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add it to an application: the settings are read, and `flask arkor` is there.

        Nothing is sent, no thread starts, and no connection is opened.

        Raises:
            ArkorUsageError: A setting cannot work, or the application has an `Arkor` already.
        """
        from arkor_sync.contrib.flask.commands import make_commands

        if NAME in app.extensions:
            raise ArkorUsageError("init_app: this application has an Arkor already; keep one")
        app.extensions[NAME] = State(app, Settings(app))
        app.cli.add_command(make_commands(self))

    @property
    def client(self) -> CloudApiClient:
        """The client of the application."""
        return self._state().client

    @property
    def store(self) -> LeasedStore:
        """The store of the application."""
        return self._state().store()

    def submit(
        self,
        trainer: Optional[Trainer] = None,
        *,
        key: str,
        timeout: float = 30.0,
        request_limit: float = 60.0,
        settle_time: float = 60.0,
        **arguments: Any,
    ) -> Submission:
        """Submit a job, unless that was done with this key before. See `arkor_sync.submit`.

        It is not followed here: a web process may end at any moment.

        Args:
            trainer: From `create_trainer`; or leave it out, and give the arguments of that.
            key: The program's name for it.
            timeout: These limits are as for `arkor_sync.submit`.
            request_limit: Seconds for the request.
            settle_time: Seconds after that.
            arguments: Those of `create_trainer`; `client` is that of the application.
        """
        state = self._state()
        if trainer is None:
            trainer = create_trainer(**{"client": state.client, **arguments})
        else:
            check("arguments", arguments, not arguments, "a trainer, or the arguments of one")
        return submit(
            trainer,
            key=key,
            store=state.store(),
            timeout=timeout,
            request_limit=request_limit,
            settle_time=settle_time,
        )

    def follow(self, job_id: str, callbacks: CallbacksInput = None, **options: Any) -> Run:
        """Follow a job in this process, as `arkor_sync.follow` does.

        The callbacks get a context of the application for each event, and nothing of the request:
        neither `request` nor `g` nor `db.session`. The run ends with the process, and another one
        takes over; where many jobs are followed, `flask arkor follow` does it.

        Args:
            job_id: The job.
            callbacks: What to call; by default `ARKOR_CALLBACKS`.
            options: Those of `arkor_sync.follow`.
        """
        state = self._state()
        if callbacks is None:
            callbacks = callbacks_of(state.callbacks, job_id)
        options = {**state.options(), **options}
        # An empty context: a copy of the request's would keep the request for as long as the run.
        return contextvars.Context().run(
            partial(follow, job_id, callbacks=callbacks, cursor_store=state.store(), **options)
        )

    def follower(
        self,
        source: Optional[Callable[[], Iterable[str]]] = None,
        callbacks: CallbacksOfJob = None,
        **options: Any,
    ) -> Follower:
        """Make the follower of a process, which `run()` starts. `flask arkor follow` runs one.

        Args:
            source: Returns the ids of the jobs. By default all that were submitted with this store
                and are not finished with it.
            callbacks: What to call; by default `ARKOR_CALLBACKS`.
            options: Those of `Follower`.
        """
        state = self._state()
        options = {**state.options(), **options}
        source = source or partial(unfinished_jobs, state.client, state.store())
        callbacks = state.callbacks if callbacks is None else callbacks
        return Follower(source, callbacks, store=state.store(), **options)

    def recover(
        self, trainer_for: Optional[Callable[[str], Optional[Trainer]]] = None
    ) -> List[Submission]:
        """Settle all submissions that nobody works at. See `arkor_sync.recover_submissions`."""
        state = self._state()
        return recover_submissions(state.store(), state.client, trainer_for=trainer_for)

    def blueprint(self, name: str = NAME) -> Blueprint:
        """Make a blueprint with `GET /jobs/<job_id>`: the state of a job as JSON, read only.

        Whoever can reach it may ask for each job of the project whose id is known. Register it
        below a prefix, and add a `before_request` that checks who asks.

        Args:
            name: The blueprint's name.
        """
        from arkor_sync.contrib.flask.blueprint import make_blueprint

        return make_blueprint(name, lambda: (self.client, self.store))

    def mount_studio(self, app: Flask, prefix: str, *, authorize: AuthorizeFlask) -> None:
        """Serve Studio below a path of the application, to whom the application's login allows it.

            def may_use_studio(request, changes):
                if not current_user.is_authenticated:
                    return url_for("login", next=request.full_path)
                return current_user.is_admin or not changes

            arkor.mount_studio(app, "/arkor", authorize=may_use_studio)

        Call it before other middleware is put around `app.wsgi_app`, such as `ProxyFix`. It needs
        the extra `studio`.

        Args:
            app: The application, which `init_app` has seen.
            prefix: The path, such as `/arkor`.
            authorize: Called before each request, in a request context of the application, with the
                request and whether it changes something. It returns True, False, or a URL at which
                to sign in. What it puts into the session is not kept.

        Raises:
            ArkorUsageError: An argument cannot work, `init_app` was not called, or the extra is
                missing.
        """
        from arkor_sync.contrib.flask.studio import mount_studio

        mount_studio(app, prefix, _state_of(app).client, authorize)

    def _state(self) -> State:
        return _state_of(self._flask.current_app)  # raises flask's own error where there is none


class State:
    """What one application has.

    Attributes:
        client: Asks the cloud.
        callbacks: What to call by default.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._app = app
        self._ttl = settings.ttl
        self._store = settings.store
        self._lock = ProcessLock()
        self.client = settings.client
        self.callbacks = settings.callbacks

    def store(self) -> LeasedStore:
        """Return the store; that of Flask-SQLAlchemy's database is made when it is first used."""
        with self._lock():
            if self._store is None:
                if "sqlalchemy" not in self._app.extensions:
                    raise ArkorUsageError(
                        "ARKOR_STORE: got nothing; give a URL (postgresql://..., sqlite:////path, "
                        "redis://...) or a store, or set up Flask-SQLAlchemy"
                    )
                from arkor_sync.stores.sql import SQLCursorStore

                self._store = SQLCursorStore(self._engine(), ttl=self._ttl)
            if hasattr(self._store.backend, "how_to_create"):
                self._store.backend.how_to_create = "run: flask arkor create-tables"
            return self._store

    def options(self) -> Any:
        """Return what each run of this application is followed with."""
        store = self.store()
        joins = "sqlalchemy" in self._app.extensions
        joins = joins and getattr(store, "_engine", None) is self._engine()
        around = partial(around_event, self._app, store, joins)
        return {"client": self.client, "around": around}

    def _engine(self) -> Any:
        with self._app.app_context():
            return self._app.extensions["sqlalchemy"].engine


def _state_of(app: Flask) -> State:
    state: Optional[State] = app.extensions.get(NAME)
    if state is None:
        raise ArkorUsageError("this application has no Arkor; call arkor.init_app(app) first")
    return state


def unfinished_jobs(client: CloudApiClient, store: LeasedStore) -> List[str]:
    """List the jobs of the project that were submitted with the store, and are not finished."""
    here = scope_of(client)
    return [
        each.job_id
        for each in store.backend.unfinished_submissions()
        if each.job_id is not None and is_same_project(parts_of_row(each.name)[1], here)
    ]
