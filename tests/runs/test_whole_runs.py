"""Whole runs over real sockets: submit, follow, call, chat, and what the server may do to them."""

from __future__ import annotations

import json
import logging
import stat
import threading
import traceback
from pathlib import Path
from typing import Any, Callable, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    AuthenticationError,
    Callback,
    CloudApiError,
    ErrorPolicy,
    NotFoundError,
    ReconnectPolicy,
    RunAborted,
    StreamProtocolError,
    create_trainer,
    follow,
)
from arkor_sync.emulator import Emulator, Fault, ScriptedEngine
from support.waiting import PATIENCE

QUICK = ReconnectPolicy(base=0.01, cap=0.05)
Make = Callable[..., Any]


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: List[Any] = []

    def on_started(self, ctx: Any) -> None:
        self.calls.append("started")

    def on_log(self, ctx: Any) -> None:
        self.calls.append(ctx.step)

    def on_checkpoint(self, ctx: Any) -> None:
        self.calls.append(f"checkpoint {ctx.step}")

    def on_completed(self, ctx: Any) -> None:
        self.calls.append("completed")

    def on_failed(self, ctx: Any) -> None:
        self.calls.append(f"failed: {ctx.error}")

    def on_cancelled(self, ctx: Any) -> None:
        self.calls.append("cancelled")


WHOLE = ["started", 1, 2, 3, "checkpoint 3", 4, 5, 6, "checkpoint 6", "completed"]


def scripted(**more: Any) -> ScriptedEngine:
    return ScriptedEngine(steps=6, checkpoints=[3, 6], **more)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_run_from_submission_to_result(
    make_emulator: Make, trainer_of: Make, framing: str
) -> None:
    emulator = make_emulator(scripted(), framing=framing)
    recorder = Recorder()
    trainer = trainer_of(emulator, callbacks=recorder, max_steps=6, save_steps=3)
    result = trainer.wait(PATIENCE).raise_for_status()
    assert recorder.calls == WHOLE
    assert result.status == "completed"
    assert result.job.completed_at is not None
    assert result.metrics.total_steps == 6
    (create,) = [r for r in emulator.requests if r.method == "POST" and r.path == "/v1/jobs"]
    assert create.body["config"]["saveSteps"] == {"steps": 3}


def test_each_checkpoint_answers_for_itself(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted(reply=lambda chat, job, step: f"from step {step}"))
    answers: List[Any] = []
    kept: List[Any] = []

    def on_checkpoint(ctx: Any) -> None:
        question = [{"role": "user", "content": "hi"}]
        answers.append(ctx.infer(question, stream=False).content())
        answers.append("".join(ctx.infer(question)))
        kept.append(ctx.infer)

    trainer_of(emulator, callbacks={"on_checkpoint": on_checkpoint}).wait(PATIENCE)
    assert answers == ["from step 3"] * 2 + ["from step 6"] * 2
    later = kept[0]([{"role": "user", "content": "after the callback"}], stream=False)
    assert later.content() == "from step 3"


def test_a_failed_run_is_a_result_that_raises_when_asked(
    make_emulator: Make, trainer_of: Make
) -> None:
    emulator = make_emulator(ScriptedEngine(steps=5, fails_at=3, error="CUDA out of memory"))
    recorder = Recorder()
    result = trainer_of(emulator, callbacks=recorder).wait(PATIENCE)
    assert recorder.calls[-1] == "failed: CUDA out of memory"
    with pytest.raises(Exception, match="failed: CUDA out of memory"):
        result.raise_for_status()


