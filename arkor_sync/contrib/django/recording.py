"""Keeps a run's row up to date, writes its metrics, sends the signals. Runs on the worker thread.

It is called in `around`. So what it writes, what the program's callbacks write and the position
are committed together, or not at all.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from django.conf import settings
from django.dispatch import Signal
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from arkor_sync._common.text import safe_text
from arkor_sync.callbacks import Callback
from arkor_sync.contexts import (
    CancelledContext,
    CheckpointContext,
    CompletedContext,
    EndContext,
    FailedContext,
    LogContext,
    StartedContext,
)
from arkor_sync.contrib.django import signals
from arkor_sync.contrib.django.backend import storable
from arkor_sync.contrib.django.connections import ServerTime
from arkor_sync.contrib.django.models import Lease, Metric, Run
from arkor_sync.errors import LeaseLostError, RunAborted, text_of
from arkor_sync.render.rows import Row
from arkor_sync.stream.replay import lasting_key

_LARGEST = 2**63 - 1
_LONGEST_ERROR = 2000  # characters


class RunRecorder(Callback):
    """Writes what the events of a job tell to its row.

    Args:
        job_id: The job.
        alias: The database.
        owner: Who follows it, as in the lease.
    """

    def __init__(self, job_id: str, alias: str, owner: str) -> None:
        self._job_id = job_id
        self._alias = alias
        self._owner = owner
        self._run: Optional[Run] = None

    def on_started(self, ctx: StartedContext) -> None:
        """Say that it runs."""
        at = _time_of(ctx.event.timestamp)
        self._write(signals.run_started, ctx, status=Run.Status.RUNNING, started_at=at, error="")

    def on_log(self, ctx: LogContext) -> None:
        """Write the metrics of a step."""
        values = {name: _number(getattr(ctx, name)) for name in Row._fields}
        step = _whole(ctx.step)
        if step is None:
            return
        metric = Metric(run_id=self._row().pk, event=lasting_key(ctx.event), step=step, **values)
        Metric.objects.using(self._alias).bulk_create([metric], ignore_conflicts=True)
        changed: Dict[str, Any] = {"step": step}
        if values["loss"] is not None:
            changed["loss"] = values["loss"]
        self._write(signals.run_log, ctx, **changed)

    def on_checkpoint(self, ctx: CheckpointContext) -> None:
        """Send the signal."""
        step = _whole(ctx.step)
        self._write(signals.run_checkpoint, ctx, **({} if step is None else {"step": step}))

    def on_completed(self, ctx: CompletedContext) -> None:
        """Write that it has completed."""
        self._end(signals.run_completed, ctx, Run.Status.COMPLETED, "")

    def on_failed(self, ctx: FailedContext) -> None:
        """Write that it has failed, and why."""
        self._end(signals.run_failed, ctx, Run.Status.FAILED, ctx.error)

    def on_cancelled(self, ctx: CancelledContext) -> None:
        """Write that it was cancelled."""
        self._end(signals.run_cancelled, ctx, Run.Status.CANCELLED, "")

    def on_end(self, ctx: EndContext) -> None:
        """Write why it ended, where no event tells that."""
        error = ctx.error
        if ctx.result is not None:
            if ctx.result.stop_reason is not None:  # a callback has stopped the job
                reason = ctx.result.stop_reason
                self._end(signals.run_cancelled, ctx, Run.Status.CANCELLED, reason)
            return
        if error is None or isinstance(error, (LeaseLostError, RunAborted)):
            return  # another process goes on
        leases = Lease.objects.using(self._alias).filter(job_id=self._job_id, owner=self._owner)
        if not leases.filter(expires__gt=ServerTime()).exists():
            return
        text = f"{type(error).__name__}: {text_of(error)}"
        self._write(None, ctx, error=_shown(text))

    def _end(self, signal: Signal, ctx: Any, status: str, error: str) -> None:
        if self._row().is_ended:
            return  # such as a job that a callback has stopped, and whose record is read now
        at = _time_of(getattr(ctx.event, "timestamp", None))
        self._write(signal, ctx, status=status, ended_at=at, error=_shown(error))

    def _row(self) -> Any:
        if self._run is None:
            self._run = Run.objects.using(self._alias).get(job_id=self._job_id)
        return self._run

    def _write(self, signal: Optional[Signal], ctx: Any, **changed: Any) -> None:
        run, changed = self._row(), {**changed, "updated_at": timezone.now()}
        Run.objects.using(self._alias).filter(pk=run.pk).update(**changed)
        for name, value in changed.items():
            setattr(run, name, value)
        if signal is not None:
            signal.send(sender=Run, run=run, ctx=ctx)


def _shown(text: str) -> str:
    return storable(safe_text(text, _LONGEST_ERROR))


def _number(value: Any) -> Optional[float]:
    """Return a number that a column can hold; NaN is none."""
    try:
        number = None if value is None else float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return None if number is None or number != number else number


def _whole(value: int) -> Optional[int]:
    return value if abs(value) <= _LARGEST else None


def _time_of(timestamp: Optional[str]) -> Any:
    """Return the time of an event, or the time now where it has none."""
    try:
        found = None if timestamp is None else parse_datetime(timestamp)
    except ValueError:
        found = None
    if found is None:
        return timezone.now()
    if timezone.is_aware(found) == settings.USE_TZ:
        return found
    return timezone.make_aware(found) if settings.USE_TZ else timezone.make_naive(found)
