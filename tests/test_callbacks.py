"""Callbacks: every form that they come in, and what they are called with."""

from __future__ import annotations

import functools
import inspect
import json
import pickle
from typing import Any, Callable, Dict, List, cast
from unittest import mock

import pytest

from arkor_sync import contexts
from arkor_sync.callbacks import Callback, Callbacks, handler_table
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.cloud.sse import Frame
from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    Context,
    FailedContext,
    LogContext,
    Metrics,
    StartedContext,
    build_context,
)
from arkor_sync.errors import ArkorUsageError
from arkor_sync.options import RunOptions
from arkor_sync.stream import events
from arkor_sync.stream.events import CALLBACK_NAMES, TrainingEvent, decode, unknown_callback
from arkor_sync.trainer import Trainer

JOB = TrainingJob("j1", "o", "p", "night run", "running", {"model": "m"}, "2026-01-01T00:00:00Z")
RUN = cast(Any, object())


def first(ctx: Any) -> str:
    return "first"


def second(ctx: Any) -> str:
    return "second"


def third(ctx: Any) -> str:
    return "third"


def names_called(callbacks: Any, kind: str = events.LOG) -> List[Any]:
    return [function(None) for _, function in handler_table(callbacks).get(kind, [])]


class Monitor(Callback):
    def on_log(self, ctx: LogContext) -> str:
        return "monitor"


class Quiet(Monitor):
    pass


# Every form.


@pytest.mark.parametrize(("name", "kind"), CALLBACK_NAMES.items())
def test_each_name_belongs_to_its_event(name: str, kind: str) -> None:
    expected = {kind: [(name, first)]}
    assert handler_table(Callbacks(**{name: first})) == expected
    assert handler_table({name: first}) == expected
    assert handler_table([{name: first}]) == expected
    overriding = type("Overriding", (Callback,), {name: lambda self, ctx: "own"})()
    [(called, method)] = handler_table(overriding)[kind]
    assert (called, method(None)) == (name, "own")


def test_every_known_event_has_a_callback_and_no_other_has() -> None:
    own = {events.LOST, events.ENDED}
    assert set(CALLBACK_NAMES.values()) == events.KNOWN | own
    assert not events.KNOWN & own, "the cloud cannot send what the run itself has to tell"


@pytest.mark.parametrize("name", CALLBACK_NAMES)
def test_each_callback_of_the_table_is_declared_with_its_types(name: str) -> None:
    method = getattr(Callback, name)
    context = inspect.signature(method).parameters["ctx"].annotation
    assert issubclass(getattr(contexts, context), Context)
    assert method.__doc__
    argument = inspect.signature(Callbacks).parameters[name]
    assert argument.annotation == f"Optional[Callable[[{context}], Any]]"
    function = context.replace("Context", "Function")
    declared = f"def {name}(self, function: {function}) -> {function}: ..."
    assert declared in inspect.getsource(contexts)
    assert context in str(getattr(contexts, function).__bound__)


@pytest.mark.parametrize(("name", "kind"), CALLBACK_NAMES.items())
def test_each_callback_of_the_table_has_a_decorator(name: str, kind: str) -> None:
    trainer = Trainer("n", {}, mock.Mock(), RunOptions())
    decorate = getattr(trainer, name)
    assert decorate(first) is first
    assert handler_table(trainer._added) == {kind: [(name, first)]}
    assert (decorate.__name__, f"`{name}`" in decorate.__doc__) == (name, True)
    with pytest.raises(ArkorUsageError, match=rf"^{name}: got int 3; give a function"):
        decorate(3)
    trainer.run = RUN
    with pytest.raises(ArkorUsageError, match=f"too late to add {name}"):
        decorate(first)


@pytest.mark.parametrize("nothing", [None, [], (), {}, Callbacks(), Callback(), [None, [None]]])
def test_no_callbacks_at_all(nothing: Any) -> None:
    assert handler_table(nothing) == {}


def test_a_callback_object_costs_only_what_it_overrides() -> None:
    assert list(handler_table(Quiet())) == [events.LOG]
    assert names_called(Quiet()) == ["monitor"]


def test_none_means_absent_in_callbacks() -> None:
    assert handler_table(Callbacks(on_log=None)) == {}


def test_lists_nest_and_keep_their_order() -> None:
    callbacks = [
        Callbacks(on_log=first, on_started=third),
        [Monitor(), ({"on_log": second}, None)],
        {"on_log": first},
    ]
    assert names_called(callbacks) == ["first", "monitor", "second", "first"]
    assert names_called(callbacks, events.STARTED) == ["third"]


