"""The exception tree. Pure.

Every exception survives pickling. `ArkorError` is the root; its branches say where the cause is:

* `ArkorUsageError`: in the calling program (an argument that cannot work).
* `CredentialsError`, `ProjectStateError`: in the files on this machine.
* `ArkorConnectionError`: in the network. It is also a `requests.RequestException`.
* `CloudApiError`: the cloud refused the request; there is a subclass for each common status.
* `ResponseError`, `StreamProtocolError`: the cloud's answer is not as documented.
* `RunError`: the run is no longer followed, and there is no result.
* `TrainingError`: the training itself failed or was cancelled; only `raise_for_status()` raises it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple, Type

from requests import RequestException, Timeout


class ArkorError(Exception):
    """Root of all exceptions that this package defines."""

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: Type[ArkorError], args: Tuple[Any, ...], state: Dict[str, Any]) -> ArkorError:
    """Unpickle without a call of the constructor: its arguments may differ from `args`."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ArkorUsageError(ArkorError, ValueError):
    """An argument cannot work, or a method cannot be called at this point.

    For an argument the message is `<name>: got <value>; give <what would work>`.
    """


class CredentialsError(ArkorError):
    """The credentials file cannot be used (it is not changed), or the account must sign in."""


class SignInTimeout(CredentialsError, TimeoutError):
    """The user did not finish the sign-in in the browser in time. Nothing was changed."""


class AnonymousTokenRejectedError(CredentialsError):
    """The cloud refused to issue an anonymous token (`POST /v1/auth/anonymous`).

    Attributes:
        status: The HTTP status.
        body: At most the first 500 characters of the response body.
        hint: What this package knows of the request.
    """

    def __init__(self, status: int, body: str, hint: str = "") -> None:
        self.status = status
        self.body = body[:500]
        self.hint = hint
        detail = f": {self.body}" if self.body else ""
        where = f" ({hint}); sign in, or set ARKOR_TOKEN" if hint else ""
        super().__init__(
            f"the cloud refused an anonymous token with status {status}{detail}{where}"
        )


class ProjectStateError(ArkorError):
    """There is no project for the request: see `arkor_sync.project.ensure_project_state`."""


class ProjectStateMismatchError(ProjectStateError):
    """`ARKOR_ORG` or `.arkor/state.json` names another anonymous organisation's project."""


class ArkorConnectionError(ArkorError, RequestException):
    """A request got no answer, or not all of it: the connection failed, broke or was aborted.

    Attributes:
        sent: Whether the server may have received the request, and acted on it.
    """

    sent = True


class ArkorTimeoutError(ArkorConnectionError, Timeout):
    """Connecting, or the answer, or the next piece of a stream took longer than the timeout."""


class ResponseError(ArkorError):
    """A successful response does not have the documented shape."""


class ToolRoundsExhausted(ArkorError):
    """`run_tools` had no answer of the model after `max_rounds` rounds.

    Attributes:
        rounds: How many rounds there were.
        messages: The conversation so far, with the result of each call: `run_tools` can go on
            with it.
    """

    def __init__(self, rounds: int, messages: List[Any]) -> None:
        self.rounds = rounds
        self.messages = messages
        super().__init__(
            f"the model still called tools in round {rounds}, the last of max_rounds, and has no "
            "answer; `messages` of this error is the conversation so far"
        )


class StreamProtocolError(ArkorError):
    """The event stream has a wrong content type, or an event that is larger than the limit."""


class CloudApiError(ArkorError):
    """The cloud answered with a status that is not a success.

    Attributes:
        status: The HTTP status.
        message: The `error` field of the JSON body; without one, the body's text; without any, a
            generic text. It is on one line, has at most 500 characters and no control characters.
        code: The `code` field of the JSON body, or `None`.
        body: The response body as text, cut to 2,000 characters.
        retry_after: Seconds from the `Retry-After` header, or `None`.
        hint: What this package knows of the request: the route and the project, and with a 401
            where the token was found. It stands in parentheses at the end of the error's text.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: Optional[str] = None,
        body: str = "",
        retry_after: Optional[float] = None,
        hint: str = "",
    ) -> None:
        self.status = status
        self.message = message
        self.code = code
        self.body = body[:2000]
        self.retry_after = retry_after
        self.hint = hint
        super().__init__(f"{status}: {message}{hint and f' ({hint})'}")

    @classmethod
    def for_status(
        cls,
        status: int,
        message: str,
        code: Optional[str] = None,
        body: str = "",
        retry_after: Optional[float] = None,
        hint: str = "",
    ) -> CloudApiError:
        """Build the subclass that belongs to `status`."""
        chosen = _BY_STATUS.get(status, ServerError if status >= 500 else CloudApiError)
        return chosen(status, message, code, body, retry_after, hint)


class BadRequestError(CloudApiError):
    """400: the request was not valid."""


class AuthenticationError(CloudApiError):
    """401: the token is missing, expired or revoked."""


class PermissionDeniedError(CloudApiError):
    """403: the token is valid, but not for this organisation or project."""


class NotFoundError(CloudApiError):
    """404: it does not exist, or not in this project."""


class ConflictError(CloudApiError):
    """409: the slug is taken, or the job can no longer be cancelled."""


class GoneError(CloudApiError):
    """410: the job's event stream no longer exists."""


