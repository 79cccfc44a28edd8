"""The routes of jobs, `client.jobs`. Runs on the caller's thread."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Union

from arkor_sync._common.arguments import check, refusal
from arkor_sync._common.json import json_copy
from arkor_sync._common.secret import hide_secrets
from arkor_sync.cloud.bodies import ByteStream, read_body
from arkor_sync.cloud.http import (
    EVENT_STREAM,
    UNBUFFERED,
    Timeout,
    decode_answer,
    media_type,
)
from arkor_sync.cloud.local_data import sendable
from arkor_sync.cloud.models import JobStatus, TrainingJob
from arkor_sync.cloud.session import CloudSession
from arkor_sync.cloud.submission import maybe_created
from arkor_sync.cloud.transport import Transport
from arkor_sync.cloud.urls import check_id, without_query
from arkor_sync.errors import (
    ArkorConnectionError,
    CloudApiError,
    ResponseError,
    StreamProtocolError,
)

MAX_ID_BYTES = 4096
"""The longest id of an event that is sent back; servers take headers of 8 kB and more."""

_STATUS_WANTED = f"one or several of {', '.join(JobStatus)}"

NO_STREAM = 204
"""The status by which a server ends a stream for good (HTML standard, section 9.2.3)."""


class Jobs:
    """The routes below `/v1/jobs`; `client.jobs`."""

    def __init__(self, session: CloudSession) -> None:
        self._session = session

    def create(
        self, name: str, config: Mapping[str, Any], *, transport: Optional[Transport] = None
    ) -> TrainingJob:
        """Submit a job (`POST /v1/jobs`). It is sent once, but for a client with `retry="all"`.

        Args:
            name: The run's name.
            config: The configuration in wire form, as `build_job_config` returns it. A file of this
                machine, a URL of its loopback and a list of records are for a cloud on this machine
                only. Records are written to a temporary file, which is removed when this process
                ends.
            transport: Sends the request, so that another thread can interrupt it. It is left open.

        Raises:
            ArkorUsageError: An argument cannot work; nothing was sent.
            CloudApiError: The cloud refused it.
            ArkorConnectionError: The request got no answer. The message says so if the job may have
                been created.
            ResponseError: The answer is not a job; the job may have been created.
        """
        is_text = isinstance(name, str) and bool(name.strip())
        check("name", name, is_text, "a string that is not empty")
        check("config", config, isinstance(config, Mapping), "a mapping")
        config = sendable(hide_secrets(config), self._session.find_address)
        body = hide_secrets(json_copy({"name": name, "config": config}, "the job"))
        target = self._session.target("jobs", transport=transport)
        job: TrainingJob = self._session.request(
            "POST",
            target,
            TrainingJob,
            "job",
            body=body,
            transport=transport,
            lost=maybe_created(name),
        )
        return job

    def get(self, job_id: str, *, transport: Optional[Transport] = None) -> TrainingJob:
        """Read a job (`GET /v1/jobs/:id`).

        Args:
            job_id: The job's id.
            transport: Sends the request, so that another thread can interrupt it. It is left open.
        """
        target = self._session.target("jobs", check_id("job_id", job_id), transport=transport)
        job: TrainingJob = self._session.request(
            "GET", target, TrainingJob, "job", transport=transport
        )
        return job

    def list(
        self,
        *,
        status: Union[str, Iterable[str], None] = None,
        name: Optional[str] = None,
    ) -> List[TrainingJob]:
        """Read the project's jobs, in the cloud's order (`GET /v1/jobs`).

        The route has no filter: the cloud sends all jobs of the project, and those that do not fit
        are left out here.

        Args:
            status: Only jobs with this status, or with one of these: `"failed"`, or `["queued",
                "running"]`. See `JobStatus`.
            name: Only jobs with exactly this name.

        Raises:
            ArkorUsageError: An argument cannot work, or `status` is none that this version knows or
                that a job has.
        """
        statuses = None if status is None else _statuses(status)
        check("name", name, name is None or isinstance(name, str), "the name of a job")
        target = self._session.target("jobs")
        jobs: List[TrainingJob] = self._session.request("GET", target, List[TrainingJob], "jobs")
        if statuses is not None:
            unknown = statuses.difference(JobStatus, (job.status for job in jobs))
            if unknown:  # an empty list would hide a typing error
                raise refusal("status", min(unknown), _STATUS_WANTED)
        return [
            job
            for job in jobs
            if (statuses is None or job.status in statuses) and name in (None, job.name)
        ]

    def cancel(self, job_id: str) -> Optional[TrainingJob]:
        """Ask the cloud to stop a job (`POST /v1/jobs/:id/cancel`).

        Args:
            job_id: The job's id.

        Returns:
            The job if the answer holds it, else None. The job may still run: its event stream says
            when it has stopped.

        Raises:
            ConflictError: The job can no longer be cancelled.
        """
        url, auth = self._session.target("jobs", check_id("job_id", job_id), "cancel")
        with (
            self._session.transport() as transport,
            closing(self._session.http.open(transport, "POST", url, auth=auth)) as response,
        ):
            try:
                job: TrainingJob = decode_answer(
                    read_body(response, self._session.http.max_answer_bytes), TrainingJob, "job"
                )
            except (ArkorConnectionError, ResponseError):
                return None  # the cloud has accepted the request, whatever the body is
        return job

    def events(
        self,
        job_id: str,
        *,
        transport: Transport,
        last_event_id: Optional[str] = None,
        timeout: Timeout = (10.0, 45.0),
    ) -> ByteStream:
        """Open a job's event stream (`GET /v1/jobs/:id/events/stream`).

        A run calls it on its reader thread.

        Args:
            job_id: The job's id.
            transport: Sends the request, and is left open. The caller closes the stream.
            last_event_id: The stream continues after this event (`Last-Event-ID`). An id that is
                not `is_sendable_id` is not sent: the stream then starts at the first event.
            timeout: Seconds to connect, and seconds to wait for the next bytes.

        Returns:
            The body, unread.

        Raises:
            CloudApiError: The cloud refused it, or says that the stream has ended (204). A run then
                reads the job's record.
            StreamProtocolError: The answer is not an event stream.
            ArkorConnectionError: The request got no answer.
        """
        headers: Dict[str, Union[str, bytes]] = {"Accept": EVENT_STREAM, **UNBUFFERED}
        if last_event_id is not None and is_sendable_id(last_event_id):
            headers["Last-Event-ID"] = last_event_id.encode("utf-8")
        url, auth = self._session.target(
            "jobs", check_id("job_id", job_id), "events", "stream", transport=transport
        )
        response = self._session.http.open(
            transport, "GET", url, auth=auth, headers=headers, timeout=timeout
        )
        if response.status_code == NO_STREAM:
            response.close()
            ended = "the event stream has ended, as the cloud says"
            raise CloudApiError(NO_STREAM, ended, hint=f"GET {without_query(url)}")
        kind = media_type(response)
        if kind not in ("", EVENT_STREAM):
            response.close()
            if EVENT_STREAM.startswith(kind):  # http.client does not notice that headers are cut
                raise ArkorConnectionError("the connection broke within the answer's headers")
            proxy = transport.proxy_of(url)
            via = f", through the proxy {proxy}" if proxy else ""
            raise StreamProtocolError(
                f"GET {without_query(url)}{via}: expected {EVENT_STREAM}, got {kind[:100]}; "
                "did a proxy or a login page answer?"
            )
        return ByteStream(response, transport)


def is_sendable_id(event_id: str) -> bool:
    """Whether an event's id can be sent in a header and arrives unchanged.

    An empty id, an id with control characters, and one that starts or ends with white space cannot.
    Nor can a long one: servers refuse requests with long headers, and would do so for ever.
    """
    if not event_id or event_id != event_id.strip():
        return False
    if len(event_id.encode("utf-8", "replace")) > MAX_ID_BYTES:
        return False
    return not any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in event_id)


def _statuses(status: Union[str, Iterable[str]]) -> Set[str]:
    given = [status] if isinstance(status, str) else status
    statuses = list(given) if isinstance(given, Iterable) else []
    fits = bool(statuses) and all(isinstance(each, str) for each in statuses)
    check("status", status, fits, _STATUS_WANTED)
    return set(statuses)
