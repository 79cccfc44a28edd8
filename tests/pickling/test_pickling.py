"""Every public value survives pickling, so that task queues and process pools can carry it.

The names are found by walking what the package offers: a new one fails until it has an example. The
package's own exceptions are tested with the results.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any, Iterator, List, Mapping, Type, cast

import pytest
import requests

import arkor_sync
from arkor_sync import (
    Action,
    AdapterTarget,
    AnonymousCredentials,
    Arkor,
    ArkorError,
    Artifact,
    AuthMode,
    BaseModelTarget,
    Best,
    BlobDataset,
    Callback,
    Callbacks,
    ChatEndpoint,
    ChatMessage,
    ChatResponse,
    CheckpointContext,
    CloudApiClient,
    Context,
    CursorStore,
    DatasetSplit,
    Decision,
    Deployment,
    DeploymentKey,
    DeploymentTarget,
    EndContext,
    ErrorPolicy,
    Failure,
    FileCursorStore,
    Follower,
    History,
    HuggingFaceDataset,
    IssuedKey,
    JobStatus,
    LoraConfig,
    Metrics,
    OAuthCredentials,
    ProjectState,
    Ratio,
    ReconnectContext,
    ReconnectPolicy,
    Redeliver,
    RedisCursorStore,
    Rehearsal,
    Run,
    RunAborted,
    RunHealth,
    SavedCursor,
    Skip,
    SQLCursorStore,
    Steps,
    StopTraining,
    Submission,
    TokenCredentials,
    ToolCall,
    ToolConversation,
    ToolDefinition,
    Trainer,
    TrainingEvent,
    TrainingJob,
    TrainingResult,
    UnknownTarget,
    Usage,
    create_trainer,
    handlers,
)
from arkor_sync._log_context import log_contexts
from arkor_sync.cloud import models
from arkor_sync.cloud.client_version import DeprecationNotice
from arkor_sync.cloud.projects import ProjectList
from arkor_sync.contexts import LogContext, build_context
from arkor_sync.emulator import Emulator, ScriptedEngine
from arkor_sync.options import RunOptions
from arkor_sync.stream import events
from arkor_sync.stream.batches import read_logs
from support.fake_cloud import completed, log, make_run
from support.hang_phases import cloud_of

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)

# What owns threads, or only says what others must be like.
NO_VALUES = {
    *(
        Run,
        Trainer,
        Follower,
        Context,
        CursorStore,
        History,
        Artifact,
        models.Record,
        DeploymentTarget,
    ),
    RedisCursorStore,
    SQLCursorStore,
}
# At run time these are plain dictionaries.
NO_VALUES |= {ChatMessage, ToolCall, ToolDefinition, Usage}


def on_log(ctx: Any) -> None:
    """Do nothing: a function of a module, as a program that pickles would have it."""


def is_transient(failure: Failure) -> bool:
    return failure.attempt < 3


class Mine(Callback):
    def __init__(self) -> None:
        self.seen = [1, 2]

    def on_log(self, ctx: Any) -> None:
        self.seen.append(ctx.step)


JOB = TrainingJob(
    *("job-1", "org", "project", "night run", "running", {"model": "m"}, "2026-01-01T00:00:00Z"),
    extra={"new": [1]},
)
DATA = {
    "step": 4,
    "loss": 0.5,
    "error": "out of memory",
    "artifacts": [{"path": "a"}],
    "metrics": {"finalLoss": 1.0},
}
EVENTS = [
    *(TrainingEvent(kind, {"type": kind, **DATA}, "7", size=9) for kind in sorted(events.KNOWN)),
    TrainingEvent("", {}, None, problem="not JSON: x", synthesized=True),
]


def contexts() -> Iterator[Context]:
    for event in EVENTS:
        if event.problem is None:
            yield build_context(event, 2, JOB, cast(Any, None))
    logs = read_logs(b'id: 1\nevent: training.log\ndata: {"type":"training.log","step":1}\n\n')
    assert logs is not None
    fields = logs.plain_logs()
    assert fields is not None
    yield from log_contexts(LogContext, logs, fields, JOB, cast(Any, None))
    yield ReconnectContext(JOB, "reset by peer", 2, 1.5)
    yield EndContext(JOB, TrainingResult(JOB), RunAborted("enough"))


def answer() -> requests.Response:
    response = requests.Response()
    response.status_code = 200
    response._content = b'{"choices": [{"message": {"content": "hi"}}]}'
    return response


def project_list() -> ProjectList:
    projects = ProjectList([models.Project("id", "slug", "name", "org")])
    projects.org = {"slug": "o"}
    return projects


def policies() -> Iterator[ErrorPolicy]:
    yield ErrorPolicy.log(budget=5)
    yield ErrorPolicy.reconnect(attempts=3)
    yield ErrorPolicy(dead_letter=print).on(
        OSError, do=Action.RETRY, attempts=3, when=is_transient, callbacks=["on_log"]
    )


EXAMPLES: List[Any] = [
    Arkor(),
    *EVENTS,
    *contexts(),
    *policies(),
    *(rule for policy in policies() for rule in policy.rules),
    *Action,
    *JobStatus,
    Failure(ValueError("x"), "on_log", EVENTS[0], 2, 3),
    Decision(Action.RETRY, 1.5, exhausted=True),
    Skip(),
    Redeliver(2.5, attempts=4),
    StopTraining("it diverged"),
    ReconnectPolicy(max_attempts=3, permanent=frozenset({401})),
    Rehearsal(True, steps=30, first_loss=2.5, notes=("gpuTypes is for the cloud",)),
    RunOptions(callbacks=[Callbacks(on_log=on_log), Mine()], error_policy=ErrorPolicy.log()),
    Callbacks(on_log=on_log),
    Mine(),
    TrainingResult(JOB, [{"path": "a"}], Metrics(0.5, 100, 60.0), "enough"),
    Best(80, 0.5, 75),
    History.compare({"a": History()}),
    Metrics(0.5, 100, 60.0),
    RunHealth("settled", 1.0, None, 2.0, 0, 3, 10, 0, 1, 0, 0, 2, "on_log", 0.5, "10"),
    FileCursorStore("cursors"),
    SavedCursor("7", 8, "f", True, {"Mine": {"seen": [1]}}),
    Submission("order-17", "bot [order-17]", "submitted", "job-1", None, ("job-2",)),
    ChatResponse(answer()),
    ToolConversation(ChatResponse(answer()), [{"role": "assistant", "content": "hi"}]),
    ChatEndpoint("http://127.0.0.1:1/v1", "key", model="m", timeout=(1, 2)),
    CloudApiClient("http://127.0.0.1:1", TokenCredentials("t"), timeout=(1, 2)),
    DeprecationNotice("0.0.3", "old", "tomorrow"),
    AnonymousCredentials("t", "a", "http://127.0.0.1", "org", {"new": 1}),
    OAuthCredentials("t", "r", 1, "d", "au", "c"),
    TokenCredentials("t", "http://127.0.0.1"),
    ProjectState("org", "project", "id"),
    HuggingFaceDataset("arkorlab/triage-demo"),
    BlobDataset("https://127.0.0.1/data.jsonl"),
    DatasetSplit(test_size=0.2, seed=7),
    LoraConfig(r=16, alpha=16),
    Steps(25),
    Ratio(0.1),
    JOB,
    *AuthMode,
    AdapterTarget.checkpoint("job-1", 20),
    BaseModelTarget("m"),
    UnknownTarget("model_menu", {"models": ["m"]}),
    Deployment(
        *("id", "slug", "org", "project", AdapterTarget("job-1"), "none", "openai_compat", True),
        *("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        extra={"new": 1},
    ),
    DeploymentKey("id", "ci", "ark_live_01", True, "2026-01-01T00:00:00Z"),
    IssuedKey("id", "ci", "ark_live_0123456789", "ark_live_01", "2026-01-01T00:00:00Z"),
    project_list(),
    models.Project("id", "slug", "name", "org"),
    models.Org("id", "slug", extra={"new": 1}),
    models.PersonalOrg("id", "slug", "name"),
    models.AnonymousToken("t", "a", "cli", models.PersonalOrg("id", "slug", "name")),
    models.Me({"id": 1}, [models.Org("id")]),
]


def public_classes() -> Iterator[Type[Any]]:
    for module in (arkor_sync, models):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and not issubclass(value, ArkorError):
                yield value


def plain(value: Any) -> Any:
    """Take a value apart into what can be compared, as pickling does."""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    atoms = (str, bytes, int, float, frozenset, type, FunctionType, BuiltinFunctionType)
    if value is None or isinstance(value, atoms):
        return value
    return type(value), plain(value.__reduce_ex__(2))


def test_every_public_class_has_an_example() -> None:
    without = [
        cls
        for cls in public_classes()
        if cls not in NO_VALUES and not any(isinstance(each, cls) for each in EXAMPLES)
    ]
    assert without == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_it_survives_pickling(value: Any, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(value, protocol))
    assert plain(again) == plain(value)
    assert (again == value) == (copy.deepcopy(value) == value), "they compare as other copies do"


def test_nothing_of_a_run_is_carried_along() -> None:
    (ctx,) = [ctx for ctx in contexts() if isinstance(ctx, CheckpointContext)]
    ctx.run = cast(Any, threading.Lock())  # cannot be pickled, as a run cannot
    assert pickle.loads(pickle.dumps(ctx)).run is None


# Ready-made callbacks. A copy has the settings and the results; it follows no run.


def score(answer: Any, expected: Any) -> float:
    return float(answer == expected)


def handlers_without_a_library() -> Iterator[Any]:
    url = "http://127.0.0.1:1/secret"
    for notifier in ("SlackNotifier", "DiscordNotifier", "TeamsNotifier", "WebhookNotifier"):
        settings: Any = {"on": ("completed", "checkpoint"), "prompts": ["hi"]}
        yield getattr(handlers, notifier)(url, **settings, flush_timeout=0.01, attempts=1)
    yield handlers.CSVLogger("log.csv", ";", append=True)
    yield handlers.JSONLLogger("log.jsonl")
    yield handlers.EarlyStopping("loss", patience=7)
    yield handlers.TerminateOnNaN()
    yield handlers.Timer("00:01:00:00")
    yield handlers.ProgressBar(leave=False)
    yield handlers.LossPlot("{job_id}.svg", every=3)
    yield handlers.HtmlReport("{job_id}.html", samples={1: "a"})
    for schema in (None, {"type": "object"}, Metrics):
        yield handlers.CheckpointEvaluator(["hi"], ["ho"], score, schema=schema, stop_when=0.5)
    yield LossLogger(flush_timeout=3)


class LossLogger(handlers.MetricsLogger):
    def __init__(self, *, flush_timeout: float) -> None:
        super().__init__(flush_timeout=flush_timeout)
        self.losses: List[float] = []

    def log_metrics(self, metrics: Any, step: int) -> None:
        self.losses.append(metrics["loss"])


PROCESS_BOUND = {"_run", "_pid", "_started", "_thread", "_pool"}
COMPARED_AS_OBJECTS = {"_parse"}


def settings_of(handler: Any) -> Any:
    """Return what can be compared: all but what belongs to a process and is made anew."""
    left_out = PROCESS_BOUND | COMPARED_AS_OBJECTS
    own = {name: value for name, value in vars(handler).items() if name not in left_out}
    return type(handler), {name: each for name, each in own.items() if not is_made_anew(each)}


def is_made_anew(value: Any) -> bool:
    return type(value).__module__.startswith("arkor_sync.")


@pytest.mark.parametrize("copying", ["pickle", "deepcopy"])
@pytest.mark.parametrize(
    "handler", list(handlers_without_a_library()), ids=lambda each: type(each).__name__
)
def test_a_handler_survives_copying_also_in_a_trainer_and_after_a_run(
    handler: Any, copying: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    copied: Any = copy.deepcopy if copying == "deepcopy" else None
    copied = copied or (lambda value: pickle.loads(pickle.dumps(value)))
    again = copied(handler)
    assert settings_of(again) == settings_of(handler)
    with Emulator(ScriptedEngine(steps=3)) as emulator:
        client = cloud_of(emulator, "").client()
        trainer = create_trainer(
            name="carried",
            model="unsloth/gemma-4-E4B-it",
            dataset=HuggingFaceDataset("arkorlab/triage-demo"),
            callbacks=[handler],
            client=client,
        )
        carried = copied(trainer)
        assert settings_of(carried._options.callbacks[0]) == settings_of(handler)
        results = [each.wait(60) for each in (trainer, carried)]
        assert [result.status for result in results] == ["completed"] * 2
        assert len({result.job.id for result in results}) == 2
        after = copied(trainer)
        assert after.run is None
        assert after.start().id == results[0].job.id, "it is submitted already"
        assert settings_of(copied(handler)) == settings_of(handler)


def test_what_a_handler_has_found_out_is_carried_back() -> None:
    stopper, losses = handlers.EarlyStopping("loss"), LossLogger(flush_timeout=10)
    run, _ = make_run(
        [log(1, loss=0.5) + log(2, loss=0.25) + completed()], callbacks=[stopper, losses]
    )
    run.start().wait(60)
    assert (stopper.best_step, losses.losses) == (2, [0.5, 0.25])
    for kept in (stopper, losses):
        again = pickle.loads(pickle.dumps(kept))
        assert settings_of(again) == settings_of(kept)


def test_every_handler_without_a_library_has_an_example() -> None:
    with_a_library = {
        *("AppriseNotifier", "DatabaseLogger", "DatadogEvents", "MLflowLogger", "WandbLogger"),
        *("NotebookPlot", "OpenTelemetryMetrics", "PostHogCapture", "TensorBoardLogger"),
    }
    data = {"EarlyStoppingReason", "EvaluationRow", "Notification", "Sample", "write_report"}
    bases = {"MetricsLogger", "Notifier"}
    have = {type(each).__name__ for each in handlers_without_a_library()}
    assert set(handlers.__all__) - with_a_library - data - bases <= have
