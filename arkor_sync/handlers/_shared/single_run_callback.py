"""The base class of callbacks that serve one run at a time. Runs on the worker thread."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from arkor_sync._common.log import get_logger
from arkor_sync.callbacks import Callback
from arkor_sync.contexts import Context, EndContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.exceptions import describe_error

if TYPE_CHECKING:
    from arkor_sync.run import Run

logger = get_logger("arkor_sync.handlers")


class SingleRunCallback(Callback):
    """Keeps the state of one run at a time. The state is reset when a run of another job begins.

    Subclasses call `_bind` first in each callback method. They implement `_reset`, `_save` and
    `_restore` for their own state. Only the run's worker thread reads and writes that state.
    """

    _run: Optional[Run] = None
    _pid: Optional[int] = None  # of the process that follows the run
    _job_id: Optional[str] = None

    _process_bound: Tuple[str, ...] = ("_run", "_pid")  # attributes that a pickled copy lacks

    def __getstate__(self) -> Dict[str, Any]:
        left = self.__dict__.items()
        return {name: value for name, value in left if name not in self._process_bound}

    def on_end(self, ctx: EndContext) -> None:
        """Release the run, so that another one may use the object. The state stays readable."""
        if ctx.run is self._run:
            self._run = None

    def state_dict(self) -> Dict[str, Any]:
        """Return what another process needs to continue, as JSON."""
        return {"jobId": self._job_id, **self._save()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Continue from what `state_dict` returned. The run calls it before the first event.

        A state that cannot be read is logged and ignored.

        Raises:
            ArkorUsageError: Another run that uses this object has not ended.
        """
        self._check_run_has_ended()
        self._reset()
        try:
            self._job_id = state["jobId"]
            self._restore(state)
        except Exception as error:
            logger.warning(
                "%s: the saved state cannot be read and is ignored: %s",
                type(self).__name__,
                describe_error(error),
            )
            self._job_id = None
            self._reset()

    def _bind(self, ctx: Context) -> bool:
        """Bind the object to the run of a context; reset the state if it is of another job.

        Returns:
            Whether the run is a new one.

        Raises:
            ArkorUsageError: Another run that uses this object has not ended.
        """
        if ctx.run is self._run:
            return False
        self._check_run_has_ended()
        self._run, self._pid = ctx.run, os.getpid()
        if ctx.job.id != self._job_id:
            self._reset()
            self._job_id = ctx.job.id
        return True

    def _check_run_has_ended(self) -> None:
        if self._run is None or self._pid != os.getpid():
            return  # a forked child does not follow the runs of its parent
        if not self._run.done():
            raise ArkorUsageError(
                f"this {type(self).__name__} belongs to job {self._job_id}, which is still "
                "followed; make one for each run"
            )

    def _reset(self) -> None:
        """Set the state to what it is before the first event."""

    def _save(self) -> Dict[str, Any]:
        """Return the state as JSON."""
        return {}

    def _restore(self, state: Dict[str, Any]) -> None:
        """Set the state to what `_save` returned."""


def try_to_stop(run: Run, reason: str) -> bool:
    """Cancel the job in the cloud and end the run; log it if the cloud cannot be asked.

    Any thread may call it, the worker thread in a callback too. `StopTraining` is no replacement:
    if the cloud cannot be asked, `StopTraining` ends the run and leaves the job running.

    Returns:
        False if the cloud could not be asked. The caller should then try again later.
    """
    try:
        run.stop(reason)
    except Exception as error:  # a credentials function of the program can raise anything
        logger.warning("job %s could not be stopped (%s): %s", run.job.id, reason, str(error))
        return False
    return True
