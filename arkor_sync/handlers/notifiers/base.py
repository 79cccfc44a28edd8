"""The base class of all notifiers. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue a notification. A thread of the
notifier sends it, and another one asks the checkpoints for their answers.
"""

import dataclasses
import threading
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from arkor_sync._common.arguments import check, refusal
from arkor_sync._common.clock import Clock
from arkor_sync.callbacks import Callback
from arkor_sync.cloud.training_data import Prompt
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
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.exceptions import log_exceptions
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.state_per_run import StatePerRun
from arkor_sync.handlers.notifiers.delivery import (
    MAX_WAITING,
    Delivery,
    describe_notifications,
)
from arkor_sync.handlers.notifiers.docstrings import inherit_arguments
from arkor_sync.handlers.notifiers.job_state import Sent
from arkor_sync.handlers.notifiers.notification import (
    EVENTS,
    Notification,
    NotifierEvent,
    build_message,
    build_notification,
)
from arkor_sync.handlers.notifiers.samples import ask_checkpoint
from arkor_sync.handlers.notifiers.told import Told
from arkor_sync.handlers.notifiers.watching import (
    Watch,
    build_error,
    describe_ending,
    is_failure,
    is_urgent,
    summarize_ending,
)

_RESERVE = 0.2  # of `flush_timeout`: for a completion that has waited for the checkpoints

# A notification, and the checkpoint that is asked for it; or None, if it waits for the others.
_Sample = Tuple[Notification, Optional[CheckpointContext]]


