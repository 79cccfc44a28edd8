"""Trains the jobs and publishes their events. Runs in the job's thread."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional

from arkor_sync.emulator.engine.base import Ticket, TrainingFailed
from arkor_sync.emulator.models import Item, StoredJob
from arkor_sync.emulator.store import Store

JOIN_SECONDS = 10.0


class JobRunner:
    """Starts a thread for each job, which publishes what the job's engine yields.

    Args:
        store: The emulator's state.
        report_error: Called with every exception of an engine other than `TrainingFailed`.
    """

    def __init__(self, store: Store, report_error: Callable[[BaseException], None]) -> None:
        self._store = store
        self._report_error = report_error
        self._threads: List[threading.Thread] = []

    def start(self, job: StoredJob) -> None:
        """Start a new job's thread. A job with a manual engine gets none: see `publish_next`.

        Raises:
            RuntimeError: The thread cannot be started. The job is removed again.
        """
        job.pending = job.engine.events(Ticket(job, self._store, manual=job.engine.manual))
        try:
            self._start_thread(job)
        except RuntimeError:
            self._store.remove_job(job)
            raise

    def resume(self, job: StoredJob) -> None:
        """Carry on with a job that was running when an earlier emulator ended, or let it fail.

        Raises:
            RuntimeError: The thread cannot be started.
        """
        engine = job.engine
        if not engine.resumes or type(engine).__name__ != job.trained_by:
            when = "before its first step" if job.step is None else f"at step {job.step}"
            reason = f"the local Arkor was stopped while it trained the job, {when}"
            failure = {"type": "training.failed", "error": reason, "step": job.step}
            self._store.publish(job, failure, unless_terminal=True)
            return
        published = {_kind(event) for event in job.events}
        items = engine.events(Ticket(job, self._store, manual=engine.manual, resumed=True))
        job.pending = (item for item in items if _kind(item) not in published)
        self._start_thread(job)

    def publish_next(self, job: StoredJob) -> bool:
        """Publish the next item of a job. Return False if there is none or the job has ended.

        The engine's generator is closed then, so that it lets go of what it holds for the job.
        """
        if job.pending is None:  # it has ended
            return False
        try:
            item = next(job.pending)
        except StopIteration:
            return False
        except TrainingFailed as error:
            item = {"type": "training.failed", "error": str(error), "step": job.step}
        except Exception as error:
            self._report_error(error)
            item = {"type": "training.failed", "error": "internal error", "step": job.step}
        if self._store.publish(job, item, unless_terminal=True):
            return True
        pending, job.pending = job.pending, None
        try:
            getattr(pending, "close", lambda: None)()
        except Exception as error:
            self._report_error(error)
        return False

    def join(self) -> List[str]:
        """Wait until all threads have ended. Return the names of those that have not."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _start_thread(self, job: StoredJob) -> None:
        if job.engine.manual:
            return
        thread = threading.Thread(
            target=self._train, args=(job,), name=f"arkor-emulator-job-{job.id[:8]}", daemon=True
        )
        with self._store.condition:
            self._threads = [known for known in self._threads if known.is_alive()]
            thread.start()
            self._threads.append(thread)

    def _train(self, job: StoredJob) -> None:
        while self.publish_next(job):
            pass


def _kind(item: Item) -> Optional[str]:
    """Return what two events have in common if one repeats the other; None for no event."""
    event = item[0] if isinstance(item, tuple) else item
    if not isinstance(event, dict):
        return None
    step = None if event.get("type") == "training.started" else event.get("step")
    return repr((event.get("type"), step, "loss" in event, "evalLoss" in event))
