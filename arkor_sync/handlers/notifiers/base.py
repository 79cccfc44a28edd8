"""The base class of all notifiers. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue a notification. A thread of the
notifier sends it, and another one asks the checkpoints for their answers.
"""

import abc
import dataclasses
import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync._common.environment import variable
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import Secret
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
from arkor_sync.handlers._shared.exceptions import describe_error, log_exceptions
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.state_per_run import StatePerRun
from arkor_sync.handlers.notifiers.notification import (
    Notification,
    build_message,
    build_notification,
)
from arkor_sync.handlers.notifiers.samples import Prompt, ask_checkpoint
from arkor_sync.stream.reconnect import ReconnectPolicy

logger = get_logger("arkor_sync.handlers")

EVENTS = ("started", "checkpoint", "reconnect", "completed", "failed", "cancelled", "error")

_NEVER_SET = threading.Event()
_MAX_WAITING = 100  # notifications
_MAX_DELAY = 60.0  # seconds before the next attempt, even if the service asks for more


class Undelivered(Exception):
    """The service refused a notification, and another attempt would not help."""


class Unavailable(Undelivered):
    """The service did not accept a notification now; a later attempt may succeed."""


@dataclasses.dataclass
class _Sent:
    """What was sent about one job. All but `last_times` is saved for the next process.

    Attributes:
        events: The events of which a job has one, such as `completed`.
        checkpoint: The step of the last checkpoint.
        progress: The step of the last progress message.
        last_times: When the last message of a kind was sent, on the notifier's clock.
    """

    events: Set[str] = dataclasses.field(default_factory=set)
    checkpoint: int = -1
    progress: int = 0
    last_times: Dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, _: TrainingJob, saved: Any) -> "_Sent":
        """Restore what an earlier process saved; None if there was none."""
        if saved is None:
            return cls()
        return cls(set(saved["once"]), int(saved["checkpoint"]), int(saved["progress"]))

    def to_json(self) -> Dict[str, Any]:
        """Return what is saved for the next process."""
        return {
            "once": sorted(self.events),
            "checkpoint": self.checkpoint,
            "progress": self.progress,
        }


