"""The `Emulator` class: start and stop it, make its clients. Any thread."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple, Type, Union

from arkor_sync.emulator.clock import Clock
from arkor_sync.emulator.config_file import load_data
from arkor_sync.emulator.control import Control
from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.engine.scenarios import scenario
from arkor_sync.emulator.faults import Fault, FaultBook, refuses_connection
from arkor_sync.emulator.http.dispatcher import Dispatcher
from arkor_sync.emulator.http.server import Server
from arkor_sync.emulator.job_runner import JobRunner
from arkor_sync.emulator.routes import ROUTE_NAMES, make_handlers
from arkor_sync.emulator.routes.admin import Admin
from arkor_sync.emulator.routes.resource import Backend
from arkor_sync.emulator.saved_jobs import SavedJobs
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient


class Emulator(Control):
    """A local Arkor cloud on the loopback.

    Use it as a context manager, or call `start` and `stop`. It has an accept thread, a thread for
    each connection and one for each job; `stop` ends them all, in milliseconds.

    Args:
        engine: Trains the jobs that clients submit; an `NgramEngine` if left out. The attribute
            `engine` can be set later; it then trains the jobs that are submitted from then on.
        port: The port on 127.0.0.1; 0 takes a free one.
        token: A bearer token that is valid from the start.
        speed: Virtual seconds per real second. With 0 only `advance` moves the clock.
        state_dir: The directory that keeps the jobs, their events and their checkpoints: an
            emulator that is started with it later has them again. If left out, a temporary
            directory that `stop` removes.
        tls: Use TLS, with this context, or with the files of a certificate and its key. See
            also `client`.
        cli_config: The response of `/v1/auth/cli/config`; if left out, that of the settings.
        fault_seed: Seeds the faults that have a probability.
        settings: Fields of `Settings`, by name. The attribute `settings` can be changed later.

    Raises:
        ValueError: An argument cannot work.

    Attributes:
        engine: Trains new jobs.
        token: The bearer token that is valid from the start.
        settings: The settings.
        clock: The virtual clock.
        errors: What went wrong inside the emulator: exceptions of handlers and engines.
        faults: The faults that are set.
    """

    def __init__(
        self,
        engine: Optional[Engine] = None,
        *,
        port: int = 0,
        token: str = "emulator-token",
        speed: float = 1.0,
        state_dir: Union[str, Path, None] = None,
        tls: Union[ssl.SSLContext, Tuple[str, str], None] = None,
        cli_config: Optional[Dict[str, Any]] = None,
        fault_seed: int = 0,
        **settings: Any,
    ) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValueError(f"port must be a number from 0 to 65535, not {port!r}")
        self.engine = engine or NgramEngine()
        self.token = token
        self.settings = Settings(**settings)
        self.clock = Clock(speed)
        self.errors: List[BaseException] = []
        self.faults = FaultBook(ROUTE_NAMES, fault_seed)
        self._port = port
        self._tls = _tls_context(tls)
        self._certificate = str(tls[0]) if isinstance(tls, (tuple, list)) else None
        self._cli_config = cli_config
        self._state_dir = state_dir
        self._cleanup = contextlib.ExitStack()
        self._server: Optional[Server] = None

    @classmethod
    def from_file(cls, path: Union[str, Path], **options: Any) -> Emulator:
        """Make an emulator from a JSON or TOML file.

        Args:
            path: The file. `scenario` is the name of a scenario, or an object with its `name` and
                the arguments to change; `faults` is a list of faults; `options` has arguments of
                this class.
            options: Arguments of this class. They override those of the file.

        Raises:
            ValueError: The file is wrong.
        """
        data = load_data(path)
        unknown = sorted(set(data) - {"scenario", "faults", "options"})
        if unknown:
            raise ValueError(f"{path}: unknown key {unknown[0]!r}")
        script = data.get("scenario")
        try:
            if script is not None:
                script = {"name": script} if isinstance(script, str) else script
                options.setdefault("engine", scenario(**script))
            emulator = cls(**{**data.get("options", {}), **options})
            emulator.faults.add(*map(Fault.of, data.get("faults", [])))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
        return emulator

    def start(self) -> Emulator:
        """Start the emulator, with the jobs of its `state_dir`, or else with an empty state.

        A job that was running when the earlier emulator ended, also by a kill, carries on if the
        engine is of the same class and can (`Engine.resumes`); otherwise it fails, and says so.

        Raises:
            RuntimeError: It is already running, or no thread can be started.
            OSError: The port is in use, or `state_dir` cannot be used.
            ValueError: Another emulator uses `state_dir`, or a file in it is malformed or was
                written by a newer version. No file has been changed.
        """
        if self._server is not None:
            raise RuntimeError("the emulator is already running")
        self.errors.clear()
        try:
            server = self._prepare()
            server.listen(self._port)
        except (OSError, RuntimeError, ValueError):
            self._cleanup.close()
            raise
        self._server = server
        try:
            with self._store.condition:
                for job in self._store.jobs.values():
                    if not job.terminal:
                        self._runner.resume(job)
        except RuntimeError:
            self.stop()
            raise
        return self

    def _prepare(self) -> Server:
        """Make the parts of the emulator, with the jobs that are kept."""
        saved: Optional[SavedJobs] = None
        if self._state_dir is None:
            directory = Path(
                self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="arkor-emulator-"))
            )
        else:
            directory = Path(os.path.abspath(self._state_dir))
            saved = SavedJobs(directory, self.errors.append)
            self._cleanup.callback(saved.close)
        self._store = Store(self.token, directory, self.clock, saved)
        for job in self._store.jobs.values():
            job.engine = self.engine
        self._runner = JobRunner(self._store, self.errors.append)
        handlers = make_handlers(
            Backend(
                self._store,
                self.settings,
                lambda: self.engine,
                self._runner.start,
                self._cli_config,
                self._tls is not None,
            )
        )
        admin = Admin(self._store, self.faults, self.reset)
        dispatcher = Dispatcher(
            self._store, self.settings, handlers, admin.handle, self.faults, self.errors.append
        )
        return Server(
            dispatcher.serve,
            accept=lambda number: not refuses_connection(self.faults, number),
            report_error=self.errors.append,
            tls=self._tls,
        )

    def stop(self) -> None:
        """End all streams, jobs and threads, and close the engines. It may be called twice.

        A job that is running stays so where jobs are kept.

        Raises:
            RuntimeError: A thread has not ended, which is a bug.
        """
        server, self._server = self._server, None
        if server is None:
            return
        with self._store.condition:
            self._store.stopping = True
            self._store.notify()
            engines = [self.engine, *(job.engine for job in self._store.jobs.values())]
        engines = list({id(engine): engine for engine in engines}.values())
        self._close(engines)
        stuck = [*server.stop(), *self._runner.join()]
        self._close(engines)  # a request that came in the meantime may have used one again
        self._cleanup.close()
        if stuck:
            raise RuntimeError(f"threads of the emulator have not ended: {', '.join(stuck)}")

    def _close(self, engines: List[Engine]) -> None:
        for engine in engines:
            try:
                engine.close()
            except Exception as error:
                self.errors.append(error)

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self,
        _type: Optional[Type[BaseException]],
        _value: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Emulator {self.url if self._server else 'stopped'}>"

    def reset(self) -> None:
        """Delete faults, jobs, requests, tokens and errors. Running jobs are cancelled.

        Where jobs are kept, their directories are deleted, too.
        """
        self.faults.clear()
        self._store.reset()
        self.errors.clear()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse new connections within the `with` block. Open ones stay open."""
        server = self._server
        if server is None:
            raise RuntimeError("the emulator is not running")
        server.stop_listening()
        try:
            yield
        finally:
            if self._server is server:
                server.listen(server.port)

    # -- address and identity ---------------------------------------------------------------------

    def environment(self) -> Dict[str, str]:
        """Return the environment variables with which a program uses this emulator.

        They are its URL, its token and its project, so that a program needs no file.
        """
        return {
            "ARKOR_CLOUD_API_URL": self.url,
            "ARKOR_TOKEN": self.token,
            "ARKOR_ORG": self.org_slug,
            "ARKOR_PROJECT": self.project_slug,
            "ARKOR_PROJECT_ID": self.project_id,
        }

    def client(self, **options: Any) -> CloudApiClient:
        """Make a client that is signed in to this emulator, in its project.

        With `tls`, the client trusts the certificates in the file that was given. If that is not
        enough, as with a certificate of an authority that is not in the file, give
        `session`, a `requests.Session` whose `verify` is the file of the authority.

        Args:
            options: Arguments of `CloudApiClient`; they override those of the emulator.

        Raises:
            RuntimeError: The emulator is not running.
            ValueError: `tls` is a context, which does not tell the file, and there is no `session`.
        """
        import requests

        from arkor_sync.cloud.client import CloudApiClient
        from arkor_sync.cloud.credentials import TokenCredentials
        from arkor_sync.cloud.project import ProjectState

        url = self.url
        if self._tls is not None and "session" not in options:
            if self._certificate is None:
                raise ValueError(
                    "the emulator has a TLS context, which does not tell which certificate to "
                    "trust; give session=, a requests.Session whose verify is the file of the "
                    "certificate"
                )
            options["session"] = requests.Session()
            options["session"].verify = self._certificate
        scope = ProjectState(self.org_slug, self.project_slug, self.project_id)
        given = {"base_url": url, "credentials": TokenCredentials(self.token), "scope": scope}
        return CloudApiClient(**{**given, **options})

    def add_token(self, token: str) -> None:
        """Accept another bearer token for the same identity as `token`."""
        self._store.add_token(token)


def _tls_context(
    tls: Union[ssl.SSLContext, Tuple[str, str], None],
) -> Optional[ssl.SSLContext]:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    return context
