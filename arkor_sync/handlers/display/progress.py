"""How far a run is: a bar in a terminal or a notebook, plain lines elsewhere. Worker thread."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from importlib import import_module
from typing import Any, Callable, Deque, Dict, Optional, Protocol, Sequence, TextIO, Tuple

from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import Context, EndContext, LogContext, StartedContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.ending import cause, ending
from arkor_sync.handlers._shared.safety import harmless, said
from arkor_sync.render.text import between, duration, figure, moment, one_line

logger = logging.getLogger("arkor_sync.handlers")

_now = time.monotonic
_WINDOW = 20  # logs that the rate is measured over
_NAME = 40  # columns
_LINE = 200  # columns


class ProgressBar(Callback):
    """Shows the step, the losses, the rate and the time left.

    In a terminal, and in a notebook, it is a bar: that needs the extra `progress` (tqdm).
    Elsewhere (cron, Celery, CI, a pipe), and without the extra, it is a plain line now and then.
    How far a run is comes from the step that the cloud tells of, and the rate from the cloud's
    clock: nothing is counted twice when events come again or another process carries on.

    A run that did not complete leaves a line that says why. A stream that is closed or broken is
    given up, and never fails the run. One object may serve several runs at a time.

    Args:
        leave: Whether the bar of a completed run stays. Lines always do.
        refresh_rate: How often it is refreshed, in times a second, at most; by default 10 for a bar
            and 1/30, a line every half minute, for lines.
        file: Where to; standard error if left out.

    Raises:
        ArkorUsageError: `refresh_rate` is not above 0.
    """

    def __init__(
        self,
        *,
        leave: bool = True,
        refresh_rate: Optional[float] = None,
        file: Optional[TextIO] = None,
    ) -> None:
        if refresh_rate is not None and not refresh_rate > 0:
            raise ArkorUsageError(f"refresh_rate must be above 0, not {refresh_rate!r}")
        self._leave = leave
        self._rate = refresh_rate
        self._file = file
        self._shown: Dict[str, _Shown] = {}  # by job

    @harmless
    def on_started(self, ctx: StartedContext) -> None:
        """Show that the job runs."""
        self._of(ctx).refresh(self._rate)

    @harmless
    def on_log(self, ctx: LogContext) -> None:
        """Take in a step, and show it if it is time to."""
        shown = self._of(ctx)
        shown.progress.log(ctx)
        shown.refresh(self._rate)

    @harmless
    def on_end(self, ctx: EndContext) -> None:
        """Say how the run ended."""
        shown = self._of(ctx)
        self._shown.pop(ctx.job.id, None)
        shown.progress.end(ctx.job, ctx.result.metrics.total_steps if ctx.result else None)
        status, why = ending(ctx.job, ctx.result, ctx.error)
        shown.end(status, cause(why))

    def _of(self, ctx: Context) -> _Shown:
        shown = self._shown.get(ctx.job.id)
        if shown is None:
            shown = self._shown[ctx.job.id] = _Shown(Progress(ctx.job), self._file, self._leave)
        return shown


class Progress:
    """How far one run is. Pure.

    Attributes:
        step: The last that was told of.
        total: The job's `maxSteps`; None where it is not known.
    """

    def __init__(self, job: TrainingJob) -> None:
        limit = job.config.get("maxSteps")
        self.name = one_line(job.name, _NAME)
        self.total: Optional[int] = limit if type(limit) is int and limit > 0 else None
        self.step = 0
        self._losses: Dict[str, float] = {}
        self._recent: Deque[Tuple[float, int]] = deque(maxlen=_WINDOW)
        self._took: Optional[float] = None

    def log(self, ctx: LogContext) -> None:
        """Take in the metrics of a step."""
        self._reach(ctx.step)
        for name, value in (("loss", ctx.loss), ("eval loss", ctx.eval_loss)):
            if value is not None:
                self._losses[name] = value
        told = moment(ctx.event.timestamp)
        now = time.time() if told is None else told
        if self._recent and self._recent[-1][1] >= ctx.step:
            if self._recent[-1][1] > ctx.step:  # it began again at an earlier checkpoint
                self._recent.clear()
            else:
                return
        self._recent.append((now, ctx.step))

    def end(self, job: TrainingJob, total_steps: Optional[int]) -> None:
        """Take in what the end of the run tells."""
        if total_steps is not None:
            self._reach(total_steps)
        self._took = between(job.started_at, job.completed_at)
        self._recent.clear()

    @property
    def rate(self) -> Optional[float]:
        """Steps a second over the last logs, or None."""
        if len(self._recent) < 2:
            return None
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end - start) if end > start else None

    def figures(self) -> str:
        """Write down the losses, the rate and the time left, as far as they are known."""
        parts = [f"{name} {figure(value)}" for name, value in self._losses.items()]
        rate = self.rate
        if rate is not None:
            parts.append(f"{rate:.3g} steps/s" if rate >= 1 else f"{1 / rate:.3g} s/step")
            if self.total is not None and self.step <= self.total:
                parts.append(f"{duration((self.total - self.step) / rate)} left")
        if self._took is not None:
            parts.append(f"took {duration(self._took)}")
        return ", ".join(parts)

    def position(self) -> str:
        """Write down the step, of how many."""
        if self.total is None:
            return f"step {self.step}"
        return f"step {self.step}/{self.total} ({100 * self.step // self.total}%)"

    def _reach(self, step: int) -> None:
        self.step = step
        if self.total is not None and step > self.total:
            self.total = None


class _Display(Protocol):
    refresh_rate: float

    def show(self, progress: Progress) -> None: ...

    def end(self, progress: Progress, status: str, why: str) -> None: ...

    def give_up(self) -> None: ...


class _Shown:
    """One run's progress and its display, until that breaks."""

    def __init__(self, progress: Progress, file: Optional[TextIO], leave: bool) -> None:
        self.progress = progress
        self._display: Optional[_Display] = None
        self._last = float("-inf")
        try:
            self._display = _display(progress, sys.stderr if file is None else file, leave)
        except Exception as error:
            self._give_up(error)

    def refresh(self, rate: Optional[float]) -> None:
        if self._display is None:
            return
        now = _now()
        if now - self._last < 1 / (rate or self._display.refresh_rate):
            return
        self._last = now
        try:
            self._display.show(self.progress)
        except Exception as error:
            self._give_up(error)

    def end(self, status: str, why: str) -> None:
        if self._display is None:
            return
        try:
            self._display.end(self.progress, status, why)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self._display is not None:
            self._display.give_up()
            self._display = None
        what = "ProgressBar: the stream of %r is given up: %s"
        logger.warning(what, self.progress.name, said(error))


