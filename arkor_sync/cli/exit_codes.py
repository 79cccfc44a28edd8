"""The exit codes of the command line. Pure."""

from __future__ import annotations

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended. A shell sees the number."""

    COMPLETED = 0
    """It did its work; a job that it followed has completed."""

    FAILED = 1
    """The job failed, a callback raised an error, or the command could not do its work."""

    USAGE = 2
    """An argument, a file or a setting cannot work. Nothing was sent or changed."""

    CANCELLED = 3
    """The job was cancelled, also by its own callback, as `EarlyStopping` does."""

    SIGN_IN = 4
    """There are no usable credentials, or the cloud does not accept them."""

    TIMEOUT = 5
    """The time that `--timeout` allows has passed. The job goes on."""

    CLOUD = 6
    """The cloud cannot be reached, or refused the request."""

    HUNG_UP = 129
    """SIGHUP: the terminal was closed. As with SIGTERM, a job goes on."""

    INTERRUPTED = 130
    """Ctrl-C. A job goes on unless you asked to cancel it."""

    OUTPUT_CLOSED = 141
    """Who read the output has gone, as in `| head`. A job goes on."""

    TERMINATED = 143
    """SIGTERM. The callback that was running has ended, and a job goes on."""


ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that end a command, besides that of Ctrl-C; Windows has no SIGHUP."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an exception that ended a command."""
    from arkor_sync import errors  # imports requests

    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    for kinds, code in (
        ((errors.TrainingCancelledError,), ExitCode.CANCELLED),
        ((errors.SignInTimeout,), ExitCode.TIMEOUT),
        ((errors.CredentialsError, errors.AuthenticationError), ExitCode.SIGN_IN),
        ((errors.WaitTimeout,), ExitCode.TIMEOUT),
        (
            (
                errors.ArkorConnectionError,
                errors.CloudApiError,
                errors.ResponseError,
                errors.StreamProtocolError,
                errors.ReconnectExhausted,
            ),
            ExitCode.CLOUD,
        ),
        ((errors.ArkorUsageError, errors.ProjectStateError), ExitCode.USAGE),
    ):
        if isinstance(error, kinds):
            return code
    return ExitCode.FAILED
