"""Jobs and their event streams. Runs in the connection's thread."""

from __future__ import annotations

from typing import Optional

from arkor_sync.emulator.http.messages import ApiError, Response
from arkor_sync.emulator.http.routing import Call, Route, StreamedResponse
from arkor_sync.emulator.http.stream_body import StreamBody
from arkor_sync.emulator.routes.job_stream import JobStream
from arkor_sync.emulator.routes.job_validation import check_job
from arkor_sync.emulator.routes.resource import Resource


class Jobs(Resource):
    """Lists, creates, shows, cancels and follows jobs."""

    ROUTES = (
        Route("GET", "/v1/jobs", "list_jobs"),
        Route("POST", "/v1/jobs", "create_job"),
        Route("GET", "/v1/jobs/:job_id", "get_job"),
        Route("POST", "/v1/jobs/:job_id/cancel", "cancel_job"),
        Route("GET", "/v1/jobs/:job_id/events/stream", "stream"),
    )

    def list_jobs(self, call: Call) -> Response:
        """List the project's jobs, the newest first."""
        with self._store.condition:
            jobs = [j.wire() for j in self._store.jobs.values() if j.project_id == call.scope.id]
        return Response(200, {"jobs": jobs[::-1][: self._settings.listed_jobs]})

    def create_job(self, call: Call) -> Response:
        """Accept a job and start it."""
        name, config = check_job(
            call.request.json_object(), strict_steps=self._settings.strict_steps
        )
        # A test may step a job as soon as it sees it, so the job is shown and started at once.
        with self._store.condition:
            try:
                job = self._store.add_job(call.scope, name, config, self._backend.engine())
            except OSError as error:
                reason = f"the job cannot be kept: {error.strerror}: {error.filename}"
                raise ApiError(507, reason) from None
            accepted = Response(201, {"job": job.wire()})
            self._backend.start_job(job)
        return accepted

    def get_job(self, call: Call) -> Response:
        """Return the job's record and the events of its log."""
        job = self._job(call.scope, call.params["job_id"])
        with self._store.condition:
            return Response(200, {"job": job.wire(), "events": job.events})

    def cancel_job(self, call: Call) -> Response:
        """Cancel a job that has not ended yet."""
        job = self._job(call.scope, call.params["job_id"])
        with self._store.condition:
            if not job.terminal:
                self._store.cancel(job, self._settings.cancel_emits)
            elif not self._settings.cancel_idempotent:
                raise ApiError(409, f"the job is already {job.status}")
            return Response(200, {"ok": True, "job": job.wire()})

    def stream(self, call: Call) -> StreamedResponse:
        """Follow the job's events."""
        job = self._job(call.scope, call.params["job_id"])
        last_event_id = _utf8(call.request.headers.get("Last-Event-ID"))

        def write(body: StreamBody) -> None:
            stream = self._store.open_stream(job, last_event_id)
            try:
                JobStream(self._store, job, stream, self._settings.ping_interval).write(body)
            finally:
                self._store.close_stream(stream)

        return StreamedResponse(write)


def _utf8(header: Optional[str]) -> Optional[str]:
    """Decode a header that was read as Latin-1 but may be UTF-8: browsers send an id so."""
    try:
        return header and header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