def _display(progress: Progress, stream: Optional[TextIO], leave: bool) -> Optional[_Display]:
    """Choose how to show a run; None where there is no stream, as in a daemon."""
    if stream is None:
        return None
    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    if terminal or (stream is sys.stderr and _in_notebook()):
        try:
            return _Bar(progress, stream, leave)
        except ImportError:  # no tqdm, or a notebook without its widgets
            pass
    return _Lines(stream)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _write(stream: TextIO, progress: Progress, parts: Sequence[str], why: str = "") -> None:
    line = f"{progress.name}: {', '.join(filter(None, parts))}{': ' if why else ''}{why}"
    stream.write(_printable(one_line(line, _LINE), stream) + "\n")
    stream.flush()


def _last_words(progress: Progress, status: str) -> str:
    return f"{status} at {progress.position()}" if progress.step else status


class _Lines:
    refresh_rate = 1 / 30

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, progress: Progress) -> None:
        _write(self._stream, progress, [progress.position(), progress.figures()])

    def end(self, progress: Progress, status: str, why: str) -> None:
        parts = [_last_words(progress, status), progress.figures()]
        _write(self._stream, progress, parts, why)

    def give_up(self) -> None:
        pass


class _Guarded:
    """A stream for tqdm: what it raises is kept, for tqdm would keep its lock for ever."""

    def __init__(self, stream: TextIO) -> None:
        self.error: Optional[Exception] = None
        self._stream = stream

    def write(self, text: str) -> None:
        self._try(self._stream.write, text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._stream  # `tqdm.write` looks for the bars of a stream

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, method: Callable[..., object], *arguments: str) -> None:
        if self.error is None:
            try:
                method(*arguments)
            except Exception as error:
                self.error = error


class _Bar:
    refresh_rate = 10.0

    def __init__(self, progress: Progress, stream: TextIO, leave: bool) -> None:
        tqdm = import_module("tqdm.auto").tqdm  # the one for a notebook, in a notebook
        bar = type("Bar", (tqdm,), {"monitor_interval": 0})  # no thread of tqdm's
        self._stream = stream
        self._guarded = _Guarded(stream)
        self._bar: Any = bar(
            desc=_printable(progress.name, stream),
            total=progress.total,
            file=self._guarded,
            dynamic_ncols=True,
            leave=leave,
            bar_format=_format(progress),
        )

    def show(self, progress: Progress) -> None:
        bar = self._bar
        bar.n, bar.total, bar.bar_format = progress.step, progress.total, _format(progress)
        bar.set_postfix_str(progress.figures(), refresh=False)
        bar.refresh()
        self._check()

    def end(self, progress: Progress, status: str, why: str) -> None:
        self.show(progress)
        # The bars of other runs are wiped out meanwhile, and drawn again below.
        with self._bar.external_write_mode(self._stream):
            self._bar.close()
            if status != "completed":
                _write(self._stream, progress, [_last_words(progress, status)], why)
        self._check()

    def give_up(self) -> None:
        self._bar.disable = True  # it would write once more when it is closed

    def _check(self) -> None:
        if self._guarded.error is not None:
            raise self._guarded.error


def _format(progress: Progress) -> str:
    if progress.total is None:
        return "{desc}: step {n_fmt}{postfix}{bar:0}"
    return "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


def _printable(text: str, stream: TextIO) -> str:
    """Replace what a stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
