"""The base of all notifiers: what is told, when, and how hard it is tried.

The callbacks run on a run's worker thread and only queue. What was queued is sent by the
notifier's own threads.
"""

from __future__ import annotations

import abc
import dataclasses
import logging
import os
import threading
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from arkor_sync._common.clock import Clock
from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    EndContext,
    FailedContext,
    LogContext,
    ReconnectContext,
    StartedContext,
)
from arkor_sync.errors import ArkorUsageError, RunAborted
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.safety import harmless, said
from arkor_sync.handlers._shared.state_per_run import PerRun
from arkor_sync.handlers.notifiers.notification import (
    Notification,
    Sample,
    clean,
    message,
    notification,
)
from arkor_sync.stream.reconnect import ReconnectPolicy

logger = logging.getLogger("arkor_sync.handlers")

EVENTS = ("started", "checkpoint", "reconnect", "completed", "failed", "cancelled", "error")
Prompt = Union[str, Sequence[Mapping[str, Any]]]

_QUEUE = 100  # notifications
_LONGEST_WAIT = 60.0  # seconds before a next attempt, whatever the service asks for
_ANSWER_TOKENS = 256
_ANSWER_TIMEOUT = 60.0  # seconds


class Undelivered(Exception):
    """The service refused a notification, and will not take it later either."""


class Unavailable(Undelivered):
    """It did not take it now."""


@dataclasses.dataclass
class _Told:
    """What was told of one job. The state that outlives the process is all but `pinged`."""

    once: Set[str] = dataclasses.field(default_factory=set)
    checkpoint: int = -1
    progress: int = 0
    pinged: Dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def restored(cls, _: TrainingJob, saved: Any) -> _Told:
        """Begin with what an earlier process told, if there was one."""
        if saved is None:
            return cls()
        return cls(set(saved["once"]), saved["checkpoint"], saved["progress"])

    def to_json(self) -> Dict[str, Any]:
        """Return what outlives the process."""
        return {
            "once": sorted(self.once),
            "checkpoint": self.checkpoint,
            "progress": self.progress,
        }


