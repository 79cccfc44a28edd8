"""Routes 1 to 11 of the cloud API. Runs in the connection's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

from arkor_sync.emulator.engine.base import CheckpointNotFound, Engine
from arkor_sync.emulator.http.messages import ApiError, Request, Response
from arkor_sync.emulator.http.sse import END
from arkor_sync.emulator.http.stream_body import Body
from arkor_sync.emulator.models import Frame, Identity, Job, LogEntry, Project
from arkor_sync.emulator.routes.chat_completion import Answer
from arkor_sync.emulator.routes.chat_validation import check_chat
from arkor_sync.emulator.routes.job_stream import JobStream
from arkor_sync.emulator.routes.job_validation import check_job, is_integer
from arkor_sync.emulator.settings import Settings
from arkor_sync.emulator.store import Store


@dataclass(frozen=True)
class Streamed:
    """An answer that is written, from its head to its end, as it comes into being."""

    run: Callable[[Body], None]


@dataclass(frozen=True)
class Call:
    """One request on its way to a handler: who asks, and in which scope."""

    request: Request
    params: Dict[str, str]
    identity: Optional[Identity] = None
    project: Optional[Project] = None

    @property
    def caller(self) -> Identity:
        """Who asks; only routes without a bearer have nobody."""
        assert self.identity is not None
        return self.identity

    @property
    def scope(self) -> Project:
        """The project of the scope; only routes with a scope have one."""
        assert self.project is not None
        return self.project


Handler = Callable[[Call], Union[Response, Streamed]]


@dataclass(frozen=True)
class Route:
    """One route: its name, and how much of a scope it needs (none, bearer, org or project)."""

    method: str
    path: str
    name: str
    needs: str = "project"

    def match(self, segments: List[str]) -> Optional[Dict[str, str]]:
        """Return the path's parameters, or None when the path is another."""
        pattern = self.path.split("/")[1:]
        if len(pattern) != len(segments):
            return None
        params = {}
        for expected, actual in zip(pattern, segments):
            if expected.startswith(":"):
                params[expected[1:]] = actual
            elif expected != actual:
                return None
        return params


ROUTES = (
    Route("POST", "/v1/auth/anonymous", "anonymous", needs="nothing"),
    Route("GET", "/v1/auth/cli/config", "cli_config", needs="nothing"),
    Route("GET", "/v1/me", "me", needs="bearer"),
    Route("GET", "/v1/projects", "list_projects", needs="org"),
    Route("POST", "/v1/projects", "create_project", needs="org"),
    Route("GET", "/v1/jobs", "list_jobs"),
    Route("POST", "/v1/jobs", "create_job"),
    Route("GET", "/v1/jobs/:job_id", "get_job"),
    Route("POST", "/v1/jobs/:job_id/cancel", "cancel_job"),
    Route("GET", "/v1/jobs/:job_id/events/stream", "stream"),
    Route("POST", "/v1/inference/chat", "chat"),
)


def find_route(
    routes: Iterable[Route], method: str, segments: List[str]
) -> Tuple[Route, Dict[str, str]]:
    """Return the route of a request and the path's parameters.

    Raises:
        ApiError: 404 for a path that does not exist, 405 for the wrong method on one that does.
    """
    matches = [(route, params) for route in routes if (params := route.match(segments)) is not None]
    for route, params in matches:
        if route.method == method:
            return route, params
    raise ApiError(405, "method not allowed") if matches else ApiError(404, "no such route")


