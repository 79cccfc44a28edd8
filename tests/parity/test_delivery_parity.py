"""What callbacks are given, and when a run connects again: the finer points."""

from __future__ import annotations

import itertools
import logging
import threading
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

import pytest

from arkor_sync import (
    Callback,
    Callbacks,
    CheckpointContext,
    CloudApiClient,
    ErrorPolicy,
    ReconnectExhausted,
    ReconnectPolicy,
    ServerError,
    TokenCredentials,
    TrainingFailedError,
    follow,
)
from arkor_sync._common.clock import Clock
from arkor_sync.emulator import Emulator, Fault, Frame, ScriptedEngine
from support.waiting import PATIENCE

QUICK = ReconnectPolicy(base=0.005, cap=0.02)
QUESTION = [{"role": "user", "content": "hi"}]
Make = Callable[..., Any]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """Let waiting between connections take no time; the jitter is at its highest."""
    seen: List[float] = []

    def wait(self: Any, event: threading.Event, seconds: float) -> bool:
        seen.append(round(seconds, 1))  # less the time since the failure
        return event.is_set()

    monkeypatch.setattr(Clock, "wait", wait)
    monkeypatch.setattr(Clock, "random", lambda self: 1.0)
    return seen


def run_of(emulator: Emulator, client: Any, *events: Any, **options: Any) -> Any:
    job_id = emulator.create_job(ScriptedEngine(events=events))
    run = follow(job_id, client=client, **{"reconnect": QUICK, **options})
    try:
        run.wait(PATIENCE)
    finally:
        run.close()
    return run


STARTED: Dict[str, Any] = {"type": "training.started", "timestamp": "2026-01-01T00:00:07Z"}
COMPLETED: Dict[str, Any] = {
    "type": "training.completed",
    "timestamp": "2026-01-01T00:00:09Z",
    "artifacts": [{"path": "final"}],
    "metrics": {"finalLoss": 0.5},
}


def log(step: int, **more: Any) -> Dict[str, Any]:
    return {"type": "training.log", "step": step, **more}


def checkpoint(step: int, **more: Any) -> Dict[str, Any]:
    return {"type": "checkpoint.saved", "step": step, **more}


# What callbacks get


def test_an_event_that_names_another_job_is_delivered_and_its_checkpoint_is_this_jobs(
    emulator: Emulator, client_of: Make
) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        log(1, jobId="another"),
        checkpoint(2, jobId="another"),
        {**COMPLETED, "jobId": "another"},
        callbacks=Callbacks(on_log=seen.append, on_checkpoint=seen.append),
    )
    logged, saved = seen
    assert logged.event.data["jobId"] == "another"
    assert saved.adapter == {"kind": "checkpoint", "jobId": run.job.id, "step": 2}
    assert run.wait().status == "completed"


def test_events_without_a_callback_still_bring_the_job_up_to_date(
    emulator: Emulator, client_of: Make
) -> None:
    jobs: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        STARTED,
        log(1),
        COMPLETED,
        callbacks=Callbacks(on_log=lambda ctx: jobs.append(ctx.job)),
    )
    (job,) = jobs
    assert (job.status, job.started_at) == ("running", STARTED["timestamp"])
    assert (run.job.status, run.job.completed_at) == ("completed", COMPLETED["timestamp"])
    assert run.job.started_at == STARTED["timestamp"]


def test_the_last_callback_and_the_result_say_the_same(emulator: Emulator, client_of: Make) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator, client_of(emulator), COMPLETED, callbacks=Callbacks(on_completed=seen.append)
    )
    (ctx,), result = seen, run.wait()
    assert ctx.job is result.job
    assert ctx.artifacts == result.artifacts == COMPLETED["artifacts"]
    assert ctx.metrics == result.metrics
    assert result.metrics.final_loss == 0.5


def test_a_failure_has_no_artifacts_and_says_where_and_why(
    emulator: Emulator, client_of: Make
) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        {"type": "training.failed", "error": "out of memory", "step": 4, "artifacts": [1]},
        callbacks=Callbacks(on_failed=seen.append, on_completed=seen.append),
    )
    (ctx,), result = seen, run.wait()
    assert (ctx.error, ctx.step) == ("out of memory", 4)
    assert (result.status, result.job.error, result.artifacts) == ("failed", "out of memory", [])
    with pytest.raises(TrainingFailedError, match="out of memory"):
        result.raise_for_status()