@dataclasses.dataclass(repr=False, eq=False)
class Notifier(Callback, abc.ABC):
    """The base class of all notifiers. Several runs may share one notifier at the same time.

    A notifier cannot make a run fail, wait or repeat an event. The callback methods run on the
    run's worker thread and only queue a notification; a thread of the notifier sends it. At most
    100 notifications wait. When the queue is full, the oldest one that is not about the end of a
    run is dropped; one about the end of a run is always kept, and while it waits the others are not
    tried again. A refusal that may be temporary (429, 5xx, no connection) is tried again, after the
    time that the service asks for. A notification that could not be sent is logged without the URL.
    An event that is delivered again is notified only once, also by another process that continues
    with the same cursor store.

    Args:
        url: The address of the service: a secret, which is never shown. By default the service's
            environment variable. If that is unset too, the notifier is off and says nothing.
        on: The events to notify about: `completed`, `failed`, `cancelled` (also if the program
            itself stopped the run, with the reason), `started`, `checkpoint`, `reconnect`, and
            `error`: the run ended with an exception, whatever happens to the job.
        every_n_steps: Send the metrics with the first log at or after each multiple of so many
            steps. None sends no metrics.
        prompts: Prompts that each checkpoint is asked; its notification has the answers. A text is
            a message of the user; or give whole lists of messages.
        min_interval: Seconds between two progress messages, and between two messages about a
            reconnect. Messages that would come sooner are left out.
        flush_timeout: Seconds that the end of a run waits for notifications that are still queued.
        attempts: How often one notification is tried.
        clock: A clock for tests.

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
    """The environment variable that holds the URL by default."""

    def __post_init__(self, url: Optional[str]) -> None:
        self.on = (self.on,) if isinstance(self.on, str) else tuple(self.on)
        self.prompts = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        self._check()
        self._jobs = StatePerRun(_Sent.from_json, _Sent.to_json)
        self._not_before = 0.0  # on the clock; the service asked to get nothing before
        name = type(self).__name__
        self._outbox: Outbox[Notification] = Outbox(name, self._deliver, limit=_MAX_WAITING)
        # An outbox of its own, so that a slow answer cannot delay a message about a failure.
        self._sample_outbox: Outbox[Tuple[Notification, CheckpointContext]] = Outbox(
            f"{name}-samples", self._add_samples, limit=_MAX_WAITING
        )
        url = Secret(((variable(self.variable) or "") if url is None else url).strip())
        self.enabled = bool(url)
        if url:
            self._connect(url)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_not_before": 0.0}  # the clock of this process

    def __repr__(self) -> str:
        events = ",".join(self.on) if self.enabled else "off"
        return f"<{type(self).__name__} {events}>"

    def send(self, note: Notification) -> None:
        """Queue a notification of your own. Never blocks and never raises. Any thread."""
        if self.enabled:
            self._outbox.put(note, droppable=not note.last)

    @log_exceptions
    def notify(self, text: str) -> None:
        """Queue a plain text; its first line becomes the title. Never blocks and never raises.

        Any thread may call it, as in `CheckpointEvaluator(prompts, notify=slack.notify)`. Like a
        progress message, it is dropped if too many notifications wait. To have it sent before
        `wait()` returns, put the notifier in the run's list of callbacks after the callback that
        calls `notify`. Otherwise it has two seconds when the interpreter exits.

        Args:
            text: The text to send. Control characters are removed, and it cannot mention anybody.
        """
        note = build_message(text)
        if note.title:
            self.send(note)

    @log_exceptions
    def on_started(self, ctx: StartedContext) -> None:
        """Notify that the job has started."""
        if "started" in self.on and self._is_first(ctx, "started"):
            self.send(build_notification(ctx, "started", " started"))

    @log_exceptions
    def on_log(self, ctx: LogContext) -> None:
        """Send the metrics, every `every_n_steps` steps."""
        sent, every = self._jobs.get_or_create(ctx), self.every_n_steps
        if every is None or not self.enabled:
            return
        if ctx.step // every <= sent.progress // every:
            return
        sent.progress = ctx.step
        if not self._may_send_now(sent, "progress"):
            return
        names = ("loss", "eval_loss", "learning_rate", "epoch", "samples_per_second")
        metrics = {name: getattr(ctx, name) for name in names}
        summary = f": step {ctx.step}"
        self.send(build_notification(ctx, "progress", summary, step=ctx.step, metrics=metrics))

    @log_exceptions
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Notify about a checkpoint, with its answers to the prompts."""
        sent = self._jobs.get_or_create(ctx)
        if "checkpoint" not in self.on or not self.enabled:
            return
        if ctx.step <= sent.checkpoint:
            return
        sent.checkpoint = ctx.step
        note = build_notification(ctx, "checkpoint", f": checkpoint {ctx.step}", step=ctx.step)
        if self.prompts:
            self._sample_outbox.put((note, ctx))
        else:
            self.send(note)

    @log_exceptions
    def on_reconnect(self, ctx: ReconnectContext) -> None:
        """Notify that the connection to the event stream was lost."""
        if "reconnect" not in self.on:
            return
        if not self._may_send_now(self._jobs.get_or_create(ctx), "reconnect"):
            return
        summary = f": connection lost ({ctx.failures} in a row), next attempt in {ctx.delay:.0f} s"
        self.send(build_notification(ctx, "reconnect", summary, text=ctx.error))

    @log_exceptions
    def on_completed(self, ctx: CompletedContext) -> None:
        """Notify that the training completed, with its final metrics."""
        self._notify_completed(ctx, ctx.metrics)

    @log_exceptions
    def on_failed(self, ctx: FailedContext) -> None:
        """Notify that the training failed, with its error."""
        self._notify_failed(ctx, ctx.error, ctx.step)

    @log_exceptions
    def on_cancelled(self, ctx: CancelledContext) -> None:
        """Notify that the job was cancelled."""
        self._notify_cancelled(ctx, "")

    @log_exceptions
    def on_end(self, ctx: EndContext) -> None:
        """Notify about the end if no earlier callback did; wait for the queue to be sent."""
        self._notify_end(ctx)
        self._jobs.remove(ctx)
        deadline = Clock.now() + self.flush_timeout
        for outbox in (self._outbox, self._sample_outbox, self._outbox):
            if not outbox.flush(max(0.0, deadline - Clock.now())):
                break

    def state_dict(self) -> Dict[str, Any]:
        """Return what was sent about the job whose worker thread asks."""
        return self._jobs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what an earlier process has sent."""
        self._jobs.load_state_dict(state)

    def _check(self) -> None:
        for event in self.on:
            check("on", event, event in EVENTS, f"only {', '.join(EVENTS)}")
        if self.prompts and "checkpoint" not in self.on:
            raise ArkorUsageError(
                "prompts: got prompts, but no notification for checkpoints; give 'checkpoint' in on"
            )
        for prompt in self.prompts:
            fits = not isinstance(prompt, Mapping)
            check("prompts", prompt, fits, "each prompt as a text or a list of messages")
        every = 1 if self.every_n_steps is None else self.every_n_steps
        for name, count in (("every_n_steps", every), ("attempts", self.attempts)):
            check(name, count, type(count) is int and count >= 1, "a whole number from 1")
        for name in ("min_interval", "flush_timeout"):
            value = getattr(self, name)
            fits = type(value) in (int, float) and 0 <= value <= threading.TIMEOUT_MAX
            check(name, value, fits, "a number of seconds from 0")

    @abc.abstractmethod
    def _connect(self, url: str) -> None:
        """Prepare for sending to the URL. Runs on the caller's thread, in the constructor.

        Raises:
            ArkorUsageError: The URL cannot work. The message must not contain it.
        """

    @abc.abstractmethod
    def _attempt(self, note: Notification) -> None:
        """Send a notification once. Runs on the notifier's own thread.

        Raises:
            Unavailable: The service may accept it later.
            Undelivered: The service will not accept it.
        """

    def _notify_completed(self, ctx: Any, metrics: Any) -> None:
        if "completed" in self.on and self._is_first(ctx, "completed"):
            numbers = dataclasses.asdict(metrics)
            self.send(build_notification(ctx, "completed", " completed", metrics=numbers))

    def _notify_failed(self, ctx: Any, error: str, step: Optional[int]) -> None:
        if "failed" in self.on and self._is_first(ctx, "failed"):
            summary = " failed" if step is None else f" failed at step {step}"
            fields = {"text": error, "step": step, "urgent": True}
            self.send(build_notification(ctx, "failed", summary, **fields))

    def _notify_cancelled(self, ctx: Any, reason: str) -> None:
        if "cancelled" in self.on and self._is_first(ctx, "cancelled"):
            self.send(build_notification(ctx, "cancelled", " was cancelled", text=reason))

    @log_exceptions
    def _notify_end(self, ctx: EndContext) -> None:
        outcome = ctx.run.outcome
        if outcome is not None and outcome.status == "completed":
            self._notify_completed(ctx, outcome.metrics)
        elif outcome is not None and outcome.status == "failed":
            self._notify_failed(ctx, outcome.job.error or "", None)
        elif outcome is not None:
            self._notify_cancelled(ctx, outcome.stop_reason or "")
        error = ctx.error
        if error is not None and "error" in self.on:
            urgent = not isinstance(error, (RunAborted, KeyboardInterrupt))
            fields = {"text": describe_error(error), "urgent": urgent}
            self.send(build_notification(ctx, "error", " is not followed any more", **fields))

    def _is_first(self, ctx: Any, event: str) -> bool:
        """Record that an event is notified; return False if it was recorded before."""
        events = self._jobs.get_or_create(ctx).events
        if event in events:
            return False
        events.add(event)
        return True

    def _may_send_now(self, sent: _Sent, event: str) -> bool:
        """Return whether `min_interval` is over; if it is, the next interval begins."""
        now, last = self.clock.now(), sent.last_times.get(event)
        if last is not None and now - last < self.min_interval:
            return False
        sent.last_times[event] = now
        return True

    def _add_samples(self, batch: List[Tuple[Notification, CheckpointContext]]) -> None:
        """Ask checkpoints the prompts, and queue their notifications with the answers."""
        for note, ctx in batch:
            samples = tuple(ask_checkpoint(ctx, prompt) for prompt in self.prompts)
            self.send(dataclasses.replace(note, samples=samples))

    def _deliver(self, batch: List[Notification]) -> None:
        for note in batch:
            try:
                self._send_with_retries(note)
            except Undelivered as error:
                self._log_undelivered(note, str(error))
            except BaseException as error:  # its text may contain the URL
                self._log_undelivered(note, type(error).__name__)

    def _log_undelivered(self, note: Notification, reason: str) -> None:
        subject = f"{note.event} of job {note.job_id}"
        logger.warning("%s: %s was not delivered: %s", type(self).__name__, subject, reason)

    def _send_with_retries(self, note: Notification) -> None:
        delays = ReconnectPolicy(cap=_MAX_DELAY).delays()
        delay, reason = 0.0, ""
        for attempt in range(1, self.attempts + 1):
            if not self._wait(note, max(delay, self._not_before - self.clock.now())):
                given_up = "a notification about the end of a run had to be sent first"
                raise Undelivered(f"{reason}; {given_up}" if reason else given_up)
            try:
                self._attempt(note)
                break
            except Unavailable as error:
                if attempt == self.attempts:
                    raise
                reason = str(error)
                delay = next(delays) * (0.5 + self.clock.random() / 2)

    def _pause(self, seconds: Optional[float]) -> None:
        """Send nothing for a while, because the service asked for it."""
        if seconds:
            self._not_before = self.clock.now() + min(seconds, _MAX_DELAY)

    def _wait(self, note: Notification, seconds: float) -> bool:
        """Wait before an attempt; return False if a notification about an end of a run waits.

        A notification that is itself about the end of a run always waits the whole time.
        """
        interrupt = _NEVER_SET if note.last else self._outbox.undroppable_waiting
        return seconds <= 0 or not self.clock.wait(interrupt, seconds)
