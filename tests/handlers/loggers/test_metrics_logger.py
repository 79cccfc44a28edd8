"""The base of all metrics loggers: who is told what, once, and without harm to the run."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from arkor_sync import (
    ArkorUsageError,
    BlobDataset,
    FileCursorStore,
    StopTraining,
    create_trainer,
    follow,
    handlers,
)
from arkor_sync.emulator import ScriptedEngine
from arkor_sync.handlers import MetricsLogger
from arkor_sync.handlers.loggers import base as module
from arkor_sync.handlers.loggers.base import LogRow, describe_without_secrets, metrics_of
from arkor_sync.render.hyperparams import flatten_hyperparams
from support.logger_contexts import a_job, end, log, started
from support.waiting import PATIENCE

EVENTS = [
    {"type": "training.started"},
    {"type": "training.log", "step": 1, "loss": 3.0, "learningRate": 0.001, "gradNorm": 0.5},
    {"type": "training.log", "step": 1, "evalLoss": 3.1},
    {"type": "training.log", "step": 2, "loss": 2.5, "note": "no number", "odd name!": 1},
    {"type": "training.completed", "artifacts": []},
]


@pytest.fixture(autouse=True)
def _threads_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arkor_sync.handlers._shared.outbox._IDLE_SECONDS", 0.01)


class Noted(MetricsLogger):
    """Writes down what it is told."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.told: List[Tuple[str, str, Any]] = []
        self.threads: List[str] = []

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        self._note("params", params)

    def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
        self._note("metrics", (step, metrics))

    def finalize(self, status: str) -> None:
        self._note("end", status)

    def of(self, what: str) -> List[Any]:
        return [told for _, each, told in self.told if each == what]

    def _note(self, what: str, told: Any) -> None:
        self.told.append((self.job.id, what, told))
        self.threads.append(threading.current_thread().name)


def train(client: Any, callbacks: Any, **more: Any) -> Any:
    arguments = {"dataset": {"type": "huggingface", "name": "arkorlab/triage-demo"}, **more}
    return create_trainer(
        name="a run",
        model="unsloth/gemma-4-E4B-it",
        callbacks=callbacks,
        client=client,
        **arguments,
    ).wait(PATIENCE)


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_a_run_is_logged_in_order_before_wait_returns(arkor_client: Any) -> None:
    noted = Noted()
    result = train(arkor_client, noted, max_steps=2)
    assert [what for _, what, _ in noted.told] == ["params", "metrics", "metrics", "metrics", "end"]
    assert {job_id for job_id, _, _ in noted.told} == {result.job.id}
    assert noted.of("params")[0]["maxSteps"] == 2
    assert noted.of("metrics") == [
        (1, {"loss": 3.0, "learning_rate": 0.001, "gradNorm": 0.5}),
        (1, {"eval_loss": 3.1}),
        (2, {"loss": 2.5}),
    ]
    assert noted.of("end") == ["completed"]
    assert set(noted.threads) == {"arkor-Noted"}
    assert noted._states._states == {}


@pytest.mark.arkor(engine=ScriptedEngine(events=EVENTS))
def test_no_secret_of_the_job_is_a_hyperparameter(arkor_client: Any) -> None:
    noted = Noted()
    train(
        arkor_client,
        noted,
        dataset=BlobDataset("https://me:s3cret@host/data.jsonl?sig=s3cret#s3cret", token="s3cret"),
        max_steps=5,
        extra={"hub": {"accessToken": "s3cret", "API_KEY": "s3cret"}, "maxTokens": 7},
    )
    [params] = noted.of("params")
    assert "s3cret" not in json.dumps(params)
    assert params["datasetSource.url"] == "https://host/data.jsonl"
    assert params["maxTokens"] == 7


def test_a_configuration_is_flattened() -> None:
    config = {"a": {"b": {"c": 1}}, "gpus": ["x", {"y": 2}], "none": None, "flag": False}
    assert flatten_hyperparams(config) == {"a.b.c": 1, "gpus.0": "x", "gpus.1.y": 2, "flag": False}
    config = {"prompt": "Is it? See https://me:s3cret@h/a?sig=s3cret and ftp://h/b#c"}
    assert flatten_hyperparams(config) == {"prompt": "Is it? See https://h/a and ftp://h/b"}
    config = {"gpuTypes": ["h100", "a100"], "ratios": [1, 0.5], "nothing": []}
    assert flatten_hyperparams(config) == {"gpuTypes": "h100, a100", "ratios": "1, 0.5"}


def test_what_is_no_finite_number_is_no_metric() -> None:
    data = {"loss": float("inf"), "evalLoss": 10**400, "epoch": True, "x": -1, "": 1, "a b": 1}
    assert metrics_of(log(1, **data).event) == {"x": -1}