@dataclasses.dataclass(repr=False, eq=False)
class Notifier(Delivery, Callback):
    """The base class of all notifiers. Several runs may share one notifier at the same time.

    A notifier cannot make a run fail, wait or repeat an event. The callback methods run on the
    run's worker thread and only queue a notification; a thread of the notifier sends it. At most
    100 notifications wait. When the queue is full, the oldest one that is not about the end of a
    run is dropped; one about the end of a run is always kept, and while it waits the others are not
    tried again. A refusal that may be temporary (429, 5xx, no connection) is tried again, after the
    time that the service asks for. What could not be sent, or not in time, is logged with the
    reason and without the URL. An event that is delivered again is notified only once, also by
    another process that continues with the same cursor store. `watching()` notifies too if the
    program itself ends with an error.

    Args:
        url: The address of the service: a secret, which is never shown. By default the service's
            environment variable. If that is unset or empty too, the notifier is off, and the log
            says so once; `url=""` turns it off without that.
        on: The events to notify about. By default the four kinds of end: `completed`; `failed`;
            `cancelled`, also if the program itself stopped the run, with the reason; and `error`:
            the run, or a block of `watching()`, ended with an exception, whatever happens to the
            job. The others are `started`, `checkpoint` and `reconnect`.
        every_n_steps: Send the metrics with the first log at or after each multiple of so many
            steps. None sends no metrics.
        prompts: Prompts that each checkpoint is asked; its notification has the answers. A text is
            a message of the user; or give whole lists of messages. While they are being asked, the
            later progress and the completion of the job wait, so that they are told after the
            checkpoint; the other kinds of end do not wait.
        min_interval: Seconds between two progress messages, and between two messages about a
            reconnect. Messages that would come sooner are left out.
        flush_timeout: Seconds that the end of a run waits for notifications that are still queued.
            A completion waits for answers for four fifths of it. What is late is still sent
            afterwards, if the program goes on.
        attempts: How often one notification is tried.
        clock: A clock for tests.

    Raises:
        ArkorUsageError: An argument that cannot work.
    """

    url: dataclasses.InitVar[Optional[str]] = None
    on: Union[NotifierEvent, Sequence[NotifierEvent]] = (
        "completed",
        "failed",
        "cancelled",
        "error",
    )
    every_n_steps: Optional[int] = None
    prompts: Sequence[Prompt] = ()
    min_interval: float = 30.0
    flush_timeout: float = 5.0
    attempts: int = 5
    clock: Clock = dataclasses.field(default_factory=Clock)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        inherit_arguments(cls)

    def __post_init__(self, url: Optional[str]) -> None:
        self.on = (self.on,) if isinstance(self.on, str) else tuple(self.on)
        self.prompts = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        self._check()
        self._jobs = StatePerRun(Sent.from_json, Sent.to_json)
        self._told = Told()
        # An outbox of its own, so that a slow answer cannot delay a message about a failure.
        self._sample_outbox: Outbox[_Sample] = Outbox(
            f"{type(self).__name__}-samples",
            self._add_samples,
            limit=MAX_WAITING,
            describe=_describe_samples,
            busy="the prompts are still being asked",
        )
        self._prepare_delivery(url)

    def __repr__(self) -> str:
        events = ",".join(self.on) if self.enabled else "off"
        return f"<{type(self).__name__} {events}>"

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

    def watching(self, name: Optional[str] = None) -> Watch:
        """Notify if the block ends with an exception that no notification was about yet.

        It is for what happens outside of a run: the job was refused, the token is wrong, there is
        no network, an argument cannot work, or the program has a bug.

            slack = SlackNotifier()
            with slack.watching(name="nightly"):
                trainer = create_trainer(..., callbacks=[slack])
                trainer.wait().raise_for_status()

        The exception goes on unchanged, after at most `flush_timeout` seconds in which the
        notification is sent. An exception that a run has ended with was told by the run, and is not
        told again, nor is another one that was raised `from` it; and `raise_for_status()` is not,
        if the end of that job was told. `sys.exit()` with an error is told, and Ctrl-C and a signal
        of `exit_on` too, but not as urgent. Blocks may be nested, and used in several threads. It
        is a decorator as well.

        Args:
            name: What the title begins with; by default the name of the script.

        Raises:
            ArkorUsageError: `error` is not in `on`, or the name is no text.
        """
        if "error" not in self.on:
            wanted = "'error' too: it is the event of watching()"
            raise refusal("on", self.on, wanted, got=", ".join(self.on) or "no event")
        fits = name is None or (isinstance(name, str) and bool(name.strip()))
        check("name", name, fits, "a text that names the program")
        return Watch(partial(self._notify_watched, name))

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
        note = build_notification(ctx, "progress", summary, step=ctx.step, metrics=metrics)
        self._send_after_checkpoints(note)

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
        in_time = self._outbox.flush(self.flush_timeout)
        if in_time:
            reserve = self.flush_timeout * _RESERVE
            self._sample_outbox.flush(max(0.0, deadline - reserve - Clock.now()))
        self._release_held(ctx.job.id)
        if in_time:
            self._outbox.flush(max(0.0, deadline - Clock.now()))

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

    def _notify_completed(self, ctx: Any, metrics: Any) -> None:
        if "completed" in self.on and self._is_first(ctx, "completed"):
            numbers = dataclasses.asdict(metrics)
            note = build_notification(ctx, "completed", " completed", metrics=numbers)
            self._send_after_checkpoints(note)

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
        if self._jobs.get_or_create(ctx).events & {"failed", "cancelled"}:
            with self._jobs.lock:
                self._told.add_ended(ctx.job.id)
        if ctx.error is not None and "error" in self.on and self.enabled:
            self._notify_error(ctx, ctx.error)

    def _notify_error(self, ctx: EndContext, error: BaseException) -> None:
        with self._jobs.lock:
            if not self._told.begin_run(ctx.job.id, error):
                return
        left = ctx.job.id if ctx.run._settlement.leaves_job else None
        text = self._redact(describe_ending(error, left))
        fields = {"text": text, "urgent": is_urgent(error)}
        summary = summarize_ending(error, ctx.run.outcome)
        self.send(build_notification(ctx, "error", summary, **fields))

    @log_exceptions
    def _notify_watched(self, name: Optional[str], error: BaseException) -> None:
        if not self.enabled or not is_failure(error):
            return
        with self._jobs.lock:
            if not self._told.begin_block(error):
                return
        self.send(build_error(name, error, self._redact(describe_ending(error))))
        self._outbox.flush(self.flush_timeout)

    def _is_first(self, ctx: Any, event: str) -> bool:
        """Record that an event is notified; return False if it was recorded before."""
        events = self._jobs.get_or_create(ctx).events
        if event in events:
            return False
        events.add(event)
        return True

    def _may_send_now(self, sent: Sent, event: str) -> bool:
        """Return whether `min_interval` is over; if it is, the next interval begins."""
        now, last = self.clock.now(), sent.last_times.get(event)
        if last is not None and now - last < self.min_interval:
            return False
        sent.last_times[event] = now
        return True

    def _send_after_checkpoints(self, note: Notification) -> None:
        """Queue a notification behind the checkpoints of its job that are still being asked."""
        if self._sample_outbox.has(lambda each: each[0].job_id == note.job_id):
            self._sample_outbox.put((note, None), droppable=not note.last)
        else:
            self.send(note)

    def _release_held(self, job_id: str) -> None:
        """Send the completion that still waits for checkpoints; drop the progress before it."""
        held = self._sample_outbox.take(lambda each: each[0].job_id == job_id and each[1] is None)
        for note, _ in held:
            if note.last:
                self.send(note)

    def _add_samples(self, batch: List[_Sample]) -> None:
        """Ask checkpoints the prompts, and queue their notifications with the answers."""
        for note, ctx in batch:
            if ctx is not None:
                samples = tuple(ask_checkpoint(ctx, prompt) for prompt in self.prompts)
                note = dataclasses.replace(note, samples=samples)
            self.send(note)


def _describe_samples(samples: List[_Sample]) -> str:
    return describe_notifications([note for note, ctx in samples if ctx is not None])
