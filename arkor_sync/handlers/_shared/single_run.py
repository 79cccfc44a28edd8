"""What callbacks share that hold the state of one run, and may stop it. The worker thread runs it.

Each reads and writes its state on that run's worker thread only.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Dict, Optional

from arkor_sync.callbacks import Callback
from arkor_sync.contexts import Context, EndContext
from arkor_sync.errors import ArkorUsageError
from arkor_sync.handlers._shared.safety import said

if TYPE_CHECKING:
    from arkor_sync.run import Run

logger = logging.getLogger("arkor_sync.handlers")


class OneRun(Callback):
    """Serves one run at a time, and begins anew with the next.

    Subclasses call `_enter` first in each hook, and keep their state in `_reset`, `_save` and
    `_restore`.
    """

    _run: Optional[Run] = None
    _pid: Optional[int] = None  # of the process that follows the run
    _job_id: Optional[str] = None

    def on_end(self, ctx: EndContext) -> None:
        """Let the run go. What was learnt of it can still be read."""
        if ctx.run is self._run:
            self._run = None

    def state_dict(self) -> Dict[str, Any]:
        """Return what another process needs to carry on, as JSON."""
        return {"jobId": self._job_id, **self._save()}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Carry on from what `state_dict` returned. The run calls it before it begins.

        A state that cannot be read is logged and left aside.

        Raises:
            ArkorUsageError: Another run that uses this object has not ended.
        """
        self._refuse_a_second()
        self._reset()
        try:
            self._job_id = state["jobId"]
            self._restore(state)
        except Exception as error:
            what = "%s: its state cannot be read, and it begins anew: %s"
            logger.warning(what, type(self).__name__, said(error))
            self._job_id = None
            self._reset()

    def _enter(self, ctx: Context) -> bool:
        """Belong to this run, and forget what was of another job.

        Returns:
            Whether the run is a new one.

        Raises:
            ArkorUsageError: Another run that uses this object has not ended.
        """
        if ctx.run is self._run:
            return False
        self._refuse_a_second()
        self._run, self._pid = ctx.run, os.getpid()
        if ctx.job.id != self._job_id:
            self._reset()
            self._job_id = ctx.job.id
        return True

    def _refuse_a_second(self) -> None:
        if self._run is None or self._pid != os.getpid():
            return  # a forked child follows no run of its parent
        if not self._run.done():
            raise ArkorUsageError(
                f"this {type(self).__name__} belongs to job {self._job_id}, which is still "
                "followed; make one for each run"
            )

    def _reset(self) -> None:
        """Go back to the state before any event."""

    def _save(self) -> Dict[str, Any]:
        return {}

    def _restore(self, state: Dict[str, Any]) -> None:
        """Take in what `_save` returned."""


def stop(run: Run, reason: str) -> bool:
    """Cancel the job and end the run. Any thread may call it, the worker in a callback too.

    It is not `StopTraining`, because there a cloud that cannot be asked ends the run and leaves the
    job running.

    Returns:
        False if the cloud could not be asked. That is logged, and worth another attempt.
    """
    try:
        run.stop(reason)
    except Exception as error:  # the program's own credentials function can raise anything
        logger.warning("job %s could not be stopped (%s): %s", run.job.id, reason, str(error))
        return False
    return True
