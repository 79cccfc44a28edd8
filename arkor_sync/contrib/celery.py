"""Celery tasks that follow and submit jobs; Celery distributes, a store remembers. Any thread.

A task follows a job for a slice of time, saves the position, and queues itself again, so that a
few workers serve many jobs. It may run twice, be killed, or be redelivered: the job's lease lets
one run follow it at a time, and the saved position says where to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Optional, Union

from arkor_sync._common.arguments import (
    MAX_SECONDS,
    check,
    check_callback,
    check_client,
    is_seconds,
    refusal,
)
from arkor_sync._common.clock import Clock
from arkor_sync._common.extras import import_extra
from arkor_sync._follow import follow
from arkor_sync.callbacks import Callback, Callbacks, CallbacksInput
from arkor_sync.contrib._celery_shutdown import (
    is_cut,
    is_shutting_down,
    sigterm_raises,
    watch_for_shutdown,
)
from arkor_sync.errors import (
    ArkorConnectionError,
    LeaseHeldError,
    LeaseLostError,
    RateLimitError,
    ServerError,
    StoreUnavailableError,
    WaitTimeout,
)
from arkor_sync.options import RunOptions
from arkor_sync.result import TrainingResult
from arkor_sync.run import Run
from arkor_sync.stores import CursorStore, LeasedStore
from arkor_sync.stream.around import AroundFunction
from arkor_sync.stream.error_policy import ErrorPolicy
from arkor_sync.stream.reconnect import ReconnectPolicy
from arkor_sync.submitting import submit
from arkor_sync.trainer import Trainer

if TYPE_CHECKING:
    from arkor_sync.cloud.client import CloudApiClient

Source = Union[Callable[[], Iterable[str]], Iterable[str]]

_LOOK = 0.25  # seconds between two looks whether the slice is over or the worker shuts down
_LONG = 86400.0  # seconds that a callback may take
_MOST_DELAY = 600.0  # seconds until a submission is tried again
_SAFE_TO_REPEAT = {
    "bind": True,
    "shared": False,  # with other apps of the process
    "acks_late": True,
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": True,
}


def make_follow_task(
    app: Any,
    *,
    callbacks: Union[CallbacksInput, Callable[[str], CallbacksInput]] = None,
    store: Union[CursorStore, LeasedStore, None] = None,
    around: Optional[AroundFunction] = None,
    error_policy: Optional[ErrorPolicy] = None,
    reconnect: Optional[ReconnectPolicy] = None,
    client: Optional[CloudApiClient] = None,
    abort_grace: float = 5.0,
    slice: Optional[float] = 60.0,
    retry_delay: float = 5.0,
    name: str = "arkor.follow_task",
    **options: Any,
) -> Any:
    """Register the task that follows a job. Call it where your other tasks are defined.

        follow_task = make_follow_task(app, callbacks=callbacks_of, store=store)
        follow_task.delay(job.id)

    The task's result is `{"job_id", "status", "step", "error"}` once the job has ended, whether it
    has completed, failed or was cancelled; `step` is the last one that is known. What ends a run
    otherwise, such as an exception of a callback, is the task's error. Between two slices the
    task's state is `RETRY`.

    Where another task, or another program, follows the job, it is tried again after `retry_delay`.
    At a soft time limit, at a warm shutdown, and when its process is told to end, the run is
    closed: the callback that is running ends, the position is saved, and the task is queued again.

    Args:
        app: Your Celery app.
        callbacks: What to call, as for `follow`; or a function of a job's id that returns this.
            Callbacks that keep something of a run need the function, so that each run has its own.
        store: Has the leases and positions, such as an `SQLCursorStore` or a `RedisCursorStore`; a
            `FileCursorStore` where all workers are on one machine.
        around: A context around the callbacks of each event and the saving of its position.
        error_policy: What happens when a callback raises.
        reconnect: When a lost stream is opened again.
        client: The client to use. Without one, each process makes one from the environment.
        abort_grace: Seconds that a running callback has to end at a soft time limit, or when the
            process is told to end.
        slice: Seconds after which the task makes room for others. None: it follows the job to its
            end.
        retry_delay: Seconds until it is tried again where another one follows the job, or the
            store cannot be reached.
        name: The task's name.
        options: Options of the task, such as `soft_time_limit`.

    Returns:
        The task. Its argument is `job_id`.

    Raises:
        ArkorUsageError: There is no store, an argument cannot work, or Celery is not installed.
    """
    celery = import_extra("celery", "celery", "make_follow_task")
    if store is None:
        wanted = "a RedisCursorStore, an SQLCursorStore, or a FileCursorStore on one machine"
        raise refusal("store", store, wanted)
    is_slice = slice is None or (is_seconds(slice) and slice > 0)
    check("slice", slice, is_slice, "seconds above 0, or None")
    check("retry_delay", retry_delay, is_seconds(retry_delay), "seconds from 0")
    if client is not None:
        check_client(client)
    makes_callbacks = callable(callbacks) and not isinstance(callbacks, (Callback, Callbacks))
    if makes_callbacks:
        check_callback("callbacks", callbacks, "job's id")
    RunOptions(
        callbacks=None if makes_callbacks else callbacks,  # type: ignore[arg-type]
        error_policy=error_policy,
        reconnect=reconnect,
        cursor_store=store,
        around=around,
        abort_grace=abort_grace,
    )
    soft_limit = celery.exceptions.SoftTimeLimitExceeded

    def start(job_id: str) -> Run:
        given: Any = callbacks
        return follow(
            job_id,
            callbacks=given(job_id) if makes_callbacks else given,
            error_policy=error_policy,
            reconnect=reconnect,
            client=client,
            cursor_store=store,
            around=around,
            abort_grace=abort_grace,
        )

    def follow_task(self: Any, job_id: str) -> Dict[str, Any]:
        """Follow a job for a slice of time."""
        if _runs_inline(self):
            with start(job_id) as whole:
                return _outcome(whole, whole.wait())
        if is_shutting_down():
            raise _again(self, 0.0, slice)
        run: Optional[Run] = None
        try:
            with sigterm_raises():
                run = start(job_id)
                result = _wait(run, slice)
                if result is not None:
                    return _outcome(run, result)
                _end_quietly(run)
            delay = 0.0
        except soft_limit:
            delay = 0.0
        except (LeaseHeldError, LeaseLostError, StoreUnavailableError):
            delay = retry_delay
        except BaseException as error:
            if not is_cut(error, run):
                raise
            delay = 0.0
        finally:
            if run is not None:
                run.close()
        raise _again(self, delay, slice)

    watch_for_shutdown(app)
    chosen = {**_SAFE_TO_REPEAT, "max_retries": None, **options}
    return app.task(name=name, **chosen)(follow_task)


def make_follow_all_task(
    app: Any,
    follow_task: Any,
    source: Source,
    *,
    store: LeasedStore,
    name: str = "arkor.follow_all",
    **options: Any,
) -> Any:
    """Register the task that queues `follow_task` for each job that nobody follows.

    Beat is to call it: `beat_schedule` makes the entry. A job whose task was lost, or whose
    worker died, is then followed again once its lease has ended. What it queues expires at its next
    call, so a queue that is too long does not grow with each call.

        follow_all = make_follow_all_task(app, follow_task, unfinished_job_ids, store=store)
        app.conf.beat_schedule = beat_schedule(every=60.0)

    Args:
        app: Your Celery app.
        follow_task: What `make_follow_task` returned.
        source: A function that returns the ids of the jobs to follow, or a list of them. Jobs that
            were finished with the store are left out, and need not be removed at once.
        store: The store of `follow_task`: a `RedisCursorStore`, an `SQLCursorStore`.
        name: The task's name.
        options: Options of the task.

    Returns:
        The task. Its result is how many jobs were queued, as `{"queued": 3}`.

    Raises:
        ArkorUsageError: An argument cannot work.
    """
    wanted = "a store for several machines, such as RedisCursorStore or SQLCursorStore"
    check("store", store, isinstance(store, LeasedStore), wanted)
    wanted = "what make_follow_task() returned"
    check("follow_task", follow_task, callable(follow_task), wanted)

    def follow_all(every: float = 60.0) -> Dict[str, int]:
        """Queue a task for each job that nobody follows."""
        jobs = list(dict.fromkeys(source() if callable(source) else source))
        holders = {each.job_id: each for each in store.holders(jobs)}
        queued = 0
        for job_id in jobs:
            holder = holders.get(job_id)
            if holder is None or not (holder.finished or holder.expires_in > 0):
                follow_task.apply_async((job_id,), expires=every)
                queued += 1
        return {"queued": queued}

    return app.task(name=name, **{"shared": False, **options})(follow_all)


def beat_schedule(every: float = 60.0, name: str = "arkor.follow_all") -> Dict[str, Any]:
    """Return an entry for `app.conf.beat_schedule`: call `follow_all` every so many seconds.

    Args:
        every: Seconds between two calls.
        name: The task's name, as for `make_follow_all_task`.
    """
    check("every", every, is_seconds(every) and every > 0, "seconds above 0")
    options = {"expires": every}
    return {name: {"task": name, "schedule": every, "args": (every,), "options": options}}


def make_submit_task(
    app: Any,
    trainer_for: Callable[..., Trainer],
    *,
    store: LeasedStore,
    follow_task: Any = None,
    retry_delay: float = 5.0,
    name: str = "arkor.submit_task",
    **options: Any,
) -> Any:
    """Register the task that submits a job at most once for each key.

        submit_task = make_submit_task(app, trainer_for, store=store, follow_task=follow_task)
        submit_task.delay("order-17", epochs=3)      # calls trainer_for("order-17", epochs=3)

    It may be called, killed and redelivered as often as it happens: see `arkor_sync.submit`. Where
    nobody can tell yet whether there is a job, it is tried again, each time after a longer delay of
    at most ten minutes.

    Args:
        app: Your Celery app.
        trainer_for: Makes the trainer. It is called with the key and the task's other arguments,
            and has to return the same configuration for the same key.
        store: Keeps the submissions.
        follow_task: The task to queue once the job is known, as `make_follow_task` returned it.
        retry_delay: Seconds until the first further try.
        name: The task's name.
        options: Options of the task, such as `max_retries`, which is 50.

    Returns:
        The task. Its arguments are `key` and what else `trainer_for` takes. Its result is
        `{"key", "job_id"}`.

    Raises:
        ArkorUsageError: An argument cannot work, or Celery is not installed.
    """
    celery = import_extra("celery", "celery", "make_submit_task")
    check("trainer_for", trainer_for, callable(trainer_for), "a function that makes a trainer")
    wanted = "a store for several machines, such as RedisCursorStore or SQLCursorStore"
    check("store", store, isinstance(store, LeasedStore), wanted)
    check("retry_delay", retry_delay, is_seconds(retry_delay), "seconds from 0")
    passing = (
        *(ArkorConnectionError, LeaseHeldError, RateLimitError, ServerError),
        *(StoreUnavailableError, celery.exceptions.SoftTimeLimitExceeded),
    )

    def submit_task(self: Any, key: str, **fields: Any) -> Dict[str, Any]:
        """Submit a job, unless that was done with this key before."""
        try:
            submission = submit(trainer_for(key, **fields), key=key, store=store)
        except BaseException as error:
            is_passing = isinstance(error, passing) or is_cut(error)
            if not is_passing or _runs_inline(self):
                raise
            delay = min(_MOST_DELAY, retry_delay * 2 ** min(self.request.retries, 16))
            raise self.retry(exc=error, countdown=delay) from None
        if follow_task is not None:
            follow_task.delay(submission.job_id)
        return {"key": key, "job_id": submission.job_id}

    watch_for_shutdown(app)
    chosen = {**_SAFE_TO_REPEAT, "max_retries": 50, **options}
    return app.task(name=name, **chosen)(submit_task)


def _runs_inline(task: Any) -> bool:
    """Whether the caller waits for the task: then it is followed to its end, and not queued."""
    return bool(task.request.called_directly or task.request.is_eager)


def _wait(run: Run, seconds: Optional[float]) -> Optional[TrainingResult]:
    """Wait for a run; return None if the slice is over before, or the worker shuts down."""
    deadline = Clock.now() + (MAX_SECONDS if seconds is None else seconds)
    while True:
        left = deadline - Clock.now()
        try:
            return run.wait(max(0.0, min(_LOOK, left)))
        except WaitTimeout:
            if left <= 0 or is_shutting_down():
                return None


def _end_quietly(run: Run) -> None:
    """Close a run that another task will go on with. A callback that is running is waited for."""
    run._settlement.silent = True
    run.abort("the task makes room for others")
    run.close(_LONG)  # a soft time limit, if there is one, ends this


def _outcome(run: Run, result: TrainingResult) -> Dict[str, Any]:
    step = result.metrics.total_steps
    if step is None and len(run.history):
        step = run.history.logs[-1]["step"]
    return {
        "job_id": result.job.id,
        "status": result.status,
        "step": step,
        "error": result.job.error,
    }


def _again(task: Any, delay: float, seconds: Optional[float]) -> BaseException:
    """Queue the task again, with the same id. What is returned is to be raised.

    A task that may expire was queued by `follow_all`. While it makes progress, it goes on.
    """
    options = {}
    if task.request.expires is not None and not delay:
        options["expires"] = 10 * (seconds or 60.0)
    again: BaseException = task.retry(countdown=delay, throw=False, **options)
    return again
