"""What a rehearsal says of the events of a local training. The training itself is in `lora/`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Dict, List, Optional

import pytest

from arkor_sync import ArkorUsageError, LoraConfig, Rehearsal, Trainer, create_trainer
from arkor_sync.emulator import Engine, ScriptedEngine

MODEL = "unsloth/gemma-4-E4B-it"
METADATA: Dict[str, Any] = {
    "model": "Tiny",
    "license": "mit",
    "batchSize": 4,
    "trainRecords": 18,
    "evalRecords": 2,
    "tokens": 1000,
    "learntTokens": 400,
    "recordTokens": {"median": 50, "longest": 90},
    "firstRecord": {"text": "user: hi\nassistant: yes", "learnt": "yes"},
}


def trainer(**changed: Any) -> Trainer:
    settings = {
        "name": "bot",
        "model": MODEL,
        "dataset": {"type": "huggingface", "name": "emulator/sample"},
        **changed,
    }
    return create_trainer(**settings)


def log(step: int, loss: Optional[float]) -> Dict[str, Any]:
    return {"type": "training.log", "step": step, "loss": loss, "samplesPerSecond": 2.0}


def events_of(losses: List[Any], **changed: Any) -> List[Dict[str, Any]]:
    return [
        {"type": "training.started", "metadata": {**METADATA, **changed}},
        *(log(step, loss) for step, loss in enumerate(losses, start=1)),
        {"type": "training.log", "step": len(losses), "evalLoss": 1.5},
        {"type": "training.completed", "artifacts": []},
    ]


class Stage:
    """Takes the place of `LoraEngine`: it plays events, and keeps the configuration."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: List[Dict[str, Any]] = events_of([2.0, 1.0])
        self.config: Dict[str, Any] = {}
        self.arguments: Any = None
        monkeypatch.setattr("arkor_sync.emulator.LoraEngine", self.make)

    def make(self, model: Any, *, dry_run_steps: int) -> Engine:
        self.arguments = model, dry_run_steps
        stage = self

        class Playing(ScriptedEngine):
            def events(self, ticket: Any) -> Any:
                stage.config = dict(ticket.config)
                return super().events(ticket)

        return Playing(events=self.events)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_it_tells_what_was_trained_and_with_what(stage: Stage) -> None:
    found = trainer().rehearse(model="folder")
    assert stage.arguments == ("folder", 30)
    assert asdict(found) == {
        "ok": True,
        "error": None,
        "model": "Tiny",
        "license": "mit",
        "steps": 2,
        "first_loss": 2.0,
        "last_loss": 1.0,
        "eval_loss": 1.5,
        "seconds_per_step": 2.0,
        "records": 20,
        "tokens": 1000,
        "learnt_tokens": 400,
        "longest_record": 90,
        "first_record_text": "user: hi\nassistant: yes",
        "first_record_learnt": "yes",
        "warnings": (),
        "notes": (f"the chat template and the tokens are those of Tiny, not of {MODEL}",),
    }
    assert str(found).splitlines() == [
        "the rehearsal is good",
        "trained: Tiny (licence: mit), 2 steps, 2 s each",
        "loss: 2.000 at first, 1.000 at last; held out 1.500",
        "data: 20 records, 1,000 tokens, of which 40% are learnt; the longest record has 90",
        "first record: user: hi assistant: yes",
        "learnt of it: yes",
        f"note: the chat template and the tokens are those of Tiny, not of {MODEL}",
    ]


