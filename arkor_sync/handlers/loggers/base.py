"""The base class of all metrics loggers. Runs on a thread of its own.

The callback methods run on the run's worker thread and only queue rows. A thread for each run
delivers them to the backend.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import threading
from collections import deque
from functools import partial
from itertools import accumulate, islice, takewhile
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync._common.log import get_logger
from arkor_sync._common.secret import HIDDEN, redact
from arkor_sync._common.text import counted
from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import (
    CheckpointContext,
    Context,
    EndContext,
    LogContext,
    StartedContext,
)
from arkor_sync.handlers._shared.exceptions import describe_error, log_exceptions
from arkor_sync.handlers._shared.outbox import Outbox
from arkor_sync.handlers._shared.state_per_run import StatePerRun
from arkor_sync.render.hyperparams import flatten_hyperparams
from arkor_sync.stream.events import METRICS, TrainingEvent, number

logger = get_logger("arkor_sync.handlers")

MAX_ROWS = 10_000
"""Rows of a run that may wait for a backend. If there are more, the oldest are dropped."""

MAX_VALUES = 100_000
"""Metrics that these rows may have together. If there are more, the oldest rows are dropped."""

_MAX_METRICS = 256  # of one row; the others are left out
_MAX_SAVED = 100  # rows that are saved with the cursor while they wait
_MAX_SEEN = 16  # rows by which an event that is delivered again is recognised
_PAUSE = 0.05  # seconds after a failure; doubled with each further failure in a row
_MAX_PAUSE = 30.0  # seconds
_MAX_STEP = 2**63  # databases cannot store larger ones
_MAX_FLOAT = sys.float_info.max
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)
_TIMESTAMP = re.compile(r"[0-9Tt :.Zz+-]{10,40}")
_NOT_METRICS = frozenset({*METRICS.values(), *METRICS, "type", "jobId", "timestamp"})


class LogRow(NamedTuple):
    """The metrics of one log event.

    Attributes:
        step: The optimiser step.
        metrics: At least one metric, by name; all are finite.
        timestamp: The timestamp of the event, ISO 8601, or None.
    """

    step: int
    metrics: Dict[str, float]
    timestamp: Optional[str]


@dataclasses.dataclass
class _RunState:
    """The state of one run that a logger follows.

    Attributes:
        job: The job, as the last event had it.
        outbox: Wakes the thread that delivers. Its items mean nothing; the rows are here.
        lock: Guards the rows and `lost`.
        params: The hyperparameters, until they are logged.
        waiting: Rows that wait to be delivered.
        delivering: Rows that are being delivered, or whose delivery failed.
        values: How many metrics the waiting rows have together.
        seen: Step and metric names of the last rows.
        status: The status at the end of the run, until `finalize` is called with it.
        lost: How many rows were dropped.
        failures: How often each method has failed in a row. Only the delivering thread uses it.
        failure: The last failure of a method, for the log.
        paused_until: When each method may be called again. Only the delivering thread uses it.
    """

    job: TrainingJob
    outbox: Outbox[None] = dataclasses.field(init=False)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    params: Optional[Dict[str, Any]] = None
    waiting: List[LogRow] = dataclasses.field(default_factory=list)
    delivering: List[LogRow] = dataclasses.field(default_factory=list)
    seen: Deque[Tuple[int, List[str]]] = dataclasses.field(
        default_factory=lambda: deque(maxlen=_MAX_SEEN)
    )
    status: Optional[str] = None
    values: int = 0
    lost: int = 0
    failures: Dict[str, int] = dataclasses.field(default_factory=dict)
    failure: str = ""
    paused_until: Dict[str, float] = dataclasses.field(default_factory=dict)

    def describe(self) -> str:
        """Name what is not delivered yet, for the log."""
        with self.lock:
            rows = len(self.delivering) + len(self.waiting)
        return (counted(rows, "log") if rows else "the end") + f" of job {self.job.id}"

    def to_json(self) -> Dict[str, Any]:
        """Return what a process needs that continues the run; it is small."""
        with self.lock:
            return {
                "seen": [list(key) for key in self.seen],
                "rows": [list(row) for row in (self.delivering + self.waiting)[-_MAX_SAVED:]],
            }


class _Current(threading.local):
    """The run that a thread delivers. A pickled copy has none."""

    run: _RunState

    def __reduce__(self) -> Tuple[Any, ...]:
        return _Current, ()


class MetricsLogger(Callback):
    """Base class of loggers, with the three methods of a Lightning logger. Override what you need.

    A logger may serve several runs at once. For each run the methods are called one after the other
    on a daemon thread of that run: first `log_hyperparams`, then `log_metrics` for each log event,
    and last `finalize`. During these calls, `self.job` is the job of that run. A method that raises
    or takes long does not affect the run: the exception is logged, and the end of the run waits for
    the backend up to `flush_timeout`. A train log and an eval log may have the same step. An event
    that is delivered again is logged once. After a failure the backend is not called for a while,
    up to half a minute.

    With a cursor store, the last rows that the backend has not accepted are saved with the cursor,
    and the process that continues the run logs them. So no row is lost, but the last few may be
    logged twice. The loggers of this package recognise these and drop them.

    Args:
        flush_timeout: Seconds that the end of the run waits for the backend. An aborted run waits
            at most `abort_grace`. A late row is still delivered afterwards if the process goes on.

    Raises:
        ArkorUsageError: `flush_timeout` is no number of seconds.
    """

    _synchronous = False  # whether the run's worker thread itself delivers the rows

    def __init__(self, *, flush_timeout: float = 10.0) -> None:
        fits = isinstance(flush_timeout, (int, float)) and not isinstance(flush_timeout, bool)
        fits = fits and 0 <= flush_timeout <= threading.TIMEOUT_MAX
        check("flush_timeout", flush_timeout, fits, "a number of seconds from 0")
        self.flush_timeout = flush_timeout
        self._secrets: List[str] = []  # texts that no log line may contain
        self._states = StatePerRun(self._new_state, _RunState.to_json)
        self._current = _Current()

    @property
    def job(self) -> TrainingJob:
        """The job of the run; it exists only while one of the three methods is called."""
        run: _RunState = self._current.run
        return run.job

    def log_hyperparams(self, params: Dict[str, Any]) -> None:
        """Log the job's configuration. It is called again if it fails, and after a restart.

        Args:
            params: The configuration by the wire's names, flattened with dots, such as `loraR` or
                `datasetSource.name`. Values that may be secret are left out.
        """

    def log_metrics(self, metrics: Dict[str, float], step: int) -> None:
        """Log the metrics of a step.

        Args:
            metrics: At least one of `loss`, `eval_loss`, `learning_rate`, `epoch`,
                `samples_per_second`, and other numbers of the event by the wire's name.
            step: The optimiser step.
        """

    def finalize(self, status: str) -> None:
        """Close the resources of the run.

        Args:
            status: `completed`, `failed` or `cancelled`; `error` if `wait()` raises, in which case
                the job may still go on.
        """

    @log_exceptions
    def on_started(self, ctx: StartedContext) -> None:
        """Log the hyperparameters."""
        self._request_delivery(self._state_of(ctx))

    @log_exceptions
    def on_log(self, ctx: LogContext) -> None:
        """Log the metrics."""
        run = self._state_of(ctx)
        metrics, timestamp = metrics_of(ctx.event), ctx.event.timestamp or ""
        key = (ctx.step, sorted(metrics))
        with run.lock:
            if not metrics or key in run.seen or not -_MAX_STEP < ctx.step < _MAX_STEP:
                return
            run.seen.append(key)
            # A row that no backend can accept would be tried again for ever, so an odd timestamp
            # is left out.
            valid = timestamp if _TIMESTAMP.fullmatch(timestamp) else None
            run.waiting.append(LogRow(ctx.step, metrics, valid))
            run.values += len(metrics)
            if len(run.waiting) > MAX_ROWS or run.values > MAX_VALUES:
                run.values -= len(run.waiting.pop(0).metrics)
                run.lost += 1
        self._request_delivery(run)

    @log_exceptions
    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Make sure that the run has a state, because the state is saved with this event."""
        self._state_of(ctx)

    @log_exceptions
    def on_end(self, ctx: EndContext) -> None:
        """Call `finalize`, and wait for the backend."""
        if ctx.result is None and not self._states.has(ctx):
            return  # no event of this job has come
        run = self._state_of(ctx)
        with run.lock:
            run.status = ctx.result.status if ctx.result else "error"
        try:
            self._request_delivery(run, droppable=False)
            if not self._synchronous:
                run.outbox.flush(self.flush_timeout)
        finally:
            self._states.remove(ctx)

    def state_dict(self) -> Dict[str, Any]:
        """Return, by job id, what a process needs that continues the run which asks."""
        return self._states.state_dict()

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned in an earlier process."""
        self._states.load_state_dict(state)

    def _log_rows(self, rows: List[LogRow]) -> None:
        """Deliver rows of `self.job`. If it raises, all are tried again with the next rows.

        By default it calls `log_metrics` once for each row, and drops a row for which that fails.
        """
        for row in rows:
            if not self._call(self.log_metrics, row.metrics, row.step):
                run: _RunState = self._current.run
                with run.lock:
                    run.lost += 1

    def _state_of(self, ctx: Context) -> _RunState:
        run = self._states.get_or_create(ctx)
        run.job = ctx.job
        return run

    def _new_state(self, job: TrainingJob, restored: Any) -> _RunState:
        run = _RunState(job, params=flatten_hyperparams(job.config))
        restored = restored or {}
        run.seen.extend((int(step), list(names)) for step, names in restored.get("seen", ()))
        run.waiting.extend(LogRow(*row) for row in restored.get("rows", ()))
        run.outbox = Outbox(
            type(self).__name__,
            lambda _: self._deliver(run),
            limit=MAX_ROWS,
            batch=MAX_ROWS,
            describe=lambda _: run.describe(),
        )
        return run

    def _request_delivery(self, run: _RunState, droppable: bool = True) -> None:
        if self._synchronous:
            self._deliver(run)
        else:
            run.outbox.put(None, droppable=droppable)

    def _deliver(self, run: _RunState) -> None:
        """Call the logger's methods for everything that waits.

        Runs on the outbox's thread, or on the run's worker thread if `_synchronous`.
        """
        self._current.run = run
        with run.lock:
            rows = run.delivering + run.waiting
            run.delivering, run.waiting, run.values = _newest(rows), [], 0
            run.lost += len(rows) - len(run.delivering)
            rows, status, run.status = list(run.delivering), run.status, None
        is_last = status is not None
        if run.params is not None and self._call_unless_paused(
            is_last, self.log_hyperparams, run.params
        ):
            run.params = None
        if rows and self._call_unless_paused(is_last, self._log_rows, rows):
            with run.lock:
                run.delivering = []
        if status is None:
            return
        lost = run.lost + len(run.delivering)
        if lost:
            name, reason = type(self).__name__, run.failure or "too many were waiting"
            logs, are = counted(lost, "log"), "is" if lost == 1 else "are"
            logger.warning("%s: %s of job %s %s lost: %s", name, logs, run.job.id, are, reason)
        self._call(self.finalize, status)

    def _call_unless_paused(
        self, is_last: bool, method: Callable[[Any], None], argument: Any
    ) -> bool:
        """Call a method, unless it is paused after a failure; return whether it succeeded.

        Args:
            is_last: Whether this is the last call for the run: a pause is then ignored.
            method: The method; it may raise.
            argument: Its argument.
        """
        run: _RunState = self._current.run
        name = method.__name__
        if not is_last and Clock.now() < run.paused_until.get(name, 0.0):
            return False
        if self._call(method, argument):
            return True
        pause = min(_PAUSE * 2 ** min(run.failures[name], 20), _MAX_PAUSE)
        run.paused_until[name] = Clock.now() + pause
        return False

    def _call(self, method: Callable[..., None], *args: Any) -> bool:
        """Call a method, and return whether it succeeded. Log the first failure in a row."""
        run: _RunState = self._current.run
        name = method.__name__
        try:
            method(*args)
        except BaseException as error:  # even `sys.exit()` in a backend must not end the run
            run.failures[name] = run.failures.get(name, 0) + 1
            run.failure = describe_without_secrets(error, self._secrets)
            run.outbox.last_failure = run.failure
            if run.failures[name] == 1:
                call = f"{type(self).__name__}.{name.strip('_')}"
                logger.warning("%s failed for job %s: %s", call, self.job.id, run.failure)
            return False
        run.failures.pop(name, None)
        return True


class LibraryLogger(MetricsLogger):
    """Base class of loggers that hold a library's objects, which cannot be pickled.

    A pickled copy is made anew, from the same arguments.
    """

    _arguments: Tuple[Tuple[Any, ...], Dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> LibraryLogger:  # noqa: D102
        self = super().__new__(cls)
        self._arguments = args, kwargs
        return self

    def __reduce__(self) -> Tuple[Any, ...]:
        args, kwargs = self._arguments
        return partial(type(self), *args, **kwargs), ()


def metrics_of(event: TrainingEvent) -> Dict[str, float]:
    """Return the numbers of a log event: the known metrics, and others by the wire's name."""
    named = {name: event.data.get(field) for name, field in METRICS.items() if name != "step"}
    for name, value in event.data.items():
        if name not in _NOT_METRICS and _NAME.fullmatch(name):
            named[name] = value
    numbers = ((name, number(value)) for name, value in named.items())
    # JSON has no infinity, but 1e999 is parsed as one, and many backends refuse it.
    valid = (
        (name, value)
        for name, value in numbers
        if value is not None and -_MAX_FLOAT <= value <= _MAX_FLOAT
    )
    return dict(islice(valid, _MAX_METRICS))


def _newest(rows: List[LogRow]) -> List[LogRow]:
    """Return the newest rows, as many as may wait."""
    values = accumulate(len(row.metrics) for row in reversed(rows))
    kept = sum(1 for _ in takewhile(lambda total: total <= MAX_VALUES, values))
    return rows[len(rows) - min(kept, MAX_ROWS) :]


def describe_without_secrets(error: BaseException, secrets: List[str]) -> str:
    """Describe an error in one line, without passwords and keys."""
    text = describe_error(error)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = redact(text)
    # Shortened after the secrets are removed, so that no part of a secret is left.
    return text.strip().partition("\n")[0][:500]
