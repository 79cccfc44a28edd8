"""The states of all runs that one handler serves at the same time. Runs on the worker thread."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Generic, Mapping, Tuple, TypeVar

from arkor_sync._common import process
from arkor_sync._common.arguments import show
from arkor_sync._common.log import get_logger
from arkor_sync.cloud.models import TrainingJob
from arkor_sync.contexts import Context
from arkor_sync.handlers._shared.exceptions import describe_error

State = TypeVar("State")
_MAX_RESTORED = 1000  # restored states that no run has asked for yet

logger = get_logger("arkor_sync.handlers")


class StatePerRun(Generic[State]):
    """Holds one state for each run of a handler, by job id.

    Each run saves its own state and no other. So the cursors of many runs that share a handler
    stay small, and no run restores a state that another run has already removed. A forked child
    starts empty, because the states belong to the parent's runs.

    Threads: each run calls it on its own worker thread.

    Attributes:
        lock: For data that the handler shares between its runs. A forked child gets a new lock.
    """

    def __init__(
        self, create: Callable[[TrainingJob, Any], State], save: Callable[[State], Any]
    ) -> None:
        """Start without any state.

        Args:
            create: Creates the state of a job, from what `save` returned in an earlier process, or
                from None.
            save: Returns a state as JSON.
        """
        self._create = create
        self._save = save
        self.after_fork()
        process.register_hooks(self)

    def __getstate__(self) -> Tuple[Any, ...]:
        return self._create, self._save  # a pickled copy follows no run

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        StatePerRun.__init__(self, *state)

    def after_fork(self) -> None:
        """Forget the parent's states, and replace its locks."""
        self.lock = threading.Lock()
        self._states_lock = threading.Lock()
        self._states: Dict[str, State] = {}
        self._restored: Dict[str, Any] = {}
        self._current = threading.local()  # the job that this worker thread follows

    def at_exit(self, timeout: float) -> None:
        """Do nothing. The exit hook calls it on every registered object."""

    def get_or_create(self, ctx: Context) -> State:
        """Return the state of a context's run; create it at the first call."""
        job = ctx.job
        self._current.job_id = job.id
        with self._states_lock:
            state = self._states.get(job.id)
            if state is None:
                restored = self._restored.pop(job.id, None)
                try:
                    state = self._create(job, restored)
                except Exception as error:
                    if restored is None:
                        raise
                    _warn(f"of job {job.id}", error)
                    state = self._create(job, None)
                self._states[job.id] = state
            return state

    def has(self, ctx: Context) -> bool:
        """Whether the context's run has a state, here or restored from an earlier process."""
        return ctx.job.id in self._states or ctx.job.id in self._restored

    def remove(self, ctx: Context) -> None:
        """Remove the state of a run that has ended."""
        with self._states_lock:
            self._states.pop(ctx.job.id, None)
            self._restored.pop(ctx.job.id, None)

    def state_dict(self) -> Dict[str, Any]:
        """Return, by job id, what another process needs of the run whose worker thread asks."""
        current = getattr(self._current, "job_id", None)
        with self._states_lock:
            saved = {} if current else dict(self._restored)
            for job_id in [current] if current else list(self._states):
                if job_id in self._states:
                    saved[job_id] = self._save(self._states[job_id])
            return saved

    def load_state_dict(self, state: Any) -> None:
        """Keep what `state_dict` returned until a run of that job asks for its state.

        A state of another shape is logged and ignored, here and when a run asks for it.
        """
        if not isinstance(state, Mapping):
            _warn("of a handler", TypeError(f"expected an object, got {show(state)}"))
            return
        with self._states_lock:
            for job_id, saved in state.items():
                self._restored.pop(job_id, None)
                self._restored[job_id] = saved
            while len(self._restored) > _MAX_RESTORED:
                del self._restored[next(iter(self._restored))]


def _warn(whose: str, error: Exception) -> None:
    logger.warning(
        "the saved state %s cannot be read and is ignored: %s", whose, describe_error(error)
    )