def test_the_same_callbacks_may_be_given_twice() -> None:
    callbacks = Callbacks(on_log=first)
    assert names_called([callbacks, callbacks]) == ["first", "first"]


@pytest.mark.parametrize(
    "wrong", [first, Callbacks, Monitor, "on_log", b"x", 3, [first], [Monitor]]
)
def test_what_holds_no_names_is_refused(wrong: Any) -> None:
    with pytest.raises(ArkorUsageError, match="give Callbacks"):
        handler_table(wrong)


# Names.


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("on_logs", "on_log"),
        ("log", "on_log"),
        ("onLog", "on_log"),
        ("onCheckpoint", "on_checkpoint"),
        ("on_checkpoint_saved", "on_checkpoint"),
        ("on_complete", "on_completed"),
        ("on_fail", "on_failed"),
        ("on_start", "on_started"),
        ("on_canceled", "on_cancelled"),
        ("on_cancel", "on_cancelled"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    hint = f"there is no callback '{wrong}'; did you mean '{right}'?"
    for build in (
        lambda: Callbacks(**{wrong: first}),
        lambda: handler_table({wrong: first}),
        lambda: handler_table([{"on_log": first}, {wrong: first}]),
    ):
        with pytest.raises(ArkorUsageError) as caught:
            build()
        assert str(caught.value).startswith(hint)
        assert all(name in str(caught.value) for name in CALLBACK_NAMES)


def test_a_misspelt_method_is_an_error_and_not_silence() -> None:
    class Misspelt(Callback):
        def on_chekpoint(self, ctx: Any) -> None: ...

    with pytest.raises(ArkorUsageError, match="did you mean 'on_checkpoint'"):
        handler_table(Misspelt())


def test_other_methods_may_have_any_name() -> None:
    class Busy(Monitor):
        once = True

        def on(self) -> None: ...

        def flush(self) -> None: ...

    assert names_called(Busy()) == ["monitor"]


def test_a_name_that_resembles_nothing_gets_the_list_only() -> None:
    assert "did you mean" not in str(unknown_callback("zzz"))
    assert str(unknown_callback(7)).startswith("there is no callback 7; The callbacks are on_")


# What can be called.


class Callable_:  # noqa: N801
    def __call__(self, ctx: Any) -> str:
        return "called"

    def method(self, ctx: Any) -> str:
        return "method"

    @classmethod
    def of_class(cls, ctx: Any) -> str:
        return "class"

    @staticmethod
    def static(ctx: Any) -> str:
        return "static"


def two(ctx: Any, other: Any) -> Any:
    return (ctx, other)


async def coroutine(ctx: Any) -> None: ...


FITTING: Dict[str, Callable[..., Any]] = {
    "function": first,
    "lambda": lambda ctx: None,
    "lambda with a default": lambda ctx, seen=[]: seen.append(ctx),
    "nothing but defaults": lambda ctx=None, other=1: None,
    "any arguments": lambda *args, **kwargs: None,
    "keyword with a default": lambda ctx, *, flush=True: None,
    "partial, by position": functools.partial(two, 1),
    "partial, by keyword": functools.partial(two, other=1),
    "callable object": Callable_(),
    "bound method": Callable_().method,
    "class method": Callable_.of_class,
    "static method": Callable_.static,
    "coroutine function": coroutine,
    "builtin function": print,
    "builtin method": [].append,
    "class": list,
    "class without a signature": dict,
    "wrapped": functools.wraps(first)(lambda *args: first(*args)),
    "mock": mock.Mock(),
    "magic mock": mock.MagicMock(),
    "autospecced": mock.create_autospec(first),
}

UNFITTING: Dict[str, Any] = {
    "no argument": lambda: None,
    "two arguments": two,
    "a required keyword": lambda ctx, *, path: None,
    "only keywords": lambda *, ctx: None,
    "unbound method": Callable_.method,
    "partial with nothing left": functools.partial(two, 1, 2),
    "class without arguments": Callable_,
}


@pytest.mark.parametrize("function", FITTING.values(), ids=FITTING.keys())
def test_whatever_takes_one_context_will_do(function: Callable[..., Any]) -> None:
    assert handler_table({"on_log": function}) == {events.LOG: [("on_log", function)]}
    assert Callbacks(on_log=function).functions == {"on_log": function}


@pytest.mark.parametrize("function", UNFITTING.values(), ids=UNFITTING.keys())
def test_what_does_not_is_refused_before_the_run(function: Any) -> None:
    for build in (
        lambda: Callbacks(on_log=function),
        lambda: handler_table({"on_log": function}),
    ):
        with pytest.raises(
            ArkorUsageError, match=r"^on_log: .* called with one argument"
        ) as caught:
            build()
        assert caught.value.__cause__ is None
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [3, "print", [first], object()])
def test_what_cannot_be_called_is_refused(value: Any) -> None:
    for build in (lambda: Callbacks(on_log=value), lambda: handler_table({"on_log": value})):
        with pytest.raises(ArkorUsageError, match=r"^on_log: got .*; give a function"):
            build()


