"""Ready-made callbacks; a module is loaded when its name is first used. Any thread.

Each is a `Callback`: give it to `create_trainer` or `follow`, alone or in a list with your own. A
new one needs two lines here: its import for type checkers, and its entry in `_MODULES`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from arkor_sync.handlers.display.notebook import NotebookPlot as NotebookPlot
    from arkor_sync.handlers.display.plot import LossPlot as LossPlot
    from arkor_sync.handlers.display.progress import ProgressBar as ProgressBar
    from arkor_sync.handlers.display.report import HtmlReport as HtmlReport
    from arkor_sync.handlers.display.report import write_report as write_report
    from arkor_sync.handlers.evaluation.answers import EvaluationRow as EvaluationRow
    from arkor_sync.handlers.evaluation.evaluator import CheckpointEvaluator as CheckpointEvaluator
    from arkor_sync.handlers.guards.early_stopping import EarlyStopping as EarlyStopping
    from arkor_sync.handlers.guards.early_stopping import EarlyStoppingReason as EarlyStoppingReason
    from arkor_sync.handlers.guards.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
    from arkor_sync.handlers.guards.timer import Timer as Timer
    from arkor_sync.handlers.loggers.base import MetricsLogger as MetricsLogger
    from arkor_sync.handlers.loggers.database import DatabaseLogger as DatabaseLogger
    from arkor_sync.handlers.loggers.datadog import DatadogEvents as DatadogEvents
    from arkor_sync.handlers.loggers.files import CSVLogger as CSVLogger
    from arkor_sync.handlers.loggers.files import JSONLLogger as JSONLLogger
    from arkor_sync.handlers.loggers.mlflow import MLflowLogger as MLflowLogger
    from arkor_sync.handlers.loggers.opentelemetry import (
        OpenTelemetryMetrics as OpenTelemetryMetrics,
    )
    from arkor_sync.handlers.loggers.posthog import PostHogCapture as PostHogCapture
    from arkor_sync.handlers.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
    from arkor_sync.handlers.loggers.wandb import WandbLogger as WandbLogger
    from arkor_sync.handlers.notifiers.apprise import AppriseNotifier as AppriseNotifier
    from arkor_sync.handlers.notifiers.base import Notifier as Notifier
    from arkor_sync.handlers.notifiers.discord import DiscordNotifier as DiscordNotifier
    from arkor_sync.handlers.notifiers.notification import Notification as Notification
    from arkor_sync.handlers.notifiers.notification import Sample as Sample
    from arkor_sync.handlers.notifiers.slack import SlackNotifier as SlackNotifier
    from arkor_sync.handlers.notifiers.teams import TeamsNotifier as TeamsNotifier
    from arkor_sync.handlers.notifiers.webhook import WebhookNotifier as WebhookNotifier

# The module of this package that has each public name.
_MODULES: Dict[str, str] = {
    "HtmlReport": "display.report",
    "LossPlot": "display.plot",
    "NotebookPlot": "display.notebook",
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
    "EvaluationRow": "evaluation.answers",
    "EarlyStopping": "guards.early_stopping",
    "EarlyStoppingReason": "guards.early_stopping",
    "TerminateOnNaN": "guards.terminate_on_nan",
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

if not TYPE_CHECKING:  # so that type checkers use the imports above, and refuse other names
    __all__ = list(_MODULES)

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> List[str]:
        return sorted({*globals(), *_MODULES})