def test_what_no_backend_could_take_is_not_logged() -> None:
    noted = Batched()
    rows: List[LogRow] = []
    noted._log_rows = rows.extend  # type: ignore[method-assign]
    for step, timestamp in ((1, "2026-01-01T00:00:00Z"), (2**63, "t"), (2, "t\0")):
        noted.on_log(log(step, loss=1.0, timestamp=timestamp))
    noted.on_end(end())
    assert rows == [
        LogRow(1, {"loss": 1.0}, "2026-01-01T00:00:00Z"),
        LogRow(2, {"loss": 1.0}, None),
    ]


@pytest.mark.arkor(engine=ScriptedEngine(steps=5, fails_at=3))
def test_a_failed_run_is_finalized_as_failed(arkor_client: Any) -> None:
    noted = Noted()
    train(arkor_client, noted)
    assert noted.of("end") == ["failed"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=5, silent_at=2))
def test_a_stopped_run_is_finalized_as_cancelled_and_one_with_an_error_as_error(
    arkor_client: Any,
) -> None:
    noted = Noted()

    def stop(ctx: Any) -> None:
        raise StopTraining("enough")

    def break_off(ctx: Any) -> None:
        raise LookupError("mine")

    train(arkor_client, [noted, {"on_log": stop}])
    with pytest.raises(LookupError, match="mine"):
        train(arkor_client, [noted, {"on_log": break_off}])
    assert noted.of("end") == ["cancelled", "error"]
    assert noted._states._states == {}


def test_a_job_that_was_never_heard_of_is_not_made_up() -> None:
    noted = Noted()
    noted.on_end(end(None))
    assert noted.told == []


def test_an_event_that_comes_again_is_logged_once() -> None:
    noted = Noted()
    for ctx in [started(), log(1, loss=1.0), log(1, loss=1.0), log(1, evalLoss=2.0)] * 2:
        (noted.on_log if hasattr(ctx, "loss") else noted.on_started)(ctx)  # type: ignore[arg-type]
    noted.on_end(end())
    assert [what for _, what, _ in noted.told] == ["params", "metrics", "metrics", "end"]


@pytest.mark.arkor(engine=ScriptedEngine(steps=6))
def test_a_backend_that_breaks_in_the_middle_does_not_harm_the_run(
    arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Noted):
        def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
            if step >= 3:
                raise OSError("no route to //user:s3cret@host?api_key=s3cret")
            super().log_metrics(metrics, step)

        def finalize(self, status: str) -> None:
            raise OSError("gone")

    broken = Broken()
    assert train(arkor_client, broken).status == "completed"
    assert [step for step, _ in broken.of("metrics")] == [1, 2]
    assert caplog.text.count("Broken.log_metrics failed") == 1, "once, not for every step"
    assert "4 logs of job" in caplog.text
    assert "Broken.finalize failed" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.arkor(engine=ScriptedEngine(steps=6))