def test_start_submits_once_from_many_threads(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    trainer = trainer_of(emulator)
    barrier = threading.Barrier(8)
    ids: List[str] = []

    def start() -> None:
        barrier.wait(PATIENCE)
        ids.append(trainer.start().id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert list(emulator.jobs) == [ids[0]]


def test_start_opens_no_stream_and_calls_nothing(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    recorder = Recorder()
    trainer_of(emulator, callbacks=recorder).start()
    assert emulator.connections() == []
    assert recorder.calls == []
    assert [(r.method, r.path) for r in emulator.requests] == [("POST", "/v1/jobs")]


def test_start_can_be_tried_again_after_a_failure(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    emulator.faults.add(Fault("status", route="create_job", status=500, count=1))
    trainer = trainer_of(emulator)
    with pytest.raises(CloudApiError):
        trainer.start()
    assert trainer.start().id in emulator.jobs


def test_nothing_is_submitted_once_aborted(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    event = threading.Event()
    event.set()
    aborted = trainer_of(emulator)
    aborted.abort()
    for trainer in (aborted, trainer_of(emulator, abort_event=event)):
        with pytest.raises(RunAborted, match="before it was submitted"):
            trainer.wait()
    assert emulator.requests == []


def test_cancel_before_start_does_nothing(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    trainer_of(emulator).cancel()
    assert emulator.requests == []


def test_decorators_add_callbacks_until_the_run_is_followed(
    make_emulator: Make, trainer_of: Make
) -> None:
    emulator = make_emulator(scripted())
    trainer = trainer_of(emulator)
    steps: List[int] = []

    @trainer.on_log
    def keep(ctx: Any) -> None:
        steps.append(ctx.step)

    trainer.wait(PATIENCE)
    assert steps == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ArkorUsageError, match="too late"):
        trainer.on_log(keep)


def test_a_second_wait_is_the_same_run(make_emulator: Make, trainer_of: Make) -> None:
    emulator = make_emulator(scripted())
    recorder = Recorder()
    trainer = trainer_of(emulator, callbacks=recorder)
    assert trainer.wait(PATIENCE) is trainer.wait(PATIENCE)
    assert trainer.follow() is trainer.run
    assert recorder.calls == WHOLE
    assert len(emulator.connections()) == 1


def test_follow_attaches_to_a_job_that_was_submitted_elsewhere(
    make_emulator: Make, client_of: Make
) -> None:
    emulator = make_emulator()
    job_id = emulator.create_job(scripted())
    recorder = Recorder()
    with follow(job_id, client=client_of(emulator), callbacks=recorder) as run:
        assert run.wait(PATIENCE).status == "completed"
    assert recorder.calls == WHOLE
    with pytest.raises(NotFoundError):
        follow("no-such-job", client=client_of(emulator))


@pytest.mark.parametrize("emits", ["failed", "end", "nothing"])
def test_cancel_ends_the_run_whatever_the_cloud_says_of_it(
    make_emulator: Make,
    trainer_of: Make,
    emits: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arkor_sync.stream.reader.CANCEL_GRACE", 0.2)
    emulator = make_emulator(ScriptedEngine(steps=5, manual=True), cancel_emits=emits)
    recorder = Recorder()
    reached = threading.Event()
    trainer = trainer_of(
        emulator, callbacks=[recorder, {"on_log": lambda ctx: reached.set()}], reconnect=QUICK
    )
    run = trainer.follow()
    emulator.step(run.job.id, 2)
    assert reached.wait(PATIENCE)
    trainer.cancel()
    assert run.wait(PATIENCE).status == "cancelled"
    assert recorder.calls == ["started", 1, "cancelled"]


STREAM_FAULTS = [
    Fault("cut_mid_event", route="stream", event="4", byte=k) for k in (0, 1, 10, 40)
] + [
    Fault("cut_clean", route="stream", event="4"),
    Fault("reset_peer", route="stream", event="4"),
    Fault("slice", route="stream", size=1, count=None),
    Fault("split_crlf", route="stream", count=None),
    Fault("mixed_newlines", route="stream", count=None),
    Fault("bom", route="stream", count=None),
    Fault("duplicate", route="stream", event="4", times=3),
    Fault("ids_on_ping", route="stream", count=None),
    Fault("accept_then_drop", route="stream", count=2),
    Fault("refuse", route="stream", count=2),
    Fault("status", route="stream", status=503, retry_after=0, count=2),
    Fault("status", route="stream", status=404, count=2),
    Fault("garbage", route="stream", event="4", value="malformed"),
    Fault("garbage", route="stream", event="4", value="null"),
    Fault("garbage", route="stream", event="4", value="scalar"),
    Fault("garbage", route="stream", event="4", value="nan"),
    Fault("unknown_event", route="stream", event="4"),
    Fault("replay_all", route="stream", count=None),
]


@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("fault", STREAM_FAULTS, ids=lambda fault: f"{fault.kind}")
def test_every_event_once_and_in_order_in_spite_of(
    make_emulator: Make, trainer_of: Make, fault: Fault, framing: str
) -> None:
    emulator = make_emulator(scripted(), framing=framing)
    emulator.faults.add(fault)
    if fault.kind == "replay_all":
        emulator.faults.add(Fault("cut_mid_event", route="stream", event="5", byte=3))
    recorder = Recorder()
    assert trainer_of(emulator, callbacks=recorder, reconnect=QUICK).wait(PATIENCE)
    assert recorder.calls == WHOLE


def test_a_dead_socket_is_noticed_and_the_stream_resumed(
    make_emulator: Make, trainer_of: Make
) -> None:
    emulator = make_emulator(scripted())
    # Each connection that gets so far: one that was given up as too slow may have been another.
    emulator.faults.add(Fault("blackhole", route="stream", event="4", count=None))
    recorder = Recorder()
    policy = ReconnectPolicy(base=0.01, idle_timeout=0.2)
    trainer_of(emulator, callbacks=recorder, reconnect=policy).wait(PATIENCE)
    assert recorder.calls == WHOLE
    emulator.assert_resumed_from("4")


def test_pings_keep_a_quiet_connection_alive(make_emulator: Make, trainer_of: Make) -> None:
    connections = []
    for idle_timeout in (0.4, 2.0, 10.0):  # a machine may stand still for longer than the first
        emulator = make_emulator(ScriptedEngine(steps=2, manual=True), ping_interval=0.05)
        policy = ReconnectPolicy(base=0.01, idle_timeout=idle_timeout)
        run = trainer_of(emulator, reconnect=policy).follow()
        emulator.wait_for(lambda run=run: run.health().last_byte_age is not None)
        pinged = threading.Event()
        threading.Timer(2.5 * idle_timeout, pinged.set).start()
        assert pinged.wait(2 * PATIENCE)
        emulator.step(run.job.id, 99)
        assert run.wait(PATIENCE).status == "completed"
        connections.append(len(emulator.connections()))
        if connections[-1] == 1:
            break
    assert connections[-1] == 1, connections


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault("wrong_content_type", route="stream"), StreamProtocolError, "text/html"),
        (Fault("status", route="stream", status=401), AuthenticationError, "401"),
        (Fault("huge_event", route="stream", event="2"), StreamProtocolError, "max_event_bytes"),
    ],
)
def test_what_cannot_be_mended_is_a_clear_error(
    make_emulator: Make, trainer_of: Make, fault: Fault, error: Any, says: str
) -> None:
    emulator = make_emulator(scripted())
    emulator.faults.add(fault)
    with pytest.raises(error, match=says):
        trainer_of(emulator, reconnect=QUICK).wait(PATIENCE)


def test_the_token_does_not_follow_a_redirect(make_emulator: Make, trainer_of: Make) -> None:
    emulator, elsewhere = make_emulator(scripted()), make_emulator()
    target = f"{elsewhere.url}/v1/jobs/x/events/stream?token=t"
    emulator.faults.add(Fault("redirect", route="stream", value=target, count=None))
    policy = ReconnectPolicy(base=0.01, max_attempts=1)
    with pytest.raises(Exception, match=r"redirected to http://127\.0\.0\.1:\d+"):
        trainer_of(emulator, reconnect=policy).wait(PATIENCE)
    assert elsewhere.requests == []


def test_nothing_that_is_said_holds_the_token(
    make_emulator: Make, trainer_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    token = "tok-0123456789-very-secret"
    emulator = make_emulator(scripted(), token=token)
    emulator.faults.add(Fault("cut_mid_event", route="stream", event="2", byte=9))
    emulator.faults.add(Fault("status", route="stream", nth=3, status=401))
    emulator.faults.add(Fault("cut_clean", route="stream", nth=2, index=1))
    trainer = trainer_of(emulator, reconnect=QUICK, error_policy=ErrorPolicy.log())
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthenticationError) as caught:
        trainer.wait(PATIENCE)
    said = "".join(traceback.format_exception(*caught._excinfo[:3]))  # type: ignore[index]
    everything = caplog.text + said + repr(trainer) + repr(trainer.run) + repr(trainer._client)
    assert len(emulator.connections()) >= 2
    assert token not in everything


def test_a_first_run_signs_in_anonymously_and_shares_its_files(
    make_emulator: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = make_emulator(scripted())
    home, project = tmp_path / "home with spaces", tmp_path / "My Project"
    home.mkdir()
    project.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ARKOR_CLOUD_API_URL", emulator.url + "/")

    def train() -> Any:
        trainer = create_trainer(
            name="first",
            model="unsloth/gemma-4-E4B-it",
            dataset={"type": "huggingface", "name": "a/b"},
            cwd=project,
        )
        return trainer.wait(PATIENCE)

    assert train().status == "completed"
    credentials = home / ".arkor" / "credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert json.loads(credentials.read_text())["arkorCloudApiUrl"] == emulator.url
    state = json.loads((project / ".arkor" / "state.json").read_text())
    assert state["projectSlug"] == "my-project"
    before = len(emulator.requests)
    assert train().status == "completed"
    routes = [(r.method, r.path.split("/")[2]) for r in emulator.requests[before:]]
    assert routes == [("POST", "jobs"), ("GET", "jobs")], "signed in and scoped from the files"


def test_two_trainers_in_one_process_do_not_disturb_each_other(
    make_emulator: Make, trainer_of: Make
) -> None:
    emulator: Emulator = make_emulator(scripted())
    recorders = [Recorder() for _ in range(8)]
    runs = [trainer_of(emulator, callbacks=recorder).follow() for recorder in recorders]
    for run in runs:
        assert run.wait(PATIENCE).status == "completed"
    assert [recorder.calls for recorder in recorders] == [WHOLE] * 8
