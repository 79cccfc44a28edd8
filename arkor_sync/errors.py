"""The exception tree. Pure: it holds no I/O and no threads, and every exception survives pickling.

`ArkorError` is the root. Its branches say whose fault it was:

* `ArkorUsageError`: the program's (an argument that cannot work).
* `CredentialsError`, `ProjectStateError`: the files on this machine.
* `ArkorConnectionError`: the network's. It is also a `requests.RequestException`.
* `CloudApiError`: the cloud said no, with one subclass for each status worth catching.
* `ResponseError`, `StreamProtocolError`: the cloud said something that cannot be understood.
* `RunError`: the run ended, or stopped being followed, without a result.
* `TrainingError`: the training itself failed or was cancelled; only `raise_for_status()` raises it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Protocol, Tuple, Type

from requests import RequestException, Timeout


class ArkorError(Exception):
    """Root of everything that this package raises on purpose."""

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: Type[ArkorError], args: Tuple[Any, ...], state: Dict[str, Any]) -> ArkorError:
    """Unpickle without calling a constructor, whose arguments may differ from `args`."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ArkorUsageError(ArkorError, ValueError):
    """An argument cannot work. The message names it, shows what was given and what would do."""


class CredentialsError(ArkorError):
    """The credentials file cannot be used and was left as it is, or the account must sign in."""


class AnonymousTokenRejectedError(CredentialsError):
    """The cloud refused to issue an anonymous token (`POST /v1/auth/anonymous`).

    Attributes:
        status: The HTTP status.
        body: At most the first 500 characters of the response body.
    """

    def __init__(self, status: int, body: str) -> None:
        self.status = status
        self.body = body[:500]
        detail = f": {self.body}" if self.body else ""
        super().__init__(f"the cloud refused an anonymous token with status {status}{detail}")


class ProjectStateError(ArkorError):
    """No project scope for the run: `.arkor/state.json` is missing and cannot be created."""


class ProjectStateMismatchError(ProjectStateError):
    """`.arkor/state.json` belongs to another anonymous organisation. It was left as it is."""


class ArkorConnectionError(ArkorError, RequestException):
    """A request did not get its answer: refused, reset, cut, not resolved, or aborted.

    Attributes:
        sent: Whether the server may have got the request, and obeyed it.
    """

    sent = True


class ArkorTimeoutError(ArkorConnectionError, Timeout):
    """The connection was not made, or the server stayed silent, for longer than the timeout."""


class ResponseError(ArkorError):
    """A successful response does not have the documented shape."""


class StreamProtocolError(ArkorError):
    """The event stream is not one: a wrong content type, or an event over the limit."""


class CloudApiError(ArkorError):
    """The cloud answered with a status that is not a success.

    Attributes:
        status: The HTTP status.
        message: The `error` field of the JSON body, else the body's text, else a generic text.
        code: The `code` field of the JSON body, or `None`.
        body: The response body as text, cut to 2,000 characters.
        retry_after: Seconds from the `Retry-After` header, or `None`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: Optional[str] = None,
        body: str = "",
        retry_after: Optional[float] = None,
    ) -> None:
        self.status = status
        self.message = message
        self.code = code
        self.body = body[:2000]
        self.retry_after = retry_after
        super().__init__(f"{status}: {message}")

    @classmethod
    def for_status(
        cls,
        status: int,
        message: str,
        code: Optional[str] = None,
        body: str = "",
        retry_after: Optional[float] = None,
    ) -> CloudApiError:
        """Build the subclass that belongs to `status`."""
        chosen = _BY_STATUS.get(status, ServerError if status >= 500 else CloudApiError)
        return chosen(status, message, code, body, retry_after)


class BadRequestError(CloudApiError):
    """400: the request was not valid."""


class AuthenticationError(CloudApiError):
    """401: the token is missing, expired or revoked."""


class PermissionDeniedError(CloudApiError):
    """403: the token is valid, but not for this organisation or project."""


class NotFoundError(CloudApiError):
    """404: not there, or not in this scope."""


class ConflictError(CloudApiError):
    """409: the slug is taken, or the job is past cancelling."""


class GoneError(CloudApiError):
    """410: the job's event stream is gone for good."""


class ReplayUnavailable(GoneError):
    """The stream cannot be resumed, and events may have been missed.

    The cloud no longer keeps the events after the last one delivered, and the job still runs.
    """


class UnprocessableEntityError(CloudApiError):
    """422: the request was understood, and refused."""


class UpgradeRequiredError(CloudApiError):
    """426: the cloud no longer accepts this client version."""


class RateLimitError(CloudApiError):
    """429: too many requests. `retry_after` says how long to wait, where the cloud said it."""


class ServerError(CloudApiError):
    """5xx: the cloud failed."""


_BY_STATUS: Dict[int, Type[CloudApiError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: UnprocessableEntityError,
    426: UpgradeRequiredError,
    429: RateLimitError,
}


class RunError(ArkorError):
    """The run is no longer followed, and there is no result. The cloud's job may well go on."""


class RunAborted(RunError):
    """`abort()`, `close()` or the abort event stopped the run.

    Attributes:
        reason: What was given to `abort()`, or `None`.
        callback: The callback that was still running when the grace period ended, or `None`.
        stack: That callback's stack at that moment, as text, or `None`.
    """

    def __init__(
        self,
        message: str,
        reason: object = None,
        callback: Optional[str] = None,
        stack: Optional[str] = None,
    ) -> None:
        self.reason = reason
        self.callback = callback
        self.stack = stack
        super().__init__(f"{message}\n{stack}" if stack else message)


class WaitTimeout(RunError, TimeoutError):
    """`wait(timeout)` ran out of time. The run goes on; wait again, or abort it."""


class ReconnectExhausted(RunError):
    """The stream could not be kept open: `ReconnectPolicy.max_attempts` was passed.

    Attributes:
        attempts: Consecutive failures. `__cause__` is the last one.
    """

    def __init__(self, message: str, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(message)


class CursorStoreError(RunError):
    """The position in the stream, or the callbacks' state, cannot be kept or read."""


class LeaseHeldError(RunError):
    """Another process, or another run of this one, follows the job with the same cursor store."""


class ForkedRunError(RunError):
    """The run belongs to the parent process; its threads do not exist in this one."""


class EndedJob(Protocol):
    """What an error tells of the job that ended; it is the `TrainingJob`."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def name(self) -> str:
        """The job's name."""

    @property
    def status(self) -> str:
        """`failed` or `cancelled`."""

    @property
    def error(self) -> Optional[str]:
        """Why it failed, in the cloud's words."""


class TrainingError(ArkorError):
    """The training did not complete. Raised by `TrainingResult.raise_for_status()`.

    Attributes:
        job: The job as the cloud last described it.
    """

    def __init__(self, message: str, job: EndedJob) -> None:
        self.job = job
        super().__init__(message)


class TrainingFailedError(TrainingError):
    """The job's status is `failed`."""


class TrainingCancelledError(TrainingError):
    """The job's status is `cancelled`."""


def still_runs(job_id: str) -> str:
    """Say of a job that nobody follows any more how to get back to it."""
    return f"job {job_id} goes on; follow({job_id!r}) attaches to it again"


def add_note(error: BaseException, note: str) -> None:
    """Attach a line that the traceback prints (Python 3.11 and up) without wrapping the error."""
    untyped: Any = error
    if hasattr(untyped, "add_note"):
        untyped.add_note(note)
    else:
        untyped.__notes__ = [*getattr(untyped, "__notes__", ()), note]
