"""The `Emulator` class: start and stop it, control its jobs. Any thread."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple, Type, Union

from arkor_sync.emulator.clock import Clock, timestamp
from arkor_sync.emulator.config_file import load_data
from arkor_sync.emulator.engine.base import Engine
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.engine.sample import NAME
from arkor_sync.emulator.engine.scenarios import scenario
from arkor_sync.emulator.faults import Fault, FaultBook, refuses_connection
from arkor_sync.emulator.http.dispatcher import Dispatcher
from arkor_sync.emulator.http.server import Server
from arkor_sync.emulator.inspection import Inspection
from arkor_sync.emulator.job_runner import JobRunner
from arkor_sync.emulator.models import AUTO_ID, TERMINAL_STATUSES
from arkor_sync.emulator.recording import save_recording
from arkor_sync.emulator.routes import ROUTE_NAMES, make_handlers
from arkor_sync.emulator.routes.admin import Admin
from arkor_sync.emulator.routes.resource import Backend
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

DEFAULT_CONFIG = {
    "model": "unsloth/gemma-4-E4B-it",
    "datasetSource": {"type": "huggingface", "name": NAME},
}


class Emulator(Inspection):
    """A local Arkor cloud on the loopback.

    Use it as a context manager, or call `start` and `stop`. It has an accept thread, a thread for
    each connection and one for each job; `stop` ends them all, in milliseconds.

    Args:
        engine: Trains the jobs that clients submit; an `NgramEngine` if left out. The attribute
            `engine` can be set later; it then trains the jobs that are submitted from then on.
        port: The port on 127.0.0.1; 0 takes a free one.
        token: A bearer token that is valid from the start.
        speed: Virtual seconds per real second. With 0 only `advance` moves the clock.
        state_dir: Where checkpoints are kept; if left out, a temporary directory that `stop`
            removes.
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
        """Start the emulator, with an empty state.

        Raises:
            RuntimeError: It is already running, or no thread can be started.
            OSError: The port is in use.
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
        self._runner = JobRunner(self._store, self.errors.append)
        self.errors.clear()
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
        server = Server(
            dispatcher.serve,
            accept=lambda number: not refuses_connection(self.faults, number),
            report_error=self.errors.append,
            tls=self._tls,
        )
        try:
            server.listen(self._port)
        except (OSError, RuntimeError):
            self._cleanup.close()
            raise
        self._server = server
        return self

    def stop(self) -> None:
        """End all streams, jobs and threads. It may be called twice.

        Raises:
            RuntimeError: A thread has not ended, which is a bug.
        """
        server, self._server = self._server, None
        if server is None:
            return
        with self._store.condition:
            self._store.stopping = True
            self._store.notify()
        stuck = [*server.stop(), *self._runner.join()]
        self._cleanup.close()
        if stuck:
            raise RuntimeError(f"threads of the emulator have not ended: {', '.join(stuck)}")

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
        """Delete faults, jobs, requests, tokens and errors. Running jobs are cancelled."""
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

    # -- control ----------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Move the virtual clock forward by so many seconds."""
        with self._store.condition:
            self.clock.advance(seconds)
            self._store.notify()

    def create_job(
        self,
        engine: Optional[Engine] = None,
        config: Optional[Dict[str, Any]] = None,
        *,
        name: str = "job",
    ) -> str:
        """Create a job without a request, in the project of `project_slug`, and start it.

        Args:
            engine: Trains it; the emulator's engine if left out.
            config: Its config; the model and the data set may be left out.
            name: Its name.

        Returns:
            Its id.
        """
        full = {**DEFAULT_CONFIG, **(config or {})}
        job = self._store.add_job(self._store.project, name, full, engine or self.engine)
        self._runner.start(job)
        return job.id

    def add_deployment(self, slug: str, target: Dict[str, Any], **fields: Any) -> str:
        """Add a deployment without a request, also one that only the cloud can make.

        Args:
            slug: The first part of its address.
            target: What it serves, also of a kind that the emulator does not know.
            fields: Other fields, by their names on the wire, such as `expiresAt`.

        Returns:
            Its id.
        """
        fields = {"authMode": "none", **fields, "target": target}
        return self._store.add_deployment(self._store.project, slug, fields).id

    def step(self, job_id: str, n: int = 1) -> int:
        """Publish the next `n` items of a job with a manual engine. Runs in the caller's thread.

        Returns:
            How many were published.
        """
        job = self._store.jobs[job_id]
        if not job.engine.manual:
            raise ValueError("the job's engine is not manual")
        return sum(self._runner.publish_next(job) for _ in range(n))

    def publish(self, job_id: str, event: Dict[str, Any], id: Optional[str] = AUTO_ID) -> None:
        """Append an event to a job's log, also if the job has ended.

        Args:
            job_id: The job.
            event: The event. `jobId` and `timestamp` are added if it has none.
            id: The event's id; the next number if left out, None for no id.
        """
        self._store.publish(self._store.jobs[job_id], (event, id))

    def publish_raw(self, job_id: str, data: bytes) -> None:
        """Append bytes to a job's stream, unchanged."""
        self._store.publish(self._store.jobs[job_id], data)

    def finish(
        self,
        job_id: str,
        status: Optional[str] = None,
        *,
        error: str = "failed",
        silent: bool = False,
    ) -> None:
        """End a job.

        Args:
            job_id: The job.
            status: `completed` and `failed` set the record and publish their event, then `end`.
                `cancelled` sets the record and publishes `end`. None only publishes `end`.
            error: The error text for `failed`.
            silent: Only set the record. The stream stays open and carries pings.
        """
        if status is not None and status not in TERMINAL_STATUSES:
            raise ValueError(f"not a terminal status: {status!r}")
        job = self._store.jobs[job_id]
        with self._store.condition:
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
        """Write a job's stream to a file, without secrets.

        `ScriptedEngine(events=load_recording(path))` plays the file.
        """
        with self._store.condition:
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
