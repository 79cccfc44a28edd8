"""The default engine: it trains a small language model. Runs in the job's thread."""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from arkor_sync.emulator.clock import monotonic
from arkor_sync.emulator.engine import dataset, structured
from arkor_sync.emulator.engine.base import (
    ChatRequest,
    CheckpointNotFound,
    Engine,
    Piece,
    Ticket,
    TrainingFailed,
)
from arkor_sync.emulator.engine.ngram_model import Example, NgramModel, encode
from arkor_sync.emulator.engine.sample import RECORDS
from arkor_sync.emulator.engine.schedule import DEFAULT_LEARNING_RATE, Schedule, is_due, plan
from arkor_sync.emulator.http.messages import ApiError
from arkor_sync.emulator.models import Item, Job

# The greatest number of records in an evaluation, so that it takes little time.
EVAL_RECORDS = 64
DEFAULT_TEMPERATURE = 0.2


class NgramEngine(Engine):
    """Trains a character n-gram model over the job's data set, and chats with it.

    It does not download: the `model` of a job is written down and is not trained, and a data set of
    the Hugging Face Hub is replaced by a bundled sample, as a warning and the event
    `training.started` (`metadata.note`) say.

    It is a small statistical model, not a neural network, but it is really trained, and what it
    reports is measured. `loss` is the mean negative log likelihood of a batch, in nats per
    character, *before* the batch is learnt; `evalLoss` is the same over the records that
    `datasetSplit` sets aside. The learning rate is the weight of a batch: 2e-4 counts it once. In
    `maxLength` and `maxTokens` a token is a character. LoRA sizes, the optimiser and the GPU have
    no effect.

    The same seed, data and config give the same losses and the same answers.

    Args:
        seed: Seeds the order of the records and the sampling. A `seed`
            in the config or in a chat request overrides it.
        step_delay: Virtual seconds to wait in each step.
        manual: The job gets no thread. `emu.step(job_id)` publishes its events.
    """

    def __init__(self, *, seed: int = 42, step_delay: float = 0.0, manual: bool = False) -> None:
        super().__init__(manual=manual)
        self._seed = seed
        self._step_delay = step_delay
        self._lock = threading.Lock()
        self._loaded: Dict[Optional[Path], NgramModel] = {}

    def events(self, ticket: Ticket) -> Iterator[Item]:
        """Train, and yield the events of the stream."""
        config = ticket.config
        note = dataset.note(ticket.job)
        learnt, held_out = dataset.split(dataset.load(config["datasetSource"]), config)
        train, test = _encoded(learnt, config), _encoded(held_out[:EVAL_RECORDS], config)
        schedule = plan(config, len(train), evaluates=bool(test))
        yield {
            "type": "training.started",
            "metadata": {
                "engine": "ngram",
                "totalSteps": schedule.total_steps,
                "trainRecords": len(train),
                "evalRecords": len(test),
                **({} if note is None else {"note": note}),
            },
        }
        model = NgramModel({character for example in train for character in example.text})
        started = monotonic()
        loss = 0.0
        batches = _batches(train, schedule, config.get("seed", self._seed))
        for step, batch in enumerate(batches, start=1):
            if ticket.stopping:
                return
            loss = _mean_loss(model, batch)
            rate = schedule.rate_at(step)
            for example in batch:
                model.learn(example, rate / DEFAULT_LEARNING_RATE)
            ticket.sleep(self._step_delay)
            last = step == schedule.total_steps
            if is_due(step, schedule.logging_steps) or last:
                elapsed = max(monotonic() - started, 1e-9)
                yield {
                    "type": "training.log",
                    "step": step,
                    "loss": round(loss, 6),
                    "evalLoss": None,
                    "learningRate": rate,
                    "epoch": round(step / schedule.steps_per_epoch, 4),
                    "samplesPerSecond": round(step * schedule.batch_size / elapsed, 3),
                }
            if is_due(step, schedule.eval_steps) and not ticket.stopping:
                yield {
                    "type": "training.log",
                    "step": step,
                    "evalLoss": round(_mean_loss(model, test), 6),
                    "epoch": round(step / schedule.steps_per_epoch, 4),
                }
            if is_due(step, schedule.save_steps):
                artifact = _save(model, _path(ticket.job, step))
                yield {"type": "checkpoint.saved", "step": step, "artifacts": [artifact]}
        artifact = _save(model, _path(ticket.job, None))
        metrics = {
            "finalLoss": round(loss, 6),
            "totalSteps": schedule.total_steps,
            "totalTime": round(monotonic() - started, 3),
        }
        yield {"type": "training.completed", "artifacts": [artifact], "metrics": metrics}

    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> Iterable[Piece]:
        """Answer with a checkpoint. The base model is trained on the bundled sample."""
        model = self._model(job, step)
        rng = random.Random(chat.seed if chat.seed is not None else self._seed)
        temperature = DEFAULT_TEMPERATURE if chat.temperature is None else chat.temperature

        def characters(limit: int = chat.max_tokens) -> Iterator[str]:
            return model.generate(
                chat.messages, temperature=temperature, top_p=chat.top_p, limit=limit, rng=rng
            )

        def short_text() -> str:
            return "".join(characters(min(40, chat.max_tokens)))

        if chat.tool is not None:
            name, schema = chat.tool
            arguments = json.dumps(structured.instance(schema, short_text))
            function = {"name": name, "arguments": arguments}
            return [
                {"id": f"call_{uuid.uuid4().hex[:12]}", "type": "function", "function": function}
            ]
        if chat.constraint is None:
            return _by_word(characters())
        kind, wanted = chat.constraint
        if kind == "choice":
            return [max(wanted, key=lambda choice: model.score(chat.messages, choice))]
        if kind == "json":
            return [json.dumps(structured.instance(wanted, short_text))]
        raise ApiError(
            400, f"the emulator's model cannot follow a {kind}", "not_supported_by_emulator"
        )

    def _model(self, job: Optional[Job], step: Optional[int]) -> NgramModel:
        path = _path(job, step) if job else None
        with self._lock:
            model = self._loaded.get(path)
            if model is None:
                model = _base_model() if path is None else _load(path)
                while len(self._loaded) > 2:
                    self._loaded.pop(next(iter(self._loaded)))
                self._loaded[path] = model
        return model


