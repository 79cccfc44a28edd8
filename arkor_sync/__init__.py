"""Follow Arkor fine-tuning runs from Python programs without an event loop. Any thread.

Each name is imported from its module when it is first used, so importing this package is fast: it
loads no other module, starts no thread, opens no socket and reads no file.
"""

TYPE_CHECKING = False  # type checkers know the name; importing typing would take longer than all

# The names are listed twice: here for type checkers, and below for the interpreter. A test compares
# the lists.
if TYPE_CHECKING:
    from arkor_sync._follow import follow as follow
    from arkor_sync._submission_row import Submission as Submission
    from arkor_sync._version import __version__ as __version__
    from arkor_sync.cloud.chat import ChatResponse as ChatResponse
    from arkor_sync.cloud.chat_types import ChatMessage as ChatMessage
    from arkor_sync.cloud.chat_types import ResponseFormat as ResponseFormat
    from arkor_sync.cloud.chat_types import StructuredOutputs as StructuredOutputs
    from arkor_sync.cloud.chat_types import ToolCall as ToolCall
    from arkor_sync.cloud.chat_types import ToolDefinition as ToolDefinition
    from arkor_sync.cloud.chat_types import Usage as Usage
    from arkor_sync.cloud.client import CloudApiClient as CloudApiClient
    from arkor_sync.cloud.client_version import DeprecationNotice as DeprecationNotice
    from arkor_sync.cloud.client_version import latest_deprecation as latest_deprecation
    from arkor_sync.cloud.credentials import AnonymousCredentials as AnonymousCredentials
    from arkor_sync.cloud.credentials import OAuthCredentials as OAuthCredentials
    from arkor_sync.cloud.credentials import TokenCredentials as TokenCredentials
    from arkor_sync.cloud.credentials import credentials_path as credentials_path
    from arkor_sync.cloud.credentials import read_credentials as read_credentials
    from arkor_sync.cloud.credentials import write_credentials as write_credentials
    from arkor_sync.cloud.deployment_models import AdapterTarget as AdapterTarget
    from arkor_sync.cloud.deployment_models import AuthMode as AuthMode
    from arkor_sync.cloud.deployment_models import BaseModelTarget as BaseModelTarget
    from arkor_sync.cloud.deployment_models import Deployment as Deployment
    from arkor_sync.cloud.deployment_models import DeploymentKey as DeploymentKey
    from arkor_sync.cloud.deployment_models import DeploymentTarget as DeploymentTarget
    from arkor_sync.cloud.deployment_models import IssuedKey as IssuedKey
    from arkor_sync.cloud.deployment_models import UnknownTarget as UnknownTarget
    from arkor_sync.cloud.endpoint import ChatEndpoint as ChatEndpoint
    from arkor_sync.cloud.models import SUPPORTED_MODELS as SUPPORTED_MODELS
    from arkor_sync.cloud.models import BlobDataset as BlobDataset
    from arkor_sync.cloud.models import DatasetSplit as DatasetSplit
    from arkor_sync.cloud.models import HuggingFaceDataset as HuggingFaceDataset
    from arkor_sync.cloud.models import JobStatus as JobStatus
    from arkor_sync.cloud.models import LoraConfig as LoraConfig
    from arkor_sync.cloud.models import Me as Me
    from arkor_sync.cloud.models import Org as Org
    from arkor_sync.cloud.models import Project as Project
    from arkor_sync.cloud.models import Ratio as Ratio
    from arkor_sync.cloud.models import Steps as Steps
    from arkor_sync.cloud.models import TrainingJob as TrainingJob
    from arkor_sync.cloud.project import ProjectState as ProjectState
    from arkor_sync.cloud.project import project_state_path as project_state_path
    from arkor_sync.cloud.project import read_project_state as read_project_state
    from arkor_sync.cloud.project import write_project_state as write_project_state
    from arkor_sync.cloud.tool_loop import ToolConversation as ToolConversation
    from arkor_sync.cloud.tool_loop import run_tools as run_tools
    from arkor_sync.comparison import Comparison as Comparison
    from arkor_sync.contexts import Callback as Callback
    from arkor_sync.contexts import Callbacks as Callbacks
    from arkor_sync.contexts import CancelledContext as CancelledContext
    from arkor_sync.contexts import CheckpointContext as CheckpointContext
    from arkor_sync.contexts import CompletedContext as CompletedContext
    from arkor_sync.contexts import Context as Context
    from arkor_sync.contexts import EndContext as EndContext
    from arkor_sync.contexts import FailedContext as FailedContext
    from arkor_sync.contexts import LogContext as LogContext
    from arkor_sync.contexts import ReconnectContext as ReconnectContext
    from arkor_sync.contexts import StartedContext as StartedContext
    from arkor_sync.errors import AnonymousTokenRejectedError as AnonymousTokenRejectedError
    from arkor_sync.errors import ArkorConnectionError as ArkorConnectionError
    from arkor_sync.errors import ArkorError as ArkorError
    from arkor_sync.errors import ArkorTimeoutError as ArkorTimeoutError
    from arkor_sync.errors import ArkorUsageError as ArkorUsageError
    from arkor_sync.errors import AuthenticationError as AuthenticationError
    from arkor_sync.errors import BadRequestError as BadRequestError
    from arkor_sync.errors import CloudApiError as CloudApiError
    from arkor_sync.errors import ConflictError as ConflictError
    from arkor_sync.errors import CredentialsError as CredentialsError
    from arkor_sync.errors import CursorStoreError as CursorStoreError
    from arkor_sync.errors import ForkedRunError as ForkedRunError
    from arkor_sync.errors import GoneError as GoneError
    from arkor_sync.errors import LeaseHeldError as LeaseHeldError
    from arkor_sync.errors import LeaseLostError as LeaseLostError
    from arkor_sync.errors import NotFoundError as NotFoundError
    from arkor_sync.errors import PermissionDeniedError as PermissionDeniedError
    from arkor_sync.errors import ProjectStateError as ProjectStateError
    from arkor_sync.errors import ProjectStateMismatchError as ProjectStateMismatchError
    from arkor_sync.errors import RateLimitError as RateLimitError
    from arkor_sync.errors import ReconnectExhausted as ReconnectExhausted
    from arkor_sync.errors import ReplayUnavailable as ReplayUnavailable
    from arkor_sync.errors import ResponseError as ResponseError
    from arkor_sync.errors import RunAborted as RunAborted
    from arkor_sync.errors import RunError as RunError
    from arkor_sync.errors import ServerError as ServerError
    from arkor_sync.errors import SignInTimeout as SignInTimeout
    from arkor_sync.errors import StoreUnavailableError as StoreUnavailableError
    from arkor_sync.errors import StreamProtocolError as StreamProtocolError
    from arkor_sync.errors import SubmissionUnknownError as SubmissionUnknownError
    from arkor_sync.errors import ToolRoundsExhausted as ToolRoundsExhausted
    from arkor_sync.errors import TrainingCancelledError as TrainingCancelledError
    from arkor_sync.errors import TrainingError as TrainingError
    from arkor_sync.errors import TrainingFailedError as TrainingFailedError
    from arkor_sync.errors import UnprocessableEntityError as UnprocessableEntityError
    from arkor_sync.errors import UpgradeRequiredError as UpgradeRequiredError
    from arkor_sync.errors import WaitTimeout as WaitTimeout
    from arkor_sync.follower import Follower as Follower
    from arkor_sync.history import Best as Best
    from arkor_sync.history import History as History
    from arkor_sync.manifest import Arkor as Arkor
    from arkor_sync.manifest import create_arkor as create_arkor
    from arkor_sync.manifest import load_project as load_project
    from arkor_sync.rehearsal import Rehearsal as Rehearsal
    from arkor_sync.result import Artifact as Artifact
    from arkor_sync.result import Metrics as Metrics
    from arkor_sync.result import RunHealth as RunHealth
    from arkor_sync.result import TrainingResult as TrainingResult
    from arkor_sync.run import Run as Run
    from arkor_sync.signals import exit_on as exit_on
    from arkor_sync.stores import CursorStore as CursorStore
    from arkor_sync.stores import FileCursorStore as FileCursorStore
    from arkor_sync.stores import SavedCursor as SavedCursor
    from arkor_sync.stores.redis import RedisCursorStore as RedisCursorStore
    from arkor_sync.stores.sql import SQLCursorStore as SQLCursorStore
    from arkor_sync.stream.error_policy import Action as Action
    from arkor_sync.stream.error_policy import Decision as Decision
    from arkor_sync.stream.error_policy import ErrorPolicy as ErrorPolicy
    from arkor_sync.stream.error_policy import Failure as Failure
    from arkor_sync.stream.error_policy import Redeliver as Redeliver
    from arkor_sync.stream.error_policy import Rule as Rule
    from arkor_sync.stream.error_policy import Skip as Skip
    from arkor_sync.stream.error_policy import StopTraining as StopTraining
    from arkor_sync.stream.events import TrainingEvent as TrainingEvent
    from arkor_sync.stream.reconnect import ReconnectPolicy as ReconnectPolicy
    from arkor_sync.submitting import recover_submissions as recover_submissions
    from arkor_sync.submitting import settle_submission as settle_submission
    from arkor_sync.submitting import submit as submit
    from arkor_sync.trainer import Trainer as Trainer
    from arkor_sync.trainer import create_trainer as create_trainer
