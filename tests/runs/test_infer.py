"""Chatting with what a job trained: in a callback, while the job goes on, and after its end."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any, Callable, List

import pytest

from arkor_sync import (
    ArkorUsageError,
    CheckpointContext,
    CloudApiClient,
    NotFoundError,
    Run,
    TrainingResult,
    follow,
)
from arkor_sync.emulator import ScriptedEngine
from support.waiting import PATIENCE, until

Make = Callable[..., Any]
HELLO = [{"role": "user", "content": "hello"}]


def scripted(**more: Any) -> ScriptedEngine:
    evaluated = [5.0, 4.0, 3.0, 2.0, 3.0, 4.0]
    return ScriptedEngine(steps=6, checkpoints=[3, 6], eval_loss=evaluated, **more)


def test_a_checkpoint_answers_while_the_job_goes_on_and_the_final_model_after_it(
    make_emulator: Make, client_of: Make
) -> None:
    emulator = make_emulator(scripted(manual=True))
    job_id = emulator.create_job(name="night")
    with follow(job_id, client=client_of(emulator)) as run:
        with pytest.raises(ArkorUsageError) as early:
            run.infer(HELLO)
        emulator.step(job_id, 5)  # it has started, logged three steps and saved a checkpoint
        until(lambda: run.history.checkpoints == [3])
        assert run.infer(HELLO, step=3).content() == "[night @ 3] hello"
        with pytest.raises(ArkorUsageError) as caught:
            run.infer(HELLO)
        emulator.step(job_id, 5)
        result = run.wait(PATIENCE)
        for each in (run, result):
            assert each.infer(HELLO, stream=False).content() == "[night @ final] hello"
            assert each.infer(HELLO, step=3, temperature=0).content() == "[night @ 3] hello"
    assert str(early.value).endswith(
        "give the step of a checkpoint: the run has seen none so far; "
        "give save_steps to the trainer to have some"
    )
    assert str(caught.value) == (
        f"step: got None, but job {job_id} is running: it has no final model; "
        "give the step of a checkpoint: 3"
    )


def test_the_checkpoint_nearest_to_the_best_value_answers(
    make_emulator: Make, trainer_of: Make
) -> None:
    trainer = trainer_of(make_emulator(scripted()))
    trainer.wait(PATIENCE)
    run = trainer.run
    best = run.history.best("eval_loss")
    assert (best.step, best.value, best.checkpoint) == (4, 2.0, 3)
    assert run.infer(HELLO, step=best.checkpoint).content() == "[a run @ 3] hello"


def test_a_job_that_failed_has_its_checkpoints(make_emulator: Make, trainer_of: Make) -> None:
    result = trainer_of(make_emulator(scripted(fails_at=5))).wait(PATIENCE)
    assert result.infer(HELLO, step=3).content() == "[a run @ 3] hello"
    with pytest.raises(ArkorUsageError, match=r"is failed: it has no final model; .*: 3$"):
        result.infer(HELLO)


def test_a_job_that_was_stopped_has_its_checkpoints(make_emulator: Make, trainer_of: Make) -> None:
    trainer = trainer_of(make_emulator(scripted(silent_at=5)))

    @trainer.on_checkpoint
    def stop(ctx: CheckpointContext) -> None:
        ctx.run.stop("good enough")

    result = trainer.wait(PATIENCE)
    assert result.status == "cancelled"
    assert result.history.checkpoints == [3]
    assert result.infer(HELLO, step=3).content() == "[a run @ 3] hello"


def test_the_final_model_answers_in_the_last_callback(
    make_emulator: Make, trainer_of: Make
) -> None:
    answers: List[Any] = []
    trainer = trainer_of(make_emulator(scripted()))
    trainer.on_completed(lambda ctx: answers.append(ctx.run.infer(HELLO).content()))
    trainer.on_end(lambda ctx: answers.append(ctx.result.infer(HELLO).content()))
    trainer.wait(PATIENCE)
    assert answers == ["[a run @ final] hello"] * 2


def test_a_checkpoints_context_answers_for_itself_and_for_another(
    make_emulator: Make, trainer_of: Make
) -> None:
    contexts: List[CheckpointContext] = []
    trainer = trainer_of(make_emulator(scripted()))
    trainer.on_checkpoint(contexts.append)
    trainer.wait(PATIENCE)
    assert contexts[1].infer(HELLO).content() == "[a run @ 6] hello"
    assert contexts[1].infer(HELLO, step=3).content() == "[a run @ 3] hello"


def test_a_client_needs_the_job_only(
    make_emulator: Make, client_of: Make, trainer_of: Make
) -> None:
    emulator = make_emulator(scripted())
    result = trainer_of(emulator).wait(PATIENCE)
    client = client_of(emulator)
    for job in (result.job, result.job.id):
        assert client.chat(HELLO, job=job).content() == "[a run @ final] hello"
        assert client.chat(HELLO, job=job, step=6).content() == "[a run @ 6] hello"


def test_a_model_that_does_not_exist_is_named(
    make_emulator: Make, client_of: Make, trainer_of: Make
) -> None:
    emulator = make_emulator(scripted(fails_at=5))
    result = trainer_of(emulator).wait(PATIENCE)
    job_id, client = result.job.id, client_of(emulator)
    asked: List[Callable[[], Any]] = [
        lambda: result.infer(HELLO, step=4),
        lambda: client.chat(HELLO, job=job_id, step=4, stream=False),
        lambda: client.chat(HELLO, adapter={"kind": "checkpoint", "jobId": job_id, "step": 4}),
    ]
    for ask in asked:
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert f"(asked for the checkpoint at step 4 of job {job_id})" in str(caught.value)
        assert caught.value.status == 404
        assert caught.value.hint.startswith(f"POST {emulator.url}/v1/")
        assert str(caught.value).endswith(f" ({caught.value.hint})")
    with pytest.raises(NotFoundError, match=rf"\(asked for the final model of job {job_id}\)"):
        client.chat(HELLO, job=job_id)
    with pytest.raises(NotFoundError, match=r"\(asked for the final model of job none\)"):
        client.chat(HELLO, job="none")


def test_a_copy_says_what_to_ask_instead(make_emulator: Make, trainer_of: Make) -> None:
    contexts: List[CheckpointContext] = []
    emulator = make_emulator(scripted())
    trainer = trainer_of(emulator)
    trainer.on_checkpoint(contexts.append)
    result = trainer.wait(PATIENCE)
    job_id = result.job.id
    assert emulator.token.encode() not in pickle.dumps(result) + pickle.dumps(contexts)
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert again == result
        with pytest.raises(ArkorUsageError) as caught:
            again.infer(HELLO)
        assert str(caught.value).endswith(f"client.chat(messages, job={job_id!r})")
        with pytest.raises(ArkorUsageError, match="has no history"):
            print(again.history)
    with pytest.raises(ArkorUsageError) as caught:
        pickle.loads(pickle.dumps(contexts[0])).infer(HELLO)
    assert str(caught.value).endswith(f"client.chat(messages, job={job_id!r}, step=3)")


@pytest.mark.parametrize("step", ["3", 3.0, True])
def test_a_step_is_a_whole_number(make_emulator: Make, trainer_of: Make, step: Any) -> None:
    emulator = make_emulator(scripted())
    result = trainer_of(emulator).wait(PATIENCE)
    with pytest.raises(ArkorUsageError, match=r"^step: got .*; give the step of a checkpoint"):
        result.infer(HELLO, step=step)
    assert not [each for each in emulator.requests if each.path == "/v1/inference/chat"]


def test_every_infer_takes_what_the_clients_chat_takes() -> None:
    chat = inspect.signature(CloudApiClient.chat).parameters
    of_the_client = ("job", "adapter", "base_model", "transport")
    wanted = {n: p for n, p in chat.items() if n not in of_the_client}
    for cls in (Run, TrainingResult, CheckpointContext):
        parameters = inspect.signature(cls.infer).parameters
        assert {n: (p.kind, p.default) for n, p in parameters.items()} == {
            n: (p.kind, p.default) for n, p in wanted.items()
        }
