"""Follow Arkor fine-tuning runs from Python programs without an event loop.

Importing this package starts no thread, opens no socket and reads no file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from arkor_sync._version import __version__
from arkor_sync.callbacks import Callback, Callbacks
from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    Context,
    EndContext,
    FailedContext,
    LogContext,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.errors import (
    AnonymousTokenRejectedError,
    ArkorConnectionError,
    ArkorError,
    ArkorTimeoutError,
    ArkorUsageError,
    AuthenticationError,
    BadRequestError,
    CloudApiError,
    ConflictError,
    CredentialsError,
    CursorStoreError,
    ForkedRunError,
    GoneError,
    LeaseHeldError,
    NotFoundError,
    PermissionDeniedError,
    ProjectStateError,
    ProjectStateMismatchError,
    RateLimitError,
    ReconnectExhausted,
    ReplayUnavailable,
    ResponseError,
    RunAborted,
    RunError,
    ServerError,
    StreamProtocolError,
    TrainingCancelledError,
    TrainingError,
    TrainingFailedError,
    UnprocessableEntityError,
    UpgradeRequiredError,
    WaitTimeout,
)
from arkor_sync.history import History
from arkor_sync.result import Metrics, RunHealth, TrainingResult
from arkor_sync.run import Run
from arkor_sync.stores import CursorStore, FileCursorStore, SavedCursor
from arkor_sync.stream.error_policy import (
    Action,
    Decision,
    ErrorPolicy,
    Failure,
    Redeliver,
    Rule,
    Skip,
    StopTraining,
)
from arkor_sync.stream.events import TrainingEvent
from arkor_sync.stream.reconnect import ReconnectPolicy
from arkor_sync.trainer import Trainer, create_trainer, follow

if TYPE_CHECKING:
    from arkor_sync.cloud.chat import ChatResponse
    from arkor_sync.cloud.client import CloudApiClient
    from arkor_sync.cloud.credentials import (
        AnonymousCredentials,
        OAuthCredentials,
        TokenCredentials,
    )
    from arkor_sync.cloud.models import (
        SUPPORTED_MODELS,
        BlobDataset,
        HuggingFaceDataset,
        JobStatus,
        LoraConfig,
        Ratio,
        Steps,
        TrainingJob,
    )
    from arkor_sync.cloud.project import ProjectState

# The cloud's side is loaded by the first name of it that is asked for: it is half of the package.
_LATER = {
    "ChatResponse": "cloud.chat",
    "CloudApiClient": "cloud.client",
    "AnonymousCredentials": "cloud.credentials",
    "OAuthCredentials": "cloud.credentials",
    "TokenCredentials": "cloud.credentials",
    "SUPPORTED_MODELS": "cloud.models",
    "BlobDataset": "cloud.models",
    "HuggingFaceDataset": "cloud.models",
    "JobStatus": "cloud.models",
    "LoraConfig": "cloud.models",
    "Ratio": "cloud.models",
    "Steps": "cloud.models",
    "TrainingJob": "cloud.models",
    "ProjectState": "cloud.project",
}

__all__ = [
    "__version__",
    # what to train, and following it
    "create_trainer",
    "follow",
    "Trainer",
    "Run",
    "RunHealth",
    "History",
    "TrainingResult",
    "Metrics",
    "SUPPORTED_MODELS",
    "HuggingFaceDataset",
    "BlobDataset",
    "LoraConfig",
    "Steps",
    "Ratio",
    # callbacks
    "Callbacks",
    "Callback",
    "Context",
    "StartedContext",
    "LogContext",
    "CheckpointContext",
    "CompletedContext",
    "FailedContext",
    "CancelledContext",
    "ReconnectContext",
    "EndContext",
    "ChatResponse",
    "TrainingEvent",
    # what happens on errors
    "ErrorPolicy",
    "Action",
    "Rule",
    "Failure",
    "Decision",
    "Skip",
    "Redeliver",
    "StopTraining",
    "ReconnectPolicy",
    # carrying on in another process
    "CursorStore",
    "FileCursorStore",
    "SavedCursor",
    # the cloud
    "CloudApiClient",
    "AnonymousCredentials",
    "OAuthCredentials",
    "TokenCredentials",
    "ProjectState",
    "TrainingJob",
    "JobStatus",
    # errors
    "ArkorError",
    "ArkorUsageError",
    "CredentialsError",
    "AnonymousTokenRejectedError",
    "ProjectStateError",
    "ProjectStateMismatchError",
    "ArkorConnectionError",
    "ArkorTimeoutError",
    "CloudApiError",
    "BadRequestError",
    "AuthenticationError",
    "PermissionDeniedError",
    "NotFoundError",
    "ConflictError",
    "GoneError",
    "ReplayUnavailable",
    "UnprocessableEntityError",
    "UpgradeRequiredError",
    "RateLimitError",
    "ServerError",
    "ResponseError",
    "StreamProtocolError",
    "RunError",
    "RunAborted",
    "WaitTimeout",
    "ReconnectExhausted",
    "ForkedRunError",
    "CursorStoreError",
    "LeaseHeldError",
    "TrainingError",
    "TrainingFailedError",
    "TrainingCancelledError",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_LATER})
