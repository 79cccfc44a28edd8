"""Ready-made callbacks. Nothing here is loaded before its name is asked for.

Each is a `Callback`: give it to `create_trainer` or `follow`, alone or in a list with your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from arkor_sync.handlers._answers import EvaluationRow
    from arkor_sync.handlers._logger import MetricsLogger
    from arkor_sync.handlers._notification import Notification, Sample
    from arkor_sync.handlers._notifier import Notifier
    from arkor_sync.handlers.apprise import AppriseNotifier
    from arkor_sync.handlers.database import DatabaseLogger
    from arkor_sync.handlers.datadog import DatadogEvents
    from arkor_sync.handlers.discord import DiscordNotifier
    from arkor_sync.handlers.evaluator import CheckpointEvaluator
    from arkor_sync.handlers.files import CSVLogger, JSONLLogger
    from arkor_sync.handlers.mlflow import MLflowLogger
    from arkor_sync.handlers.opentelemetry import OpenTelemetryMetrics
    from arkor_sync.handlers.plot import LossPlot
    from arkor_sync.handlers.posthog import PostHogCapture
    from arkor_sync.handlers.progress import ProgressBar
    from arkor_sync.handlers.report import HtmlReport, write_report
    from arkor_sync.handlers.slack import SlackNotifier
    from arkor_sync.handlers.stopping import EarlyStopping, EarlyStoppingReason, TerminateOnNaN
    from arkor_sync.handlers.teams import TeamsNotifier
    from arkor_sync.handlers.tensorboard import TensorBoardLogger
    from arkor_sync.handlers.timer import Timer
    from arkor_sync.handlers.wandb import WandbLogger
    from arkor_sync.handlers.webhook import WebhookNotifier

# The module of this package that has each name.
_LATER: Dict[str, str] = {
    "HtmlReport": "report",
    "LossPlot": "plot",
    "ProgressBar": "progress",
    "write_report": "report",
    "AppriseNotifier": "apprise",
    "DiscordNotifier": "discord",
    "Notification": "_notification",
    "Notifier": "_notifier",
    "Sample": "_notification",
    "SlackNotifier": "slack",
    "TeamsNotifier": "teams",
    "WebhookNotifier": "webhook",
    "CheckpointEvaluator": "evaluator",
    "EarlyStopping": "stopping",
    "EarlyStoppingReason": "stopping",
    "EvaluationRow": "_answers",
    "TerminateOnNaN": "stopping",
    "Timer": "timer",
    "MetricsLogger": "_logger",
    "CSVLogger": "files",
    "JSONLLogger": "files",
    "DatabaseLogger": "database",
    "TensorBoardLogger": "tensorboard",
    "MLflowLogger": "mlflow",
    "WandbLogger": "wandb",
    "OpenTelemetryMetrics": "opentelemetry",
    "PostHogCapture": "posthog",
    "DatadogEvents": "datadog",
}

__all__: List[str] = [
    "HtmlReport",
    "LossPlot",
    "ProgressBar",
    "write_report",
    "AppriseNotifier",
    "DiscordNotifier",
    "Notification",
    "Notifier",
    "Sample",
    "SlackNotifier",
    "TeamsNotifier",
    "WebhookNotifier",
    "CheckpointEvaluator",
    "EarlyStopping",
    "EarlyStoppingReason",
    "EvaluationRow",
    "TerminateOnNaN",
    "Timer",
    "MetricsLogger",
    "CSVLogger",
    "JSONLLogger",
    "DatabaseLogger",
    "TensorBoardLogger",
    "MLflowLogger",
    "WandbLogger",
    "OpenTelemetryMetrics",
    "PostHogCapture",
    "DatadogEvents",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_LATER})