def test_what_only_the_cloud_can_do_is_left_out_and_named(stage: Stage) -> None:
    bot = trainer(
        lora=LoraConfig(r=8, alpha=16, load_in_4bit=True),
        max_steps=1000,
        optim="adamw_8bit",
        lr_scheduler_type="cosine",
        save_steps=100,
        gpu_types=["h100"],
        extra={"packing": True, "futureSetting": None},
    )
    before = dict(bot.config)
    found = bot.rehearse(5)
    assert stage.arguments == (None, 5)
    assert bot.config == before
    assert found.notes[:2] == (
        "not tried here: loadIn4bit True, gpuTypes ['h100'], optim 'adamw_8bit'",
        "not tried here, and not known here; is the spelling right? packing",
    )
    assert stage.config == {
        "model": MODEL,
        "datasetSource": {"type": "huggingface", "name": "emulator/sample"},
        "loraR": 8,
        "loraAlpha": 16,
        "maxSteps": 1000,
        "lrSchedulerType": "cosine",
        "dryRun": True,
        "loggingSteps": {"steps": 1},
    }


def test_a_training_that_fails_is_told_first(stage: Stage) -> None:
    stage.events = [{"type": "training.failed", "error": "the data set's line 3 is \x1b[2Jwrong"}]
    found = trainer().rehearse()
    assert found == Rehearsal(ok=False, error="the data set's line 3 is \x1b[2Jwrong")
    assert str(found) == "the rehearsal FAILED: the data set's line 3 is wrong"


def test_a_loss_that_is_not_a_number_is_a_failure(stage: Stage) -> None:
    stage.events = events_of([2.0, float("nan"), float("nan")])
    found = trainer().rehearse()
    assert not found.ok
    assert found.error == "the loss of step 2 is not a number; lower learning_rate"


@pytest.mark.parametrize(
    ("losses", "changed", "warning"),
    [
        ([3, 2, 2, 2, 3, 3], {}, "the loss does not fall: 2.500 in the first steps, 3.000 in the "),
        ([2, 2, 2, 2, 2, 2], {}, "the loss does not fall: 2.000 in the first steps, 2.000 in the "),
        ([2, 1], {"learntTokens": 49}, "only 4.9% of the tokens are learnt"),
    ],
)
def test_what_is_suspicious_is_a_warning(
    stage: Stage, losses: List[float], changed: Dict[str, Any], warning: str
) -> None:
    stage.events = events_of(losses, **changed)
    found = trainer().rehearse()
    assert found.ok
    assert [each.startswith(warning) for each in found.warnings] == [True]
    assert f"warning: {warning}" in str(found)


@pytest.mark.parametrize("losses", [[2, 3, 4, 5, 6], [4, 4, 4, 3, 3, 3]])
def test_a_few_steps_or_a_loss_that_falls_warn_of_nothing(stage: Stage, losses: List[Any]) -> None:
    stage.events = events_of(losses)
    assert trainer().rehearse().warnings == ()


def test_memory_that_ran_out_on_the_way_is_a_warning(stage: Stage) -> None:
    note = {"type": "training.log", "step": 1, "metadata": {"note": "out of memory: 2 at once"}}
    stage.events.insert(2, note)
    assert trainer().rehearse().warnings == ("out of memory: 2 at once",)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "3", None])
def test_a_number_of_steps_that_cannot_work_is_refused(stage: Stage, steps: Any) -> None:
    with pytest.raises(ArkorUsageError, match=r"steps: got .*; give a whole number of steps"):
        trainer().rehearse(steps)
    assert stage.arguments is None


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arkor_sync.emulator.engine.lora.engine.PYTHONS", ((3, 9), (3, 99)))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ArkorUsageError) as caught:
        trainer().rehearse()
    assert str(caught.value) == (
        "rehearse: LoraEngine needs the extra 'local', and torch is not installed: pip install "
        "'torch>=2.6' 'transformers>=5.0' 'peft>=0.18' 'gguf>=0.17' 'llguidance>=1.0'"
    )


def test_a_python_without_the_libraries_is_told_which_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arkor_sync.emulator.engine.lora.engine.PYTHONS", ((3, 7), (3, 8)))
    with pytest.raises(ArkorUsageError, match=r"which serve Python 3\.7 to 3\.8, and this is 3\."):
        trainer().rehearse()