class ReplayUnavailable(GoneError):
    """The stream cannot be resumed, and events may have been missed.

    The cloud no longer has the events after the last one delivered. The job still runs.
    """


class UnprocessableEntityError(CloudApiError):
    """422: the request was understood, and refused."""


class UpgradeRequiredError(CloudApiError):
    """426: the cloud no longer accepts this client version."""


class RateLimitError(CloudApiError):
    """429: too many requests. `retry_after` is how long the cloud asks to wait, if it says so."""


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
    """The run is no longer followed, and there is no result. The cloud's job may continue."""


class RunAborted(RunError):
    """`abort()`, `close()` or the abort event stopped the run.

    Attributes:
        reason: What was given to `abort()`, or the exception that left the `with` of the run,
            or `None`.
        callback: The callback that was still running when the grace period ended, or `None`.
        stack: The stack of that callback at that moment, as text, or `None`.
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


HANDED_OVER = "it is handed over to another process"
"""`RunAborted.reason` of a run that a `Follower` gives back: another process goes on with it."""


class WaitTimeout(RunError, TimeoutError):
    """The timeout of `wait(timeout)` has passed. The run continues; wait again, or abort it.

    The text says what the run is doing: the state of its stream, and the callback that is running.
    """


class ReconnectExhausted(RunError):
    """The stream could not be opened again in `ReconnectPolicy.max_attempts` attempts.

    Attributes:
        attempts: How many attempts failed in a row. `__cause__` is the last failure.
    """

    def __init__(self, message: str, attempts: int) -> None:
        self.attempts = attempts
        super().__init__(message)


class CursorStoreError(RunError):
    """The position in the stream, or the callbacks' state, cannot be saved or read."""


class LeaseHeldError(RunError):
    """Another process, or another run of this one, follows the job with the same cursor store."""


class LeaseLostError(RunError):
    """The lease on a job has ended, or another process has it: this run may not go on.

    Nothing that its callbacks did after that is saved. The job goes on, and whoever has the lease
    follows it from the last saved position.
    """


class StoreUnavailableError(CursorStoreError):
    """The store's server cannot be reached now, or has refused for a moment. It may be tried again.

    Nothing was changed, or it is not known whether it was.
    """


class SubmissionUnknownError(ArkorError):
    """It is not known whether a job exists that was submitted with this key.

    It is not submitted again by itself. Look for a job with this name, and call
    `settle_submission(store, key, job_id)`; or without `job_id` if there is none.

    Attributes:
        key: The key.
        name: The job's name, as it was sent.
    """

    def __init__(self, message: str, key: str, name: str) -> None:
        self.key = key
        self.name = name
        super().__init__(message)


class ForkedRunError(RunError):
    """The run belongs to the parent process; its threads do not exist in this one."""


class EndedJob(Protocol):
    """The type of the `TrainingJob` in a `TrainingError`, which documents the attributes.

    It is written out here because this module imports nothing from the package.
    """

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def org_id(self) -> str: ...  # noqa: D102
    @property
    def project_id(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def status(self) -> str: ...  # noqa: D102
    @property
    def config(self) -> Dict[str, Any]: ...  # noqa: D102
    @property
    def created_at(self) -> str: ...  # noqa: D102
    @property
    def error(self) -> Optional[str]: ...  # noqa: D102
    @property
    def started_at(self) -> Optional[str]: ...  # noqa: D102
    @property
    def completed_at(self) -> Optional[str]: ...  # noqa: D102
    @property
    def extra(self) -> Dict[str, Any]: ...  # noqa: D102
    @property
    def is_terminal(self) -> bool: ...  # noqa: D102
    def to_dict(self) -> Dict[str, Any]: ...  # noqa: D102


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
    """Say, for an error message, that the cloud's job continues, and how to follow it again."""
    return f"job {job_id} goes on; follow({job_id!r}) attaches to it again"


def text_of(value: object, form: Callable[[object], str] = str) -> str:
    """Return `str(value)`, or another form of it. If that raises, as its own method may, say so.

    Every text of an exception that code of the program has raised is made here.
    """
    try:
        return form(value)
    except Exception as error:
        return f"(a {type(value).__name__} whose text cannot be made: {type(error).__name__})"


def add_note(error: BaseException, note: str) -> None:
    """Attach a line to an error, as `add_note` does. Python 3.11 and later print it.

    An error that takes no attributes, such as a frozen dataclass, stays without it.
    """
    untyped: Any = error
    try:
        if hasattr(untyped, "add_note"):
            untyped.add_note(note)
        else:
            untyped.__notes__ = [*getattr(untyped, "__notes__", ()), note]
    except Exception:
        return
