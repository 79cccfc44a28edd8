"""The emulator as a program sees it: start, look, step, stop. Any thread."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type, Union

from arkor_sync.emulator.clock import Clock, timestamp
from arkor_sync.emulator.config_file import load_data
from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.engine.scenarios import scenario
from arkor_sync.emulator.faults import Fault, FaultBook
from arkor_sync.emulator.http.dispatcher import App
from arkor_sync.emulator.http.server import Server
from arkor_sync.emulator.inspection import Watch
from arkor_sync.emulator.job_runner import Runner
from arkor_sync.emulator.models import AUTO_ID, TERMINAL_STATUSES
from arkor_sync.emulator.recording import save_recording
from arkor_sync.emulator.routes.admin import Admin
from arkor_sync.emulator.routes.deployments import ROUTES as DEPLOYMENT_ROUTES
from arkor_sync.emulator.routes.deployments import Deployments
from arkor_sync.emulator.routes.jobs import ROUTES, Api, Handler, Route
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

ALL_ROUTES = (*ROUTES, *DEPLOYMENT_ROUTES)

NO_OAUTH: Dict[str, Any] = {
    "auth0Domain": None,
    "clientId": None,
    "audience": None,
    "callbackPorts": [],
}
DEFAULT_CONFIG = {
    "model": "unsloth/gemma-4-E4B-it",
    "datasetSource": {"type": "huggingface", "name": "emulator/sample"},
}


class Emulator(Watch):
    """A local Arkor cloud on the loopback.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. It owns an accept thread,
    a thread for each connection and one for each job; all of them end in :meth:`stop`, which takes
    milliseconds.

    Args:
        engine: Trains the jobs that clients submit; a :class:`NgramEngine` if left out. It can be
            exchanged later through :attr:`engine`, for the jobs to come.
        port: The port on 127.0.0.1; 0 takes a free one.
        token: A bearer token that is accepted from the start.
        speed: Virtual seconds per real second; 0 stops the clock for :meth:`advance`.
        state_dir: Where checkpoints are kept; a temporary directory, removed at the end, if left
            out.
        tls: Speak TLS: an ``ssl.SSLContext``, or the files of a certificate and its key.
        cli_config: The answer to ``/v1/auth/cli/config``; no OAuth if left out.
        fault_seed: Seeds the faults that strike with a probability.
        settings: Any field of :class:`~arkor_sync.emulator.settings.Settings`, by its name. They
            can be switched later through :attr:`settings`.
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
        self.engine = engine or NgramEngine()
        self.token = token
        self.settings = Settings(**settings)
        self.clock = Clock(speed)
        self.errors: List[BaseException] = []
        self.faults = FaultBook(frozenset(r.name for r in ALL_ROUTES), fault_seed)
        self._port = port
        self._tls = _tls_context(tls)
        self._cli_config = cli_config or dict(NO_OAUTH)
        self._state_dir = state_dir
        self._cleanup = contextlib.ExitStack()
        self._server: Optional[Server] = None

    @classmethod
    def from_file(cls, path: Union[str, Path], **options: Any) -> Emulator:
        """Make an emulator as a JSON or TOML file describes it.

        Args:
            path: The file. ``scenario`` names a scenario, or is an object with its ``name`` and
                what it changes; ``faults`` is a list of faults; ``options`` holds arguments of
                this class.
            options: Arguments of this class that go before the file's.

        Raises:
            ValueError: The file makes no sense.
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
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from None
        emulator.faults.add(*map(Fault.of, data.get("faults", [])))
        return emulator

    def start(self) -> Emulator:
        """Listen. State begins anew with each start.

        Raises:
            RuntimeError: It runs already.
            OSError: The port is taken.
        """
        if self._server is not None:
            raise RuntimeError("the emulator is already running")
        if self._state_dir is None:
            directory = self._cleanup.enter_context(
                tempfile.TemporaryDirectory(prefix="arkor-emulator-")
            )
        else:
            directory = str(self._state_dir)
        self._store = Store(self.token, Path(directory), self.clock)
        self._runner = Runner(self._store, self.errors.append)
        self.errors.clear()
        api = Api(
            self._store, self.settings, lambda: self.engine, self._runner.launch, self._cli_config
        )
        deployments = Deployments(self._store)
        handlers: Dict[Route, Handler] = {
            **{route: getattr(api, route.name) for route in ROUTES},
            **{route: getattr(deployments, route.name) for route in DEPLOYMENT_ROUTES},
        }
        admin = Admin(self._store, self.faults, self.reset)
        app = App(self._store, self.settings, handlers, admin, self.faults, self.errors.append)
        server = Server(
            app.serve,
            accept=lambda number: not self.faults.refuses(number),
            failed=self.errors.append,
            tls=self._tls,
        )
        try:
            server.listen(self._port)
        except OSError:
            self._cleanup.close()
            raise
        self._server = server
        return self

    def stop(self) -> None:
        """End every stream, job and thread. Safe to call twice.

        Raises:
            RuntimeError: A thread would not end, which is a bug.
        """
        server, self._server = self._server, None
        if server is None:
            return
        with self._store.changed:
            self._store.stopping = True
            self._store.notify()
        stuck = [*server.stop(), *self._runner.join()]
        self._cleanup.close()
        if stuck:
            raise RuntimeError(f"threads of the emulator would not end: {', '.join(stuck)}")

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
        """Forget faults, jobs, requests, tokens and errors. Jobs that run are cancelled."""
        self.faults.clear()
        self._store.reset()
        self.errors.clear()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse new connections within the ``with`` block; those that are open stay open."""
        server = self._server
        if server is None:
            raise RuntimeError("the emulator is not running")
        server.deafen()
        try:
            yield
        finally:
            if self._server is server:
                server.listen(server.port)

    # -- where and who ------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def environment(self) -> Dict[str, str]:
        """Return the environment variables that point a client here."""
        return {"ARKOR_CLOUD_API_URL": self.url, "ARKOR_TOKEN": self.token}

    def add_token(self, token: str) -> None:
        """Accept another bearer token for the same identity as :attr:`token`."""
        self._store.add_token(token)

    @property
    def org_slug(self) -> str:
        """The org that :attr:`token` belongs to."""
        return self._store.identity.org_slug

    @property
    def project_slug(self) -> str:
        """A project in that org."""
        return self._store.project.slug

    @property
    def project_id(self) -> str:
        """The id of that project."""
        return self._store.project.id

    # -- what happens next --------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock forward by so many virtual seconds."""
        with self._store.changed:
            self.clock.advance(seconds)
            self._store.notify()

    def create_job(
        self,
        engine: Optional[Engine] = None,
        config: Optional[Dict[str, Any]] = None,
        *,
        name: str = "job",
    ) -> str:
        """Make a job in the ready-made scope without a request, and start it.

        Args:
            engine: Trains it; the emulator's own if left out.
            config: Its config, over the smallest one there is.
            name: Its name.

        Returns:
            Its id.
        """
        full = {**DEFAULT_CONFIG, **(config or {})}
        job = self._store.add_job(self._store.project, name, full, engine or self.engine)
        self._runner.launch(job)
        return job.id

    def step(self, job_id: str, n: int = 1) -> int:
        """Release the next ``n`` items of a job with a manual engine, in this thread.

        Returns:
            How many there were.
        """
        job = self._store.jobs[job_id]
        if not job.engine.manual:
            raise ValueError("the job's engine is not manual")
        return sum(self._runner.release(job) for _ in range(n))

    def publish(self, job_id: str, event: Dict[str, Any], id: Optional[str] = AUTO_ID) -> None:
        """Append an event to a job's log, whatever state the job is in.

        Args:
            job_id: The job.
            event: The event; ``jobId`` and ``timestamp`` are filled in where they are missing.
            id: The event's id; the next number if left out, None for no id.
        """
        self._store.publish(self._store.jobs[job_id], (event, id))

    def publish_raw(self, job_id: str, data: bytes) -> None:
        """Append bytes to a job's stream, as they are."""
        self._store.publish(self._store.jobs[job_id], data)

    def finish(
        self,
        job_id: str,
        status: Optional[str] = None,
        *,
        error: str = "failed",
        silent: bool = False,
    ) -> None:
        """Bring a job to its end.

        Args:
            job_id: The job.
            status: ``completed`` and ``failed`` publish their event, then ``end``; ``cancelled``
                sets the record and publishes ``end``; None publishes ``end`` alone.
            error: The text of ``failed``.
            silent: Set the record only: the stream goes on with pings.
        """
        if status is not None and status not in TERMINAL_STATUSES:
            raise ValueError(f"not a terminal status: {status!r}")
        job = self._store.jobs[job_id]
        with self._store.changed:
            if status == "completed" and not silent:
                self.publish(job_id, {"type": "training.completed", "artifacts": []})
            elif status == "failed" and not silent:
                self.publish(job_id, {"type": "training.failed", "error": error, "step": job.step})
            elif status is not None:
                job.status, job.completed_at = status, timestamp()
                job.error = error if status == "failed" else None
            job.ended = job.ended or not silent
            self._store.notify()

    def save_recording(self, job_id: str, path: Union[str, Path]) -> None:
        """Write a job's stream to a file, without its secrets.

        ``ScriptedEngine(events=load_recording(path))`` plays it again.
        """
        with self._store.changed:
            log = list(self._store.jobs[job_id].log)
        save_recording(path, log)


def _tls_context(
    tls: Union[ssl.SSLContext, Tuple[str, str], None],
) -> Optional[ssl.SSLContext]:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    return context