def test_a_method_with_a_wrong_signature_is_refused() -> None:
    class NoContext(Callback):
        def on_log(self) -> None:  # type: ignore[override]
            ...

    class NoFunction(Callback):
        on_log = None  # type: ignore[assignment]

    with pytest.raises(ArkorUsageError, match=r"NoContext\.on_log\(\)"):
        handler_table(NoContext())
    with pytest.raises(ArkorUsageError, match="on_log: got None; give a function"):
        handler_table(NoFunction())


def test_the_repr_names_the_callbacks() -> None:
    assert repr(Callbacks(on_failed=first, on_log=second)) == "Callbacks(on_log, on_failed)"


# Contexts.


def event(kind: str, **fields: Any) -> TrainingEvent:
    return decode(Frame(kind, json.dumps({"type": kind, **fields}), "9"))


def context(kind: str, job: TrainingJob = JOB, **fields: Any) -> Any:
    return build_context(event(kind, **fields), 2, job, RUN)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (events.STARTED, StartedContext),
        (events.LOG, LogContext),
        (events.CHECKPOINT, CheckpointContext),
        (events.COMPLETED, CompletedContext),
        (events.FAILED, FailedContext),
        (events.CANCELLED, CancelledContext),
    ],
)
def test_every_context_has_the_job_the_run_the_event_and_the_attempt(
    kind: str, expected: type
) -> None:
    ctx = context(kind, step=1)
    assert type(ctx) is expected
    assert isinstance(ctx, Context)
    assert (ctx.job, ctx.run, ctx.attempt) == (JOB, RUN, 2)
    assert ctx.event.data["type"] == kind
    assert ctx.event.id == "9"


def test_a_log_context_has_the_metrics_by_their_python_names() -> None:
    ctx = context(
        events.LOG,
        step=3,
        loss=0.5,
        evalLoss=0.75,
        learningRate=1e-4,
        epoch=1.5,
        samplesPerSecond=12,
    )
    assert (ctx.step, ctx.loss, ctx.eval_loss) == (3, 0.5, 0.75)
    assert (ctx.learning_rate, ctx.epoch, ctx.samples_per_second) == (1e-4, 1.5, 12)


METRICS = ["loss", "eval_loss", "learning_rate", "epoch", "samples_per_second"]
ON_THE_WIRE = ["loss", "evalLoss", "learningRate", "epoch", "samplesPerSecond"]


@pytest.mark.parametrize("sent", [{}, None, "0.5", True, [], {"value": 1}], ids=repr)
def test_a_metric_that_is_absent_or_odd_is_none(sent: Any) -> None:
    fields = {} if sent == {} else dict.fromkeys(ON_THE_WIRE, sent)
    ctx = context(events.LOG, step=0, **fields)
    assert [getattr(ctx, name) for name in METRICS] == [None] * 5
    assert ctx.step == 0


@pytest.mark.parametrize("name", range(5))
def test_each_metric_is_read_from_its_own_field(name: int) -> None:
    ctx = context(events.LOG, step=1, **{ON_THE_WIRE[name]: 0.25})
    assert [getattr(ctx, each) for each in METRICS].index(0.25) == name
    assert [getattr(ctx, each) for each in METRICS].count(None) == 4


def test_a_checkpoint_context_names_its_adapter() -> None:
    ctx = context(events.CHECKPOINT, step=20, artifacts=[{"pathname": "adapter.json"}])
    assert ctx.adapter == {"kind": "checkpoint", "jobId": "j1", "step": 20}
    assert ctx.artifacts == [{"pathname": "adapter.json"}]
    assert context(events.CHECKPOINT, step=20.0).adapter["step"] == 20
    assert context(events.CHECKPOINT, step=1, artifacts=None).artifacts == []


