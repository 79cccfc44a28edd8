"""Ready-made callbacks. Nothing here is loaded before its name is asked for.

Each is a `Callback`: give it to `create_trainer` or `follow`, alone or in a list with your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from arkor_sync.handlers.display.plot import LossPlot
    from arkor_sync.handlers.display.progress import ProgressBar
    from arkor_sync.handlers.display.report import HtmlReport, write_report
    from arkor_sync.handlers.evaluation.answers import EvaluationRow
    from arkor_sync.handlers.evaluation.evaluator import CheckpointEvaluator
    from arkor_sync.handlers.guards.early_stopping import (
        EarlyStopping,
        EarlyStoppingReason,
        TerminateOnNaN,
    )
    from arkor_sync.handlers.guards.timer import Timer
    from arkor_sync.handlers.loggers.base import MetricsLogger
    from arkor_sync.handlers.loggers.database import DatabaseLogger
    from arkor_sync.handlers.loggers.datadog import DatadogEvents
    from arkor_sync.handlers.loggers.files import CSVLogger, JSONLLogger
    from arkor_sync.handlers.loggers.mlflow import MLflowLogger
    from arkor_sync.handlers.loggers.opentelemetry import OpenTelemetryMetrics
    from arkor_sync.handlers.loggers.posthog import PostHogCapture
    from arkor_sync.handlers.loggers.tensorboard import TensorBoardLogger
    from arkor_sync.handlers.loggers.wandb import WandbLogger
    from arkor_sync.handlers.notifiers.apprise import AppriseNotifier
    from arkor_sync.handlers.notifiers.base import Notifier
    from arkor_sync.handlers.notifiers.discord import DiscordNotifier
    from arkor_sync.handlers.notifiers.notification import Notification, Sample
    from arkor_sync.handlers.notifiers.slack import SlackNotifier
    from arkor_sync.handlers.notifiers.teams import TeamsNotifier
    from arkor_sync.handlers.notifiers.webhook import WebhookNotifier

# The module of this package that has each name.
_LATER: Dict[str, str] = {
    "HtmlReport": "display.report",
    "LossPlot": "display.plot",
    "ProgressBar": "display.progress",
    "write_report": "display.report",
    "AppriseNotifier": "notifiers.apprise",
    "DiscordNotifier": "notifiers.discord",
    "Notification": "notifiers.notification",
    "Notifier": "notifiers.base",
    "Sample": "notifiers.notification",
    "SlackNotifier": "notifiers.slack",
    "TeamsNotifier": "notifiers.teams",
    "WebhookNotifier": "notifiers.webhook",
    "CheckpointEvaluator": "evaluation.evaluator",
    "EarlyStopping": "guards.early_stopping",
    "EarlyStoppingReason": "guards.early_stopping",
    "EvaluationRow": "evaluation.answers",
    "TerminateOnNaN": "guards.early_stopping",
    "Timer": "guards.timer",
    "MetricsLogger": "loggers.base",
    "CSVLogger": "loggers.files",
    "JSONLLogger": "loggers.files",
    "DatabaseLogger": "loggers.database",
    "TensorBoardLogger": "loggers.tensorboard",
    "MLflowLogger": "loggers.mlflow",
    "WandbLogger": "loggers.wandb",
    "OpenTelemetryMetrics": "loggers.opentelemetry",
    "PostHogCapture": "loggers.posthog",
    "DatadogEvents": "loggers.datadog",
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
