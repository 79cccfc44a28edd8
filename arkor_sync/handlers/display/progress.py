"""Shows the progress of a run in a terminal, a notebook or a log. Runs on the worker thread."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from importlib import import_module
from typing import Any, Callable, Deque, Dict, Optional, Protocol, Sequence, TextIO, Tuple

from arkor_sync._common import process
from arkor_sync._common.arguments import check
from arkor_sync._common.clock import Clock
from arkor_sync._common.environment import variable
from arkor_sync._common.log import get_logger
from arkor_sync._common.notebook import notebook_shell
from arkor_sync.callbacks import Callback
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import Context, EndContext, LogContext, StartedContext
from arkor_sync.handlers._shared.exceptions import describe_error, log_exceptions
from arkor_sync.render.outcome import describe_outcome, shorten_reason
from arkor_sync.render.text import (
    format_duration,
    format_number,
    one_line,
    parse_timestamp,
    seconds_between,
)

logger = get_logger("arkor_sync.handlers")

_now = Clock.now
_RATE_LOGS = 20  # the rate is measured over so many logs
_MAX_NAME = 40  # columns
_MAX_LINE = 200  # columns


class ProgressBar(Callback):
    """Shows the step, the losses, the steps per second and the time left.

    In a terminal and in a notebook it shows a bar, which needs the extra `progress` (tqdm).
    Elsewhere (cron, Celery, CI, a pipe), and without the extra, it writes a plain line every half
    minute. The step comes from the cloud's events and the rate from the cloud's timestamps, so the
    numbers stay right if events are delivered again or another process continues.

    If a run does not complete, a line says why. If the output stream is closed or broken, that is
    logged once, and the run goes on. The methods run on the worker thread. One object may serve
    several runs at a time.

    Args:
        leave: Whether the bar of a completed run stays on the screen. Lines always stay.
        refresh_rate: How many times per second it is refreshed at most; by default 10 for a bar,
            and 1/30 for lines.
        file: The output stream; by default standard error.

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
        fits = refresh_rate is None or refresh_rate > 0
        check("refresh_rate", refresh_rate, fits, "a number above 0, or None")
        self._leave = leave
        self._rate = refresh_rate
        self._file = file
        self._displays: Dict[str, _RunDisplay] = {}  # by job

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_displays": {}}  # a pickled copy shows no run

    def after_fork(self) -> None:
        """Show nothing in a forked child: at its exit, the library would draw every bar again."""
        for display in self._displays.values():
            display.abandon()
        self._displays = {}

    def at_exit(self, timeout: float) -> None:
        """Do nothing. The exit hook calls it on every registered object."""

    @log_exceptions
    def on_started(self, ctx: StartedContext) -> None:
        """Show that the job is running."""
        self._display_of(ctx).refresh(self._rate)

    @log_exceptions
    def on_log(self, ctx: LogContext) -> None:
        """Update the step and the losses; show them if `refresh_rate` allows it."""
        display = self._display_of(ctx)
        display.progress.update(ctx)
        display.refresh(self._rate)

    @log_exceptions
    def on_end(self, ctx: EndContext) -> None:
        """Show how the run ended."""
        display = self._display_of(ctx)
        self._displays.pop(ctx.job.id, None)
        display.progress.end(ctx.job, ctx.result.metrics.total_steps if ctx.result else None)
        status, reason = describe_outcome(ctx.job, ctx.result, ctx.error)
        display.end(status, shorten_reason(reason))

    def _display_of(self, ctx: Context) -> _RunDisplay:
        display = self._displays.get(ctx.job.id)
        if display is None:
            process.register_hooks(self)
            display = _RunDisplay(Progress(ctx.job), self._file, self._leave)
            self._displays[ctx.job.id] = display
        return display