@pytest.mark.parametrize("error", [None, ""], ids=repr)
def test_a_failure_without_a_reason_still_has_a_text(
    emulator: Emulator, client_of: Make, error: Any
) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        {"type": "training.failed", "error": error},
        callbacks=Callbacks(on_failed=seen.append),
    )
    (ctx,) = seen
    assert ctx.error == run.wait().job.error == "the cloud gave no reason"


@pytest.mark.parametrize("artifacts", [None, "final", 5, {"path": "final"}, []], ids=repr)
def test_artifacts_that_are_no_list_are_an_empty_one(
    emulator: Emulator, client_of: Make, artifacts: Any
) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        {**COMPLETED, "artifacts": artifacts},
        callbacks=Callbacks(on_completed=seen.append),
    )
    (ctx,) = seen
    assert ctx.artifacts == run.wait().artifacts == []


def test_only_the_first_of_two_endings_counts(emulator: Emulator, client_of: Make) -> None:
    seen: List[str] = []
    run = run_of(
        emulator,
        client_of(emulator),
        {"type": "training.failed", "error": "first"},
        COMPLETED,
        callbacks=Callbacks(
            on_failed=lambda ctx: seen.append("failed"),
            on_completed=lambda ctx: seen.append("completed"),
        ),
    )
    assert seen == ["failed"]
    assert run.wait().status == "failed"


@pytest.mark.parametrize("name", ["on_started", "on_log", "on_checkpoint"])
def test_a_callbacks_error_is_no_failure_of_the_training(
    emulator: Emulator, client_of: Make, name: str
) -> None:
    failed: List[Any] = []

    def broken(ctx: Any) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run_of(
            emulator,
            client_of(emulator),
            STARTED,
            log(1),
            checkpoint(1),
            COMPLETED,
            callbacks=[{name: broken}, Callbacks(on_failed=failed.append)],
        )
    assert failed == []
    assert len(emulator.connections()) == 1


class Stopper(Callback):
    """Stops its run at the first log, and keeps what it is called with."""

    def __init__(self, how: Callable[[Any], None]) -> None:
        self.how = how
        self.calls: List[str] = []

    def on_log(self, ctx: Any) -> None:
        self.calls.append("log")
        self.how(ctx)

    def on_failed(self, ctx: Any) -> None:
        self.calls.append("failed")

    def on_cancelled(self, ctx: Any) -> None:
        self.calls.append("cancelled")


def test_a_run_that_is_stopped_calls_nothing_any_more(emulator: Emulator, client_of: Make) -> None:
    stopper = Stopper(lambda ctx: ctx.run.stop("enough"))
    job_id = emulator.create_job(ScriptedEngine(events=[log(1), log(2)]))
    with follow(job_id, client=client_of(emulator), callbacks=stopper) as run:
        result = run.wait(PATIENCE)
    assert (result.status, result.stop_reason) == ("cancelled", "enough")
    assert stopper.calls == ["log"]
    assert run.job is result.job


# Chatting with a checkpoint


def test_infer_streams_unless_told_otherwise(emulator: Emulator, client_of: Make) -> None:
    def on_checkpoint(ctx: CheckpointContext) -> None:
        with ctx.infer(QUESTION) as answer:
            assert answer.response.headers["Content-Type"].startswith("text/event-stream")
        ctx.infer(QUESTION, stream=False)

    run = run_of(
        emulator,
        client_of(emulator),
        checkpoint(3),
        COMPLETED,
        callbacks=Callbacks(on_checkpoint=on_checkpoint),
    )
    chats = [r for r in emulator.requests if r.path == "/v1/inference/chat"]
    assert [r.body["stream"] for r in chats] == [True, False]
    for request in chats:
        assert request.query == {
            "orgSlug": emulator.org_slug,
            "projectSlug": emulator.project_slug,
        }
        assert request.body["adapter"] == {"kind": "checkpoint", "jobId": run.job.id, "step": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", False),
        ("temperature", 0.0),
        ("top_p", 0.5),
        ("max_tokens", 9),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("response_format", {"type": "json_object"}),
        ("structured_outputs", {"regex": "a"}),
        ("timeout", 5.0),
        ("extra", {"seed": 1}),
    ],
)
def test_infer_passes_every_argument_on(name: str, value: Any) -> None:
    asked: List[Any] = []
    client = SimpleNamespace(chat=lambda messages, **given: asked.append((messages, given)))
    job: Any = SimpleNamespace(id="job-1")
    ctx = CheckpointContext(3, {"kind": "checkpoint", "jobId": "job-1", "step": 3}, job, [])
    ctx.run = SimpleNamespace(client=client)  # type: ignore[assignment]
    ctx.infer(QUESTION, **{name: value})
    ((messages, given),) = asked
    rest = {key: each for key, each in given.items() if each is not None}
    assert messages is QUESTION
    assert rest == {"adapter": ctx.adapter, "stream": True, name: value}