def test_a_backend_that_hangs_does_not_hold_the_run_up(
    arkor_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = threading.Event()

    class Hanging(Noted):
        def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
            assert let_go.wait(PATIENCE)
            super().log_metrics(metrics, step)

        def finalize(self, status: str) -> None:
            super().finalize(status)
            done.set()

    done = threading.Event()
    hanging = Hanging(flush_timeout=0.05)
    assert train(arkor_client, hanging).status == "completed"
    assert hanging.of("metrics") == []
    assert "Hanging: 6 logs of job " in caplog.text
    assert " not delivered within 0.1 s: still being delivered" in caplog.text
    let_go.set()  # what is late is still delivered
    assert done.wait(PATIENCE)
    assert [step for step, _ in hanging.of("metrics")] == [1, 2, 3, 4, 5, 6]
    assert hanging.of("end") == ["completed"]


class Batched(Noted):
    """Takes rows in batches, while it is up."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.up = True

    def _log_rows(self, rows: List[LogRow]) -> None:
        if not self.up:
            raise ConnectionError("refused")
        self._note("rows", [row.step for row in rows])


def drain(logger: MetricsLogger) -> None:
    for run in list(logger._states._states.values()):
        assert run.outbox.flush(PATIENCE)


def test_what_a_batching_backend_refused_is_tried_again_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0)
    batched = Batched()
    for step in range(1, 6):
        batched.up = step not in (2, 3)
        batched.on_log(log(step, loss=1.0))
        drain(batched)
    batched.on_end(end())
    assert batched.of("rows") == [[1], [2, 3, 4], [5]]


def test_what_is_not_delivered_at_the_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    batched = Batched()
    batched.up = False
    for step in (1, 2):
        batched.on_log(log(step, loss=1.0))
    batched.on_end(end())
    assert "Batched: 2 logs of job job-1 are lost: ConnectionError: refused" in caplog.text
    assert batched.of("end") == ["completed"]


def test_only_so_many_rows_wait_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    batched = Batched()
    batched.up = False
    for step in range(10):
        batched.on_log(log(step, loss=1.0))
        drain(batched)
    batched.up = True
    batched.on_log(log(10, loss=1.0))
    batched.on_end(end())
    assert batched.of("rows") == [[8, 9, 10]]
    assert "Batched: 8 logs of job job-1 are lost" in caplog.text


def test_a_backend_that_refuses_is_left_alone_for_a_while() -> None:
    tries: List[int] = []

    class Refusing(MetricsLogger):
        def _log_rows(self, rows: List[LogRow]) -> None:
            tries.append(len(rows))
            raise ConnectionError("refused")

    refusing = Refusing()
    for step in range(1, 201):
        refusing.on_log(log(step, loss=1.0))
        drain(refusing)
    assert len(tries) < 20, "a try with all that waits for each event would take the CPU"
    refusing.on_end(end())
    assert tries[-1] == 200, "at the end it is tried whatever was before"


def test_a_backend_that_ends_its_thread_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Exits(Noted):
        def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
            if step == 2:
                sys.exit("enough")
            super().log_metrics(metrics, step)

    exits = Exits(flush_timeout=PATIENCE)
    for step in (1, 2, 3):
        exits.on_log(log(step, loss=1.0))
        drain(exits)
    exits.on_end(end())
    assert [step for step, _ in exits.of("metrics")] == [1, 3]
    assert exits.of("end") == ["completed"]
    assert "Exits.log_metrics failed for job job-1: SystemExit: enough" in caplog.text


def test_only_so_many_rows_wait_for_a_backend_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    entered, let_go = threading.Event(), threading.Event()

    class Hanging(Batched):
        def _log_rows(self, rows: List[LogRow]) -> None:
            entered.set()
            assert let_go.wait(PATIENCE)
            super()._log_rows(rows)

    hanging = Hanging()
    hanging.on_log(log(0, loss=1.0))
    assert entered.wait(PATIENCE)
    for step in range(1, 10):
        hanging.on_log(log(step, loss=1.0))
        assert len(hanging._states._states["job-1"].waiting) <= 3
    let_go.set()
    hanging.on_end(end())
    assert hanging.of("rows") == [[0], [7, 8, 9]]
    assert "Hanging: 6 logs of job job-1 are lost: too many were waiting" in caplog.text


def test_a_process_that_carries_on_delivers_what_waited_and_knows_what_was_told() -> None:
    first = Batched()
    first.on_log(log(1, loss=1.0))
    drain(first)
    first.up = False
    for step in (2, 3):
        first.on_log(log(step, loss=1.0))
        drain(first)
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) < 500

    second = Batched()
    second.load_state_dict(state)
    second.on_log(log(3, loss=1.0))  # the event that was in flight
    drain(second)
    second.on_log(log(4, loss=1.0))
    second.on_end(end())
    assert [step for steps in second.of("rows") for step in steps] == [2, 3, 4]
    first.on_end(end())


@pytest.mark.arkor(engine=ScriptedEngine(steps=8))
def test_a_run_that_is_carried_on_after_an_outage_misses_nothing(
    arkor_emulator: Any, arkor_client: Any, tmp_path: Path
) -> None:
    store, job_id = FileCursorStore(tmp_path), arkor_emulator.create_job()
    first, second = Batched(), Batched()

    def on_log(ctx: Any) -> None:
        drain(first)
        first.up = ctx.step < 3
        if ctx.step == 6:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        follow(
            job_id, client=arkor_client, callbacks=[first, {"on_log": on_log}], cursor_store=store
        ).wait(PATIENCE)
    follow(job_id, client=arkor_client, callbacks=second, cursor_store=store).wait(PATIENCE)
    assert first.of("rows") == [[1], [2], [3]]
    assert [step for steps in second.of("rows") for step in steps] == [4, 5, 6, 7, 8]


def test_one_logger_serves_many_runs_at_once() -> None:
    noted = Noted()
    barrier = threading.Barrier(4)

    def follow(number: int) -> None:
        job = a_job(f"job-{number}")
        barrier.wait(PATIENCE)
        noted.on_started(started(job))
        for step in range(1, 21):
            noted.on_log(log(step, job, loss=float(number)))
        noted.on_end(end("completed", job))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(follow, range(4)))
    for number in range(4):
        told = [(what, each) for job_id, what, each in noted.told if job_id == f"job-{number}"]
        assert told[0][0] == "params"
        assert [each for _, each in told[1:-1]] == [
            (step, {"loss": float(number)}) for step in range(1, 21)
        ]
        assert told[-1] == ("end", "completed")
    assert noted._states._states == {}
    assert noted.state_dict() == {}


def test_a_forked_child_knows_of_no_run() -> None:
    noted = Noted()
    noted.on_log(log(1, loss=1.0))
    drain(noted)
    with noted._states.lock, noted._states._states_lock:  # as threads of the parent may have them
        noted._states.after_fork()
        noted.load_state_dict({"job-1": {"seen": [], "rows": [[7, {"loss": 7.0}, None]]}})
        noted.on_log(log(1, loss=1.0))
        drain(noted)
        noted.on_end(end())
    assert noted.of("metrics") == [(1, {"loss": 1.0}), (7, {"loss": 7.0}), (1, {"loss": 1.0})]


@pytest.mark.parametrize(
    ("name", "library", "arguments"),
    [
        ("DatabaseLogger", "sqlalchemy", []),
        ("DatadogEvents", "datadog", ["key"]),
        ("MLflowLogger", "mlflow", []),
        ("OpenTelemetryMetrics", "opentelemetry.metrics", []),
        ("PostHogCapture", "posthog.request", ["key"]),
        ("TensorBoardLogger", "tensorboardX.summary", ["logs"]),
        ("WandbLogger", "wandb", []),
    ],
)
def test_a_library_that_is_missing_is_told_at_construction_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str, arguments: List[Any]
) -> None:
    monkeypatch.setitem(sys.modules, library.partition(".")[0], None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    logger_of = getattr(handlers, name)
    extra = logger_of.__module__.rpartition(".")[2]
    with pytest.raises(ArkorUsageError, match=f"{name} needs the extra '{extra}': pip install"):
        logger_of(*arguments)


@pytest.mark.parametrize("seconds", [-1, "5", None, True, float("nan")])
def test_a_flush_timeout_that_cannot_be_is_refused(seconds: Any) -> None:
    with pytest.raises(ArkorUsageError, match="flush_timeout"):
        MetricsLogger(flush_timeout=seconds)


def test_an_error_is_told_in_one_line_without_secrets() -> None:
    error = OSError("//u:pw1@h/p?token=tok1&x=1 'apiKey': 'key1' own1\nParameters: more")
    told = describe_without_secrets(error, ["own1"])
    assert told == "OSError: //h/p?token=[hidden]&x=1 'apiKey': '[hidden]' [hidden]"
    assert describe_without_secrets(OSError("Authorization: Bearer abc.def"), []) == (
        "OSError: Authorization: Bearer [hidden]"
    )


@pytest.mark.parametrize(
    "secret",
    ["HF_PAT=abcdef123", "hf_abcdefghijklmnop", "https://h/x?sig=abcdef123", "Basic YWJjZGVmMTIz"],
)
def test_an_error_line_hides_what_is_secret_by_its_name_or_form(secret: str) -> None:
    told = describe_without_secrets(OSError(f"refused: {secret}"), [])
    assert secret.rpartition("=")[2].rpartition(" ")[2] not in told


def test_rows_that_wait_are_bounded_in_their_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 1000)
    monkeypatch.setattr(MetricsLogger, "_request_delivery", lambda *_: None)
    logger, job = MetricsLogger(), a_job()
    for step in range(1, 21):
        logger.on_log(log(step, job, **{f"m{n}": 1.0 for n in range(400)}))
    state = logger._states.get_or_create(log(21, job))
    assert [len(row.metrics) for row in state.waiting] == [256] * 3
    assert state.waiting[-1].step == 20
    assert state.lost == 17


@pytest.mark.parametrize("before", range(470, 500))
def test_no_half_of_a_secret_is_left_where_an_error_is_cut(before: int) -> None:
    assert "s3c" not in describe_without_secrets(
        OSError("x" * before + "s3cret-s3cret"), ["s3cret-s3cret"]
    )


def test_an_error_that_has_no_text_is_told_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("no text")

    assert describe_without_secrets(Mute(), []) == "Mute: (it has no text)"


def test_a_run_saves_its_own_state_and_that_of_no_other() -> None:
    noted, states = Noted(), {}

    def follow(number: int) -> None:
        job = a_job(f"job-{number}")
        noted.on_started(started(job))
        all_there.wait(PATIENCE)
        states[job.id] = noted.state_dict()
        all_there.wait(PATIENCE)
        noted.on_end(end("completed", job))

    all_there = threading.Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(follow, range(3)))
    assert {job_id: list(state) for job_id, state in states.items()} == {
        f"job-{number}": [f"job-{number}"] for number in range(3)
    }


def test_states_that_no_run_asks_for_do_not_pile_up() -> None:
    noted = Noted()
    for number in range(3000):
        noted.load_state_dict({f"job-{number}": {"seen": [], "rows": []}})
    assert len(noted.state_dict()) == 1000
    assert "job-2999" in noted.state_dict()


def test_a_job_whose_configuration_is_not_told_is_logged_all_the_same() -> None:
    noted, job = Noted(), a_job()
    job.config.clear()
    noted.on_started(started(job))
    noted.on_end(end("completed", job))
    assert noted.of("params") == [{}]
