"""Trains a LoRA adapter, step by step. Runs on a thread of its own."""

from __future__ import annotations

import gc
import inspect
import math
import random
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from arkor_sync.emulator.clock import monotonic
from arkor_sync.emulator.engine.base import TrainingFailed
from arkor_sync.emulator.engine.dataset import split
from arkor_sync.emulator.engine.lora import checkpoints, records
from arkor_sync.emulator.engine.lora.base_model import BaseModel
from arkor_sync.emulator.engine.lora.optimisers import optimiser_of
from arkor_sync.emulator.engine.lora.records import IGNORED
from arkor_sync.emulator.engine.lora.settings import DRY_RUN_HELD_OUT, Settings
from arkor_sync.emulator.engine.schedule import Schedule, is_due, plan

MAX_GRADIENT_NORM = 1.0

Batch = List[Tuple[List[int], List[int]]]
"""The tokens and the labels of some records."""


class Stopped(Exception):
    """The job is to end now, by a cancel for example."""


class Training:
    """One job's training.

    Args:
        base: The model that gets an adapter. Its own modules are not changed.
        config: The job's config.
        settings: What the config says of the training.
        directory: Where the checkpoints are saved.
        publish: Takes each event.
        stopping: Whether the job is to end. It is asked between micro-batches.
    """

    def __init__(
        self,
        base: BaseModel,
        config: Dict[str, Any],
        settings: Settings,
        directory: Path,
        publish: Callable[[Dict[str, Any]], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._base = base
        self._config = config
        self._settings = settings
        self._directory = directory
        self._publish = publish
        self._stopping = stopping
        self._device = base.model.device
        self._loss = 0.0
        self._micro = 1  # how many records are computed at once; see `_learn`

    def run(self, carried_on: Optional[Tuple[Path, int]]) -> None:
        """Train to the end.

        Args:
            carried_on: The checkpoint's folder and step to carry on from; None begins anew.

        Raises:
            TrainingFailed: The job fails; the text is the reason.
            Stopped: `stopping` became true.
        """
        import torch

        data, train, held_out = self._read()
        held_out = held_out[: DRY_RUN_HELD_OUT if self._settings.dry_run else None]
        schedule = self._plan(len(train), evaluates=bool(held_out))
        first = carried_on[1] if carried_on else 0
        # One that carries on by itself may have saved its last step, and not the final adapter.
        branched = carried_on is not None and carried_on[0].parent != self._directory
        if first > schedule.total_steps or (branched and first == schedule.total_steps):
            raise TrainingFailed(
                f"there is nothing to train after step {first}: the job has "
                f"{schedule.total_steps} steps; give a greater max_steps"
            )
        torch.manual_seed(self._settings.seed)
        model = self._with_adapter()
        optimiser = optimiser_of(self._settings, model)
        rate_of = self._rates(optimiser, schedule)
        if carried_on:
            self._carry_on(carried_on[0], model, optimiser)
        self._publish(self._started(model, data, train, held_out, schedule))
        try:
            self._steps(model, optimiser, rate_of, schedule, data, train, held_out, first)
        finally:
            del model, optimiser, rate_of
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _read(self) -> Tuple[records.TokenizedRecords, List[int], List[int]]:
        context = getattr(self._base.model.config, "max_position_embeddings", None)
        wanted = [n for n in (self._settings.max_length, context) if n]
        template = records.Template(
            self._base.tokenizer, self._settings.responses_only, min(wanted, default=1 << 30)
        )
        data = records.tokenized(
            records.read(self._config), template, self._directory, self._stopping
        )
        if self._stopping():
            raise Stopped
        return (data, *split(list(range(len(data))), self._config))

    def _plan(self, count: int, *, evaluates: bool) -> Schedule:
        config = self._config
        if self._settings.dry_run:
            planned = plan(config, count, evaluates=evaluates)
            total = min(planned.total_steps, self._settings.dry_run)
            config = {**config, "maxSteps": total, "evalSteps": {"steps": total}}
        return plan(config, count, evaluates=evaluates)

    def _with_adapter(self) -> Any:
        from peft import LoraConfig, get_peft_model

        settings = self._settings
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(self._base.copy(), config)
        model.train()
        return model

    def _rates(self, optimiser: Any, schedule: Schedule) -> Callable[[int], float]:
        """Return the function of a step's learning rate, which depends on nothing but the step."""
        from transformers import get_scheduler

        factor = get_scheduler(
            self._settings.scheduler,
            optimiser,
            num_warmup_steps=schedule.warmup_steps,
            num_training_steps=schedule.total_steps,
        ).lr_lambdas[0]
        return lambda step: float(self._settings.learning_rate * factor(step - 1))

    def _carry_on(self, folder: Path, model: Any, optimiser: Any) -> None:
        import torch

        state = checkpoints.load_state(folder)
        checkpoints.load_weights(folder, model)
        self._loss = state["loss"]
        if state["optim"] == self._settings.optimiser:  # a branch may have another one
            optimiser.load_state_dict(state["optimiser"])
            for group in optimiser.param_groups:
                group["weight_decay"] = self._settings.weight_decay
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_random"])

    def _started(
        self,
        model: Any,
        data: records.TokenizedRecords,
        train: List[int],
        held_out: List[int],
        schedule: Schedule,
    ) -> Dict[str, Any]:
        base = self._base
        lengths = sorted(data.length(index) for index in range(len(data)))
        tokens, labels = data[train[0]]
        learnt = [token for token, label in zip(tokens, labels) if label != IGNORED]
        note = (
            f"what is trained is {base.name} (licence: {base.licence}), on {self._device}, and not "
            f"the job's model {self._config['model']!r:.100}"
        )
        note += "; gpuTypes is for the cloud" if self._config.get("gpuTypes") else ""
        return {
            "type": "training.started",
            "metadata": {
                "engine": "lora",
                "model": base.name,
                "license": base.licence,
                "device": str(self._device),
                "dtype": str(base.model.dtype).replace("torch.", ""),
                "trainedParameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "totalSteps": schedule.total_steps,
                "batchSize": schedule.batch_size,
                "trainRecords": len(train),
                "evalRecords": len(held_out),
                "tokens": data.tokens,
                "learntTokens": data.learnt,
                "recordTokens": {"median": lengths[len(lengths) // 2], "longest": lengths[-1]},
                "firstRecord": {
                    "text": base.tokenizer.decode(tokens)[:2000],
                    "learnt": base.tokenizer.decode(learnt)[:2000],
                },
                "note": note,
            },
        }

    def _steps(
        self,
        model: Any,
        optimiser: Any,
        rate_of: Callable[[int], float],
        schedule: Schedule,
        data: records.TokenizedRecords,
        train: List[int],
        held_out: List[int],
        first: int,
    ) -> None:
        self._micro = schedule.batch_size
        begun = logged_at = monotonic()
        samples = 0
        parameters = [each for each in model.parameters() if each.requires_grad]
        for step, chosen in self._batches(train, schedule, first):
            rate = rate_of(step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = [data[index] for index in chosen]
            self._loss = self._learn(model, parameters, batch, step)
            if not math.isfinite(self._loss):
                raise TrainingFailed(
                    f"the loss of step {step} is {self._loss}: the learning rate is too high"
                )
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            samples += len(batch)
            last = step == schedule.total_steps
            epoch = round(step / schedule.steps_per_epoch, 4)
            log = {"type": "training.log", "step": step, "epoch": epoch}
            if is_due(step, schedule.logging_steps) or last:
                now = monotonic()
                speed = samples / max(now - logged_at, 1e-9)
                self._publish(
                    {
                        **log,
                        "loss": round(self._loss, 6),
                        "evalLoss": None,
                        "learningRate": rate,
                        "samplesPerSecond": round(speed, 3),
                    }
                )
                samples, logged_at = 0, now
            if is_due(step, schedule.eval_steps):
                loss = round(self._evaluate(model, data, held_out), 6)
                self._publish({**log, "evalLoss": loss})
            if is_due(step, schedule.save_steps):
                saved = self._save(model, optimiser, step)
                self._publish({"type": "checkpoint.saved", "step": step, "artifacts": [saved]})
        artifact = self._save(model, optimiser, None)
        metrics = {
            "finalLoss": round(self._loss, 6),
            "totalSteps": schedule.total_steps,
            "totalTime": round(monotonic() - begun, 3),
        }
        self._publish({"type": "training.completed", "artifacts": [artifact], "metrics": metrics})

    def _batches(
        self, train: List[int], schedule: Schedule, first: int
    ) -> Iterator[Tuple[int, List[int]]]:
        """Yield each step after `first` and the records of its batch. Each epoch has an order."""
        order: List[int] = []
        for done in range(first, schedule.total_steps):
            epoch, position = divmod(done, schedule.steps_per_epoch)
            if position == 0 or not order:
                order = list(train)
                random.Random(f"{self._settings.seed}:{epoch}").shuffle(order)
            start = position * schedule.batch_size
            yield done + 1, order[start : start + schedule.batch_size]

    def _learn(self, model: Any, parameters: List[Any], batch: Batch, step: int) -> float:
        """Add up the gradients of a batch. Return its loss: the mean of its learnt tokens.

        The sum over all tokens is divided once: a mean of the means of micro-batches would be
        another number. When memory is out, the micro-batch is halved, and the batch begins anew.
        """
        import torch

        count = _learnt(batch)
        while True:
            random_state = torch.get_rng_state()
            try:
                total = 0.0
                for start in range(0, len(batch), self._micro):
                    if self._stopping():
                        raise Stopped
                    loss = self._sum_of_losses(model, batch[start : start + self._micro]) / count
                    loss.backward()
                    total += loss.item()
                torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
                return total
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                reason = _out_of_memory(batch, self._micro)
            for each in parameters:
                each.grad = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self._micro == 1:
                raise TrainingFailed(reason)
            self._micro = (self._micro + 1) // 2
            torch.set_rng_state(random_state)
            self._publish(
                {
                    "type": "training.log",
                    "step": step - 1,
                    "metadata": {
                        "note": f"out of memory: from here on {self._micro} records are computed "
                        "at once; a step still has as many records as before"
                    },
                }
            )

    def _evaluate(self, model: Any, data: records.TokenizedRecords, held_out: List[int]) -> float:
        import torch

        total, count = 0.0, 0
        model.eval()
        try:
            with torch.inference_mode():
                for start in range(0, len(held_out), self._micro):
                    if self._stopping():
                        raise Stopped
                    batch = [data[index] for index in held_out[start : start + self._micro]]
                    total += self._sum_of_losses(model, batch).item()
                    count += _learnt(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            raise TrainingFailed(_out_of_memory(batch, self._micro)) from None
        finally:
            model.train()
        return total / count

    def _sum_of_losses(self, model: Any, batch: Batch) -> Any:
        """Return the sum of the negative log likelihoods of the learnt tokens."""
        import torch

        longest = max(len(tokens) for tokens, _ in batch)
        padding = self._base.tokenizer.pad_token_id or 0
        tokens = [ids + [padding] * (longest - len(ids)) for ids, _ in batch]
        labels = [known + [IGNORED] * (longest - len(known)) for _, known in batch]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in batch]
        given = {"input_ids": tokens, "attention_mask": mask}
        given = {name: torch.tensor(each, device=self._device) for name, each in given.items()}
        targets = torch.tensor(labels, device=self._device)[:, 1:]
        # The logits are the largest tensor: they are made only where a token is learnt.
        columns = (targets != IGNORED).any(dim=0).nonzero().flatten()
        if "logits_to_keep" in inspect.signature(self._base.model.forward).parameters:
            logits = model(**given, logits_to_keep=columns, use_cache=False).logits
        else:
            logits = model(**given, use_cache=False).logits[:, columns]
        return torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            targets[:, columns].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def _save(self, model: Any, optimiser: Any, step: Optional[int]) -> Dict[str, Any]:
        import torch

        state = {"optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
        state.update(optim=self._settings.optimiser, loss=self._loss)
        if torch.cuda.is_available():
            state["cuda_random"] = torch.cuda.get_rng_state_all()
        folder = checkpoints.folder_of(self._directory, step)
        return checkpoints.save(folder, model, self._base, state)


def _learnt(batch: Batch) -> int:
    """Count the tokens that are learnt; the first of a record is predicted from nothing."""
    return sum(label != IGNORED for _, labels in batch for label in labels[1:])


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate" in text


def _out_of_memory(batch: Batch, micro: int) -> str:
    longest = max(len(tokens) for tokens, _ in batch)
    return (
        f"out of memory with {micro} records at once, the longest of {longest} tokens: lower "
        "max_length or the adapter's r, or train a smaller model"
    )