def test_infer_cannot_be_sent_to_another_adapter(emulator: Emulator, client_of: Make) -> None:
    def on_checkpoint(ctx: Any) -> None:
        other = {"kind": "final", "jobId": "x"}
        with pytest.raises(TypeError):
            ctx.infer(QUESTION, adapter=other)
        with pytest.raises(ValueError, match="extra: got adapter; give only keys"):
            ctx.infer(QUESTION, extra={"adapter": other})

    run_of(
        emulator,
        client_of(emulator),
        checkpoint(3),
        COMPLETED,
        callbacks=Callbacks(on_checkpoint=on_checkpoint),
    )
    assert not [r for r in emulator.requests if r.path == "/v1/inference/chat"]


def test_an_error_of_infer_that_nobody_catches_is_the_callbacks_error(
    emulator: Emulator, client_of: Make
) -> None:
    emulator.faults.add(Fault("status", route="chat", status=503, count=None))

    def on_checkpoint(ctx: Any) -> None:
        ctx.infer(QUESTION)

    with pytest.raises(ServerError) as caught:
        run_of(
            emulator,
            client_of(emulator),
            checkpoint(3),
            COMPLETED,
            callbacks=Callbacks(on_checkpoint=on_checkpoint),
        )
    assert caught.value.status == 503
    assert "on_checkpoint raised, step 3" in caught.value.__notes__[0]
    assert len([r for r in emulator.requests if r.path == "/v1/inference/chat"]) == 1


# What is read, and what counts


@pytest.mark.parametrize(
    "data", ["{nope", "null", "5", '"text"', "[1]", "{}", '{"type": "job.paused"}', "NaN"]
)
def test_the_id_of_an_event_that_is_skipped_is_kept(
    emulator: Emulator, client_of: Make, data: str
) -> None:
    emulator.faults.add(Fault("cut_clean", route="stream", event="skipped"))
    run = run_of(
        emulator, client_of(emulator), (log(1), "1"), Frame(data, "skipped", "message"), COMPLETED
    )
    emulator.assert_resumed_from("skipped")
    assert run.health().skipped == 1


@pytest.mark.parametrize("value", [None, "high", True, {"value": 1}, [1]], ids=repr)
def test_a_metric_that_is_no_number_is_none(
    emulator: Emulator, client_of: Make, value: Any
) -> None:
    seen: List[Any] = []
    run_of(
        emulator,
        client_of(emulator),
        log(1, loss=value, evalLoss=0.5),
        COMPLETED,
        callbacks=Callbacks(on_log=seen.append),
    )
    (ctx,) = seen
    assert (ctx.loss, ctx.eval_loss) == (None, 0.5)
    assert ctx.event.data["loss"] == value


