"""What a handler that serves many runs keeps of each. Each run's worker thread uses its own."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Generic, Mapping, TypeVar

from arkor_sync._common import process
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import Context

State = TypeVar("State")
_MOST = 1000  # restored states that nobody has asked for


class PerRun(Generic[State]):
    """The states of the runs that one handler follows at the same time, by job.

    A run saves its own state and no other: the cursors of many runs that share a handler stay
    small, and none brings back what another has long forgotten. A forked child begins anew: the
    states are those of the parent's runs.

    Attributes:
        lock: For whatever the handler shares between its runs; a forked child has its own.
    """

    def __init__(
        self, make: Callable[[TrainingJob, Any], State], save: Callable[[State], Any]
    ) -> None:
        """Know of no run.

        Args:
            make: Makes the state of a job, from what `save` returned in an earlier process, or
                from None.
            save: Returns a state as JSON.
        """
        self._make = make
        self._save = save
        self.after_fork()
        process.register_hooks(self)

    def after_fork(self) -> None:
        """Forget the parent's runs, and its locks."""
        self.lock = threading.Lock()
        self._guard = threading.Lock()
        self._states: Dict[str, State] = {}
        self._restored: Dict[str, Any] = {}
        self._here = threading.local()  # the job that this worker thread follows

    def at_exit(self, timeout: float) -> None:
        """Do nothing: the exit hook wants it."""

    def of(self, ctx: Context) -> State:
        """Return the state of a context's run; at first it is made."""
        job = ctx.job
        self._here.job_id = job.id
        with self._guard:
            state = self._states.get(job.id)
            if state is None:
                state = self._make(job, self._restored.pop(job.id, None))
                self._states[job.id] = state
            return state

    def knows(self, ctx: Context) -> bool:
        """Whether there is a state of a context's run, or of an earlier process's."""
        return ctx.job.id in self._states or ctx.job.id in self._restored

    def drop(self, ctx: Context) -> None:
        """Forget a run that has ended."""
        with self._guard:
            self._states.pop(ctx.job.id, None)
            self._restored.pop(ctx.job.id, None)

    def state_dict(self) -> Dict[str, Any]:
        """Return what another process needs of the run whose worker thread asks, by job."""
        mine = getattr(self._here, "job_id", None)
        with self._guard:
            saved = {} if mine else dict(self._restored)
            for job_id in [mine] if mine else list(self._states):
                if job_id in self._states:
                    saved[job_id] = self._save(self._states[job_id])
            return saved

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep what `state_dict` returned until the run asks for it, which it need not ever do."""
        with self._guard:
            for job_id, saved in state.items():
                self._restored.pop(job_id, None)
                self._restored[job_id] = saved
            while len(self._restored) > _MOST:
                del self._restored[next(iter(self._restored))]