def test_infer_asks_the_runs_client_about_this_checkpoint() -> None:
    run = mock.Mock()
    ctx = build_context(event(events.CHECKPOINT, step=5), 1, JOB, run)
    assert isinstance(ctx, CheckpointContext)
    messages = [{"role": "user", "content": "hello"}]
    answer = ctx.infer(messages, temperature=0.2, stream=False, extra={"seed": 1})
    assert answer is run.client.chat.return_value
    (sent,), options = run.client.chat.call_args
    assert sent is messages
    assert options["adapter"] == {"kind": "checkpoint", "jobId": "j1", "step": 5}
    given = {name: value for name, value in options.items() if value is not None}
    assert given == {
        "adapter": ctx.adapter,
        "stream": False,
        "temperature": 0.2,
        "extra": {"seed": 1},
    }


def test_a_completed_context_has_artifacts_and_metrics() -> None:
    metrics = {"finalLoss": 0.25, "totalSteps": 100.0, "totalTime": 62}
    ctx = context(events.COMPLETED, artifacts=[1], metrics=metrics)
    assert ctx.artifacts == [1]
    assert ctx.metrics == Metrics(final_loss=0.25, total_steps=100, total_time=62)
    bare = context(events.COMPLETED)
    assert (bare.artifacts, bare.metrics) == ([], Metrics(None, None, None))


@pytest.mark.parametrize(
    "metrics", [None, [], "x", 3, {"finalLoss": "x", "totalSteps": 1.5, "totalTime": True}]
)
def test_odd_metrics_of_a_completed_training_are_none(metrics: Any) -> None:
    assert Metrics.from_json(metrics) == Metrics(None, None, None)


def test_a_failed_context_has_the_jobs_error() -> None:
    failed = TrainingJob(
        "j1", "o", "p", "n", "failed", {"model": "m"}, "now", error="out of memory"
    )
    ctx = context(events.FAILED, failed, step=7)
    assert (ctx.error, ctx.step) == ("out of memory", 7)
    assert context(events.FAILED, JOB, step=None).error == ""
    assert context(events.FAILED, JOB).step is None


@pytest.mark.parametrize("kind", sorted(events.KNOWN))
def test_pickling_a_context_drops_the_run_and_nothing_else(kind: str) -> None:
    ctx = context(kind, step=4, loss=0.5, artifacts=[1], metrics={"finalLoss": 1})
    again = pickle.loads(pickle.dumps(ctx))
    assert again == ctx
    assert again.run is None
    assert (again.event, again.attempt, again.job) == (ctx.event, 2, JOB)
    assert ctx.run is RUN


def test_the_repr_of_a_context_shows_no_run_and_no_configuration() -> None:
    job = TrainingJob("j1", "o", "p", "n", "running", {"model": "m", "hfToken": "hf_x"}, "now")
    shown = repr(context(events.LOG, job, step=4, loss=0.5))
    assert shown.startswith("LogContext(step=4, loss=0.5, eval_loss=None")
    assert "hf_x" not in shown


# The options of a run.


def test_options_are_checked_where_they_are_given() -> None:
    with pytest.raises(ArkorUsageError, match="did you mean 'on_log'"):
        RunOptions(callbacks={"on_logs": first})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"error_policy": "abort"}, "error_policy: got str 'abort'; give an ErrorPolicy"),
        ({"reconnect": 3}, "reconnect: got int 3; give a"),
        ({"abort_event": True}, "abort_event: got bool True; give a threading.Event"),
        ({"stale_after": 0}, "stale_after: got int 0; give a number above 0"),
        ({"stale_after": float("nan")}, "stale_after: got float nan; give a number above 0"),
        ({"abort_grace": -1}, "abort_grace: got int -1; give seconds from 0"),
        ({"max_buffered_events": 0}, "max_buffered_events: got int 0; give a number above 0"),
        ({"max_buffered_bytes": -5}, "max_buffered_bytes: got int -5; give a number above 0"),
        ({"max_event_bytes": 0}, "max_event_bytes: got int 0; give a number above 0"),
        ({"max_history_bytes": 0}, "max_history_bytes: got int 0; give a number above 0"),
    ],
)
def test_an_option_that_cannot_work_is_named(wrong: Dict[str, Any], text: str) -> None:
    with pytest.raises(ArkorUsageError) as caught:
        RunOptions(**wrong)
    assert text in str(caught.value)


def test_callbacks_from_an_iterator_are_not_used_up_by_the_check() -> None:
    options = RunOptions(callbacks=(each for each in [Callbacks(on_log=print)]))
    assert handler_table(options.callbacks) != {}


def test_a_method_set_on_the_object_is_an_override() -> None:
    callback = Callback()
    callback.on_log = print  # type: ignore[method-assign,assignment]
    assert handler_table(callback) == {"training.log": [("on_log", print)]}


def test_a_mock_of_a_callback_will_do() -> None:
    from unittest import mock

    assert len(handler_table(mock.create_autospec(Callback, instance=True))) == 8