else:
    _MODULES = {
        "_version": "__version__",
        "trainer": "create_trainer Trainer",
        "_follow": "follow",
        "rehearsal": "Rehearsal",
        "_submission_row": "Submission",
        "submitting": "submit recover_submissions settle_submission",
        "follower": "Follower",
        "manifest": "Arkor create_arkor load_project",
        "run": "Run",
        "result": "RunHealth TrainingResult Metrics Artifact",
        "history": "History Best",
        "comparison": "Comparison",
        "signals": "exit_on",
        "cloud.models": (
            "SUPPORTED_MODELS HuggingFaceDataset BlobDataset DatasetSplit LoraConfig Steps Ratio "
            "TrainingJob JobStatus Project Org Me"
        ),
        "contexts": (
            "Callbacks Callback Context StartedContext LogContext CheckpointContext "
            "CompletedContext FailedContext CancelledContext ReconnectContext EndContext"
        ),
        "cloud.chat": "ChatResponse",
        "cloud.chat_types": (
            "ChatMessage ToolCall ToolDefinition ResponseFormat StructuredOutputs Usage"
        ),
        "cloud.endpoint": "ChatEndpoint",
        "cloud.tool_loop": "run_tools ToolConversation",
        "stream.events": "TrainingEvent",
        "stream.error_policy": (
            "ErrorPolicy Action Rule Failure Decision Skip Redeliver StopTraining"
        ),
        "stream.reconnect": "ReconnectPolicy",
        "stores": "CursorStore FileCursorStore SavedCursor",
        "stores.redis": "RedisCursorStore",
        "stores.sql": "SQLCursorStore",
        "cloud.client": "CloudApiClient",
        "cloud.deployment_models": (
            "AuthMode Deployment DeploymentKey DeploymentTarget AdapterTarget BaseModelTarget "
            "UnknownTarget IssuedKey"
        ),
        "cloud.credentials": (
            "AnonymousCredentials OAuthCredentials TokenCredentials credentials_path "
            "read_credentials write_credentials"
        ),
        "cloud.project": "ProjectState project_state_path read_project_state write_project_state",
        "cloud.client_version": "DeprecationNotice latest_deprecation",
        "errors": (
            "ArkorError ArkorUsageError CredentialsError SignInTimeout "
            "AnonymousTokenRejectedError "
            "ProjectStateError ProjectStateMismatchError ArkorConnectionError ArkorTimeoutError "
            "CloudApiError BadRequestError AuthenticationError PermissionDeniedError "
            "NotFoundError ConflictError GoneError ReplayUnavailable UnprocessableEntityError "
            "UpgradeRequiredError RateLimitError ServerError ResponseError ToolRoundsExhausted "
            "StreamProtocolError "
            "RunError RunAborted WaitTimeout ReconnectExhausted ForkedRunError CursorStoreError "
            "StoreUnavailableError LeaseHeldError LeaseLostError SubmissionUnknownError "
            "TrainingError TrainingFailedError TrainingCancelledError"
        ),
    }
    _MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

    __all__ = list(_MODULE_OF)

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
            globals()[name] = value
            return value
        if not name.startswith("_"):
            module = f"{__name__}.{name}"  # such as arkor_sync.errors
            try:
                return import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hint(name)}")

    def _hint(name: str) -> str:
        import difflib  # here: only a misspelt name needs it

        near = difflib.get_close_matches(name, __all__, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""

    def __dir__() -> list:
        return sorted({*globals(), *__all__})