class Progress:
    """The progress of one run as numbers and texts.

    Attributes:
        step: The last step that the cloud has reported.
        total: The job's `maxSteps`; None if it is not known.
    """

    def __init__(self, job: TrainingJob) -> None:
        limit = job.config.get("maxSteps")
        self.name = one_line(job.name, _MAX_NAME)
        self.total: Optional[int] = limit if type(limit) is int and limit > 0 else None
        self.step = 0
        self._losses: Dict[str, float] = {}
        self._recent: Deque[Tuple[float, int]] = deque(maxlen=_RATE_LOGS)
        self._has_timestamps = True  # whether the times in it are the cloud's
        self._took: Optional[float] = None

    def update(self, ctx: LogContext) -> None:
        """Take in the metrics of a step."""
        self._set_step(ctx.step)
        for name, value in (("loss", ctx.loss), ("eval loss", ctx.eval_loss)):
            if value is not None:
                self._losses[name] = value
        timestamp = parse_timestamp(ctx.event.timestamp)
        now = _now() if timestamp is None else timestamp
        if (timestamp is None) is self._has_timestamps:  # times of two clocks have no difference
            self._recent.clear()
        self._has_timestamps = timestamp is not None
        if self._recent and self._recent[-1][1] >= ctx.step:
            if self._recent[-1][1] > ctx.step:  # the job continues from an earlier checkpoint
                self._recent.clear()
            else:
                return
        self._recent.append((now, ctx.step))

    def end(self, job: TrainingJob, total_steps: Optional[int]) -> None:
        """Take in the final numbers of the run."""
        if total_steps is not None:
            self._set_step(total_steps)
        self._took = seconds_between(job.started_at, job.completed_at)
        self._recent.clear()

    @property
    def rate(self) -> Optional[float]:
        """Steps per second over the last logs; None if it is not known yet."""
        if len(self._recent) < 2:
            return None
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / (end - start) if end > start else None

    def metrics_text(self) -> str:
        """Return the losses, the rate and the time left, as far as they are known."""
        parts = [f"{name} {format_number(value)}" for name, value in self._losses.items()]
        rate = self.rate
        if rate is not None:
            parts.append(f"{rate:.3g} steps/s" if rate >= 1 else f"{1 / rate:.3g} s/step")
            if self.total is not None and self.step <= self.total:
                parts.append(f"{format_duration((self.total - self.step) / rate)} left")
        if self._took is not None:
            parts.append(f"took {format_duration(self._took)}")
        return ", ".join(parts)

    def step_text(self) -> str:
        """Return the step, and the number of steps if it is known."""
        if self.total is None:
            return f"step {self.step}"
        return f"step {self.step}/{self.total} ({100 * self.step // self.total}%)"

    def _set_step(self, step: int) -> None:
        self.step = step
        if self.total is not None and step > self.total:
            self.total = None


class _Display(Protocol):
    refresh_rate: float

    def show(self, progress: Progress) -> None: ...

    def end(self, progress: Progress, status: str, reason: str) -> None: ...

    def give_up(self) -> None: ...


class _RunDisplay:
    """The progress of one run and its display. A display that raises is not used any more."""

    def __init__(self, progress: Progress, file: Optional[TextIO], leave: bool) -> None:
        self.progress = progress
        self._display: Optional[_Display] = None
        self._last = float("-inf")
        try:
            self._display = _new_display(progress, sys.stderr if file is None else file, leave)
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

    def end(self, status: str, reason: str) -> None:
        if self._display is None:
            return
        try:
            self._display.end(self.progress, status, reason)
        except Exception as error:
            self._give_up(error)

    def abandon(self) -> None:
        if self._display is not None:
            self._display.give_up()
            self._display = None

    def _give_up(self, error: Exception) -> None:
        self.abandon()
        logger.warning(
            "ProgressBar: nothing more is written for %r, because its stream failed: %s",
            self.progress.name,
            describe_error(error),
        )


