"""Jobs of the engine, as a client sees them: events, streams, cancels, chats while it trains."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from jobs import NO_PING, create, engine_of, finished, names, until_step
from trainings import Trained, dataset_of

from arkor_sync import (
    Callbacks,
    DatasetSplit,
    LoraConfig,
    Ratio,
    ReconnectPolicy,
    Steps,
    StopTraining,
    Trainer,
    create_trainer,
)
from arkor_sync.emulator import Emulator, Fault
from arkor_sync.handlers import CheckpointEvaluator, EarlyStopping
from support.emulator_client import MODEL, Client
from support.tiny_model import make_tiny_model
from support.waiting import Background, until

pytestmark = pytest.mark.slow

MANY = 100_000  # steps: more than a test waits for
QUESTION = [{"role": "user", "content": "Where is it?"}]
LORA = LoraConfig(r=4, alpha=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    model = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    with Emulator(engine_of(model), **NO_PING) as running:
        with Client(running) as client:  # it starts the child, which then outlives each test
            assert client.chat(baseModel=MODEL, maxTokens=1, stream=False).status_code == 200
        yield running


@pytest.fixture(scope="module")
def data(folder: Path) -> Dict[str, Any]:
    return dataset_of(folder)


@pytest.fixture(autouse=True)
def _nothing_remains(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.faults.clear()
    for job in emulator.jobs.values():
        if not job.terminal:
            with Client(emulator) as client:
                client.post(f"/v1/jobs/{job.id}/cancel")
    assert emulator.errors == []


@pytest.fixture
def trainer_of(emulator: Emulator, folder: Path, data: Any) -> Callable[..., Trainer]:
    def make(**more: Any) -> Trainer:
        return create_trainer(
            **{
                "name": "a run",
                "model": MODEL,
                "dataset": folder / "records.jsonl",
                "lora": LORA,
                "client": emulator.client(),
                **more,
            }
        )

    return make


def test_the_events_of_a_job_with_their_fields(emulator: Emulator, data: Dict[str, Any]) -> None:
    job_id = create(
        emulator,
        data,
        maxSteps=6,
        loraR=4,
        loggingSteps={"ratio": 0.5},
        saveSteps={"steps": 2},
        evalSteps={"ratio": 0.5},
        datasetSplit={"enabled": True, "testSize": 0.25},
        trainOnResponsesOnly=True,
        gpuTypes=["H100"],
    )
    done = finished(emulator, job_id)
    job = emulator.jobs[job_id]
    assert job.status == "completed", job.error
    assert [(e["type"].split(".")[1], e.get("step"), "loss" in e) for e in done.events] == [
        ("started", None, False),
        ("saved", 2, False),
        ("log", 3, True),
        ("log", 3, False),
        ("saved", 4, False),
        ("log", 6, True),
        ("log", 6, False),
        ("saved", 6, False),
        ("completed", None, False),
    ]
    facts = done.events[0]["metadata"]
    assert {
        name: facts[name]
        for name in ("engine", "device", "dtype", "totalSteps", "trainRecords", "evalRecords")
    } == {
        "engine": "lora",
        "device": "cpu",
        "dtype": "float32",
        "totalSteps": 6,
        "trainRecords": 9,
        "evalRecords": 3,
    }
    assert 0 < facts["learntTokens"] < facts["tokens"]
    assert facts["firstRecord"]["learnt"] in facts["firstRecord"]["text"]
    assert facts["firstRecord"]["learnt"].startswith("It is on its way")
    assert "not the job's model 'unsloth/gemma-4-E4B-it'" in facts["note"]
    assert "gpuTypes is for the cloud" in facts["note"]
    first, held_out, *_ = done.of("training.log")
    assert set(first) - {"timestamp", "jobId"} == {
        "type", "step", "loss", "evalLoss", "learningRate", "epoch", "samplesPerSecond"
    }  # fmt: skip
    assert first["evalLoss"] is None
    assert first["epoch"] == held_out["epoch"] == 1.0
    assert first["learningRate"] == pytest.approx(2e-4 * 4 / 6)
    assert held_out["evalLoss"] > 0
    for event, name in zip(
        [*done.of("checkpoint.saved"), done.events[-1]],
        ["checkpoint-2", "checkpoint-4", "checkpoint-6", "final"],
    ):
        (artifact,) = event["artifacts"]
        assert artifact["path"] == str(job.directory / name)
        assert {"adapter_model.safetensors", "adapter_config.json", "README.md"} < set(
            names(job.directory / name)
        )
    assert done.events[-1]["metrics"].keys() == {"finalLoss", "totalSteps", "totalTime"}
    assert done.events[-1]["metrics"]["finalLoss"] == done.losses[6]
    assert names(job.directory) == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "final"]


@pytest.mark.parametrize(
    ("logging", "saving", "evaluating"),
    [(Steps(4), Steps(2), Steps(3)), (Ratio(0.5), Ratio(0.25), Ratio(0.375)), (4, 2, 3)],
    ids=["steps", "ratio", "numbers"],
)
def test_when_it_logs_saves_and_evaluates(
    trainer_of: Callable[..., Trainer], logging: Any, saving: Any, evaluating: Any
) -> None:
    calls: List[Any] = []
    result = trainer_of(
        max_steps=8,
        logging_steps=logging,
        save_steps=saving,
        eval_steps=evaluating,
        dataset_split=DatasetSplit(test_size=0.25),
        callbacks=Callbacks(
            on_log=lambda ctx: calls.append(("log" if ctx.loss else "eval", ctx.step)),
            on_checkpoint=lambda ctx: calls.append(("saved", ctx.step)),
        ),
    ).wait(120)
    assert result.status == "completed"
    assert calls == [
        ("saved", 2),
        ("eval", 3),
        ("log", 4),
        ("saved", 4),
        ("eval", 6),
        ("saved", 6),
        ("log", 8),
        ("saved", 8),
    ]


def test_a_stream_begins_again_after_the_last_event_and_a_cut_one_loses_nothing(
    emulator: Emulator, data: Dict[str, Any], trainer_of: Callable[..., Trainer]
) -> None:
    with Client(emulator) as client:
        job_id = create(emulator, data, maxSteps=4, loraR=4)
        events = client.read(job_id)
        assert [event.json["type"] for event in events[::5]] == [
            "training.started",
            "training.completed",
        ]
        again = client.read(job_id, events[2].id)
        assert [(e.id, e.data) for e in again] == [(e.id, e.data) for e in events[3:]]
    emulator.faults.add(Fault("cut_clean", event="2"), Fault("cut_mid_event", event="4"))
    steps: List[int] = []
    result = trainer_of(
        max_steps=4,
        reconnect=ReconnectPolicy(base=0.01, cap=0.05),
        callbacks=Callbacks(on_log=lambda ctx: steps.append(ctx.step)),
    ).wait(120)
    assert result.status == "completed"
    assert steps == [1, 2, 3, 4]


def test_a_seed_repeats_the_losses_also_while_somebody_chats_and_another_changes_them(
    emulator: Emulator, data: Dict[str, Any]
) -> None:
    def losses(**config: Any) -> Dict[int, float]:
        job_id = create(emulator, data, maxSteps=12, loraR=4, loraDropout=0.5, **config)
        return finished(emulator, job_id).losses

    saving = {"saveSteps": {"steps": 1}}
    first = losses(seed=1, **saving)
    assert losses(seed=2) != first
    chatted: List[int] = []
    job_id = create(emulator, data, maxSteps=12, loraR=4, loraDropout=0.5, seed=1, **saving)
    with Client(emulator) as client:
        job = emulator.jobs[job_id]
        emulator.wait_for(lambda: bool(job.saved_steps), timeout=120)
        while not job.terminal:
            adapter = {"kind": "checkpoint", "jobId": job_id, "step": max(job.saved_steps)}
            reply = client.chat(adapter=adapter, maxTokens=5, temperature=1, stream=False)
            chatted.append(reply.status_code)
    assert chatted.count(200) == len(chatted) > 0
    assert finished(emulator, job_id).losses == first


def test_a_cancel_ends_the_job_within_a_step_and_the_next_one_begins(
    emulator: Emulator, data: Dict[str, Any]
) -> None:
    job_id = create(emulator, data, maxSteps=MANY, loraR=4)
    waiting = create(emulator, data, maxSteps=MANY, loraR=4)
    last = create(emulator, data, maxSteps=2, loraR=4)
    until_step(emulator, job_id, 3)
    assert [emulator.jobs[each].status for each in (waiting, last)] == ["queued", "queued"]
    with Client(emulator) as client:
        client.post(f"/v1/jobs/{waiting}/cancel")  # it has not begun
        client.post(f"/v1/jobs/{job_id}/cancel")
        step = emulator.jobs[job_id].step
        assert finished(emulator, last).losses.keys() == {1, 2}
    assert emulator.jobs[job_id].status == emulator.jobs[waiting].status == "cancelled"
    assert emulator.jobs[job_id].step == step
    assert emulator.jobs[waiting].events[:-1] == []
    assert not (emulator.jobs[job_id].directory / "final").exists()


def test_stopping_in_a_callback_cancels_the_job(
    emulator: Emulator, trainer_of: Callable[..., Trainer]
) -> None:
    def stop(ctx: Any) -> None:
        if ctx.step == 3:
            raise StopTraining("enough")

    result = trainer_of(max_steps=MANY, callbacks=Callbacks(on_log=stop)).wait(120)
    assert result.status == "cancelled"
    assert result.stop_reason == "enough"
    assert emulator.jobs[result.job.id].status == "cancelled"


def test_early_stopping_ends_a_training_that_gets_no_better(
    trainer_of: Callable[..., Trainer],
) -> None:
    stopping = EarlyStopping(monitor="loss", patience=2, min_delta=100.0)
    result = trainer_of(max_steps=MANY, logging_steps=2, callbacks=stopping).wait(120)
    assert result.status == "cancelled"
    assert stopping.stopped_step is not None
    assert 4 <= stopping.stopped_step <= 8


def test_each_checkpoint_answers_while_the_training_goes_on(
    trainer_of: Callable[..., Trainer],
) -> None:
    answers: Dict[int, List[str]] = {}

    def ask(ctx: Any) -> None:
        whole = ctx.infer(QUESTION, temperature=0, max_tokens=20, stream=False).content()
        pieces = "".join(ctx.infer(QUESTION, temperature=0, max_tokens=20))
        answers[ctx.step] = [whole, pieces]

    result = trainer_of(
        max_steps=20, save_steps=10, learning_rate=0.05, callbacks=Callbacks(on_checkpoint=ask)
    ).wait(120)
    assert result.status == "completed"
    assert sorted(answers) == [10, 20]
    assert all(whole == pieces for whole, pieces in answers.values())
    assert answers[10] != answers[20]


def test_an_evaluation_in_the_middle_scores_each_checkpoint(
    trainer_of: Callable[..., Trainer],
) -> None:
    evaluator = CheckpointEvaluator(
        prompts=[QUESTION, [{"role": "user", "content": "Hello"}]],
        expected=["x", "y"],
        scorer=lambda answer, _: float(len(answer)),
        max_concurrency=2,
        max_tokens=8,
    )
    result = trainer_of(max_steps=4, save_steps=2, callbacks=evaluator).wait(120)
    assert result.status == "completed"
    assert evaluator.best_step in (2, 4)


def test_a_job_that_is_refused_names_the_setting_and_needs_no_turn(
    emulator: Emulator, data: Dict[str, Any]
) -> None:
    running = create(emulator, data, maxSteps=MANY, loraR=4)
    refused = create(emulator, data, packing=True)
    assert finished(emulator, refused).events[-1]["error"].startswith("the setting 'packing' is")
    assert not emulator.jobs[running].terminal


def test_two_clients_ask_at_once_while_a_third_waits_for_its_job(
    emulator: Emulator, data: Dict[str, Any]
) -> None:
    def ask() -> List[str]:
        with Client(emulator) as client:
            barrier.wait()
            reply = client.chat("hi", baseModel=MODEL, temperature=0, maxTokens=12, stream=False)
            return [json.loads(reply.content)["choices"][0]["message"]["content"]]

    job_id = create(emulator, data, maxSteps=MANY, loraR=4)
    until_step(emulator, job_id, 1)
    barrier = threading.Barrier(2)
    one, other = Background(ask), Background(ask)
    assert one.result() == other.result()
    until(lambda: (emulator.jobs[job_id].step or 0) > 1)


def test_a_branch_starts_from_a_checkpoint_of_another_job(
    emulator: Emulator, data: Dict[str, Any]
) -> None:
    config = {"maxSteps": 6, "loraR": 4, "saveSteps": {"steps": 2}, "lrSchedulerType": "constant"}
    job_id = create(emulator, data, **config)
    whole = finished(emulator, job_id)
    same = finished(emulator, emulator.branch(job_id, 2))
    assert same.losses == {step: loss for step, loss in whole.losses.items() if step > 2}
    other_id = emulator.branch(job_id, 4, learning_rate=1e-5, max_steps=8)
    other = finished(emulator, other_id)
    assert sorted(other.losses) == [5, 6, 7, 8]
    assert other.losses[5] == whole.losses[5]
    assert {log["learningRate"] for log in other.of("training.log")} == {1e-5}
    refused: Trained = finished(emulator, emulator.branch(job_id, 6))
    assert "nothing to train after step 6" in refused.events[-1]["error"]