def _encoded(records: List[dataset.Record], config: Dict[str, Any]) -> List[Example]:
    responses_only, limit = config.get("trainOnResponsesOnly") is True, config.get("maxLength")
    examples = [
        encode(record, responses_only=responses_only, max_length=limit and int(limit))
        for record in records
    ]
    examples = [example for example in examples if example.size]
    if records and not examples:
        raise TrainingFailed(
            "no record has a text to learn: check trainOnResponsesOnly and maxLength"
        )
    return examples


def _batches(
    examples: List[Example], schedule: Schedule, seed: object
) -> Iterator[Tuple[Example, ...]]:
    """Yield the batch of each step. Every epoch has another order."""
    for step in range(schedule.total_steps):
        epoch, position = divmod(step, schedule.steps_per_epoch)
        if position == 0:
            order = list(examples)
            random.Random(f"{seed}:{epoch}").shuffle(order)
        first = position * schedule.batch_size
        yield tuple(order[first : first + schedule.batch_size])


def _mean_loss(model: NgramModel, examples: Iterable[Example]) -> float:
    losses = [model.loss(example) for example in examples]
    return sum(total for total, _ in losses) / sum(size for _, size in losses)


def _path(job: Job, step: Optional[int]) -> Path:
    return job.directory / ("final.ngram" if step is None else f"checkpoint-{step}.ngram")


def _save(model: NgramModel, path: Path) -> Dict[str, Any]:
    unfinished = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(model.dump())
        os.replace(unfinished, path)
    except OSError as error:
        raise TrainingFailed(f"{path} cannot be written: {error.strerror}") from error
    return {"type": "local-adapter", "path": str(path)}


def _load(path: Path) -> NgramModel:
    try:
        return NgramModel.restore(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointNotFound("the adapter was never saved") from None


def _base_model() -> NgramModel:
    examples = [encode(record) for record in RECORDS]
    model = NgramModel({character for example in examples for character in example.text})
    for example in examples:
        model.learn(example, 1.0)
    return model


def _by_word(characters: Iterator[str]) -> Iterator[str]:
    word = ""
    for character in characters:
        word += character
        if character.isspace():
            yield word
            word = ""
    if word:
        yield word
