"""The emulator as a program sees it: start, look, step, stop. Any thread."""

from __future__ import annotations

import contextlib
import ssl
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Type, TypeVar, Union

from arkor_sync.emulator.admin import Admin
from arkor_sync.emulator.app import App
from arkor_sync.emulator.clock import Clock, timestamp
from arkor_sync.emulator.engine.base import Engine, Ticket, TrainingFailed
from arkor_sync.emulator.engine.ngram import NgramEngine
from arkor_sync.emulator.faults import FaultBook
from arkor_sync.emulator.records import (
    AUTO_ID,
    TERMINAL_STATUSES,
    Job,
    RecordedRequest,
    StreamConnection,
)
from arkor_sync.emulator.routes import ROUTES, Api
from arkor_sync.emulator.server import Server
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store

T = TypeVar("T")

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

# wait_for looks again this often, in real seconds, for what changes outside the emulator.
POLL_SECONDS = 0.02


class Emulator:
    """A local Arkor cloud on the loopback.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. It owns an accept thread,
    a thread for each connection and one for each job; all of them end in :meth:`stop`, which takes
    milliseconds.

    Args:
        engine: Trains the jobs that clients submit; a :class:`NgramEngine` if left out.
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
        self.faults = FaultBook(frozenset(route.name for route in ROUTES), fault_seed)
        self._port = port
        self._tls = _tls_context(tls)
        self._cli_config = cli_config or dict(NO_OAUTH)
        self._state_dir = state_dir
        self._threads: List[threading.Thread] = []
        self._cleanup = contextlib.ExitStack()
        self._server: Optional[Server] = None

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
        self._threads = []
        self.errors.clear()
        api = Api(self._store, self.settings, self.engine, self._launch, self._cli_config)
        admin = Admin(self._store, self.faults, self.reset)
        app = App(self._store, self.settings, api, admin, self.faults, self.errors.append)
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
        stuck = server.stop()
        for thread in self._threads:
            thread.join(5.0)
        stuck += [thread.name for thread in self._threads if thread.is_alive()]
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
        assert self._server is not None
        self._server.deafen()
        try:
            yield
        finally:
            self._server.listen(self._server.port)

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

    # -- what happened ------------------------------------------------------------------------

    @property
    def requests(self) -> List[RecordedRequest]:
        """Every request so far, the newest last."""
        with self._store.changed:
            return list(self._store.requests)

    @property
    def jobs(self) -> Dict[str, Job]:
        """The jobs by their id."""
        with self._store.changed:
            return dict(self._store.jobs)

    def connections(self, job_id: Optional[str] = None) -> List[StreamConnection]:
        """Return the event streams that clients opened, of one job or of all, the newest last."""
        with self._store.changed:
            return [s for s in self._store.streams if job_id in (None, s.job_id)]

    @property
    def open_streams(self) -> List[StreamConnection]:
        """The event streams that are open now."""
        return [stream for stream in self.connections() if stream.open]

    @property
    def max_concurrent_streams(self) -> int:
        """The most event streams that were open at the same time."""
        return self._store.max_concurrent_streams

    def assert_resumed_from(self, event_id: Optional[str], job_id: Optional[str] = None) -> None:
        """Assert that some stream was opened with this ``Last-Event-ID`` (None: without one)."""
        seen = [stream.last_event_id for stream in self.connections(job_id)]
        if event_id not in seen:
            raise AssertionError(f"no stream resumed from {event_id!r}; streams sent {seen!r}")

    def wait_for(self, predicate: Callable[[], T], timeout: float = 5.0) -> T:
        """Wait until ``predicate()`` is true and return what it returned.

        Args:
            predicate: Looks at the emulator, or at anything else; called in this thread.
            timeout: Real seconds.

        Raises:
            TimeoutError: It did not become true.
        """
        deadline = time.monotonic() + timeout
        while True:
            version = self._store.version
            result = predicate()
            if result:
                return result
            if time.monotonic() >= deadline:
                raise TimeoutError(f"not true within {timeout} s; requests: {self.requests[-5:]}")
            with self._store.changed:
                if self._store.version == version:
                    self._store.changed.wait(POLL_SECONDS)

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
        self._launch(job)
        return job.id

    def step(self, job_id: str, n: int = 1) -> int:
        """Release the next ``n`` items of a job with a manual engine, in this thread.

        Returns:
            How many there were.
        """
        job = self._store.jobs[job_id]
        if not job.engine.manual:
            raise ValueError("the job's engine is not manual")
        return sum(self._release(job) for _ in range(n))

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

    def _launch(self, job: Job) -> None:
        job.pending = job.engine.events(Ticket(job, self._store, manual=job.engine.manual))
        if job.engine.manual:
            return
        thread = threading.Thread(
            target=self._train, args=(job,), name=f"arkor-emulator-job-{job.id[:8]}", daemon=True
        )
        with self._store.changed:
            self._threads.append(thread)
        thread.start()

    def _train(self, job: Job) -> None:
        while self._release(job):
            pass

    def _release(self, job: Job) -> bool:
        """Publish the next item of a job's engine; False when there was none."""
        assert job.pending is not None
        try:
            item = next(job.pending)
        except StopIteration:
            return False
        except TrainingFailed as error:
            item = {"type": "training.failed", "error": str(error), "step": job.step}
        except Exception as error:
            self.errors.append(error)
            item = {"type": "training.failed", "error": "internal error", "step": job.step}
        return self._store.publish(job, item, unless_terminal=True)


def _tls_context(
    tls: Union[ssl.SSLContext, Tuple[str, str], None],
) -> Optional[ssl.SSLContext]:
    if tls is None or isinstance(tls, ssl.SSLContext):
        return tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    return context