class Api:
    """The handlers, one method a route.

    Args:
        store: What the emulator knows.
        settings: Its switches.
        engine: Returns what trains new jobs and answers for base models.
        launch: Starts a new job's training.
        cli_config: The answer to ``/v1/auth/cli/config``.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        engine: Callable[[], Engine],
        launch: Callable[[Job], None],
        cli_config: Dict[str, Any],
    ) -> None:
        self._store = store
        self._settings = settings
        self._engine = engine
        self._launch = launch
        self._cli_config = cli_config

    def anonymous(self, call: Call) -> Response:
        """Mint an identity with an org of its own."""
        kind = call.request.json_object().get("kind")
        if kind not in ("cli", "web"):
            raise ApiError(400, "kind: expected 'cli' or 'web'")
        if not self._settings.anonymous_sign_in:
            raise ApiError(403, "anonymous sign-in is switched off")
        identity = self._store.add_identity()
        org = {"id": identity.org_id, "slug": identity.org_slug, "name": identity.org_name}
        return Response(
            200,
            {
                "token": self._store.token_of(identity),
                "anonymousId": identity.user_id,
                "kind": kind,
                "personalOrg": org,
            },
        )

    def cli_config(self, _call: Call) -> Response:
        """Tell what OAuth sign-in needs."""
        return Response(200, self._cli_config)

    def me(self, call: Call) -> Response:
        """Tell who the bearer is."""
        who = call.caller
        org = {"id": who.org_id, "slug": who.org_slug, "name": who.org_name}
        return Response(200, {"user": {"id": who.user_id, "email": None}, "orgs": [org]})

    def list_projects(self, call: Call) -> Response:
        """List the org's projects."""
        who = call.caller
        projects = [p.wire() for p in self._store.projects if p.org_id == who.org_id]
        org = {"id": who.org_id, "slug": who.org_slug, "name": who.org_name}
        return Response(200, {"org": org, "projects": projects})

    def create_project(self, call: Call) -> Response:
        """Add a project to the org."""
        body = call.request.json_object()
        name, slug = body.get("name"), body.get("slug")
        if not isinstance(name, str) or not name or not isinstance(slug, str) or not slug:
            raise ApiError(400, "name and slug: expected non-empty strings")
        project = self._store.add_project(call.caller, name, slug)
        return Response(201, {"project": project.wire()})

    def list_jobs(self, call: Call) -> Response:
        """List the project's jobs, the newest first."""
        with self._store.changed:
            jobs = [j.wire() for j in self._store.jobs.values() if j.project_id == call.scope.id]
        return Response(200, {"jobs": jobs[::-1]})

    def create_job(self, call: Call) -> Response:
        """Accept a job and start it."""
        name, config = check_job(
            call.request.json_object(), strict_steps=self._settings.strict_steps
        )
        with self._store.changed:  # whoever sees the job may step it
            job = self._store.add_job(call.scope, name, config, self._engine())
            accepted = Response(201, {"job": job.wire()})
            self._launch(job)
        return accepted

    def get_job(self, call: Call) -> Response:
        """Return the job's record and the events of its log."""
        job = self._job(call.scope, call.params["job_id"])
        with self._store.changed:
            return Response(200, {"job": job.wire(), "events": job.events})

    def cancel_job(self, call: Call) -> Response:
        """Stop a job that is not over yet."""
        job = self._job(call.scope, call.params["job_id"])
        with self._store.changed:
            if not job.terminal:
                self._store.cancel(job, self._settings.cancel_emits)
            elif not self._settings.cancel_idempotent:
                raise ApiError(409, f"the job is already {job.status}")
            return Response(200, {"ok": True, "job": job.wire()})

    def stream(self, call: Call) -> Streamed:
        """Follow the job's events."""
        job = self._job(call.scope, call.params["job_id"])
        last_event_id = _utf8(call.request.headers.get("Last-Event-ID"))

        def run(body: Body) -> None:
            stream = self._store.open_stream(job, last_event_id)
            try:
                JobStream(self._store, job, stream, self._settings.ping_interval).run(body)
            finally:
                self._store.close_stream(stream)

        return Streamed(run)

    def chat(self, call: Call) -> Union[Response, Streamed]:
        """Answer a conversation, from an adapter or from the base model."""
        body = call.request.json_object()
        chat = check_chat(body, tool_calling=self._settings.tool_calling)
        job, step = self._target(call.scope, body)
        engine = job.engine if job else self._engine()
        model = job.config["model"] if job else body["baseModel"]
        try:
            pieces = engine.reply(job, step, chat)
        except CheckpointNotFound as error:
            raise ApiError(404, str(error)) from None
        answer = Answer(chat, model, pieces)
        if not body.get("stream"):
            return Response(200, answer.whole())

        def run(out: Body) -> None:
            out.begin()
            for frame in answer.frames():
                out.write(LogEntry(frame))
            out.finish(END if self._settings.chat_end == "end" else Frame("[DONE]"))

        return Streamed(run)

    def _target(
        self, project: Project, body: Dict[str, Any]
    ) -> Tuple[Optional[Job], Optional[int]]:
        """Return the job and the step whose adapter is asked; (None, None) is the base model."""
        adapter, base_model = body.get("adapter"), body.get("baseModel")
        if (adapter is None) == (base_model is None):
            raise ApiError(400, "expected exactly one of adapter and baseModel")
        if adapter is None:
            if not isinstance(base_model, str) or not base_model:
                raise ApiError(400, "baseModel: expected a non-empty string")
            return None, None
        kind = adapter.get("kind") if isinstance(adapter, dict) else None
        if kind not in ("final", "checkpoint") or not isinstance(adapter.get("jobId"), str):
            raise ApiError(400, "adapter: expected kind 'final' or 'checkpoint', and a jobId")
        step = adapter.get("step")
        if kind == "checkpoint" and not is_integer(step):
            raise ApiError(400, "adapter.step: expected a whole number")
        job = self._job(project, adapter["jobId"])
        if kind == "final":
            if job.status != "completed":
                raise ApiError(404, "the job has no final adapter")
            return job, None
        if step not in job.saved_steps:
            raise ApiError(404, f"the job has no checkpoint at step {step}")
        return job, step

    def _job(self, project: Project, job_id: str) -> Job:
        job = self._store.jobs.get(job_id)
        if job is None or job.project_id != project.id:
            raise ApiError(404, "no such job in this project")
        return job


def _utf8(header: Optional[str]) -> Optional[str]:
    """Return a header that was read as Latin-1 and may be UTF-8, as browsers send an id."""
    try:
        return header and header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