@pytest.mark.parametrize("kind", ["training.log", "checkpoint.saved"])
def test_an_event_without_its_step_is_skipped_logged_and_counted(
    emulator: Emulator, client_of: Make, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[Any] = []
    run = run_of(
        emulator,
        client_of(emulator),
        {"type": kind, "loss": 1.0},
        COMPLETED,
        callbacks=Callbacks(on_log=seen.append, on_checkpoint=seen.append),
    )
    assert seen == []
    assert run.health().skipped == 1
    assert "step is None, not a whole number" in caplog.text


def test_an_event_that_is_sent_twice_is_delivered_once(emulator: Emulator, client_of: Make) -> None:
    steps: List[int] = []
    run = run_of(
        emulator,
        client_of(emulator),
        (log(1), "1"),
        (log(1, timestamp="t", jobId="j"), "2"),
        (log(1, timestamp="t", jobId="j"), "2"),
        COMPLETED,
        callbacks=Callbacks(on_log=lambda ctx: steps.append(ctx.step)),
    )
    assert steps == [1, 1]
    assert run.health().duplicates == 1


# When it connects again


def test_after_a_clean_end_it_waits_exactly_the_base_delay_without_jitter(
    emulator: Emulator, client_of: Make, waits: List[float]
) -> None:
    emulator.faults.add(Fault("cut_clean", route="stream", event="1"))
    run_of(
        emulator, client_of(emulator), (log(1), "1"), COMPLETED, reconnect=ReconnectPolicy(base=3.0)
    )
    assert waits == [3.0]


@pytest.mark.parametrize("data", ["5", '"text"', "true", "[1]", "{}"])
def test_json_that_is_no_event_at_all_is_no_progress(
    emulator: Emulator, client_of: Make, waits: List[float], data: str
) -> None:
    job_id = emulator.create_job(ScriptedEngine(manual=True, events=[]))
    emulator.publish_raw(job_id, b"data: " + data.encode() + b"\n\n")
    emulator.faults.add(Fault("cut_clean", route="stream", index=1, count=None))
    policy = ReconnectPolicy(jitter=0, max_attempts=3)
    with (
        follow(job_id, client=client_of(emulator), reconnect=policy) as run,
        pytest.raises(ReconnectExhausted) as caught,
    ):
        run.wait(PATIENCE)
    assert waits == [1, 2, 4]
    assert "brought no new event" in str(caught.value.__cause__)


def test_the_credentials_are_asked_for_at_each_connect(emulator: Emulator, client_of: Make) -> None:
    fresh = "fresh-token-9876543210"
    emulator.add_token(fresh)
    emulator.faults.add(Fault("expire_token", route="stream", event="2"))
    numbers = itertools.count(1)

    def credentials() -> TokenCredentials:
        """The record and the first stream are asked for with a token that expires then."""
        return TokenCredentials(emulator.token if next(numbers) <= 2 else fresh)

    run = run_of(
        emulator,
        client_of(emulator, credentials),
        (log(1), "1"),
        (log(2), "2"),
        (log(3), "3"),
        COMPLETED,
    )
    assert run.wait().status == "completed"
    assert len(emulator.connections()) == 2


def test_silence_while_the_record_says_running_opens_the_stream_again(
    make_emulator: Make, client_of: Make
) -> None:
    emulator = make_emulator(ping_interval=0.01)
    job_id = emulator.create_job(ScriptedEngine(manual=True, events=[]))
    emulator.publish(job_id, log(1))
    with follow(job_id, client=client_of(emulator), stale_after=0.15) as run:
        emulator.wait_for(lambda: len(emulator.connections()) >= 3)
        assert run.health().failures == 0, "the second connection brought pings only"
        emulator.publish(job_id, COMPLETED)
        assert run.wait(PATIENCE).status == "completed"
    looked_up = [r for r in emulator.requests if r.path == f"/v1/jobs/{job_id}"]
    assert len(looked_up) >= 3, "once to attach, and once for each silence"


def test_a_full_queue_makes_the_connection_wait(emulator: Emulator, client_of: Make) -> None:
    entered, release = threading.Event(), threading.Event()
    steps: List[int] = []

    def on_log(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)
        steps.append(ctx.step)

    events = [log(step) for step in range(1, 200)]
    job_id = emulator.create_job(ScriptedEngine(events=[*events, COMPLETED]))
    with follow(
        job_id,
        client=client_of(emulator),
        callbacks=Callbacks(on_log=on_log),
        max_buffered_events=5,
    ) as run:
        assert entered.wait(PATIENCE)
        # It may be less again by now: the worker takes one batch, and half of it must be free.
        emulator.wait_for(lambda: run.health().queue_high_water == 5)
        release.set()
        assert run.wait(PATIENCE).status == "completed"
    assert run.health().queue_high_water == 5
    assert steps == list(range(1, 200))


def test_health_tells_how_long_the_run_has_been_at_it(emulator: Emulator, client_of: Make) -> None:
    entered, release = threading.Event(), threading.Event()

    def on_log(ctx: Any) -> None:
        entered.set()
        assert release.wait(PATIENCE)

    job_id = emulator.create_job(ScriptedEngine(manual=True, events=[log(1), COMPLETED]))
    emulator.step(job_id)
    callbacks = Callbacks(on_log=on_log)
    with follow(job_id, client=client_of(emulator), callbacks=callbacks) as run:
        assert entered.wait(PATIENCE)

        def aged() -> bool:
            health = run.health()
            ages = (health.callback_age, health.last_byte_age, health.last_event_age)
            return all(age is not None and age > 0.03 for age in ages)

        emulator.wait_for(aged)
        health = run.health()
        assert (health.state, health.callback) == ("streaming", "on_log")
        assert (health.last_acknowledged_age, health.delivered) == (None, 0)
        release.set()
        emulator.wait_for(lambda: (run.health().last_acknowledged_age or 0) > 0)
        assert run.health().callback_age is None
        emulator.step(job_id)
        assert run.wait(PATIENCE).status == "completed"
        assert (run.health().state, run.health().delivered) == ("settled", 2)


def test_everything_is_logged_below_one_name(
    emulator: Emulator, client_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.add(Fault("cut_mid_event", route="stream", event="2", byte=4))

    def broken(ctx: Any) -> None:
        raise RuntimeError("mine")

    with caplog.at_level(logging.DEBUG, "arkor_sync"):
        run_of(
            emulator,
            client_of(emulator),
            (log(1), "1"),
            Frame("null", "2", "message"),
            COMPLETED,
            callbacks=Callbacks(on_log=broken),
            error_policy=ErrorPolicy.log(),
        )
    ours = {r.name for r in caplog.records if r.name.partition(".")[0] == "arkor_sync"}
    others = {r.name for r in caplog.records if r.levelno >= logging.INFO} - ours
    assert {"arkor_sync.stream.reader", "arkor_sync.stream.worker"} <= ours
    assert others == set()
    for name in ["arkor_sync", *ours]:
        assert logging.getLogger(name).handlers == []


# What all requests share


def test_the_settings_of_a_session_hold_for_every_request(
    emulator: Emulator, client_of: Make
) -> None:
    import requests

    with requests.Session() as session:
        session.headers["X-Team"] = "blue"
        client: CloudApiClient = client_of(emulator, session=session)
    run_of(
        emulator,
        client,
        checkpoint(1),
        COMPLETED,
        callbacks=Callbacks(on_checkpoint=lambda ctx: ctx.infer(QUESTION).text()),
    )
    client.jobs.list()
    sent = {r.path: {k.lower(): v for k, v in r.headers.items()} for r in emulator.requests}
    assert len(sent) == 4, "the record, the stream, the chat and the list"
    for headers in sent.values():
        assert headers["x-team"] == "blue"
        assert headers["x-arkor-client"].startswith("arkor/")


def test_plain_requests_and_chats_have_limits_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from arkor_sync import ArkorConnectionError, ProjectState
    from arkor_sync.cloud.transport import Transport

    limits: List[Any] = []

    def request(self: Any, *_: Any, timeout: Any, **__: Any) -> Any:
        limits.append(timeout)
        raise ArkorConnectionError("enough is known")

    monkeypatch.setattr(Transport, "request", request)
    client = CloudApiClient(
        "http://127.0.0.1:1",
        TokenCredentials("t"),
        scope=ProjectState("o", "p", "1"),
        retry="none",
    )
    calls: List[Callable[[], Any]] = [
        client.jobs.list,
        lambda: client.jobs.cancel("job-1"),
        lambda: client.chat(QUESTION, base_model="m"),
        lambda: client.chat(QUESTION, base_model="m", timeout=7),
    ]
    for call in calls:
        with pytest.raises(ArkorConnectionError):
            call()
    assert limits == [(10, 60), (10, 60), (10, 300), (10, 7)]
