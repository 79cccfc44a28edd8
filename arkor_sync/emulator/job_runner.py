"""Trains the jobs and publishes their events. Runs in the job's thread."""

from __future__ import annotations

import threading
from typing import Callable, List

from arkor_sync.emulator.engine.base import Ticket, TrainingFailed
from arkor_sync.emulator.models import StoredJob
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
        """Start a job's thread. A job with a manual engine gets none: see `publish_next`.

        Raises:
            RuntimeError: The thread cannot be started. The job is removed again.
        """
        job.pending = job.engine.events(Ticket(job, self._store, manual=job.engine.manual))
        if job.engine.manual:
            return
        thread = threading.Thread(
            target=self._train, args=(job,), name=f"arkor-emulator-job-{job.id[:8]}", daemon=True
        )
        with self._store.condition:
            self._threads = [known for known in self._threads if known.is_alive()]
            try:
                thread.start()
            except RuntimeError:
                self._store.remove_job(job)
                raise
            self._threads.append(thread)

    def publish_next(self, job: StoredJob) -> bool:
        """Publish the next item of a job. Return False if there is none or the job has ended."""
        assert job.pending is not None
        try:
            item = next(job.pending)
        except StopIteration:
            return False
        except TrainingFailed as error:
            item = {"type": "training.failed", "error": str(error), "step": job.step}
        except Exception as error:
            self._report_error(error)
            item = {"type": "training.failed", "error": "internal error", "step": job.step}
        return self._store.publish(job, item, unless_terminal=True)

    def join(self) -> List[str]:
        """Wait until all threads have ended. Return the names of those that have not."""
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        return [thread.name for thread in self._threads if thread.is_alive()]

    def _train(self, job: StoredJob) -> None:
        while self.publish_next(job):
            pass
