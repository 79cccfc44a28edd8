"""The engine for tests: its loss curve is given. Runs in the job's thread."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Sequence, Union

from arkor_sync.emulator.clock import timestamp
from arkor_sync.emulator.engine.base import ChatRequest, Engine, Piece, Ticket
from arkor_sync.emulator.models import AUTO_ID, Frame, Item, Job

Loss = Union[Callable[[int], Optional[float]], Sequence[Optional[float]]]
Reply = Union[str, Dict[str, Any], Iterable[Piece]]
ReplyFunction = Callable[[ChatRequest, Optional[Job], Optional[int]], Reply]

# A placeholder: it is replaced once the event is encoded.
_NOT_FINITE = "@not-finite@"


def default_loss(step: int) -> float:
    """Return a loss that falls from about 3 to 0.5."""
    return round(0.5 + 2.5 * math.exp(-step / 20), 6)


class ScriptedEngine(Engine):
    """Yields the events of a training without training anything.

    Without `events` it starts, logs the loss of each step, saves the checkpoints, and completes.

    Args:
        steps: How many steps the run has.
        loss: The loss: a function of the step (from 1), or a list with a value for each step.
        eval_loss: The same for `evalLoss`, in the same log events; None leaves it out.
        checkpoints: The steps at which a checkpoint is saved.
        logging_steps: A log event every so many steps.
        plateau: The step from which the loss no longer changes.
        diverges: The step from which the loss grows by half in each step.
        nan_at: The step at which the loss is not a number.
        nan_as: How that is written: `NaN`, `null`, `1e309`.
        fails_at: The step at which the job fails.
        error: The error text of the failure.
        silent_at: The step after which no more events come, and the job does not end.
        events: What the stream carries instead: events, pairs of an event and its id, `Frame`
            objects, or raw bytes.
        reply: The chat answer: a text, pieces, a tool call, or a function of the request, the job
            and the step. If left out, the answer is the job, the step and the prompt.
        step_delay: Virtual seconds before each item.
        manual: The job gets no thread. `emu.step(job_id)` publishes its events.
    """

    def __init__(
        self,
        *,
        steps: int = 10,
        loss: Loss = default_loss,
        eval_loss: Optional[Loss] = None,
        checkpoints: Iterable[int] = (),
        logging_steps: int = 1,
        plateau: Optional[int] = None,
        diverges: Optional[int] = None,
        nan_at: Optional[int] = None,
        nan_as: str = "NaN",
        fails_at: Optional[int] = None,
        error: str = "CUDA out of memory",
        silent_at: Optional[int] = None,
        events: Optional[Iterable[Item]] = None,
        reply: Union[Reply, ReplyFunction, None] = None,
        step_delay: float = 0.0,
        manual: bool = False,
    ) -> None:
        super().__init__(manual=manual)
        self._steps = steps
        self._loss = loss
        self._eval_loss = eval_loss
        self._checkpoints = frozenset(checkpoints)
        self._logging_steps = logging_steps
        self._plateau = plateau
        self._diverges = diverges
        self._nan_at = nan_at
        self._nan_as = nan_as
        self._fails_at = fails_at
        self._error = error
        self._silent_at = silent_at
        self._events = None if events is None else tuple(events)
        self._reply = reply
        self._step_delay = step_delay

    def events(self, ticket: Ticket) -> Iterator[Item]:
        """Yield the events of the stream."""
        for item in self._script(ticket.job) if self._events is None else self._events:
            ticket.sleep(self._step_delay)
            yield item

    def loss_at(self, step: int) -> Optional[float]:
        """Return the loss of a step. `nan_at` is not considered."""
        if self._plateau is not None:
            step = min(step, self._plateau)
        if self._diverges is not None and step > self._diverges:
            start = _value(self._loss, self._diverges)
            return None if start is None else round(start * 1.5 ** (step - self._diverges), 6)
        return _value(self._loss, step)

    def _script(self, job: Job) -> Iterator[Item]:
        yield {"type": "training.started", "metadata": {"totalSteps": self._steps}}
        loss = None
        for step in range(1, self._steps + 1):
            if step == self._fails_at:
                yield {"type": "training.failed", "error": self._error, "step": step}
                return
            loss = self.loss_at(step)
            if step == self._nan_at:
                yield self._not_finite(job, step)
            elif step % self._logging_steps == 0:
                event = {"type": "training.log", "step": step, "loss": loss}
                if self._eval_loss is not None:
                    event["evalLoss"] = _value(self._eval_loss, step)
                yield event
            if step in self._checkpoints:
                artifact = {"type": "scripted-adapter", "path": f"checkpoint-{step}"}
                yield {"type": "checkpoint.saved", "step": step, "artifacts": [artifact]}
            if step == self._silent_at:
                return
        yield {
            "type": "training.completed",
            "artifacts": [{"type": "scripted-adapter", "path": "final"}],
            "metrics": {"finalLoss": loss, "totalSteps": self._steps, "totalTime": 0.0},
        }

    def _not_finite(self, job: Job, step: int) -> Frame:
        """Return a log event whose loss may be invalid JSON."""
        event = {
            "jobId": job.id,
            "timestamp": timestamp(),
            "type": "training.log",
            "step": step,
            "loss": _NOT_FINITE,
        }
        text = json.dumps(event).replace(f'"{_NOT_FINITE}"', self._nan_as)
        return Frame(text, AUTO_ID, "training.log")

    def reply(self, job: Optional[Job], step: Optional[int], chat: ChatRequest) -> Iterable[Piece]:
        """Answer with the reply that was given."""
        reply = self._reply
        if callable(reply):
            reply = reply(chat, job, step)
        if reply is None:
            name = job.name if job else chat.body.get("baseModel")
            reply = f"[{name} @ {'final' if step is None else step}] {chat.prompt}"
        if isinstance(reply, str):
            return [word for word in reply.replace(" ", " \0").split("\0") if word]
        return [reply] if isinstance(reply, dict) else reply


def _value(source: Loss, step: int) -> Optional[float]:
    if callable(source):
        return source(step)
    return source[min(step, len(source)) - 1]