@dataclasses.dataclass(repr=False, eq=False)
class Notifier(Callback, abc.ABC):
    """What all notifiers have in common. One may be shared by runs that go on at the same time.

    A notification never fails, slows or repeats a run. The callbacks only queue it; a thread of
    the notifier sends it. At most 100 wait: the oldest that is not about the end of a run makes
    room, one about the end is always kept. While such a one waits, the others are not retried.
    A refusal that may pass (429, 5xx, no connection) is tried again, after the time that the
    service asks for; what could not be sent is logged, without the URL. An event that is delivered
    again is told once, also by another process that carries on with the same cursor store.

    Args:
        url: Where to; a secret that is never shown. By default the environment variable of the
            service. Where that is unset too, the notifier is silently off.
        on: What is told: `completed`, `failed`, `cancelled` (also where the program itself stopped
            the run, with its reason), `started`, `checkpoint`, `reconnect`, and `error`: the run
            ended with an exception, whatever the job does.
        every_n_steps: Tell the metrics at the first log at or after each multiple. None: never.
        prompts: What each checkpoint is asked; the answers come with its notification. A text is
            a user's message; or give whole lists of messages.
        min_interval: Seconds between two messages of progress, and between two of reconnects;
            what comes sooner is not told.
        flush_timeout: Seconds that the end of a run waits for what is still queued.
        attempts: How often one notification is tried.
        clock: Time, for tests.

    Raises:
        ArkorUsageError: An argument that cannot work.
    """

    url: dataclasses.InitVar[Optional[str]] = None
    on: Sequence[str] = ("completed", "failed")
    every_n_steps: Optional[int] = None
    prompts: Sequence[Prompt] = ()
    min_interval: float = 30.0
    flush_timeout: float = 5.0
    attempts: int = 5
    clock: Clock = dataclasses.field(default_factory=Clock)

    variable = ""
    """The environment variable that has the URL by default."""

    def __post_init__(self, url: Optional[str]) -> None:
        self.on = (self.on,) if isinstance(self.on, str) else tuple(self.on)
        self.prompts = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        self._check()
        self._jobs = PerRun(_Told.restored, _Told.to_json)
        self._not_before = 0.0  # on the clock: the service wants to be left alone until then
        self._never = threading.Event()
        name = type(self).__name__
        self._outbox: Outbox[Notification] = Outbox(name, self._deliver, limit=_QUEUE)
        # Apart, so that a slow answer never holds up the news that the run has failed.
        self._asking: Outbox[Tuple[Notification, CheckpointContext]] = Outbox(
            f"{name}-samples", self._ask, limit=_QUEUE
        )
        url = (os.environ.get(self.variable, "") if url is None else url).strip()
        self.enabled = bool(url)
        if url:
            self._connect(url)

    def __repr__(self) -> str:
        told = ",".join(self.on) if self.enabled else "off"
        return f"<{type(self).__name__} {told}>"

    def send(self, note: Notification) -> None:
        """Queue a notification of your own. It never blocks and never raises; any thread may."""
        if self.enabled:
            self._outbox.put(note, droppable=not note.last)

    @harmless
    def notify(self, text: str) -> None:
        """Queue a plain text; its first line becomes the title. It never blocks and never raises.

        Any thread may call it: `CheckpointEvaluator(prompts, notify=slack.notify)`. Like a message
        of progress it is dropped where too many wait. It is sent before `wait()` returns where the
        notifier is one of the run's callbacks too, after the one that calls this; else it is given
        two seconds at the interpreter's exit.

        Args:
            text: What to tell; control characters are left out, and nothing in it mentions anybody.
        """
        note = message(text)
        if note.title:
            self.send(note)

    @harmless
    def on_started(self, ctx: StartedContext) -> None:
        """Tell that the job began to run."""
        if "started" in self.on and self._first(ctx, "started"):
            self.send(notification(ctx, "started", " started"))

    @harmless
    def on_log(self, ctx: LogContext) -> None:
        """Tell the metrics, every so many steps."""
        told, every = self._jobs.of(ctx), self.every_n_steps
        if every is None or not self.enabled:
            return
        if ctx.step // every <= told.progress // every:
            return
        told.progress = ctx.step
        if self._too_soon(told, "progress"):
            return
        names = ("loss", "eval_loss", "learning_rate", "epoch", "samples_per_second")
        metrics = {name: getattr(ctx, name) for name in names}
        self.send(
            notification(ctx, "progress", f": step {ctx.step}", step=ctx.step, metrics=metrics)
        )

    @harmless
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Tell of a checkpoint, with its answers."""
        told = self._jobs.of(ctx)
        if "checkpoint" not in self.on or not self.enabled:
            return
        if ctx.step <= told.checkpoint:
            return
        told.checkpoint = ctx.step
        note = notification(ctx, "checkpoint", f": checkpoint {ctx.step}", step=ctx.step)
        if self.prompts:
            self._asking.put((note, ctx))
        else:
            self.send(note)

    @harmless
    def on_reconnect(self, ctx: ReconnectContext) -> None:
        """Tell that the event stream was lost."""
        if "reconnect" not in self.on or self._too_soon(self._jobs.of(ctx), "reconnect"):
            return
        what = f": connection lost ({ctx.failures} in a row), next attempt in {ctx.delay:.0f} s"
        self.send(notification(ctx, "reconnect", what, text=ctx.error))

    @harmless
    def on_completed(self, ctx: CompletedContext) -> None:
        """Tell that the training completed, with its final metrics."""
        self._completed(ctx, ctx.metrics)

    @harmless
    def on_failed(self, ctx: FailedContext) -> None:
        """Tell that the training failed, and why."""
        self._failed(ctx, ctx.error, ctx.step)

    @harmless
    def on_cancelled(self, ctx: CancelledContext) -> None:
        """Tell that the job was cancelled."""
        self._cancelled(ctx, "")

    @harmless
    def on_end(self, ctx: EndContext) -> None:
        """Tell what has not been told yet, and wait for what is queued, up to the deadline."""
        self._tell_end(ctx)
        self._jobs.drop(ctx)
        deadline = time.monotonic() + self.flush_timeout
        for outbox in (self._outbox, self._asking, self._outbox):
            if not outbox.flush(max(0.0, deadline - time.monotonic())):
                break

    def state_dict(self) -> Dict[str, Any]:
        """Return what was told of the job whose worker thread asks."""
        return self._jobs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process told."""
        self._jobs.load_state_dict(state)

    def _check(self) -> None:
        for event in self.on:
            if event not in EVENTS:
                raise ArkorUsageError(f"on: {event!r:.80} is none of {', '.join(EVENTS)}")
        if self.prompts and "checkpoint" not in self.on:
            raise ArkorUsageError("prompts are asked at checkpoints: add 'checkpoint' to on")
        if any(isinstance(prompt, Mapping) for prompt in self.prompts):
            raise ArkorUsageError("prompts: put the messages of one prompt into a list of its own")
        every = 1 if self.every_n_steps is None else self.every_n_steps
        for name, count in (("every_n_steps", every), ("attempts", self.attempts)):
            if type(count) is not int or count < 1:
                raise ArkorUsageError(f"{name} must be a whole number from 1, not {count!r}")
        for name in ("min_interval", "flush_timeout"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= threading.TIMEOUT_MAX:
                raise ArkorUsageError(f"{name} must be seconds from 0, not {value!r}")

    @abc.abstractmethod
    def _connect(self, url: str) -> None:
        """Take the URL; an `ArkorUsageError` about it must not show it."""

    @abc.abstractmethod
    def _attempt(self, note: Notification) -> None:
        """Send a notification once.

        Raises:
            Unavailable: It may be taken later.
            Undelivered: It will not.
        """

    def _completed(self, ctx: Any, metrics: Any) -> None:
        if "completed" in self.on and self._first(ctx, "completed"):
            numbers = dataclasses.asdict(metrics)
            self.send(notification(ctx, "completed", " completed", metrics=numbers))

    def _failed(self, ctx: Any, error: str, step: Optional[int]) -> None:
        if "failed" in self.on and self._first(ctx, "failed"):
            what = " failed" if step is None else f" failed at step {step}"
            self.send(notification(ctx, "failed", what, text=error, step=step, urgent=True))

    def _cancelled(self, ctx: Any, reason: str) -> None:
        if "cancelled" in self.on and self._first(ctx, "cancelled"):
            self.send(notification(ctx, "cancelled", " was cancelled", text=reason))

    @harmless
    def _tell_end(self, ctx: EndContext) -> None:
        outcome = ctx.run.outcome
        if outcome is not None and outcome.status == "completed":
            self._completed(ctx, outcome.metrics)
        elif outcome is not None and outcome.status == "failed":
            self._failed(ctx, outcome.job.error or "", None)
        elif outcome is not None:
            self._cancelled(ctx, outcome.stop_reason or "")
        error = ctx.error
        if error is not None and "error" in self.on:
            urgent = not isinstance(error, (RunAborted, KeyboardInterrupt))
            what = " is not followed any more"
            self.send(notification(ctx, "error", what, text=said(error), urgent=urgent))

    def _first(self, ctx: Any, event: str) -> bool:
        once = self._jobs.of(ctx).once
        if event in once:
            return False
        once.add(event)
        return True

    def _too_soon(self, told: _Told, event: str) -> bool:
        now, last = self.clock.now(), told.pinged.get(event)
        if last is not None and now - last < self.min_interval:
            return True
        told.pinged[event] = now
        return False

    def _ask(self, batch: List[Tuple[Notification, CheckpointContext]]) -> None:
        for note, ctx in batch:
            samples = tuple(_sample(ctx, prompt) for prompt in self.prompts)
            self.send(dataclasses.replace(note, samples=samples))

    def _deliver(self, batch: List[Notification]) -> None:
        for note in batch:
            try:
                self._send(note)
            except Undelivered as why:
                self._lost(note, str(why))
            except BaseException as error:  # its text may hold the URL
                self._lost(note, type(error).__name__)

    def _lost(self, note: Notification, why: str) -> None:
        what = f"{note.event} of job {note.job_id}"
        logger.warning("%s: %s was not delivered: %s", type(self).__name__, what, why)

    def _send(self, note: Notification) -> None:
        delays = ReconnectPolicy(cap=_LONGEST_WAIT).delays()
        wait, why = 0.0, ""
        for attempt in range(1, self.attempts + 1):
            if not self._wait(note, max(wait, self._not_before - self.clock.now())):
                what = "the end of a run had to be told first"
                raise Undelivered(f"{why}; {what}" if why else what)
            try:
                self._attempt(note)
                break
            except Unavailable as unavailable:
                if attempt == self.attempts:
                    raise
                why = str(unavailable)
                wait = next(delays) * (0.5 + self.clock.random() / 2)

    def _leave_alone(self, seconds: Optional[float]) -> None:
        """Send nothing for a while, because the service said so."""
        if seconds:
            self._not_before = self.clock.now() + min(seconds, _LONGEST_WAIT)

    def _wait(self, note: Notification, seconds: float) -> bool:
        """Wait before an attempt; return False if something that matters more waits by then."""
        stop = self._never if note.last else self._outbox.pressing
        return seconds <= 0 or not self.clock.wait(stop, seconds)


def _sample(ctx: CheckpointContext, prompt: Prompt) -> Sample:
    """Ask a checkpoint. An error is an answer too: one prompt that fails spoils nothing."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    try:
        asked = str(messages[-1].get("content"))
        answer = ctx.infer(
            messages,
            stream=False,
            temperature=0,
            max_tokens=_ANSWER_TOKENS,
            timeout=_ANSWER_TIMEOUT,
        )
        return Sample(clean(asked, 1000), clean(answer.content() or "(no text)", 4000))
    except Exception as error:
        logger.warning("checkpoint %d: no sample: %s", ctx.step, said(error))
        return Sample(clean(prompt, 1000), f"(no answer: {type(error).__name__})")