def _new_display(progress: Progress, stream: Optional[TextIO], leave: bool) -> Optional[_Display]:
    """Return a bar or lines, whichever fits the stream; None without a stream, as in a daemon."""
    if stream is None:
        return None
    terminal = stream.isatty() and variable("TERM") != "dumb"
    if terminal or (stream is sys.stderr and notebook_shell() is not None):
        try:
            return _Bar(progress, stream, leave)
        except ImportError:  # tqdm or the widgets of the notebook are not installed
            pass
    return _Lines(stream)


def _write(stream: TextIO, progress: Progress, parts: Sequence[str], reason: str = "") -> None:
    line = f"{progress.name}: {', '.join(filter(None, parts))}{': ' if reason else ''}{reason}"
    stream.write(_printable(one_line(line, _MAX_LINE), stream) + "\n")
    stream.flush()


def _final_text(progress: Progress, status: str) -> str:
    return f"{status} at {progress.step_text()}" if progress.step else status


class _Lines:
    refresh_rate = 1 / 30

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, progress: Progress) -> None:
        _write(self._stream, progress, [progress.step_text(), progress.metrics_text()])

    def end(self, progress: Progress, status: str, reason: str) -> None:
        parts = [_final_text(progress, status), progress.metrics_text()]
        _write(self._stream, progress, parts, reason)

    def give_up(self) -> None:
        pass


class _StreamForTqdm:
    """A stream that stores its first exception instead of raising it.

    If a stream raises inside tqdm, tqdm never releases its lock.
    """

    def __init__(self, stream: TextIO) -> None:
        self.error: Optional[Exception] = None
        self._stream = stream

    def write(self, text: str) -> None:
        self._try(self._stream.write, text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __eq__(self, other: object) -> bool:
        # `tqdm.write` compares streams, to find the bars of the stream that it writes to.
        return other is self or other is self._stream

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
        tqdm = import_module("tqdm.auto").tqdm  # in a notebook, the variant for notebooks
        sizes = {"ncols": _KnownSize(0), "nrows": _KnownSize(1)}
        # With an interval of 0, tqdm starts no thread.
        bar = type("Bar", (tqdm,), {"monitor_interval": 0, **sizes})
        self._stream = stream
        self._tqdm_stream = _StreamForTqdm(stream)
        self._bar: Any = bar(
            desc=_printable(progress.name, stream),
            total=progress.total,
            file=self._tqdm_stream,
            dynamic_ncols=True,
            leave=leave,
            bar_format=_format(progress),
        )

    def show(self, progress: Progress) -> None:
        bar = self._bar
        bar.n, bar.total, bar.bar_format = progress.step, progress.total, _format(progress)
        bar.set_postfix_str(progress.metrics_text(), refresh=False)
        bar.refresh()
        self._check()

    def end(self, progress: Progress, status: str, reason: str) -> None:
        self.show(progress)
        # This block removes the bars of other runs from the screen, and draws them again below.
        with self._bar.external_write_mode(self._stream):
            self._bar.close()
            if status != "completed":
                _write(self._stream, progress, [_final_text(progress, status)], reason)
        self._check()

    def give_up(self) -> None:
        self._bar.disable = True  # else the bar would write again when it is closed

    def _check(self) -> None:
        if self._tqdm_stream.error is not None:
            raise self._tqdm_stream.error


class _KnownSize:
    """The size of the terminal for tqdm: one that says 0 does not know it (`ioctl_tty(2)`)."""

    def __init__(self, index: int) -> None:
        self._index = index  # in a size: 0 for the columns, 1 for the rows

    def __set_name__(self, _: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, bar: Any, _: object = None) -> Any:
        return getattr(bar, self._name, None)

    def __set__(self, bar: Any, size: Any) -> None:
        if type(size) is int and size < 1:
            size = shutil.get_terminal_size()[self._index] - 1  # of the environment, or 80 by 24
        setattr(bar, self._name, size)


def _format(progress: Progress) -> str:
    if progress.total is None:
        return "{desc}: step {n_fmt}{postfix}{bar:0}"
    return "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"


def _printable(text: str, stream: TextIO) -> str:
    """Replace the characters that a stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
