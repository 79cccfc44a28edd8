"""What every metrics logger rests on: who is told what, once, and without harm to the run."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import (
    CheckpointContext,
    Context,
    EndContext,
    LogContext,
    StartedContext,
)
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.safety import harmless, said
from arkor_sync.handlers._shared.state_per_run import PerRun
from arkor_sync.render.hyperparams import hyperparams_of
from arkor_sync.stream.events import METRICS, TrainingEvent, number

logger = logging.getLogger("arkor_sync.handlers")

LIMIT = 10_000
"""Rows of a run that may wait for a backend; then the oldest are dropped."""

_KEPT = 100  # rows that are kept with the cursor while they wait
_REMEMBERED = 16  # rows by which an event that is delivered again is recognised
_PAUSE = 0.05  # seconds; doubled with each refusal in a row
_LONGEST_PAUSE = 30.0  # seconds
_STEPS = 2**63  # what is beyond fits into no column
_BIGGEST = sys.float_info.max
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)
_GIVEN_AWAY = re.compile(
    r"((?:(?:key|token|password|secret)['\"]?[=:]|bearer\b)\s*['\"]?)[^&\s'\"]+", re.I
)
_TIME = re.compile(r"[0-9T:.Z+-]{10,40}")
_NOT_METRICS = frozenset({*METRICS.values(), *METRICS, "type", "jobId", "timestamp"})


class Row(NamedTuple):
    """The metrics of one log event.

    Attributes:
        step: The optimiser step.
        metrics: At least one, by name; all are finite.
        timestamp: The event's, an ISO 8601 text, or None.
    """

    step: int
    metrics: Dict[str, float]
    timestamp: Optional[str]


@dataclasses.dataclass
class _Following:
    """What a logger knows of one run that goes on.

    The lock is for the rows and for `lost`; the last two are the delivering thread's own.
    """

    job: TrainingJob
    outbox: Outbox[None] = dataclasses.field(init=False)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    params: Optional[Dict[str, Any]] = None  # until they are logged
    waiting: List[Row] = dataclasses.field(default_factory=list)
    taken: List[Row] = dataclasses.field(default_factory=list)  # are being delivered, or failed
    seen: Deque[Tuple[int, List[str]]] = dataclasses.field(
        default_factory=lambda: deque(maxlen=_REMEMBERED)
    )
    status: Optional[str] = None  # from the end until that is told
    lost: int = 0
    refusals: Dict[str, int] = dataclasses.field(default_factory=dict)  # in a row, by method
    pauses: Dict[str, float] = dataclasses.field(default_factory=dict)  # until when

    def to_json(self) -> Dict[str, Any]:
        """Return what a process that carries on needs; small."""
        with self.lock:
            return {
                "seen": [list(mark) for mark in self.seen],
                "rows": [list(row) for row in (self.taken + self.waiting)[-_KEPT:]],
            }


class MetricsLogger(Callback):
    """Base class of loggers, with Lightning's three methods. Override those that you need.

    A logger may serve several runs at once. For each, the methods are called one after the other
    on a daemon thread of its own: `log_hyperparams` first, `log_metrics` for each log event,
    `finalize` last; meanwhile `self.job` is the job that it is about. What they raise, and how long
    they take, does the run no harm: it is logged, and at the end of the run they are waited for
    during `flush_timeout`. A train log and an eval log may have the same step. An event that is
    delivered again is logged once. A backend that refuses is left alone for a while, half a minute
    at most, so that trying again never becomes the process's main work.

    With a cursor store, the last logs that the backend had not taken yet are kept beside the
    position, and the process that carries on logs them: none is lost, but the last few may come
    twice there. The loggers of this package recognise those.

    Args:
        flush_timeout: Seconds that the end of the run waits for the backend. An aborted run
            waits `abort_grace` at most. What is late is still delivered if the process lives on.

    Raises:
        ArkorUsageError: `flush_timeout` is no number of seconds.
    """

    _direct = False  # whether the worker thread itself delivers

    def __init__(self, *, flush_timeout: float = 10.0) -> None:
        if isinstance(flush_timeout, bool) or not (
            isinstance(flush_timeout, (int, float)) and 0 <= flush_timeout <= threading.TIMEOUT_MAX
        ):
            raise ArkorUsageError(
                f"flush_timeout must be seconds from 0, not {flush_timeout!r:.80}"
            )
        self.flush_timeout = flush_timeout
        self._secrets: List[str] = []
        self._following = PerRun(self._follow, _Following.to_json)
        self._here = threading.local()

    @property
    def job(self) -> TrainingJob:
        """The job that the three methods are called for; only there while they are."""
        run: _Following = self._here.run
        return run.job

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Log the job's configuration. It is called again if it fails, and after a restart.

        Args:
            params: Names as the wire has them, flattened with dots, such as `loraR` or
                `datasetSource.name`. What may be secret is left out.
        """

    def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
        """Log the metrics of a step.

        Args:
            metrics: At least one: `loss`, `eval_loss`, `learning_rate`, `epoch`,
                `samples_per_second`, and other numbers of the event by the wire's name.
            step: The optimiser step.
        """

    def finalize(self, status: str) -> None:
        """Close what belongs to the run.

        Args:
            status: `completed`, `failed` or `cancelled`; `error` where `wait()` raises, and the
                job may still go on.
        """

    @harmless
    def on_started(self, ctx: StartedContext) -> None:
        """Log the hyperparameters."""
        self._wake(self._of(ctx))

    @harmless
    def on_log(self, ctx: LogContext) -> None:
        """Log the metrics."""
        run = self._of(ctx)
        metrics, timestamp = metrics_of(ctx.event), ctx.event.timestamp or ""
        mark = (ctx.step, sorted(metrics))
        with run.lock:
            if not metrics or mark in run.seen or not -_STEPS < ctx.step < _STEPS:
                return
            run.seen.append(mark)
            # What no backend can take would be tried again for ever.
            known = timestamp if _TIME.fullmatch(timestamp) else None
            run.waiting.append(Row(ctx.step, metrics, known))
            if len(run.waiting) > LIMIT:
                del run.waiting[0]
                run.lost += 1
        self._wake(run)

    @harmless
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Know the run, so that what is saved with this event is its state."""
        self._of(ctx)

    @harmless
    def on_end(self, ctx: EndContext) -> None:
        """Finalize, and wait for the backend."""
        if ctx.result is None and not self._following.knows(ctx):
            return  # nothing was heard of this job
        run = self._of(ctx)
        with run.lock:
            run.status = ctx.result.status if ctx.result else "error"
        try:
            self._wake(run, droppable=False)
            if not self._direct:
                run.outbox.flush(self.flush_timeout)
        finally:
            self._following.drop(ctx)

    def state_dict(self) -> Dict[str, Any]:
        """Return what a process that carries on needs of the run that asks, by job."""
        return self._following.state_dict()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what `state_dict` returned in an earlier process."""
        self._following.load_state_dict(state)

    def _log_rows(self, rows: List[Row]) -> None:
        """Deliver rows of `self.job`. All are tried again with the next if it raises.

        By default each goes to `log_metrics`, once.
        """
        for row in rows:
            if not self._try(self.log_metrics, row.metrics, row.step):
                run: _Following = self._here.run
                with run.lock:
                    run.lost += 1

    def _of(self, ctx: Context) -> _Following:
        """Find what is known of a run, or begin to follow it."""
        run = self._following.of(ctx)
        run.job = ctx.job
        return run

    def _follow(self, job: TrainingJob, restored: Any) -> _Following:
        run = _Following(job, params=hyperparams_of(job.config))
        restored = restored or {}
        run.seen.extend((step, names) for step, names in restored.get("seen", ()))
        run.waiting.extend(Row(*row) for row in restored.get("rows", ()))
        run.outbox = Outbox(
            type(self).__name__, lambda _: self._deliver(run), limit=LIMIT, batch=LIMIT
        )
        return run

    def _wake(self, run: _Following, droppable: bool = True) -> None:
        if self._direct:
            self._deliver(run)
        else:
            run.outbox.put(None, droppable=droppable)

    def _deliver(self, run: _Following) -> None:
        """Call the methods for what waits: on the outbox's thread, or the worker if `_direct`."""
        self._here.run = run
        with run.lock:
            rows = run.taken + run.waiting
            run.lost += max(0, len(rows) - LIMIT)
            run.taken, run.waiting = rows[-LIMIT:], []
            rows, status, run.status = list(run.taken), run.status, None
        last = status is not None
        if run.params is not None and self._deliver_one(last, self.log_hyperparams, run.params):
            run.params = None
        if rows and self._deliver_one(last, self._log_rows, rows):
            with run.lock:
                run.taken = []
        if status is None:
            return
        lost = run.lost + len(run.taken)
        if lost:
            name = type(self).__name__
            logger.warning("%s: %d logs of job %s are lost", name, lost, run.job.id)
        self._try(self.finalize, status)

    def _deliver_one(self, last: bool, method: Callable[[Any], None], what: Any) -> bool:
        """Call a method, unless it has failed a moment ago; return whether it was a success.

        Args:
            last: Whether there will be no other chance.
            method: May raise.
            what: Its argument.
        """
        run: _Following = self._here.run
        name = method.__name__
        if not last and time.monotonic() < run.pauses.get(name, 0.0):
            return False
        if self._try(method, what):
            return True
        pause = min(_PAUSE * 2 ** min(run.refusals[name], 20), _LONGEST_PAUSE)
        run.pauses[name] = time.monotonic() + pause
        return False

    def _try(self, method: Callable[..., None], *args: Any) -> bool:
        """Call a method; log that it fails, the first time in a row. Return whether it did not."""
        run: _Following = self._here.run
        name = method.__name__
        try:
            method(*args)
        except BaseException as error:  # not even sys.exit() of a backend is the run's
            run.refusals[name] = run.refusals.get(name, 0) + 1
            if run.refusals[name] == 1:
                what = f"{type(self).__name__}.{name.strip('_')} failed for job {self.job.id}"
                logger.warning("%s: %s", what, describe(error, self._secrets))
            return False
        run.refusals.pop(name, None)
        return True


def metrics_of(event: TrainingEvent) -> Dict[str, float]:
    """Return the numbers of a log event: the known ones, and others by the wire's name."""
    named = {name: event.data.get(field) for name, field in METRICS.items() if name != "step"}
    for name, value in event.data.items():
        if name not in _NOT_METRICS and _NAME.fullmatch(name):
            named[name] = value
    numbers = ((name, number(value)) for name, value in named.items())
    # JSON has no infinity, but 1e999 becomes one, and many backends refuse it.
    return {
        name: value
        for name, value in numbers
        if value is not None and -_BIGGEST <= value <= _BIGGEST
    }


def describe(error: BaseException, secrets: List[str]) -> str:
    """Say what went wrong in one line, without passwords and keys."""
    text = said(error)
    for secret in secrets:
        text = text.replace(secret, "...")
    text = re.sub(r"//[^/\s@]*@", "//...@", text)
    text = _GIVEN_AWAY.sub(r"\1...", text)
    return text.strip().partition("\n")[0][:500]  # cut last: no half of a secret is left
