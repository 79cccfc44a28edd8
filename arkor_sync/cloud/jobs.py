"""The routes of jobs, as `client.jobs`. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Dict, List, Mapping, Optional, Union

from arkor_sync._common.arguments import show
from arkor_sync._common.json import json_copy
from arkor_sync.cloud.http import (
    EVENT_STREAM,
    UNBUFFERED,
    Timeout,
    decode_answer,
    media_type,
    read_body,
)
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.cloud.session import Session
from arkor_sync.cloud.transport import ByteStream, Transport
from arkor_sync.errors import (
    ArkorConnectionError,
    ArkorUsageError,
    AuthenticationError,
    ResponseError,
    StreamProtocolError,
)

_MAYBE_CREATED = "the job may have been created all the same; client.jobs.list() shows it"


class Jobs:
    """The routes below `/v1/jobs`; `client.jobs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, name: str, config: Mapping[str, Any]) -> TrainingJob:
        """Submit a job (`POST /v1/jobs`). It is sent once, and never again by itself.

        Args:
            name: The run's name.
            config: The configuration in wire form, such as `build_job_config` returns.

        Raises:
            CloudApiError: The cloud refused it.
            ArkorConnectionError: The answer did not come; the message says so if the job may have
                been created.
        """
        if not isinstance(name, str) or not name.strip():
            raise ArkorUsageError(f"name: got {show(name)}; give a string that is not empty")
        if not isinstance(config, Mapping):
            raise ArkorUsageError(f"config: got {show(config)}; give a mapping")
        body = json_copy({"name": name, "config": dict(config)}, "the job")
        target = self._session.target("jobs")
        try:
            job: TrainingJob = self._session.request("POST", target, TrainingJob, "job", body=body)
        except (ArkorConnectionError, ResponseError) as error:
            if _cannot_have_created(error):
                raise
            raise type(error)(f"{error}; {_MAYBE_CREATED}") from error.__cause__
        return job

    def get(self, job_id: str, *, transport: Optional[Transport] = None) -> TrainingJob:
        """Read a job (`GET /v1/jobs/:id`).

        Args:
            job_id: The job.
            transport: Makes the request, so that another thread can interrupt it; it is left open.
        """
        target = self._session.target("jobs", _id(job_id), transport=transport)
        job: TrainingJob = self._session.request(
            "GET", target, TrainingJob, "job", transport=transport
        )
        return job

    def list(self) -> List[TrainingJob]:
        """Read the project's jobs, in the cloud's order (`GET /v1/jobs`)."""
        target = self._session.target("jobs")
        jobs: List[TrainingJob] = self._session.request("GET", target, List[TrainingJob], "jobs")
        return jobs

    def cancel(self, job_id: str) -> Optional[TrainingJob]:
        """Ask the cloud to stop a job (`POST /v1/jobs/:id/cancel`).

        Returns:
            The job, where the answer holds it. It may still be running: the stream tells.

        Raises:
            ConflictError: The job is past cancelling.
        """
        url, auth = self._session.target("jobs", _id(job_id), "cancel")
        with (
            self._session.transport() as transport,
            closing(self._session.http.open(transport, "POST", url, auth=auth)) as response,
        ):
            try:
                job: TrainingJob = decode_answer(read_body(response), TrainingJob, "job")
            except (ArkorConnectionError, ResponseError):
                return None  # accepted, whatever the body is
        return job

    def events(
        self,
        job_id: str,
        *,
        transport: Transport,
        last_event_id: Optional[str] = None,
        timeout: Timeout = (10.0, 45.0),
    ) -> ByteStream:
        """Open a job's event stream (`GET /v1/jobs/:id/events/stream`), on the reader's thread.

        Args:
            job_id: The job.
            transport: Makes the request, and is left open. The caller closes the stream.
            last_event_id: The stream goes on after this event. It is left out if
                `is_sendable_id` says so, and the stream starts at the beginning.
            timeout: Seconds to connect, and seconds of silence that are allowed.

        Raises:
            CloudApiError: The cloud refused it.
            StreamProtocolError: The answer is not an event stream.
            ArkorConnectionError: The answer did not come.
        """
        headers: Dict[str, Union[str, bytes]] = {"Accept": EVENT_STREAM, **UNBUFFERED}
        if last_event_id is not None and is_sendable_id(last_event_id):
            headers["Last-Event-ID"] = last_event_id.encode("utf-8")
        url, auth = self._session.target(
            "jobs", _id(job_id), "events", "stream", transport=transport
        )
        response = self._session.http.open(
            transport, "GET", url, auth=auth, headers=headers, timeout=timeout
        )
        kind = media_type(response)
        if kind not in ("", EVENT_STREAM):
            response.close()
            if EVENT_STREAM.startswith(kind):  # http.client ends the headers where the bytes end
                raise ArkorConnectionError("the answer broke off in its headers")
            raise StreamProtocolError(f"expected {EVENT_STREAM}, got {kind[:100]}")
        return ByteStream(response, transport)


def is_sendable_id(event_id: str) -> bool:
    """Whether an event's id can be a header's value and arrive as it is.

    An empty one, one with control characters, and one with white space at its ends cannot.
    """
    if not event_id or event_id != event_id.strip():
        return False
    return not any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in event_id)


def _id(job_id: object) -> str:
    if not isinstance(job_id, str) or not job_id or job_id in (".", ".."):
        raise ArkorUsageError(f"job_id: got {show(job_id)}; give the id of a job")
    return job_id


def _cannot_have_created(error: Exception) -> bool:
    """Whether the connection failed before a request could have gone out on it, or after a 401."""
    return not getattr(error, "sent", True) or isinstance(error.__context__, AuthenticationError)
